# SPDX-License-Identifier: GPL-2.0-only
"""Elapsed time of a reclaim request by folio order: what instructions alone cannot say.

Instructions are exact but are not time: a PTE removal waits for atomics and TLB invalidations, a
page-cache removal for cold cache lines. Each architecture has one real source of time here, and
each leaves something open; what is open becomes a range of scenarios, never a hidden constant.

arm64: three published times of one server, base, references and unmap. They give three prices, in
ns per instruction, of what batched reference checks saved, of what batched unmapping saved and of
what remained; but only once an order is assumed, which was not published. Every order for which
all three prices are such as a processor can have is one scenario.

x86_64: MADV_PAGEOUT of one host, of file folios (unmapped one PTE at a time) and of lazyfree folios
(unmapped in batches). It has no reference check, which is added as instructions at a range of
prices; and it flushes the TLB at each removal, as memory.reclaim does only while no other CPU has
the address space loaded: with and without that flush are two scenarios.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from analysis import fit, measurements
from analysis.groups import GROUPS, NAMES, group_counts
from sim import KERNELS, Events, World, reclaim

GIB = 1 << 30
# The published experiment: 10 GiB mapped, 8 GiB reclaimed. Every time here is of that request.
MAP_BYTES, RECLAIM_BYTES = 10 * GIB, 8 * GIB

# ns per instruction that long stretches of kernel code can take: from 3.3 instructions per cycle at
# 3 GHz, which server cores do not sustain over code that walks page tables, to 0.2, where most of
# the time is spent waiting for memory.
FASTEST_NS, SLOWEST_NS = 0.1, 1.5

# "Around 5%": as much as rounds to it.
SHARE_ROUNDING = 0.005

# Bootstrap samples of the host's rounds.
DRAWS = 400

CHECK = np.array([group.part == "check" for group in GROUPS])


@dataclass(frozen=True)
class Scenario:
    """One full set of answers to what the measurements leave open.

    Attributes:
        name: in words, for people.
        seconds: elapsed time of the published request for (kernel, order), 1 <= order <= 8, in
            seconds, shape (draws,): first the best value, then draws of its sampling error, where
            runs were repeated.
    """

    name: str
    seconds: Callable[[str, int], np.ndarray]


def scenarios(arch: str, model: fit.CostModel | None = None) -> tuple[Scenario, ...]:
    """Return every scenario of one architecture, the best guess first.

    `model` prices instructions; without one it is the fit to all runs of the architecture.
    """
    if arch == "arm64":
        return _arm64()
    return _x86_64(model or fit.fit(arch))


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


def request_instructions(
    model: fit.CostModel, kernel: str, order: int, part: np.ndarray | None = None
) -> float:
    """Return instructions of the published request, or of the groups that `part` selects."""
    priced = request_counts(model.arch, kernel, order) * model.costs
    return float(priced.sum() if part is None else priced[part].sum())


# arm64


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


@cache
def implied_prices() -> pd.DataFrame:
    """Return what each folio order would have to cost to give the published arm64 times.

    One row an order, 1 to 8: references, unmap, remainder: ns per instruction that the batched
    reference check saved, that batched unmapping saved, and that is left with both; check: the
    most ns per instruction that its share of the profile leaves to the batched check; consistent:
    whether each of the four is between `FASTEST_NS` and `SLOWEST_NS`. A negative price means that
    the batch executes more instructions at that order, while the published time fell.
    """
    seconds = published_seconds()
    share = published_check_share()[1] + SHARE_ROUNDING
    model = fit.fit("arm64")
    rows = []
    for order in range(1, 9):
        used = {k: request_instructions(model, k, order) for k in ("base", "references", "unmap")}
        check = request_instructions(model, "references", order, CHECK)
        rows.append(
            {
                "order": order,
                "references": (seconds["base"] - seconds["references"])
                / (used["base"] - used["references"]),
                "unmap": (seconds["references"] - seconds["unmap"])
                / (used["references"] - used["unmap"]),
                "remainder": seconds["unmap"] / used["unmap"],
                "check": share * seconds["references"] / check,
            }
        )
    prices = pd.DataFrame(rows).set_index("order") * 1e9
    prices["consistent"] = prices.apply(
        lambda price: bool(price.between(FASTEST_NS, SLOWEST_NS).all()), axis=1
    )
    return prices


def _arm64() -> tuple[Scenario, ...]:
    prices = implied_prices()
    consistent = prices[prices["consistent"]]
    # The middle order first: nothing published prefers one of them.
    order_of = sorted(consistent.index, key=lambda o: abs(o - np.median(consistent.index)))
    return tuple(_arm64_scenario(order, prices.loc[order]) for order in order_of)


def _arm64_scenario(assumed: int, price: pd.Series) -> Scenario:
    def seconds(kernel: str, order: int) -> np.ndarray:
        model = fit.fit("arm64")
        used = {k: request_instructions(model, k, order) for k in ("base", "references", "unmap")}
        total = price["remainder"] * used["unmap"]
        if not KERNELS[kernel].batched_unmap:
            total += price["unmap"] * (used["references"] - used["unmap"])
        if not KERNELS[kernel].batched_references:
            total += price["references"] * (used["base"] - used["references"])
        return np.array([total * 1e-9])

    return Scenario(f"the published arm64 times were taken at order {assumed}", seconds)


# x86_64


@cache
def host_page_ns() -> dict[str, np.ndarray]:
    """Return ns per page of MADV_PAGEOUT by workload: shape (DRAWS + 1, 9), orders 0 to 8.

    Row 0 holds the medians over all rounds, the others those of bootstrap samples of rounds: all
    cells were timed once a round, so that a round is what repeats. Orders that were not run are
    interpolated between their neighbours on the log of the time.
    """
    runs = measurements.host_sweep()
    runs = runs[runs["order"] <= 8]
    ns = (runs["cpu_s"] / runs["pages"] * 1e9).rename("ns")
    rounds = runs["round"].unique()
    draws = np.random.default_rng(0).choice(rounds, (DRAWS, len(rounds)))
    page_ns = {}
    for workload, own in runs.assign(ns=ns).groupby("workload"):
        table = own.pivot_table(index="round", columns="order", values="ns")
        medians = [table.median(), *(table.loc[draw].median() for draw in draws)]
        page_ns[workload] = np.array([_interpolate(median) for median in medians])
    return page_ns


def _interpolate(by_order: pd.Series) -> np.ndarray:
    orders = np.arange(9)
    return np.exp(np.interp(orders, by_order.index, np.log(by_order)))


def flush_ns() -> float:
    """Return ns of one immediate TLB flush on the host: its share of the order-8 profile."""
    profile = measurements.load("host/profile_order8.csv").set_index("function")["share_percent"]
    return host_page_ns()["file"][0, 8] * profile["flush_tlb_mm_range"] / 100


def host_prices(model: fit.CostModel) -> tuple[float, float]:
    """Return ns per instruction of unmapping one PTE on the host, without and with its flush.

    What batching saved per page at order 8, over the instructions that it saves there.
    """
    page_ns = host_page_ns()
    saved_ns = page_ns["file"][0, 8] - page_ns["lazyfree"][0, 8]
    used = [request_instructions(model, kernel, 8) for kernel in ("references", "unmap")]
    per_page = (used[0] - used[1]) / (RECLAIM_BYTES >> 12)
    return (saved_ns - flush_ns()) / per_page, saved_ns / per_page


def _x86_64(model: fit.CostModel) -> tuple[Scenario, ...]:
    low, high = host_prices(model)
    middle = float(np.sqrt(low * high))
    return (
        _x86_64_scenario(model, flushes=False, check_ns=middle),
        *(
            _x86_64_scenario(model, flushes=flushes, check_ns=check_ns)
            for flushes in (False, True)
            for check_ns in (low, high)
        ),
    )


def _x86_64_scenario(model: fit.CostModel, *, flushes: bool, check_ns: float) -> Scenario:
    pages = RECLAIM_BYTES >> 12

    def seconds(kernel: str, order: int) -> np.ndarray:
        file_ns, lazyfree_ns = (host_page_ns()[w] for w in ("file", "lazyfree"))
        nr_pages = 1 << order
        if KERNELS[kernel].batched_unmap:
            # Lazyfree folios stand in for batched file folios, plus what a file folio costs more:
            # its removal from the page cache, seen at order 0 where neither is batched.
            page_ns = lazyfree_ns[:, order] + (file_ns[:, 0] - lazyfree_ns[:, 0]) / nr_pages
            flushed_pages = 1 / nr_pages
        else:
            page_ns = file_ns[:, order]
            flushed_pages = 1.0
        if not flushes:
            page_ns = page_ns - flush_ns() * flushed_pages
        return 1e-9 * (pages * page_ns + check_ns * _scan_instructions(model, kernel, order))

    flush = "at each removal" if flushes else "deferred, not waited for"
    return Scenario(f"TLB flush {flush}; scanning at {check_ns:.2f} ns an instruction", seconds)


def _scan_instructions(model: fit.CostModel, kernel: str, order: int) -> float:
    # What memory.reclaim does beyond MADV_PAGEOUT: reference checks, and folios isolated and put
    # back more often than the once that frees them.
    counts, costs = request_counts("x86_64", kernel, order), model.costs
    looked_at = NAMES.index("folio_referenced")
    freed = (RECLAIM_BYTES >> 12) >> order
    again = max(counts[looked_at] - freed, 0) * costs[looked_at]
    return float((counts * costs)[CHECK].sum() + again)
