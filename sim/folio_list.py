# SPDX-License-Identifier: GPL-2.0-only
"""shrink_folio_list(): the verdict on each isolated folio, and the end of those that go.

Hold this file beside mm/vmscan.c of Linux 7.2. A list of isolated folios is an array of runs
[first page, end page), in list order.
"""

from enum import IntEnum

from sim.folios import (
    add_run,
    end_of_equal,
    end_of_same_flags,
    folio_order,
    nr_folios,
    set_each,
    set_flags,
)
from sim.jit import jit, jit_rare
from sim.page_vma_mapped import PVMW_SYNC, TTU_BATCH_FLUSH, TTU_HWPOISON, TTU_IGNORE_MLOCK
from sim.pgtable import pte_slot
from sim.rmap import folio_mapcount, folio_referenced
from sim.state import (
    ACTIVE,
    ALL_FLAGS,
    DIRTY,
    EXCLUSIVE,
    FLUSH_REQUIRED,
    HWPOISON,
    MLOCKED,
    PINNED,
    RECLAIM,
    REFERENCED,
    SWAPBACKED,
    SWAPCACHE,
    WORKINGSET,
    WRITABLE,
    Count,
)
from sim.unmap import folio_mkclean, try_to_unmap

# include/linux/folio_batch.h
FOLIO_BATCH_SIZE = 31
# include/linux/mmzone.h
PAGE_ALLOC_COSTLY_ORDER = 3
# Uses that lru_gen keeps count of beyond PG_referenced: LRU_REFS_WIDTH of two bits.
LRU_REFS_MAX = 3


class FolioReferences(IntEnum):
    """The verdicts of folio_check_references() on folios whose mappings are not executable."""

    RECLAIM = 0
    KEEP = 1
    ACTIVATE = 2


class Fate(IntEnum):
    """What becomes of a folio in shrink_folio_list()."""

    KEPT = 0  # keep_locked
    ACTIVATED = 1  # activate_locked
    FREED = 2
    POISONED = 3  # gone, but not reclaimed


@jit
def end_of_alike(folio, end, memory, machine):
    """Return the end of a run of neighbours, `folio` first, that reclaim would treat alike.

    They have the same flags and uses, and the same entries in each VMA's page table.
    """
    order = folio_order(folio, memory)
    nr_pages = 1 << order
    end = end_of_same_flags(folio, end, memory) if machine.regular else folio + nr_pages
    if end - folio == nr_pages:
        return end
    if machine.lru_gen and memory.folio_flags[folio] & REFERENCED:  # or they have no uses
        end = end_of_equal(memory.lrugen.folio_refs, folio, end, nr_pages)
    for vma in range(len(memory.vmas)):
        slot = pte_slot(vma, folio, memory, machine)
        nr_alike = (end_of_equal(memory.ptes, slot, slot + end - folio, 1) - slot) >> order
        end = folio + max(nr_alike, 1) * nr_pages
    return end


@jit
def lru_gen_set_refs(folio, end, nr_pages, memory, counts):
    """Record the use of folios that lru_gen isolated, and keep them; return the verdict."""
    flags = memory.folio_flags[folio] & ALL_FLAGS
    refs = memory.lrugen.folio_refs
    counts[Count.LRU_GEN_SET_REFS] += nr_folios(folio, end, memory)
    if not flags & (REFERENCED | WORKINGSET):
        set_flags(folio, end, nr_pages, flags | REFERENCED, memory)
        return FolioReferences.KEEP
    if flags & REFERENCED and refs[folio] > 0:
        set_flags(folio, end, nr_pages, (flags & (ALL_FLAGS ^ REFERENCED)) | WORKINGSET, memory)
        set_each(refs, folio, end, nr_pages, 0)
    else:  # folio_mark_accessed()
        set_each(refs, folio, end, nr_pages, min(refs[folio] + 1, LRU_REFS_MAX))
    return FolioReferences.ACTIVATE


@jit
def folio_check_references(folio, end, memory, machine, counts):
    """Decide whether the folios [folio, end), alike, are reclaimed, kept or activated."""
    nr_pages = 1 << folio_order(folio, memory)
    nr_referenced, mlocked = folio_referenced(
        folio, nr_folios(folio, end, memory), memory, machine, counts
    )
    if mlocked:
        return FolioReferences.ACTIVATE
    if machine.lru_gen:
        if nr_referenced == 0:
            return FolioReferences.RECLAIM
        return lru_gen_set_refs(folio, end, nr_pages, memory, counts)
    flags = memory.folio_flags[folio] & ALL_FLAGS
    was_referenced = flags & REFERENCED
    if nr_referenced == 0:
        # clean: a REFERENCED left by an earlier look does not help
        set_flags(folio, end, nr_pages, flags & (ALL_FLAGS ^ REFERENCED), memory)
        return FolioReferences.RECLAIM
    set_flags(folio, end, nr_pages, flags | REFERENCED, memory)
    if was_referenced or nr_referenced > 1:
        return FolioReferences.ACTIVATE
    return FolioReferences.KEEP


