# SPDX-License-Identifier: GPL-2.0-only
"""lru_gen and page tables: what a young PTE, and its neighbours, tell of folios.

Hold this file beside lru_gen_look_around() and walk_pte_range() in mm/vmscan.c of Linux 7.2.
"""

from typing import NamedTuple

import numpy as np

from sim.folios import (
    end_of_equal,
    end_of_same_flags,
    folio_order,
    nr_folios,
    page_folio,
    set_each,
    set_flags,
)
from sim.jit import jit, jit_rare
from sim.pgtable import (
    folio_pte_batch_flags,
    nr_with,
    pmd_addr_end,
    pte_slot,
    test_and_clear_young,
    test_and_clear_young_ptes,
)
from sim.state import (
    ALL_FLAGS,
    DIRTY,
    MAX_SEQ,
    NO_GEN,
    NR_PROMOTED,
    PMD_LEAF,
    PTE_CONT,
    PTE_DIRTY,
    PTE_YOUNG,
    REFERENCED,
    VMA_END,
    VMA_START,
    WORKINGSET,
    Count,
)

# include/linux/mmzone.h
MAX_NR_GENS = 4
MIN_LRU_BATCH = 64


@jit
def update_folio(folio, end, dirty, memory):
    # Promotes the folio, or small ones that are alike, in place: the list it is on learns of it
    # when it is scanned.
    lrugen = memory.lrugen
    nr_pages = 1 << folio_order(folio, memory)
    flags = memory.folio_flags[folio] & ALL_FLAGS | (DIRTY if dirty else 0)
    if not flags & (REFERENCED | WORKINGSET):
        set_flags(folio, end, nr_pages, flags | REFERENCED, memory)
        return
    gen = lrugen.seq[MAX_SEQ] % MAX_NR_GENS
    if lrugen.folio_gen[folio] != gen:
        lrugen.seq[NR_PROMOTED] += nr_folios(folio, end, memory)
    set_each(lrugen.folio_gen, folio, end, nr_pages, gen)
    set_each(lrugen.folio_refs, folio, end, nr_pages, 0)
    set_flags(folio, end, nr_pages, (flags & (ALL_FLAGS ^ REFERENCED)) | WORKINGSET, memory)


@jit
def walk_update_folio(folio, dirty, memory, counts):
    """Promote the folio whose entries a walk has just left behind, if there was one."""
    counts[Count.WALK_UPDATE_FOLIO] += 1
    if folio >= 0:
        update_folio(folio, folio + (1 << folio_order(folio, memory)), dirty, memory)


@jit
def nr_promotable(page, slot, end, memory, machine):
    # How many young entries there are, and, of small folios, how many are of one that is on a list.
    ptes, nr_young = memory.ptes, 0
    if machine.order != 0:
        nr_young = nr_with(PTE_YOUNG, ptes, slot, slot + end - page)
        return nr_young, nr_young
    nr_listed = 0
    gens = memory.lrugen.folio_gen
    for i in range(np.uint64(end - page)):
        young = ptes[np.uint64(slot) + i] & PTE_YOUNG != 0
        nr_young += young
        nr_listed += young & (gens[np.uint64(page) + i] != NO_GEN)
    return nr_young, nr_listed


@jit
def promote(page, slot, end, memory, machine, counts):
    # Clears the young bits of a folio's entries from `page` on; returns how many entries that was.
    folio = page_folio(page, memory)
    folio_end = folio + (1 << folio_order(folio, memory))
    batch = min(end, folio_end) - page
    if folio_end - folio > 1:
        batch = folio_pte_batch_flags(slot, batch, 0, memory, machine, counts)
    dirty = nr_with(PTE_DIRTY, memory.ptes, slot, slot + batch) > 0
    test_and_clear_young_ptes(slot, slot + batch, memory, machine, counts)
    return folio, batch, dirty


@jit
def promote_each(page, slot, end, step, memory):
    # Promotes the folios of young entries that are alike, `step` of them in a walk of its own.
    # Returns how many entries that was: 0 if the next `step` are not alike.
    order = folio_order(page, memory)
    folio = page_folio(page, memory)
    last = page + end_of_equal(memory.ptes, slot, slot + end - page, 1) - slot
    folio_end = folio + (1 << order)
    if page > folio or last < folio_end:
        last = min(last, folio_end)  # of one folio
    else:
        last = folio + ((last - folio) >> order << order)
        last = end_of_same_flags(folio, last, memory)
        folio_end = last = end_of_equal(memory.lrugen.folio_gen, folio, last, 1 << order)
    if last - page < step:
        return 0
    dirty = memory.ptes[slot] & PTE_DIRTY != 0
    test_and_clear_young(memory.ptes, slot, slot + last - page)
    nr_times = min(last - page, 1 << order) // step
    for _ in range(min(nr_times, 2)):  # a third time changes nothing
        update_folio(folio, folio_end, dirty, memory)
    return last - page


