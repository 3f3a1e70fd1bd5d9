# SPDX-License-Identifier: GPL-2.0-only
"""The page shows what was saved, as text, whole, and asks for what is missing."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import nbformat
import pytest
from nbformat import v4

from analysis import measurements, notebook_html, page, report, results
from analysis.page import PageError, write_page
from analysis.params import PARAMETERS

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><defs id="a"/><script>alert(1)</script></svg>'
MARKUP = '<script>alert("1")</script>&amp;\'{{ 7 * 7 }}'
NOTEBOOKS = list(PARAMETERS)
FIRST = NOTEBOOKS[0]


# Nearly all notebooks of these tests are the same one.
BODY = cache(notebook_html.body)


@pytest.fixture(autouse=True)
def each_notebook_once(monkeypatch):
    monkeypatch.setattr(notebook_html, "body", BODY)


class Reader(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def result(notebook, **changes) -> dict:
    number = notebook[:2]
    fields = {
        "notebook": notebook,
        "title": f"Title {number}",
        "question": f"Question {number}?",
        "inputs": {"order": 4},
        "numbers": {"reduction": {"x86_64": [0.5, None], "said": "yes"}},
        "conclusion": f"Conclusion {number}.",
        "assumptions": [f"Assumption {number}"],
        "id": f"{number}3456789abc",
        "figures": [{"name": f"figure{number}", "title": f"Finding {number}"}],
        "tables": [f"table{number}"],
        "texts": [f"text{number}.txt"],
    }
    return fields | changes


def write(out, saved) -> None:
    (out / "results" / f"{saved['notebook']}.json").write_text(json.dumps(saved))


@pytest.fixture
def out(tmp_path):
    for folder in ("results", "figures", "tables", "notebooks"):
        (tmp_path / folder).mkdir()
    for notebook in NOTEBOOKS:
        number = notebook[:2]
        write(tmp_path, result(notebook))
        (tmp_path / "figures" / f"figure{number}.svg").write_bytes(SVG)
        (tmp_path / "tables" / f"table{number}.csv").write_text("order,seconds\n4,0.123456789\n")
        (tmp_path / f"text{number}.txt").write_text("\nmm: rmap\n\n  a   b\n")
        (tmp_path / "notebooks" / f"{notebook}.ipynb").write_text(executed())
    return tmp_path


def executed(*outputs, source="x = 1  # one", text="# Title") -> str:
    """Return an executed notebook of a cell of text and one of code, as it lies in a file."""
    code = v4.new_code_cell(source, outputs=list(outputs), id="code")
    cells = [v4.new_markdown_cell(text, id="text"), code]
    return nbformat.writes(v4.new_notebook(cells=cells))


def printed(kind: str, content: str):
    """Return what a cell printed; kind: a mime type, stdout or error."""
    if kind == "stdout":
        return v4.new_output("stream", name="stdout", text=content)
    if kind == "error":
        return v4.new_output("error", ename=content, evalue=content, traceback=[content])
    return v4.new_output("display_data", data={kind: content})


def assert_loads_and_runs_nothing(html: str) -> None:
    """Assert that a browser would find nothing to fetch or run, and may not if it did."""
    reader = Reader(html)
    assert not {tag for tag, _ in reader.tags} & {"script", "svg", "link", "iframe", "object",
                                                  "form", "base", "video", "audio"}  # fmt: skip
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert ":" not in attributes.get("href", "")
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            policy = attributes["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url\(|@import|http", style)


def test_everything_saved_is_on_the_page_answers_first_in_order_of_the_notebooks(out):
    written = write_page(out)
    assert written == out / "index.html"
    text = Reader(written.read_text()).text
    numbers = [notebook[:2] for notebook in NOTEBOOKS]
    answers = [text.index(f"Conclusion {number}.") for number in numbers]
    questions = [text.index(f"Question {number}?") for number in numbers]
    assert answers == sorted(answers)
    assert questions == sorted(questions)
    assert max(answers) < min(questions)
    for number in numbers:
        for said in ("Title", "Finding", "Assumption"):
            assert f"{said} {number}" in text
        assert f"{number}3456789abc" in text
    assert "reduction, x86_64" in text
    assert "[0.5, null]" in text
    assert "order = 4" in text


def test_the_answer_by_folio_size_stands_first(out):
    html = write_page(out).read_text()
    table = html[html.index("<main>") : html.index("</table>")]
    assert 'aria-label="Answer"' in table
    for row in report.answer_rows():
        cells = "".join(f'<td class="number">{text}</td>' for text in row)
        assert f"<tr>{cells}</tr>" in table


def test_provenance_of_every_measured_file_is_shown(out):
    text = Reader(write_page(out).read_text()).text
    for name, entry in measurements.manifest().items():
        assert name in text
        assert all(value in text for value in entry.values())


def test_figures_lie_within_the_page_and_no_resource_is_loaded(out):
    reader = Reader(write_page(out).read_text())
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert [image["alt"] for image in images] == [f"Finding {n[:2]}" for n in NOTEBOOKS]
    for image in images:
        kind, content = image["src"].split(",")
        assert kind == "data:image/svg+xml"
        assert unquote_to_bytes(content) == SVG
    for path in (out / "index.html", *(out / "notebooks").glob("*.html")):
        assert_loads_and_runs_nothing(path.read_text())


@pytest.mark.parametrize("hostile", ['"><script>alert(1)</script>', "'&quot;&#34;%22%", "\xff#\0"])
def test_a_figure_cannot_end_the_attribute_that_it_is_in(out, hostile):
    content = f"<svg><!--{hostile}--> <!-- -->\n  <a/></svg>".encode("latin-1")
    (out / "figures" / f"figure{FIRST[:2]}.svg").write_bytes(content)
    html = write_page(out).read_text()
    image = Reader(html).values("src")[0]
    whole = b" ".join(content.split())
    assert unquote_to_bytes(image.partition(",")[2]) == whole
    assert_loads_and_runs_nothing(html)


def test_links_lead_to_files_and_sections_that_are_there(out):
    reader = Reader(write_page(out).read_text())
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    links = reader.values("href")
    assert len(links) == 6 * len(NOTEBOOKS)
    for link in links:
        assert link[1:] in ids if link.startswith("#") else (out / link).is_file()
    for notebook in NOTEBOOKS:
        assert f"notebooks/{notebook}.html" in links
        back = Reader((out / "notebooks" / f"{notebook}.html").read_text()).values("href")
        assert back == [f"../index.html#{notebook}"]
        assert notebook in ids


def test_the_page_can_be_read_on_a_phone_in_the_dark_and_on_paper(out):
    write_page(out)
    for path in (out / "index.html", out / "notebooks" / f"{FIRST}.html"):
        html = path.read_text()
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
        for query in ("prefers-color-scheme: dark", "print"):
            assert f"@media {query}" in html or f"@media ({query})" in html
    # What is wider than a phone lies in a box that scrolls.
    html = (out / "index.html").read_text()
    assert re.findall(r'<div class="wide" tabindex="0">\s*<(table|img)', html)
    assert len(re.findall("<table>|<img ", html)) == html.count('<div class="wide"')


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"nbformat": 4, "cells": [1]}', "null"])
def test_a_notebook_that_is_none_is_refused(out, content):
    (out / "notebooks" / f"{FIRST}.ipynb").write_text(content)
    with pytest.raises(PageError, match=f"{FIRST}.*not a notebook.*run notebook"):
        write_page(out)


def test_pages_of_notebooks_go_with_their_results(out):
    write_page(out)
    results.remove(out, FIRST, json.loads((out / "results" / f"{FIRST}.json").read_text()))
    assert [path.stem for path in sorted((out / "notebooks").glob("*.html"))] == NOTEBOOKS[1:]


def test_the_message_is_preformatted_as_it_is(out):
    html = write_page(out).read_text()
    # A parser drops one line feed after <pre>: the message's own has to be the second.
    assert re.findall(r"<pre[^>]*>\n(.*?)</pre>", html, re.DOTALL)[0] == "\nmm: rmap\n\n  a   b\n"


@pytest.mark.parametrize(
    "change",
    [
        {"title": MARKUP},
        {"question": MARKUP},
        {"conclusion": MARKUP},
        {"id": MARKUP},
        {"assumptions": [MARKUP]},
        {"inputs": {MARKUP: 1}},
        {"inputs": {"arch": MARKUP}},
        {"numbers": {MARKUP: {MARKUP: 1}}},
        {"numbers": {"a": MARKUP}},
        {"numbers": {"a": [1, {"b": "<b>"}]}},
        {"figures": [{"name": "figure01", "title": MARKUP}]},
    ],
)
def test_markup_in_a_result_is_text_on_the_page(out, change):
    plain = Reader(write_page(out).read_text())
    write(out, result(FIRST, **change))
    marked = Reader(write_page(out).read_text())
    new = {tag for tag, _ in marked.tags} - {tag for tag, _ in plain.tags}
    assert not new
    assert (MARKUP in marked.text) or ("<b>" in marked.text)


def test_markup_in_tables_texts_file_names_and_provenance_is_text(out, monkeypatch):
    name = "<b>&'\"#?%"
    write(out, result(FIRST, figures=[{"name": name, "title": "t"}], tables=[name], texts=[name]))
    (out / "figures" / f"{name}.svg").write_bytes(SVG)
    quoted = MARKUP.replace('"', '""')
    (out / "tables" / f"{name}.csv").write_text(f'"{quoted}"\n"{quoted}"\n')
    (out / name).write_text(f"</pre>{MARKUP}")
    monkeypatch.setattr(measurements, "manifest", lambda: {MARKUP: {"what": MARKUP, MARKUP: "a"}})
    reader = Reader(write_page(out).read_text())
    assert not {tag for tag, _ in reader.tags} & {"script", "b"}
    assert reader.text.count(MARKUP) == 2 + 1 + 4
    links = [link for link in reader.values("href") if "%3Cb%3E" in link]
    assert len(links) == 2


def test_a_long_table_is_cut_and_says_so(out):
    rows = page.SHOWN_ROWS + 5
    content = "a\n" + "".join(f"row{row}\n" for row in range(rows))
    (out / "tables" / "table01.csv").write_text(content)
    text = Reader(write_page(out).read_text()).text
    assert f"{page.SHOWN_ROWS} of {rows} rows" in text
    assert f"row{page.SHOWN_ROWS - 1}" in text
    assert f"row{page.SHOWN_ROWS}" not in text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("0.123456789", "0.1235"),
        ("1918151359.7895768", "1,918,151,360"),
        ("-2.384185791015625e-07", "-2.384e-07"),
        ("268435456", "268435456"),
        ("12e456789012", "12e456789012"),
        ("0.25", "0.25"),
        ("nan", "nan"),
        ("", ""),
    ],
)
def test_numbers_in_tables_are_short_and_nothing_else_is_touched(out, written, shown):
    (out / "tables" / "table01.csv").write_text(f"a,b\n{written},x\n")
    html = write_page(out).read_text()
    assert re.search(rf"<td[^>]*>{re.escape(shown)}</td><td[^>]*>x</td>", html)


def test_same_results_give_the_same_bytes_and_others_do_not(out):
    first = write_page(out).read_bytes()
    assert write_page(out).read_bytes() == first
    write(out, result(FIRST, id="another"))
    assert write_page(out).read_bytes() != first


def test_what_no_notebook_saved_is_not_on_the_page(out):
    first = write_page(out).read_bytes()
    (out / "results" / "07_old.json").write_text(json.dumps(result("07_old")))
    (out / "figures" / "old.svg").write_bytes(SVG)
    assert write_page(out).read_bytes() == first


def test_nothing_of_a_kind_is_no_empty_heading(out):
    bare = {"figures": [], "tables": [], "texts": [], "assumptions": [], "numbers": {}}
    for notebook in NOTEBOOKS:
        write(out, result(notebook, **bare))
    text = Reader(write_page(out).read_text()).text
    assert "Assumptions" not in text
    assert "Numbers" not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize(
    "missing", ["results/{}.json", "notebooks/{}.ipynb", "figures/figure{:.2}.svg",
                "tables/table{:.2}.csv", "text{:.2}.txt"],
)  # fmt: skip
def test_a_missing_file_names_itself_and_the_notebook_to_run(out, notebook, missing):
    path = out / missing.format(notebook)
    path.unlink()
    with pytest.raises(PageError) as caught:
        write_page(out)
    assert str(path) in str(caught.value)
    assert f"run notebook {notebook} again" in str(caught.value)
    assert not (out / "index.html").exists()


def test_a_folder_without_results_asks_for_the_first_notebook(tmp_path):
    with pytest.raises(PageError, match=FIRST):
        write_page(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", json.dumps(result("02_simulate_reclaim")).encode()],
)
def test_a_result_that_is_none_is_refused(out, content):
    (out / "results" / f"{FIRST}.json").write_bytes(content)
    with pytest.raises(PageError, match=f"{FIRST}.*run notebook"):
        write_page(out)


@pytest.mark.parametrize("name", page.FIELDS)
@pytest.mark.parametrize("value", [None, 7])
def test_a_field_that_is_missing_or_of_another_type_is_named(out, name, value):
    changed = result(FIRST) | {name: value}
    (out / "results" / f"{FIRST}.json").write_text(json.dumps(changed))
    with pytest.raises(PageError, match=f"'{name}' is missing or no"):
        write_page(out)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "a/b", "a\0b", None, 3, []])
@pytest.mark.parametrize("kind", ["figures", "tables", "texts"])
def test_a_name_that_leaves_its_folder_is_refused(out, kind, name):
    named = {"name": name, "title": "t"} if kind == "figures" else name
    write(out, result(FIRST, **{kind: [named]}))
    with pytest.raises(PageError, match=f"run notebook {FIRST}"):
        write_page(out)


@pytest.mark.parametrize("figure", ["figure01", None, {"name": "figure01"}, {"title": "t"}])
def test_a_figure_without_name_or_title_is_refused(out, figure):
    write(out, result(FIRST, figures=[figure]))
    with pytest.raises(PageError, match=FIRST):
        write_page(out)


@pytest.mark.parametrize("content", ["", "a,b\n1\n", "a,b\n1,2,3\n", 'a\n"1\n'])
def test_a_table_that_is_none_is_refused(out, content):
    (out / "tables" / "table01.csv").write_text(content)
    with pytest.raises(PageError, match=r"table01\.csv.*run notebook"):
        write_page(out)


def test_a_page_that_cannot_be_written_keeps_the_old_one_and_leaves_nothing(out, monkeypatch):
    before = write_page(out).read_bytes()
    write(out, result(FIRST, id="another"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    names = sorted(out.iterdir())
    with pytest.raises(OSError, match="No space"):
        write_page(out)
    assert (out / "index.html").read_bytes() == before
    assert sorted(out.iterdir()) == names


def test_the_template_lies_in_the_package():
    assert (Path(page.__file__).parent / "page.html.j2").is_file()