@jit
def try_to_unmap_flush(memory, counts):
    """Wait for the TLB invalidations that unmapping has put off. mm/rmap.c."""
    counts[Count.TRY_TO_UNMAP_FLUSH] += 1
    if memory.tlb_ubc[FLUSH_REQUIRED]:
        counts[Count.ARCH_TLBBATCH_FLUSH] += 1
        memory.tlb_ubc[FLUSH_REQUIRED] = memory.tlb_ubc[WRITABLE] = 0


@jit
def free_folio_batch(nr, memory, counts):
    # Uncharge, flush, free. Called for an empty batch as well.
    if nr > 0:
        counts[Count.UNCHARGE_BATCH] += 1
    try_to_unmap_flush(memory, counts)
    counts[Count.FREE_UNREF_FOLIOS] += 1


@jit
def folio_batch_add(nr_freed, nr, memory, counts):
    """Add `nr` folios to the batch, which is freed whenever it is full; return all freed so far."""
    pending = memory.tlb_ubc[FLUSH_REQUIRED]
    while nr_freed % FOLIO_BATCH_SIZE + nr >= FOLIO_BATCH_SIZE:
        taken = FOLIO_BATCH_SIZE - nr_freed % FOLIO_BATCH_SIZE
        free_folio_batch(FOLIO_BATCH_SIZE, memory, counts)
        nr_freed += taken
        nr -= taken
        if nr > 0:
            memory.tlb_ubc[FLUSH_REQUIRED] = pending  # of the alike folios behind the batch
    return nr_freed + nr


@jit_rare
def unmap_poisoned_folio(folio, memory, machine, counts):
    """Take a small folio with a memory error out of every address space. mm/memory-failure.c."""
    counts[Count.UNMAP_POISONED_FOLIO] += 1
    flags = TTU_IGNORE_MLOCK | PVMW_SYNC | TTU_HWPOISON
    if not machine.anon and not memory.folio_flags[folio] & DIRTY:
        mapped = folio_mapcount(folio, memory, machine) > 0
        if mapped and folio_mkclean(folio, memory, machine, counts):
            memory.folio_flags[folio] |= DIRTY
        else:
            flags ^= TTU_HWPOISON  # a clean page can be read again: nothing is lost
    nr = 1 << folio_order(folio, memory)  # it is small
    try_to_unmap(folio, nr, flags, memory, machine, counts)
    return Fate.POISONED


@jit_rare
def folio_alloc_swap(folio, end, nr_pages, memory, counts):
    """Give folios slots in the swap cache; they are written because their PTEs were dirty."""
    flags = memory.folio_flags[folio] & ALL_FLAGS
    set_flags(folio, end, nr_pages, flags | SWAPCACHE | DIRTY, memory)
    if len(memory.ledger.refs) > 0:
        memory.ledger.refs[folio] += nr_pages  # the swap cache's
    counts[Count.FOLIO_ALLOC_SWAP] += nr_folios(folio, end, memory)
    counts[Count.FOLIO_MARK_DIRTY] += nr_folios(folio, end, memory)


@jit_rare
def pageout(folio, end, nr_pages, memory, counts):
    """Write folios to a swap device that is done when it returns, as zram is; return if they were.

    Before each write no CPU may still write to the folio: try_to_unmap_flush_dirty().
    """
    nr = nr_folios(folio, end, memory)
    flags = memory.folio_flags[folio] & ALL_FLAGS
    if memory.tlb_ubc[WRITABLE]:
        counts[Count.ARCH_TLBBATCH_FLUSH] += nr - 1
        counts[Count.TRY_TO_UNMAP_FLUSH] += nr - 1
        try_to_unmap_flush(memory, counts)
    counts[Count.PAGEOUT] += nr
    if flags & PINNED:  # it is no longer exclusive, but stays
        set_flags(folio, end, nr_pages, flags & (ALL_FLAGS ^ EXCLUSIVE), memory)
        return False
    set_flags(folio, end, nr_pages, flags & (ALL_FLAGS ^ DIRTY), memory)
    counts[Count.SWAP_WRITEOUT] += nr
    counts[Count.FOLIO_UNLOCK] += nr  # swap_writeout(), which is done: the folio is locked again
    return True


