# SPDX-License-Identifier: GPL-2.0-only
"""Costs in time: what each term of `analysis.stalls` takes on one machine, and how that is known.

A machine of its own data starts from published costs of single operations. One that a user brings
starts from the costs of the machine here that has its instruction set, widened by what machines
differ by, so that one run says a good deal about it: how fast it is.
"""

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
import pandas as pd

from analysis import fit, machines
from analysis import shown as tables
from analysis.groups import PARTS
from analysis.machines import Machine, Observation
from analysis.posterior import Posterior, Problem, profile, variance_inflation
from analysis.stalls import TERM_NAMES, TERMS, pageout_terms, prior, terms_of
from sim import ARCHES, Events, World, reclaim
from sim.arch import isa
from sim.ident import short_id
from sim.table import shown
from sim.world import MAX_PAGECACHE_ORDER

# How machines of one instruction set differ, relative: in all costs alike (clock, core), and in
# each (the atomics of arm64 cores differ by a third, x86 TLB flushes by up to four tenths:
# data/published/micro_costs.csv).
MACHINE_SPREAD, COST_SPREAD = 0.5, 0.35

# Where the folio size is unknown: one order for all memory, or some mixture of orders, beforehand
# as likely. Mixtures: shares of the memory from a Dirichlet distribution whose weight is on few.
NR_MIXTURES, CONCENTRATION = 3000, 0.3

_PRIOR = ("prior_low", "prior", "prior_high")
VERDICTS = ("measured", "bounded", "prior only")


