# SPDX-License-Identifier: GPL-2.0-only
"""Rates of false positives and power of `reclaim compare` on simulated and on real noise.

    python -m benchmarks.calibrate_compare [REPEATS [PER_SIDE ...]]

prints Markdown tables, in per cent at a nominal 5%: this workbook, Welch's test, Mann-Whitney's.
The defaults (1000 repeats; 4, 10 and 20 runs a side) take a few minutes on one core. Noise has a
standard deviation of about 1; power is for a difference of EFFECT. Tests assert what must hold.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import signal, stats

from analysis import calibration
from analysis.difference import LEVEL, p_value

NOISES = {
    "AR(1), r = 0": lambda choose, nr: remembering(choose, nr, 0.0),
    "AR(1), r = 0.3": lambda choose, nr: remembering(choose, nr, 0.3),
    "AR(1), r = 0.5": lambda choose, nr: remembering(choose, nr, 0.5),
    "AR(1), r = 0.8": lambda choose, nr: remembering(choose, nr, 0.8),
    "AR(1), r = 0.9": lambda choose, nr: remembering(choose, nr, 0.9),
    "AR(1), r = 0.95": lambda choose, nr: remembering(choose, nr, 0.95),
    "independent + r = 0.9": lambda choose, nr: (
        choose.normal(size=nr) + remembering(choose, nr, 0.9)
    ),
    "independent + random walk": lambda choose, nr: (
        choose.normal(size=nr) + 0.3 * choose.normal(size=nr).cumsum()
    ),
    "straight drift of 2": lambda choose, nr: choose.normal(size=nr) + np.linspace(0, 2, nr),
    "straight drift of 6": lambda choose, nr: choose.normal(size=nr) + np.linspace(0, 6, nr),
    "warm-up": lambda choose, nr: choose.normal(size=nr) + 6 * np.exp(-np.linspace(0, 10, nr)),
    "one slow wave": lambda choose, nr: (
        choose.normal(size=nr) + 1.5 * np.sin(np.linspace(0, 6.3, nr) + choose.uniform(0, 6.3))
    ),
    "heavy tails (t, 3)": lambda choose, nr: choose.standard_t(3, nr),
    "log-normal": lambda choose, nr: choose.lognormal(size=nr),
    "two modes": lambda choose, nr: 0.3 * choose.normal(size=nr) + 2 * choose.integers(0, 2, nr),
    "two modes that last": lambda choose, nr: (
        0.4 * choose.normal(size=nr) + 2 * ((choose.random(nr) < 0.15).cumsum() % 2)
    ),
}
ORDERS = {
    "sequence": lambda _, nr: np.repeat([False, True], nr),
    "ABAB": lambda _, nr: np.arange(2 * nr) % 2 == 1,
    "ABBA": lambda _, nr: np.isin(np.arange(2 * nr) % 4, (1, 2)),
    "random pairs": lambda choose, nr: choose.permuted(
        np.tile([False, True], (nr, 1)), axis=1
    ).ravel(),
    "random": lambda choose, nr: choose.permutation(np.arange(2 * nr) % 2 == 1),
}
EFFECT = 2.0
LABELINGS = 8  # of a random order; each is used for a share of the repeats


def remembering(choose: np.random.Generator, nr: int, r: float) -> np.ndarray:
    """Return AR(1) noise of variance 1 in its stationary state, shape (nr,)."""
    steps = choose.normal(size=nr) * np.sqrt(1 - r * r)
    steps[0] /= np.sqrt(1 - r * r)
    return signal.lfilter([1.0], [1.0, -r], steps)


def rates(windows: np.ndarray, labelings: list[np.ndarray]) -> list[float]:
    """Return false positives of this workbook, Welch and Mann-Whitney, and our power: per cent."""
    hits = []
    for place, labels in enumerate(labelings):
        own = windows[place :: len(labelings)]
        sides = own[:, labels], own[:, ~labels]
        p = (
            [p_value(values, labels) for values in own],
            stats.ttest_ind(*sides, axis=1, equal_var=False).pvalue,
            stats.mannwhitneyu(*sides, axis=1).pvalue,
            [p_value(values + EFFECT * labels, labels) for values in own],
        )
        hits.append(np.transpose(p) < LEVEL)
    return list(100 * np.concatenate(hits).mean(axis=0))


def table(order: str, per_side: int, repeats: int) -> str:
    """Return a Markdown table of one run order, one row a noise."""
    choose = np.random.default_rng(0)
    labelings = [ORDERS[order](choose, per_side) for _ in range(LABELINGS)]
    lines = [f"### {order}, {per_side} a side", "", "| noise | this | Welch | MW | power |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name, noise in NOISES.items():
        windows = np.array([noise(choose, 2 * per_side) for _ in range(repeats)])
        cells = " | ".join(f"{rate:.1f}" for rate in rates(windows, labelings))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the tables."""
    repeats, *sides = [int(one) for one in arguments] or [1000]
    print(calibration.calibration(calibration.identical_runs()).round(3).to_string())
    for per_side in sides or [4, 10, 20]:
        for order in ORDERS:
            print(f"\n{table(order, per_side, repeats)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
