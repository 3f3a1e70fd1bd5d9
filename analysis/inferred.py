# SPDX-License-Identifier: GPL-2.0-only
"""Figures of what was inferred from times: costs, how well they fit, what they leave open."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.coverage import HIGH, LOW
from analysis.interval import Interval
from analysis.sheet import (
    BEHIND,
    COLOURS,
    FAINT,
    GROUND,
    INK,
    SOFT,
    WIDTH,
    finite_limits,
    frame,
    frame_id,
    interval_rows,
    legend_above,
    name_axis,
    number_ticks,
    order_axis,
    percents,
    points,
    require,
    styled,
)
from analysis.timing import VERDICTS
from analysis.units import folio_size, two_digits
from sim.arch import isa

TENS = [0.01, 0.1, 1, 10, 100, 1000, 10000]
VERDICT_MARKERS = dict(zip(VERDICTS, "oDX", strict=True))
LEAST = 0.01  # ns; an interval that goes below ends at the edge


@styled
def time_costs(table: pd.DataFrame, arch: str, machine: str, n: str) -> Figure:
    """Draw what each term takes: prior, data alone and both, with the verdict beside it.

    Args:
        table: what `timing.TimeFit.table` returns.
        arch, machine: whose.
        n: what was observed, for the footer.

    Raises:
        ValueError: there is no term.
    """
    require(len(table), "term")
    figure = Figure(figsize=(WIDTH, 2.4 + 0.5 * len(table)))
    body = figure.subfigures()
    axes = body.subplots()
    rows = np.arange(len(table))
    axes.hlines(rows - 0.25, table["prior_low"].clip(lower=LEAST), table["prior_high"], linewidth=5,
                color=BEHIND, label="prior: published costs of single operations")  # fmt: skip
    low, high = table["data_low"].clip(lower=LEAST), table["data_high"].clip(upper=TENS[-1])
    known = table["data_best"].notna()
    axes.hlines(rows[known], low[known], high[known], color=INK, linewidth=1.2, linestyle=":",
                label="these times alone, no prior")  # fmt: skip
    for verdict, marker in VERDICT_MARKERS.items():
        own = (table["verdict"] == verdict).to_numpy()
        best = table["best"][own]
        reach = (best - table["low"][own].clip(lower=LEAST), table["high"][own] - best)
        points(axes, best, rows[own] + 0.2, reach, across=True, marker=marker,
               color=COLOURS[isa(arch)], label=f"both: {verdict}")  # fmt: skip
    axes.set_xscale("log")
    number_ticks(axes.xaxis, TENS)
    axes.set_xlim(LEAST, TENS[-1])
    axes.set_xlabel("ns an event, or ns an instruction")
    said = [
        f"{two_digits(row.best)} ({two_digits(row.low)} to {two_digits(row.high)}), "
        f"{row.from_prior:.0%} prior"
        for row in table.itertuples()
    ]
    name_axis(axes, table["term"].tolist(), said)
    legend_above(body, axes, ncols=3)
    count = table["verdict"].value_counts()
    verdicts = ", ".join(f"{count.get(v, 0)} {v}" for v in VERDICTS)
    note = "bars: 95%; right: what follows from both, its 95% interval, how much of it is the prior"
    frame(figure, f"Costs of the {machine} in time: {verdicts}", n, frame_id(table), [note])
    return figure


@styled
def fitted_times(observed: pd.DataFrame, arch: str, machine: str) -> Figure:
    """Draw predicted against measured ns a page with the 1:1 line, and how far each is off.

    Args:
        observed: what `timing.TimeFit.observations` returns.
        arch, machine: whose.

    Raises:
        ValueError: there is no observation.
    """
    require(len(observed), "observation")
    figure = Figure(figsize=(WIDTH, 6.2 + 0.1 * len(observed)))
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 1 + 0.13 * len(observed)))
    axes = top.subplots()
    kinds = list(dict.fromkeys(observed["what"]))
    for kind, marker in zip(kinds, "osD^vPX*"[: len(kinds)], strict=False):
        own = observed[observed["what"] == kind]
        middle = own["predicted"]
        points(axes, own["ns"], middle, (middle - own["low"], own["high"] - middle), marker=marker,
               color=COLOURS[isa(arch)], label=kind)  # fmt: skip
    ends = np.array([0.8 * observed["ns"].min(), 1.25 * observed["ns"].max()])
    axes.plot(ends, ends, color=INK, linewidth=0.8, label="1:1")
    for scaled in (axes.set_xscale, axes.set_yscale):
        scaled("log")
    for axis in (axes.xaxis, axes.yaxis):
        number_ticks(axis, [10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
    axes.set_xlim(*ends)
    axes.set_xlabel("measured, ns a page")
    axes.set_ylabel("predicted, ns a page")
    legend_above(top, axes, ncols=3)
    _residuals(bottom.subplots(), observed, arch)
    error = observed["error"].abs()
    title = (
        f"Costs of the {machine} give its times within {error.max():.1%}, "
        f"{error.mean():.1%} on average"
    )
    n = f"n = {len(observed)} observations, of {observed['n'].sum()} runs; bars: 95% of the draws"
    frame(figure, title, n, frame_id(observed))
    return figure


def _residuals(axes: Axes, observed: pd.DataFrame, arch: str) -> None:
    error, reach = observed["error"], observed["noise"] / observed["ns"]
    names = [
        row.what if pd.isna(row.order) else f"{row.what}, order {row.order}"
        for row in observed.itertuples()
    ]
    said = [f"{value:+.1%}" for value in error]
    interval_rows(axes, names, error, reach, said, marker="o", color=COLOURS[isa(arch)])
    percents(axes.xaxis)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("predicted over measured - 1; bars: noise of the measurement, 95%")


@styled
def interval_coverage(table: pd.DataFrame) -> Figure:
    """Draw how often 95% intervals held the truth, and the band that a correct one stays in.

    Args:
        table: what `coverage.coverage` returns.

    Raises:
        ValueError: there is no quantity.
    """
    require(len(table), "quantity")
    figure = Figure(figsize=(WIDTH, 1.8 + 0.36 * len(table)))
    axes = figure.subplots()
    share, n = table["covered"].to_numpy(), table["n"].to_numpy()
    axes.axvspan(LOW, HIGH, color=FAINT, zorder=0)
    axes.axvline(0.95, color=INK, linewidth=0.8)
    reach = 1.96 * np.sqrt(share * (1 - share) / n)
    said = [f"{one:.1%}" for one in share]
    names = table["quantity"].tolist()
    interval_rows(axes, names, share, reach, said, marker="o", color=SOFT)
    percents(axes.xaxis)
    finite_limits(axes.set_xlim, [0.9, 1.0, *(share - reach), *np.minimum(share + reach, 1)])
    axes.set_xlabel("made-up machines whose truth the 95% interval holds; grey: 93% to 97%")
    inside = int(table["covered"].between(LOW, HIGH).sum())
    title = f"{inside} of {len(table)} intervals cover {LOW:.0%} to {HIGH:.0%} of made-up machines"
    note = "bars: 95% of the binomial; noise autocorrelated as 500 equal runs of the host"
    frame(figure, title, f"n = {n[0]} made-up machines", frame_id(table), [note])
    return figure


@styled
def assumptions_tornado(table: pd.DataFrame, arch: str, question: str) -> Figure:
    """Draw how far each assumption moves the elapsed reduction, the widest on top.

    Args:
        table: what `sensitivity.tornado` returns.
        arch: for the colour.
        question: what was asked, in words.

    Raises:
        ValueError: there is no assumption.
    """
    require(len(table), "assumption")
    figure = Figure(figsize=(WIDTH, 1.8 + 0.36 * len(table)))
    axes = figure.subplots()
    best = table["best"].iloc[0]
    rows = np.arange(len(table))
    left, right = table[["low", "high"]].min(axis=1), table[["low", "high"]].max(axis=1)
    look = {"color": GROUND, "edgecolor": COLOURS[isa(arch)], "hatch": "///"}
    axes.barh(rows, right - left, left=left, height=0.6, **look)
    axes.axvline(best, color=INK, linewidth=0.8)
    said = [f"{row.at_low} to {row.at_high}" for row in table.itertuples()]
    name_axis(axes, table["assumption"].tolist(), said)
    percents(axes.xaxis)
    axes.set_xlim(min(0.0, 1.1 * left.min()), min(1.0, 1.1 * right.max()))
    axes.set_xlabel(f"elapsed reduction, {question}; line: best guess, {best:.0%}")
    first = ", ".join(
        f"{row.assumption} {100 * row.swing:.0f}" for row in table.head(3).itertuples()
    )
    note = "a cost goes from where 2.5% of its draws lie to where 97.5% do"
    title = f"What moves the answer most, in points: {first}"
    frame(figure, title, f"n = {len(table)} assumptions", frame_id(table), [note])
    return figure


@styled
def folio_size_posterior(table: pd.DataFrame, found: str) -> Figure:
    """Draw what the times leave of the folio sizes: shares of memory, and how much is that large.

    Args:
        table: what `folio_sizes.posterior` returns.
        found: the finding, such as `folio_sizes.order_sentence` returns.

    Raises:
        ValueError: there is no order.
    """
    require(len(table), "order")
    figure = Figure(figsize=(WIDTH, 7.4))
    top, bottom = (sub.subplots() for sub in figure.subfigures(2, 1))
    order = table["order"].to_numpy()
    top.bar(order - 0.2, table["alone"], 0.36, color=COLOURS["arm64"], edgecolor=INK,
            label="all folios of this order: likelihood, the likeliest being 100%")  # fmt: skip
    top.bar(order + 0.2, table["share"], 0.36, color=GROUND, edgecolor=INK, hatch="///",
            label="mean share of the memory, mixtures included")  # fmt: skip
    top.set_ylim(0, 1.05)
    ends = table[["at_least_low", "at_least", "at_least_high"]].to_numpy().T
    points(bottom, order, ends[1], (ends[1] - ends[0], ends[2] - ends[1]), marker="o",
           color=COLOURS["arm64"], label="posterior, 95%")  # fmt: skip
    before = table["prior"][::-1].cumsum()[::-1]
    bottom.step(order, before, where="mid", color=BEHIND, linestyle="--", label="beforehand")
    bottom.set_ylabel("memory in folios\nof this size or larger")
    top.set_ylabel("likelihood or share")
    bottom.set_ylim(-0.05, 1.05)
    for axes in (top, bottom):
        order_axis(axes, order)
        percents(axes.yaxis)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    n = "n = 3 published times and 2 shares; single orders and mixtures beforehand as likely"
    frame(figure, found[0].upper() + found[1:], n, frame_id(table))
    return figure


@styled
def ablation_steps(table: pd.DataFrame, arch: str, order: int) -> Figure:
    """Draw what each changed case saves in time, and in instructions where that was measured.

    Args:
        table: what `ablations.ablations` returns.
        arch, order: of which.

    Raises:
        ValueError: there is no case.
    """
    require(len(table), "case")
    figure = Figure(figsize=(WIDTH, 1.9 + 0.32 * len(table)))
    body = figure.subfigures()
    axes = body.subplots()
    best = table["best"].to_numpy()
    reach = (best - table["low"], table["high"] - best)
    names = [f"{row.what}: {row.case}" for row in table.itertuples()]
    said = [
        Interval(row.low, row.best, row.high).percent() if np.isfinite(row.best) else ""
        for row in table.itertuples()
    ]
    interval_rows(axes, names, best, reach, said, marker="o", color=COLOURS[isa(arch)],
                  label="time, predicted, 95%")  # fmt: skip
    percents(axes.xaxis)
    axes.plot(table["instructions"], range(len(table)), "D", color=SOFT, markersize=5,
              label="instructions, measured under emulation")  # fmt: skip
    axes.set_xlim(-0.02, 1)
    axes.set_xlabel(
        f"reduction, {arch}, order {order} ({folio_size(order)}) unless the row says another"
    )
    legend_above(body, axes, ncols=2)
    saved = table[table["what"] == "batches"].set_index("case")["best"]
    title = "Saved, of the time: " + ", ".join(
        f"{case} {value:.0%}" for case, value in saved.items()
    )
    frame(figure, title, f"n = {len(table)} cases", frame_id(table))
    return figure
