# SPDX-License-Identifier: GPL-2.0-only
"""ftrace's trace file, trace-cmd report, and the function profiler's table.

Events and functions are counted (by task, and by folio order where an event tells one); durations
of function_graph are summed up by function, a call's end paired with its start on the same CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.capture import IngestError
from analysis.ingest.source import TextLine
from analysis.ingest.symbols import normal

ADVICE = "Capture it with: trace-cmd report > FILE, or cat /sys/kernel/tracing/trace > FILE."
EXPECTED = "a line of ftrace's trace file or of trace-cmd report"
KEY_LIMIT = 400_000
DEPTH_LIMIT = 10_000
_TASK = re.compile(
    r" *(?P<comm>\S.*?|<\.\.\.>)-(?P<pid>[0-9]+) +(?:\( *(?:[0-9]+|-+)\) +)?"
    r"\[(?P<cpu>[0-9]{3,})\] +"
    r"(?:(?P<flags>[A-Za-z.#0-9]{4,6}) +)?(?P<time>[0-9]+\.[0-9]{6,9}): +(?P<rest>\S.*)"
)
_EVENT = re.compile(r"(?P<event>[A-Za-z_][A-Za-z0-9_:]*):(?: +(?P<text>.*))?")
_CALL = re.compile(r"(?P<function>[A-Za-z_.][\w.]*)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)? *(?:<-.*)?")
_GRAPH = re.compile(
    r" *(?:[0-9]+\.[0-9]+ +\| +)?(?P<cpu>[0-9]+)\) +(?:\S.*?-[0-9]+ +\| +)?"
    r"(?P<mark>[+!#*@$] )? *(?:(?P<us>[0-9]+(?:\.[0-9]+)?) us)? +\| {2,}(?P<call>\S.*)"
)
_FUNCTION = r"(?P<name>[A-Za-z_.][\w.]*)(?: \[\w+\])?"
_LEAF = re.compile(rf"{_FUNCTION}\(.*?\);.*")
_OPEN = re.compile(rf"{_FUNCTION}\(.*?\) \{{.*")
_CLOSE = re.compile(r"\}(?: /\* (?P<name>[A-Za-z_.][\w.]*).*\*/)?.*")
_SWITCH = re.compile(r" *[0-9]+\) +\S.*-[0-9]+ +=> +\S.*-[0-9]+ *| *-{10,}")
_LOST = re.compile(r"CPU:[0-9]+ \[(?:LOST (?P<lost>[0-9]+) EVENTS|EVENTS DROPPED)\]")
_TABLE = re.compile(r" *Function +Hit +Time(?: +Avg +s\^2)? *")
_TABLE_LINE = re.compile(r" *-+(?: +-+){2,4} *")
_ROW = re.compile(
    r" *(?P<name>\S+) +(?P<hits>[0-9]{1,20})"
    r"(?: +(?P<us>[0-9]+\.[0-9]+) us +(?P<avg>[0-9]+\.[0-9]+) us"
    r"(?: +[0-9]+\.[0-9]+ us)?)? *"
)
_ORDER = re.compile(r"\border=([0-9]{1,2})\b")
_CPUS = re.compile(r"cpus=[0-9]+|version = [0-9]+")


def recognised(text: str) -> bool:
    """Tell whether a line is one that only ftrace or trace-cmd prints."""
    return bool(
        text.startswith("# tracer: ")
        or _CPUS.fullmatch(text)
        or _TABLE.fullmatch(text)
        or (len(text) < 2000 and (_TASK.fullmatch(text) or _GRAPH.fullmatch(text)))
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read a trace into the book; IngestError for a line that is none of a trace."""
    state = _Trace(book)
    for line in lines:
        state.take(line)
    state.close()


