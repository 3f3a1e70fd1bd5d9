# SPDX-License-Identifier: GPL-2.0-only
"""lru_gen and page tables: what a young PTE, and its neighbours, tell of folios.

Hold this file beside lru_gen_look_around() and walk_pte_range() in mm/vmscan.c of Linux 7.2.
"""

import numpy as np

from sim.jit import jit, jit_rare
from sim.pgtable import (
    folio_pte_batch_flags,
    pmd_addr_end,
    pte_slot,
    test_and_clear_young,
    test_and_clear_young_ptes,
)
from sim.state import (
    DIRTY,
    MAX_SEQ,
    NO_GEN,
    NR_PROMOTED,
    ORDER_SHIFT,
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
def page_folio(page, memory):
    """Return the first page of a page's folio, which is aligned to its size."""
    return page - (page & ((1 << (memory.folio_flags[page] >> ORDER_SHIFT)) - 1))


@jit
def update_folio(folio, dirty, memory):
    # Promotes a folio in place: the list it is on learns of it when it is scanned.
    lrugen = memory.lrugen
    flags = memory.folio_flags[folio] | (DIRTY if dirty else 0)
    if not flags & (REFERENCED | WORKINGSET):
        memory.folio_flags[folio] = flags | REFERENCED
        return
    gen = lrugen.seq[MAX_SEQ] % MAX_NR_GENS
    if lrugen.folio_gen[folio] != gen:
        lrugen.seq[NR_PROMOTED] += 1
    lrugen.folio_gen[folio] = gen
    lrugen.folio_refs[folio] = 0
    memory.folio_flags[folio] = (flags & (0xFFFF ^ REFERENCED)) | WORKINGSET


@jit
def walk_update_folio(folio, dirty, memory, counts):
    """Promote the folio whose entries a walk has just left behind, if there was one."""
    counts[Count.WALK_UPDATE_FOLIO] += 1
    if folio >= 0:
        update_folio(folio, dirty, memory)


@jit
def nr_with(flag, ptes, slot, end):
    # How many of the entries [slot, end) have a flag, in a loop that compiles to wide additions.
    nr = 0
    for i in range(np.uint64(slot), np.uint64(end)):
        nr += ptes[i] & flag != 0
    return nr


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
    folio_end = folio + (1 << (memory.folio_flags[folio] >> ORDER_SHIFT))
    batch = min(end, folio_end) - page
    if folio_end - folio > 1:
        batch = folio_pte_batch_flags(slot, batch, 0, memory, machine, counts)
    dirty = nr_with(PTE_DIRTY, memory.ptes, slot, slot + batch) > 0
    test_and_clear_young_ptes(slot, slot + batch, memory, machine, counts)
    return folio, batch, dirty


@jit
def walk_young(page, slot, end, memory, machine, counts):
    # walk_pte_range() where there is something to promote; returns the calls of get_pte_pfn().
    last = -1
    last_dirty = False
    nr_calls = 0
    while page < end:
        nr_calls += 1
        pte = memory.ptes[slot]
        counts[Count.CONTPTE_PTEP_GET] += (pte & PTE_CONT) != 0
        batch = 1
        if pte & PTE_YOUNG:
            counts[Count.GET_PFN_FOLIO] += 1
            if memory.lrugen.folio_gen[page_folio(page, memory)] != NO_GEN:
                folio, batch, dirty = promote(page, slot, end, memory, machine, counts)
                if folio != last:
                    walk_update_folio(last, last_dirty, memory, counts)
                    last, last_dirty = folio, False
                last_dirty = last_dirty or dirty
        page += batch
        slot += batch
    walk_update_folio(last, last_dirty, memory, counts)
    return nr_calls


@jit
def walk_pte_range(page, slot, end, memory, machine, counts):
    """Promote the folios of young PTEs from `page` on; one that is isolated keeps its bits."""
    nr_young, nr_listed = nr_promotable(page, slot, end, memory, machine)
    if nr_listed > 0:
        counts[Count.GET_PTE_PFN] += walk_young(page, slot, end, memory, machine, counts)
        return
    nr_cont = nr_with(PTE_CONT, memory.ptes, slot, slot + end - page)
    counts[Count.GET_PTE_PFN] += end - page
    counts[Count.GET_PFN_FOLIO] += nr_young
    counts[Count.CONTPTE_PTEP_GET] += nr_cont
    walk_update_folio(-1, False, memory, counts)


@jit
def lru_gen_look_around(vma, page, nr_ptes, memory, machine, counts):
    """Clear the young bits of a batch; if one was set, look at the 64 PTEs around it."""
    slot = pte_slot(vma, page, memory, machine)
    counts[Count.LRU_GEN_LOOK_AROUND] += 1
    if not test_and_clear_young_ptes(slot, slot + nr_ptes, memory, machine, counts):
        return False
    # One page table and one VMA: the window stays within them.
    vma_end = memory.vmas[vma, VMA_END]
    last = pmd_addr_end(vma, page, vma_end, memory, machine)
    table_page = page - (slot & ((1 << machine.arch.pmd_order) - 1))
    first = max(table_page, memory.vmas[vma, VMA_START])
    if last - first == 1:
        return True  # no neighbours
    if last - first > MIN_LRU_BATCH:
        if page - first < MIN_LRU_BATCH // 2:
            last = first + MIN_LRU_BATCH
        elif last - page < MIN_LRU_BATCH // 2:
            first = last - MIN_LRU_BATCH
        else:
            first = page - MIN_LRU_BATCH // 2
            last = page + MIN_LRU_BATCH // 2
    walk_pte_range(first, slot - (page - first), last, memory, machine, counts)
    return True


@jit
def lru_gen_look_around_each(vma, page, nr_ptes, memory, machine, counts):
    """Do the same for one PTE a call: every young one opens a window of its own."""
    young = False
    for i in range(page, page + nr_ptes):
        if lru_gen_look_around(vma, i, 1, memory, machine, counts):
            young = True
    return young


@jit_rare
def walk_mm(vma, memory, machine, counts):
    """Promote the folios of every young entry of one VMA."""
    page = memory.vmas[vma, VMA_START]
    vma_end = memory.vmas[vma, VMA_END]
    while page < vma_end:
        end = pmd_addr_end(vma, page, vma_end, memory, machine)
        slot = pte_slot(vma, page, memory, machine)
        if not memory.ptes[slot] & PMD_LEAF:
            walk_pte_range(page, slot, end, memory, machine, counts)
        elif (
            memory.lrugen.folio_gen[page] != NO_GEN
            and test_and_clear_young(memory.ptes, slot, slot + 1) > 0
        ):
            update_folio(page, memory.ptes[slot] & PTE_DIRTY != 0, memory)
        page = end
