# SPDX-License-Identifier: GPL-2.0-only
"""What curves in the folio size alone can do, on the cells and left-out orders of `fit`.

They know nothing of events: each kernel, LRU, number of CPUs and of processes has a curve of its
own, instructions per folio freed over n, the pages of a folio. Two forms:

- plain: a + b * n, which is a / n + b a page;
- extra-p: c0 + c1 * n^i * log2(n)^j, the one term of Extra-P's performance model normal form over
  its usual exponents (Calotoiu et al., "Using automated performance modeling to find scalability
  bugs in complex codes", SC13), the term chosen for each curve by leaving one order out.
"""

from functools import cache

import numpy as np
import pandas as pd

from analysis import fit

SERIES = ["lru", "cpus", "mapped_by", "kernel"]
# Quarters and thirds up to 3.
POWERS = tuple(sorted({step / 12 for size in (3, 4) for step in range(0, 37, size)}))
LOGS = (0, 1, 2)
# (i, j) of each form's term; 0, 0 would be a second constant.
FORMS = {
    "plain": ((1.0, 0),),
    "extra-p": tuple((i, j) for i in POWERS for j in LOGS if i or j),
}


@cache
def leave_one_order_out(arch: str, form: str) -> pd.DataFrame:
    """Return the cells of `fit.select(arch)` priced by curves through the other orders.

    Columns predicted and relative_error as in `fit.leave_one_order_out`. `form` is a key of
    `FORMS`; FitError if there are no cells.
    """
    cells, _ = fit.select(arch)
    parts = [_series(own, FORMS[form]) for _, own in cells.groupby(SERIES)]
    return pd.concat(parts, ignore_index=True)


def _series(cells: pd.DataFrame, terms: tuple[tuple[float, int], ...]) -> pd.DataFrame:
    n = 2.0 ** cells["order"].to_numpy()
    folios = cells["pgsteal"].to_numpy() / n
    per_folio = cells["instructions"].to_numpy() / folios
    basis = np.array([n**i * np.log2(n) ** j for i, j in terms])
    predicted = np.zeros(len(cells))
    for order in cells["order"].unique():
        out = (cells["order"] == order).to_numpy()
        inner = _left_out(basis[:, ~out], per_folio[~out], n[~out])
        best = basis[[inner.argmin()]]
        predicted[out] = _through(best[:, ~out], per_folio[~out], best[:, out])[0]
    total = predicted * folios
    error = total / cells["instructions"].to_numpy() - 1
    return cells.assign(predicted=total, relative_error=error)


def _left_out(basis: np.ndarray, y: np.ndarray, n: np.ndarray) -> np.ndarray:
    # Mean absolute relative error of each term, sizes left out in turn: shape (terms,).
    errors = np.zeros_like(basis)
    for size in np.unique(n):
        out = n == size
        errors[:, out] = _through(basis[:, ~out], y[~out], basis[:, out]) / y[out] - 1
    return np.abs(errors).mean(axis=1)


def _through(basis: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    # Least squares on relative errors of c0 + c1 * basis, for all terms at once.
    constant, slope, aim = 1 / y, basis / y, np.ones_like(y)
    cc, cs, ss = constant @ constant, slope @ constant, (slope**2).sum(axis=1)
    ca, sa = constant @ aim, slope @ aim
    det = cc * ss - cs**2
    c0, c1 = (ca * ss - sa * cs) / det, (cc * sa - cs * ca) / det
    return c0[:, None] + c1[:, None] * at
