# SPDX-License-Identifier: GPL-2.0-only
"""Event groups: the kinds of work that a cost model gives one price each.

Each is charged to the kernel function that does it, and counted from what the simulator saw. They
are chosen to be few and physical: where the counts of two functions rise together in every world
(say, shrink_inactive_list() and what it calls once a quantum), one of them stands for both.

Both LRUs share every group but those that only lru_gen does. Some groups are priced as another,
because the same code runs in both or because a loop was read to be as long:

- one further PTE of a batch takes 29 to 31 instructions in folio_referenced_one() of x86_64 (14 of
  them in folio_pte_batch()) and 32 in try_to_unmap_one(); a gather over a contpte block 10 for each
  of its PTEs on arm64, the lockless one 21, which is why it counts as two. Read from objdump of
  mm/rmap.o, mm/util.o and arch/arm64/mm/contpte.o of Linux 7.2.13, gcc 12.2, -O2, 48-bit addresses;
- a page-cache slot and a tail page are one turn each of a short loop of generic C; apart, they and
  the quantum trade places at every order that is left out.

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
        part: of the reclaim path: "check" (is the folio in use: folio_referenced() and all that
            it calls), "unmap" (try_to_unmap() likewise, and the flush that it defers) or "rest".
        what: one event of it, in words.
        count: how often it happened in one simulated request.
        priced_as: the group whose price it has, if not one of its own.
    """

    name: str
    part: str
    what: str
    count: Callable[[Events], float]
    priced_as: str = ""


def _calls(count: Count) -> Callable[[Events], int]:
    return lambda events: events[count]


def _large(count: Callable[[Events], float]) -> Callable[[Events], float]:
    return lambda events: count(events) if events.world.order > 0 else 0


def _nr_pages(events: Events) -> int:
    return 1 << events.world.order


def _checks_in_batches(events: Events) -> bool:
    return KERNELS[events.kernel].batched_references and events.world.order > 0


def _unmaps_in_batches(events: Events) -> bool:
    kernel = KERNELS[events.kernel]
    batched = {
        "file": kernel.batched_unmap,
        "lazyfree": kernel.batched_lazyfree,
        "anon": kernel.batched_anon,
    }
    return batched[events.world.workload] and events.world.order > 0


def _contpte(events: Events) -> bool:
    # A block is folded where an aligned folio fills it.
    return 0 < ARCHES[events.arch].cont_order <= events.world.order


def _further_checks(events: Events) -> int:
    # PTEs looked at behind the first of each VMA.
    return events[Count.FOLIO_REFERENCED_ONE] * (_nr_pages(events) - 1)


def _further_removals(events: Events) -> int:
    return events[Count.TRY_TO_UNMAP_ONE] * (_nr_pages(events) - 1)


def _young_alone(events: Events) -> int:
    alone = not _checks_in_batches(events) and not _contpte(events)
    return _further_checks(events) if alone else 0


def _young_contpte_alone(events: Events) -> int:
    alone = not _checks_in_batches(events) and _contpte(events)
    return _further_checks(events) if alone else 0


def _young_in_batch(events: Events) -> int:
    if _checks_in_batches(events):
        return _further_checks(events)
    if not _contpte(events):
        return 0
    # Each PTE that is asked for sweeps its whole block; the first is folio_referenced_one()'s.
    swept = _nr_pages(events) << ARCHES[events.arch].cont_order
    return events[Count.FOLIO_REFERENCED_ONE] * (swept - 1)


def _ranges_cleared(events: Events) -> int:
    # A helper out of line and an invalidation of the range, as for removals; elsewhere a loop.
    return events[Count.FOLIO_PTE_BATCH] if ARCHES[events.arch].range_helpers else 0


def _removed_in_batch(events: Events) -> int:
    return _further_removals(events) if _unmaps_in_batches(events) else 0


def _without_hint(events: Events) -> bool:
    # Where there are contpte blocks, a batch is sized 16 PTEs at a time; elsewhere one by one. An
    # architecture that has none pays for it within each PTE of a batch.
    return ARCHES[events.arch].cont_order > 0 and not _contpte(events)


def _sized_one_by_one(events: Events) -> int:
    return _young_in_batch(events) if _without_hint(events) else 0


def _unmap_sized_one_by_one(events: Events) -> int:
    return _removed_in_batch(events) if _without_hint(events) else 0


def _gathers_elsewhere(events: Events) -> int:
    gathers = events[Count.CONTPTE_PTEP_GET] + 2 * events[Count.CONTPTE_PTEP_GET_LOCKLESS]
    return gathers - events[Count.GATHERS_CHECKING] - events[Count.GATHERS_UNMAPPING]