@jit
def walk_young(page, slot, end, memory, machine, counts):
    # walk_pte_range() where there is something to promote.
    last = -1
    last_dirty = False
    nr_ptes = nr_young = nr_cont = 0
    while page < end:
        pte = memory.ptes[slot]
        nr = batch = 1
        if not pte & PTE_YOUNG:
            nr = batch = end_of_equal(memory.ptes, slot, slot + end - page, 1) - slot
        else:
            nr_young += 1
            if memory.lrugen.folio_gen[page_folio(page, memory)] != NO_GEN:
                folio, batch, dirty = promote(page, slot, end, memory, machine, counts)
                if folio != last:
                    walk_update_folio(last, last_dirty, memory, counts)
                    last, last_dirty = folio, False
                last_dirty = last_dirty or dirty
        nr_ptes += nr
        nr_cont += nr if pte & PTE_CONT else 0
        page += batch
        slot += batch
    walk_update_folio(last, last_dirty, memory, counts)
    counts[Count.GET_PTE_PFN] += nr_ptes
    counts[Count.GET_PFN_FOLIO] += nr_young
    counts[Count.CONTPTE_PTEP_GET] += nr_cont


@jit
def walk_young_small(page, slot, end, memory, counts):
    # The same where all folios are small. Every one that is promoted makes one more call.
    counts[Count.GET_PTE_PFN] += end - page
    nr_young = nr_promoted = 0
    while page < end:
        nr = 1
        if memory.ptes[slot] & PTE_YOUNG:
            if memory.lrugen.folio_gen[page] != NO_GEN:
                nr = promote_each(page, slot, end, 1, memory)
                nr_promoted += nr
            nr_young += nr
        page += nr
        slot += nr
    counts[Count.GET_PFN_FOLIO] += nr_young
    counts[Count.WALK_UPDATE_FOLIO] += nr_promoted + 1


@jit
def walk_pte_range(page, slot, end, memory, machine, counts):
    """Promote the folios of young PTEs from `page` on; one that is isolated keeps its bits."""
    nr_young, nr_listed = nr_promotable(page, slot, end, memory, machine)
    if nr_listed > 0:
        if machine.order == 0:
            walk_young_small(page, slot, end, memory, counts)
        else:
            walk_young(page, slot, end, memory, machine, counts)
        return
    nr_cont = nr_with(PTE_CONT, memory.ptes, slot, slot + end - page)
    counts[Count.GET_PTE_PFN] += end - page
    counts[Count.GET_PFN_FOLIO] += nr_young
    counts[Count.CONTPTE_PTEP_GET] += nr_cont
    walk_update_folio(-1, False, memory, counts)


class Limits(NamedTuple):
    """What windows stay within, one page table and one VMA: pages [first, last).

    The entry of page n is at n + shift.
    """

    first: int
    last: int
    shift: int


@jit
def window_end(page, limits):
    # Where the 64 PTEs around a page end: half of them lie before it, if there is room for them.
    half = MIN_LRU_BATCH // 2
    return min(max(page + half, limits.first + MIN_LRU_BATCH), limits.last)


