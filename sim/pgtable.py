# SPDX-License-Identifier: GPL-2.0-only
"""Page tables: where entries lie, how many of them are alike, what tests and clears them.

Hold this file beside mm/internal.h, include/linux/pgtable.h and arch/arm64/mm/contpte.c of Linux
7.2. A range [slot, end) of entries is always within one page table.
"""

import numpy as np

from sim.jit import jit, jit_rare
from sim.state import (
    ALL_PTE_FLAGS,
    PTE_CONT,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_YOUNG,
    VMA_SHIFT,
    Count,
)


@jit
def pte_slot(vma, page, memory, machine):
    """Return where the entry of a page is."""
    number = page + memory.vmas[vma, VMA_SHIFT]
    table_order = machine.arch.pmd_order  # one page table is what one PMD entry covers
    table = memory.tables[vma, number >> table_order]
    return table + (number & ((1 << table_order) - 1))


@jit
def pmd_addr_end(vma, page, end, memory, machine):
    """Return the page behind the last of this page table, or `end` if that comes first."""
    shift = memory.vmas[vma, VMA_SHIFT]
    table_order = machine.arch.pmd_order
    return min((((page + shift) >> table_order) + 1 << table_order) - shift, end)


@jit
def read_entry(slot, lockless, nr, memory, counts):
    """Return an entry, as ptep_get() or ptep_get_lockless() does; of a contpte block it gathers."""
    pte = memory.ptes[slot]
    if pte & PTE_CONT:
        if lockless:
            counts[Count.CONTPTE_PTEP_GET_LOCKLESS] += nr
        else:
            counts[Count.CONTPTE_PTEP_GET] += nr
    return pte


@jit
def nr_gathers(counts):
    """Return how often a contpte block was gathered: a lockless time reads it twice."""
    return counts[Count.CONTPTE_PTEP_GET] + 2 * counts[Count.CONTPTE_PTEP_GET_LOCKLESS]


@jit
def same_flags(ptes, slot, end, respected):
    # How many entries from `slot` on agree with it in the respected flags; nearly always all, which
    # a loop without an early end finds out fastest.
    expected = ptes[slot] & respected
    differ = 0
    for i in range(np.uint64(slot), np.uint64(end)):
        differ |= (ptes[i] & respected) ^ expected
    if differ == 0:
        return end - slot
    same = 1
    while ptes[slot + same] & respected == expected:
        same += 1
    return same


@jit_rare
def beyond_the_table(slot, nr, most, respected, memory, machine):
    # What a batch finds that reads on behind the end of its page table: the table that was
    # allocated next, whose first entry continues the batch if it maps the next page.
    nr_entries = 1 << machine.arch.pmd_order
    table = slot >> machine.arch.pmd_order
    last = slot + nr
    if last & (nr_entries - 1) != 0 or last == len(memory.ptes):
        return nr
    page = memory.table_pages[table] + (last - table * nr_entries)
    if memory.table_pages[table + 1] != page:
        return nr
    if (memory.ptes[last] ^ memory.ptes[slot]) & respected:
        return nr
    return nr + same_flags(memory.ptes, last, min(last + nr_entries, slot + most), respected)


@jit
def folio_pte_batch_flags(slot, most, respected, memory, machine, counts):
    """Return how many of at most `most` entries from `slot` on make a batch.

    Always respected: whether they are present, part of a contpte block, or write-protected by
    userfaultfd.
    """
    ptes = memory.ptes
    respected |= PTE_PRESENT | PTE_CONT | PTE_UFFD_WP
    nr_entries = 1 << machine.arch.pmd_order
    in_table = min(most, nr_entries - (slot & (nr_entries - 1)))
    nr = same_flags(ptes, slot, slot + in_table, respected)
    if most > in_table == nr:
        nr = beyond_the_table(slot, nr, most, respected, memory, machine)
    # One read per further block, and one of the entry that ends the batch.
    if ptes[slot] & PTE_CONT:
        order = machine.arch.cont_order
        counts[Count.CONTPTE_PTEP_GET] += ((slot + nr - 1) >> order) - (slot >> order)
    if nr < most and slot + nr < len(ptes) and ptes[slot + nr] & PTE_CONT:
        counts[Count.CONTPTE_PTEP_GET] += 1
    return nr


@jit
def unmap_respects(kernel):
    """Return the flags that a batch of folio_unmap_pte_batch() must have alike."""
    write = PTE_WRITE if kernel.respects_write else 0
    return write | (PTE_SOFT_DIRTY if kernel.respects_soft_dirty else 0)


