# SPDX-License-Identifier: GPL-2.0-only
"""The page that shows every result of the workbook, and one a notebook; they load nothing else.

Figures are images within the page, so that neither ids nor scripts of one SVG can reach another or
the page; all text is escaped, because names, tables and messages come from files.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import measurements, notebook_html, report
from analysis.files import write_whole
from analysis.params import PARAMETERS
from sim.ident import short_id

FIELDS = {
    "notebook": str,
    "title": str,
    "question": str,
    "inputs": dict,
    "numbers": dict,
    "conclusion": str,
    "assumptions": list,
    "id": str,
    "figures": list,
    "tables": list,
    "texts": list,
}
# Longer tables are shown as far as this; the page says so, and links to the rest.
SHOWN_ROWS = 40
LONG_CHARS = 40  # beyond, a cell of a table may be broken into lines
# What an SVG keeps in a URL within double quotes: neither " nor &, which could end the attribute.
_AS_IT_IS = "!$'()*+,/:;<=>?@[]^`{|} "
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?")
_LONG_FRACTION = re.compile(r"-?\d+\.\d{3,}(e[-+]?\d+)?")


class PageError(Exception):
    """Results that do not make a page; says which file, and which notebook has to be run."""


def write_page(out: Path) -> Path:
    """Write out/index.html, and a page a notebook, from what the notebooks saved; return its path.

    The same results give the same bytes.

    Raises:
        PageError: a result, or a file that it names, is missing or not what was expected.
        MeasurementError: the manifest of data/ cannot be read.
        OSError: a page cannot be written.
    """
    out = Path(out)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    sections = [_section(out, notebook) for notebook in PARAMETERS]
    html = environment.get_template("page.html.j2").render(
        sections=sections,
        answer_header=report.ANSWER_HEADER,
        answer_rows=report.answer_rows(),
        manifest=measurements.manifest(),
        id=short_id([section["id"] for section in sections]),
    )
    template = environment.get_template("notebook.html.j2")
    for section in sections:
        _write(out / "notebooks" / f"{section['notebook']}.html", template.render(section))
    return _write(out / "index.html", html)


def _write(path: Path, html: str) -> Path:
    return write_whole(path, html.encode("utf-8", "replace"))


def _section(out: Path, notebook: str) -> dict:
    result = _result(out, notebook)
    executed = out / "notebooks" / f"{notebook}.ipynb"
    try:
        body = notebook_html.body(_text(executed, notebook))
    except ValueError as error:
        raise _broken(executed, f"not a notebook ({error})", notebook) from None
    return result | {
        "body": body,
        "inputs": list(_leaves(result["inputs"])),
        "numbers": list(_leaves(result["numbers"])),
        "executed": quote(f"notebooks/{notebook}.html"),
        "source": quote(f"notebooks/{notebook}.ipynb"),
        "figures": [_figure(out, notebook, figure) for figure in result["figures"]],
        "tables": [_table(out, notebook, name) for name in result["tables"]],
        "texts": [
            {"name": name, "text": _text(_below(out, name, "", notebook), notebook)}
            for name in result["texts"]
        ],
    }


def _result(out: Path, notebook: str) -> dict:
    path = out / "results" / f"{notebook}.json"
    try:
        result = json.loads(_text(path, notebook))
    except ValueError as error:
        raise _broken(path, f"not JSON ({error})", notebook) from None
    if not isinstance(result, dict):
        raise _broken(path, "not a JSON object", notebook)
    for name, kind in FIELDS.items():
        if not isinstance(result.get(name), kind):
            raise _broken(path, f"{name!r} is missing or no {kind.__name__}", notebook)
    if result["notebook"] != notebook:
        raise _broken(path, f"it is of notebook {result['notebook']!r}", notebook)
    return result


def _figure(out: Path, notebook: str, figure: object) -> dict[str, str]:
    if not isinstance(figure, dict) or not isinstance(figure.get("title"), str):
        raise _broken(out / "results" / f"{notebook}.json", "a figure has no title", notebook)
    path = _below(out / "figures", figure.get("name"), ".svg", notebook)
    drawn = re.sub(rb"\s+", b" ", _read(path, notebook))
    return {
        "title": figure["title"],
        "image": f"data:image/svg+xml,{quote(drawn, safe=_AS_IT_IS)}",
        "link": quote(f"figures/{path.name}"),
    }


def _table(out: Path, notebook: str, name: object) -> dict:
    path = _below(out / "tables", name, ".csv", notebook)
    try:
        header, *rows = csv.reader(_text(path, notebook).splitlines(keepends=True), strict=True)
    except (csv.Error, ValueError) as error:
        raise _broken(path, f"not a table ({error})", notebook) from None
    if odd := [row for row in rows if len(row) != len(header)]:
        raise _broken(path, f"{len(header)} columns, but a row of {len(odd[0])}", notebook)
    return {
        "name": name,
        "link": quote(f"tables/{path.name}"),
        "header": header,
        "rows": [[_cell(text) for text in row] for row in rows[:SHOWN_ROWS]],
        "nr_rows": len(rows),
    }


# Text as it is shown, and how it is laid out.
def _cell(text: str) -> tuple[str, str]:
    if _LONG_FRACTION.fullmatch(text):
        value = float(text)
        text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if _NUMBER.fullmatch(text):
        return text, "number"
    return text, "long" if len(text) > LONG_CHARS else "short"


# Nested numbers under a name each, such as "x86_64, 6, low".
def _leaves(value: object, *names: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, *names, name)
    elif isinstance(value, str):
        yield ", ".join(names), value
    else:
        yield ", ".join(names), json.dumps(value)


def _below(folder: Path, name: object, suffix: str, notebook: str) -> Path:
    if not isinstance(name, str) or not name or Path(name).name != name or "\0" in name:
        raise _broken(folder, f"{name!r} is no file name", notebook)
    return folder / f"{name}{suffix}"


def _text(path: Path, notebook: str) -> str:
    try:
        return _read(path, notebook).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(path, f"not UTF-8 ({error})", notebook) from None


def _read(path: Path, notebook: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, error.strerror, notebook) from None


def _broken(path: Path, what: str | None, notebook: str) -> PageError:
    return PageError(f"{path}: {what}; run notebook {notebook} again with the same `out`")
