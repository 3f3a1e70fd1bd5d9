# SPDX-License-Identifier: GPL-2.0-only
"""ftrace's trace file, trace-cmd report, and the function profiler's table.

Events and functions are counted (by task, and by folio order where an event tells one); what
function_graph prints goes to `function_graph.py`. A file with fewer entries than its header says
was cut, and one whose buffer ran over lacks the oldest; both are said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest import function_graph as graph
from analysis.ingest.book import Book, shown, unended
from analysis.ingest.capture import IngestError
from analysis.ingest.source import TextLine
from analysis.ingest.symbols import normal

ADVICE = "Capture it with: trace-cmd report > FILE, or cat /sys/kernel/tracing/trace > FILE."
GRAPH_ADVICE = (
    "Capture it with: echo funcgraph-cpu > trace_options; echo funcgraph-duration > trace_options."
)
EXPECTED = "a line of ftrace's trace file or of trace-cmd report"
KEY_LIMIT = 400_000
_TASK = re.compile(
    r" *(?P<task>(?P<comm>\S.*?|<\.\.\.>)-[0-9]+) +(?:\( *(?:[0-9]+|-+)\) +)?"
    r"(?:\[(?P<cpu>[0-9]{3,})\] +(?:[A-Za-z.#0-9]{4,6} +)?"
    r"|(?P<bare>[0-9]{1,4})[A-Za-z.#][A-Za-z.#0-9]{3,4} +)"  # trace-cmd report -l
    r"[0-9]+(?:\.[0-9]{6,9})?: +(?P<rest>\S.*)"  # whole numbers: trace_clock is counter or x86-tsc
)
_EVENT = re.compile(r"(?P<event>[A-Za-z_][A-Za-z0-9_:]*|0x[0-9a-f]+):(?P<text>(?: .*)?)")
_STACK = re.compile(r"<(?:user )?stack trace>")
_CALL = re.compile(
    rf"(?P<function>{graph.NAME})(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?(?:\(.*\))? *(?:<-.*)?"
)
_CALLED = re.compile(rf" +(?P<function>{graph.NAME})(?: +<-- .*)?")  # trace-cmd, "function:"
_CALL_PART = re.compile(rf" *{graph.CALL}")  # trace-cmd, "funcgraph_entry:" and "funcgraph_exit:"
_INSIDE = re.compile(r"/\* (?P<event>[A-Za-z_][A-Za-z0-9_]*): (?P<text>.*) \*/")
_ENTRIES = re.compile(r"# entries-in-buffer/entries-written: (?P<kept>[0-9]+)/(?P<all>[0-9]+) .*")
_LOST = re.compile(r"CPU:[0-9]+ \[(?:LOST (?P<lost>[0-9]+) EVENTS|EVENTS DROPPED)\]")
_TABLE = re.compile(r" *Function +Hit(?: +Time(?: +Avg +s\^2)?)? *")
_TABLE_LINE = re.compile(r" *-+(?: +-+){1,4} *")
# A duration has seven digits: the longer it is, the fewer stand behind the point, none at last.
_ROW = re.compile(
    r" *(?P<name>\S+) +(?P<hits>[0-9]{1,20})"
    r"(?: +(?P<us>[0-9]+(?:\.[0-9]+)?) us +(?P<avg>[0-9]+(?:\.[0-9]+)?) us"
    r"(?: +[0-9]+(?:\.[0-9]+)? us)?)? *"
)
_ORDER = re.compile(r"\border=([0-9]{1,2})\b")
_CPUS = re.compile(r"cpus=[0-9]+|version = [0-9]+")


def recognised(text: str) -> bool:
    """Tell whether a line is one that only ftrace or trace-cmd prints."""
    return bool(
        text.startswith("# tracer: ")
        or _CPUS.fullmatch(text)
        or _TABLE.fullmatch(text)
        or (len(text) < 2000 and (_TASK.fullmatch(text) or graph.LINE.fullmatch(text)))
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
        self.calls = graph.Calls()
        # (name, comm, order): number, first line
        self.counts: dict[tuple[str, str | None, int | None], list[int]] = {}
        self.entries = 0  # more of them are promised than the file has

    def take(self, line: TextLine) -> None:
        text = line.text
        if not text.strip():
            self.book.comment(line)
        elif text.startswith("#") or _CPUS.fullmatch(text):
            self._header(line)
        elif _TABLE.fullmatch(text):
            self.cpu += self.table
            self.table = True
            self.book.header(line)
        elif switch := graph.SWITCH.fullmatch(text):
            self.book.header(line)
            self.calls.switch(switch)
        elif _TABLE_LINE.fullmatch(text) or graph.RULE.fullmatch(text):
            self.book.header(line)
        elif text.startswith(" => "):
            self.book.comment(line)
            self.book.note("stack traces below events are not read: perf script has all of them")
        elif lost := _LOST.fullmatch(text.strip()):
            self.book.comment(line)
            self.calls.lost()
            self.book.note(f"the tracer lost {lost['lost'] or 'some'} events (line {line.number})")
        elif not line.ended:
            self.book.error(line, *unended(line))
        elif len(text) > 4000:
            self.book.error(line, "a line of more than 4000 characters", EXPECTED)
        else:
            self._values(line)

    def _header(self, line: TextLine) -> None:
        self.book.header(line)
        if entries := _ENTRIES.fullmatch(line.text):
            self.entries += int(entries["kept"])
            if int(entries["all"]) > int(entries["kept"]):
                found = f"{entries['kept']} of {entries['all']} entries were still in the buffer"
                self.book.note(f"{found}: the oldest are not counted (line {line.number})")

    def _values(self, line: TextLine) -> None:
        text = line.text
        if self.table:
            match = _ROW.fullmatch(text)
            take = self._row if match else None
        elif match := graph.LINE.fullmatch(text):
            take = self._graph
        elif (match := _TASK.fullmatch(text)) and _STACK.fullmatch(match["rest"]):
            self.entries -= 1
            self.book.comment(line)
            return
        elif match:
            take = self._task
        else:
            take = None
        if take is not None and take(line, match):
            self.book.measured(line)
        elif graph.NOT_PRINTED.fullmatch(text):
            self.book.error(line, shown(text), "a CPU and a duration on each line", GRAPH_ADVICE)
        else:
            self.book.error(line, shown(text), EXPECTED)

    def _row(self, line: TextLine, match: re.Match) -> bool:
        name, symbol = match["name"], normal(match["name"])
        part = f"raw={name}" if name != symbol else None
        label = {"symbol": symbol, "part": part, "run": self.cpu}
        self.book.row(line.number, "hits", "count", int(match["hits"]), **label)
        if match["us"]:
            time_ns = Decimal(match["us"]) * 1000
            self.book.row(line.number, "time in function", "ns", time_ns, **label)
        return True

    def _task(self, line: TextLine, match: re.Match) -> bool:
        self.entries -= 1
        comm = match["comm"].strip()
        if call := _CALL.fullmatch(match["rest"]):
            self._count(f"{call['function']}()", comm, None, line)
            return True
        event = _EVENT.fullmatch(match["rest"])
        if event is None:
            return False
        name, text = event["event"], event["text"]
        if name in ("funcgraph_entry", "funcgraph_exit"):
            part = _CALL_PART.fullmatch(text)
            task = self.calls.task(match["cpu"] or match["bare"], match["task"])
            return bool(part) and self.calls.take(task, part["call"], part["us"], line)
        if name == "function" and (call := _CALLED.fullmatch(text)):
            self._count(f"{call['function']}()", comm, None, line)
        else:
            self._count(name, comm, _order(text), line)
        return True

    def _graph(self, line: TextLine, match: re.Match) -> bool:
        call = match["call"]
        if inside := _INSIDE.fullmatch(call):
            comm = match["task"].rpartition("-")[0] if match["task"] else None
            self._count(inside["event"], comm, _order(inside["text"]), line)
            return True
        task = self.calls.task(match["cpu"], match["task"])
        return self.calls.take(task, call, match["us"], line)

    def _count(self, name: str, comm: str | None, order: int | None, line: TextLine) -> None:
        key = (name, comm, order)
        if key not in self.counts and len(self.counts) >= KEY_LIMIT:
            where = f"{self.book.name}:{line.number}"
            raise IngestError(where, "too many events and tasks", "fewer", "Split the capture.")
        self.counts.setdefault(key, [0, line.number])[0] += 1

    def close(self) -> None:
        mark = f"cut: {self.entries} entries are missing" if self.entries > 0 else None
        if mark:
            self.book.note(f"the file ends {self.entries} entries before its header says")
        for (name, comm, order), (count, number) in self.counts.items():
            part = f"comm={comm}" if comm else None
            symbol = normal(name[:-2]) if name.endswith("()") else None
            label = {"part": part, "order": order, "symbol": symbol, "mark": mark}
            self.book.row(number, name, "count", count, **label)
        self.calls.write(self.book)


def _order(text: str) -> int | None:
    orders = _ORDER.findall(text)
    return int(orders[0]) if len(orders) == 1 else None
