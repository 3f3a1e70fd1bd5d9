# SPDX-License-Identifier: GPL-2.0-only
"""Figures of what was measured, before any model: host times, emulated runs, hits of functions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.measurements import CELL
from analysis.sheet import (
    AREA,
    COLOURS,
    GROUND,
    INK,
    MARKERS,
    SERIES,
    SOFT,
    WIDTH,
    frame,
    frame_id,
    kernel_legend,
    legend_above,
    name_axis,
    number_ticks,
    one_id,
    order_axis,
    percents,
    require,
    styled,
)
from analysis.units import folio_size
from sim import Events
from sim.arch import isa

# Of the emulated cells, those that one figure can show side by side.
PLAIN_CELLS = {"lru": "classic", "stats_worker": "off", "cpus": 1, "mapped_by": 1}
LINES = dict(zip(MARKERS, ("-", "--", "-.", ":"), strict=True))
TENS = [10**power for power in range(12)]


@styled
def measured_times(host_sweep: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Draw every timed run of the host by folio order, and the published seconds beside them.

    Runs of a cell stand in the order in which they were run, under a bar at their median.

    Args:
        host_sweep: what `measurements.host_sweep` returns.
        published: what `measurements.published` returns; a pair without seconds is not drawn.

    Raises:
        ValueError: there is no run.
    """
    require(len(host_sweep), "run")
    runs = host_sweep.assign(ns=host_sweep["cpu_s"] / host_sweep["pages"] * 1e9).sort_values("run")
    figure = Figure(figsize=(WIDTH, 5))
    if published is None:
        axes = figure.subplots()
    else:
        axes, beside = figure.subplots(1, 2, width_ratios=[3, 1])
        _published_seconds(beside, published)
    _host_runs(axes, runs)
    axes.set_ylabel("host: ns of CPU time a page, MADV_PAGEOUT")
    order_axis(axes, runs["order"], narrow=True)
    n = f"n = {len(runs)} runs of the host, bars are medians; 1 run a published time"
    frame(figure, _times_finding(runs), n, frame_id(host_sweep))
    return figure


def _host_runs(axes: Axes, runs: pd.DataFrame) -> None:
    # One narrow column a workload beside each order.
    workloads = sorted(runs["workload"].unique())
    width = 0.8 / len(workloads)
    for at, workload in enumerate(workloads):
        own = runs[runs["workload"] == workload]
        by_order = own.groupby("order")
        place = (by_order.cumcount() + 0.5) / by_order["run"].transform("size")
        left = at * width - 0.4
        axes.plot(own["order"] + left + width * place, own["ns"], "osD^vP"[at % 6], markersize=3.5,
                  color=SERIES[at % len(SERIES)], label=f"{workload}: each run")  # fmt: skip
        median = by_order["ns"].median()
        axes.hlines(median, median.index + left, median.index + left + width, color=INK)
    axes.set_ylim(0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)


def _published_seconds(axes: Axes, published: pd.DataFrame) -> None:
    real = published[(published["metric"] == "real") & published["after"].notna()]
    seconds = {}
    for pair in real.itertuples():
        seconds |= {(pair.arch, pair.kernel_before): pair.before}
        seconds |= {(pair.arch, pair.kernel_after): pair.after}
    colours = [COLOURS[arch] for arch, _ in seconds]
    bars = axes.bar(range(len(seconds)), seconds.values(), color=colours, width=0.6)
    axes.bar_label(bars, [f"{value:.3f}" for value in seconds.values()], fontsize=9)
    axes.set_xticks(range(len(seconds)), [kernel for _, kernel in seconds], rotation=30, ha="right")
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("published: seconds")
    axes.set_title(", ".join(dict.fromkeys(arch for arch, _ in seconds)), loc="left", fontsize=10)


