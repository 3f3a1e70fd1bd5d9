# SPDX-License-Identifier: GPL-2.0-only
"""Cost models: instructions per event, fitted to real kernels under emulation.

Least squares on relative errors, each cell of equal weight, no cost below 0. Standard errors come
from the scatter of the residuals over the groups that are not at 0; the honest test of a model is
`leave_one_order_out`, which prices orders that the fit has not seen.

`fit` reads one architecture. `transfer` prices an architecture whose changed kernel nobody has run
yet: runs of it before the change, and for what those cannot tell apart or do not contain, the
costs of another architecture as a prior.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from scipy.optimize import lsq_linear, minimize_scalar

from analysis import measurements
from analysis.groups import GROUPS, NAMES, group_counts
from sim import ARCHES, FILE_SERIES, Events, World, reclaim
from sim.ident import short_id

# How far one architecture's cost of an event may be from another's, relative, beyond the ratio
# that all share: where both compile the same C, and where each has code of its own.
TRANSFER_SPREAD = np.where([group.arch_code for group in GROUPS], 1.0, 0.3)
# Relative error that the form of the model makes in a cell. Such errors are alike in neighbouring
# cells, so that many cells do not average them out: the size of the worst, not of the mean.
MODEL_ERROR = 0.03


class FitError(ValueError):
    """There is nothing to fit, or nothing to fit it with; says what is missing."""


@dataclass(frozen=True)
class CostModel:
    """Instructions per event on one architecture.

    Attributes:
        arch: a member of `sim.MEASURED_ARCHES`.
        costs: instructions per event, shape (len(GROUPS),), never negative.
        cov: covariance of the costs, instructions squared, shape (len(GROUPS), len(GROUPS)).
        seen: which groups have a cost at all, bool, shape (len(GROUPS),); the others are 0.
        dof: cells less fitted groups.
        cells: the cells fitted, with columns predicted and relative_error added.
        warnings: what a reader of the costs must know.
        source: how it was made: "fit", or "transfer from ARCH".
    """

    arch: str
    costs: np.ndarray
    cov: np.ndarray
    seen: np.ndarray
    dof: int
    cells: pd.DataFrame
    warnings: tuple[str, ...]
    source: str

    @cached_property
    def id(self) -> str:
        """Id of the cells and costs."""
        cells = self.cells.astype({"instructions": float})
        rows = cells[[*measurements.CELL, "instructions"]].astype(str).to_numpy().tolist()
        return short_id([self.source, self.arch, rows, [round(c, 3) for c in self.costs]])

    def instructions(self, events: Events) -> float:
        """Return the predicted instructions of one simulated request.

        Raises:
            FitError: something happens in it that has no cost.
        """
        return float(self.counts(events) @ self.costs)

    def counts(self, events: Events) -> np.ndarray:
        """Return the counts of all groups in one simulated request; FitError as above."""
        counts = group_counts(events)
        if unpriced := [NAMES[i] for i in np.flatnonzero((counts > 0) & ~self.seen)]:
            raise FitError(f"{self.arch}: no run tells what {', '.join(unpriced)} costs")
        return counts

    def table(self) -> pd.DataFrame:
        """Return one row a group: group, part, cost, standard error, what one event is."""
        return pd.DataFrame(
            {
                "group": NAMES,
                "part": [group.part for group in GROUPS],
                "instructions": self.costs,
                "standard_error": np.sqrt(np.diag(self.cov)),
                "what": [group.what for group in GROUPS],
            }
        )[self.seen]


def cell_world(cell, **parameters) -> World:
    """Return the world of one measured cell, a row with the columns of `measurements.CELL`.

    `parameters` are further fields of it, which no table of measurements holds.
    """
    return World(
        map_bytes=int(cell.map_bytes),
        reclaim_bytes=int(cell.reclaim_bytes),
        order=int(cell.order),
        mapped_by=int(cell.mapped_by),
        cpus=int(cell.cpus),
        **parameters,
    )


def simulate_cell(cell, **parameters) -> Events:
    """Return the events of one measured cell; see `cell_world`."""
    return reclaim(cell_world(cell, **parameters), cell.arch, cell.kernel, cell.lru)


@cache
def emulated_cells() -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cells that a fit may use, and their group counts, shape (cells, len(GROUPS)).

    Classic LRU, one CPU, folios mapped by PTEs. A cell counts only if the simulator scans exactly
    the pages that the kernel scanned: where the two-second statistics worker hit the run, events
    differ and no cost can be read from it. Where a cell was run with and without that worker, the
    run without is taken.
    """
    cells = measurements.instructions()
    pmd_order = cells["arch"].map(lambda name: ARCHES[name].pmd_order)
    cells = cells[(cells["lru"] == "classic") & (cells["cpus"] == 1) & (cells["order"] < pmd_order)]
    same = [column for column in measurements.CELL if column != "stats_worker"]
    cells = cells.sort_values([*same, "stats_worker"]).drop_duplicates(same)  # "off" before "on"
    events = [simulate_cell(cell) for cell in cells.itertuples()]
    scanned = np.array([simulated.to_dict()["pgscan"] for simulated in events])
    exact = scanned == cells["pgscan"].to_numpy()
    counts = np.array([group_counts(simulated) for simulated in events])
    return cells[exact].reset_index(drop=True), counts[exact]


