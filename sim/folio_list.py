# SPDX-License-Identifier: GPL-2.0-only
"""shrink_folio_list(): the verdict on each isolated folio, and the end of those that go.

Hold this file beside mm/vmscan.c of Linux 7.2.
"""

from enum import IntEnum

from sim.jit import jit
from sim.rmap import folio_referenced, try_to_unmap
from sim.state import ACTIVE, ALL_FLAGS, REFERENCED, WORKINGSET, Count

# include/linux/folio_batch.h
FOLIO_BATCH_SIZE = 31
# Uses that lru_gen keeps count of beyond PG_referenced: LRU_REFS_WIDTH of two bits.
LRU_REFS_MAX = 3


class FolioReferences(IntEnum):
    """The verdicts of folio_check_references() that a clean, non-executable file folio can get."""

    RECLAIM = 0
    KEEP = 1
    ACTIVATE = 2


@jit
def lru_gen_set_refs(folio, memory, counts):
    """Record the use of a folio that lru_gen isolated, and keep it; return the verdict."""
    flags = memory.folio_flags[folio]
    refs = memory.lrugen.folio_refs
    counts[Count.LRU_GEN_SET_REFS] += 1
    if not flags & (REFERENCED | WORKINGSET):
        memory.folio_flags[folio] = flags | REFERENCED
        return FolioReferences.KEEP
    if flags & REFERENCED and refs[folio] > 0:
        memory.folio_flags[folio] = (flags & (ALL_FLAGS ^ REFERENCED)) | WORKINGSET
        refs[folio] = 0
    else:
        refs[folio] = min(refs[folio] + 1, LRU_REFS_MAX)  # folio_mark_accessed()
    return FolioReferences.ACTIVATE


@jit
def folio_check_references(folio, memory, machine, counts):
    """Decide whether a folio of the inactive list is reclaimed, kept or activated."""
    nr_referenced = folio_referenced(folio, memory, machine, counts)
    if machine.lru_gen:
        if nr_referenced == 0:
            return FolioReferences.RECLAIM
        return lru_gen_set_refs(folio, memory, counts)
    was_referenced = memory.folio_flags[folio] & REFERENCED
    memory.folio_flags[folio] &= ALL_FLAGS ^ REFERENCED
    if nr_referenced == 0:
        return FolioReferences.RECLAIM  # clean: a REFERENCED left by an earlier look does not help
    memory.folio_flags[folio] |= REFERENCED
    if was_referenced or nr_referenced > 1:
        return FolioReferences.ACTIVATE
    return FolioReferences.KEEP


@jit
def free_folio_batch(nr, machine, counts):
    # Uncharge, wait for deferred TLB invalidations, free. Called for an empty batch as well.
    if nr > 0:
        counts[Count.UNCHARGE_BATCH] += 1
        if machine.defers_flush and not machine.pmd_mapped:
            counts[Count.ARCH_TLBBATCH_FLUSH] += 1
    counts[Count.FREE_UNREF_FOLIOS] += 1


@jit
def shrink_folio_list(folio_list, nr_taken, memory, machine, counts):
    """Reclaim what can be reclaimed of the isolated folios; keep the others, first in the list.

    Returns the number of folios reclaimed and kept.
    """
    nr_reclaimed = 0
    nr_kept = 0
    nr_activated = 0
    for i in range(nr_taken):
        folio = folio_list[i]
        verdict = folio_check_references(folio, memory, machine, counts)
        if verdict == FolioReferences.RECLAIM:
            try_to_unmap(folio, memory, machine, counts)
            memory.folio_flags[folio] = 0  # __remove_mapping(), and the folio is gone
            nr_reclaimed += 1
            if nr_reclaimed % FOLIO_BATCH_SIZE == 0:
                free_folio_batch(FOLIO_BATCH_SIZE, machine, counts)
            continue
        if verdict == FolioReferences.ACTIVATE:
            memory.folio_flags[folio] |= ACTIVE
            nr_activated += 1
        folio_list[nr_kept] = folio
        nr_kept += 1
    free_folio_batch(nr_reclaimed % FOLIO_BATCH_SIZE, machine, counts)
    counts[Count.SHRINK_FOLIO_LIST] += 1
    counts[Count.REMOVE_MAPPING] += nr_reclaimed
    counts[Count.FOLIOS_ACTIVATED] += nr_activated
    return nr_reclaimed, nr_kept
