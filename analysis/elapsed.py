# SPDX-License-Identifier: GPL-2.0-only
"""Elapsed time of a request, and what a changed kernel takes off it: draws, not one number.

What is not known stays apart: the costs (parameter), what the sum of terms cannot say (model), and
what one more pair of runs would scatter by (noise). On x86_64 how the TLB is flushed depends on
where the mapping processes ran; unless it is said, half of the draws take either way that
memory.reclaim from another process can go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from analysis import machines, measurements, timing
from analysis.groups import PARTS, group_counts
from analysis.interval import Interval
from analysis.machines import MAP_BYTES, RECLAIM_BYTES
from analysis.stalls import pageout_terms
from sim import Events, World, reclaim
from sim.arch import isa
from sim.ident import short_id

# How the TLB may be flushed where nobody says: see `stalls.FLUSHES`.
OPEN_FLUSHES = {"arm64": ("deferred",), "x86_64": ("deferred", "elsewhere")}


@dataclass(frozen=True, eq=False)
class Reduction:
    """What `after` takes off `before`, as a share of it: 1 - after / before.

    Attributes:
        interval: median, and 2.5% to 97.5% of the draws; costs and model error, not noise.
        parameter_sd, model_sd: standard deviations that make the interval.
        noise_sd: that of one more pair of runs, beyond the interval.
        before_s, after_s: medians of the two times, seconds.
        draws: shape (draws,), with model error. costs_only: without.
        seconds: draws of the two times, with model error, shape (draws, 2).
    """

    interval: Interval
    parameter_sd: float
    model_sd: float
    noise_sd: float
    before_s: float
    after_s: float
    draws: np.ndarray
    costs_only: np.ndarray
    seconds: np.ndarray

    @property
    def id(self) -> str:
        """Id of the interval."""
        return short_id([f"{end:.6f}" for end in self.interval])


def reduction(
    costs: timing.TimeFit,
    before: str,
    after: str,
    order: int | Mapping[int, float],
    *,
    flushes: tuple[str, ...] = (),
    workload: str = "file",
    **world,
) -> Reduction:
    """Return the elapsed reduction of one step at one folio order on one machine.

    Args:
        costs: of the machine.
        before, after: keys of `sim.KERNELS`.
        order: folio order, or shares of the memory by order, each taken as if it were alone.
        flushes: members of `stalls.FLUSHES`, each as likely; `OPEN_FLUSHES` if empty.
        workload: "file": the machine's write to memory.reclaim; "lazyfree": MADV_PAGEOUT of
            128 MiB.
        world: further fields of `sim.World`, and lru.

    Raises:
        WorldError: there is no such world.
    """
    flushes = flushes or OPEN_FLUSHES[isa(costs.machine.arch)]
    # Shape (flushes, kernels, terms, parts); each draw goes one way.
    shares = order if isinstance(order, Mapping) else {order: 1.0}
    pairs = [
        [_mixed_terms(costs, kernel, shares, flush, workload, world) for flush in flushes]
        for kernel in (before, after)
    ]
    terms = np.array(pairs).swapaxes(0, 1)
    drawn = costs.posterior.costs
    way = np.arange(len(drawn)) % len(flushes)
    ns = np.einsum("bt,bktp->bkp", drawn, terms[way])
    alike = np.array([np.array_equal(*terms[:, :, :, p].swapaxes(0, 1)) for p in range(len(PARTS))])
    wrong = ns * (1 + costs.posterior.model_error[:, None, None] * _errors(len(drawn), alike))
    only, draws = (1 - np.divide(*t.sum(axis=2).T[::-1]) for t in (ns, np.maximum(wrong, 0)))
    low, best, high = np.percentile(draws, (2.5, 50, 97.5))
    parameter_sd = float(only.std())
    return Reduction(
        Interval(float(low), float(best), float(high)),
        parameter_sd,
        float(np.sqrt(max(draws.var() - parameter_sd**2, 0))),
        pair_noise(float(best)),
        *(float(np.median(ns[:, kernel].sum(axis=1))) / 1e9 for kernel in (0, 1)),
        draws,
        only,
        np.maximum(wrong, 0).sum(axis=2) / 1e9,
    )


def _mixed_terms(costs, kernel, shares, flush, workload, world) -> np.ndarray:
    return sum(
        share * request_terms(costs, kernel, order, flush, workload, **world)
        for order, share in shares.items()
    )


def pair_noise(reduction: float) -> float:
    """Return the standard deviation of a reduction between two single runs: noise of both."""
    return float((1 - reduction) * np.sqrt(2) * machines.run_noise()[0])


def _errors(draws: int, alike: np.ndarray) -> np.ndarray:
    # Standard normal, shape (draws, 2 kernels, parts): what both kernels do alike is wrong alike.
    errors = np.random.default_rng(2).normal(size=(draws, 2, len(alike)))
    errors[:, 1, alike] = errors[:, 0, alike]
    return errors


def assumptions(costs: timing.TimeFit, found: Reduction, flushes: tuple[str, ...]) -> tuple:
    """Return what must hold for a reduction to mean anything, and what its interval is made of."""
    table = costs.table()
    by_verdict = table.groupby("verdict")["term"].apply(", ".join)
    rank, occurring = costs.rank
    said = [f"{verdict}: {terms}" for verdict, terms in by_verdict.items()]
    flushed = [] if isa(costs.machine.arch) == "arm64" else [f"TLB flush {' or '.join(flushes)}"]
    return (
        *costs.machine.notes,
        *flushed,
        f"standard deviations: {found.parameter_sd:.1%} of the costs, {found.model_sd:.1%} of the "
        f"model's form, both in the interval; {found.noise_sd:.1%} of one more pair of runs, not "
        "in it",
        f"{rank} of {occurring} costs are told apart by the times; {'; '.join(said)}",
    )


# The workload of the published lazyfree series.
LAZYFREE_BYTES = 128 << 20


def request_terms(
    costs: timing.TimeFit, kernel: str, order: int, flush: str, workload: str = "file", **world
) -> np.ndarray:
    """Return `stalls.terms_of` one request on one machine; arguments as of `reduction`."""
    arch = costs.machine.arch
    if workload == "lazyfree":
        return pageout_terms(arch, workload, order, LAZYFREE_BYTES, costs.model, kernel)
    asked = costs.machine.request | world
    return timing.request_terms(arch, kernel, order, costs.model, flush, **asked)


# Typed: 1 and True are equal keys, and only one of them is an order.
@lru_cache(maxsize=None, typed=True)
def request_events(arch: str, kernel: str, order: int) -> Events:
    """Return the events of the published request; WorldError if there is no such world."""
    world = World(map_bytes=MAP_BYTES, reclaim_bytes=RECLAIM_BYTES, order=order)
    return reclaim(world, arch, kernel)


@cache
def request_counts(arch: str, kernel: str, order: int) -> np.ndarray:
    """Return group counts of the published request: float64, shape (len(GROUPS),)."""
    return group_counts(request_events(arch, kernel, order))


def published_seconds(metric: str = "real") -> dict[str, float]:
    """Return the published arm64 times by kernel: base, references, unmap.

    `metric` is real, user or sys.
    """
    pairs = measurements.published()
    rows = pairs[(pairs["arch"] == "arm64") & (pairs["metric"] == metric)]
    seconds = dict(zip(rows["kernel_before"], rows["before"], strict=True))
    return seconds | dict(zip(rows["kernel_after"], rows["after"], strict=True))


def published_check_share() -> tuple[float, float]:
    """Return the published shares of folio_check_references(), before and after references."""
    pairs = measurements.published()
    share = pairs[pairs["metric"] == "share of folio_check_references"].iloc[0]
    return share["before"] / 100, share["after"] / 100
