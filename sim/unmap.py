# SPDX-License-Identifier: GPL-2.0-only
"""The reverse map, second half: a folio's mappings removed.

Hold this file beside try_to_unmap_one() in mm/rmap.c of Linux 7.2, and sim/rmap.py for how it is
written.
"""

from sim.folios import folio_order
from sim.huge_memory import folio_mark_dirty, split_huge_pmd_locked, unmap_huge_pmd_locked
from sim.jit import jit, jit_rare
from sim.page_vma_mapped import (
    NOT_FOUND,
    PVMW_SYNC,
    TTU_BATCH_FLUSH,
    TTU_HWPOISON,
    TTU_IGNORE_MLOCK,
    folio_vma_walk,
    page_vma_mapped_walk,
)
from sim.pgtable import (
    contpte_unfold,
    folio_pte_batch_flags,
    get_and_clear_ptes,
    nr_gathers,
    pmd_addr_end,
    pte_slot,
    read_entry,
    same_flags,
    unmap_respects,
)
from sim.rmap import maps_some_of, mlock_vma_folio
from sim.state import (
    ALL_PTE_FLAGS,
    DIRTY,
    EXCLUSIVE,
    FLUSH_BATCHED,
    FLUSH_REQUIRED,
    LOCKED,
    PARTIALLY_MAPPED,
    PINNED,
    PMD_LEAF,
    PTE_CONT,
    PTE_DIRTY,
    PTE_SOFT_DIRTY,
    PTE_SWAP,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_YOUNG,
    SWAPBACKED,
    SWAPCACHE,
    UFFD_WP,
    VMA_FLAGS,
    VMA_PROCESS,
    WRITABLE,
    Count,
)


@jit
def may_batch(pvmw, memory, machine):
    # Whether the kernel takes folios of this kind in batches.
    flags, kernel = memory.folio_flags[pvmw.folio], machine.kernel
    if not machine.anon:
        return kernel.batched_unmap
    if not flags & SWAPBACKED:
        return kernel.batched_lazyfree
    # Mapped by one process, so that no other refers to its swap slots.
    once = machine.regular or memory.ledger.folio_mapcounts[pvmw.folio] == pvmw.nr_pages
    return kernel.batched_anon and flags & EXCLUSIVE != 0 and once


@jit
def folio_unmap_pte_batch(pvmw, page, slot, memory, machine, counts):
    """Return how many PTEs from `page` on may be removed in one go."""
    kernel = machine.kernel
    if pvmw.nr_pages == 1 or pvmw.flags & TTU_HWPOISON:
        return 1
    if kernel.whole_folios_only and kernel.batched_lazyfree:
        read_entry(slot, False, pvmw.nr, memory, counts)  # whatever kind of folio it is
    if not may_batch(pvmw, memory, machine):
        return 1
    if kernel.refuses_uffd_wp and memory.vmas[pvmw.vma, VMA_FLAGS] & UFFD_WP:
        return 1
    if machine.regular:
        if memory.ptes[slot] & PTE_CONT:
            blocks = (pvmw.nr_pages - 1) >> machine.arch.cont_order
            counts[Count.CONTPTE_PTEP_GET] += pvmw.nr * blocks
        return pvmw.nr_pages
    most = pvmw.folio + pvmw.nr_pages - page
    if kernel.stops_at_page_table:
        most = pmd_addr_end(pvmw.vma, page, pvmw.end, memory, machine) - page
    if kernel.whole_folios_only and page > pvmw.folio:
        return 1
    batch = folio_pte_batch_flags(slot, most, unmap_respects(kernel), memory, machine, counts)
    return 1 if kernel.whole_folios_only and batch < pvmw.nr_pages else batch


@jit
def removed_alike(pvmw, page, slot, memory, machine):
    # How many PTEs that are removed one at a time would take the same path from here on.
    if machine.regular:
        return pvmw.end - page
    if machine.anon or memory.ptes[slot] & PTE_CONT:
        return 1  # where one of them may end it all, or changes its neighbours
    last = pmd_addr_end(pvmw.vma, page, pvmw.end, memory, machine)
    return same_flags(memory.ptes, slot, slot + last - page, ALL_PTE_FLAGS ^ PTE_YOUNG)


@jit
def set_tlb_ubc_flush_pending(pte, calls, memory, counts):
    """Note that entries have gone which other CPUs may still have cached."""
    memory.tlb_ubc[FLUSH_REQUIRED] = 1
    memory.tlb_ubc[FLUSH_BATCHED] = 1
    if pte & PTE_DIRTY:
        memory.tlb_ubc[WRITABLE] = 1
    counts[Count.SET_TLB_UBC_FLUSH_PENDING] += calls


