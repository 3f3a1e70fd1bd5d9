# SPDX-License-Identifier: GPL-2.0-only
"""The account a parser keeps: each line of a capture is data, a header, a comment or an error.

A parser is a function `parse(lines, book)`. It hands every line to exactly one of `measured`,
`header`, `comment` and `error`; `close` holds it to that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

from analysis.ingest.capture import IngestError
from analysis.ingest.source import TextLine
from analysis.samples import Samples

STAT_ADVICE = "Capture it with: LC_ALL=C perf stat -x\\; -o FILE COMMAND."
EXACT = 1 << 53  # up to here a float has every whole number
ROW_LIMIT = 300_000  # rows; they take about 250 MiB
_FIELDS = ("metric", "unit", "value", "run", "line", "part", "symbol", "mark", "order", "kernel")


class Book:
    """Rows, notes and the account of one capture.

    name: of the file, for messages. heard: called with (number, kind, text) for each line, for
    `--explain`; then errors are kept in `errors` instead of raised.
    """

    def __init__(self, name: str, heard: Callable[[int, str, str], None] | None = None):
        self.name = name
        self.rows: list[tuple] = []
        self.notes: list[str] = []
        self.errors: list[IngestError] = []
        self.kinds: Counter[str] = Counter()
        self.setting: dict[str, str] = {}
        self.advice = STAT_ADVICE  # of the format, for what is refused as a whole
        self._heard = heard
        self._foreign = Places()
        self._unmeasured: dict[str, Places] = {}

    def measured(self, line: TextLine) -> None:
        """Account for a line that carries values."""
        self._take(line, "data")

    def header(self, line: TextLine) -> None:
        """Account for a line that says what the values are."""
        self._take(line, "header")

    def comment(self, line: TextLine, foreign: bool = False) -> None:
        """Account for a line without a value; foreign: another program's output, to be noted."""
        self._take(line, "comment")
        if foreign and line.text.strip():
            self._foreign.add(line.number)

    def settled(self, line: TextLine) -> bool:
        """Account for a blank line, and refuse a last one without its end; False for any other."""
        if not line.text.strip():
            self.comment(line)
        elif not line.ended:  # a number may have been cut
            self.error(line, *unended(line))
        else:
            return False
        return True

    def error(self, line: TextLine, found: str, expected: str, advice: str = "") -> None:
        """Account for a line that cannot be taken; raises IngestError unless explaining."""
        self._take(line, "error")
        self.fail(line.number, found, expected, advice)

    def fail(self, number: int, found: str, expected: str, advice: str = "") -> None:
        """Refuse the capture because of a line that is accounted for; raises unless explaining."""
        problem = IngestError(f"{self.name}:{number}", found, expected, advice or self.advice)
        if self._heard is None:
            raise problem
        self.errors.append(problem)

    def row(  # noqa: PLR0913 - the columns of Samples, by name
        self,
        number: int,
        metric: str,
        unit: str,
        value: float | Decimal,
        *,
        run: int = 0,
        part: str | None = None,
        symbol: str | None = None,
        mark: str | None = None,
        order: int | None = None,
        kernel: str | None = None,
    ) -> None:
        """Keep one observation, told by line `number`; IngestError beyond ROW_LIMIT rows.

        value: a whole number that a float has not, beyond 2**53, is marked as rounded.
        """
        if not metric.strip():
            self.fail(number, "a value without a name", "the name of what was measured")
            return
        kept = _float(value)
        if not math.isfinite(kept):
            self.fail(number, f"{metric}: more digits than a number has", "a number")
            return
        if kept >= EXACT and kept != value:
            mark = "; ".join([*([mark] if mark else []), f"rounded from {value}"])
        part, symbol, mark = (
            text if text and text.strip() else None for text in (part, symbol, mark)
        )
        if len(self.rows) >= ROW_LIMIT:
            found = f"more than {ROW_LIMIT} values"
            raise IngestError(f"{self.name}:{number}", found, "fewer", "Split the capture.")
        self.rows.append((metric, unit, kept, run, number, part, symbol, mark, order, kernel))

    def unmeasured(self, number: int, what: str, why: str) -> None:
        """Note a value that the producer says it does not have; there is no row for it."""
        self._unmeasured.setdefault(f"{what}: {why}", Places()).add(number)

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def close(self, nr_lines: int) -> Samples:
        """Samples of the capture; raises IngestError for one without a value."""
        assert sum(self.kinds.values()) == nr_lines, "a parser lost a line"
        notes = list(self.notes)
        if self._foreign.count:
            notes.append(f"other output, not counted: {self._foreign}")
        notes += [f"{what} ({at})" for what, at in self._unmeasured.items()]
        if not self.rows and not self._unmeasured:
            found = "no value in it"
            raise IngestError(self.name, found, "a capture with at least one value", self.advice)
        return Samples.from_columns(self._columns(), notes)

    def _columns(self) -> dict[str, list]:
        columns = {}
        for place, name in enumerate(_FIELDS):
            columns[name] = [row[place] for row in self.rows]
        columns["source"] = [f"{self.name}:{number}" for number in columns.pop("line")]
        for name, told in self.setting.items():
            if told.strip() and not any(columns.get(name, ())):
                columns[name] = [told] * len(self.rows)
        return columns

    def _take(self, line: TextLine, kind: str) -> None:
        self.kinds[kind] += 1
        if self._heard is not None:
            self._heard(line.number, kind, line.text)


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:  # of an int
        return math.inf


class Places:
    """Line numbers: how many, and the first few."""

    def __init__(self):
        self.first: list[int] = []
        self.count = 0

    def add(self, number: int) -> None:
        """Take one more line."""
        self.count += 1
        if len(self.first) < 8:
            self.first.append(number)

    def __str__(self) -> str:
        told = ", ".join(str(number) for number in self.first)
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"line{'s' * (self.count > 1)} {told}{more}"


def shown(text: str) -> str:
    """Return a text from a file quoted, ASCII, at most 60 characters of it."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def unended(line: TextLine) -> tuple[str, str, str]:
    """Return what `error` says of a last line that may have lost its end: a number cut is wrong."""
    found = f"a last line without a line end ({shown(line.text)})"
    advice = "If the capture is whole, end the file with a line end: echo >> FILE."
    return found, "a whole line", advice