def _times_finding(runs: pd.DataFrame) -> str:
    medians = runs.groupby(["order", "workload"])["ns"].median()
    shared = medians.groupby("order").size().loc[:8]
    order = shared[shared == shared.max()].index.max() if len(shared) else runs["order"].max()
    parts = [f"{ns:.0f} ns a page ({workload})" for workload, ns in medians[order].items()]
    return f"One host at folios of {folio_size(order)}: {', '.join(parts)}"


@styled
def emulated_instructions(cells: pd.DataFrame) -> Figure:
    """Draw instructions per freed page by folio order and kernel, one panel an architecture.

    Args:
        cells: what `measurements.instructions` returns; those of `PLAIN_CELLS` are drawn.

    Raises:
        ValueError: none of them is.
    """
    plain = cells.merge(pd.DataFrame([PLAIN_CELLS])).sort_values("order")
    require(len(plain), "emulated cell of " + " ".join(f"{k}={v}" for k, v in PLAIN_CELLS.items()))
    plain["per_page"] = plain["instructions"] / plain["pgsteal"]
    figure = Figure(figsize=(WIDTH, 5.2))
    body = figure.subfigures()
    arches = [arch for arch in COLOURS if (plain["arch"] == arch).any()]
    panels = body.subplots(1, len(arches), sharey=True, squeeze=False)[0]
    for axes, arch in zip(panels, arches, strict=True):
        for kernel, marker in MARKERS.items():
            own = plain[(plain["arch"] == arch) & (plain["kernel"] == kernel)]
            above = own["per_page"] * own["spread"].fillna(0)
            axes.errorbar(own["order"], own["per_page"], yerr=[above * 0, above], label=kernel,
                          marker=marker, linestyle=LINES[kernel], color=COLOURS[arch])  # fmt: skip
        axes.set_yscale("log")
        number_ticks(axes.yaxis, [step * ten for ten in TENS for step in (1, 2, 5)])
        axes.set_title(arch, loc="left", fontsize=10)
        order_axis(axes, plain["order"], narrow=True)
    panels[0].set_ylabel("instructions a freed page")
    kernel_legend(body, lambda kernel: {"linestyle": LINES[kernel]})
    n = f"n = {len(plain)} of {len(cells)} cells: classic LRU, one CPU, mapped by one process"
    note = "points: the least of the runs of a cell; bars: up to the largest"
    frame(figure, _instructions_finding(plain), n, frame_id(plain), [note])
    return figure


def _instructions_finding(plain: pd.DataFrame) -> str:
    # Where the kernels differ most.
    parts = []
    for arch, own in plain.groupby("arch"):
        table = own.pivot_table(index="kernel", columns="order", values="per_page")
        by_kernel = table[(table.max() / table.min()).idxmax()]
        least, most = by_kernel.idxmin(), by_kernel.idxmax()
        parts.append(
            f"{by_kernel[most]:,.0f} ({most}) to {by_kernel[least]:,.0f} ({least}) on {arch} at "
            f"{folio_size(by_kernel.name)}"
        )
    return f"Instructions a freed page: {'; '.join(parts)}"


@styled
def simulated_events(events: Sequence[Events], measured: pd.DataFrame | None = None) -> Figure:
    """Draw hits of each kernel function: simulated as rings, what the kernel counted as dots.

    Args:
        events: simulated requests, one or a few kernels.
        measured: what `measurements.counters` returns; the cell of each request is looked up.

    Raises:
        ValueError: there is no request.
    """
    require(len(events), "simulated request")
    hits = pd.concat([_hits(request, measured) for request in events], ignore_index=True)
    functions = list(dict.fromkeys(hits["function"]))
    figure = Figure(figsize=(WIDTH, 2 + 0.26 * len(functions)))
    body = figure.subfigures()
    axes = body.subplots()
    for at, (name, own) in enumerate(hits.groupby("request", sort=False)):
        rows = own["function"].map(functions.index) + 0.7 * ((at + 0.5) / len(events) - 0.5)
        look = {"marker": MARKERS[events[at].kernel], "linestyle": "none"}
        colour = COLOURS[isa(events[at].arch)]
        axes.plot(own["simulated"], rows, markersize=7, mfc="none", color=colour,
                  label=f"{name}: simulated", **look)  # fmt: skip
        if own["measured"].notna().any():
            axes.plot(own["measured"], rows, markersize=3, color=INK,
                      label=f"{name}: counted by the kernel", **look)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2 * hits[["simulated", "measured"]].max(axis=None))
    number_ticks(axes.xaxis, TENS)
    axes.set_xlabel("hits")
    name_axis(axes, functions)
    legend_above(body, axes, ncols=2)
    n = f"n = {hits['measured'].notna().sum()} of {len(hits)} hits also counted, one run each"
    frame(figure, _hits_finding(hits), n, one_id(request.id for request in events))
    return figure


