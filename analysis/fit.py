# SPDX-License-Identifier: GPL-2.0-only
"""Cost models: instructions per event, fitted to real kernels under emulation.

One model an architecture, of both LRUs: the code that both run has one price. Least squares on
relative errors, each cell of equal weight, no cost below 0; a cell is the least of its repeats, as
an interrupt or a worker can only add. Where a profile by kernel function was taken of a cell, the
shares of its parts (reference checks, unmapping, the rest) are told too: totals alone cannot part
what always comes together. Standard errors come from the scatter of the residuals over the groups
that are not at 0; the honest test of a model is `leave_one_order_out`, which prices orders that the
fit has not seen.

`fit` reads one architecture. `transfer` prices an architecture whose changed kernel nobody has run
yet: runs of it before the change, and for what those cannot tell apart or do not contain, the
costs of another architecture as a prior.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import lsq_linear, minimize_scalar

from analysis import measurements
from analysis import shown as tables
from analysis.groups import GROUPS, IN_PART, NAMES, PARTS, PRICED_AS, folded, group_counts
from sim import ARCHES, FILE_SERIES, Events, World, reclaim
from sim.ident import short_id
from sim.state import Count
from sim.table import shown

# Which architecture tells another what it costs.
DONOR = {"x86_64": "arm64", "arm64": "x86_64"}
# What only order 0 tells: a large folio beyond a small one, and a page of another CPU freed.
BEYOND_SMALL = ("vma_address_end", "__remove_mapping", "free_frozen_page_commit")
# How far one architecture's cost of an event may be from another's, relative, beyond the ratio
# that all share: gcc makes instructions of the same C, or of loops of like length.
TRANSFER_SPREAD = 0.3
# Relative error that the form of the model makes in a cell. Such errors are alike in neighbouring
# cells, so that many cells do not average them out: the size of the worst, not of the mean.
MODEL_ERROR = 0.03
# A share's weight beside a cell's: profiles are of builds of their own, whose totals are up to 4%
# from the cells'. Chosen with all runs in sight: at 0.2 what batched checks save on x86_64, told
# from base alone, is up to 2.8 points off; at 0.4 a cell of an order left out is up to 3.1% off.
SHARE_WEIGHT = 0.3
# Relative standard error from which on a cost is called barely told.
BARELY = 0.5
# Folios that fit into an lru_add batch without filling it.
LRU_ADD_BATCHES = range(1, 31)
# Bounded-variable least squares: exact, unlike the default, for problems of this size.
BVLS = {"method": "bvls"}


class FitError(ValueError):
    """There is nothing to fit, or nothing to fit it with; says what is missing."""


@shown(tables.cost_model)
@dataclass(frozen=True)
class CostModel:
    """Instructions per event on one architecture.

    Attributes:
        arch: a member of `sim.MEASURED_ARCHES`.
        costs: instructions per event, shape (len(GROUPS),), never negative.
        cov: covariance of the costs, instructions squared, shape (len(GROUPS), len(GROUPS)).
        seen: which groups have a cost at all, bool, shape (len(GROUPS),); the others are 0.
        dof: what was told (cells, and all but one share of each profile) less fitted costs;
            groups that are priced as another have none of their own.
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
        columns = [*measurements.CELL, "instructions", *PARTS]
        rows = [list(map(str, row)) for row in cells[columns].itertuples(index=False)]
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
        """Return one row a group: group, part, cost, standard error, verdict, what, priced as.

        Verdicts: "measured": the 95% interval is above 0; "bounded": it holds 0, so that the cells
        tell no more than how dear the group is at most; "at its bound": others carry its cost.
        """
        sd = np.sqrt(np.diag(self.cov))
        told = np.where(self.costs > 1.96 * sd, "measured", "bounded")
        return pd.DataFrame(
            {
                "group": NAMES,
                "part": [group.part for group in GROUPS],
                "instructions": self.costs,
                "standard_error": sd,
                "verdict": np.where(self.costs == 0, "at its bound", told),
                "what": [group.what for group in GROUPS],
                "priced_as": [group.priced_as for group in GROUPS],
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

    Both LRUs, one and two CPUs, folios mapped by PTEs; columns `PARTS` hold the shares of a cell
    that was profiled. A cell counts only if the simulator scans exactly the pages that the kernel
    scanned: where the two-second statistics worker hit the run, events differ and no cost can be
    read from it. Where a cell was run with and without that worker, the run without is taken.
    """
    cells = measurements.instructions()
    pmd_order = cells["arch"].map(lambda name: ARCHES[name].pmd_order)
    cells = cells[cells["order"] < pmd_order]
    same = [column for column in measurements.CELL if column != "stats_worker"]
    cells = cells.sort_values([*same, "stats_worker"]).drop_duplicates(same)  # "off" before "on"
    shares = measurements.shares().drop(columns="stats_worker")
    cells = cells.merge(shares, how="left", on=same, validate="one_to_one")
    events = [matching_events(cell) for cell in cells.itertuples()]
    exact = np.array([simulated is not None for simulated in events])
    counts = np.array([group_counts(simulated) for simulated in events if simulated is not None])
    return cells[exact].reset_index(drop=True), counts


def matching_events(cell) -> Events | None:
    """Return the events of a measured cell if they scan and free as many pages, else None.

    At order 0, how many folios still waited in another CPU's lru_add batch, or, under lru_gen, in
    one at all, is no column of a cell: the number that gives its counts is taken.
    """
    for parameters in _lru_add_batches(cell):
        events = simulate_cell(cell, **parameters)
        if (events[Count.PGSCAN], events[Count.PGSTEAL]) == (cell.pgscan, cell.pgsteal):
            return events
    return None


def _lru_add_batches(cell) -> Iterator[dict[str, int]]:
    yield {}
    if cell.order == 0 and (cell.lru == "mglru" or cell.cpus > 1):
        yield from ({"lru_add_batch": number} for number in LRU_ADD_BATCHES)


def select(
    arch: str, kernels: tuple[str, ...] = FILE_SERIES, lru: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the usable cells of one architecture, some kernels and one LRU or both, with counts.

    Raises:
        FitError: there are none.
    """
    cells, counts = emulated_cells()
    chosen = ((cells["arch"] == arch) & cells["kernel"].isin(kernels)).to_numpy()
    if lru is not None:
        chosen = chosen & (cells["lru"] == lru).to_numpy()
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
    return CostModel(arch, costs, cov, _seen(counts), dof, residuals, warnings, "fit")


@cache
def leave_one_order_out(arch: str, *, small: bool = True) -> pd.DataFrame:
    """Return every cell priced by the cells of the other orders: predicted, relative_error.

    Without order 0, no cell tells what `BEYOND_SMALL` cost: left out, it is priced with those costs
    of `DONOR` as priors, as in `transfer`. Without `small` it is not priced, and no run of another
    architecture is read.
    """
    cells, counts = select(arch)
    parts = []
    for order in sorted(cells["order"].unique()):
        out = (cells["order"] == order).to_numpy()
        if order > 0:
            parts.append(priced_by_others(arch, out))
        elif small:
            costs = _leaning(arch, DONOR[arch], cells[~out], counts[~out], BEYOND_SMALL).costs
            parts.append(_residuals(cells[out], counts[out], costs))
    return pd.concat(parts, ignore_index=True)


def priced_by_others(arch: str, out: np.ndarray) -> pd.DataFrame:
    """Return the cells of `select(arch)` that `out` marks, priced by a fit to the others."""
    cells, counts = select(arch)
    costs = _solve(cells[~out], counts[~out])
    return _residuals(cells[out], counts[out], costs)


def left_out_error(arch: str, lru: str | None = None) -> float:
    """Return the mean relative error of `leave_one_order_out` over the orders of large folios."""
    cells = leave_one_order_out(arch, small=False)
    chosen = cells if lru is None else cells[cells["lru"] == lru]
    return float(chosen["relative_error"].abs().mean())


@cache
def transfer(arch: str, donor: str, kernels: tuple[str, ...]) -> CostModel:
    """Price `arch` from runs of `kernels` alone, with the costs of `donor` as a prior.

    Each prior is the donor's cost times one ratio that all groups share, give or take
    `TRANSFER_SPREAD` and the donor's standard error; the ratio is the one under which runs and
    priors agree best. Groups that the runs contain are pulled towards what they say, the others
    keep the prior and its width. A group that the donor never does, or prices at 0, has no prior if
    the runs contain it.

    Raises:
        FitError: `arch` does work that neither `donor` nor the runs contain.
    """
    cells, counts = select(arch, kernels)
    found = _leaning(arch, donor, cells, counts)
    warnings = (
        f"costs that runs of {', '.join(kernels)} on {arch} cannot tell apart lean on {donor}, "
        f"at {found.ratio:.2f} times its instructions, +-{TRANSFER_SPREAD:.0%} each",
    )
    residuals = _residuals(cells, counts, found.costs)
    source = f"transfer from {donor} {fit(donor).id}"
    shared = occurring(arch)
    return CostModel(arch, found.costs, found.cov, shared, len(cells), residuals, warnings, source)


class Leaning(NamedTuple):
    """Costs, their covariance, and the ratio to the donor's under which they agree best."""

    costs: np.ndarray
    cov: np.ndarray
    ratio: float


def _leaning(
    arch: str, donor: str, cells: pd.DataFrame, counts: np.ndarray, untold: Collection[str] = NAMES
) -> Leaning:
    # `untold`: groups that keep their priors once the ratio to the donor's costs is found.
    given = fit(donor)
    shared, told = occurring(arch), _seen(counts)
    if alone := [NAMES[i] for i in np.flatnonzero(shared & ~occurring(donor) & ~told)]:
        raise FitError(f"{donor} cannot tell {arch} what {', '.join(alone)} costs: it has none")
    # What only the donor's page tables have keeps no cost; 1 stands for a cost of 0.
    prior = np.where(shared, np.maximum(_donated(given, arch), 1.0), 0.0)
    spread = np.hypot(TRANSFER_SPREAD * prior, np.sqrt(np.diag(given.cov)))
    free = told & (given.costs == 0)

    def posterior(log_ratio: float, free: np.ndarray):
        ratio = np.exp(log_ratio)
        return _posterior(cells, counts, ratio * prior, ratio * spread, free)

    found = minimize_scalar(lambda r: posterior(r, free)[2], bounds=(-1.5, 1.5), method="bounded")
    costs, cov, _ = posterior(found.x, free | told & ~np.isin(NAMES, list(untold)))
    return Leaning(costs, cov, float(np.exp(found.x)))


def _donated(given: CostModel, arch: str) -> np.ndarray:
    # Without contpte blocks each PTE of a batch is also sized one by one, within its own group.
    costs = given.costs.copy()
    if ARCHES[arch].cont_order == 0:
        costs[NAMES.index("clear_flush_young_ptes")] += costs[NAMES.index("pte_batch_hint")]
    return costs[PRICED_AS]


@cache
def occurring(arch: str) -> np.ndarray:
    """Return which groups can happen on an architecture at all: bool, shape (len(GROUPS),)."""
    seen = np.zeros(len(GROUPS), bool)
    for order in range(ARCHES[arch].pmd_order):
        for cpus, lru in ((1, "classic"), (2, "classic"), (1, "mglru")):
            world = World(map_bytes=4 << 20, reclaim_bytes=3 << 20, order=order, cpus=cpus)
            for kernel in FILE_SERIES:
                seen |= group_counts(reclaim(world, arch, kernel, lru)) > 0
    return seen


def _seen(counts: np.ndarray) -> np.ndarray:
    # A group is priced if the one that it is priced as happened.
    return folded(counts).any(axis=0)[PRICED_AS]


class Told(NamedTuple):
    """What cells tell of costs: rows @ costs = aims, but for errors that are relative to a cell.

    rows: shape (cells + shares, len(GROUPS)), a group without a price of its own at 0.
    """

    rows: np.ndarray
    aims: np.ndarray


def _told(cells: pd.DataFrame, counts: np.ndarray) -> Told:
    # Rows divided by what was measured: a cell's aim then is 1, a part's its share.
    relative = counts / cells["instructions"].to_numpy(float)[:, None]
    rows, aims = [folded(relative)], [np.ones(len(cells))]
    for part in PARTS:
        shares = cells[part].to_numpy(float)
        told = ~np.isnan(shares)
        rows.append(SHARE_WEIGHT * folded(relative[told] * IN_PART[part]))
        aims.append(SHARE_WEIGHT * shares[told])
    return Told(np.vstack(rows), np.concatenate(aims))


def _solve(cells: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    rows, aims = _told(cells, counts)
    used = rows.any(axis=0)
    scale = rows[:, used].max(axis=0)
    found = lsq_linear(rows[:, used] / scale, aims, bounds=(0, np.inf), **BVLS)
    costs = np.zeros(len(GROUPS))
    costs[used] = found.x / scale
    return costs[PRICED_AS]


def _residuals(cells: pd.DataFrame, counts: np.ndarray, costs: np.ndarray) -> pd.DataFrame:
    predicted = counts @ costs
    error = predicted / cells["instructions"].to_numpy() - 1
    return cells.assign(predicted=predicted, relative_error=error)


def _covariance(cells, counts, costs) -> tuple[np.ndarray, int, tuple[str, ...]]:
    own = np.arange(len(GROUPS)) == PRICED_AS
    free = (costs > 0) & own & folded(counts).any(axis=0)
    rows, aims = _told(cells, counts)
    design = rows[:, free]
    # The shares of a profile sum to 1, as its cell is: one of them tells nothing more.
    profiles = int(cells[PARTS[0]].notna().sum())
    dof = len(aims) - profiles - int(free.sum())
    if dof <= 0:
        raise FitError(f"{len(cells)} cells cannot fit {int(free.sum())} costs: measure more")
    variance = float(np.sum((design @ costs[free] - aims) ** 2)) / dof
    cov = np.zeros((len(GROUPS), len(GROUPS)))
    cov[np.ix_(free, free)] = variance * np.linalg.pinv(design.T @ design)
    warnings = _warnings(costs, cov, _seen(counts) & own)
    return cov[np.ix_(PRICED_AS, PRICED_AS)], dof, warnings


def _warnings(costs, cov, seen) -> tuple[str, ...]:
    errors = np.sqrt(np.diag(cov))
    at_zero = [
        f"{NAMES[i]}: 0, the least that is allowed; other groups carry what it costs"
        for i in np.flatnonzero(seen & (costs == 0))
    ]
    barely = [
        f"{NAMES[i]}: +-{errors[i] / costs[i]:.0%}, the cells barely tell it from other groups"
        for i in np.flatnonzero(seen & (costs > 0) & (errors > BARELY * costs))
    ]
    return (*at_zero, *barely)


def _posterior(cells, counts, prior, spread, free) -> tuple[np.ndarray, np.ndarray, float]:
    # Least squares with the prior as further rows; groups with a prior of 0 are left out, those
    # that are free have no such row.
    keep = (prior > 0) & (np.arange(len(GROUPS)) == PRICED_AS)
    stated = keep & ~free
    pull = np.diag(np.where(stated, 1 / np.where(stated, spread, 1.0), 0.0))
    told = _told(cells, counts)
    rows = np.vstack([told.rows / MODEL_ERROR, pull[stated]])[:, keep]
    aims = np.append(told.aims / MODEL_ERROR, prior[stated] / spread[stated])
    scale = np.abs(rows).max(axis=0)
    found = lsq_linear(rows / scale, aims, bounds=(0, np.inf), **BVLS)
    costs, cov = np.zeros(len(GROUPS)), np.zeros((len(GROUPS), len(GROUPS)))
    costs[keep] = found.x / scale
    cov[np.ix_(keep, keep)] = np.linalg.pinv(rows.T @ rows)
    tied = np.ix_(PRICED_AS, PRICED_AS)
    seen = prior > 0
    return (
        np.where(seen, costs[PRICED_AS], 0.0),
        np.where(np.outer(seen, seen), cov[tied], 0.0),
        found.cost,
    )
