# SPDX-License-Identifier: GPL-2.0-only
"""Event groups: the kinds of work that a cost model gives one price each.

Each is charged to the kernel function that does it, and counted from what the simulator saw. They
are chosen to be few and physical: where the counts of two functions rise together in every world
(say, shrink_inactive_list() and what it calls once a quantum), one of them stands for both.

A PMD-mapped folio is outside: no batch touches it, so that its cost never enters a comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim import ARCHES, KERNELS, Events
from sim.state import Count


@dataclass(frozen=True)
class Group:
    """One kind of work.

    Attributes:
        name: the kernel function that it is charged to.
        part: of the reclaim path: "check" (is the folio in use), "unmap" or "rest". Gathers over a
            contpte block are "check", though unmapping makes some, up to a tenth of the part: a
            price of their own is more than the runs can tell (left-out errors of up to 9%).
        what: one event of it, in words.
        count: how often it happened in one simulated request.
        arch_code: whether each architecture has code of its own for it, so that another
            architecture's cost says little.
    """

    name: str
    part: str
    what: str
    count: Callable[[Events], float]
    arch_code: bool = False


def _batched(events: Events, switch: str) -> bool:
    return getattr(KERNELS[events.kernel], switch) and events.world.order > 0


def _contpte(events: Events) -> bool:
    return events[Count.CONTPTE_PTEP_GET] > 0


def _young_alone(events: Events) -> int:
    # The first PTE of each VMA comes with folio_referenced_one().
    if _batched(events, "batched_references") or _contpte(events):
        return 0
    return events[Count.PTEP_CLEAR_FLUSH_YOUNG] - events[Count.FOLIO_REFERENCED_ONE]


def _young_in_batch(events: Events) -> int:
    return events[Count.YOUNG_PTE_OPS] if _batched(events, "batched_references") else 0


def _young_contpte_alone(events: Events) -> int:
    if _batched(events, "batched_references"):
        return 0
    return events[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES]


def _removed_alone(events: Events) -> int:
    return 0 if _batched(events, "batched_unmap") else events[Count.FOLIO_REMOVE_RMAP_PTES]


def _removed_alone_of_large(events: Events) -> int:
    return _removed_alone(events) if events.world.order > 0 else 0


def _removed_in_batch(events: Events) -> int:
    return events[Count.FOLIO_REMOVE_RMAP_PTES] if _batched(events, "batched_unmap") else 0


def _large_freed(events: Events) -> int:
    return events.nr_reclaimed_folios if events.world.order > 0 else 0


def _xa_slots(events: Events) -> float:
    # lib/xarray.c keeps 64 slots a node; a folio of 64 pages or more takes slots one level up.
    return events[Count.PGSTEAL] / (1 if events.world.order < 6 else 64)


def _buddy_freed(events: Events) -> int:
    return events.functions().get("free_one_page", 0)


def _calls(count: Count) -> Callable[[Events], int]:
    return lambda events: events[count]


GROUPS: tuple[Group, ...] = (
    Group(
        "folio_referenced",
        "rest",
        "a folio isolated, looked at, and put back or freed",
        _calls(Count.FOLIO_REFERENCED),
    ),
    Group(
        "folio_referenced_one",
        "check",
        "a folio looked up in one VMA, its first PTE tested",
        _calls(Count.FOLIO_REFERENCED_ONE),
    ),
    Group(
        "page_vma_mapped_walk",
        "check",
        "a further PTE stepped to, its young bit cleared alone",
        _young_alone,
    ),
    Group(
        "folio_pte_batch",
        "check",
        "a batch of PTEs sized for the reference check",
        _calls(Count.FOLIO_PTE_BATCH),
    ),
    Group(
        "clear_flush_young_ptes",
        "check",
        "the young bit of one PTE cleared within a batch",
        _young_in_batch,
        arch_code=True,
    ),
    Group(
        "contpte_clear_flush_young_ptes",
        "check",
        "one PTE asked for, the 16 of its contpte block swept",
        _young_contpte_alone,
    ),
    Group(
        "contpte_ptep_get",
        "check",
        "young and dirty bits gathered over a contpte block",
        _calls(Count.CONTPTE_PTEP_GET),
    ),
    Group(
        "try_to_unmap_one",
        "unmap",
        "one PTE removed alone: clear, TLB, rmap, rss counter, reference",
        _removed_alone,
    ),
    Group(
        "folio_remove_rmap_ptes",
        "unmap",
        "what one PTE removed alone costs more if its folio is large",
        _removed_alone_of_large,
    ),
    Group(
        "folio_unmap_pte_batch",
        "unmap",
        "a batch of PTEs removed at once",
        _removed_in_batch,
    ),
    Group(
        "__contpte_try_unfold",
        "unmap",
        "a contpte block unfolded because one of its PTEs goes",
        _calls(Count.CONTPTE_TRY_UNFOLD),
    ),
    Group(
        "lruvec_stat_mod_folio",
        "unmap",
        "the mapped-pages statistic updated",
        _calls(Count.MAPPED_STAT_UPDATES),
    ),
    Group(
        "__remove_mapping",
        "rest",
        "a large folio taken from the page cache, beyond a small one",
        _large_freed,
    ),
    Group("xas_store", "rest", "a page-cache slot replaced by a shadow entry", _xa_slots),
    Group(
        "free_tail_page_prepare",
        "rest",
        "a tail page made ready to be freed",
        lambda events: events[Count.PGSTEAL] - events.nr_reclaimed_folios,
    ),
    Group(
        "free_one_page",
        "rest",
        "a folio freed to the buddy lists, beyond a per-CPU list",
        _buddy_freed,
    ),
    Group(
        "free_unref_folios",
        "rest",
        "a batch uncharged and freed, with the scanning around it",
        _calls(Count.UNCHARGE_BATCH),
    ),
)

NAMES = tuple(group.name for group in GROUPS)


def group_counts(events: Events) -> np.ndarray:
    """Return how often each of `GROUPS` happened: float64, shape (len(GROUPS),).

    Raises:
        ValueError: the world is PMD-mapped, which the groups do not describe.
    """
    pmd_order = ARCHES[events.arch].pmd_order
    if events.world.order >= pmd_order:
        raise ValueError(f"order {events.world.order} is PMD-mapped: no event groups describe it")
    return np.array([group.count(events) for group in GROUPS], float)
