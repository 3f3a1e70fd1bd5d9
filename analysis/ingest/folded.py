# SPDX-License-Identifier: GPL-2.0-only
"""Folded stacks: "root;...;leaf count" a line, as stackcollapse writes them.

`reclaim ingest --folded` writes the same. What the counts count, periods or samples, it does not
say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.ingest.book import Book, shown
from analysis.ingest.source import TextLine
from analysis.ingest.stacks import Stacks

EXPECTED = "frames joined by semicolons, a blank and a count"
ADVICE = "Capture it with: perf script | stackcollapse-perf.pl > FILE, or reclaim ingest --folded."
_ROW = re.compile(r"(?P<stack>\S.*) (?P<count>[0-9]{1,20})")
_TWO = re.compile(r";.* [0-9]+$")


def recognised(text: str) -> bool:
    """Tell whether a line is a folded stack of two frames or more."""
    match = _ROW.fullmatch(text)
    return bool(match) and ";" in match["stack"] and not match["stack"].startswith("#")


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read folded stacks into the book; IngestError for a line that is none."""
    stacks = Stacks(book.name)
    for line in lines:
        match = _ROW.fullmatch(line.text)
        if line.text.startswith("#"):
            book.comment(line)
        elif book.settled(line):
            continue
        elif match is None:
            book.error(line, shown(line.text), EXPECTED)
        elif _TWO.search(match["stack"]):
            found = f"two counts ({shown(line.text)}), as difffolded.pl writes them"
            book.error(line, found, "one profile's count")
        else:
            book.measured(line)
            stacks.add(line.number, "folded", match["stack"], int(match["count"]), 0, None)
    stacks.write(book)
