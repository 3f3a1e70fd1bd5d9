# SPDX-License-Identifier: GPL-2.0-only
"""The state that a reclaim request meets and changes, and what is counted on the way.

The form is chosen for numba: page-table entries and folio flags are the only arrays as long as
memory, and both are walked in list order.
"""

from enum import IntEnum, auto
from typing import NamedTuple

import numpy as np

from sim.arch import Arch
from sim.kernel import Kernel

# Flags of a page-table entry. A PMD leaf is kept in the slot of its first page.
PTE_PRESENT = 1
PTE_YOUNG = 2
PTE_CONT = 4

# Flags of a folio: PG_referenced, PG_active, PG_workingset.
REFERENCED = 1
ACTIVE = 2
WORKINGSET = 4

# Flags are bytes, whose ~ is no byte.
ALL_FLAGS = 0xFF


class Count(IntEnum):
    """What the walk counts: calls of the kernel function of that name, unless a comment differs."""

    PGSCAN = 0  # pages scanned on the inactive list, /proc/vmstat pgscan_proactive
    PGSTEAL = auto()  # pages freed, /proc/vmstat pgsteal_proactive
    PGREFILL = auto()  # pages scanned on the active list
    TRY_TO_FREE_MEM_CGROUP_PAGES = auto()
    MEM_CGROUP_ITER = auto()
    SHRINK_NODE = auto()
    ISOLATE_LRU_FOLIOS = auto()
    SHRINK_FOLIO_LIST = auto()
    SHRINK_ACTIVE_LIST = auto()
    MOVE_FOLIOS_TO_LRU = auto()
    FOLIO_LRUVEC_LOCK_IRQ = auto()
    FOLIO_REFERENCED = auto()
    FOLIO_REFERENCED_ONE = auto()
    FOLIOS_ACTIVATED = auto()  # verdicts
    TRY_TO_UNMAP = auto()
    TRY_TO_UNMAP_ONE = auto()
    PAGE_VMA_MAPPED_WALK = auto()
    FOLIO_PTE_BATCH = auto()
    PTEP_CLEAR_FLUSH_YOUNG = auto()  # single-PTE clears of a PTE outside a contpte block
    CONTPTE_CLEAR_FLUSH_YOUNG_PTES = auto()
    YOUNG_PTE_OPS = auto()  # PTEs whose young bit was tested and cleared
    YOUNG_TLBI = auto()  # TLB invalidations issued because a cleared PTE was young
    PMDP_CLEAR_FLUSH_YOUNG = auto()
    CONTPTE_PTEP_GET = auto()
    CONTPTE_PTEP_GET_LOCKLESS = auto()
    CONTPTE_TRY_UNFOLD = auto()
    CONTPTE_GET_AND_CLEAR_FULL_PTES = auto()
    PTES_CLEARED = auto()  # page-table entries removed, a PMD leaf counting its pages
    FOLIO_REMOVE_RMAP_PTES = auto()
    FOLIO_REMOVE_RMAP_PMD = auto()
    MAPPED_STAT_UPDATES = auto()  # lruvec_stat_mod_folio() of NR_FILE_MAPPED
    SET_TLB_UBC_FLUSH_PENDING = auto()
    FLUSH_TLB_MM_RANGE = auto()
    ARCH_TLBBATCH_FLUSH = auto()
    REMOVE_MAPPING = auto()
    REFERENCES_PUT = auto()  # references that unmapping and removal from the page cache dropped
    FREE_UNREF_FOLIOS = auto()
    UNCHARGE_BATCH = auto()
    # lru_gen alone
    LRU_GEN_LOOK_AROUND = auto()
    GET_PTE_PFN = auto()
    GET_PFN_FOLIO = auto()
    WALK_UPDATE_FOLIO = auto()
    TEST_AND_CLEAR_YOUNG_PTES = auto()  # of more than one PTE, or in a contpte block
    LRU_GEN_SET_REFS = auto()
    EVICT_FOLIOS = auto()
    RESET_BATCH_SIZE = auto()
    INC_MAX_SEQ = auto()


# Slots of LruList.state.
OLDEST, NR_EXTENTS, NR_PAGES = range(3)


class LruList(NamedTuple):
    """One LRU list, oldest folio first, as a ring of extents [first folio, end folio).

    Reclaim moves folios in bunches, so that extents stay few and each is walked in memory order.
    """

    extents: np.ndarray  # int32, shape (capacity, 2); only the slots in use are ever touched
    state: np.ndarray  # int64, shape (3,): OLDEST extent, NR_EXTENTS in use, NR_PAGES


class Lruvec(NamedTuple):
    """The memcg's lruvec of the classic LRU: two file lists, and statistics about them.

    The statistics are those of the last rstat flush. `flushes` says which node calls, counted from
    0, find them fresh, rising; the first `nr_flushed` of them have been.
    """

    inactive: LruList
    active: LruList
    stale_pages: np.ndarray  # int64, shape (2,): inactive, active
    flushes: np.ndarray  # int64
    nr_flushed: np.ndarray  # int64, shape (1,)


# Slots of LruGen.seq.
MAX_SEQ, MIN_SEQ, NR_PROMOTED, NR_WALKS = range(4)

# LruGen.folio_gen of a folio that is isolated, or on no list.
NO_GEN = -1


class LruGen(NamedTuple):
    """The generations of lru_gen: one list each, and what folios know of theirs.

    A folio that is promoted in place knows of its new generation before the list does.
    """

    extents: np.ndarray  # int32, shape (MAX_NR_GENS, capacity, 2): LruList.extents of each
    lists: np.ndarray  # int64, shape (MAX_NR_GENS, 3): LruList.state of each
    folio_gen: np.ndarray  # int8, shape (folios,): sequence number % MAX_NR_GENS, or NO_GEN
    folio_refs: np.ndarray  # uint8, shape (folios,): uses beyond PG_referenced, at most 3
    seq: np.ndarray  # int64: MAX_SEQ, MIN_SEQ; NR_PROMOTED in this eviction, NR_WALKS of all mms


class Memory(NamedTuple):
    """All state that reclaim changes. Folio f covers the pages from f * nr_pages on."""

    ptes: np.ndarray  # uint8, shape (processes, pages): PTE_* flags, 0 once unmapped
    folio_flags: np.ndarray  # uint8, shape (folios,)
    lruvec: Lruvec
    lrugen: LruGen
    folio_list: np.ndarray  # int32, shape (MIN_LRU_BATCH,): the folios isolated at the moment
    nr_pages: int  # of each folio


class Machine(NamedTuple):
    """What does not change during a walk."""

    arch: Arch
    kernel: Kernel
    lru_gen: bool  # the multi-generational LRU, or the classic one
    always_flushed: bool  # statistics are fresh at every node call
    defers_flush: bool  # arch_tlbbatch_should_defer() of every mm in this world
    pmd_mapped: bool
