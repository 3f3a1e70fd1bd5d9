# SPDX-License-Identifier: GPL-2.0-only
import ast
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from analysis import digits, explain, fit, machines, predict, shown, timing
from analysis.explain import NOT_EXPLAINED
from analysis.interval import Interval
from sim.table import WIDTH, Table

HOSTILE = "<script>alert('x')</script>&"
INF = math.inf


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        # The examples of the rule, and its edges.
        (0.827, 0.119, ("0.83", "0.12")),
        (0.827, 0.367, ("0.8", "0.4")),
        (1.0, 0.354, ("1.00", "0.35")),
        (1.0, 0.355, ("1.0", "0.4")),
        (1.0, 0.949, ("1.0", "0.9")),
        (1.0, 0.950, ("1.0", "1.0")),
        (1.0, 0.9996, ("1.0", "1.0")),
        (123456.0, 1234.0, ("123,500", "1,200")),
        (123456.0, 5000.0, ("123,000", "5,000")),
        (-0.04, 0.2, ("-0.04", "0.20")),
        (-0.001, 0.2, ("0.00", "0.20")),
        # Bad cases: nothing known of it, known exactly, and not a number.
        (123456.7, INF, ("123,500", "any")),
        (1.23456, INF, ("1.235", "any")),
        (0.0, 0.0, ("0", "-")),
        (1183.0, math.nan, ("1,183", "-")),
        (math.nan, 1.0, ("-", "1.0")),
        (INF, INF, ("any", "any")),
    ],
)
def test_digits_follow_the_error(value, error, said):
    assert digits.with_error(value, error) == said


@given(st.floats(1e-12, 1e12))
def test_an_error_keeps_one_or_two_digits(error):
    kept = round(error * 10.0 ** digits.decimals(error))
    assert 3 <= kept <= 36
    assert round(error, digits.decimals(error)) == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize("error", [0.0, -1.0, INF, math.nan])
def test_without_an_error_there_are_no_digits_to_choose(error):
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        digits.decimals(error)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(0.362, 0.541, 0.743), "54% (36% to 74%)"),
        (Interval(0.3787, 0.3832, 0.3876), "38.32% (37.87% to 38.76%)"),
        (Interval(0.0, 0.0, 0.0), "0%"),
        (Interval(0.2, 0.541, INF), "54% (20% to any)"),
        (Interval(-INF, 0.5412345, INF), "54.12% (any)"),
        (Interval(math.nan, 0.5, math.nan), "50% (any)"),
    ],
)
def test_the_width_of_an_interval_tells_its_digits(interval, said):
    assert digits.of_interval(interval, 100, "%") == said


TABLE = Table(
    "What it is", ("event", "cost"), (("a", "1,183"), ("walk", "-")), ("walk: barely told", "short")
)


def test_a_table_as_a_terminal_shows_it():
    assert TABLE.text() == (
        "What it is\n\n"
        "event      cost\n"
        "a         1,183\n"
        "walk [1]      -\n\n"
        "[1] walk: barely told\n"
        "[2] short"
    )


def test_a_table_as_jupyter_shows_it():
    assert TABLE.html() == (
        '<table><caption style="text-align: left">What it is</caption><thead><tr>'
        '<th scope="col" style="text-align: left">event</th>'
        '<th scope="col" style="text-align: right">cost</th></tr></thead><tbody>'
        '<tr><th scope="row" style="text-align: left">a</th>'
        '<td style="text-align: right">1,183</td></tr>'
        '<tr><th scope="row" style="text-align: left">walk<sup>[1]</sup></th>'
        '<td style="text-align: right">-</td></tr></tbody></table>'
        "<ol><li>walk: barely told</li><li>short</li></ol>"
    )


def test_a_table_without_rows_says_so():
    empty = Table("Nothing", ("event", "cost"), ())
    assert empty.text() == "Nothing\n\nevent  cost\n(no rows)"
    assert "<tbody></tbody>" in empty.html()


