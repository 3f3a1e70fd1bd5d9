# SPDX-License-Identifier: GPL-2.0-only
"""The reverse map, first half: whether a folio was used, by its mappings.

Hold this file beside mm/rmap.c of Linux 7.2: same names, callees first. Functions count their own
calls and what they do to page tables; nothing here knows what a call costs. With
NUMBA_DISABLE_JIT=1 it runs as plain Python. Where a kernel takes PTEs one at a time, those that
would take the same path are walked once and counted each.
"""

from sim.folios import folio_order
from sim.jit import jit, jit_rare
from sim.look_around import lru_gen_look_around
from sim.page_vma_mapped import NOT_FOUND, folio_vma_walk, page_vma_mapped_walk
from sim.pgtable import (
    clear_flush_young_ptes,
    contpte_ptep_clear_flush_young,
    folio_pte_batch_flags,
    nr_gathers,
    pmd_addr_end,
    pmdp_clear_flush_young,
    pte_slot,
    ptep_clear_flush_young,
)
from sim.state import (
    LOCKED,
    MLOCKED,
    PMD_LEAF,
    PTE_CONT,
    VMA_END,
    VMA_FLAGS,
    VMA_START,
    Count,
)


@jit
def folio_mapcount(folio, memory, machine):
    """Return how often the pages of a folio are mapped; it is known of irregular worlds alone."""
    if machine.regular:
        return 1
    return memory.ledger.folio_mapcounts[folio]


@jit
def maps_some_of(vma, folio, nr_pages, memory):
    # Whether the interval tree of the mapping's VMAs has this one for the folio.
    first, end = memory.vmas[vma, VMA_START], memory.vmas[vma, VMA_END]
    return first < folio + nr_pages and folio < end


@jit
def mlock_vma_folio(folio, memory, counts):
    """Mark a folio that an mlocked VMA maps, which keeps it from reclaim."""
    memory.folio_flags[folio] |= MLOCKED
    counts[Count.MLOCK_VMA_FOLIO] += 1


@jit
def clear_young_of_batch(pvmw, page, slot, batch, memory, machine, counts):
    # The middle of folio_referenced_one(), for a batch of `batch` PTEs; returns if one was young.
    span = pvmw.nr * batch
    batched = machine.kernel.batched_references and batch > 1
    cont = memory.ptes[slot] & PTE_CONT != 0
    if machine.lru_gen:
        nr_calls = pvmw.nr if batched else span
        counts[Count.LRU_GEN_LOOK_AROUND] += nr_calls
        counts[Count.TEST_AND_CLEAR_YOUNG_PTES] += nr_calls if batched or cont else 0
        # One PTE of a contpte block stands for all of it.
        step = batch if batched else 1 << machine.arch.cont_order * cont
        return lru_gen_look_around(pvmw.vma, page, page + span, step, memory, machine, counts)
    if batched:
        return clear_flush_young_ptes(slot, batch, pvmw.nr, memory, machine, counts)
    if cont:
        return contpte_ptep_clear_flush_young(slot, slot + span, memory, machine, counts)
    return ptep_clear_flush_young(slot, slot + span, memory, machine, counts)


@jit
def referenced_batch(pvmw, page, slot, memory, machine, counts):
    # How many PTEs from `page` on are alike, and the reads and steps that finding out takes.
    nr = pvmw.nr
    batched = machine.kernel.batched_references and pvmw.nr_pages > 1
    gathers = counts[Count.CONTPTE_PTEP_GET]
    if machine.regular:
        batch = pvmw.end - page
        if batched and memory.ptes[slot] & PTE_CONT:
            counts[Count.CONTPTE_PTEP_GET] += nr * ((batch - 1) >> machine.arch.cont_order)
    else:
        most = pmd_addr_end(pvmw.vma, page, pvmw.end, memory, machine) - page
        batch = folio_pte_batch_flags(slot, most, 0, memory, machine, counts)
    cont = (memory.ptes[slot] & PTE_CONT) != 0
    if batched:
        counts[Count.FOLIO_PTE_BATCH] += nr
        counts[Count.CONTPTE_PTEP_GET] += nr * cont  # ptep_get() of the first
        return batch
    # One walk step each: the step onto it, and check_pte().
    counts[Count.CONTPTE_PTEP_GET] = gathers + nr * cont * 2 * (batch - 1)
    counts[Count.PAGE_VMA_MAPPED_WALK] += nr * (batch - 1)
    return batch