def _deferred_flushes(events: Events) -> int:
    # Where each removal issues its own invalidation (arm64) only the wait is deferred.
    always = ARCHES[events.arch].defers_flush_always
    return 0 if always else events[Count.ARCH_TLBBATCH_FLUSH]


def _looked_at(events: Events) -> int:
    # Folios isolated. MADV_PAGEOUT checks no references, and scans each folio once.
    if events.world.request == "pageout":
        return events[Count.PGSCAN] >> events.world.order
    return events[Count.FOLIO_REFERENCED]


def _xa_slots(events: Events) -> float:
    if events.world.workload != "file":
        return 0  # in no page cache
    # lib/xarray.c keeps 64 slots a node; a folio of 64 pages or more takes slots one level up.
    return events[Count.PGSTEAL] / (1 if events.world.order < 6 else 64)


def _freed(events: Events) -> int:
    return events.nr_reclaimed_folios


def _freed_elsewhere(low: int, high: int) -> Callable[[Events], int]:
    # cpus=2 means that another CPU allocated the pages.
    def count(events: Events) -> int:
        inside = events.world.cpus > 1 and low <= events.world.order <= high
        return _freed(events) if inside else 0

    return count


def _quanta(events: Events) -> int:
    return events[Count.SHRINK_FOLIO_LIST] + events[Count.SHRINK_ACTIVE_LIST]


def _windows(events: Events) -> int:
    # lru_gen_set_refs() tells the folios found young. Each call of lru_gen_look_around() on a young
    # PTE opens a window: one a VMA, or, without the batch, one a PTE.
    calls = 1 if _checks_in_batches(events) else _nr_pages(events)
    return events[Count.LRU_GEN_SET_REFS] * events.world.mapped_by * calls


def _read_in_windows(events: Events) -> int:
    return events[Count.GET_PTE_PFN] - events[Count.PTES_AGED]


def _sorted_folios(events: Events) -> float:
    return events[Count.PGREFILL] / _nr_pages(events) if events.lru == "mglru" else 0


