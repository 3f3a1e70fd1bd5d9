# SPDX-License-Identifier: GPL-2.0-only
"""The walk over the entries that map a folio in one VMA.

Hold this file beside mm/page_vma_mapped.c of Linux 7.2.
"""

from typing import NamedTuple

from sim.folios import folio_order
from sim.jit import jit
from sim.pgtable import pte_slot, read_entry
from sim.state import PTE_PRESENT, VMA_END, VMA_START, Count

NOT_FOUND = -1

# What Pvmw has in its flags, by the names of include/linux/rmap.h.
PVMW_SYNC = 1  # a page table is locked before its first entry is read
TTU_IGNORE_MLOCK = 2
TTU_HWPOISON = 4
TTU_BATCH_FLUSH = 8


class Pvmw(NamedTuple):
    """What stays the same during a walk: struct page_vma_mapped_walk, and the TTU_* flags.

    `folio` is walked and counted for `nr` neighbours that are alike, so that each would take the
    same path.
    """

    vma: int
    folio: int
    nr_pages: int  # of the folio
    nr: int
    start: int  # the pages of the folio that the VMA covers: [start, end)
    end: int
    flags: int


@jit
def folio_vma_walk(vma, folio, nr, flags, memory):
    """Set a walk up: DEFINE_FOLIO_VMA_WALK()."""
    nr_pages = 1 << folio_order(folio, memory)
    start = max(folio, memory.vmas[vma, VMA_START])
    end = min(folio + nr_pages, memory.vmas[vma, VMA_END])
    return Pvmw(vma, folio, nr_pages, nr, start, end, flags)


@jit
def enters_table(slot, machine):
    return slot & ((1 << machine.arch.pmd_order) - 1) == 0


@jit
def page_vma_mapped_walk(pvmw, page, begun, memory, machine, counts):
    """Return the next page that is mapped, NOT_FOUND if none, and if the walk changed tables.

    A walk that has begun goes on behind `page`. Without PVMW_SYNC a page table is read without its
    lock until an entry that is present turns up.
    """
    counts[Count.PAGE_VMA_MAPPED_WALK] += pvmw.nr
    page += begun
    entering = not begun
    locked = begun
    crossed = False
    while page < pvmw.end:
        slot = pte_slot(pvmw.vma, page, memory, machine)
        if page > pvmw.start and enters_table(slot, machine):
            entering = crossed = True
            locked = False
        if entering and pvmw.flags & PVMW_SYNC:  # map_pte(): the lock alone
            locked = True
        else:
            pte = read_entry(slot, not locked, pvmw.nr, memory, counts)
            # map_pte() wants it present, the loop over the table only not none.
            if not pte & PTE_PRESENT and (entering or pte == 0):
                entering = False
                page += 1
                continue
            locked = True
        entering = False
        if read_entry(slot, False, pvmw.nr, memory, counts) & PTE_PRESENT:  # check_pte()
            return page, crossed
        page += 1
    return NOT_FOUND, crossed
