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

# Flags of a page-table entry. One without PTE_PRESENT is none if it is 0, a marker if it has
# PTE_UFFD_WP alone, a swap entry if it has PTE_SWAP; PMD_LEAF is the same bit of a present one,
# kept in the slot of the first page that it maps.
PTE_PRESENT = 1
PTE_YOUNG = 2
PTE_CONT = 4
PTE_DIRTY = 8
PTE_WRITE = 16
PTE_SOFT_DIRTY = 32
PTE_UFFD_WP = 64
PTE_SWAP = 128
PMD_LEAF = 128
ALL_PTE_FLAGS = 0xFF

# Flags of a folio, PG_* of the kernel where one has that name; kept in the entry of its first page.
REFERENCED = 1
ACTIVE = 2
WORKINGSET = 4
DIRTY = 8
MLOCKED = 16
HWPOISON = 32  # PG_has_hwpoisoned of a large one
SWAPBACKED = 64
SWAPCACHE = 128
RECLAIM = 256
PINNED = 512  # somebody holds a reference beside the mappings and the page cache
EXCLUSIVE = 1024  # PageAnonExclusive() of its pages
PARTIALLY_MAPPED = 2048  # queued for a deferred split
ALL_FLAGS = 0x0FFF
# The order sits above them, in the entry of each of its pages.
ORDER_SHIFT = 12


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
    RMAP_WALK = auto()
    FOLIOS_ACTIVATED = auto()  # put on the active list, or asked to be
    MLOCK_VMA_FOLIO = auto()
    TRY_TO_UNMAP = auto()
    TRY_TO_UNMAP_ONE = auto()
    FOLIO_NOT_MAPPED = auto()
    PAGE_VMA_MAPPED_WALK = auto()
    FOLIO_PTE_BATCH = auto()
    PTEP_CLEAR_FLUSH_YOUNG = auto()  # single-PTE clears of a PTE outside a contpte block
    CONTPTE_CLEAR_FLUSH_YOUNG_PTES = auto()
    YOUNG_PTE_OPS = auto()  # PTEs whose young bit was tested and cleared
    YOUNG_TLBI = auto()  # TLB invalidations issued because a cleared PTE was young
    PMDP_CLEAR_FLUSH_YOUNG = auto()
    CONTPTE_PTEP_GET = auto()
    CONTPTE_PTEP_GET_LOCKLESS = auto()
    GATHERS_CHECKING = auto()  # of both, folio_referenced_one()'s, a lockless one as two
    GATHERS_UNMAPPING = auto()  # and try_to_unmap()'s
    CONTPTE_TRY_UNFOLD = auto()
    CONTPTE_GET_AND_CLEAR_FULL_PTES = auto()
    PTES_CLEARED = auto()  # page-table entries removed, a PMD leaf counting its pages
    FOLIO_REMOVE_RMAP_PTES = auto()
    FOLIO_REMOVE_RMAP_PMD = auto()
    SPLIT_HUGE_PMD = auto()  # of an anonymous folio, which stays mapped
    MAPPED_STAT_UPDATES = auto()  # lruvec_stat_mod_folio() of NR_FILE_MAPPED, NR_ANON_MAPPED, _THPS
    DEFERRED_SPLIT_FOLIO = auto()
    FOLIO_MARK_DIRTY = auto()
    FOLIO_ACCOUNT_DIRTIED = auto()
    MM_TRACE_RSS_STAT = auto()
    SET_PTES = auto()  # mappings put back because the folio may not go
    PTE_MARKERS = auto()  # userfaultfd write-protect kept in a marker
    FOLIO_ALLOC_SWAP = auto()
    FOLIO_DUP_SWAP = auto()
    SWAP_PTES = auto()  # swap entries written, one a page
    PAGEOUT = auto()
    SWAP_WRITEOUT = auto()
    RECLAIM_PAGES = auto()
    UNMAP_POISONED_FOLIO = auto()
    SET_TLB_UBC_FLUSH_PENDING = auto()
    FLUSH_TLB_MM_RANGE = auto()
    OTHER_FLUSHES = auto()  # those of them that no removal of a PTE made
    ARCH_TLBBATCH_FLUSH = auto()
    REMOVE_MAPPING = auto()
    FOLIOS_FREED = auto()
    FREE_ONE_PAGE = auto()
    HUGE_FOLIOS_FREED = auto()  # PMD-mappable ones, of which NR_FILE_THPS is told
    REFERENCES_PUT = auto()  # references that unmapping dropped
    FREE_UNREF_FOLIOS = auto()
    TRY_TO_UNMAP_FLUSH = auto()
    FOLIO_UNLOCK = auto()
    LRU_ADD_DRAIN_ALL = auto()
    UNCHARGE_BATCH = auto()
    # lru_gen alone
    LRU_GEN_LOOK_AROUND = auto()
    GET_PTE_PFN = auto()
    PTES_AGED = auto()  # of them, by walk_mm() and not around a young PTE
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
    """One LRU list, oldest folio first: a ring of extents [first page, end page) of whole folios.

    Reclaim moves folios in bunches, so that extents stay few and each is walked in memory order.
    """

    extents: np.ndarray  # int32, shape (capacity, 2); only the slots in use are ever touched
    state: np.ndarray  # int64, shape (3,): OLDEST extent, NR_EXTENTS in use, NR_PAGES


