# SPDX-License-Identifier: GPL-2.0-only
"""Figures: values in, one `matplotlib.figure.Figure` out.

One colour per architecture, one marker per kernel or series; measured is filled, what a
model says is open, and intervals are always drawn. The title is the finding. Figures of what was
measured, before any model, are in `analysis.measured`, of what times say in `analysis.inferred`;
all can be had from here.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.digits import decimals, with_error, written
from analysis.explain import NOT_EXPLAINED, Attribution
from analysis.fit import CostModel
from analysis.groups import NAMES
from analysis.inferred import (
    ablation_steps,
    assumptions_tornado,
    fitted_times,
    folio_size_posterior,
    interval_coverage,
    time_costs,
)
from analysis.measured import (
    ab_calibration,
    emulated_instructions,
    measured_times,
    simulated_events,
)
from analysis.predict import METRICS, Prediction, published_claim
from analysis.safety import Verdict, differences, told
from analysis.sheet import (
    AREA,
    COLOURS,
    FAINT,
    GROUND,
    INK,
    MARKERS,
    SOFT,
    WIDTH,
    balanced,
    finding,
    finite_limits,
    frame,
    frame_id,
    interval_rows,
    kernel_legend,
    name_axis,
    number_ticks,
    one_id,
    order_axis,
    percents,
    points,
    require,
    save,
    styled,
)
from analysis.units import folio_size

__all__ = [
    "ab_calibration",
    "ablation_steps",
    "assumptions_tornado",
    "batch_safety",
    "costs",
    "emulated_instructions",
    "finding",
    "fitted_times",
    "folio_size_posterior",
    "interval_coverage",
    "left_out",
    "measured_times",
    "reduction_by_order",
    "save",
    "simulated_events",
    "time_costs",
    "waterfall",
]

SERIES_MARKERS = "osD^vP"
REDUCTION_OF = {"time": "elapsed reduction", "instructions": "reduction of instructions"}
TENS = [10**power for power in range(1, 9)]
# What `safety.told` writes of a page-table entry.
ENTRIES = (
    "entries: p present, y young, d dirty, w writable, s soft-dirty, u uffd-wp; reversed: differs"
)
LEAST_CHANGE = 1e-9  # seconds or million instructions


@styled
def reduction_by_order(predictions: Sequence[Prediction], title: str | None = None) -> Figure:
    """Draw what a changed kernel saves by folio order: predicted open, measured filled.

    Time and instructions get a panel each. ValueError if there is no prediction.
    """
    require(len(predictions), "prediction")
    metrics = [metric for metric in METRICS if any(p.metric == metric for p in predictions)]
    figure = Figure(figsize=(WIDTH, 1.2 + 4 * len(metrics)))
    panels = figure.subplots(len(metrics), squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        _reductions(axes, [p for p in predictions if p.metric == metric])
        axes.set_ylabel(REDUCTION_OF[metric])
        order_axis(axes, [p.order for p in predictions])
    nr_measured = sum(p.measured is not None for p in predictions)
    n = f"n = {len(predictions)} predictions, {nr_measured} of them also measured; bars: 95%"
    found = title or _reduction_finding([p for p in predictions if p.metric == metrics[0]])
    notes = _published(predictions)
    frame(figure, found, n, one_id(p.id for p in predictions), notes)
    return figure


def _reductions(axes: Axes, predictions: Sequence[Prediction]) -> None:
    pairs = list(dict.fromkeys((p.before, p.after) for p in predictions))
    series = list(dict.fromkeys((p.arch, p.before, p.after, p.blind) for p in predictions))
    series.sort(key=lambda one: list(COLOURS).index(one[0]))  # as in every figure
    step = 0.6 / len(series)
    for at, (arch, before, after, blind) in enumerate(series):
        own = [p for p in predictions if (p.arch, p.before, p.after, p.blind) == series[at]]
        x = np.array([p.order for p in own]) + step * (at - (len(series) - 1) / 2) - step / 6
        low, best, high = np.array([p.elapsed_reduction for p in own], float).T
        # One marker a series: colour alone would not tell architectures apart in grey.
        look = {"marker": SERIES_MARKERS[at % len(SERIES_MARKERS)], "color": COLOURS[arch]}
        name = arch if len(pairs) == 1 else f"{arch}, {after} over {before}"
        said = f"{name}: predicted{' blind' if blind else ''}"
        points(axes, x, best, (best - low, high - best), label=said, **look)
        measured = np.array([p.measured for p in own], float)
        if np.isfinite(measured).any():
            said = f"{name}: measured"
            axes.plot(x + step / 3, measured, linestyle="none", label=said, **look)
    finite_limits(axes.set_ylim, [0.0, *(end for p in predictions for end in p.elapsed_reduction)])
    axes.axhline(0, color=INK, linewidth=0.8)
    percents(axes.yaxis)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)


def _reduction_finding(predictions: Sequence[Prediction]) -> str:
    most: dict[str, Prediction] = {}
    for p in predictions:
        if p.arch not in most or most[p.arch].elapsed_reduction.best < p.elapsed_reduction.best:
            most[p.arch] = p
    parts = [
        f"{p.elapsed_reduction.percent()} on {arch} at {folio_size(p.order)}"
        for arch, p in most.items()
    ]
    pairs = sorted({f"{p.after} over {p.before}" for p in predictions})
    what = REDUCTION_OF[predictions[0].metric].capitalize()
    return f"{what}, {', '.join(pairs)}: up to {', '.join(parts)}"


def _published(predictions: Sequence[Prediction]) -> list[str]:
    asked = dict.fromkeys((p.arch, p.before, p.after) for p in predictions if p.metric == "time")
    claims = [(of[0], claim) for of in asked if (claim := published_claim(*of))]
    return [f"published for {arch}: {c['elapsed_reduction']}, {c['source']}" for arch, c in claims]


@styled
def waterfall(attribution: Attribution) -> Figure:
    """Draw before, what each kernel function takes off or adds, what is not explained, and after.

    Bars of before and after start at zero; a part's interval stands at the end of its bar.
    ValueError if there are no parts.
    """
    parts = attribution.parts
    require(len(parts), "part")
    scale, unit = (1.0, "s") if attribution.unit == "s" else (1e-6, f"million {attribution.unit}")
    value, low, high = (parts[name].to_numpy(float) * scale for name in ("value", "low", "high"))
    before, after = attribution.before_value * scale, attribution.after_value * scale
    start = before - np.concatenate([[0.0], np.cumsum(value)[:-1]])
    rows = np.arange(1, len(parts) + 1)
    figure = Figure(figsize=(WIDTH, 2 + 0.4 * (len(parts) + 2)))
    axes = figure.subplots()
    axes.barh([0, len(parts) + 1], [before, after], color=COLOURS[attribution.arch], height=0.6)
    for row, name, begin, change in zip(rows, parts["part"], start, value, strict=True):
        look = _fill(name, change)
        axes.barh(row, -change, left=begin, height=0.6, edgecolor=INK, **look)
    sure = np.isfinite(low)
    reach = np.array([high - value, value - low])[:, sure]
    axes.errorbar((start - value)[sure], rows[sure], xerr=reach, fmt="none", ecolor=INK,
                  capsize=3)  # fmt: skip
    changes = map(partial(_change, _decimals(before)), value, low, high)
    said = [f"{before:,.4g} {unit}", *changes, f"{after:,.4g} {unit}"]
    name_axis(axes, [attribution.before, *parts["part"], attribution.after], said)
    axes.axvline(0, color=INK, linewidth=0.8)
    finite_limits(axes.set_xlim, [0, before, *start, *(start - high), *(start - low), after], 0.02)
    size = folio_size(attribution.order)
    axis_unit = "seconds" if unit == "s" else unit
    axes.set_xlabel(f"{axis_unit}; {attribution.arch}, order {attribution.order} ({size})")
    found = _waterfall_finding(attribution, f"{before:,.4g} to {after:,.4g} {unit}")
    basis = f"{attribution.basis}; bars: 95%"
    frame(figure, found, basis, attribution.id, attribution.notes)
    return figure


def _fill(part: str, change: float) -> dict:
    if part == NOT_EXPLAINED:
        return {"color": GROUND, "hatch": "..."}
    return {"color": AREA} if change >= 0 else {"color": FAINT, "hatch": "///"}


def _decimals(before: float) -> int:
    # Of every part, as many as give what they are parts of four digits.
    return max(0, 3 - int(np.floor(np.log10(before)))) if before > 0 else 3


def _change(decimals: int, value: float, low: float, high: float) -> str:
    # What the part does to the total: a saving is negative. Nothing but rounding is 0.
    if abs(value) < LEAST_CHANGE:
        value = 0.0
    text, lower, upper = (f"{-end:+z,.{decimals}f}" for end in (value, high, low))
    text = text if value else "0"
    return text if np.isnan(low) else f"{text} ({lower} to {upper})"


def _waterfall_finding(attribution: Attribution, ends: str) -> str:
    named = attribution.parts[attribution.parts["part"] != NOT_EXPLAINED]
    if named.empty or not attribution.difference:
        return f"{ends}: no kernel function explains a difference"
    share = named["value"].iloc[0] / attribution.difference
    rest = attribution.not_explained / attribution.difference
    first = f"{share:.0%} of the difference from {named['part'].iloc[0]}"
    return f"{ends}: {first}, {rest:z.0%} not explained"


@styled
def costs(models: Sequence[CostModel]) -> Figure:
    """Draw what each kind of event costs, with its 95% interval, one panel a model.

    The axis is linear up to 10 instructions and logarithmic beyond. ValueError if no model.
    """
    require(len(models), "cost model")
    seen = np.flatnonzero(np.any([model.seen for model in models], axis=0))
    figure = Figure(figsize=(WIDTH, 2 + 0.3 * len(seen)))
    panels = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    for axes, model in zip(panels, models, strict=True):
        cost = np.where(model.seen, model.costs, np.nan)[seen]
        error = np.sqrt(np.diag(model.cov))[seen]
        fitted, bound = np.where(cost > 0, cost, np.nan), cost == 0
        said = list(map(_cost, cost, error))
        look = {"marker": "o", "color": COLOURS[model.arch]}
        interval_rows(axes, [NAMES[i] for i in seen], fitted, 1.96 * error, said, **look)
        axes.plot(cost[bound], np.flatnonzero(bound), "X", color=INK, markersize=8)
        axes.set_xscale("symlog", linthresh=10, linscale=0.5)
        number_ticks(axes.xaxis, [0, *TENS])
        # No cost is negative; an interval that goes further is written beside it.
        axes.set_xlim(-4, 2 * max(10.0, *(other.costs.max() for other in models)))
        axes.set_title(f"{model.arch}, {model.source}", loc="left", fontsize=10)
        axes.set_xlabel("instructions an event")
    n = ", ".join(f"n = {len(model.cells)} cells of {model.arch}" for model in models)
    note = (
        "bars, errors: 95%; cross: 0, the least allowed, so that other groups carry what it costs"
    )
    frame(figure, _cost_finding(models), n, one_id(model.id for model in models), [note])
    return figure


def _cost(cost: float, error: float) -> str:
    if np.isnan(cost):
        return "does not occur"
    if cost == 0:
        return "0, at its bound"
    value, reach = with_error(cost, error)
    if 0 < error < np.inf:
        reach = written(1.96 * error, decimals(error))
    return f"{value} \N{PLUS-MINUS SIGN} {reach}"


def _cost_finding(models: Sequence[CostModel]) -> str:
    parts = []
    for model in models:
        at = int(np.argmax(np.where(model.seen, model.costs, -1)))
        cost, _ = with_error(model.costs[at], np.sqrt(model.cov[at, at]))
        parts.append(f"{cost} instructions on {model.arch} ({NAMES[at]})")
    return f"Dearest event: {', '.join(parts)}"


@styled
def left_out(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how far each cell is off when its order was left out of the fit, one panel a key.

    Args:
        frames: by architecture, what `fit.leave_one_order_out` returns.

    Raises:
        ValueError: there is no cell.
    """
    require(sum(map(len, frames.values())), "cell")
    figure = Figure(figsize=(WIDTH, 5.2))
    body = figure.subfigures()
    panels = body.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    for axes, (arch, cells) in zip(panels, frames.items(), strict=True):
        for at, (kernel, marker) in enumerate(MARKERS.items()):
            own = cells[cells["kernel"] == kernel]
            axes.plot(own["order"] + 0.18 * (at - 1.5), own["relative_error"], linestyle="none",
                      marker=marker, mfc=GROUND, color=COLOURS[arch], label=kernel)  # fmt: skip
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(arch, loc="left", fontsize=10)
        order_axis(axes, cells["order"], narrow=True)
        # Linear as far as most errors go, logarithmic beyond.
        axes.set_yscale("symlog", linthresh=0.05, linscale=2)
        ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
        number_ticks(axes.yaxis, [-tick for tick in ticks] + [0, *ticks], "{:+.0%}")
    errors = pd.concat(frames.values())["relative_error"]
    panels[0].set_ylim(1.6 * min(-0.05, errors.min()), 1.6 * max(0.05, errors.max()))
    panels[0].set_ylabel("predicted instructions, over measured")
    kernel_legend(body, lambda _: {"linestyle": "none", "mfc": GROUND})
    n = ", ".join(f"n = {len(cells)} cells of {arch}" for arch, cells in frames.items())
    frame(figure, _left_out_finding(frames), n, one_id(map(frame_id, frames.values())))
    return figure


