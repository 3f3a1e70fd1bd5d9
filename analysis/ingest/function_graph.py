# SPDX-License-Identifier: GPL-2.0-only
"""The calls of function_graph: durations by function, each end paired with its start.

ftrace prints one CPU's calls below each other, whoever runs there, and says in between when another
task takes over; a call that is open then waits until its task runs again. trace-cmd names the task
on each line, and so does ftrace with funcgraph-proc.
"""

from __future__ import annotations

import re
from decimal import Decimal

from analysis.ingest.book import Book
from analysis.ingest.source import TextLine
from analysis.ingest.symbols import normal

DEPTH_LIMIT = 10_000
NAME = r"(?:[A-Za-z_.][\w.]*|0x[0-9a-f]+)"
# What stands behind the place of a call: its duration, where its end is known, and the call.
CALL = r"(?:[+!#*@$] )? *(?:(?P<us>[0-9]+(?:\.[0-9]+)?) us)? +\| {2,}(?P<call>\S.*)"
LINE = re.compile(
    r" *(?:[0-9]+\.[0-9]+ +\| +)?(?P<cpu>[0-9]+)\) +(?:(?P<task>\S.*?-[0-9]+) +\| +)?"
    rf"(?:[A-Za-z.#0-9]{{4,6}} +\| +)?{CALL}"
)
SWITCH = re.compile(r" *(?P<cpu>[0-9]+)\) +(?P<old>\S.*?-[0-9]+) +=> +(?P<new>\S.*?-[0-9]+) *")
# Between two tasks, and where an interrupt starts and ends
RULE = re.compile(r" *-{10,}| *(?:[0-9]+\.[0-9]+ +\| +)?[0-9]+\) .*(?:={10}>|<={10}) \| *")
_FUNCTION = rf"(?P<name>{NAME})(?: \[[\w-]+\])?"
_LEAF = re.compile(rf"{_FUNCTION}\(.*?\);.*")
_OPEN = re.compile(rf"{_FUNCTION}\(.*?\) \{{.*")
_CLOSE = re.compile(rf"\}}(?: /\* (?P<name>{NAME}).*\*/)?.*")
# "0) f();" of nofuncgraph-duration, "+ 1.0 us |  f();" of nofuncgraph-cpu
NOT_PRINTED = re.compile(rf" *[0-9]+\) +{NAME}\(.*|(?:[+!#*@$] )? *(?:[0-9]+\.[0-9]+ us)? +\|  .*")


class Calls:
    """Durations by function, of the calls whose end the trace has."""

    def __init__(self):
        self.durations: dict[str, list] = {}  # name: [number, ns, first line]
        self.open: dict[str, list[str]] = {}  # task: the calls it is in
        self.running: dict[str, str] = {}  # CPU: task
        self.unpaired = 0

    def task(self, cpu: str, name: str | None) -> str:
        """Return the task that runs on a CPU: by its pid, but each CPU has an idle task, pid 0."""
        if name is None:
            return self.running.get(cpu, f"on CPU {cpu}")
        pid = name.rpartition("-")[2]
        return pid if pid != "0" else f"idle on CPU {cpu}"

    def switch(self, match: re.Match) -> None:
        """Take note of a match of SWITCH: the calls seen so far were those of the old task."""
        cpu = match["cpu"]
        before = self.task(cpu, None)
        if cpu not in self.running and before in self.open:
            self.open[self.task(cpu, match["old"])] = self.open.pop(before)
        self.running[cpu] = self.task(cpu, match["new"])

    def lost(self) -> None:
        """Forget the open calls: ends are missing from here on."""
        self.unpaired += sum(map(len, self.open.values()))
        self.open.clear()

    def take(self, task: str, call: str, us: str | None, line: TextLine) -> bool:
        """Take one call's start, end or both; False where it is none."""
        above = self.open.setdefault(task, [])
        if leaf := _LEAF.fullmatch(call):
            self._ended(leaf["name"], us, line)
        elif opened := _OPEN.fullmatch(call):
            if us is not None or len(above) >= DEPTH_LIMIT:
                return False
            above.append(opened["name"])
        elif closed := _CLOSE.fullmatch(call):
            name = above.pop() if above else None
            self._ended(closed["name"] or name, us, line)
        else:
            return False
        return True

    def _ended(self, name: str | None, us: str | None, line: TextLine) -> None:
        if name is None or us is None:
            self.unpaired += 1
            return
        total = self.durations.setdefault(name, [0, Decimal(0), line.number])
        total[0] += 1
        total[1] += Decimal(us) * 1000

    def write(self, book: Book) -> None:
        """Write two rows a function, and a note of the calls that are not in them."""
        for name, (count, time_ns, number) in self.durations.items():
            label = {"symbol": normal(name), "part": f"raw={name}"}
            book.row(number, "hits", "count", count, **label)
            book.row(number, "duration", "ns", time_ns, **label)
        self.unpaired += sum(map(len, self.open.values()))
        if self.unpaired:
            book.note(f"{self.unpaired} calls whose start or duration is not in the trace")
