# SPDX-License-Identifier: GPL-2.0-only
"""Lay out a world: folios, page tables, lists, as the mapping processes left them."""

import numpy as np

from sim.arch import Arch
from sim.jit import jit
from sim.look_around import MAX_NR_GENS, MIN_LRU_BATCH
from sim.state import (
    DIRTY,
    EXCLUSIVE,
    HWPOISON,
    LOCKED,
    NO_GEN,
    ORDER_SHIFT,
    PARTIALLY_MAPPED,
    PINNED,
    PMD_LEAF,
    PTE_CONT,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_YOUNG,
    REFERENCED,
    SWAPBACKED,
    UFFD_WP,
    Ledger,
    LruGen,
    LruList,
    Lruvec,
    Memory,
)
from sim.world import World, WorldError

CLOCK_NODE_CALLS = 1024

_PTE_BITS = {
    "young": PTE_YOUNG,
    "dirty": PTE_DIRTY,
    "writable": PTE_WRITE,
    "soft_dirty": PTE_SOFT_DIRTY,
    "uffd_wp": PTE_UFFD_WP,
}
_FOLIO_BITS = {"hwpoison": HWPOISON, "dirty_folios": DIRTY, "pinned": PINNED}


def lay_out(world: World, arch: Arch, lru: str = "classic") -> Memory:
    """Return the memory as the mapping processes left it: folios in file order, none active.

    Raises:
        WorldError: the world cannot exist on this architecture.
        MemoryError: it does not fit into this machine's memory.
    """
    if world.soft_dirty and not arch.has_soft_dirty:
        raise WorldError(f"soft_dirty {world.soft_dirty}: this architecture has no such bit; use 0")
    rng = np.random.default_rng(world.seed)
    nr_pages = world.nr_pages(arch)
    folio_flags, folio_gen, folio_refs = _folio_columns(nr_pages, lru == "mglru")
    _set_folio_flags(world, folio_flags, rng)
    vmas = _vmas(world, nr_pages)
    tables = _tables(world, arch, vmas, rng)
    nr_entries = 1 << arch.pmd_order
    memory = Memory(
        ptes=np.zeros(tables.size * nr_entries, np.uint8),
        vmas=vmas,
        tables=tables,
        table_pages=_table_pages(tables, vmas, nr_entries),
        folio_flags=folio_flags,
        lruvec=_lruvec(world, nr_pages, lru == "classic"),
        lrugen=_lrugen(world, folio_gen, folio_refs),
        folio_list=np.empty((max(MIN_LRU_BATCH, nr_entries), 2), np.int64),
        ret_folios=np.empty((max(MIN_LRU_BATCH, nr_entries), 2), np.int64),
        tlb_ubc=np.zeros(3, np.uint8),
        ledger=_ledger(world, nr_pages),
    )
    _map(world, arch, memory, rng)
    return memory


def page_table(memory: Memory, vma: int, nr_entries: int) -> np.ndarray:
    """Return a copy of the entries of one VMA, by page: uint8, shape (pages,).

    A page that the VMA does not cover has 0; a PMD leaf stands at the first page that it maps.
    """
    nr_pages = len(memory.folio_flags)
    slots = (memory.tables[vma][:, None] + np.arange(nr_entries)).ravel()
    shift = memory.vmas[vma, 2]
    return memory.ptes[slots[shift : shift + nr_pages]]


def first_pages(memory: Memory) -> np.ndarray:
    """Return the first page of each folio, in file order: int64, shape (folios,)."""
    orders = memory.folio_flags >> ORDER_SHIFT
    pages = np.arange(len(orders))
    return pages[pages & ((1 << orders.astype(np.int64)) - 1) == 0]


@jit
def _lay_folios(orders, shares, placed, flags):
    # Gives each page its folio's order. The next folio is of the order that lags most behind its
    # share, among those that alignment and room allow; the smallest always is.
    page = 0
    while page + (1 << orders[0]) <= len(flags):
        best = 0
        for i in range(len(orders)):
            fits = page & ((1 << orders[i]) - 1) == 0 and page + (1 << orders[i]) <= len(flags)
            lag = shares[i] * (page + 1) - placed[i]
            if fits and lag > shares[best] * (page + 1) - placed[best]:
                best = i
        nr = 1 << orders[best]
        for i in range(page, page + nr):
            flags[i] = orders[best] << ORDER_SHIFT
        placed[best] += nr
        page += nr


