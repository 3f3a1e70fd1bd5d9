# SPDX-License-Identifier: GPL-2.0-only
"""What is drawn is what was given: artists' values, not pictures."""

import dataclasses
import itertools
import re
import textwrap
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_measured import MARKUP, cells, errorbars, lines, request, sweep

from analysis import figures, fit, measurements, sheet
from analysis.explain import NOT_EXPLAINED, Attribution
from analysis.groups import NAMES, PARTS
from analysis.interval import Interval
from analysis.palette import ROLES
from analysis.predict import Prediction

LONG = "a_kernel_function_of_a_name_that_goes_on_" * 6


def prediction(arch="arm64", order=4, best=0.5, **changes) -> Prediction:
    fields = {
        "arch": arch, "before": "references", "after": "unmap", "order": order,
        "metric": "instructions", "blind": False,
        "elapsed_reduction": Interval(best - 0.2, best, best + 0.1), "measured": best + 0.01,
        "assumptions": (), "model": "0123456789ab",
    }  # fmt: skip
    return Prediction(**fields | changes)


def attribution(parts=(("try_to_unmap_one", 0.5, 0.4, 0.6),), rest=0.2, unit="s", **changes):
    rows = [*parts, (NOT_EXPLAINED, rest, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=["part", "value", "low", "high"])
    total = frame["value"].sum()
    fields = {
        "arch": "arm64", "before": "references", "after": "unmap", "order": 6, "unit": unit,
        "before_value": total + 0.3, "after_value": 0.3, "parts": frame, "basis": "published",
        "notes": ("n = 1",),
    }  # fmt: skip
    return Attribution(**fields | changes)


def model(arch="arm64", costs=None, variance=4.0) -> fit.CostModel:
    costs = np.linspace(8, 8690, len(NAMES)) if costs is None else np.asarray(costs, float)
    cells = pd.DataFrame([dict.fromkeys([*measurements.CELL, "instructions", *PARTS], 1)])
    cov = np.diag(np.full(len(NAMES), variance))
    return fit.CostModel(arch, costs, cov, np.ones(len(NAMES), bool), 9, cells, (), "fit")


def colours_of(figure: Figure, svg: str) -> set[str]:
    # What is black, matplotlib leaves out of an SVG.
    texts = figure.findobj(mpl.text.Text)
    shown = {mpl.colors.to_hex(text.get_color()) for text in texts if text.get_text()}
    return shown | set(re.findall("#[0-9a-f]{6}", svg))


def all_text(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_reductions_and_intervals_are_those_given_measured_filled_and_predicted_open():
    given = [
        prediction(arch, order, order / 10) for arch in ("arm64", "x86_64") for order in (1, 8)
    ]
    axes = figures.reduction_by_order(given).axes[0]
    for at, (x, y, bars) in enumerate(errorbars(axes)):
        own = given[2 * at : 2 * at + 2]
        assert np.rint(x).tolist() == [1, 8]
        assert y == pytest.approx([p.elapsed_reduction.best for p in own])
        assert bars[:, :, 1] == pytest.approx(np.array([p.elapsed_reduction[::2] for p in own]))
    predicted = [c[0] for c in axes.containers]
    assert [line.get_markerfacecolor() for line in predicted] == [sheet.GROUND] * 2
    measured = lines(axes, "measured")
    assert [list(line.get_ydata()) for line in measured] == [pytest.approx([0.11, 0.81])] * 2
    assert all(line.get_markerfacecolor() == line.get_color() for line in measured)
    assert len({line.get_color() for line in measured}) == 2


def test_what_was_published_stands_in_the_footer_of_times_alone():
    time = prediction("x86_64", metric="time", measured=None)
    assert "published for x86_64: 50%+" in figures.reduction_by_order([time]).get_supxlabel()
    assert "published" not in figures.reduction_by_order([prediction()]).get_supxlabel()


def test_a_reduction_below_zero_an_unknown_interval_and_what_was_not_measured():
    endless = Interval(-np.inf, -0.3, np.inf)
    figure = figures.reduction_by_order([prediction(elapsed_reduction=endless, measured=None)])
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert low < -0.3
    assert high > 0
    ((_, _, bars),) = errorbars(axes)
    assert bars[0, 0, 1] < low
    assert bars[0, 1, 1] > high
    assert not lines(axes, "measured")


def test_time_and_instructions_have_a_panel_each_and_pairs_a_marker_each():
    given = [prediction(metric="time", measured=None), prediction(), prediction(before="base")]
    time, instructions = figures.reduction_by_order(given).axes
    assert time.get_ylabel() == "elapsed reduction"
    markers = [container[0].get_marker() for container in instructions.containers]
    assert len(set(markers)) == 2


def test_architectures_differ_by_more_than_colour():
    given = [prediction("arm64"), prediction("x86_64")]
    axes = figures.reduction_by_order(given).axes[0]
    assert len({container[0].get_marker() for container in axes.containers}) == 2
    assert {line.get_marker() for line in lines(axes, "measured")} == {"o", "s"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.left_out({arch: cells() for arch in ("arm64", "x86_64")}),
        lambda: figures.emulated_instructions(cells(arch=["arm64", "x86_64"])),
    ],
)
def test_a_legend_of_kernels_has_no_colour_of_an_architecture(draw):
    (legend,) = draw().findobj(mpl.legend.Legend)
    assert [text.get_text() for text in legend.get_texts()] == list(sheet.MARKERS)
    handles = legend.legend_handles
    assert [line.get_marker() for line in handles] == list(sheet.MARKERS.values())
    assert {line.get_color() for line in handles} == {sheet.SOFT}


def test_narrow_orders_have_a_size_on_one_line():
    figure = figures.left_out({"arm64": cells(order=[0, 8])})
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert (labels[0], labels[-1]) == ("0\n4K", "8\n1M")


def test_orders_are_labelled_with_folio_sizes_and_all_ten_fit():
    figure = figures.reduction_by_order([prediction(order=order) for order in range(10)])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[0] == "0\n4 KiB"
    assert labels[9] == "9\n2 MiB"
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_the_title_is_the_finding_or_the_one_given_and_the_footer_has_n_and_id():
    one = prediction()
    figure = figures.reduction_by_order([one])
    assert "50% (30% to 60%) on arm64 at 64 KiB" in figures.finding(figure)
    assert "n = 1 predictions" in figure.get_supxlabel()
    assert one.id in figure.get_supxlabel()
    assert figures.finding(figures.reduction_by_order([one], "Said")) == "Said"


@pytest.mark.parametrize(("unit", "scale"), [("s", 1.0), ("instructions", 1e-6)])
def test_waterfall_bars_lead_from_before_to_after_with_intervals_at_their_ends(unit, scale):
    given = attribution([("a", 5e5, 3e5, 6e5), ("b", -1e5, -2e5, 0.0)], 2e5, unit)
    axes = figures.waterfall(given).axes[0]
    bars = sorted((bar for bar in axes.patches), key=lambda bar: bar.get_y())
    before, *parts, after = bars
    assert (before.get_x(), before.get_width()) == pytest.approx((0, given.before_value * scale))
    assert (after.get_x(), after.get_width()) == pytest.approx((0, given.after_value * scale))
    assert [-bar.get_width() for bar in parts] == pytest.approx(given.parts["value"] * scale)
    ends = np.cumsum([before.get_width(), *(bar.get_width() for bar in parts)])
    assert ends[-1] == pytest.approx(after.get_width())
    assert [bar.get_x() for bar in parts] == pytest.approx(ends[:-1])
    segments = np.array(axes.collections[0].get_segments())
    assert len(segments) == 2  # what is not explained has no interval
    assert segments[0, :, 0] == pytest.approx([ends[1] - 1e5 * scale, ends[1] + 2e5 * scale])


def test_waterfall_of_no_difference_and_of_nothing_explained():
    assert "no kernel function" in figures.finding(figures.waterfall(attribution([], 0.0)))
    assert "no kernel function" in figures.finding(figures.waterfall(attribution([], 0.5)))


def test_a_rest_of_nothing_but_rounding_is_written_as_0():
    axes = figures.waterfall(attribution([("a", 0.5, 0.4, 0.6)], -2e-16)).axes[0]
    assert "0" in [text.get_text() for text in axes.texts]
    assert not [text for text in axes.texts if "e-" in text.get_text()]


def test_costs_are_drawn_with_their_intervals_zero_as_a_cross_and_unseen_as_absent():
    costs = np.linspace(8, 8690, len(NAMES))
    costs[3] = 0
    unseen = dataclasses.replace(model("x86_64"), seen=np.arange(len(NAMES)) != 5)
    arm, x86 = figures.costs([model(costs=costs), unseen]).axes
    ((x, y, bars),) = errorbars(arm)
    assert x == pytest.approx(np.delete(costs, 3))
    assert list(y) == [row for row in range(len(NAMES)) if row != 3]
    assert bars[:, :, 0] - x[:, None] == pytest.approx(np.array([[-3.92, 3.92]] * len(x)))
    (cross,) = (line for line in arm.lines if line.get_marker() == "X")
    assert cross.get_data()[0].tolist() == [0]
    assert cross.get_data()[1].tolist() == [3]
    assert arm.get_xlim()[0] < 0
    assert arm.get_xlim()[1] > 8690
    assert 5 not in errorbars(x86)[0][1]
    assert "does not occur" in [text.get_text() for text in x86.texts]


def test_a_cost_that_nothing_identifies_has_a_bar_to_the_edge():
    axes = figures.costs([model(variance=np.inf)]).axes[0]
    bars = errorbars(axes)[0][2]
    assert (bars[:, 1, 0] > axes.get_xlim()[1]).all()


def test_left_out_errors_by_order_and_kernel():
    frames = {
        "arm64": cells(order=[0, 4], kernel=["base", "unmap"], relative_error=[-0.5, 0.02]),
        "x86_64": cells(order=[8], relative_error=[0.01]),
    }
    figure = figures.left_out(frames)
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn["base"] == [-0.5]
    assert drawn["unmap"] == [0.02]
    assert drawn["references"] == []
    low, high = figure.axes[0].get_ylim()
    assert low < -0.5
    assert high > 0.02
    assert "large folios 2.0% on arm64, 1.0% on x86_64; order 0 50.0%" in figures.finding(figure)


@pytest.mark.parametrize(
    ("draw", "nothing"),
    [
        (figures.reduction_by_order, []),
        (figures.waterfall, attribution(parts=[], rest=0.0)),
        (figures.costs, []),
        (figures.left_out, {}),
        (figures.left_out, {"arm64": cells().iloc[:0]}),
        (figures.measured_times, sweep().iloc[:0]),
        (figures.emulated_instructions, cells().iloc[:0]),
        (figures.emulated_instructions, cells(lru=["mglru"])),
        (figures.simulated_events, []),
    ],
)
def test_nothing_to_draw_is_an_error_that_says_so(draw, nothing):
    if isinstance(nothing, Attribution):
        nothing = dataclasses.replace(nothing, parts=nothing.parts.iloc[:0])
    with pytest.raises(ValueError, match=r"no .* to draw"):
        draw(nothing)


ONE_OF_EACH = [
    lambda: figures.reduction_by_order([prediction(order=0)]),
    lambda: figures.reduction_by_order([prediction(order=9, elapsed_reduction=Interval(0, 0, 0))]),
    lambda: figures.waterfall(attribution()),
    lambda: figures.costs([model()]),
    lambda: figures.left_out({"arm64": cells(order=[0])}),
    lambda: figures.measured_times(sweep().iloc[:1]),
    lambda: figures.measured_times(sweep(order=[9, 9, 9])),
    lambda: figures.emulated_instructions(cells(order=[9], spread=[np.nan])),
    lambda: figures.simulated_events([request(order=0, arch="x86_64")]),
]


@pytest.mark.parametrize("draw", ONE_OF_EACH)
def test_one_point_alone_is_drawn_and_saved_as_the_same_svg_twice(draw, tmp_path):
    svg, png = figures.save(draw(), tmp_path / "a.b")
    assert (svg.name, png.name) == ("a.b.svg", "a.b.png")
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "text.parse_math": True}):
        again, _ = figures.save(draw(), tmp_path / "again")
    assert again.read_bytes() == svg.read_bytes()
    assert b"dc:date" not in svg.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".png", ".svg", ".svg"]


