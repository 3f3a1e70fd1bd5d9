# SPDX-License-Identifier: GPL-2.0-only
"""The classic-LRU reclaim path over mapped file folios, one function per kernel function.

Hold this file beside mm/vmscan.c (from user_proactive_reclaim() down to shrink_folio_list()) and
mm/rmap.c (folio_referenced_one(), try_to_unmap_one()) of Linux 7.2: same names, same order of
calls, callees first. Functions count their own calls and what they do to page tables; nothing here
knows what a call costs.

The form is chosen for numba: page-table entries and folio flags are the only arrays as long as
memory, and both are walked in list order. With NUMBA_DISABLE_JIT=1 the same source runs as plain
Python.
"""

from enum import IntEnum, auto
from typing import NamedTuple

import numpy as np

from sim.arch import Arch
from sim.jit import jit
from sim.kernel import Kernel

# include/linux/swap.h, mm/vmscan.c, mm/internal.h, include/linux/folio_batch.h
SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12
MAX_RECLAIM_RETRIES = 16
FOLIO_BATCH_SIZE = 31
EAGAIN = 11

# Flags of a page-table entry. A PMD leaf is kept in the slot of its first page.
PTE_PRESENT = 1
PTE_YOUNG = 2
PTE_CONT = 4

# Flags of a folio: PG_referenced, PG_active, PG_workingset.
REFERENCED = 1
ACTIVE = 2
WORKINGSET = 4

# Flags are bytes, whose ~ is no byte.
ALL_FLAGS = 0xFF


class FolioReferences(IntEnum):
    """The verdicts of folio_check_references() that a clean, non-executable file folio can get."""

    RECLAIM = 0
    KEEP = 1
    ACTIVATE = 2


class Count(IntEnum):
    """What the walk counts: calls of the kernel function of that name, unless a comment differs."""

    PGSCAN = 0  # pages scanned on the inactive list, /proc/vmstat pgscan_proactive
    PGSTEAL = auto()  # pages freed, /proc/vmstat pgsteal_proactive
    PGREFILL = auto()  # pages scanned on the active list
    TRY_TO_FREE_MEM_CGROUP_PAGES = auto()
    MEM_CGROUP_ITER = auto()
    SHRINK_NODE = auto()
    ISOLATE_LRU_FOLIOS = auto()
    SHRINK_FOLIO_LIST = auto()
    SHRINK_ACTIVE_LIST = auto()
    MOVE_FOLIOS_TO_LRU = auto()
    FOLIO_LRUVEC_LOCK_IRQ = auto()
    FOLIO_REFERENCED = auto()
    FOLIO_REFERENCED_ONE = auto()
    FOLIOS_ACTIVATED = auto()  # verdicts
    TRY_TO_UNMAP = auto()
    TRY_TO_UNMAP_ONE = auto()
    PAGE_VMA_MAPPED_WALK = auto()
    FOLIO_PTE_BATCH = auto()
    PTEP_CLEAR_FLUSH_YOUNG = auto()  # single-PTE clears of a PTE outside a contpte block
    CONTPTE_CLEAR_FLUSH_YOUNG_PTES = auto()
    YOUNG_PTE_OPS = auto()  # PTEs whose young bit was tested and cleared
    YOUNG_TLBI = auto()  # TLB invalidations issued because a cleared PTE was young
    PMDP_CLEAR_FLUSH_YOUNG = auto()
    CONTPTE_PTEP_GET = auto()
    CONTPTE_PTEP_GET_LOCKLESS = auto()
    CONTPTE_TRY_UNFOLD = auto()
    CONTPTE_GET_AND_CLEAR_FULL_PTES = auto()
    PTES_CLEARED = auto()  # page-table entries removed, a PMD leaf counting its pages
    FOLIO_REMOVE_RMAP_PTES = auto()
    FOLIO_REMOVE_RMAP_PMD = auto()
    MAPPED_STAT_UPDATES = auto()  # lruvec_stat_mod_folio() of NR_FILE_MAPPED
    SET_TLB_UBC_FLUSH_PENDING = auto()
    FLUSH_TLB_MM_RANGE = auto()
    ARCH_TLBBATCH_FLUSH = auto()
    REMOVE_MAPPING = auto()
    REFERENCES_PUT = auto()  # references that unmapping and removal from the page cache dropped
    FREE_UNREF_FOLIOS = auto()
    UNCHARGE_BATCH = auto()