@jit
def flush_or_defer(pvmw, pte, calls, memory, machine, counts):
    # should_defer_flush(), and what follows from it.
    if pvmw.flags & TTU_BATCH_FLUSH and machine.defers_flush:
        set_tlb_ubc_flush_pending(pte, calls, memory, counts)
    else:
        counts[Count.FLUSH_TLB_MM_RANGE] += calls


@jit
def remove_entries(pvmw, slot, batch, alike, memory, machine, counts):
    # Removes the entries of pvmw.nr folios: `batch` in a call each, or alike ones a call each.
    nr = pvmw.nr
    if memory.ptes[slot] & PTE_CONT:
        counts[Count.CONTPTE_PTEP_GET] += nr  # ptep_get() of the first
        if batch == 1:
            # The first PTE of a block is read by the step onto it (but for the very first), by
            # check_pte() and by ptep_get(); clearing it unfolds the block: the others are plain.
            nr_blocks = max(alike >> machine.arch.cont_order, 1)
            reads = 4 if machine.kernel.whole_folios_only and machine.kernel.batched_lazyfree else 3
            counts[Count.CONTPTE_PTEP_GET] += nr * reads * (nr_blocks - 1)
            counts[Count.CONTPTE_TRY_UNFOLD] += nr * nr_blocks
            if alike == 1:
                contpte_unfold(slot, memory, machine)
    if batch > 1 and machine.arch.range_helpers:
        counts[Count.CONTPTE_GET_AND_CLEAR_FULL_PTES] += nr
    counts[Count.PAGE_VMA_MAPPED_WALK] += nr * (alike - 1) if batch == 1 else 0
    span = nr * max(batch, alike)
    counts[Count.PTES_CLEARED] += span
    pte = memory.ptes[slot]  # of entries that go alone, as the first is the others are
    merged = get_and_clear_ptes(slot, span, memory, machine)
    if batch > 1:
        pte = merged
    flush_or_defer(pvmw, pte, nr * alike if batch == 1 else nr, memory, machine, counts)
    return pte


@jit_rare
def pte_install_uffd_wp_if_needed(pvmw, slot, nr_ptes, pte, memory, machine, counts):
    """Keep userfaultfd's write-protection of a file's page in a marker, one a call."""
    if machine.anon or not memory.vmas[pvmw.vma, VMA_FLAGS] & UFFD_WP or not pte & PTE_UFFD_WP:
        return
    for i in range(slot, slot + nr_ptes):
        memory.ptes[i] = PTE_UFFD_WP
    counts[Count.PTE_MARKERS] += nr_ptes


@jit
def deferred_split_folio(folio, nr, memory, counts):
    """Queue an anonymous folio of which some pages are mapped and some no longer.

    Of order 1, and in the swap cache, it is not queued, and will be asked for again.
    """
    flags = memory.folio_flags[folio]
    counts[Count.DEFERRED_SPLIT_FOLIO] += nr
    if folio_order(folio, memory) > 1 and not flags & SWAPCACHE:
        memory.folio_flags[folio] = flags | PARTIALLY_MAPPED


@jit_rare
def book_removal(folio, page, nr_ptes, calls, memory, machine, counts):
    # __folio_remove_rmap() of an irregular world: mapcounts, and what follows from them.
    ledger = memory.ledger
    nr_unmapped = 0
    for i in range(page, page + nr_ptes):
        ledger.mapcounts[i] -= 1
        nr_unmapped += ledger.mapcounts[i] == 0
    ledger.folio_mapcounts[folio] -= nr_ptes
    ledger.refs[folio] -= nr_ptes
    if nr_unmapped > 0:
        counts[Count.MAPPED_STAT_UPDATES] += nr_unmapped if calls == nr_ptes else 1
        still = ledger.folio_mapcounts[folio] > 0
        if machine.anon and still and not memory.folio_flags[folio] & PARTIALLY_MAPPED:
            deferred_split_folio(folio, 1, memory, counts)


