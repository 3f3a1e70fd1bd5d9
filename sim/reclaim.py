# SPDX-License-Identifier: GPL-2.0-only
"""Run the walk over a world, hand back its events."""

import numpy as np

from sim.arch import ARCHES
from sim.events import Events
from sim.kernel import KERNELS, Kernel
from sim.layout import lay_out
from sim.state import Count, Machine, Memory
from sim.vmscan import madvise_pageout, user_proactive_reclaim
from sim.world import World, WorldError

LRUS = ("classic", "mglru")


def reclaim(world: World, arch: str, kernel: str, lru: str = "classic") -> Events:
    """Simulate one request and return what the kernel's functions did.

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
    if lru == "mglru" and world.workload != "file":
        raise WorldError(
            f"lru mglru with workload {world.workload}: anonymous generations are not simulated; "
            "use lru classic"
        )
    try:
        memory = lay_out(world, ARCHES[arch], lru)
    except MemoryError:
        raise WorldError(
            f"{world.mapped_by} mappings of {world.map_bytes} bytes: one byte a page and mapping, "
            "and two a page, do not fit into this machine's memory; map less"
        ) from None
    counts, result = walk(world, memory, arch, KERNELS[kernel], lru)
    named = {count.name: counts[count] for count in Count}
    return Events(world, arch, kernel, lru, named, result)


def walk(
    world: World, memory: Memory, arch: str, kernel: Kernel, lru: str = "classic"
) -> tuple[np.ndarray, int]:
    """Run the walk over `memory`, which it changes; return counts by `Count`, and the result."""
    facts = ARCHES[arch]
    machine = Machine(
        arch=facts,
        kernel=kernel,
        lru_gen=lru == "mglru",
        always_flushed=world.stats_flush == "always",
        defers_flush=facts.defers_flush_always or world.cpus > 1,
        anon=world.workload != "file",
        lazyfree=world.workload == "lazyfree",
        ignore_references=world.request == "pageout",
        order=-1 if world.order is None else world.order,
        regular=world.regular,
    )
    counts = np.zeros(len(Count), np.int64)
    nr_to_reclaim = world.nr_to_reclaim(facts)
    if world.request == "pageout":
        nr_pages = min(nr_to_reclaim, len(memory.folio_flags))
        return counts, int(madvise_pageout(nr_pages, memory, machine, counts))
    return counts, int(user_proactive_reclaim(nr_to_reclaim, memory, machine, counts))