# Slots of LruList.state.
OLDEST, NR_EXTENTS, NR_PAGES = range(3)


class LruList(NamedTuple):
    """One LRU list, oldest folio first, as a ring of extents [first folio, end folio).

    Reclaim moves folios in bunches, so that extents stay few and each is walked in memory order.
    """

    extents: np.ndarray  # int32, shape (capacity, 2); only the slots in use are ever touched
    state: np.ndarray  # int64, shape (3,): OLDEST extent, NR_EXTENTS in use, NR_PAGES


class Lruvec(NamedTuple):
    """The memcg's lruvec: two file lists and the statistics as the last rstat flush left them."""

    inactive: LruList
    active: LruList
    stale_pages: np.ndarray  # int64, shape (2,): inactive, active


class Memory(NamedTuple):
    """All state that reclaim changes. Folio f covers the pages from f * nr_pages on."""

    ptes: np.ndarray  # uint8, shape (processes, pages): PTE_* flags, 0 once unmapped
    folio_flags: np.ndarray  # uint8, shape (folios,)
    lruvec: Lruvec
    folio_list: np.ndarray  # int32, shape (SWAP_CLUSTER_MAX,): the folios isolated at the moment
    nr_pages: int  # of each folio


class Machine(NamedTuple):
    """What does not change during a walk."""

    arch: Arch
    kernel: Kernel
    defers_flush: bool  # arch_tlbbatch_should_defer() of every mm in this world
    pmd_mapped: bool


@jit
def _wrap(slot, capacity):
    return slot - capacity if slot >= capacity else slot


@jit
def lruvec_add_folio(lru, folio, nr_pages):
    # Newest end. Most folios continue the newest extent.
    oldest, nr = lru.state[OLDEST], lru.state[NR_EXTENTS]
    capacity = len(lru.extents)
    if nr > 0:
        newest = _wrap(oldest + nr - 1, capacity)
        if lru.extents[newest, 1] == folio:
            lru.extents[newest, 1] = folio + 1
            lru.state[NR_PAGES] += nr_pages
            return
    slot = _wrap(oldest + nr, capacity)
    lru.extents[slot, 0] = folio
    lru.extents[slot, 1] = folio + 1
    lru.state[NR_EXTENTS] = nr + 1
    lru.state[NR_PAGES] += nr_pages


@jit
def isolate_lru_folios(nr_to_scan, lru, nr_pages, folio_list):
    """Take whole folios from the oldest end until their pages reach nr_to_scan; return how many."""
    oldest, nr = lru.state[OLDEST], lru.state[NR_EXTENTS]
    taken = 0
    while nr > 0 and taken * nr_pages < nr_to_scan:
        folio = lru.extents[oldest, 0]
        folio_list[taken] = folio
        taken += 1
        if folio + 1 == lru.extents[oldest, 1]:
            oldest = _wrap(oldest + 1, len(lru.extents))
            nr -= 1
        else:
            lru.extents[oldest, 0] = folio + 1
    lru.state[OLDEST] = oldest
    lru.state[NR_EXTENTS] = nr
    lru.state[NR_PAGES] -= taken * nr_pages
    return taken


@jit
def list_size(lru):
    return lru.state[NR_PAGES]


# include/linux/pgtable.h, arch/arm64/mm/contpte.c: page-table entries


@jit
def test_and_clear_young(ptes, start, end):
    # Returns how many of the PTEs [start, end) were young.
    nr_young = 0
    # Unsigned bounds: with signed ones each access would test for a negative index.
    for i in range(np.uint64(start), np.uint64(end)):
        pte = ptes[i]
        nr_young += int(pte & PTE_YOUNG) >> 1
        ptes[i] = pte & (ALL_FLAGS ^ PTE_YOUNG)
    return nr_young


