# SPDX-License-Identifier: GPL-2.0-only
"""The reclaim path over mapped file folios, one function per kernel function.

Hold this file beside mm/vmscan.c of Linux 7.2, from user_proactive_reclaim() down to
shrink_inactive_list(): same names, same order of calls, callees first. Functions count their own
calls; nothing here knows what a call costs. With NUMBA_DISABLE_JIT=1 it runs as plain Python.
"""

import numpy as np

from sim.folio_list import end_of_alike, shrink_folio_list
from sim.folios import add_run, end_of_same_flags, folio_order, nr_folios, set_flags
from sim.jit import jit, jit_rare
from sim.lists import list_add, list_size, oldest_extent, take_oldest
from sim.mglru import DEF_PRIORITY, lru_gen_shrink_lruvec
from sim.pgtable import pmd_addr_end, pte_slot
from sim.rmap import folio_mapcount, folio_referenced
from sim.state import (
    ACTIVE,
    ALL_FLAGS,
    FLUSH_BATCHED,
    HWPOISON,
    MLOCKED,
    NR_EXTENTS,
    PMD_LEAF,
    PTE_CONT,
    REFERENCED,
    SWAPBACKED,
    WORKINGSET,
    Count,
)

# include/linux/swap.h, mm/vmscan.c, mm/internal.h
SWAP_CLUSTER_MAX = 32
MAX_RECLAIM_RETRIES = 16
EAGAIN = 11


@jit
def whole_folios(nr_to_scan, lru, memory, machine):
    # How many pages the oldest folios have that it takes to reach nr_to_scan: an extent at most.
    if machine.order >= 0:
        mask = (1 << machine.order) - 1
        return (nr_to_scan + mask) & ~mask
    first, end = oldest_extent(lru)
    folio = first
    while folio < end and folio - first < nr_to_scan:
        folio += 1 << folio_order(folio, memory)
    return folio - first


@jit
def isolate_lru_folios(nr_to_scan, lru, memory, machine):
    """Take whole folios off the oldest end until their pages reach nr_to_scan.

    Returns the pages taken, and the runs of them in memory.folio_list.
    """
    nr_taken = 0
    nr_runs = 0
    while lru.state[NR_EXTENTS] > 0 and nr_taken < nr_to_scan:
        most = whole_folios(nr_to_scan - nr_taken, lru, memory, machine)
        first, end = take_oldest(lru, most)
        memory.folio_list[nr_runs, 0] = first
        memory.folio_list[nr_runs, 1] = end
        nr_taken += end - first
        nr_runs += 1
    return nr_taken, nr_runs


@jit
def folio_putback_lru(folio, end, memory, machine):
    """Put folios with the same flags at the newest end of the list that these name."""
    lruvec, flags = memory.lruvec, memory.folio_flags[folio]
    if flags & MLOCKED:
        list_add(lruvec.unevictable, folio, end)
    elif machine.lazyfree and flags & SWAPBACKED:
        list_add(lruvec.anon, folio, end)
    elif flags & ACTIVE:
        list_add(lruvec.active, folio, end)
    else:
        list_add(lruvec.inactive, folio, end)


@jit
def move_folios_to_lru(folios, nr_runs, memory, machine, counts):
    """Put isolated folios back at the newest end of the list that their flags name."""
    locked = False
    for run in range(nr_runs):
        folio, last = folios[run, 0], folios[run, 1]
        while folio < last:
            end = end_of_same_flags(folio, last, memory)
            mlocked = memory.folio_flags[folio] & MLOCKED != 0
            nr = (end - folio) >> folio_order(folio, memory)
            # The lock is dropped to put an unevictable folio back.
            counts[Count.FOLIO_LRUVEC_LOCK_IRQ] += (nr if mlocked else 1) - locked
            locked = not mlocked
            folio_putback_lru(folio, end, memory, machine)
            folio = end
    counts[Count.MOVE_FOLIOS_TO_LRU] += 1


@jit
def shrink_inactive_list(nr_to_scan, memory, machine, counts):
    """Scan the oldest inactive folios; return the number of pages reclaimed."""
    nr_taken, nr_runs = isolate_lru_folios(nr_to_scan, memory.lruvec.inactive, memory, machine)
    counts[Count.ISOLATE_LRU_FOLIOS] += 1
    counts[Count.PGSCAN] += nr_taken
    if nr_taken == 0:
        return 0
    nr_reclaimed, nr_kept = shrink_folio_list(nr_runs, memory, machine, counts)
    move_folios_to_lru(memory.ret_folios, nr_kept, memory, machine, counts)
    counts[Count.PGSTEAL] += nr_reclaimed
    return nr_reclaimed


@jit
def deactivate(folio, end, memory, machine, counts):
    # shrink_active_list() on folios that are alike, used or not: only executable mappings would
    # make them stay.
    nr_pages = 1 << folio_order(folio, memory)
    if memory.folio_flags[folio] & MLOCKED:
        return
    nr = nr_folios(folio, end, memory)
    if folio_mapcount(folio, memory, machine) > 0:
        counts[Count.FOLIO_UNLOCK] += nr  # folio_referenced() locks what is mapped
    folio_referenced(folio, nr, memory, machine, counts)
    flags = memory.folio_flags[folio] & ALL_FLAGS
    set_flags(folio, end, nr_pages, (flags & (ALL_FLAGS ^ ACTIVE)) | WORKINGSET, memory)