@jit
def walk_last_entries(page, end, step, limits, memory, machine, counts):
    # Walks what the windows of the batches from `page` on have beyond the window before it and
    # beyond `end`: in each the last `step` entries, one by one or a folio's, in no contpte block.
    nr_seen = nr_promoted = 0
    last = window_end(end - step, limits)
    i = max(window_end(page - step, limits), end)
    while i < last:
        slot = i + limits.shift
        nr = 1
        if memory.ptes[slot] & PTE_YOUNG:
            if memory.lrugen.folio_gen[page_folio(i, memory)] == NO_GEN:
                # by all windows from here on
                nr_seen += (end - i + MIN_LRU_BATCH // 2 - 1) // step
            else:
                nr = promote_each(i, slot, last, step, memory)
                nr_promoted += nr // step
                if nr == 0:
                    nr = step - i % step
                    counts[Count.WALK_UPDATE_FOLIO] -= 1  # has been counted, as have the entries
                    counts[Count.GET_PTE_PFN] -= nr
                    walk_young(i, slot, i + nr, memory, machine, counts)
        i += nr
    counts[Count.GET_PTE_PFN] -= nr_promoted * (step - 1)
    counts[Count.TEST_AND_CLEAR_YOUNG_PTES] += nr_promoted if step > 1 else 0
    counts[Count.GET_PFN_FOLIO] += nr_seen + nr_promoted
    counts[Count.WALK_UPDATE_FOLIO] += nr_promoted


@jit
def nr_behind(page, end, stop):
    # How many entries of a run that ends at `end` a window has from `page` on: they are young still
    # when the kernel walks it.
    return max(min(end, stop) - page, 0)


@jit
def count_windows(page, end, step, limits, counts):
    # Counts the windows of the batches in [page, end) as if no entry behind `end` were young.
    nr_young = 0
    nr = (end - page) // step
    for i in range(nr):
        batch = page + i * step
        nr_young += nr_behind(batch + step, end, window_end(batch, limits))
    counts[Count.GET_PTE_PFN] += nr * min(MIN_LRU_BATCH, limits.last - limits.first)
    counts[Count.GET_PFN_FOLIO] += nr_young
    counts[Count.WALK_UPDATE_FOLIO] += nr


@jit
def walk_windows_each(page, end, step, limits, memory, machine, counts):
    # Walks the windows of the batches in [page, end) but the first. What a window shares with the
    # one before it has been walked: what is young there still is of isolated folios, only counted.
    ptes, shift = memory.ptes, limits.shift
    cont = ptes[page + shift] & PTE_CONT != 0
    stop = window_end(page, limits)
    for batch in range(page + step, end, step):
        old_stop, stop = stop, window_end(batch, limits)
        start = max(stop - MIN_LRU_BATCH, limits.first)
        counts[Count.GET_PFN_FOLIO] += nr_behind(batch + step, end, stop)
        if page <= start and stop <= end:  # nothing but the run itself
            counts[Count.GET_PTE_PFN] += stop - start
            counts[Count.CONTPTE_PTEP_GET] += (stop - start) * cont
            counts[Count.WALK_UPDATE_FOLIO] += 1
            continue
        fresh = max(old_stop, start)
        counts[Count.GET_PTE_PFN] += fresh - start
        counts[Count.GET_PFN_FOLIO] += nr_with(PTE_YOUNG, ptes, start + shift, fresh + shift)
        counts[Count.CONTPTE_PTEP_GET] += nr_with(PTE_CONT, ptes, start + shift, fresh + shift)
        walk_pte_range(fresh, fresh + shift, stop, memory, machine, counts)


@jit
def walk_windows(page, end, step, limits, memory, machine, counts):
    # Walks the window of each batch of `step` entries in [page, end), which were young until now.
    ptes, shift = memory.ptes, limits.shift
    stop = window_end(page, limits)
    start = max(stop - MIN_LRU_BATCH, limits.first)
    walk_pte_range(start, start + shift, stop, memory, machine, counts)
    counts[Count.GET_PFN_FOLIO] += nr_behind(page + step, end, stop)
    page += step
    if page < end and nr_with(PTE_YOUNG | PTE_CONT, ptes, start + shift, stop + shift) == 0:
        last_stop = window_end(end - step, limits)
        whole = machine.regular and step == 1 << machine.order <= MIN_LRU_BATCH // 2
        no_blocks = nr_with(PTE_CONT, ptes, stop + shift, last_stop + shift) == 0
        if no_blocks and (step == 1 or whole):
            count_windows(page, end, step, limits, counts)
            walk_last_entries(page, end, step, limits, memory, machine, counts)
            return
    walk_windows_each(page - step, end, step, limits, memory, machine, counts)


@jit
def lru_gen_look_around(vma, page, end, step, memory, machine, counts):
    """Clear the young bits of [page, end), entries of isolated folios, `step` at a time.

    Where one was set, the 64 PTEs around are walked. Returns whether there was one.
    """
    ptes = memory.ptes
    young = False
    while page < end:
        slot = pte_slot(vma, page, memory, machine)
        shift = slot - page
        run_end = pmd_addr_end(vma, page, end, memory, machine)
        nr_young = nr_with(PTE_YOUNG, ptes, slot, run_end + shift)
        if 0 < nr_young < run_end - page:
            run_end = page + step  # not alike: one batch
            nr_young = nr_with(PTE_YOUNG, ptes, slot, run_end + shift)
        if nr_young > 0:
            young = True
            test_and_clear_young(ptes, slot, run_end + shift)
            table_page = page - (slot & ((1 << machine.arch.pmd_order) - 1))
            first = max(table_page, memory.vmas[vma, VMA_START])
            last = pmd_addr_end(vma, page, memory.vmas[vma, VMA_END], memory, machine)
            if last - first > 1:
                limits = Limits(first, last, shift)
                walk_windows(page, run_end, step, limits, memory, machine, counts)
        page = run_end
    return young


@jit_rare
def walk_mm(vma, memory, machine, counts):
    """Promote the folios of every young entry of one VMA."""
    page = memory.vmas[vma, VMA_START]
    vma_end = memory.vmas[vma, VMA_END]
    nr_read = counts[Count.GET_PTE_PFN]
    while page < vma_end:
        end = pmd_addr_end(vma, page, vma_end, memory, machine)
        slot = pte_slot(vma, page, memory, machine)
        if not memory.ptes[slot] & PMD_LEAF:
            walk_pte_range(page, slot, end, memory, machine, counts)
        elif (
            memory.lrugen.folio_gen[page] != NO_GEN
            and test_and_clear_young(memory.ptes, slot, slot + 1) > 0
        ):
            update_folio(page, end, memory.ptes[slot] & PTE_DIRTY != 0, memory)
        page = end
    counts[Count.PTES_AGED] += counts[Count.GET_PTE_PFN] - nr_read
