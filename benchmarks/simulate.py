# SPDX-License-Identifier: GPL-2.0-only
"""Time the simulator on the published request, beside what the patched kernel itself took.

    python benchmarks/simulate.py

10 GiB mapped, 8 GiB reclaimed, classic LRU, one core, warm: compiled before the clock starts, the
least of several runs (CPU time of this process). Peak memory is that of the whole run.
"""

import resource
import time

from analysis.elapsed import MAP_BYTES, RECLAIM_BYTES, published_seconds
from sim import ARCHES, World, reclaim

ORDERS = (0, 1, 2, 4, 6, 8, 9)
KERNELS = ("base", "unmap")
RUNS = 5


def main() -> None:
    """Print one line a cell, milliseconds."""
    kernel_ms = 1e3 * published_seconds()["unmap"]
    print(f"{'arch':<8}{'kernel':<8}{'order':>5}{'ms':>9}  of the kernel's own {kernel_ms:.0f} ms")
    for arch in ARCHES:
        for kernel in KERNELS:
            for order in ORDERS:
                ms = 1e3 * _seconds(arch, kernel, order)
                print(f"{arch:<8}{kernel:<8}{order:>5}{ms:>9.1f}  {ms / kernel_ms:.1%}")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak_mib:.0f} MiB")


def _seconds(arch: str, kernel: str, order: int) -> float:
    world = World(map_bytes=MAP_BYTES, reclaim_bytes=RECLAIM_BYTES, order=order)
    reclaim(world, arch, kernel)
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        reclaim(world, arch, kernel)
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