@jit
def shrink_active_list(nr_to_scan, memory, machine, counts):
    """Deactivate the oldest active folios."""
    nr_taken, nr_runs = isolate_lru_folios(nr_to_scan, memory.lruvec.active, memory, machine)
    nr_kept = 0
    for run in range(nr_runs):
        folio, last = memory.folio_list[run, 0], memory.folio_list[run, 1]
        while folio < last:
            end = end_of_alike(folio, last, memory, machine)
            deactivate(folio, end, memory, machine, counts)
            nr_kept = add_run(memory.ret_folios, nr_kept, folio, end)
            folio = end
    move_folios_to_lru(memory.ret_folios, 0, memory, machine, counts)  # l_active
    move_folios_to_lru(memory.ret_folios, nr_kept, memory, machine, counts)  # l_inactive
    counts[Count.ISOLATE_LRU_FOLIOS] += 1
    counts[Count.SHRINK_ACTIVE_LIST] += 1
    counts[Count.PGREFILL] += nr_taken


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
def prepare_scan_control(force_deactivate, memory, machine, counts):
    """Refresh the statistics if this node call finds them flushed; return if it may deactivate."""
    lruvec = memory.lruvec
    node_call = counts[Count.SHRINK_NODE]
    if node_call < len(lruvec.clock):
        lruvec.clock[node_call, 0] = counts[Count.FOLIO_REFERENCED]
        lruvec.clock[node_call, 1] = counts[Count.TRY_TO_UNMAP]
    nr = lruvec.nr_flushed[0]
    due = nr < len(lruvec.flushes) and lruvec.flushes[nr] == node_call
    if due:
        lruvec.nr_flushed[0] += 1
    if due or machine.always_flushed:
        lruvec.stale_pages[0] = list_size(lruvec.inactive)
        lruvec.stale_pages[1] = list_size(lruvec.active)
    return force_deactivate or inactive_is_low(lruvec, machine.arch.page_shift)


@jit_rare
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
                may_deactivate = prepare_scan_control(force_deactivate, memory, machine, counts)
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


@jit_rare
def lru_add_drain_all(memory, counts):
    """Put the folios that wait in another CPU's batch on their list. mm/swap.c."""
    batch = memory.lruvec.lru_add_batch
    counts[Count.LRU_ADD_DRAIN_ALL] += 1
    if batch[0] < batch[1]:
        list_add(memory.lruvec.inactive, batch[0], batch[1])
        batch[0] = batch[1]


@jit_rare
def user_proactive_reclaim(nr_to_reclaim, memory, machine, counts):
    """Serve one write to memory.reclaim of that many pages; return 0 or -EAGAIN."""
    nr_reclaimed = 0
    nr_retries = MAX_RECLAIM_RETRIES
    while nr_reclaimed < nr_to_reclaim:
        if nr_retries == 0:
            lru_add_drain_all(memory, counts)
        batch_size = max((nr_to_reclaim - nr_reclaimed) // 4, SWAP_CLUSTER_MAX)
        reclaimed = do_try_to_free_pages(batch_size, memory, machine, counts)
        counts[Count.TRY_TO_FREE_MEM_CGROUP_PAGES] += 1
        if reclaimed == 0:
            if nr_retries == 0:
                return -EAGAIN
            nr_retries -= 1
        nr_reclaimed += reclaimed
    return 0


@jit
def reclaim_folio_list(nr_runs, memory, machine, counts):
    """Reclaim the folios of memory.folio_list, put the others back; return the pages reclaimed."""
    nr_reclaimed, nr_kept = shrink_folio_list(nr_runs, memory, machine, counts)
    for run in range(nr_kept):
        folio, last = memory.ret_folios[run, 0], memory.ret_folios[run, 1]
        while folio < last:
            end = end_of_same_flags(folio, last, memory)
            folio_putback_lru(folio, end, memory, machine)
            folio = end
    return nr_reclaimed


@jit_rare
def read_page_table(page, end, memory, machine, counts):
    # What madvise_cold_or_pageout_pte_range() does to find the folios of one page table.
    slot = pte_slot(0, page, memory, machine)
    if memory.ptes[slot] & PMD_LEAF:
        return
    if memory.tlb_ubc[FLUSH_BATCHED] and not machine.arch.defers_flush_always:
        counts[Count.FLUSH_TLB_MM_RANGE] += 1  # flush_tlb_batched_pending()
        counts[Count.OTHER_FLUSHES] += 1
    memory.tlb_ubc[FLUSH_BATCHED] = 0
    block = 1 << machine.arch.cont_order
    for i in range(slot, slot + end - page, block if block > 1 else end - page):
        counts[Count.CONTPTE_PTEP_GET] += memory.ptes[i] & PTE_CONT != 0


@jit_rare
def madvise_pageout(nr_pages, memory, machine, counts):
    """Serve MADV_PAGEOUT of the first pages of the only mapping, used or not; return 0.

    Each page table's folios make a list: madvise_cold_or_pageout_pte_range(), mm/madvise.c.
    """
    inactive = memory.lruvec.inactive
    page = 0
    while page < nr_pages:
        end = pmd_addr_end(0, page, nr_pages, memory, machine)
        read_page_table(page, end, memory, machine, counts)
        nr_taken, nr_runs = isolate_lru_folios(end - page, inactive, memory, machine)
        for run in range(nr_runs):
            folio, last = memory.folio_list[run, 0], memory.folio_list[run, 1]
            while folio < last:
                nr = 1 << folio_order(folio, memory)
                memory.folio_flags[folio] &= 0xFFFF ^ REFERENCED  # folio_clear_referenced()
                # As the tracepoint has it; /proc/vmstat counts no page of this request.
                counts[Count.PGSCAN] += 0 if memory.folio_flags[folio] & HWPOISON else nr
                folio += nr
        counts[Count.RECLAIM_PAGES] += 1
        if nr_runs > 0:
            counts[Count.PGSTEAL] += reclaim_folio_list(nr_runs, memory, machine, counts)
        page = max(end, page + nr_taken)
    return 0