def select(arch: str, kernels: tuple[str, ...] = FILE_SERIES) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the usable cells of one architecture and some kernels, with their group counts."""
    cells, counts = emulated_cells()
    chosen = ((cells["arch"] == arch) & cells["kernel"].isin(kernels)).to_numpy()
    if not chosen.any():
        raise FitError(
            f"no emulated cell of {arch} with kernel {', '.join(kernels)}: "
            f"data/ has {', '.join(sorted(cells['arch'].unique()))}"
        )
    return cells[chosen].reset_index(drop=True), counts[chosen]


@cache
def fit(arch: str) -> CostModel:
    """Fit the costs of one architecture to all its usable cells."""
    cells, counts = select(arch)
    costs = _solve(cells, counts)
    cov, dof, warnings = _covariance(cells, counts, costs)
    residuals = _residuals(cells, counts, costs)
    return CostModel(arch, costs, cov, counts.any(axis=0), dof, residuals, warnings, "fit")


@cache
def leave_one_order_out(arch: str) -> pd.DataFrame:
    """Return every cell priced by the cells of the other orders: predicted, relative_error."""
    cells, counts = select(arch)
    parts = []
    for order in sorted(cells["order"].unique()):
        out = (cells["order"] == order).to_numpy()
        costs = _solve(cells[~out], counts[~out])
        parts.append(_residuals(cells[out], counts[out], costs))
    return pd.concat(parts, ignore_index=True)


def left_out_error(arch: str) -> float:
    """Return the mean relative error of `leave_one_order_out` over the orders of large folios."""
    cells = leave_one_order_out(arch)
    return float(cells[cells["order"] > 0]["relative_error"].abs().mean())


@cache
def transfer(arch: str, donor: str, kernels: tuple[str, ...]) -> CostModel:
    """Price `arch` from runs of `kernels` alone, with the costs of `donor` as a prior.

    Each prior is the donor's cost times one ratio that all groups share, give or take
    `TRANSFER_SPREAD`; the ratio is the one under which runs and priors agree best. Groups that the
    runs contain are pulled towards what they say, the others keep the prior and its width.

    Raises:
        FitError: `arch` does work that `donor` never does, so that nothing tells its cost.
    """
    cells, counts = select(arch, kernels)
    given = fit(donor)
    if alone := [NAMES[i] for i in np.flatnonzero(occurring(arch) & ~occurring(donor))]:
        raise FitError(f"{donor} cannot tell {arch} what {', '.join(alone)} costs: it has none")
    # What only the donor's page tables have keeps no cost.
    shared = occurring(arch)
    prior = np.where(shared, np.maximum(given.costs, 1.0), 0.0)

    def posterior(log_ratio: float):
        return _posterior(cells, counts, prior * np.exp(log_ratio))

    ratio = minimize_scalar(lambda r: posterior(r)[2], bounds=(-1.5, 1.5), method="bounded")
    costs, cov, _ = posterior(ratio.x)
    warnings = (
        f"costs that runs of {', '.join(kernels)} on {arch} cannot tell apart lean on {donor}, "
        f"at {np.exp(ratio.x):.2f} times its instructions, +-30% each, +-100% where each "
        "architecture has code of its own",
    )
    residuals = _residuals(cells, counts, costs)
    source = f"transfer from {donor} {given.id}"
    return CostModel(arch, costs, cov, shared, len(cells), residuals, warnings, source)


@cache
def occurring(arch: str) -> np.ndarray:
    """Return which groups can happen on an architecture at all: bool, shape (len(GROUPS),)."""
    seen = np.zeros(len(GROUPS), bool)
    for order in range(ARCHES[arch].pmd_order):
        world = World(map_bytes=4 << 20, reclaim_bytes=1 << 20, order=order)
        for kernel in FILE_SERIES:
            seen |= group_counts(reclaim(world, arch, kernel)) > 0
    return seen


def _relative(cells: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    # Rows divided by what was measured: the fit then is of ones, and its errors are relative.
    return counts / cells["instructions"].to_numpy(float)[:, None]


def _solve(cells: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    design = _relative(cells, counts)
    scale = np.where(design.max(axis=0) > 0, design.max(axis=0), 1.0)
    found = lsq_linear(design / scale, np.ones(len(cells)), bounds=(0, np.inf), method="bvls")
    return np.where(counts.any(axis=0), found.x / scale, 0.0)


def _residuals(cells: pd.DataFrame, counts: np.ndarray, costs: np.ndarray) -> pd.DataFrame:
    predicted = counts @ costs
    error = predicted / cells["instructions"].to_numpy() - 1
    return cells.assign(predicted=predicted, relative_error=error)


def _covariance(cells, counts, costs) -> tuple[np.ndarray, int, tuple[str, ...]]:
    seen = counts.any(axis=0)
    free = costs > 0
    design = _relative(cells, counts)[:, free]
    dof = len(cells) - int(free.sum())
    if dof <= 0:
        raise FitError(f"{len(cells)} cells cannot fit {int(free.sum())} costs: measure more")
    variance = float(np.sum((design @ costs[free] - 1) ** 2)) / dof
    cov = np.zeros((len(GROUPS), len(GROUPS)))
    cov[np.ix_(free, free)] = variance * np.linalg.pinv(design.T @ design)
    warnings = [
        f"{NAMES[i]}: 0, the least that is allowed; other groups carry what it costs"
        for i in np.flatnonzero(seen & ~free)
    ]
    return cov, dof, tuple(warnings)


def _posterior(cells, counts, prior) -> tuple[np.ndarray, np.ndarray, float]:
    # Least squares with the prior as further rows; groups with a prior of 0 are left out.
    width = np.where(prior > 0, TRANSFER_SPREAD * prior, 1.0)
    rows = np.vstack([_relative(cells, counts) / MODEL_ERROR, np.diag((prior > 0) / width)])
    aims = np.concatenate([np.full(len(cells), 1 / MODEL_ERROR), prior / width])
    keep = prior > 0
    scale = np.abs(rows[:, keep]).max(axis=0)
    found = lsq_linear(rows[:, keep] / scale, aims, bounds=(0, np.inf), method="bvls")
    costs = np.zeros(len(prior))
    costs[keep] = found.x / scale
    cov = np.zeros((len(prior), len(prior)))
    cov[np.ix_(keep, keep)] = np.linalg.inv(rows[:, keep].T @ rows[:, keep])
    return costs, cov, float(found.cost)