def _hits(request: Events, measured: pd.DataFrame | None) -> pd.DataFrame:
    inputs = request.inputs
    name = f"{inputs['arch']}, order {inputs['order']}, {inputs['kernel']}, {inputs['lru']}"
    simulated = request.functions()
    hits = pd.DataFrame(
        {"request": name, "function": simulated.keys(), "simulated": simulated.values()}
    )
    counted = pd.Series(dtype=float)
    if measured is not None and inputs["access"] == "pread":  # as in every measured cell
        cell = pd.DataFrame([inputs | {"stats_worker": "off"}])[CELL]
        counted = measured.merge(cell, on=CELL).set_index("function")["hits"]
    return hits.assign(measured=hits["function"].map(counted).astype(float))


def _hits_finding(hits: pd.DataFrame) -> str:
    counted = hits.dropna(subset="measured")
    if counted.empty:
        most = hits.loc[hits["simulated"].idxmax()]
        return f"Most hits: {most['function']}, {most['simulated']:,} ({most['request']})"
    off = (counted["simulated"] - counted["measured"]).abs()
    exact = int(np.sum(off == 0))
    worst = counted.loc[off.idxmax()]
    return (
        f"{exact} of {len(counted)} simulated hits equal the kernel's own count; farthest off: "
        f"{worst['function']}, by {off.max():,.0f} of {worst['measured']:,.0f}"
    )


@styled
def ab_calibration(table: pd.DataFrame, nr_runs: int) -> Figure:
    """Draw how often tests find a difference that is not there, beside one that is.

    Args:
        table: what `calibration.calibration` returns.
        nr_runs: identical runs behind it, for the footer.

    Raises:
        ValueError: there is no test.
    """
    require(len(table), "test")
    figure = Figure(figsize=(WIDTH, 1.8 + 0.45 * len(table)))
    left, right = figure.subplots(1, 2, sharey=True)
    ours = (table["test"] == table["test"].iloc[0]).to_numpy()
    colours = [SOFT if own else AREA for own in ours]
    rows = np.arange(len(table))
    for axes, column, name in (
        (left, "false_positives", "found where nothing differs"),
        (right, "power", "found where every second side is slower"),
    ):
        bars = axes.barh(rows, table[column], color=colours, edgecolor=INK, height=0.7)
        told = [f"{share:.1%}" for share in table[column]]
        axes.bar_label(bars, told, fontsize=9, padding=4, bbox={"color": GROUND, "pad": 0.5})
        axes.set_xlim(0, 1.15 if column == "power" else max(1.25 * table[column].max(), 0.1))
        percents(axes.xaxis)
        axes.set_xlabel(name)
        axes.grid(visible=False, axis="y")
    left.axvline(0.05, color=INK, linewidth=1, linestyle="--")
    left.set_yticks(rows, [f"{row.test}: {row.order}" for row in table.itertuples()])
    left.invert_yaxis()
    worst = table[ours]["false_positives"].max()
    other = table[~ours]["false_positives"].max()
    found = (
        f"Of identical runs, this workbook's tests find at most {worst:.1%} different, "
        f"the usual ones up to {other:.1%}"
    )
    n = f"n = {nr_runs} identical runs, every window of them one experiment; dashed: nominal 5%"
    frame(figure, found, n, frame_id(table))
    return figure
