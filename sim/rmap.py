# SPDX-License-Identifier: GPL-2.0-only
"""The reverse map: what reclaim does to a folio's mappings.

Hold this file beside mm/rmap.c of Linux 7.2: same names, callees first. Functions count their own
calls and what they do to page tables; nothing here knows what a call costs. With
NUMBA_DISABLE_JIT=1 it runs as plain Python.
"""

import numpy as np

from sim.jit import jit
from sim.look_around import lru_gen_look_around, lru_gen_look_around_each
from sim.pgtable import (
    clear_flush_young_ptes,
    contpte_ptep_clear_flush_young,
    pmdp_clear_flush_young,
    ptep_clear_flush_young,
)
from sim.state import PTE_CONT, PTE_PRESENT, Count


@jit
def folio_referenced_one(ptes, start, end, memory, machine, counts):
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
        if machine.lru_gen:
            return lru_gen_look_around(ptes, start, end, memory, machine, counts)
        return clear_flush_young_ptes(ptes, start, end, machine, counts)
    counts[Count.PAGE_VMA_MAPPED_WALK] += nr_pages
    if cont:
        # check_pte() of every PTE, and the step of the walk onto each PTE but the first.
        counts[Count.CONTPTE_PTEP_GET] += 2 * nr_pages - 1
    if machine.lru_gen:
        return lru_gen_look_around_each(ptes, start, end, memory, machine, counts)
    if cont:
        return contpte_ptep_clear_flush_young(ptes, start, end, machine, counts)
    return ptep_clear_flush_young(ptes, start, end, machine, counts)


@jit
def folio_referenced(folio, memory, machine, counts):
    """Return the number of VMAs through which the folio was used since the last look."""
    start = folio * memory.nr_pages
    nr_referenced = 0
    for vma in range(len(memory.ptes)):
        ptes, end = memory.ptes[vma], start + memory.nr_pages
        if folio_referenced_one(ptes, start, end, memory, machine, counts):
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