class Text(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = set(), []
        self.feed(html)

    def handle_starttag(self, tag, _attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_all_text_of_a_table_is_escaped():
    table = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, HOSTILE),), (f"{HOSTILE}: known",))
    found = Text(table.html())
    assert "script" not in found.tags
    assert found.text.count(HOSTILE) == 5


RESULTS = {
    "events": lambda: sim.reclaim(sim.World(map_bytes=1 << 20, reclaim_bytes=1 << 19), "arm64",
                                  "unmap"),
    "costs": lambda: fit.fit("x86_64"),
    "costs in time": lambda: timing.time_fit(machines.host()),
    "prediction": lambda: predict.predict("x86_64", 4),
    "attribution": lambda: explain.explain("arm64", 6, metric="instructions"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_shows_its_id_and_the_same_in_both(name):
    value = RESULTS[name]()
    text, html = repr(value), value._repr_html_()
    assert str(value) == text
    assert f"id {value.id}" in " ".join(text.split())
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    told = "".join("".join(Text(html).text).split())
    rows = [line for line in text.splitlines() if line and not line.startswith(("[", " "))]
    for line in rows[1:]:
        assert "".join(line.split()) in told.replace("[", " [").replace(" ", ""), line


def test_events_are_exact_and_their_warnings_footnotes():
    world = sim.World(map_bytes=(1 << 20) + 5000, reclaim_bytes=1 << 19)
    text = repr(sim.reclaim(world, "x86_64", "unmap"))
    assert "\nfunction                      hits\nptep_clear_flush_young         544\n" in text
    assert text.endswith("[1] the last 5000 bytes are no whole order-4 folio and are left out")


def test_hardly_any_events_are_a_table_too():
    nothing = sim.World(map_bytes=1 << 12, reclaim_bytes=1 << 12, order=0, workload="lazyfree",
                        pinned=1.0)  # fmt: skip
    events = sim.reclaim(nothing, "x86_64", "base")
    assert repr(events).splitlines()[-1].startswith("[1] MADV_PAGEOUT freed 0 of the ")


def test_a_cost_at_its_bound_has_a_footnote():
    row = next(line for line in repr(fit.fit("arm64")).splitlines() if "lru_gen_look" in line)
    assert row.split()[:6] == ["lru_gen_look_around", "[1]", "0", "-", "at", "its"]


def test_a_cost_that_nothing_tells_has_an_infinite_error():
    model = fit.fit("arm64")
    unknown = np.where(np.eye(len(model.cov)) > 0, INF, 0.0)
    table = shown.cost_model(replace(model, cov=unknown))
    assert {row[2] for row in table.rows} == {"any"}
    assert {row[3] for row in table.rows} == {"bounded", "at its bound"}


def test_a_speedup_without_a_bound():
    value = replace(predict.predict("arm64", 6), elapsed_reduction=Interval(0.5, 0.75, 1.0))
    assert "speedup" in repr(value)
    assert "to any)" in repr(value)


def test_a_prediction_shows_what_was_measured_and_every_assumption():
    value = predict.predict("arm64", 6, metric="instructions")
    value = replace(value, measured=0.6123, assumptions=(*value.assumptions, HOSTILE))
    assert "measured" in repr(value)
    assert "61.23%" in repr(value)
    assert Text(value._repr_html_()).text[-1] == HOSTILE


def test_parts_without_an_interval_are_shown_without():
    value = explain.explain("arm64", 6, metric="instructions")
    row = dict(shown.attribution(value).rows)[NOT_EXPLAINED]
    assert "(" not in row


@pytest.mark.parametrize("arch", sim.MEASURED_ARCHES)
def test_tables_of_time_keep_to_the_width(arch):
    text = repr(timing.time_fit(machines.reference(arch)))
    assert max(map(len, text.splitlines())) <= WIDTH


def test_sim_imports_nothing_of_analysis():
    for path in Path(sim.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "module", None) or ""] if isinstance(node, ast.ImportFrom) else [
                alias.name for alias in getattr(node, "names", ()) if isinstance(node, ast.Import)
            ]  # fmt: skip
            assert not [name for name in names if name.startswith("analysis")], path
