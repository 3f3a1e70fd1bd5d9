# SPDX-License-Identifier: GPL-2.0-only
"""perf stat's text: blocks from "Performance counter stats for" to "seconds time elapsed", or -I.

A block is kept until it ends, because its last lines tell the locale of its first: "196.925" is a
count of 196925 where the elapsed time has a decimal comma. Within a block each line must be one
that perf prints; outside it, other output is noted and left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.source import TextLine
from analysis.ingest.stat_values import (
    DECIMALS,
    PLACE,
    UNIT_WORDS,
    UNMEASURED,
    AmbiguousError,
    derived,
    grouped,
    measured,
    place_text,
    running_mark,
)

EXPECTED = "a line of perf stat's text"
VALUE_WIDTH = 18  # columns, in which perf sets a value to the right
BLOCK_LIMIT = 100_000  # lines of one block
_BLOCK = re.compile(r"\s*Performance counter stats for (.+?)(?: \(([0-9]+) runs\))?:\s*")
_INTERVAL = re.compile(r"#\s{2,}time\s+(?:(?:CPU|socket|core|die|node|comm-[pt]id|ctr|cpus|counts"
                       r"|cluster|cache|unit|events?)\s*)+")  # fmt: skip
_METRICS = re.compile(r"#\s{2,}time(?P<names>(?:\s.*)?)")
_D = f"[0-9]+[{DECIMALS}][0-9]+"
_ELAPSED = re.compile(
    rf"\s*(?P<value>{_D})(?: \+- (?P<error>{_D}))? seconds (?P<name>time elapsed|user|sys)"
    rf"(?:\s+\( \+-\s*{_D}% \))?\s*"
)
_TABLE = re.compile(rf"\s*(?P<value>{_D}) \((?P<sign>[+-]){_D}\)\s*[#.]*\s*")
_PROSE = re.compile(
    r"\s*(?:# (?:Table of individual measurements|Final result):"
    r"|Some events weren't counted\. Try disabling the NMI watchdog:"
    r"|(?:echo [01] > /proc/sys/kernel/nmi_watchdog)|perf stat \.\.\."
    r"|The events in group usually have to be from the same PMU\..*)\s*"
)
_NUMBER = r"[0-9](?:[0-9]|[.,'\u2019\u00a0\u202f\u2009\u066b](?=[0-9])| (?=[0-9]{3}(?![0-9])))*"
_WORD = r"(?:[^()#\s]+|\([^+0-9)][^)]*\))"  # of a unit; a bracket with a digit is perf's own
_COUNTER = re.compile(
    rf"(?P<time> *[0-9]+[{DECIMALS}][0-9]{{9}}(?= ))?(?P<place> *\S.*?)??\s*"
    rf"(?<!\S)(?P<value>{_NUMBER}|<not counted>|<not supported>)"
    r"(?P<words>(?:\s+[^\s#(0-9][^#]*?)?)\s*"
    rf"(?:#\s*(?P<metric>{_D}(?=[\s%]))?\s*(?P<unit>(?:{_WORD}(?: {{1,2}}{_WORD})*)?)\s*)?"
    rf"(?:\( \+-\s*(?P<spread>{_D})% \)\s*)?(?:\((?P<running>\s*{_D})%\)\s*)?"
)
_FURTHER = re.compile(rf"\s*(?:[0-9]+[{DECIMALS}][0-9]{{9}})?\s+#\s+(?P<metric>{_D})\s*"
                      rf"(?P<unit>%?[^()#]*?)\s*(?:\(\s*{_D}%\))?\s*")  # fmt: skip
_VALUE_LIKE = re.compile(r"\s+(?:[0-9]|<not )|(?:CPU|S|N)[0-9]|[0-9.,]+ +seconds")


def recognised(text: str) -> bool:
    """Tell whether a line is one that only perf stat's text has."""
    return bool(_BLOCK.fullmatch(text) or _INTERVAL.fullmatch(text) or _METRICS.fullmatch(text))


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read text output into the book; IngestError at a line in a block that perf has not."""
    state = _Block(book)
    for line in lines:
        state.take(line)
    state.end()


class _Block:
    def __init__(self, book: Book):
        self.book = book
        self.run = -1
        self.open = self.interval = self.elapsed = False
        self.names: list[str] | None = None
        self.command: str | None = None
        self.repeats: str | None = None
        self.pending: list[tuple[TextLine, re.Match, str]] = []
        self.times: dict[str, int] = {}
        self.marks: dict[str, int] = {}
        self.nr_table = 0

    def take(self, line: TextLine) -> None:
        text = line.text
        if block := _BLOCK.fullmatch(text):
            self._start(line, block)
        elif _INTERVAL.fullmatch(text) or (_METRICS.fullmatch(text) and not self.interval):
            self._intervals(line)
        elif not text.strip() or (_PROSE.fullmatch(text) and self.open):
            self.book.comment(line)
        elif text.startswith("# started on "):
            self.book.header(line)
        elif not line.ended and (self.open or self.interval):
            self.book.error(line, *unended(line))
        elif not (self.open or self.interval or self.elapsed):
            self._outside(line)
        else:
            self._inside(line)

    def _start(self, line: TextLine, block: re.Match) -> None:
        self.end()
        self.book.header(line)
        self.run += 1
        self.open, self.interval, self.elapsed, self.names = True, False, False, None
        self.command, self.repeats, self.nr_table = block[1].strip("'"), block[2], 0

    def _intervals(self, line: TextLine) -> None:
        if not self.interval:
            self.end()
            self.interval, self.elapsed, self.run = True, False, max(self.run, 0)
            names = _METRICS.fullmatch(line.text)
            if not _INTERVAL.fullmatch(line.text):
                self.names = [name for name in re.split(r"\s{2,}", names["names"].strip()) if name]
        self.book.header(line)

    def _outside(self, line: TextLine) -> None:
        if _VALUE_LIKE.match(line.text) and _COUNTER.fullmatch(line.text):
            expected = "its block's first line, 'Performance counter stats for', above it"
            self.book.error(line, f"a counter ({shown(line.text)})", expected)
        else:
            self.book.comment(line, foreign=True)

    def _inside(self, line: TextLine) -> None:
        text = line.text
        if match := _ELAPSED.fullmatch(text):
            kind = "elapsed"
            self.elapsed = self.elapsed or match["name"] == "time elapsed"
        elif match := _TABLE.fullmatch(text):
            kind = "table"
        elif self.names is not None:
            self._metric_only(line)
            return
        elif (match := _COUNTER.fullmatch(text)) and self._sound(match):
            kind = "counter"
        elif match := _FURTHER.fullmatch(text):
            kind = "further"
        elif self.elapsed and not _VALUE_LIKE.match(text):
            self.book.comment(line, foreign=True)
            return
        else:
            self.book.error(line, shown(text), EXPECTED)
            return
        self._keep(line, match, kind)

    # Torn lines fail here: perf sets a value to the right, an event's name stands behind it, a unit
    # behind a metric, and a place before it is one that perf prints.
    def _sound(self, match: re.Match) -> bool:
        place = (match["place"] or "").strip()
        if not match["words"].strip() or bool(match["metric"]) != bool(match["unit"]):
            return False
        if match.start("value") == 0 and len(match["value"]) < VALUE_WIDTH:
            return False
        if bool(match["time"]) != self.interval or len(match["words"].split()) > 3:
            return False
        words = place.split()
        known = not words or (PLACE.fullmatch(words[0]) and len(words) < 3)
        return bool(known or re.fullmatch(r".+-[0-9]+", place))

    def _keep(self, line: TextLine, match: re.Match, kind: str) -> None:
        self.book.measured(line)
        groups = match.groupdict()
        for name in ("time", "metric", "spread", "running", "error"):
            self._tell(line, groups.get(name))
        if kind in ("elapsed", "table"):
            self._tell(line, groups["value"])
        self.pending.append((line, match, kind))
        if self.interval and kind == "counter" and groups["time"]:
            self._flush()
        elif len(self.pending) > BLOCK_LIMIT:
            found = f"a block of more than {BLOCK_LIMIT} lines"
            self.book.fail(line.number, found, "an end of the block")
            self.pending.clear()

    # The decimal mark, from numbers that are never grouped; two in one file: two locales, or damage
    def _tell(self, line: TextLine, word: str | None) -> None:
        mark = next((c for c in (word or "").strip() if not c.isdigit()), None)
        if mark is not None:
            self.marks.setdefault(mark, line.number)
            if len(self.marks) > 1:
                found = f"{word.strip()!r} beside a decimal {min(set(self.marks) - {mark})!r}"
                self.book.fail(line.number, found, "one decimal mark")
                self.marks = {mark: line.number}

    def end(self) -> None:
        self._flush()
        if self.open and not self.elapsed:
            self.book.note("a block without its 'seconds time elapsed': the capture may be cut")
        self.open, self.marks = False, {}

    def _flush(self) -> None:
        decimal = next(iter(self.marks), None)
        event = ""
        for line, match, kind in self.pending:
            try:
                event = self._rows(line, match, kind, decimal, event)
            except AmbiguousError as cause:
                self.book.fail(line.number, f"{cause}: lost", "a number that can be read one way")
            except ValueError as cause:
                self.book.fail(line.number, str(cause), "a number")
        self.pending.clear()

    def _rows(self, line, match, kind, decimal, event) -> str:
        if kind == "elapsed":
            self._elapsed_row(line, match, decimal)
        elif kind == "table":
            value = grouped(match["value"], decimal)
            name = "time elapsed, of one run"
            self.book.row(line.number, name, "s", value, run=self.nr_table)
            self.nr_table += 1
        elif kind == "further":
            number = grouped(match["metric"], decimal)
            self.book.row(line.number, *derived(event, match["unit"], number), run=self.run)
        else:
            return self._counter_rows(line, match, decimal)
        return event

    def _elapsed_row(self, line: TextLine, match: re.Match, decimal: str | None) -> None:
        name = match["name"] if match["name"] != "time elapsed" else "real"
        mark = self._mean(f"{grouped(match['error'], decimal)} s" if match["error"] else None)
        value = grouped(match["value"], decimal)
        self.book.row(line.number, name, "s", value, run=self.run, mark=mark)

    def _counter_rows(self, line: TextLine, match: re.Match, decimal: str | None) -> str:
        words = match["words"].split()
        unit = words.pop(0) if len(words) > 1 and words[0] in UNIT_WORDS else ""
        if len(words) > 1 and words[1] in ("(msec)", "(ns)"):  # before Linux 4.18
            unit = words.pop(1).strip("()")
        event, cgroup = words[0], " ".join(words[1:]) or None
        time = str(grouped(match["time"].strip(), decimal)) if match["time"] else None
        place = re.sub(r"^(\S+)\s+([0-9]+)$", r"\1 of \2", (match["place"] or "").strip()) or None
        part = place_text(time=time, place=place, cgroup=cgroup)
        run = self.run if time is None else self.times.setdefault(time, len(self.times))
        running = grouped(match["running"].strip(), decimal) if match["running"] else None
        if match["value"] in UNMEASURED:
            self.book.unmeasured(line.number, event, UNMEASURED[match["value"]])
            return event
        value = _value(match["value"], unit, decimal)
        spread = grouped(match["spread"], decimal) if match["spread"] else None
        mark = running_mark(running, self._mean(f"{spread}%" if spread is not None else None))
        self.book.row(line.number, *measured(event, unit, value), run=run, part=part, mark=mark)
        if match["metric"]:
            number = grouped(match["metric"], decimal)
            row = derived(event, match["unit"].strip(), number)
            self.book.row(line.number, *row, run=run, part=part, mark=running_mark(running))
        return event

    def _mean(self, spread: str | None) -> str | None:
        if self.repeats is None:
            return f"mean of repeats, +- {spread}" if spread else None
        return f"mean of {self.repeats} runs" + (f", +- {spread}" if spread else "")

    def _metric_only(self, line: TextLine) -> None:
        words = line.text.split()
        if not re.fullmatch(rf" *[0-9]+[{DECIMALS}][0-9]{{9}}", words[0]):
            self.book.error(line, shown(line.text), "an interval's time")
            return
        if len(words) - 1 != len(self.names):
            expected = f"{len(self.names)} metrics, as its header names"
            self.book.error(line, f"{len(words) - 1} values", expected)
            return
        self.book.measured(line)
        time = words[0].replace(",", ".")
        run = self.times.setdefault(time, len(self.times))
        self._tell(line, words[0])
        for name, word in zip(self.names, words[1:], strict=True):
            self._tell(line, word)
            number = _plain(word)
            if number is None:
                self.book.fail(line.number, shown(word), "a number")
            else:
                row = derived("metric", name, number)
                self.book.row(line.number, *row, run=run, part=place_text(time=time))
        if not self.names:
            self.book.unmeasured(line.number, "--metric-only", "no metric")


# Without a unit a counter has no digits behind a decimal mark; with one, two or six.
def _value(word: str, unit: str, decimal: str | None) -> Decimal:
    value = grouped(word, decimal)
    digits = -value.as_tuple().exponent
    if digits not in ((2, 6, 0) if unit else (0,)):
        raise AmbiguousError(f"{word!r}: {digits} digits behind the decimal mark")
    return value


def _plain(word: str) -> Decimal | None:
    word = word.replace(",", ".") if word.count(",") == 1 else word
    return Decimal(word.rstrip("%")) if re.fullmatch(r"[0-9]+\.[0-9]+%?", word) else None