@pytest.mark.parametrize("draw", ONE_OF_EACH)
def test_every_colour_is_one_of_the_palette_and_has_a_dark_one(draw):
    figure = draw()
    svg = sheet.svg(figure).decode()
    style = svg[svg.index("@media") : svg.index("</style>")]
    drawn = colours_of(figure, svg.replace(style, ""))
    assert drawn <= {role.light for role in ROLES.values()}
    assert {sheet.GROUND, sheet.INK, sheet.SOFT} < drawn
    assert all(f"{name}{colour}" in style for colour in drawn for name in ("fill: ", "stroke: ")
               if f"{name}{colour}" in svg)  # fmt: skip


@pytest.mark.parametrize("name", [MARKUP, LONG, "$\\frac{$", "", "a--><script>b</script>"])
def test_names_from_files_are_drawn_as_they_are_and_leave_room(name, tmp_path):
    figure = figures.waterfall(attribution([(name, 0.5, 0.4, 0.6)], notes=(name, MARKUP)))
    svg, _ = figures.save(figure, tmp_path / "figure")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[1] == name or (labels[1].endswith("...") and len(labels[1]) < 40)
    assert figure.axes[0].get_position().width > 0.3
    assert MARKUP in all_text(figure)


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    figures.waterfall(attribution())
    assert dict(mpl.rcParams) == before