@jit_rare
def mlocked_folio_referenced_one(pvmw, memory, machine, counts):
    """Meet a folio in an mlocked VMA, which never says that it was used.

    Returns how many of its mappings were met, and if the folio has been mlocked, which settles it.
    """
    ptes = 0
    crossed = False
    page = pvmw.start
    while True:
        page, changed = page_vma_mapped_walk(pvmw, page, ptes > 0, memory, machine, counts)
        crossed = crossed or changed
        if page == NOT_FOUND:
            return ptes, False
        ptes += 1
        slot = pte_slot(pvmw.vma, page, memory, machine)
        pmd_leaf = memory.ptes[slot] & PMD_LEAF
        # Only what is mapped whole, under one page-table lock, is mlocked.
        if (pmd_leaf or ptes == pvmw.nr_pages) and not crossed:
            mlock_vma_folio(pvmw.folio, memory, counts)
            return ptes, True


@jit
def folio_referenced_one(pvmw, memory, machine, counts):
    """Clear the young bits of a folio in one VMA.

    Returns if one was set, and how many of the folio's mappings were met.
    """
    referenced = False
    ptes = 0
    begun = False
    page = pvmw.start
    while True:
        page, _ = page_vma_mapped_walk(pvmw, page, begun, memory, machine, counts)
        begun = True
        if page == NOT_FOUND:
            return referenced, ptes
        slot = pte_slot(pvmw.vma, page, memory, machine)
        if memory.ptes[slot] & PMD_LEAF:
            # One PMD is not the folio's number of pages, so the walk is asked once more.
            counts[Count.PAGE_VMA_MAPPED_WALK] += 1
            return pmdp_clear_flush_young(slot, memory, machine, counts), 1
        batch = referenced_batch(pvmw, page, slot, memory, machine, counts)
        if clear_young_of_batch(pvmw, page, slot, batch, memory, machine, counts):
            referenced = True
        ptes += batch
        if ptes == pvmw.nr_pages:
            return referenced, ptes
        page += batch - 1


@jit
def folio_referenced(folio, nr, memory, machine, counts):
    """Return through how many VMAs a folio was used since the last look, and if one has it mlocked.

    The rmap walk ends where all its mappings have been met. `nr` neighbours are alike.
    """
    nr_referenced = 0
    mapcount = folio_mapcount(folio, memory, machine)
    counts[Count.FOLIO_REFERENCED] += nr
    if mapcount == 0:
        return 0, False
    counts[Count.RMAP_WALK] += nr
    for vma in range(len(memory.vmas)):
        if not maps_some_of(vma, folio, 1 << folio_order(folio, memory), memory):
            continue
        pvmw = folio_vma_walk(vma, folio, nr, 0, memory)
        counts[Count.FOLIO_REFERENCED_ONE] += nr
        gathers = nr_gathers(counts)
        referenced = mlocked = False
        if memory.vmas[vma, VMA_FLAGS] & LOCKED:
            ptes, mlocked = mlocked_folio_referenced_one(pvmw, memory, machine, counts)
        else:
            referenced, ptes = folio_referenced_one(pvmw, memory, machine, counts)
        counts[Count.GATHERS_CHECKING] += nr_gathers(counts) - gathers
        if mlocked:
            return nr_referenced, True
        nr_referenced += referenced
        mapcount -= 0 if machine.regular else ptes
        if mapcount == 0:
            break
    return nr_referenced, False