class Lruvec(NamedTuple):
    """The memcg's lruvec of the classic LRU: its lists, and statistics about two of them.

    The statistics are those of the last rstat flush. `flushes` says which node calls, counted from
    0, find them fresh, rising; the first `nr_flushed` of them have been.
    """

    inactive: LruList
    active: LruList
    unevictable: LruList
    anon: LruList  # lazyfree folios that are swap-backed again: without swap, never scanned
    stale_pages: np.ndarray  # int64, shape (2,): inactive, active
    flushes: np.ndarray  # int64
    nr_flushed: np.ndarray  # int64, shape (1,)
    # int64, shape (node calls, 2): folio_referenced() and try_to_unmap() calls before each of them,
    # as far as there is room: what a moment of the run is told by
    clock: np.ndarray
    lru_add_batch: np.ndarray  # int64, shape (2,): pages that wait in another CPU's lru_add batch


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
    folio_gen: np.ndarray  # int8, shape (pages,): sequence number % MAX_NR_GENS, or NO_GEN
    folio_refs: np.ndarray  # uint8, shape (pages,): uses beyond PG_referenced, at most 3
    seq: np.ndarray  # int64: MAX_SEQ, MIN_SEQ; NR_PROMOTED in this eviction, NR_WALKS of all mms


# Columns of Memory.vmas.
VMA_START, VMA_END, VMA_SHIFT, VMA_FLAGS, VMA_PROCESS = range(5)

# Flags of a VMA: VM_LOCKED, VM_UFFD_WP.
LOCKED = 1
UFFD_WP = 2


class Ledger(NamedTuple):
    """What the kernel books beside page tables and lists, for worlds that are not all alike.

    Empty arrays, but for rss, in a world where every VMA maps every folio whole: there each count
    follows from the folio being mapped or not.
    """

    mapcounts: np.ndarray  # int32, shape (pages,): mappings of each page
    folio_mapcounts: np.ndarray  # int32, shape (pages,): mappings of a folio, in its first page
    refs: np.ndarray  # int32, shape (pages,): references to a folio, in its first page
    swap_map: np.ndarray  # int32, shape (pages,): swap entries that name each page's slot
    rss: np.ndarray  # int64, shape (processes, 2): MM_FILEPAGES or MM_ANONPAGES, and MM_SWAPENTS


# Slots of Memory.tlb_ubc, and mm->tlb_flush_batched of the one mm that MADV_PAGEOUT knows.
FLUSH_REQUIRED, WRITABLE, FLUSH_BATCHED = range(3)


class Memory(NamedTuple):
    """All state that reclaim changes. Pages are numbered by their place in the file, or mapping.

    The page at virtual page number n of a VMA is n - VMA_SHIFT, so that tables[vma, n >> k] is
    where its page table of 2^k entries starts in `ptes`; tables lie there in the order in which
    they were allocated.
    """

    ptes: np.ndarray  # uint8, shape (page tables * entries,): PTE_* flags
    vmas: np.ndarray  # int64, shape (VMAs, 5): VMA_* columns
    tables: np.ndarray  # int64, shape (VMAs, page tables of one)
    table_pages: np.ndarray  # int64, shape (page tables,): the page that entry 0 of each would map
    folio_flags: np.ndarray  # uint16, shape (pages,)
    lruvec: Lruvec
    lrugen: LruGen
    folio_list: np.ndarray  # int64, shape (runs, 2): the folios isolated at the moment
    ret_folios: np.ndarray  # int64, the same shape: those of them that stay
    tlb_ubc: np.ndarray  # uint8, shape (3,): struct tlbflush_unmap_batch, what is still to flush
    ledger: Ledger


class Machine(NamedTuple):
    """What does not change during a walk."""

    arch: Arch
    kernel: Kernel
    lru_gen: bool  # the multi-generational LRU, or the classic one
    always_flushed: bool  # statistics are fresh at every node call
    defers_flush: bool  # arch_tlbbatch_should_defer() of every mm in this world
    anon: bool  # anonymous folios, or a file's
    lazyfree: bool  # MADV_FREE'd ones
    ignore_references: bool  # MADV_PAGEOUT asks for these folios, used or not
    order: int  # of every folio, or -1 for a mixture
    # Every VMA maps every folio whole, in one page table, with entries that differ in their young
    # bits at most: neighbours that are alike can be walked as one.
    regular: bool