@jit
def clear_flush_young_ptes(ptes, start, end, machine, counts):
    """Clear the young bits of a batch of PTEs; return whether one was set."""
    nr_young = test_and_clear_young(ptes, start, end)
    counts[Count.YOUNG_PTE_OPS] += end - start
    if machine.arch.range_helpers:
        # One call and one invalidation for the whole range, contpte blocks or not.
        counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += 1
        counts[Count.YOUNG_TLBI] += nr_young > 0
    else:
        counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += end - start
        counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def ptep_clear_flush_young(ptes, start, end, machine, counts):
    """Clear the young bits of [start, end) one PTE a call; return whether one was set."""
    nr_young = test_and_clear_young(ptes, start, end)
    counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += end - start
    counts[Count.YOUNG_PTE_OPS] += end - start
    counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def contpte_ptep_clear_flush_young(ptes, start, end, machine, counts):
    """The same on contpte blocks, where every call sweeps the block that its PTE is part of.

    The first call of a block therefore finds what is young, and pays the invalidation; the sweeps
    of the others are counted, not repeated, because they meet the same PTEs, now old.
    """
    cont_ptes = machine.arch.cont_ptes
    young = False
    for block in range(start, end, cont_ptes):
        if test_and_clear_young(ptes, block, block + cont_ptes) > 0:
            counts[Count.YOUNG_TLBI] += 1
            young = True
    counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += end - start
    counts[Count.YOUNG_PTE_OPS] += (end - start) * cont_ptes
    return young


@jit
def pmdp_clear_flush_young(ptes, slot, machine, counts):
    """Clear the young bit of a PMD leaf; return whether it was set."""
    young = test_and_clear_young(ptes, slot, slot + 1) > 0
    counts[Count.PMDP_CLEAR_FLUSH_YOUNG] += 1
    if young and machine.arch.pmd_flush_is_mm_range:
        counts[Count.FLUSH_TLB_MM_RANGE] += 1
    return young


# mm/rmap.c


@jit
def folio_referenced_one(ptes, start, end, machine, counts):
    """Clear the young bits of a folio in one VMA; return whether one was set."""
    if machine.pmd_mapped:
        # One PMD is not the folio's number of pages, so the walk is asked once more.
        counts[Count.PAGE_VMA_MAPPED_WALK] += 2
        return pmdp_clear_flush_young(ptes, start, machine, counts)
    nr_pages = end - start
    cont = (ptes[start] & PTE_CONT) != 0
    if cont:
        counts[Count.CONTPTE_PTEP_GET_LOCKLESS] += 1
    if machine.kernel.batched_references and nr_pages > 1:
        counts[Count.PAGE_VMA_MAPPED_WALK] += 1
        counts[Count.FOLIO_PTE_BATCH] += 1
        if cont:
            # check_pte() and ptep_get() of the first PTE, then one read per further block.
            counts[Count.CONTPTE_PTEP_GET] += nr_pages // machine.arch.cont_ptes + 1
        return clear_flush_young_ptes(ptes, start, end, machine, counts)
    counts[Count.PAGE_VMA_MAPPED_WALK] += nr_pages
    if cont:
        # check_pte() of every PTE, and the step of the walk onto each PTE but the first.
        counts[Count.CONTPTE_PTEP_GET] += 2 * nr_pages - 1
        return contpte_ptep_clear_flush_young(ptes, start, end, machine, counts)
    return ptep_clear_flush_young(ptes, start, end, machine, counts)


@jit
def folio_referenced(folio, memory, machine, counts):
    """Return the number of VMAs through which the folio was used since the last look."""
    start = folio * memory.nr_pages
    nr_referenced = 0
    for vma in range(len(memory.ptes)):
        if folio_referenced_one(memory.ptes[vma], start, start + memory.nr_pages, machine, counts):
            nr_referenced += 1
    counts[Count.FOLIO_REFERENCED] += 1
    counts[Count.FOLIO_REFERENCED_ONE] += len(memory.ptes)
    return nr_referenced


