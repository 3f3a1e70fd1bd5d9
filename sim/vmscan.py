# SPDX-License-Identifier: GPL-2.0-only
"""The reclaim path over mapped file folios, one function per kernel function.

Hold this file beside mm/vmscan.c of Linux 7.2, from user_proactive_reclaim() down to
shrink_inactive_list(): same names, same order of calls, callees first. Functions count their own
calls; nothing here knows what a call costs. With NUMBA_DISABLE_JIT=1 it runs as plain Python.
"""

import numpy as np

from sim.folio_list import shrink_folio_list
from sim.jit import jit
from sim.lists import list_add, list_size, take_oldest
from sim.mglru import DEF_PRIORITY, lru_gen_shrink_lruvec
from sim.rmap import folio_referenced
from sim.state import ACTIVE, ALL_FLAGS, NR_EXTENTS, WORKINGSET, Count

# include/linux/swap.h, mm/vmscan.c, mm/internal.h
SWAP_CLUSTER_MAX = 32
MAX_RECLAIM_RETRIES = 16
EAGAIN = 11


@jit
def isolate_lru_folios(nr_to_scan, lru, nr_pages, folio_list):
    """Take whole folios from the oldest end until their pages reach nr_to_scan; return how many."""
    want = (nr_to_scan + nr_pages - 1) // nr_pages
    taken = 0
    while lru.state[NR_EXTENTS] > 0 and taken < want:
        folio, end = take_oldest(lru, want - taken, nr_pages)
        for i in range(end - folio):
            folio_list[taken + i] = folio + i
        taken += end - folio
    return taken


@jit
def move_folios_to_lru(folio_list, nr, memory, counts):
    """Put isolated folios back at the newest end of the list that their flags name."""
    lruvec, flags = memory.lruvec, memory.folio_flags
    i = 0
    while i < nr:
        folio = folio_list[i]
        active = flags[folio] & ACTIVE
        end = folio
        while i < nr and folio_list[i] == end and flags[end] & ACTIVE == active:
            end += 1
            i += 1
        if active:
            list_add(lruvec.active, folio, end, memory.nr_pages)
        else:
            list_add(lruvec.inactive, folio, end, memory.nr_pages)
    counts[Count.MOVE_FOLIOS_TO_LRU] += 1
    counts[Count.FOLIO_LRUVEC_LOCK_IRQ] += nr > 0


@jit
def shrink_inactive_list(nr_to_scan, memory, machine, counts):
    """Scan the oldest inactive folios; return the number of pages reclaimed."""
    inactive, folio_list = memory.lruvec.inactive, memory.folio_list
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
def shrink_active_list(nr_to_scan, memory, machine, counts):
    """Deactivate the oldest active folios, used or not: only executable mappings would rotate."""
    active, folio_list = memory.lruvec.active, memory.folio_list
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
    lruvec = memory.lruvec
    nr_inactive = list_size(lruvec.inactive) >> priority
    nr_active = list_size(lruvec.active) >> priority
    nr_reclaimed = 0
    skipped = False
    while nr_inactive > 0 or nr_active > 0:
        if nr_inactive > 0:
            nr_to_scan = min(nr_inactive, SWAP_CLUSTER_MAX)
            nr_inactive -= nr_to_scan
            nr_reclaimed += shrink_inactive_list(nr_to_scan, memory, machine, counts)
        if nr_active > 0:
            nr_to_scan = min(nr_active, SWAP_CLUSTER_MAX)
            nr_active -= nr_to_scan
            if may_deactivate:
                shrink_active_list(nr_to_scan, memory, machine, counts)
            else:
                skipped = True
        if nr_reclaimed >= nr_to_reclaim:
            break
    return nr_reclaimed, skipped


@jit
def prepare_scan_control(force_deactivate, memory, machine, node_call):
    """Refresh the statistics if this node call finds them flushed; return if it may deactivate."""
    lruvec = memory.lruvec
    nr = lruvec.nr_flushed[0]
    due = nr < len(lruvec.flushes) and lruvec.flushes[nr] == node_call
    if due:
        lruvec.nr_flushed[0] += 1
    if due or machine.always_flushed:
        lruvec.stale_pages[0] = list_size(lruvec.inactive)
        lruvec.stale_pages[1] = list_size(lruvec.active)
    return force_deactivate or inactive_is_low(lruvec, machine.arch.page_shift)


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
            if machine.lru_gen:
                total = lru_gen_shrink_lruvec(
                    nr_to_reclaim, total, priority, memory, machine, counts
                )
            else:
                may_deactivate = prepare_scan_control(
                    force_deactivate, memory, machine, counts[Count.SHRINK_NODE]
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
