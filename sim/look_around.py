# SPDX-License-Identifier: GPL-2.0-only
"""lru_gen and page tables: what a young PTE, and its neighbours, tell of folios.

Hold this file beside lru_gen_look_around() and walk_pte_range() in mm/vmscan.c of Linux 7.2.
"""

from sim.jit import jit
from sim.pgtable import test_and_clear_young, test_and_clear_young_ptes
from sim.state import (
    ALL_FLAGS,
    MAX_SEQ,
    NO_GEN,
    NR_PROMOTED,
    PTE_CONT,
    PTE_YOUNG,
    REFERENCED,
    WORKINGSET,
    Count,
)

# include/linux/mmzone.h; arch/*/include/asm/pgtable*.h for 4 KiB pages
MAX_NR_GENS = 4
MIN_LRU_BATCH = 64
PTRS_PER_PTE = 512


@jit
def walk_update_folio(folio, memory):
    """Promote a folio in place: the list it is on learns of it when it is scanned."""
    lrugen = memory.lrugen
    flags = memory.folio_flags[folio]
    if not flags & (REFERENCED | WORKINGSET):
        memory.folio_flags[folio] = flags | REFERENCED
        return
    gen = lrugen.seq[MAX_SEQ] % MAX_NR_GENS
    if lrugen.folio_gen[folio] != gen:
        lrugen.seq[NR_PROMOTED] += 1
    lrugen.folio_gen[folio] = gen
    lrugen.folio_refs[folio] = 0
    memory.folio_flags[folio] = (flags & (ALL_FLAGS ^ REFERENCED)) | WORKINGSET


@jit
def walk_pte_range(ptes, start, end, memory, machine, counts):
    """Promote the folios of young PTEs; one that is isolated keeps its young bits."""
    last = -1
    page = start
    while page < end:
        counts[Count.GET_PTE_PFN] += 1
        counts[Count.CONTPTE_PTEP_GET] += (ptes[page] & PTE_CONT) != 0
        if not ptes[page] & PTE_YOUNG:
            page += 1
            continue
        counts[Count.GET_PFN_FOLIO] += 1
        folio = page // memory.nr_pages
        if memory.lrugen.folio_gen[folio] == NO_GEN:
            page += 1
            continue
        batch_end = min(end, (folio + 1) * memory.nr_pages)
        if ptes[page] & PTE_CONT:  # folio_pte_batch() reads on, a block a step
            counts[Count.CONTPTE_PTEP_GET] += (batch_end - page - 1) // machine.arch.cont_ptes
        test_and_clear_young_ptes(ptes, page, batch_end, machine, counts)
        if folio != last:
            walk_update_folio(folio, memory)
            counts[Count.WALK_UPDATE_FOLIO] += 1
            last = folio
        page = batch_end
    counts[Count.WALK_UPDATE_FOLIO] += 1  # of the last folio; the first call had none yet


@jit
def lru_gen_look_around(ptes, start, end, memory, machine, counts):
    """Clear the young bits of [start, end); if one was set, look at the 64 PTEs around it."""
    counts[Count.LRU_GEN_LOOK_AROUND] += 1
    if not test_and_clear_young_ptes(ptes, start, end, machine, counts):
        return False
    # One page table: the window stays within it.
    first = start - start % PTRS_PER_PTE
    last = min(first + PTRS_PER_PTE, len(ptes))
    if last - first == 1:
        return True  # no neighbours
    if last - first > MIN_LRU_BATCH:
        if start - first < MIN_LRU_BATCH // 2:
            last = first + MIN_LRU_BATCH
        elif last - start < MIN_LRU_BATCH // 2:
            first = last - MIN_LRU_BATCH
        else:
            first = start - MIN_LRU_BATCH // 2
            last = start + MIN_LRU_BATCH // 2
    walk_pte_range(ptes, first, last, memory, machine, counts)
    return True


@jit
def lru_gen_look_around_each(ptes, start, end, memory, machine, counts):
    """Do the same for one PTE a call: every young one opens a window of its own."""
    young = False
    for page in range(start, end):
        if lru_gen_look_around(ptes, page, page + 1, memory, machine, counts):
            young = True
    return young


@jit
def walk_mm(ptes, memory, machine, counts):
    """Promote the folios of every young entry of one address space."""
    if not machine.pmd_mapped:
        for start in range(0, len(ptes), PTRS_PER_PTE):
            end = min(start + PTRS_PER_PTE, len(ptes))
            walk_pte_range(ptes, start, end, memory, machine, counts)
        return
    for folio in range(len(memory.folio_flags)):
        slot = folio * memory.nr_pages
        on_list = memory.lrugen.folio_gen[folio] != NO_GEN
        if on_list and test_and_clear_young(ptes, slot, slot + 1) > 0:
            walk_update_folio(folio, memory)