@jit
def folio_remove_rmap_ptes(pvmw, page, nr_ptes, calls, memory, machine, counts):
    """Take back what mapping these pages had booked, and its references."""
    counts[Count.FOLIO_REMOVE_RMAP_PTES] += calls
    counts[Count.REFERENCES_PUT] += nr_ptes
    if not machine.regular:
        book_removal(pvmw.folio, page, nr_ptes, calls, memory, machine, counts)
    elif pvmw.vma == len(memory.vmas) - 1:
        # NR_FILE_MAPPED falls where a page loses its last mapping.
        counts[Count.MAPPED_STAT_UPDATES] += calls
        if machine.anon and calls > pvmw.nr:
            # Each removal but the last asks, until the folio is queued.
            asks = calls - pvmw.nr
            queued = not memory.folio_flags[pvmw.folio] & SWAPCACHE
            deferred_split_folio(pvmw.folio, pvmw.nr if queued else asks, memory, counts)


@jit
def set_ptes(page, slot, nr_ptes, pte, memory, machine, counts):
    """Put mappings back: all of them as the first was, whole blocks contiguous."""
    block = 1 << machine.arch.cont_order
    aligned = block > 1 and (slot - page) % block == 0  # in memory as in the page table
    for i in range(slot, slot + nr_ptes):
        first = i - i % block
        whole = aligned and slot <= first and first + block <= slot + nr_ptes
        memory.ptes[i] = pte & (ALL_PTE_FLAGS ^ PTE_CONT) | (PTE_CONT if whole else 0)
    counts[Count.PTES_CLEARED] -= nr_ptes
    counts[Count.SET_PTES] += 1


@jit_rare
def set_swap_ptes(page, slot, nr_ptes, pte, memory, counts):
    # Every page has a swap slot of its own, the slots of a folio follow one another.
    kept = pte & (PTE_SOFT_DIRTY | PTE_UFFD_WP)
    for i in range(slot, slot + nr_ptes):
        memory.ptes[i] = PTE_SWAP | kept
    if len(memory.ledger.swap_map) > 0:
        for i in range(page, page + nr_ptes):
            memory.ledger.swap_map[i] += 1
    counts[Count.SWAP_PTES] += nr_ptes


@jit_rare
def discard_lazyfree(folio, page, slot, nr_ptes, pte, memory, machine, counts):
    # MADV_FREE's pages go without a trace, unless written or referred to since: then the mappings
    # come back. Returns if they went.
    flags = memory.folio_flags[folio]
    if flags & DIRTY:
        set_ptes(page, slot, nr_ptes, pte, memory, machine, counts)
        memory.folio_flags[folio] = flags | SWAPBACKED
        return False
    if flags & PINNED:
        set_ptes(page, slot, nr_ptes, pte, memory, machine, counts)
        memory.folio_flags[folio] = flags | (SWAPBACKED * machine.kernel.pinned_is_swapbacked)
        return False
    return True


@jit
def unmap_ptes(pvmw, page, slot, memory, machine, counts):
    """Remove the PTEs from `page` on, the body of try_to_unmap_one().

    Returns how many it was, how many of them one call took, and if the folio may go on.
    """
    batch = folio_unmap_pte_batch(pvmw, page, slot, memory, machine, counts)
    alike = removed_alike(pvmw, page, slot, memory, machine) if batch == 1 else 1
    pte = remove_entries(pvmw, slot, batch, alike, memory, machine, counts)
    nr_ptes = max(batch, alike)
    calls = pvmw.nr * alike if batch == 1 else pvmw.nr
    if pte & PTE_DIRTY:
        folio_mark_dirty(pvmw.folio, calls, memory, machine, counts)
    rss = memory.ledger.rss[memory.vmas[pvmw.vma, VMA_PROCESS]]
    if not machine.regular:
        pte_install_uffd_wp_if_needed(
            pvmw, slot, nr_ptes if batch == 1 else 1, pte, memory, machine, counts
        )
    if pvmw.flags & TTU_HWPOISON:
        memory.ptes[slot] = PTE_SWAP  # make_hwpoison_entry()
    elif machine.anon and not memory.folio_flags[pvmw.folio] & SWAPBACKED:
        if not discard_lazyfree(pvmw.folio, page, slot, nr_ptes, pte, memory, machine, counts):
            return nr_ptes, batch, False
    elif machine.anon:
        counts[Count.FOLIO_DUP_SWAP] += calls
        counts[Count.MM_TRACE_RSS_STAT] += calls
        rss[1] += pvmw.nr * nr_ptes
        set_swap_ptes(page, slot, pvmw.nr * nr_ptes, pte, memory, counts)
    rss[0] -= pvmw.nr * nr_ptes
    counts[Count.MM_TRACE_RSS_STAT] += calls
    folio_remove_rmap_ptes(pvmw, page, pvmw.nr * nr_ptes, calls, memory, machine, counts)
    return nr_ptes, batch, True


