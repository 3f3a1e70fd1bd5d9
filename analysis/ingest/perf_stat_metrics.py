# SPDX-License-Identifier: GPL-2.0-only
"""perf stat -x --metric-only: one header that names metrics, then a row of values, or one a time.

With -I the header starts with "time", with --per-core and the like a place and its number of CPUs
follow. Each name and each value is followed by the separator, the last one too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.source import TextLine
from analysis.ingest.stat_values import PLAIN, derived, place_text

EXPECTED = "a value for each metric that the header names"
_PLACES = ("core", "die", "socket", "node", "cpu", "cluster", "cache", "comm-pid", "cpus", "ctrs")
_KNOWN = ("CPUs utilized", "insn per cycle", "GHz", "% of all", "of all branches", "/sec")
_TIME = re.compile(r" *[0-9]+\.[0-9]{9}")


def recognised(text: str) -> bool:
    """Tell whether a line is the header of such a capture."""
    sep = text.rstrip(" ")[-1:]
    if sep not in (",", ";", "|", "@", "\t") or len(text) > 2000:
        return False
    names = [name.strip() for name in text.split(sep)]
    if any(re.fullmatch(r"[0-9.]+", name) for name in names):
        return False
    timed = names[0] == "time" and (len(names) > 2 or text.startswith(" "))
    return timed or any(name in _KNOWN or name.startswith("%") for name in names)


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read the rows into the book; IngestError for a row of another length."""
    names: list[str] = []
    sep, run = ",", 0
    for line in lines:
        text = line.text
        if not text.strip() or text.startswith("#"):
            (book.header if text.startswith("#") else book.comment)(line)
        elif recognised(text) and line.ended:
            book.header(line)
            sep = text.rstrip(" ")[-1]
            names = [name.strip() for name in text.rstrip(" ")[:-1].split(sep)]
            if len(set(names)) < len(names):
                book.fail(line.number, "a metric that is named twice", "a name for each column")
        elif not line.ended:
            book.error(line, *unended(line))
        elif not names:
            book.comment(line, foreign=True)
        else:
            run += _row(line, names, sep, run, book)


def _row(line: TextLine, names: list[str], sep: str, run: int, book: Book) -> int:
    text = line.text.rstrip(" ")
    cells = text.removesuffix(sep).split(sep)
    if len(cells) != len(names) or not text.endswith(sep):
        book.error(line, shown(line.text), EXPECTED)
        return 0
    named = dict(zip(names, cells, strict=True))  # names are different, or the header was refused
    time = named.pop("time", None)
    places = {name: named.pop(name).strip() for name in _PLACES if name in named}
    values = {name: cell.strip() for name, cell in named.items()}
    sound = all(cell in ("", "nan", "-nan") or PLAIN.fullmatch(cell) for cell in values.values())
    if (time is not None and not _TIME.fullmatch(time)) or not sound:
        book.error(line, shown(line.text), EXPECTED)
        return 0
    book.measured(line)
    part = place_text(time=time and time.strip(), **places)
    for name, cell in values.items():
        if PLAIN.fullmatch(cell):
            row = derived("metric", name, Decimal(cell))
            book.row(line.number, *row, run=run, part=part)
        else:
            book.unmeasured(line.number, name, "no metric")
    if not values:
        book.unmeasured(line.number, "--metric-only", "no metric")
    return 1