@jit
def clear_present(ptes, start, end):
    # Clears the entries [start, end); returns how many were present.
    nr = 0
    for i in range(np.uint64(start), np.uint64(end)):
        nr += int(ptes[i] & PTE_PRESENT)
        ptes[i] = 0
    return nr


@jit
def get_and_clear_ptes(ptes, start, end, machine, counts):
    """Remove a folio's PTEs from one address space; return how many calls that took."""
    nr_pages = end - start
    cont = (ptes[start] & PTE_CONT) != 0
    nr_blocks = nr_pages // machine.arch.cont_ptes
    counts[Count.PTES_CLEARED] += clear_present(ptes, start, end)
    if machine.kernel.batched_unmap and nr_pages > 1:
        # folio_unmap_pte_batch() covers the folio, which ends the walk.
        counts[Count.PAGE_VMA_MAPPED_WALK] += 1
        if cont:
            counts[Count.CONTPTE_PTEP_GET] += nr_blocks + 1
        if machine.arch.range_helpers:
            counts[Count.CONTPTE_GET_AND_CLEAR_FULL_PTES] += 1
        return 1
    # The walk is asked once more after the last PTE of a large folio: a batch of one is not all.
    counts[Count.PAGE_VMA_MAPPED_WALK] += nr_pages + (nr_pages > 1)
    if cont:
        # The first PTE of a block is read by the step onto it (but for the folio's first), by
        # check_pte() and by ptep_get(); clearing it unfolds the block, so the others are plain.
        counts[Count.CONTPTE_PTEP_GET] += 3 * nr_blocks - 1
        counts[Count.CONTPTE_TRY_UNFOLD] += nr_blocks
    return nr_pages


@jit
def try_to_unmap_one(ptes, start, end, machine, counts):
    """Remove a folio from one address space and give back its mappings' references."""
    if machine.pmd_mapped:
        # TTU_SPLIT_HUGE_PMD: splitting a file's PMD only zaps it; the restarted walk finds nothing.
        counts[Count.PAGE_VMA_MAPPED_WALK] += 2
        counts[Count.PTES_CLEARED] += clear_present(ptes, start, start + 1) * (end - start)
        counts[Count.FOLIO_REMOVE_RMAP_PMD] += 1
        if machine.arch.pmd_flush_is_mm_range:
            counts[Count.FLUSH_TLB_MM_RANGE] += 1
        counts[Count.REFERENCES_PUT] += 1
        return
    removals = get_and_clear_ptes(ptes, start, end, machine, counts)
    counts[Count.FOLIO_REMOVE_RMAP_PTES] += removals
    counts[Count.REFERENCES_PUT] += end - start
    if machine.defers_flush:
        counts[Count.SET_TLB_UBC_FLUSH_PENDING] += removals
    else:
        counts[Count.FLUSH_TLB_MM_RANGE] += removals


@jit
def try_to_unmap(folio, memory, machine, counts):
    """Remove a folio from every address space that maps it."""
    start = folio * memory.nr_pages
    for vma in range(len(memory.ptes)):
        try_to_unmap_one(memory.ptes[vma], start, start + memory.nr_pages, machine, counts)
    counts[Count.TRY_TO_UNMAP] += 1
    counts[Count.TRY_TO_UNMAP_ONE] += len(memory.ptes)
    # NR_FILE_MAPPED falls where a page loses its last mapping: in the removals of the last VMA.
    if machine.kernel.batched_unmap or memory.nr_pages == 1 or machine.pmd_mapped:
        counts[Count.MAPPED_STAT_UPDATES] += 1
    else:
        counts[Count.MAPPED_STAT_UPDATES] += memory.nr_pages


# mm/vmscan.c


@jit
def folio_check_references(folio, memory, machine, counts):
    """Decide whether a folio of the inactive list is reclaimed, kept or activated."""
    nr_referenced = folio_referenced(folio, memory, machine, counts)
    was_referenced = memory.folio_flags[folio] & REFERENCED
    memory.folio_flags[folio] &= ALL_FLAGS ^ REFERENCED
    if nr_referenced == 0:
        return FolioReferences.RECLAIM  # clean: a REFERENCED left by an earlier look does not help
    memory.folio_flags[folio] |= REFERENCED
    if was_referenced or nr_referenced > 1:
        return FolioReferences.ACTIVATE
    return FolioReferences.KEEP