def _left_out_finding(frames: Mapping[str, pd.DataFrame]) -> str:
    errors = pd.concat(frames, names=["key"])
    size = np.where(errors["order"] > 0, "large folios", "order 0")
    means = errors["relative_error"].abs().groupby([size, errors.index.get_level_values(0)]).mean()
    parts = [
        f"{name} {', '.join(f'{mean:.1%} on {arch}' for arch, mean in own.droplevel(0).items())}"
        for name, own in means.groupby(level=0)
    ]
    return f"Mean error at orders left out of the fit: {'; '.join(parts)}"


@styled
def batch_safety(verdicts: Sequence[Verdict]) -> Figure:
    """Draw how often memory ends differently with a batch, and how, where a rule is missing."""
    require(len(verdicts), "verdicts")
    broken = [verdict for verdict in verdicts if verdict.smallest]
    figure = Figure(figsize=(WIDTH, 2.2 + 0.34 * len(verdicts) + 0.85 * len(broken)))
    top, bottom = figure.subfigures(2, 1, height_ratios=(0.34 * len(verdicts) + 1, len(broken) + 1))
    _differing_shares(top.subplots(), verdicts)
    if broken:
        for axes, verdict in zip(np.ravel(bottom.subplots(len(broken), 1)), broken, strict=True):
            _smallest_world(axes, verdict)
    safe = len(verdicts) - len(broken)
    title = (
        f"{safe} of {len(verdicts)} changes leave memory as it would be without them; "
        f"{len(broken)} break some world"
    )
    worlds = sorted({verdict.nr_worlds for verdict in verdicts})
    n = f"n = {', '.join(f'{nr:,}' for nr in worlds)} random worlds a row, classic LRU"
    notes = [ENTRIES] if broken else []
    frame(figure, title, n, one_id(verdict.id for verdict in verdicts), notes)
    return figure