@shown(tables.time_fit)
@dataclass(frozen=True, eq=False)
class TimeFit:
    """The costs of one machine.

    Attributes:
        machine: whose.
        model: prices the instructions.
        problem: what was observed and believed.
        posterior: draws of the costs, in the order of `stalls.TERMS`.
        shares: share of memory by folio order of each design, shape (designs, orders); one row of
            missing values where the orders were known.
    """

    machine: Machine
    model: fit.CostModel
    problem: Problem
    posterior: Posterior
    shares: np.ndarray

    @cached_property
    def id(self) -> str:
        """Id of the machine and of what its costs came out as."""
        costs = [f"{cost:.4g}" for cost in self.posterior.costs.mean(axis=0)]
        return short_id([self.machine.id, self.model.id, costs])

    @cached_property
    def likeliest(self) -> int:
        """The design with most draws."""
        return int(np.argmax(self.posterior.weights))

    def ns(self, terms: np.ndarray) -> np.ndarray:
        """Return draws of the time of a request by part, in ns: shape (draws, len(PARTS))."""
        return self.posterior.costs @ terms

    def table(self) -> pd.DataFrame:
        """Return what is known of each term that occurs.

        Columns: term, unit; prior_low, prior, prior_high: 95% of the prior and its median; low,
        best, high: 95% of the draws and their median; data_low, data_best, data_high: 95% profile
        likelihood without the prior; from_prior: share of the information that comes from the
        prior; inflation of the variance by other terms; verdict: "measured": the data alone bound
        the cost from both sides, and tell more than the prior does; "bounded": they bound it on a
        side where the prior did not; else "prior only". Where the folio size is unknown, "data"
        are of the likeliest one.
        """
        design = self.problem.designs[self.likeliest]
        scatter = self._scatter()
        start = _truncated(self.problem)
        inflation = variance_inflation(design, scatter)
        rows = []
        for place in np.flatnonzero(self.occurring):
            low, best, high = np.percentile(self.posterior.costs[:, place], (2.5, 50, 97.5))
            data = profile(design, self.problem.observed, scatter, place)
            variance = np.var(self.posterior.costs[:, place])
            before = np.percentile(start[:, place], (2.5, 50, 97.5))
            from_prior = float(min(1.0, variance / np.var(start[:, place])))
            rows.append(
                {
                    "term": TERMS[place].name, "unit": TERMS[place].unit,
                    **dict(zip(_PRIOR, before, strict=True)),
                    "data_low": data[0], "data_best": data[1], "data_high": data[2],
                    "low": low, "best": best, "high": high, "from_prior": from_prior,
                    "inflation": inflation[place],
                    "verdict": _verdict(data, from_prior, start[:, place]),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    @cached_property
    def rank(self) -> tuple[int, int]:
        """Rank of the likeliest design, and the number of terms that occur in it."""
        design = self.problem.designs[self.likeliest] / self._scatter()[:, None]
        scale = np.where(design.any(axis=0), np.linalg.norm(design, axis=0), 1.0)
        return int(np.linalg.matrix_rank(design / scale, tol=1e-3)), int(self.occurring.sum())

    def observations(self) -> pd.DataFrame:
        """Return what was observed beside what the costs give, a row each, in ns a page."""
        rows = []
        simulated = np.einsum(
            "bij,bj->bi", self.problem.designs[self.posterior.design], self.posterior.costs
        )
        for place, seen in enumerate(self.machine.observations):
            pages = seen.reclaim_bytes >> ARCHES[self.machine.arch].page_shift
            low, best, high = np.percentile(simulated[:, place], (2.5, 50, 97.5)) / pages
            part = seen.part or " and ".join(seen.terms)
            what = f"{seen.workload}, {seen.kernel}{': ' if part else ''}{part}"
            rows.append(
                {
                    "what": what, "order": seen.order, "n": seen.n, "ns": seen.ns / pages,
                    "noise": 1.96 * seen.noise_ns / pages, "low": low, "predicted": best,
                    "high": high, "error": best / (seen.ns / pages) - 1,
                }
            )  # fmt: skip
        return pd.DataFrame(rows).astype({"order": "Int64"})

    def order_shares(self) -> np.ndarray:
        """Return the share of memory by folio order of each draw, shape (draws, orders)."""
        return self.shares[self.posterior.design]

    @cached_property
    def occurring(self) -> np.ndarray:
        """Which of `stalls.TERMS` a request on this machine has at all."""
        # The reference check is part of what is asked for, though MADV_PAGEOUT has none.
        everywhere = self.problem.designs.any(axis=(0, 1))
        return everywhere | _in_requests(self.machine.arch, self.model)

    def _scatter(self) -> np.ndarray:
        error = float(np.median(self.posterior.model_error)) * self.problem.observed
        return np.hypot(self.problem.noise, error)


def _verdict(data: tuple[float, float, float], from_prior: float, start: np.ndarray) -> str:
    low, _, high = data
    if low > 0 and np.isfinite(high) and from_prior < 0.5:
        return "measured"
    before = np.percentile(start, (2.5, 97.5))
    return "bounded" if low > before[0] or high < before[1] else "prior only"


def _truncated(problem: Problem) -> np.ndarray:
    rng = np.random.default_rng(1)
    draws = rng.multivariate_normal(problem.mean, problem.cov, 40000, method="cholesky")
    return draws[(draws >= 0).all(axis=1)]


def _in_requests(arch: str, model: fit.CostModel) -> np.ndarray:
    return request_terms(arch, "base", 4, model).any(axis=1)


@lru_cache(maxsize=4096)
def simulated(world: World, arch: str, kernel: str, lru: str = "classic") -> Events:
    """Return `sim.reclaim` of the same, remembered."""
    return reclaim(world, arch, kernel, lru)


def cost_model(arch: str) -> fit.CostModel:
    """Return the instructions per event of the instruction set of an architecture."""
    return fit.fit(isa(arch))


def time_fit(machine: Machine, model: fit.CostModel | None = None) -> TimeFit:
    """Fit the costs of one machine; FitError if nothing prices its instructions.

    `model` prices instructions; without one it is the fit to all runs of the instruction set.
    """
    model = model or cost_model(machine.arch)
    key = (machine.id, model.id)
    if key not in _FITS:
        problem, shares = build(machine, model, *_prior_of(machine, model))
        _FITS[key] = TimeFit(machine, model, problem, problem.infer(), shares)
    return _FITS[key]


# By the ids of machine and model: both hold arrays or frames, which are no keys.
_FITS: dict[tuple[str, str], TimeFit] = {}


def fit_at(machine: Machine, order: int) -> TimeFit:
    """Fit a machine whose folio orders are unknown as if all folios were of one order."""
    rows = tuple(
        Observation(**(vars(row) | {"order": order if row.order is None else row.order}))
        for row in machine.observations
    )
    assumed = Machine(machine.name, machine.arch, rows, machine.notes)
    return time_fit(assumed)


def _prior_of(machine: Machine, model: fit.CostModel) -> tuple[np.ndarray, np.ndarray]:
    if machine.name in (machines.server().name, machines.host().name):
        return prior(machine.arch)
    known = time_fit(machines.reference(machine.arch), model if isa(machine.arch) else None)
    costs = known.posterior.costs
    mean = costs.mean(axis=0)
    cov = np.cov(costs.T) + MACHINE_SPREAD**2 * np.outer(mean, mean)
    return mean, cov + np.diag((COST_SPREAD * mean) ** 2)


def build(
    machine: Machine, model: fit.CostModel, mean: np.ndarray, cov: np.ndarray
) -> tuple[Problem, np.ndarray]:
    """Return the problem that a machine poses, and `TimeFit.shares`."""
    seen = machine.observations
    observed, noise = (
        np.array([getattr(row, name) for row in seen]) for name in ("ns", "noise_ns")
    )
    if machine.knows_orders:
        design = np.array([_row(machine.arch, model, row, row.order) for row in seen])
        alone = np.full((1, 1), np.nan)
        return Problem(design[None], observed, noise, mean, cov, np.ones(1)), alone
    shares, weights = mixtures(min(ARCHES[machine.arch].pmd_order, MAX_PAGECACHE_ORDER) + 1)
    orders = range(shares.shape[1])
    by_order = np.array(
        [
            [_row(machine.arch, model, row, order if row.order is None else row.order)
             for row in seen]
            for order in orders
        ]
    )  # fmt: skip
    designs = np.einsum("do,oij->dij", shares, by_order)
    return Problem(designs, observed, noise, mean, cov, weights), shares


@cache
def mixtures(nr_orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of memory by order, shape (designs, orders), and each design's prior weight.

    The single orders first.
    """
    rng = np.random.default_rng(0)
    mixed = rng.dirichlet(np.full(nr_orders, CONCENTRATION), NR_MIXTURES)
    single = np.full(nr_orders, 0.5 / nr_orders)
    return (
        np.vstack([np.eye(nr_orders), mixed]),
        np.concatenate([single, np.full(NR_MIXTURES, 0.5 / NR_MIXTURES)]),
    )


def _row(arch: str, model: fit.CostModel, row: Observation, order: int) -> np.ndarray:
    # Events of one observation, shape (len(TERMS),): of the part or term that it is.
    if row.kind == "pageout":
        terms = pageout_terms(arch, row.workload, order, row.map_bytes, model, row.kernel)
    else:
        terms = request_terms(
            arch, row.kernel, order, model, map_bytes=row.map_bytes, reclaim_bytes=row.reclaim_bytes
        )
    found = terms[:, PARTS.index(row.part)] if row.part else terms.sum(axis=1)
    return np.where([name in row.terms for name in TERM_NAMES], found, 0.0) if row.terms else found


def request_terms(
    arch: str, kernel: str, order: int, model: fit.CostModel, flush: str = "deferred", **world
) -> np.ndarray:
    """Return `stalls.terms_of` one write to memory.reclaim; arguments as of `request`."""
    return terms_of(request(arch, kernel, order, flush, **world), model, flush)


def request(arch: str, kernel: str, order: int, flush: str = "deferred", **world) -> Events:
    """Return the events of one write to memory.reclaim, by default the published one.

    `flush` is a member of `stalls.FLUSHES`; `world` holds further fields of `sim.World`, and lru.
    """
    lru = world.pop("lru", "classic")
    sizes = {"map_bytes": machines.MAP_BYTES, "reclaim_bytes": machines.RECLAIM_BYTES}
    asked = World(**(sizes | {"order": order, "cpus": 2 if flush == "deferred" else 1} | world))
    return simulated(asked, arch, kernel, lru)