def test_a_figure_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "figure.svg").mkdir()
    with pytest.raises(OSError, match=r"figure\.svg"):
        figures.save(figures.waterfall(attribution()), tmp_path / "figure")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.svg"]


@pytest.mark.parametrize("draw", ONE_OF_EACH)
def test_title_legend_and_footer_do_not_lie_over_each_other_or_the_axes(draw):
    figure = draw()
    title = figure._suptitle.get_window_extent()
    footer = figure._supxlabel.get_window_extent()
    assert footer.x1 <= figure.bbox.x1
    assert title.x1 <= figure.bbox.x1
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.y1 <= title.y0 + 1
        assert box.y0 >= footer.y1 - 1
    for legend in figure.findobj(mpl.legend.Legend):
        assert not legend.get_window_extent().overlaps(title)
        assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


@pytest.mark.parametrize("words", ["a", "word " * 40, "x" * 200, "61% at folios of 1 MiB " * 6])
def test_a_title_has_no_line_much_shorter_than_the_others(words):
    figure = Figure()
    sheet.frame(figure, words, "n = 1", "0")
    lines = figure.get_suptitle().split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(textwrap.wrap(words, 80))
    if " " in words.strip():
        assert min(map(len, lines)) >= max(map(len, lines)) / 2
    assert not any(line.endswith(" 1") for line in lines)
    assert figures.finding(figure) == " ".join(lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("of 61% (29% to 93%) and so", ["of 61%", "(29% to 93%)", "and so"]),
        ("both 78%, of one only 30%", ["both 78%,", "of one only 30%"]),
        ("one, two three four five six", ["one, two three", "four five six"]),
        ("12 KiB 34 KiB 56 KiB", ["12 KiB", "34 KiB", "56 KiB"]),
    ],
)
def test_lines_end_at_commas_and_never_within_an_interval_or_before_a_unit(text, lines):
    assert sheet.balanced(text, max(map(len, lines))).split("\n") == lines
