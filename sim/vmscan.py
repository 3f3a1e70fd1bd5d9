# SPDX-License-Identifier: GPL-2.0-only
"""The classic-LRU reclaim path over mapped file folios, one function per kernel function.

Hold this file beside mm/vmscan.c of Linux 7.2, from user_proactive_reclaim() down to
shrink_folio_list(): same names, same order of calls, callees first. Functions count their own
calls; nothing here knows what a call costs. With NUMBA_DISABLE_JIT=1 it runs as plain Python.
"""

from enum import IntEnum

import numpy as np

from sim.jit import jit
from sim.rmap import folio_referenced, try_to_unmap
from sim.state import (
    ACTIVE,
    ALL_FLAGS,
    NR_EXTENTS,
    NR_PAGES,
    OLDEST,
    REFERENCED,
    WORKINGSET,
    Count,
)

# include/linux/swap.h, mm/vmscan.c, mm/internal.h, include/linux/folio_batch.h
SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12
MAX_RECLAIM_RETRIES = 16
FOLIO_BATCH_SIZE = 31
EAGAIN = 11


class FolioReferences(IntEnum):
    """The verdicts of folio_check_references() that a clean, non-executable file folio can get."""

    RECLAIM = 0
    KEEP = 1
    ACTIVATE = 2


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