@jit
def free_folio_batch(nr, machine, counts):
    # Uncharge, wait for deferred TLB invalidations, free. Called for an empty batch as well.
    if nr > 0:
        counts[Count.UNCHARGE_BATCH] += 1
        if machine.defers_flush and not machine.pmd_mapped:
            counts[Count.ARCH_TLBBATCH_FLUSH] += 1
    counts[Count.FREE_UNREF_FOLIOS] += 1


@jit
def shrink_folio_list(folio_list, nr_taken, memory, machine, counts):
    """Reclaim what can be reclaimed of the isolated folios; keep the others, first in the list.

    Returns the number of folios reclaimed and kept.
    """
    nr_reclaimed = 0
    nr_kept = 0
    nr_activated = 0
    for i in range(nr_taken):
        folio = folio_list[i]
        verdict = folio_check_references(folio, memory, machine, counts)
        if verdict == FolioReferences.RECLAIM:
            try_to_unmap(folio, memory, machine, counts)
            memory.folio_flags[folio] = 0  # __remove_mapping(), and the folio is gone
            nr_reclaimed += 1
            if nr_reclaimed % FOLIO_BATCH_SIZE == 0:
                free_folio_batch(FOLIO_BATCH_SIZE, machine, counts)
            continue
        if verdict == FolioReferences.ACTIVATE:
            memory.folio_flags[folio] |= ACTIVE
            nr_activated += 1
        folio_list[nr_kept] = folio
        nr_kept += 1
    free_folio_batch(nr_reclaimed % FOLIO_BATCH_SIZE, machine, counts)
    counts[Count.SHRINK_FOLIO_LIST] += 1
    counts[Count.REMOVE_MAPPING] += nr_reclaimed
    counts[Count.FOLIOS_ACTIVATED] += nr_activated
    return nr_reclaimed, nr_kept


@jit
def move_folios_to_lru(folio_list, nr, memory, counts):
    """Put isolated folios back at the newest end of the list that their flags name."""
    lruvec = memory.lruvec
    for i in range(nr):
        folio = folio_list[i]
        if memory.folio_flags[folio] & ACTIVE:
            lruvec_add_folio(lruvec.active, folio, memory.nr_pages)
        else:
            lruvec_add_folio(lruvec.inactive, folio, memory.nr_pages)
    counts[Count.MOVE_FOLIOS_TO_LRU] += 1
    counts[Count.FOLIO_LRUVEC_LOCK_IRQ] += nr > 0


@jit
def shrink_inactive_list(nr_to_scan, folio_list, memory, machine, counts):
    """Scan the oldest inactive folios; return the number of pages reclaimed."""
    inactive = memory.lruvec.inactive
    nr_taken = isolate_lru_folios(nr_to_scan, inactive, memory.nr_pages, folio_list)
    counts[Count.ISOLATE_LRU_FOLIOS] += 1
    counts[Count.PGSCAN] += nr_taken * memory.nr_pages
    if nr_taken == 0:
        return 0
    nr_reclaimed, nr_kept = shrink_folio_list(folio_list, nr_taken, memory, machine, counts)
    move_folios_to_lru(folio_list, nr_kept, memory, counts)
    counts[Count.PGSTEAL] += nr_reclaimed * memory.nr_pages
    return nr_reclaimed * memory.nr_pages


@jit
def shrink_active_list(nr_to_scan, folio_list, memory, machine, counts):
    """Deactivate the oldest active folios, used or not: only executable mappings would rotate."""
    active = memory.lruvec.active
    nr_taken = isolate_lru_folios(nr_to_scan, active, memory.nr_pages, folio_list)
    for i in range(nr_taken):
        folio = folio_list[i]
        folio_referenced(folio, memory, machine, counts)
        memory.folio_flags[folio] = (memory.folio_flags[folio] & (ALL_FLAGS ^ ACTIVE)) | WORKINGSET
    move_folios_to_lru(folio_list, 0, memory, counts)  # l_active
    move_folios_to_lru(folio_list, nr_taken, memory, counts)  # l_inactive
    counts[Count.ISOLATE_LRU_FOLIOS] += 1
    counts[Count.SHRINK_ACTIVE_LIST] += 1
    counts[Count.PGREFILL] += nr_taken * memory.nr_pages


