# SPDX-License-Identifier: GPL-2.0-only
"""What was measured is drawn as it was measured: artists' values, not pictures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from analysis import figures, measurements, sheet
from sim import World, reclaim

MARKUP = "$x_1$ <b>&amp; __f_$"


def cells(**columns) -> pd.DataFrame:
    row = {
        "arch": "arm64", "lru": "classic", "stats_worker": "off", "cpus": 1, "mapped_by": 1,
        "map_bytes": 1 << 28, "reclaim_bytes": 1 << 27, "order": 4, "kernel": "base",
        "instructions": 1000, "pgscan": 20, "pgsteal": 10, "n": 2, "spread": 0.5,
        "relative_error": 0.02,
    }  # fmt: skip
    length = max((len(values) for values in columns.values()), default=1)
    return pd.DataFrame({name: [value] * length for name, value in row.items()} | columns)


def sweep(**columns) -> pd.DataFrame:
    runs = {"run": [1, 2, 3], "workload": ["file", "file", "lazyfree"], "order": [4, 4, 4],
            "pages": [1000] * 3, "cpu_s": [1e-3, 3e-3, 1e-4]}  # fmt: skip
    return pd.DataFrame(runs | columns)


def request(kernel="unmap", arch="arm64", access="pread", order=4):
    world = World(map_bytes=8 << 20, reclaim_bytes=4 << 20, order=order, access=access)
    return reclaim(world, arch, kernel)


def counted(events, by=0) -> pd.DataFrame:
    cell = {name: events.inputs.get(name, "off") for name in measurements.CELL}
    hits = events.functions()
    rows = [cell | {"function": name, "hits": hits[name] + by} for name in hits]
    return pd.DataFrame(rows)


def errorbars(axes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    # Points of each errorbar, x and y, and its bars as segments.
    found = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return [(*c[0].get_data(), np.array(c[2][0].get_segments())) for c in found]


def lines(axes, label) -> list:
    return [line for line in axes.lines if label in str(line.get_label())]


def test_every_timed_run_is_a_point_and_each_cell_has_its_median():
    figure = figures.measured_times(sweep(), measurements.published())
    host = next(axes for axes in figure.axes if "host" in axes.get_ylabel())
    assert sorted(lines(host, "file")[0].get_ydata()) == pytest.approx([1000, 3000])
    medians = [line[0, 1] for c in host.collections for line in c.get_segments()]
    assert medians == pytest.approx([2000, 100])
    assert host.get_ylim()[0] == 0
    published = next(axes for axes in figure.axes if axes is not host)
    assert [bar.get_height() for bar in published.patches] == [1.518, 1.018, 0.249]
    assert "n = 3 runs" in figure.get_supxlabel()


def test_instructions_per_freed_page_of_plain_cells_with_their_spread():
    given = cells(order=[0, 4, 4], lru=["classic", "classic", "mglru"])
    figure = figures.emulated_instructions(given)
    _, y, bars = errorbars(figure.axes[0])[0]
    assert list(y) == [100, 100]
    assert bars[0, :, 1] == pytest.approx([100, 150])
    assert "n = 2 of 3 cells" in figure.get_supxlabel()


def test_simulated_hits_beside_those_counted():
    events = request()
    axes = figures.simulated_events([events], counted(events, by=3)).axes[0]
    hits = list(events.functions().values())
    simulated, measured = lines(axes, "simulated")[0], lines(axes, "counted")[0]
    assert simulated.get_xdata().tolist() == hits
    assert measured.get_xdata().tolist() == [hit + 3 for hit in hits]
    assert simulated.get_markerfacecolor() == "none"
    assert measured.get_markerfacecolor() == sheet.INK
    assert [label.get_text() for label in axes.get_yticklabels()] == list(events.functions())


def test_hits_of_larger_pages_have_the_colour_of_their_architecture():
    axes = figures.simulated_events([request(arch="arm64-64k")]).axes[0]
    (hits,) = lines(axes, "simulated")
    assert hits.get_color() == sheet.COLOURS["arm64"]


@pytest.mark.parametrize("events", [request(access="mmap"), request("base"), request(order=9)])
def test_hits_of_another_cell_are_not_shown_as_if_counted(events):
    figure = figures.simulated_events([events], counted(request()))
    assert not lines(figure.axes[0], "counted")
    assert "n = 0 of" in figure.get_supxlabel()


def test_simulated_equals_counted_is_said_from_the_numbers():
    events = request()
    exact = figures.finding(figures.simulated_events([events], counted(events)))
    nr = len(events.functions())
    assert exact.startswith(f"{nr} of {nr} simulated hits equal")
    off = figures.finding(figures.simulated_events([events], counted(events, by=7)))
    assert off.startswith(f"0 of {nr}")
    assert "by 7 of" in off


def test_counters_of_any_function_name_are_looked_up_not_interpreted():
    events = request()
    strange = counted(events).assign(function=MARKUP).iloc[:1]
    assert "n = 0 of" in figures.simulated_events([events], strange).get_supxlabel()
