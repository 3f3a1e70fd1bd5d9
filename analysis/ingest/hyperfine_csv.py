# SPDX-License-Identifier: GPL-2.0-only
"""hyperfine --export-csv: means and what else it computes, a command a row; no single runs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown
from analysis.ingest.source import TextLine

ADVICE = "Capture it with: hyperfine --export-json FILE COMMAND, which has each run."
EXPECTED = "a row of hyperfine --export-csv, its command on one line"
_COLUMNS = ("command", "mean", "stddev", "median", "user", "system", "min", "max")
_METRICS = {"mean": "real", "user": "user", "system": "sys"}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]{1,2})?")


def recognised(text: str) -> bool:
    """Tell whether a line is the header of such a file."""
    return text.startswith(",".join(_COLUMNS))


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read rows into the book; IngestError for a damaged one. Times are in seconds."""
    names: list[str] = []
    for line in lines:
        if recognised(line.text) and line.ended and not names:
            book.header(line)
            names = line.text.split(",")
        elif not book.settled(line):
            _row(line, names, book)


def _row(line: TextLine, names: list[str], book: Book) -> None:
    try:
        cells = next(csv.reader([line.text], strict=True))
    except csv.Error:
        cells = []
    told = dict(zip(names, cells, strict=False))
    values = {name: told.pop(name, "") for name in _COLUMNS[1:]}
    sound = all(_NUMBER.fullmatch(word) for name, word in values.items() if name != "stddev")
    if len(cells) != len(names) or not names or not sound:
        book.error(line, shown(line.text), EXPECTED)
        return
    book.measured(line)
    part = "; ".join(f"{name.removeprefix('parameter_')}={cell}" for name, cell in told.items())
    for name, word in values.items():
        metric = _METRICS.get(name, f"real, {name}")
        if _NUMBER.fullmatch(word):
            mark = "mean" if name in _METRICS else None
            book.row(line.number, metric, "s", Decimal(word), part=part, mark=mark)
        else:
            book.unmeasured(line.number, metric, "none, as of one run")