def _folio_columns(nr_pages: int, lru_gen: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Memory.folio_flags, LruGen.folio_gen and LruGen.folio_refs in one block: the C library keeps
    # what is freed as long as it is less than twice the largest block (of up to 32 MiB), so that
    # the next request finds its memory mapped. Mapping it anew took a fifth of a walk of lru_gen
    # over 10 GiB.
    nr_more = nr_pages if lru_gen else 0
    columns = np.empty(2 * nr_pages + 2 * nr_more, np.uint8)
    flags, gen, refs = np.split(columns, [2 * nr_pages, 2 * nr_pages + nr_more])
    return flags.view(np.uint16), gen.view(np.int8), refs


def _set_folio_flags(world: World, flags: np.ndarray, rng: np.random.Generator) -> None:
    nr_pages = len(flags)
    shares = world.shares
    if len(shares) == 1:
        flags[:] = world.order << ORDER_SHIFT
    else:
        orders = np.array(list(shares))
        _lay_folios(orders, np.array(list(shares.values())), np.zeros(len(orders)), flags)
    if world.workload == "file":
        # filemap_read() marks each folio accessed once; touching a mapping sets young bits alone.
        flags |= REFERENCED if world.access == "pread" else 0
    elif world.workload == "anon":
        flags |= SWAPBACKED | (EXCLUSIVE if world.mapped_by == 1 else 0)
    for name, bit in _FOLIO_BITS.items():
        if share := getattr(world, name):
            flags |= np.where(rng.random(nr_pages) < share, bit, 0).astype(np.uint16)


def _vmas(world: World, nr_pages: int) -> np.ndarray:
    flags = UFFD_WP if world.uffd_wp else 0
    return np.array(
        [
            (
                world.vma_cut,
                nr_pages - world.vma_cut,
                world.vma_shift,
                flags | (LOCKED if process < world.mlocked else 0),
                process,
            )
            for process in range(world.mapped_by)
            for _ in range(world.mappings)
        ],
        np.int64,
    )


def _tables(world: World, arch: Arch, vmas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    nr_entries = 1 << arch.pmd_order
    per_vma = -(-(vmas[0, 1] + world.vma_cut + world.vma_shift) // nr_entries)
    places = np.arange(len(vmas) * per_vma)
    if not world.regular:
        rng.shuffle(places)
    return (places * nr_entries).reshape(len(vmas), per_vma)


def _table_pages(tables: np.ndarray, vmas: np.ndarray, nr_entries: int) -> np.ndarray:
    pages = np.arange(tables.shape[1]) * nr_entries - vmas[:, 2:3]
    by_place = np.empty(tables.size, np.int64)
    by_place[tables.ravel() // nr_entries] = np.broadcast_to(pages, tables.shape).ravel()
    return by_place


def _map(world: World, arch: Arch, memory: Memory, rng: np.random.Generator) -> None:
    if world.regular and world.young in (0.0, 1.0):
        _map_alike(world, arch, memory)
        return
    _first_references(world, memory)
    nr_entries = 1 << arch.pmd_order
    nr_pages = len(memory.folio_flags)
    partly = _partly_mapped(world, memory, rng)
    if world.workload != "file":  # it was queued for a split when that half went
        memory.folio_flags[_first_of(memory)[partly]] |= PARTIALLY_MAPPED
    orders = (memory.folio_flags >> ORDER_SHIFT).astype(np.int64)
    for vma, (start, end, shift, _flags, process) in enumerate(memory.vmas):
        entries = np.full(nr_pages, PTE_PRESENT, np.uint8)
        for name, bit in _PTE_BITS.items():
            share = getattr(world, name)
            entries |= np.where(rng.random(nr_pages) < share, bit, 0).astype(np.uint8)
        entries[partly] = 0
        entries[:start] = 0
        entries[end:] = 0
        mapped = entries != 0
        leaves = np.zeros(nr_pages, np.bool_)
        _fold(entries, orders, int(shift), arch, leaves)
        slots = (memory.tables[vma][:, None] + np.arange(nr_entries)).ravel()
        memory.ptes[slots[shift : shift + nr_pages]] = entries
        memory.ledger.rss[process, 0] += mapped.sum()
        if not world.regular:
            _book(memory.ledger, mapped, leaves, orders)


def _first_references(world: World, memory: Memory) -> None:
    # The page cache's, and of those who hold a folio beside it.
    if not world.regular:
        orders = (memory.folio_flags >> ORDER_SHIFT).astype(np.int64)
        memory.ledger.refs[:] = np.where(world.workload == "file", 1 << orders, 0)
        memory.ledger.refs[:] += (memory.folio_flags & PINNED) > 0


def _map_alike(world: World, arch: Arch, memory: Memory) -> None:
    # A large world is laid out in no more memory than it takes.
    entry = PTE_PRESENT
    for name, bit in _PTE_BITS.items():
        entry |= bit if getattr(world, name) else 0
    nr_pages = len(memory.folio_flags)
    memory.ledger.rss[:, 0] = world.mappings * nr_pages
    per_vma = memory.tables.shape[1] << arch.pmd_order
    for ptes in memory.ptes.reshape(len(memory.vmas), per_vma):
        if world.order is not None:
            step = 1 << world.order if world.order == arch.pmd_order else 1
            ptes[:nr_pages:step] = _entry(entry, world.order, arch)
            continue
        orders = memory.folio_flags >> ORDER_SHIFT
        for order in world.shares:
            chosen = orders == order
            if order == arch.pmd_order:
                chosen &= np.arange(nr_pages) & ((1 << order) - 1) == 0
            ptes[:nr_pages][chosen] = _entry(entry, order, arch)


def _entry(entry: int, order: int, arch: Arch) -> int:
    # An entry of a folio that is mapped whole: a leaf, or part of a block if it is that long.
    if order == arch.pmd_order:
        return entry | PMD_LEAF
    return entry | (PTE_CONT if 0 < arch.cont_order <= order else 0)


def _partly_mapped(world: World, memory: Memory, rng: np.random.Generator) -> np.ndarray:
    # The pages in the second halves of the folios that are mapped in part.
    orders = (memory.folio_flags >> ORDER_SHIFT).astype(np.int64)
    pages = np.arange(len(orders))
    chosen = rng.random(len(orders)) < world.partly_mapped
    within = pages & ((1 << orders) - 1)
    return chosen[pages - within] & (orders > 0) & (within >= (1 << orders) // 2)


def _first_of(memory: Memory) -> np.ndarray:
    # The first page of each page's folio.
    orders = (memory.folio_flags >> ORDER_SHIFT).astype(np.int64)
    return np.arange(len(orders)) & -(1 << orders)


@jit
def _fold(entries, orders, shift, arch, leaves):
    # Sets what needs neighbours alike: PMD leaves, and the contiguous bit of set_ptes(). Notes
    # the pages that a leaf maps.
    page = 0
    while page < len(entries):
        nr = 1 << orders[page]
        aligned = orders[page] == arch.pmd_order and shift & (nr - 1) == 0
        if aligned and _alike(entries, page, page + nr):
            leaf = entries[page] | PMD_LEAF
            for i in range(page, page + nr):
                entries[i] = 0
                leaves[i] = True
            entries[page] = leaf
        block = 1 << arch.cont_order
        if not leaves[page] and 1 < block <= nr and shift & (block - 1) == 0:
            for first in range(page, page + nr, block):
                if _alike(entries, first, first + block):
                    for i in range(first, first + block):
                        entries[i] |= PTE_CONT
        page += nr


@jit
def _alike(entries, start, end):
    # Whether entries are present and differ in young and dirty at most.
    mask = 0xFF ^ (PTE_YOUNG | PTE_DIRTY)
    for i in range(start, end):
        if not entries[i] & PTE_PRESENT or (entries[i] ^ entries[start]) & mask:
            return False
    return True


def _book(ledger: Ledger, mapped: np.ndarray, leaves: np.ndarray, orders: np.ndarray) -> None:
    # What mapping the pages of one VMA has booked.
    pages = np.arange(len(orders))
    first = pages & -(1 << orders)
    single = mapped & ~leaves
    nr = np.bincount(first[single], minlength=len(orders))
    nr += leaves & (pages == first)
    ledger.mapcounts[:] += mapped
    ledger.folio_mapcounts[:] += nr.astype(np.int32)
    ledger.refs[:] += nr.astype(np.int32)


def _ledger(world: World, nr_pages: int) -> Ledger:
    nr = 0 if world.regular else nr_pages
    books = [np.zeros(nr, np.int32) for _ in range(4)]
    return Ledger(*books, np.zeros((world.mapped_by, 2), np.int64))


def _lruvec(world: World, nr_pages: int, used: bool) -> Lruvec:
    # The reclaim's first lru_add_drain() empties the batch of its own CPU, of no other.
    nr_listed = max(nr_pages - (world.lru_add_batch if world.cpus > 1 else 0), 0)
    # One extent per folio is the worst case. The memory is reserved, not used: the operating
    # system backs only the slots that are written.
    capacity = (nr_pages >> min(world.shares)) + 1
    lists = [LruList(np.empty((capacity, 2), np.int32), np.zeros(3, np.int64)) for _ in range(4)]
    if nr_listed and used:
        lists[0].extents[0] = 0, nr_listed
        lists[0].state[1:] = 1, nr_listed
    return Lruvec(
        *lists,
        # Reading memory.stat just before the request flushed the statistics.
        stale_pages=np.array([nr_listed, 0], np.int64),
        flushes=np.array(world.flushes, np.int64),
        nr_flushed=np.zeros(1, np.int64),
        clock=np.zeros((CLOCK_NODE_CALLS, 2), np.int64),
        lru_add_batch=np.array([nr_listed, nr_pages], np.int64),
    )


def _lrugen(world: World, folio_gen: np.ndarray, folio_refs: np.ndarray) -> LruGen:
    # File folios go to the oldest generation, but those marked accessed while they still waited
    # in the lru_add batch: to the second youngest of four.
    nr_pages = len(folio_gen)
    capacity = (nr_pages >> min(world.shares)) + 1
    lists = np.zeros((MAX_NR_GENS, 3), np.int64)
    extents = np.empty((MAX_NR_GENS, capacity, 2), np.int32)
    folio_gen[:] = NO_GEN
    folio_refs[:] = 0
    late = max(nr_pages - world.lru_add_batch, 0)
    for gen, first, end in ((0, 0, late), (1, late, nr_pages)):
        if first < end:
            extents[gen, 0] = first, end
            lists[gen] = 0, 1, end - first
            folio_gen[first:end] = gen
    return LruGen(
        extents=extents,
        lists=lists,
        folio_gen=folio_gen,
        folio_refs=folio_refs,
        seq=np.array([MAX_NR_GENS - 1, 0, 0, 0], np.int64),
    )
