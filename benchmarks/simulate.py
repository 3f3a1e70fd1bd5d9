# SPDX-License-Identifier: GPL-2.0-only
"""Time the simulator on the published request, beside what the patched kernel itself took.

    python benchmarks/simulate.py

10 GiB mapped, 8 GiB reclaimed, one core, warm: compiled before the clock starts, the least of
several runs (CPU time of this process); both LRUs side by side. Then the same share of 1 TiB, per
page beside the 10 GiB of the same run, and what a fresh interpreter pays for the import and, with
the compiled code on disk, for its first request. Peak memory is that of the process that ran the
line, this one or a fresh one.
"""

import resource
import subprocess
import sys
import time

from analysis.elapsed import MAP_BYTES, RECLAIM_BYTES, published_seconds
from sim import LRUS, MEASURED_ARCHES, World, reclaim

ORDERS = (0, 1, 2, 4, 6, 8, 9)
KERNELS = ("base", "unmap")
RUNS = 7
TIB = 1 << 40

FRESH = """
import time
start = time.perf_counter()
import sim
imported = time.perf_counter()
world = sim.World(map_bytes=1 << 28, reclaim_bytes=1 << 27)
sim.reclaim(world, "arm64", "unmap")
print(imported - start, time.perf_counter() - imported)
"""


def main() -> None:
    """Print one line a cell, milliseconds."""
    kernel_ms = 1e3 * published_seconds()["unmap"]
    print("10 GiB mapped, 8 GiB reclaimed, warm, one core, ms (the patched kernel: ", end="")
    print(f"{kernel_ms:.0f} ms)\n{'arch':<8}{'kernel':<8}{'order':>5}", end="")
    print("".join(f"{lru:>10}" for lru in LRUS), "    ratio")
    for arch in MEASURED_ARCHES:
        for kernel in KERNELS:
            for order in ORDERS:
                classic, mglru = (1e3 * _seconds(arch, kernel, order, lru) for lru in LRUS)
                print(f"{arch:<8}{kernel:<8}{order:>5}{classic:>10.1f}{mglru:>10.1f}", end="")
                print(f"{mglru / classic:>10.1f}")
    print(f"peak memory {_peak_mib():.0f} MiB")
    _tebibyte()
    imported, first = _fresh()
    print(f"fresh interpreter: import sim {imported:.2f} s, first request {first:.2f} s")


def _tebibyte() -> None:
    share = RECLAIM_BYTES / MAP_BYTES
    small = _seconds("x86_64", "unmap", 0, "classic")
    world = World(map_bytes=TIB, reclaim_bytes=int(share * TIB), order=0)
    times = []
    for _ in range(3):
        start = time.process_time()
        reclaim(world, "x86_64", "unmap")
        times.append(time.process_time() - start)
    per_page = min(times) / TIB / (small / MAP_BYTES)
    print(f"1 TiB at order 0: {times[0]:.2f} s first, with memory that is new to the process; ")
    print(f"then {min(times):.2f} s, {per_page:.2f} of the 10 GiB run's time a page; ", end="")
    print(f"peak memory {_peak_mib():.0f} MiB")


def _fresh() -> tuple[float, float]:
    said = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, text=True)
    imported, first = map(float, said.stdout.split())
    return imported, first


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _seconds(arch: str, kernel: str, order: int, lru: str) -> float:
    world = World(map_bytes=MAP_BYTES, reclaim_bytes=RECLAIM_BYTES, order=order)
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        reclaim(world, arch, kernel, lru)
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
