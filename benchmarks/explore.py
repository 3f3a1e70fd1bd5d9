# SPDX-License-Identifier: GPL-2.0-only
"""Time what the notebook `explore` does when a control moves.

    python benchmarks/explore.py

Before each move all that was simulated is forgotten, so that it is simulated, priced and drawn,
from the control's value to the two pieces of HTML for the browser, in an event loop as Jupyter
has; compiled and fitted before the clock starts. Wall time of this process, the median and the
worst of the moves of a row. "Smaller": moves that were first drawn of a smaller request; whole:
the worst until what was asked for is drawn. The last row is what a figure of the same bars takes
matplotlib, as SVG.
"""

import asyncio
import time
from dataclasses import replace
from io import BytesIO
from statistics import median

from matplotlib.figure import Figure

from analysis import explore, timing
from analysis.explore_controls import Explorer
from analysis.params import Explore
from sim import LRUS, MEASURED_ARCHES

TARGET_S = 0.1
MIXTURE = "0:0.2,4:0.5,9:0.3"
ALL_ORDERS = ",".join(f"{order}:0.1" for order in range(10))
# What a row is about, and where its controls start.
ROWS = {
    "256 MiB, one order": Explore(),
    "256 MiB, mixture": Explore(folios=MIXTURE),
    "256 MiB, 16 processes": Explore(mapped_by=16),
    "1 GiB, mixture": Explore(map_size="1G", reclaim_size="0.8G", folios=MIXTURE),
    "10 GiB, one order": Explore(map_size="10G", reclaim_size="8G"),
    "10 GiB, mixture": Explore(map_size="10G", reclaim_size="8G", folios=MIXTURE),
    "10 GiB, all orders": Explore(map_size="10G", reclaim_size="8G", folios=ALL_ORDERS),
    "10 GiB, 16 processes": Explore(map_size="10G", reclaim_size="8G", mapped_by=16),
    "1 GiB, 1024 processes": Explore(map_size="1G", reclaim_size="0.8G", mapped_by=1024),
}


async def main() -> None:
    """Print one line a row, milliseconds."""
    start = time.perf_counter()
    explorer = Explorer(Explore())
    print(f"first view, costs fitted: {time.perf_counter() - start:.1f} s")
    heads = ("moves", "median", "worst", "smaller", "whole")
    print(f"{'':<24}{''.join(f'{head:>9}' for head in heads)}  ms, target {1e3 * TARGET_S:.0f}")
    for name, asked in ROWS.items():
        for each, control in explorer.controls.items():
            control.value = getattr(asked, each)
        while explorer.drawing:
            await asyncio.sleep(0.001)
        times = [await _moved(explorer, *move) for move in _moves(asked)]
        first, whole = zip(*times, strict=True)
        nr_smaller = sum(once < twice for once, twice in times)
        print(f"{name:<24}{len(times):>9}", end="")
        print(f"{1e3 * median(first):>9.1f}{1e3 * max(first):>9.1f}", end="")
        print(f"{nr_smaller:>9}{1e3 * max(whole):>9.1f}", flush=True)
    print(f"{'matplotlib, SVG':<24}{'':>9}{1e3 * _matplotlib():>9.1f}")


def _moves(asked: Explore) -> list[tuple[str, object]]:
    # Each differs from the value before it.
    orders = [("order", order) for order in range(10)] if not asked.folios else []
    kernels = [("before", "base"), ("after", "references"), ("after", "unmap")]
    there = [("arch", arch) for arch in reversed(MEASURED_ARCHES)]
    return [*orders, *kernels, *there, *[("lru", lru) for lru in reversed(LRUS)]]


async def _moved(explorer: Explorer, name: str, value: object) -> tuple[float, float]:
    # Seconds until something is drawn, and until it is what was asked for.
    explore.answer.cache_clear()
    timing.simulated.cache_clear()
    explorer.settled.clear()
    start = time.perf_counter()
    explorer.controls[name].value = value
    first = whole = time.perf_counter() - start
    while explorer.drawing:
        await asyncio.sleep(0.001)
        whole = time.perf_counter() - start
    return first, whole if explorer.settled else first  # the table may have been written since


def _matplotlib() -> float:
    found = explore.answer(replace(Explore(), order=3)).events()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        figure = Figure(figsize=(9, 6))
        axes = figure.subplots()
        axes.barh(found.index - 0.2, found["before"], height=0.4, hatch="//")
        axes.barh(found.index + 0.2, found["after"], height=0.4, hatch="\\\\")
        axes.set_yticks(found.index, found["function"])
        figure.savefig(BytesIO(), format="svg")
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    asyncio.run(main())
