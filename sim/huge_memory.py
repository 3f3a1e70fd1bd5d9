# SPDX-License-Identifier: GPL-2.0-only
"""PMD leaves that go. Hold this file beside mm/huge_memory.c of Linux 7.2."""

from sim.jit import jit, jit_rare
from sim.pgtable import pte_slot
from sim.state import (
    ALL_PTE_FLAGS,
    DIRTY,
    PINNED,
    PMD_LEAF,
    PTE_CONT,
    PTE_DIRTY,
    PTE_SOFT_DIRTY,
    PTE_YOUNG,
    REFERENCED,
    SWAPBACKED,
    VMA_PROCESS,
    Count,
)


@jit
def folio_mark_dirty(folio, calls, memory, machine, counts):
    """Mark a folio dirty, which a file's statistics hear of once."""
    flags = memory.folio_flags[folio]
    counts[Count.FOLIO_ACCOUNT_DIRTIED] += not machine.anon and not flags & DIRTY
    memory.folio_flags[folio] = flags | DIRTY
    counts[Count.FOLIO_MARK_DIRTY] += calls


@jit
def flush_pmd_tlb_range(machine, counts):
    if machine.arch.pmd_flush_is_mm_range:
        counts[Count.FLUSH_TLB_MM_RANGE] += 1
        counts[Count.OTHER_FLUSHES] += 1


@jit
def pmdp_huge_clear_flush(slot, memory, machine, counts):
    """Clear a PMD leaf and flush it; return what it was."""
    pmd = memory.ptes[slot]
    memory.ptes[slot] = 0
    flush_pmd_tlb_range(machine, counts)
    return pmd


@jit
def mod_thps_stat(pvmw, memory, machine, counts):
    # Where the last leaf of a folio goes: NR_ANON_THPS is kept per memcg, NR_FILE_PMDMAPPED is not;
    # see __folio_mod_stat() in mm/rmap.c.
    leaves = 0
    for vma in range(len(memory.vmas)):
        leaves += memory.ptes[pte_slot(vma, pvmw.folio, memory, machine)] & PMD_LEAF != 0
    counts[Count.MAPPED_STAT_UPDATES] += machine.anon and leaves == 0


@jit_rare
def folio_remove_rmap_pmd(pvmw, memory, machine, counts):
    """Take back what mapping a folio by a PMD leaf had booked, and the leaf's reference."""
    counts[Count.PTES_CLEARED] += pvmw.nr_pages
    counts[Count.FOLIO_REMOVE_RMAP_PMD] += 1
    counts[Count.REFERENCES_PUT] += 1
    counts[Count.MM_TRACE_RSS_STAT] += 1
    memory.ledger.rss[memory.vmas[pvmw.vma, VMA_PROCESS], 0] -= pvmw.nr_pages
    mod_thps_stat(pvmw, memory, machine, counts)
    if machine.regular:
        counts[Count.MAPPED_STAT_UPDATES] += pvmw.vma == len(memory.vmas) - 1
        return
    ledger = memory.ledger
    nr_unmapped = 0
    for page in range(pvmw.folio, pvmw.folio + pvmw.nr_pages):
        ledger.mapcounts[page] -= 1
        nr_unmapped += ledger.mapcounts[page] == 0
    ledger.folio_mapcounts[pvmw.folio] -= 1
    ledger.refs[pvmw.folio] -= 1
    counts[Count.MAPPED_STAT_UPDATES] += nr_unmapped > 0


@jit_rare
def split_huge_pmd_locked(pvmw, slot, memory, machine, counts):
    """Split a PMD leaf: a file's is just zapped, an anonymous one becomes a table of PTEs."""
    if not machine.anon:
        pmd = pmdp_huge_clear_flush(slot, memory, machine, counts)
        if pmd & PTE_DIRTY and not memory.folio_flags[pvmw.folio] & DIRTY:
            folio_mark_dirty(pvmw.folio, 1, memory, machine, counts)
        if pmd & PTE_YOUNG:
            memory.folio_flags[pvmw.folio] |= REFERENCED
        folio_remove_rmap_pmd(pvmw, memory, machine, counts)
        return
    flush_pmd_tlb_range(machine, counts)  # pmdp_invalidate()
    pmd = memory.ptes[slot]
    added = PTE_CONT if machine.arch.cont_order > 0 else 0
    if pmd & PTE_DIRTY and machine.arch.mkdirty_is_soft_dirty:
        added = PTE_SOFT_DIRTY
    for i in range(slot, slot + pvmw.nr_pages):
        memory.ptes[i] = pmd & (ALL_PTE_FLAGS ^ PMD_LEAF) | added
    if pmd & PTE_DIRTY:
        memory.folio_flags[pvmw.folio] |= DIRTY
    counts[Count.FOLIO_REMOVE_RMAP_PMD] += 1
    counts[Count.SPLIT_HUGE_PMD] += 1
    mod_thps_stat(pvmw, memory, machine, counts)
    if not machine.regular:
        memory.ledger.folio_mapcounts[pvmw.folio] += pvmw.nr_pages - 1
        memory.ledger.refs[pvmw.folio] += pvmw.nr_pages - 1


@jit_rare
def unmap_huge_pmd_locked(pvmw, slot, memory, machine, counts):
    """Discard a lazyfree folio by its PMD leaf; return if it went."""
    flags = memory.folio_flags[pvmw.folio]
    if flags & DIRTY or memory.ptes[slot] & PTE_DIRTY:
        flags |= SWAPBACKED if machine.kernel.retains_dirty_pmd else 0
        memory.folio_flags[pvmw.folio] = flags | DIRTY
        return False
    pmd = pmdp_huge_clear_flush(slot, memory, machine, counts)
    if flags & PINNED:
        memory.ptes[slot] = pmd
        return False
    folio_remove_rmap_pmd(pvmw, memory, machine, counts)
    return True