@jit
def get_and_clear_ptes(slot, nr_ptes, memory, machine):
    """Clear entries; return the first, young and dirty if any was."""
    ptes = memory.ptes
    first = ptes[slot]
    ptes[slot] = 0
    others = 0
    # Unsigned bounds: with signed ones each access would test for a negative index.
    for i in range(np.uint64(slot + 1), np.uint64(slot + nr_ptes)):
        others |= ptes[i]
        ptes[i] = 0
    if others & PTE_DIRTY and machine.arch.mkdirty_is_soft_dirty:
        first |= PTE_SOFT_DIRTY
    return first | (others & (PTE_YOUNG | PTE_DIRTY))


@jit_rare
def contpte_unfold(slot, memory, machine):
    # The block of a PTE that is changed alone is no block any more; as it was young or dirty as a
    # whole, each of its entries now is: contpte_convert().
    block = slot - slot % (1 << machine.arch.cont_order)
    last = block + (1 << machine.arch.cont_order)
    any_flags = 0
    for i in range(block, last):
        any_flags |= memory.ptes[i] & (PTE_YOUNG | PTE_DIRTY)
    for i in range(block, last):
        memory.ptes[i] = memory.ptes[i] & (ALL_PTE_FLAGS ^ PTE_CONT) | any_flags


@jit
def nr_with(flag, ptes, slot, end):
    # How many of the entries [slot, end) have a flag, in a loop that compiles to wide additions.
    nr = 0
    for i in range(np.uint64(slot), np.uint64(end)):
        nr += ptes[i] & flag != 0
    return nr


@jit
def test_and_clear_young(ptes, slot, end):
    # Returns how many of the entries [slot, end) were young.
    nr_young = 0
    for i in range(np.uint64(slot), np.uint64(end)):
        pte = ptes[i]
        nr_young += int(pte & PTE_YOUNG) >> 1
        ptes[i] = pte & (ALL_PTE_FLAGS ^ PTE_YOUNG)
    return nr_young


@jit
def clear_flush_young_ptes(slot, nr_pages, nr, memory, machine, counts):
    """Clear the young bits of a batch of PTEs, of each of `nr` folios; return if one was set."""
    nr_young = test_and_clear_young(memory.ptes, slot, slot + nr * nr_pages)
    counts[Count.YOUNG_PTE_OPS] += nr * nr_pages
    if machine.arch.range_helpers and (nr_pages > 1 or memory.ptes[slot] & PTE_CONT):
        # One call and one invalidation for the whole range, contpte blocks or not.
        counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += nr
        counts[Count.YOUNG_TLBI] += nr if nr_young > 0 else 0
    else:
        counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += nr * nr_pages
        counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def ptep_clear_flush_young(slot, end, memory, machine, counts):
    """Clear the young bits of [slot, end) one PTE a call; return whether one was set."""
    nr_young = test_and_clear_young(memory.ptes, slot, end)
    counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += end - slot
    counts[Count.YOUNG_PTE_OPS] += end - slot
    counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def contpte_ptep_clear_flush_young(slot, end, memory, machine, counts):
    """The same on contpte blocks, where every call sweeps the block that its PTE is part of.

    The first call of a block therefore finds what is young, and pays the invalidation; the sweeps
    of the others are counted, not repeated, because they meet the same PTEs, now old.
    """
    order = machine.arch.cont_order
    nr_young = nr_with(PTE_YOUNG, memory.ptes, slot, end)
    if nr_young == end - slot:
        counts[Count.YOUNG_TLBI] += test_and_clear_young(memory.ptes, slot, end) >> order
    elif nr_young > 0:
        for block in range(slot, end, 1 << order):
            nr = test_and_clear_young(memory.ptes, block, block + (1 << order))
            counts[Count.YOUNG_TLBI] += nr > 0
    counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += end - slot
    counts[Count.YOUNG_PTE_OPS] += (end - slot) << order
    return nr_young > 0


@jit
def pmdp_clear_flush_young(slot, memory, machine, counts):
    """Clear the young bit of a PMD leaf; return whether it was set."""
    young = test_and_clear_young(memory.ptes, slot, slot + 1) > 0
    counts[Count.PMDP_CLEAR_FLUSH_YOUNG] += 1
    if young and machine.arch.pmd_flush_is_mm_range:
        counts[Count.FLUSH_TLB_MM_RANGE] += 1
        counts[Count.OTHER_FLUSHES] += 1
    return young


@jit
def test_and_clear_young_ptes(slot, end, memory, machine, counts):
    """Clear the young bits of a batch of PTEs without a flush; return whether one was set.

    A contpte helper clears whole blocks, also where the range ends within one.
    """
    ptes, block = memory.ptes, 1 << machine.arch.cont_order
    if ptes[slot] & PTE_CONT:
        slot -= slot % block
    if ptes[end - 1] & PTE_CONT:
        end += -end % block
    if end - slot > 1:
        counts[Count.TEST_AND_CLEAR_YOUNG_PTES] += 1
    return test_and_clear_young(ptes, slot, end) > 0
