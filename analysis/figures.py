# SPDX-License-Identifier: GPL-2.0-only
"""Figures: values in, one `matplotlib.figure.Figure` out.

One colour per architecture, one marker per kernel or pair of kernels; measured is filled, what a
model says is open, and intervals are always drawn. The title is the finding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.elapsed import FASTEST_NS, SLOWEST_NS
from analysis.explain import NOT_EXPLAINED, Attribution
from analysis.fit import CostModel
from analysis.groups import NAMES
from analysis.measurements import CELL
from analysis.predict import METRICS, Prediction
from analysis.sheet import (
    COLOURS,
    MARKERS,
    WIDTH,
    finding,
    finite_limits,
    frame,
    frame_id,
    legend_above,
    name_axis,
    number_ticks,
    one_id,
    order_axis,
    points,
    require,
    save,
    styled,
)
from analysis.units import folio_size
from sim import ARCHES, Events

__all__ = [
    "costs",
    "emulated_instructions",
    "finding",
    "implied_prices",
    "left_out",
    "measured_times",
    "reduction_by_order",
    "save",
    "simulated_events",
    "waterfall",
]

PAIR_MARKERS = "oDs^vP"
REDUCTION_OF = {"time": "elapsed reduction", "instructions": "reduction of instructions"}
# Of the emulated cells, those that one figure can show side by side.
PLAIN_CELLS = {"lru": "classic", "stats_worker": "off", "cpus": 1, "mapped_by": 1}
TENS = [10**power for power in range(9)]


@styled
def reduction_by_order(predictions: Sequence[Prediction], title: str | None = None) -> Figure:
    """Draw what a changed kernel saves by folio order: predicted open, measured filled.

    Time and instructions get a panel each. ValueError if there is no prediction.
    """
    require(len(predictions), "prediction")
    metrics = [metric for metric in METRICS if any(p.metric == metric for p in predictions)]
    figure = Figure(figsize=(WIDTH, 1.2 + 3.8 * len(metrics)))
    panels = figure.subplots(len(metrics), squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        _reductions(axes, [p for p in predictions if p.metric == metric])
        axes.set_ylabel(REDUCTION_OF[metric])
        order_axis(axes, [p.order for p in predictions])
    nr_measured = sum(p.measured is not None for p in predictions)
    n = f"n = {len(predictions)} predictions, {nr_measured} of them measured"
    frame(figure, title or _reduction_finding(predictions, metrics[0]), n,
           one_id(p.id for p in predictions))  # fmt: skip
    return figure


def _reductions(axes: Axes, predictions: Sequence[Prediction]) -> None:
    pairs = list(dict.fromkeys((p.before, p.after) for p in predictions))
    series = list(dict.fromkeys((p.arch, p.before, p.after, p.blind) for p in predictions))
    step = 0.6 / len(series)
    for at, (arch, before, after, blind) in enumerate(series):
        own = [p for p in predictions if (p.arch, p.before, p.after, p.blind) == series[at]]
        x = np.array([p.order for p in own]) + step * (at - (len(series) - 1) / 2)
        low, best, high = np.array([p.elapsed_reduction for p in own], float).T
        marker = PAIR_MARKERS[pairs.index((before, after)) % len(PAIR_MARKERS)]
        name = f"{arch}, {after} over {before}{', blind' if blind else ''}"
        look = {"fmt": marker, "color": COLOURS[arch]}
        points(axes, x, best, (best - low, high - best), look | {"mfc": "white"},
                f"{name}: predicted")  # fmt: skip
        measured = np.array([p.measured for p in own], float)
        if np.isfinite(measured).any():
            axes.plot(x + step / 3, measured, marker, color=COLOURS[arch], label=f"{name}: measured")
    ends = [end for p in predictions for end in p.elapsed_reduction]
    finite_limits(axes.set_ylim, [0.0, *ends])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize=9)


def _reduction_finding(predictions: Sequence[Prediction], metric: str) -> str:
    own = [p for p in predictions if p.metric == metric]
    pairs = {f"{p.after} over {p.before}" for p in own}
    most = {p.arch: max((q for q in own if q.arch == p.arch), key=_best) for p in own}
    parts = [
        f"{p.elapsed_reduction.percent()} on {arch} ({folio_size(p.order)})"
        for arch, p in most.items()
    ]
    what = pairs.pop() if len(pairs) == 1 else f"{len(pairs)} pairs of kernels"
    return f"{REDUCTION_OF[metric].capitalize()}, {what}: up to {', '.join(parts)}"


def _best(prediction: Prediction) -> float:
    return prediction.elapsed_reduction.best


@styled
def waterfall(attribution: Attribution) -> Figure:
    """Draw before, what each kernel function takes off or adds, what is not explained, and after.

    Bars of before and after start at zero; a part's interval stands at the end of its bar.
    ValueError if there are no parts.
    """
    require(len(attribution.parts), "part")
    scale, unit = (1.0, "s") if attribution.unit == "s" else (1e-6, f"million {attribution.unit}")
    parts = attribution.parts
    value, low, high = (parts[name].to_numpy(float) * scale for name in ("value", "low", "high"))
    before, after = attribution.before_value * scale, attribution.after_value * scale
    start = before - np.concatenate([[0.0], np.cumsum(value)[:-1]])
    last = len(parts) + 1
    figure = Figure(figsize=(WIDTH, 1.6 + 0.42 * (last + 1)))
    axes = figure.subplots()
    axes.barh([0, last], [before, after], color=COLOURS[attribution.arch], height=0.6)
    rows = np.arange(1, last)
    for row, name, begin, change in zip(rows, parts["part"], start, value, strict=True):
        axes.barh(row, -change, left=begin, height=0.6, edgecolor="black", **_fill(name, change))
    sure = np.isfinite(low)
    axes.errorbar((start - value)[sure], rows[sure], xerr=((high - value)[sure], (value - low)[sure]),
                  fmt="none", ecolor="black", capsize=3)  # fmt: skip
    names = [attribution.before, *parts["part"], attribution.after]
    said = [f"{before:.4g} {unit}", *map(_change, value, low, high), f"{after:.4g} {unit}"]
    name_axis(axes, names, said)
    axes.set_xlabel(f"{unit}, {attribution.arch}, order {attribution.order} ({folio_size(attribution.order)})")
    frame(figure, _waterfall_finding(attribution, scale, unit), attribution.basis, attribution.id,
           attribution.notes)  # fmt: skip
    return figure


def _fill(part: str, change: float) -> dict:
    if part == NOT_EXPLAINED:
        return {"color": "white", "hatch": "..."}
    return {"color": "0.75"} if change >= 0 else {"color": "0.95", "hatch": "///"}


def _change(value: float, low: float, high: float) -> str:
    # What the part does to the total: a saving is negative.
    text = f"{-value:+.3g}"
    return text if np.isnan(low) else f"{text} ({-high:+.3g} to {-low:+.3g})"


def _waterfall_finding(attribution: Attribution, scale: float, unit: str) -> str:
    ends = f"{attribution.before_value * scale:.4g} to {attribution.after_value * scale:.4g} {unit}"
    named = attribution.parts[attribution.parts["part"] != NOT_EXPLAINED]
    if named.empty or not attribution.difference:
        return f"{ends}: no kernel function explains a difference"
    first = named.iloc[0]
    rest = attribution.not_explained / attribution.difference
    return (
        f"{ends}: most from {first['part']}, {first['value'] / attribution.difference:.0%} of the "
        f"difference; {rest:.0%} not explained"
    )


@styled
def costs(models: Sequence[CostModel]) -> Figure:
    """Draw what each kind of event costs, with its 95% interval, one panel a model.

    The axis is linear up to 10 instructions and logarithmic beyond. ValueError if no model.
    """
    require(len(models), "cost model")
    seen = np.flatnonzero(np.any([model.seen for model in models], axis=0))
    figure = Figure(figsize=(WIDTH, 1.8 + 0.3 * len(seen)))
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, model in zip(panels, models, strict=True):
        reach = 1.96 * np.sqrt(np.diag(model.cov))[seen]
        cost = np.where(model.seen, model.costs, np.nan)[seen]
        drawn = np.isfinite(cost)
        points(axes, cost[drawn], np.flatnonzero(drawn), (reach[drawn],) * 2,
                {"fmt": "o", "color": COLOURS[model.arch]}, model.arch, across=True)  # fmt: skip
        bound = np.flatnonzero(cost == 0)
        axes.plot(np.zeros(len(bound)), bound, "X", color="black", markersize=8)
        axes.set_xscale("symlog", linthresh=10, linscale=0.5)
        finite_limits(axes.set_xlim, [0.0, 10.0, *(cost + reach), *(cost - reach)], factor=2.0)
        axes.xaxis.set_major_locator(FixedLocator([0, 10, 100, 1000, 10_000, 100_000]))
        plain_numbers(axes.xaxis)
        axes.set_title(f"{model.arch}, {model.source}", loc="left", fontsize=10)
        axes.set_xlabel("instructions an event")
        name_axis(axes, [NAMES[i] for i in seen], list(map(_cost, cost, reach)))
    n = ", ".join(f"n = {len(model.cells)} cells of {model.arch}" for model in models)
    frame(figure, _cost_finding(models), n, one_id(model.id for model in models),
           ["x: 0, the least that is allowed; other groups carry what it costs"])  # fmt: skip
    return figure


def _cost(cost: float, reach: float) -> str:
    if np.isnan(cost):
        return "does not occur"
    if cost == 0:
        return "0, at its bound"
    return f"{cost:.0f} \N{PLUS-MINUS SIGN} {reach:.0f}" if np.isfinite(reach) else "not identified"


def _cost_finding(models: Sequence[CostModel]) -> str:
    parts = []
    for model in models:
        priced = pd.Series(model.costs, NAMES)[model.seen & (model.costs > 0)]
        parts.append(
            f"{priced.min():.0f} ({priced.idxmin()}) to {priced.max():.0f} ({priced.idxmax()}) "
            f"instructions on {model.arch}"
        )
    return f"One event costs {'; '.join(parts)}"


@styled
def left_out(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how far each cell is off when its order was left out of the fit, one panel a key.

    Args:
        frames: by architecture, what `fit.leave_one_order_out` returns.

    Raises:
        ValueError: there is no cell.
    """
    require(sum(map(len, frames.values())), "cell")
    figure = Figure(figsize=(WIDTH, 4.8))
    panels = figure.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    for axes, (arch, cells) in zip(panels, frames.items(), strict=True):
        for at, (kernel, marker) in enumerate(MARKERS.items()):
            own = cells[cells["kernel"] == kernel]
            axes.plot(own["order"] + 0.18 * (at - 1.5), 100 * own["relative_error"], marker,
                      mfc="white", color=COLOURS[arch], label=kernel)  # fmt: skip
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_yscale("symlog", linthresh=5, linscale=2)
        axes.yaxis.set_major_locator(FixedLocator([-100, -50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100]))
        plain_numbers(axes.yaxis, "{:+.0f}%")
        axes.set_title(arch, loc="left", fontsize=10)
        order_axis(axes, cells["order"])
    panels[0].set_ylabel("predicted less measured instructions")
    errors = [100 * cells["relative_error"] for cells in frames.values()]
    finite_limits(panels[0].set_ylim, [-5.0, 5.0, *pd.concat(errors)], factor=1.2)
    kernel_legend(figure, panels[0])
    n = ", ".join(f"n = {len(cells)} cells of {arch}" for arch, cells in frames.items())
    frame(figure, _left_out_finding(frames), n, one_id(map(frame_id, frames.values())))
    return figure


def _left_out_finding(frames: Mapping[str, pd.DataFrame]) -> str:
    parts = []
    for arch, cells in frames.items():
        error = cells.groupby("order")["relative_error"].agg(lambda e: e.abs().mean())
        worst = error.idxmax()
        parts.append(
            f"{error[error.index != worst].mean() if len(error) > 1 else error.mean():.1%} on {arch} "
            f"(order {worst}: {error[worst]:.1%})"
        )
    return f"Orders left out of the fit are priced within a mean of {', '.join(parts)}"