GROUPS: tuple[Group, ...] = (
    Group(
        "folio_referenced",
        "rest",
        "a folio isolated, looked at, and put back or freed",
        _looked_at,
    ),
    Group(
        "folio_referenced_one",
        "check",
        "a folio looked up in one VMA",
        _calls(Count.FOLIO_REFERENCED_ONE),
    ),
    Group(
        "vma_address_end",
        "check",
        "a large folio looked up in one VMA, beyond a small one",
        _large(_calls(Count.FOLIO_REFERENCED_ONE)),
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
        "the young bit of a further PTE cleared in a batch or block",
        _young_in_batch,
    ),
    Group(
        "contpte_test_and_clear_young_ptes",
        "check",
        "a range of young bits cleared and invalidated, beyond one PTE",
        _ranges_cleared,
        priced_as="contpte_get_and_clear_full_ptes",
    ),
    Group(
        "pte_batch_hint",
        "check",
        "a further PTE of a batch sized without a contpte hint",
        _sized_one_by_one,
    ),
    Group(
        "contpte_clear_flush_young_ptes",
        "check",
        "a further PTE of a contpte block stepped to and asked for",
        _young_contpte_alone,
    ),
    Group(
        "contpte_ptep_get",
        "check",
        "young and dirty bits gathered over a contpte block",
        _calls(Count.GATHERS_CHECKING),
    ),
    Group(
        "check_pte",
        "unmap",
        "the same while unmapping",
        _calls(Count.GATHERS_UNMAPPING),
        priced_as="contpte_ptep_get",
    ),
    Group(
        "ptep_get",
        "rest",
        "the same while aging, or while MADV_PAGEOUT looks for folios",
        _gathers_elsewhere,
        priced_as="contpte_ptep_get",
    ),
    Group(
        "try_to_unmap_one",
        "unmap",
        "a folio looked up in one VMA",
        _calls(Count.TRY_TO_UNMAP_ONE),
    ),
    Group(
        "folio_remove_rmap_ptes",
        "unmap",
        "a PTE or a batch removed: rmap, rss counter, references",
        _calls(Count.FOLIO_REMOVE_RMAP_PTES),
    ),
    Group(
        "get_and_clear_full_ptes",
        "unmap",
        "a further PTE removed in a batch",
        _removed_in_batch,
        priced_as="clear_flush_young_ptes",
    ),
    Group(
        "folio_unmap_pte_batch",
        "unmap",
        "a further PTE of a batch sized without a contpte hint",
        _unmap_sized_one_by_one,
        priced_as="pte_batch_hint",
    ),
    Group(
        "contpte_get_and_clear_full_ptes",
        "unmap",
        "a range of PTEs cleared and invalidated, beyond one PTE",
        _calls(Count.CONTPTE_GET_AND_CLEAR_FULL_PTES),
    ),
    Group(
        "__contpte_try_unfold",
        "unmap",
        "a contpte block unfolded because one of its PTEs goes",
        _calls(Count.CONTPTE_TRY_UNFOLD),
    ),
    Group(
        "flush_tlb_mm_range",
        "unmap",
        "a TLB flush at once, beyond a deferred one",
        _calls(Count.FLUSH_TLB_MM_RANGE),
    ),
    Group(
        "arch_tlbbatch_flush",
        "unmap",
        "the deferred TLB flush of a batch of folios, by IPI",
        _deferred_flushes,
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
        "a large folio taken out and freed, beyond a small one",
        _large(_freed),
    ),
    Group(
        "free_tail_page_prepare",
        "rest",
        "a tail page made ready to be freed",
        lambda events: events[Count.PGSTEAL] - _freed(events),
    ),
    Group(
        "xas_store",
        "rest",
        "a page-cache slot replaced by a shadow entry",
        _xa_slots,
        priced_as="free_tail_page_prepare",
    ),
    # free_frozen_page_commit(), mm/page_alloc.c of Linux 7.2, puts folios of order 0 to 3 on a
    # per-CPU list, and of orders 1 to 3 alone takes a list of many back at once (free_high).
    Group(
        "free_frozen_page_commit",
        "rest",
        "a page freed that another CPU allocated, beyond one's own",
        _freed_elsewhere(0, 0),
    ),
    Group(
        "free_pcppages_bulk",
        "rest",
        "an order-1 to 3 folio freed that another CPU allocated",
        _freed_elsewhere(1, 3),
    ),
    Group(
        "shrink_folio_list",
        "rest",
        "a quantum of folios isolated, scanned, put back and freed",
        _quanta,
    ),
    Group(
        "shrink_node",
        "rest",
        "a node call, with its shrinkers",
        _calls(Count.SHRINK_NODE),
    ),
    Group(
        "lru_gen_look_around",
        "check",
        "a look around, beyond a young bit cleared",
        _calls(Count.LRU_GEN_LOOK_AROUND),
    ),
    Group(
        "get_mem_cgroup_from_folio",
        "check",
        "a window of 64 PTEs opened around a young one",
        _windows,
    ),
    Group("get_pte_pfn", "check", "a PTE of a window read", _read_in_windows),
    Group(
        "get_pfn_folio",
        "check",
        "a young PTE of a window followed to its folio",
        _calls(Count.GET_PFN_FOLIO),
    ),
    Group(
        "walk_pte_range",
        "rest",
        "a PTE read by aging, which walks whole page tables",
        _calls(Count.PTES_AGED),
    ),
    Group(
        "lru_gen_set_refs",
        "rest",
        "a young folio given to a younger generation",
        _calls(Count.LRU_GEN_SET_REFS),
    ),
    Group(
        "sort_folio",
        "rest",
        "a folio promoted in place moved to its list",
        _sorted_folios,
    ),
)

NAMES = tuple(group.name for group in GROUPS)
# Which group's price each group has: int, shape (len(GROUPS),).
PRICED_AS = np.array([NAMES.index(group.priced_as or group.name) for group in GROUPS])


PARTS = ("check", "unmap", "rest")
# Which groups are in a part: bool, shape (len(GROUPS),), by part.
IN_PART = {part: np.array([group.part == part for group in GROUPS]) for part in PARTS}


def group_counts(events: Events) -> np.ndarray:
    """Return how often each of `GROUPS` happened: float64, shape (len(GROUPS),).

    Raises:
        ValueError: the world is PMD-mapped, which the groups do not describe.
    """
    pmd_order = ARCHES[events.arch].pmd_order
    if events.world.order >= pmd_order:
        raise ValueError(f"order {events.world.order} is PMD-mapped: no event groups describe it")
    return np.array([group.count(events) for group in GROUPS], float)


def folded(counts: np.ndarray) -> np.ndarray:
    """Return counts, shape (..., len(GROUPS)), with each added to the group that it is priced as.

    Groups without a price of their own then have none.
    """
    sums = np.zeros_like(counts, dtype=float)
    for group, price in enumerate(PRICED_AS):
        sums[..., price] += counts[..., group]
    return sums
