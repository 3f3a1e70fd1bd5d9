# SPDX-License-Identifier: GPL-2.0-only
"""Call chains added up: what perf script, folded files and perf data convert have in common.

A stack is text as stackcollapse writes it, "comm;root;...;leaf", raw names; two rows come of each:
the sum of its periods and the number of its samples.
"""

from __future__ import annotations

import re

from analysis.ingest.book import Book
from analysis.ingest.capture import IngestError
from analysis.ingest.symbols import normal

STACK_LIMIT = 400_000  # different stacks; each is two rows of Samples
CUT = "cut: the capture ends inside a sample"
_FIELDS = re.compile(r"\+0x[0-9a-f]+ |(?:^| )[0-9a-f]{8,16} |^\||\tmetric:")
_CLOCKS = ("cpu-clock", "task-clock")


class Stacks:
    """Periods and samples by event and stack."""

    def __init__(self, name: str):
        self._name = name
        # [sum of periods, samples, first line]
        self.totals: dict[tuple[str, str, str | None], list[int]] = {}

    def add(
        self, number: int, event: str, stack: str, period: int, samples: int, mark: str | None
    ) -> None:
        """Add samples of one stack, told by line `number`; IngestError beyond STACK_LIMIT."""
        key = (event, stack, mark)
        total = self.totals.get(key)
        if total is None:
            if len(self.totals) >= STACK_LIMIT:
                found = f"more than {STACK_LIMIT} different stacks"
                advice = "Fold it first: reclaim ingest --folded FILE > FOLDED."
                raise IngestError(f"{self._name}:{number}", found, "fewer", advice)
            self.totals[key] = [period, samples, number]
        else:
            total[0] += period
            total[1] += samples

    def write(self, book: Book) -> None:
        """Write the rows of all stacks, in the order in which they were first seen."""
        for (event, stack, mark), (period, samples, number) in self.totals.items():
            symbol = normal(stack.rpartition(";")[2])
            label = {"part": stack or None, "symbol": symbol, "mark": mark}
            if period:
                unit = "ns" if event.partition(":")[0] in _CLOCKS else "count"
                book.row(number, event, unit, period, **label)
            if samples:
                book.row(number, f"{event} samples", "count", samples, **label)


def plain(symbol: str) -> bool:
    """Tell whether a text is a symbol alone, not one among other fields that perf script prints.

    An offset with text behind it, an address or a data source before the symbol: of those it cannot
    be said where the symbol is.
    """
    return not _FIELDS.search(symbol)


def frame(symbol: str, dso: str | None) -> str:
    """Return one frame as stackcollapse writes it: an unknown symbol is its object's name."""
    if symbol == "[unknown]":
        known = dso is not None and dso != "[unknown]"
        symbol = f"[{dso.rpartition('/')[2].strip('[]')}]" if known else symbol
    return symbol.replace(";", ":")
