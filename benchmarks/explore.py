# SPDX-License-Identifier: GPL-2.0-only
"""Time what the notebook `explore` does when a control moves.

    python benchmarks/explore.py

Before each move all that was simulated is forgotten, so that it is simulated, priced and drawn,
from the control's value to the two pieces of HTML for the browser; compiled and fitted before the
clock starts. Wall time of this process, the median and the worst of the moves of a row. The last
row is what a figure of the same bars takes matplotlib, as SVG.
"""

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
# What a row is about, and where its controls start.
ROWS = {
    "256 MiB, one order": Explore(),
    "256 MiB, mixture": Explore(folios=MIXTURE),
    "256 MiB, 16 processes": Explore(mapped_by=16),
    "1 GiB, mixture": Explore(map_size="1G", reclaim_size="0.8G", folios=MIXTURE),
    "10 GiB, one order": Explore(map_size="10G", reclaim_size="8G"),
    "10 GiB, mixture": Explore(map_size="10G", reclaim_size="8G", folios=MIXTURE),
}


def main() -> None:
    """Print one line a row, milliseconds."""
    start = time.perf_counter()
    explorer = Explorer(Explore())
    print(f"first view, costs fitted: {time.perf_counter() - start:.1f} s")
    print(f"{'':<24}{'moves':>6}{'median':>9}{'worst':>9}  ms, target {1e3 * TARGET_S:.0f}")
    for name, asked in ROWS.items():
        for each in ("map_size", "reclaim_size", "folios", "mapped_by"):
            explorer.controls[each].value = getattr(asked, each)
        times = [_moved(explorer, *move) for move in _moves(asked)]
        print(f"{name:<24}{len(times):>6}{1e3 * median(times):>9.1f}{1e3 * max(times):>9.1f}")
    print(f"{'matplotlib, SVG':<24}{'':>6}{1e3 * _matplotlib():>9.1f}")


def _moves(asked: Explore) -> list[tuple[str, object]]:
    orders = [("order", order) for order in range(10)] if not asked.folios else []
    kernels = [("before", "base"), ("after", "references"), ("after", "unmap")]
    there = [("arch", arch) for arch in reversed(MEASURED_ARCHES)]
    return [*orders, *kernels, *there, *[("lru", lru) for lru in reversed(LRUS)]]


def _moved(explorer: Explorer, name: str, value: object) -> float:
    explore.answer.cache_clear()
    timing.simulated.cache_clear()
    start = time.perf_counter()
    explorer.controls[name].value = value
    return time.perf_counter() - start


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
    main()