class _Trace:
    def __init__(self, book: Book):
        self.book = book
        self.table = False
        self.cpu = 0  # which of several function-profiler tables
        # counts: (kind, name, comm, order) and durations: name -> [number, first line]
        self.counts: dict[tuple[str, str, int | None], list[int]] = {}
        self.durations: dict[str, list] = {}
        self.open: dict[str, list[str]] = {}
        self.unpaired = 0

    def take(self, line: TextLine) -> None:
        text = line.text
        if not text.strip():
            self.book.comment(line)
        elif text.startswith("#") or _CPUS.fullmatch(text):
            self.book.header(line)
        elif _TABLE.fullmatch(text):
            self.cpu += self.table
            self.table = True
            self.book.header(line)
        elif _TABLE_LINE.fullmatch(text) or _SWITCH.fullmatch(text):
            self.book.header(line)
        elif lost := _LOST.fullmatch(text.strip()):
            self.book.comment(line)
            self.book.note(f"the tracer lost {lost['lost'] or 'some'} events (line {line.number})")
        elif not line.ended:
            self.book.error(line, *unended(line))
        elif len(text) > 4000:
            self.book.error(line, "a line of more than 4000 characters", EXPECTED)
        else:
            self._values(line)

    def _values(self, line: TextLine) -> None:
        text = line.text
        if self.table:
            match = _ROW.fullmatch(text)
            take = self._row if match else None
        elif match := _GRAPH.fullmatch(text):
            take = self._graph
        elif match := _TASK.fullmatch(text):
            take = self._task
        else:
            take = None
        if take is None or not take(line, match):
            self.book.error(line, shown(text), EXPECTED)

    def _row(self, line: TextLine, match: re.Match) -> bool:
        self.book.measured(line)
        name, symbol = match["name"], normal(match["name"])
        part = f"raw={name}" if name != symbol else None
        label = {"symbol": symbol, "part": part, "run": self.cpu}
        self.book.row(line.number, "hits", "count", float(match["hits"]), **label)
        if match["us"]:
            time_ns = float(Decimal(match["us"]) * 1000)
            self.book.row(line.number, "time in function", "ns", time_ns, **label)
        return True

    def _task(self, line: TextLine, match: re.Match) -> bool:
        event = _EVENT.fullmatch(match["rest"])
        call = None if event else _CALL.fullmatch(match["rest"])
        if event is None and call is None:
            return False
        self.book.measured(line)
        if event:
            orders = _ORDER.findall(event["text"] or "")
            order = int(orders[0]) if len(orders) == 1 else None
            key = (event["event"], match["comm"].strip(), order)
        else:
            key = (f"{call['function']}()", match["comm"].strip(), None)
        self._count(key, line)
        return True

    def _count(self, key: tuple[str, str, int | None], line: TextLine) -> None:
        if key not in self.counts and len(self.counts) >= KEY_LIMIT:
            where = f"{self.book.name}:{line.number}"
            raise IngestError(where, "too many events and tasks", "fewer", "Split the capture.")
        self.counts.setdefault(key, [0, line.number])[0] += 1

    def _graph(self, line: TextLine, match: re.Match) -> bool:
        call, us = match["call"], match["us"]
        above = self.open.setdefault(match["cpu"], [])
        if leaf := _LEAF.fullmatch(call):
            self.book.measured(line)
            self._duration(leaf["name"], us, line)
        elif opened := _OPEN.fullmatch(call):
            self.book.measured(line)
            if len(above) >= DEPTH_LIMIT:
                return False
            above.append(opened["name"])
        elif closed := _CLOSE.fullmatch(call):
            self.book.measured(line)
            name = above.pop() if above else None
            self._duration(closed["name"] or name, us, line)
        elif call.startswith("/*"):
            self.book.comment(line)
        else:
            return False
        return True

    def _duration(self, name: str | None, us: str | None, line: TextLine) -> None:
        if name is None or us is None:
            self.unpaired += 1
            return
        total = self.durations.setdefault(name, [0, Decimal(0), line.number])
        total[0] += 1
        total[1] += Decimal(us) * 1000

    def close(self) -> None:
        for (name, comm, order), (count, number) in self.counts.items():
            part = f"comm={comm}"
            symbol = normal(name[:-2]) if name.endswith("()") else None
            value = float(count)
            label = {"part": part, "order": order, "symbol": symbol}
            self.book.row(number, name, "count", value, **label)
        for name, (count, time_ns, number) in self.durations.items():
            label = {"symbol": normal(name), "part": f"raw={name}"}
            self.book.row(number, "hits", "count", float(count), **label)
            self.book.row(number, "duration", "ns", float(time_ns), **label)
        if self.unpaired:
            self.book.note(f"{self.unpaired} calls whose start or duration is not in the trace")
