# SPDX-License-Identifier: GPL-2.0-only
"""Executed notebooks on the page: all that they printed can be read, and nothing of it runs."""

import base64

import nbformat
import pytest
from nbformat import v4
from test_page import (
    FIRST,
    MARKUP,
    SVG,
    Reader,
    assert_loads_and_runs_nothing,
    each_notebook_once,
    executed,
    out,
    printed,
)

from analysis import measurements, notebook_html, palette
from analysis.page import write_page

__all__ = ["each_notebook_once", "out"]  # fixtures


def test_a_notebook_shows_what_was_run_and_printed(out):
    plot = printed("image/svg+xml", SVG.decode())
    table = "<table><tr><th>order</th></tr><tr><td>4</td></tr></table>"
    cells = executed(plot, printed("text/html", table), printed("stdout", "\x1b[31mred\x1b[0m"))
    (out / "notebooks" / f"{FIRST}.ipynb").write_text(cells)
    write_page(out)
    reader = Reader((out / "notebooks" / f"{FIRST}.html").read_text())
    for said in ("Title 01", "x = 1  # one", "order", "red"):
        assert said in reader.text
    (image,) = reader.values("src")
    assert base64.b64decode(image.split(",")[1]) == SVG
    assert [tag for tag, _ in reader.tags].count("table") == 1


def test_figures_of_a_notebook_are_dark_where_the_page_is(out):
    svg = '<svg><style>*{}</style><path style="fill: #1c1c1c"/></svg>'
    cells = executed(printed("image/svg+xml", svg), printed("image/svg+xml", SVG.decode()))
    (out / "notebooks" / f"{FIRST}.ipynb").write_text(cells)
    write_page(out)
    ours, other = Reader((out / "notebooks" / f"{FIRST}.html").read_text()).values("src")
    shown = base64.b64decode(ours.split(",")[1])
    assert shown == palette.themed(svg.encode()) != svg.encode()
    assert base64.b64decode(other.split(",")[1]) == SVG


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=https://example.org/a.png onerror=alert(1)>",
    "<style>@import url(https://example.org)</style>",
    "<svg onload=alert(1)><a href='javascript:alert(1)'>b</a></svg>",
    "<iframe src=https://example.org></iframe><base href=https://example.org>",
    "</pre></td></table></main><form action=https://example.org><input autofocus onfocus=a()>",
    "![a](https://example.org/a.png) [b](javascript:alert(1)) <b style='background:url(//a)'>",
    "\x1b]8;;https://example.org\x1b\\a\x1b[31m<script>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src onerror=alert(1)>'>",
)
KINDS = ("stdout", "error", "text/plain", "text/html", "text/markdown", "text/latex",
         "image/svg+xml", "image/png", "application/javascript")  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markup_that_a_notebook_printed_loads_and_runs_nothing(out, hostile):
    cells = executed(*(printed(kind, hostile) for kind in KINDS), source=f"x = {hostile!r}",
                     text=f"# Title\n\n{hostile}")  # fmt: skip
    (out / "notebooks" / f"{FIRST}.ipynb").write_text(cells)
    write_page(out)
    html = (out / "notebooks" / f"{FIRST}.html").read_text()
    assert_loads_and_runs_nothing(html)
    assert Reader(html).values("href") == [f"../index.html#{FIRST}"]


@pytest.mark.parametrize("kind", ["stdout", "text/plain", "error"])
def test_printed_markup_is_still_there_to_be_read(kind):
    shown = Reader(notebook_html.body(executed(printed(kind, MARKUP)))).text
    assert MARKUP in shown


def test_controls_are_named_and_their_state_is_not_shown():
    view = {"model_id": "a", "version_major": 2, "version_minor": 0}
    shown = v4.new_output(
        "display_data", data={notebook_html.CONTROLS: view, "text/plain": "VBox(children=())"}
    )
    notebook = nbformat.reads(executed(shown), as_version=4)
    model = {"model_name": "HTMLModel", "model_module": "b", "state": {"value": HOSTILE[0]}}
    state = {"version_major": 2, "version_minor": 0, "state": {"a": model}}
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": state}
    text = Reader(notebook_html.body(nbformat.writes(notebook))).text
    assert "controls: they are there where the notebook runs" in text
    assert not [word for word in ("HTMLModel", "VBox", HOSTILE[0]) if word in text]


def test_names_that_captures_hold_are_text_in_a_notebook():
    frame = measurements.instructions().head(2).assign(arch=HOSTILE[0], kernel=HOSTILE[1])
    html = notebook_html.body(executed(printed("text/html", frame._repr_html_())))
    reader = Reader(html)
    assert reader.text.count(HOSTILE[0]) == 2
    assert "<img src=https" in reader.text  # pandas cuts what is longer
    assert "dataframe" not in reader.text  # pandas' style is no text
