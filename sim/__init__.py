# SPDX-License-Identifier: GPL-2.0-only
"""The reclaim path as an embedded simulator whose event counts equal the kernel's.

>>> import sim
>>> world = sim.World(map_bytes=256 << 20, reclaim_bytes=64 << 20, order=4)
>>> sim.reclaim(world, "arm64", "unmap").functions()["set_tlb_ubc_flush_pending"]
1024
"""

from sim.arch import ARCHES, MEASURED_ARCHES
from sim.events import Events
from sim.kernel import FILE_SERIES, KERNELS
from sim.reclaim import LRUS, reclaim
from sim.world import ACCESSES, REQUESTS, WORKLOADS, World, WorldError

__all__ = [
    "ACCESSES",
    "ARCHES",
    "FILE_SERIES",
    "KERNELS",
    "LRUS",
    "MEASURED_ARCHES",
    "REQUESTS",
    "WORKLOADS",
    "Events",
    "World",
    "WorldError",
    "reclaim",
]
