# SPDX-License-Identifier: GPL-2.0-only
"""perf report --stdio: a block per event, shares by command, object and symbol, call graphs or not.

A report hides what is below its percent limit, so its shares may not add up to 100%; then each is
marked "cut". The number of samples in its header is rounded ("1K") and is noted, not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.setting import perf_header
from analysis.ingest.source import TextLine
from analysis.ingest.symbols import normal

EXPECTED = "a row of perf report --stdio"
ADVICE = "Capture it with: LC_ALL=C perf report --stdio --percent-limit 0 > FILE."
_SAMPLES = re.compile(r"# Samples: (\S+) +of events? '(.+)'(?:,.*)?")
_COUNT = re.compile(r"# Event count \(approx\.\): ([0-9]+)")
_COLUMNS = re.compile(r"# *(?:Children|Overhead|Self)\b.*")
_DOTS = re.compile(r"# *\.+[ .]*")
_SHARE = re.compile(r"[0-9]{1,3}\.[0-9]{2}%")
_GRAPH = re.compile(r"\s{8,}[^\s0-9]|\s+[|\-]|\s*[0-9]+(?:\.[0-9]{2}%)? \S+(?:;\S+)*$")
_SHARES = {"Children": "children", "Self": "self", "Overhead": "overhead"}
ROUNDING = Decimal("0.005")  # of each share


def recognised(text: str) -> bool:
    """Tell whether a line is one that only perf report prints."""
    return bool(
        _SAMPLES.fullmatch(text.rstrip())
        or text.startswith("# To display the perf.data header info")
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read the flat rows of a report into the book; call graphs below them are comments."""
    state = _Report(book)
    for line in lines:
        if not line.text.strip():
            book.comment(line)
        elif line.text.startswith("#") and line.ended:
            state.head(line)
        elif not line.ended:
            book.error(line, *unended(line))
        else:
            state.row(line)
    state.end()


class _Report:
    def __init__(self, book: Book):
        self.book = book
        self.event = "samples"
        self.names: list[str] = []
        self.widths: list[int] = []
        self.separator: str | None = None
        self.kept: list[tuple] = []
        self.sum = Decimal(0)

    def head(self, line: TextLine) -> None:
        text = line.text.rstrip()
        self.book.header(line)
        if samples := _SAMPLES.fullmatch(text):
            self.end()
            self.event = samples[2]
            self.names, self.widths = [], []
            self.book.note(f"{self.event}: {samples[1]} samples, as perf rounds them")
        elif counted := _COUNT.fullmatch(text):
            unit = "ns" if "clock" in self.event else "count"
            self.book.row(line.number, f"{self.event} (approx.)", unit, Decimal(counted[1]))
        elif _DOTS.fullmatch(text):
            self.widths = [len(dots) for dots in text[1:].split()]
        elif _COLUMNS.fullmatch(text) and not self.names:
            self._columns(text)
        else:
            perf_header(text, self.book)

    def _columns(self, text: str) -> None:
        found = re.fullmatch(r"# *[A-Za-z ]+?(?P<sep>[,;|:\t])\s*[A-Z].*", text)
        self.separator = found["sep"] if found else None
        words = text[1:].split(self.separator) if found else re.split(r"\s{2,}", text[1:].strip())
        self.names = [word.strip() for word in words]

    def row(self, line: TextLine) -> None:
        cells = self._cells(line.text)
        if cells is not None:
            self._keep(line, cells)
        elif re.fullmatch(r"\(Tip: .*\)", line.text.strip()):
            self.book.comment(line)
        elif self.names and self.kept and _GRAPH.match(line.text):
            self.book.comment(line)
            self.book.note("call graphs under the rows are not read: perf script has all of them")
        elif not self.names and not _SHARE.search(line.text):
            self.book.comment(line, foreign=True)
        else:
            self.book.error(line, shown(line.text), EXPECTED)

    # The cells of a flat row: shares first, the last column takes what is left.
    def _cells(self, text: str) -> list[str] | None:
        count = len(self.names)
        if not count:
            return None
        if self.separator is not None:
            cells = [cell.strip() for cell in text.split(self.separator, count - 1)]
        elif len(self.widths) == count:
            cells = self._by_width(text)
        else:
            cells = [cell.strip() for cell in re.split(r"\s{2,}", text.strip(), maxsplit=count - 1)]
        if len(cells) != count or any(not cell for cell in cells):
            return None
        shares = [cell for name, cell in zip(self.names, cells, strict=True) if name in _SHARES]
        if not shares or not all(_SHARE.fullmatch(cell) for cell in shares):
            return None
        return cells

    def _by_width(self, text: str) -> list[str]:
        cells, at = [], 2  # below the dots, which stand behind "# "
        for place, width in enumerate(self.widths):
            end = at + width if place < len(self.widths) - 1 else len(text)
            cells.append(text[at:end].strip())
            at = end + 2
        return cells

    def _keep(self, line: TextLine, cells: list[str]) -> None:
        self.book.measured(line)
        named = dict(zip(self.names, cells, strict=True))
        shares = {name: Decimal(named[name][:-1]) for name in named if name in _SHARES}
        if re.fullmatch("[0-9]+", named.get("Samples", "")):
            shares["Samples"] = Decimal(named.pop("Samples"))
        labels = [f"{name}={named[name]}" for name in named if name not in _SHARES]
        symbol = named.get("Symbol")
        self.sum += shares.get("Overhead", shares.get("Self", Decimal(0)))
        self.kept.append((line.number, shares, "; ".join(labels), symbol))

    def end(self) -> None:
        """Write the block's rows, now that it is known whether they add up."""
        missing = 100 - self.sum - len(self.kept) * ROUNDING
        if self.sum - len(self.kept) * ROUNDING > 100:
            found = f"shares of {self.event} that add up to {self.sum}%"
            self.book.fail(self.kept[-1][0], found, "100% at most, without --hierarchy")
        cut = "cut" if missing > 0 and self.kept else None
        if cut:
            self.book.note(
                f"{self.event}: the shares add up to {self.sum}%; the rest is below the report's "
                "percent limit or was filtered away"
            )
        for number, shares, part, symbol in self.kept:
            for name, share in shares.items():
                self.book.row(
                    number,
                    f"{self.event} {_SHARES.get(name, 'samples')}",
                    "percent" if name in _SHARES else "count",
                    share,
                    part=part or None,
                    symbol=normal(symbol) if symbol else None,
                    mark=cut if name in _SHARES else None,
                )
        self.kept, self.sum = [], Decimal(0)