@jit_rare
def meet_mlocked(pvmw, memory, machine, counts):
    # try_to_unmap_one() of a folio in an mlocked VMA: it may not go, and is mlocked if it is
    # mapped whole.
    ptes = 0
    page = pvmw.start
    crossed = False
    while True:
        page, changed = page_vma_mapped_walk(pvmw, page, ptes > 0, memory, machine, counts)
        crossed = crossed or changed
        if page == NOT_FOUND:
            return ptes == 0
        ptes += 1
        slot = pte_slot(pvmw.vma, page, memory, machine)
        if memory.ptes[slot] & PMD_LEAF or ptes == pvmw.nr_pages:
            if not crossed:
                mlock_vma_folio(pvmw.folio, memory, counts)
            return False


@jit
def try_to_unmap_one(pvmw, memory, machine, counts):
    """Remove a folio from one address space; return whether it may go on being unmapped."""
    counts[Count.TRY_TO_UNMAP_ONE] += pvmw.nr
    if memory.vmas[pvmw.vma, VMA_FLAGS] & LOCKED and not pvmw.flags & TTU_IGNORE_MLOCK:
        return meet_mlocked(pvmw, memory, machine, counts)
    page = pvmw.start
    begun = False
    while True:
        page, _ = page_vma_mapped_walk(pvmw, page, begun, memory, machine, counts)
        if page == NOT_FOUND:
            return True
        slot = pte_slot(pvmw.vma, page, memory, machine)
        if memory.ptes[slot] & PMD_LEAF:
            if machine.anon and not memory.folio_flags[pvmw.folio] & SWAPBACKED:
                went = unmap_huge_pmd_locked(pvmw, slot, memory, machine, counts)
                if went or machine.kernel.retains_dirty_pmd:
                    return went
            split_huge_pmd_locked(pvmw, slot, memory, machine, counts)
            if not machine.anon:
                counts[Count.PAGE_VMA_MAPPED_WALK] += 1  # which finds no page table any more
                return True
            page = pvmw.start  # page_vma_mapped_walk_restart()
            continue
        nr_ptes, batch, goes = unmap_ptes(pvmw, page, slot, memory, machine, counts)
        if not goes:
            return False
        if batch == pvmw.nr_pages:
            return True
        begun = True
        # What is left of a batch is empty, or, if it ran on behind its page table, not yet removed.
        page += nr_ptes - 1 if batch == 1 else 0


@jit
def try_to_unmap(folio, nr, flags, memory, machine, counts):
    """Remove a folio from every address space that maps it, unless one forbids it."""
    nr_pages = 1 << folio_order(folio, memory)
    counts[Count.TRY_TO_UNMAP] += nr
    counts[Count.RMAP_WALK] += nr
    gathers = nr_gathers(counts)
    for vma in range(len(memory.vmas)):
        if not maps_some_of(vma, folio, nr_pages, memory):
            continue
        pvmw = folio_vma_walk(vma, folio, nr, flags, memory)
        if not try_to_unmap_one(pvmw, memory, machine, counts):
            break
        counts[Count.FOLIO_NOT_MAPPED] += nr
        if not machine.regular and memory.ledger.folio_mapcounts[folio] == 0:
            break
    counts[Count.GATHERS_UNMAPPING] += nr_gathers(counts) - gathers


@jit_rare
def folio_mkclean(folio, memory, machine, counts):
    """Write-protect and clean the entries of a small file folio; return if one was either."""
    cleaned = False
    counts[Count.RMAP_WALK] += 1
    for vma in range(len(memory.vmas)):
        if not maps_some_of(vma, folio, 1, memory):
            continue
        pvmw = folio_vma_walk(vma, folio, 1, PVMW_SYNC, memory)
        page, _ = page_vma_mapped_walk(pvmw, pvmw.start, False, memory, machine, counts)
        if page == NOT_FOUND:
            continue
        counts[Count.PAGE_VMA_MAPPED_WALK] += 1  # nothing follows one page
        slot = pte_slot(vma, page, memory, machine)
        if memory.ptes[slot] & (PTE_DIRTY | PTE_WRITE):
            counts[Count.OTHER_FLUSHES] += 1
            counts[Count.FLUSH_TLB_MM_RANGE] += 1  # ptep_clear_flush()
            memory.ptes[slot] &= ALL_PTE_FLAGS ^ (PTE_DIRTY | PTE_WRITE)
            cleaned = True
    return cleaned
