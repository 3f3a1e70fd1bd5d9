# SPDX-License-Identifier: GPL-2.0-only
"""Lay out a world in memory, run the walk over it, hand back its events."""

import numpy as np

from sim.arch import ARCHES, Arch
from sim.events import Events
from sim.kernel import KERNELS
from sim.look_around import MAX_NR_GENS, MIN_LRU_BATCH
from sim.state import (
    NO_GEN,
    PTE_CONT,
    PTE_PRESENT,
    PTE_YOUNG,
    REFERENCED,
    Count,
    LruGen,
    LruList,
    Lruvec,
    Machine,
    Memory,
)
from sim.vmscan import user_proactive_reclaim
from sim.world import World, WorldError

LRUS = ("classic", "mglru")


def reclaim(world: World, arch: str, kernel: str, lru: str = "classic") -> Events:
    """Simulate one write to memory.reclaim and return what the kernel's functions did.

    Args:
        world: the memory and the request.
        arch: a key of `sim.ARCHES`.
        kernel: a key of `sim.KERNELS`.
        lru: a member of `sim.LRUS`.

    Raises:
        WorldError: the world cannot exist on this architecture, or a name is unknown.
    """
    for name, value, allowed in (
        ("arch", arch, ARCHES),
        ("kernel", kernel, KERNELS),
        ("lru", lru, LRUS),
    ):
        if not isinstance(value, str) or value not in allowed:
            raise WorldError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
    try:
        memory = lay_out(world, ARCHES[arch], lru)
    except MemoryError:
        raise WorldError(
            f"{world.mapped_by} mappings of {world.map_bytes} bytes: one byte a page and mapping "
            "does not fit into this machine's memory; map less"
        ) from None
    counts, result = walk(world, memory, arch, kernel, lru)
    named = {count.name: counts[count] for count in Count}
    return Events(world, arch, kernel, lru, named, result)


def lay_out(world: World, arch: Arch, lru: str = "classic") -> Memory:
    """Return the memory as the mapping processes left it: folios in file order, none active."""
    nr_folios = world.nr_folios(arch)
    nr_pages = 1 << world.order
    pte = PTE_PRESENT | PTE_YOUNG
    if 1 < arch.cont_ptes <= nr_pages and world.order < arch.pmd_order:
        pte |= PTE_CONT  # set_ptes() of an aligned run that long folds it
    # filemap_read() marks each folio accessed once; touching a mapping sets young bits alone.
    flags = REFERENCED if world.access == "pread" else 0
    return Memory(
        ptes=np.full((world.mapped_by, nr_folios * nr_pages), pte, np.uint8),
        folio_flags=np.full(nr_folios, flags, np.uint8),
        lruvec=_lruvec(world, nr_folios if lru == "classic" else 0),
        lrugen=_lrugen(world, nr_folios if lru == "mglru" else 0),
        folio_list=np.empty(MIN_LRU_BATCH, np.int32),
        nr_pages=nr_pages,
    )


def walk(
    world: World, memory: Memory, arch: str, kernel: str, lru: str = "classic"
) -> tuple[np.ndarray, int]:
    """Run the walk over `memory`, which it changes; return counts by `Count`, and the result."""
    facts = ARCHES[arch]
    machine = Machine(
        arch=facts,
        kernel=KERNELS[kernel],
        lru_gen=lru == "mglru",
        always_flushed=world.stats_flush == "always",
        defers_flush=facts.defers_flush_always or world.cpus > 1,
        pmd_mapped=world.order == facts.pmd_order,
    )
    counts = np.zeros(len(Count), np.int64)
    result = user_proactive_reclaim(world.nr_to_reclaim(facts), memory, machine, counts)
    return counts, int(result)


def _lruvec(world: World, nr_folios: int) -> Lruvec:
    # The reclaim's first lru_add_drain() empties the batch of its own CPU, of no other.
    nr_listed = max(nr_folios - (world.lru_add_batch if world.cpus > 1 else 0), 0)
    nr_pages = nr_listed << world.order
    inactive = _empty_list(nr_folios)
    if nr_listed:
        inactive.extents[0] = 0, nr_listed
        inactive.state[1:] = 1, nr_pages
    return Lruvec(
        inactive=inactive,
        active=_empty_list(nr_folios),
        # Reading memory.stat just before the request flushed the statistics.
        stale_pages=np.array([nr_pages, 0], np.int64),
        flushes=np.array(world.flushes, np.int64),
        nr_flushed=np.zeros(1, np.int64),
    )


def _lrugen(world: World, nr_folios: int) -> LruGen:
    # File folios go to the oldest generation, but those marked accessed while they still waited
    # in the lru_add batch: to the second youngest of four.
    lists = np.zeros((MAX_NR_GENS, 3), np.int64)
    extents = np.empty((MAX_NR_GENS, nr_folios + 1, 2), np.int32)
    folio_gen = np.full(nr_folios, NO_GEN, np.int8)
    nr_late = min(world.lru_add_batch, nr_folios)
    for gen, first, end in ((0, 0, nr_folios - nr_late), (1, nr_folios - nr_late, nr_folios)):
        if first < end:
            extents[gen, 0] = first, end
            lists[gen] = 0, 1, (end - first) << world.order
            folio_gen[first:end] = gen
    return LruGen(
        extents=extents,
        lists=lists,
        folio_gen=folio_gen,
        folio_refs=np.zeros(nr_folios, np.uint8),
        seq=np.array([MAX_NR_GENS - 1, 0, 0, 0], np.int64),
    )


def _empty_list(nr_folios: int) -> LruList:
    # One extent per folio is the worst case. The memory is reserved, not used: the operating
    # system backs only the slots that are written.
    return LruList(np.empty((nr_folios + 1, 2), np.int32), np.zeros(3, np.int64))