@jit
def reclaim_folios(folio, end, nr_pages, memory, machine, counts):
    # shrink_folio_list() from the verdict to reclaim on, for folios that are alike.
    nr = nr_folios(folio, end, memory)
    flags = memory.folio_flags[folio]
    swap = machine.anon and flags & SWAPBACKED != 0
    if swap:
        if nr_pages > 1 and flags & PINNED:
            return Fate.ACTIVATED
        folio_alloc_swap(folio, end, nr_pages, memory, counts)
    if folio_mapcount(folio, memory, machine) > 0:
        ttu = TTU_BATCH_FLUSH | (PVMW_SYNC if nr_pages > 1 else 0)
        try_to_unmap(folio, nr, ttu, memory, machine, counts)
        if not machine.regular and folio_mapcount(folio, memory, machine) > 0:
            return Fate.ACTIVATED
    if memory.folio_flags[folio] & DIRTY:
        if not swap:  # a file's dirty folios are left to the flusher
            memory.folio_flags[folio] |= RECLAIM
            return Fate.ACTIVATED
        if not pageout(folio, end, nr_pages, memory, counts):
            return Fate.KEPT
    # __remove_mapping(), or of a lazyfree folio folio_ref_freeze(): nobody else may hold it.
    counts[Count.REMOVE_MAPPING] += 0 if machine.anon and not swap else nr
    if flags & PINNED:
        return Fate.KEPT
    set_flags(folio, end, nr_pages, 0, memory)
    return Fate.FREED


@jit
def fate_of(folio, end, nr_pages, memory, machine, counts):
    # One turn of the loop in shrink_folio_list(), for folios that are alike.
    flags = memory.folio_flags[folio]
    if flags & HWPOISON:
        if nr_pages > 1:
            return Fate.KEPT  # unmapping it piecemeal is memory_failure()'s business
        return unmap_poisoned_folio(folio, memory, machine, counts)
    if flags & MLOCKED:
        return Fate.ACTIVATED
    if not machine.ignore_references:
        verdict = folio_check_references(folio, end, memory, machine, counts)
        if verdict == FolioReferences.KEEP:
            return Fate.KEPT
        if verdict == FolioReferences.ACTIVATE:
            return Fate.ACTIVATED
    return reclaim_folios(folio, end, nr_pages, memory, machine, counts)


@jit
def free_unref_folios(nr, order, machine, counts):
    # Orders up to PAGE_ALLOC_COSTLY_ORDER and the PMD order have per-CPU lists, see
    # pcp_allowed_order() in mm/page_alloc.c; the others go straight to the buddy lists.
    counts[Count.FOLIOS_FREED] += nr
    if order >= machine.arch.pmd_order:
        counts[Count.HUGE_FOLIOS_FREED] += nr
    elif order > PAGE_ALLOC_COSTLY_ORDER:
        counts[Count.FREE_ONE_PAGE] += nr


@jit
def activate(folio, end, nr_pages, memory, counts):
    # activate_locked: an mlocked folio is put back as unevictable instead.
    flags = memory.folio_flags[folio] & ALL_FLAGS
    if flags & MLOCKED:
        return
    set_flags(folio, end, nr_pages, flags | ACTIVE, memory)
    counts[Count.FOLIOS_ACTIVATED] += nr_folios(folio, end, memory)


@jit
def shrink_folio_list(nr_runs, memory, machine, counts):
    """Reclaim what can be reclaimed of memory.folio_list; the others go to memory.ret_folios.

    Returns the number of pages reclaimed, and of runs of folios that stay.
    """
    nr_reclaimed = 0
    nr_freed = 0
    nr_kept = 0
    for run in range(nr_runs):
        folio, last = memory.folio_list[run, 0], memory.folio_list[run, 1]
        while folio < last:
            order = folio_order(folio, memory)
            nr_pages = 1 << order
            end = end_of_alike(folio, last, memory, machine)
            fate = fate_of(folio, end, nr_pages, memory, machine, counts)
            nr = (end - folio) >> order
            counts[Count.FOLIO_UNLOCK] += nr
            if fate == Fate.FREED:
                nr_reclaimed += end - folio
                free_unref_folios(nr, order, machine, counts)
                nr_freed = folio_batch_add(nr_freed, nr, memory, counts)
            elif fate != Fate.POISONED:
                if fate == Fate.ACTIVATED:
                    activate(folio, end, nr_pages, memory, counts)
                nr_kept = add_run(memory.ret_folios, nr_kept, folio, end)
            folio = end
    free_folio_batch(nr_freed % FOLIO_BATCH_SIZE, memory, counts)
    counts[Count.SHRINK_FOLIO_LIST] += 1
    return nr_reclaimed, nr_kept