def _differing_shares(axes: Axes, verdicts: Sequence[Verdict]) -> None:
    shares = [100 * verdict.nr_differing / verdict.nr_worlds for verdict in verdicts]
    said = [f"{verdict.nr_differing:,} of {verdict.nr_worlds:,}" for verdict in verdicts]
    hatches = ["//" if verdict.nr_differing else "" for verdict in verdicts]
    axes.barh(range(len(verdicts)), shares, color=AREA, edgecolor=INK, hatch=hatches)
    name_axis(axes, [verdict.change.name for verdict in verdicts], said)
    axes.set_xlim(0, max(1.0, 1.1 * max(shares)))
    axes.set_xlabel("worlds that end differently with the batch, %")


def _smallest_world(axes: Axes, verdict: Verdict) -> None:
    # One row of cells without the batch, one with it; what differs is reversed.
    world, arch = verdict.smallest
    rows = told(differences(verdict.change, world, arch))
    for y, (_, cells) in enumerate(rows):
        for x, (text, differs) in enumerate(cells):
            colour = SOFT if differs else FAINT
            axes.barh(y, 0.94, left=x - 0.47, height=0.86, color=colour, edgecolor=INK)
            axes.text(
                x, y, text, ha="center", va="center", fontsize=7,
                color=GROUND if differs else INK,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.5, max(len(cells) for _, cells in rows) - 0.5)
    axes.set_xticks([])
    axes.grid(visible=False)
    said = f"{verdict.change.name}: {arch}, {verdict.world_text}"
    axes.set_title(balanced(said, 115), fontsize=8, loc="left")
