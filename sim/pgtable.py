# SPDX-License-Identifier: GPL-2.0-only
"""Page-table entries: testing and clearing young bits.

Hold this file beside include/linux/pgtable.h and arch/arm64/mm/contpte.c of Linux 7.2.
"""

import numpy as np

from sim.jit import jit
from sim.state import ALL_FLAGS, PTE_CONT, PTE_YOUNG, Count


@jit
def test_and_clear_young(ptes, start, end):
    # Returns how many of the PTEs [start, end) were young.
    nr_young = 0
    # Unsigned bounds: with signed ones each access would test for a negative index.
    for i in range(np.uint64(start), np.uint64(end)):
        pte = ptes[i]
        nr_young += int(pte & PTE_YOUNG) >> 1
        ptes[i] = pte & (ALL_FLAGS ^ PTE_YOUNG)
    return nr_young


@jit
def clear_flush_young_ptes(ptes, start, end, machine, counts):
    """Clear the young bits of a batch of PTEs; return whether one was set."""
    nr_young = test_and_clear_young(ptes, start, end)
    counts[Count.YOUNG_PTE_OPS] += end - start
    if machine.arch.range_helpers:
        # One call and one invalidation for the whole range, contpte blocks or not.
        counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += 1
        counts[Count.YOUNG_TLBI] += nr_young > 0
    else:
        counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += end - start
        counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def ptep_clear_flush_young(ptes, start, end, machine, counts):
    """Clear the young bits of [start, end) one PTE a call; return whether one was set."""
    nr_young = test_and_clear_young(ptes, start, end)
    counts[Count.PTEP_CLEAR_FLUSH_YOUNG] += end - start
    counts[Count.YOUNG_PTE_OPS] += end - start
    counts[Count.YOUNG_TLBI] += nr_young * machine.arch.young_clear_flushes
    return nr_young > 0


@jit
def contpte_ptep_clear_flush_young(ptes, start, end, machine, counts):
    """The same on contpte blocks, where every call sweeps the block that its PTE is part of.

    The first call of a block therefore finds what is young, and pays the invalidation; the sweeps
    of the others are counted, not repeated, because they meet the same PTEs, now old.
    """
    cont_ptes = machine.arch.cont_ptes
    young = False
    for block in range(start, end, cont_ptes):
        if test_and_clear_young(ptes, block, block + cont_ptes) > 0:
            counts[Count.YOUNG_TLBI] += 1
            young = True
    counts[Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES] += end - start
    counts[Count.YOUNG_PTE_OPS] += (end - start) * cont_ptes
    return young


@jit
def pmdp_clear_flush_young(ptes, slot, machine, counts):
    """Clear the young bit of a PMD leaf; return whether it was set."""
    young = test_and_clear_young(ptes, slot, slot + 1) > 0
    counts[Count.PMDP_CLEAR_FLUSH_YOUNG] += 1
    if young and machine.arch.pmd_flush_is_mm_range:
        counts[Count.FLUSH_TLB_MM_RANGE] += 1
    return young


@jit
def test_and_clear_young_ptes(ptes, start, end, machine, counts):
    """Clear the young bits of a batch of PTEs without a flush; return whether one was set.

    A contpte helper clears whole blocks, also where the range ends within one.
    """
    cont = (ptes[start] & PTE_CONT) != 0
    if cont:
        block = machine.arch.cont_ptes
        start -= start % block
        end += -end % block
    if end - start > 1:
        counts[Count.TEST_AND_CLEAR_YOUNG_PTES] += 1
    return test_and_clear_young(ptes, start, end) > 0