@jit
def inactive_is_low(lruvec, page_shift):
    """Whether too few pages are inactive, by statistics that may be stale."""
    inactive, active = lruvec.stale_pages[0], lruvec.stale_pages[1]
    gigabytes = (inactive + active) >> (30 - page_shift)
    ratio = int(np.sqrt(10 * gigabytes)) if gigabytes > 0 else 1
    return inactive * ratio < active


@jit
def shrink_lruvec(nr_to_reclaim, priority, may_deactivate, memory, machine, counts):
    """Scan each list by its share; return the pages reclaimed, and if deactivation was skipped."""
    folio_list = memory.folio_list
    lruvec = memory.lruvec
    nr_inactive = list_size(lruvec.inactive) >> priority
    nr_active = list_size(lruvec.active) >> priority
    nr_reclaimed = 0
    skipped = False
    while nr_inactive > 0 or nr_active > 0:
        if nr_inactive > 0:
            nr_to_scan = min(nr_inactive, SWAP_CLUSTER_MAX)
            nr_inactive -= nr_to_scan
            nr_reclaimed += shrink_inactive_list(nr_to_scan, folio_list, memory, machine, counts)
        if nr_active > 0:
            nr_to_scan = min(nr_active, SWAP_CLUSTER_MAX)
            nr_active -= nr_to_scan
            if may_deactivate:
                shrink_active_list(nr_to_scan, folio_list, memory, machine, counts)
            else:
                skipped = True
        if nr_reclaimed >= nr_to_reclaim:
            break
    return nr_reclaimed, skipped


@jit
def do_try_to_free_pages(nr_to_reclaim, memory, machine, counts):
    """Scan at rising priority until enough is reclaimed; return the pages reclaimed.

    A walk over all priorities that reclaims nothing is repeated as a full walk, and then, if
    deactivation had been skipped, once more with it forced.
    """
    force_deactivate = False
    full_walk = False
    skipped_deactivate = False
    while True:
        total = 0
        for priority in range(DEF_PRIORITY, -1, -1):
            # shrink_node() -> prepare_scan_control(), shrink_node_memcgs()
            may_deactivate = force_deactivate or inactive_is_low(
                memory.lruvec, machine.arch.page_shift
            )
            nr_reclaimed, skipped = shrink_lruvec(
                nr_to_reclaim, priority, may_deactivate, memory, machine, counts
            )
            skipped_deactivate = skipped_deactivate or skipped
            total += nr_reclaimed
            counts[Count.SHRINK_NODE] += 1
            # The iterator is asked for a next memcg unless a partial walk broke off, satisfied.
            done = total >= nr_to_reclaim
            counts[Count.MEM_CGROUP_ITER] += 1 if done and not full_walk else 2
            if done:
                break
        if total > 0:
            return total
        if not full_walk:
            full_walk = True
        elif skipped_deactivate:
            force_deactivate = True
            skipped_deactivate = False
        else:
            return 0


@jit
def user_proactive_reclaim(nr_to_reclaim, memory, machine, counts):
    """Serve one write to memory.reclaim of that many pages; return 0 or -EAGAIN."""
    nr_reclaimed = 0
    nr_retries = MAX_RECLAIM_RETRIES
    while nr_reclaimed < nr_to_reclaim:
        batch_size = max((nr_to_reclaim - nr_reclaimed) // 4, SWAP_CLUSTER_MAX)
        reclaimed = do_try_to_free_pages(batch_size, memory, machine, counts)
        counts[Count.TRY_TO_FREE_MEM_CGROUP_PAGES] += 1
        if reclaimed == 0:
            if nr_retries == 0:
                return -EAGAIN
            nr_retries -= 1
        nr_reclaimed += reclaimed
    return 0
