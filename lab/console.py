# SPDX-License-Identifier: GPL-2.0-only
"""Console: what a guest said, read line by line: runs, hits of functions, or why it ended.

init's lines start with "@lab " (guest/init.c); all others are the kernel's and only kept to show
what was last said. A line of init's that cannot be read ends the reading: nothing is guessed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from lab.errors import GuestError

MARK = "@lab "
LAST = 12  # lines shown of a guest that failed
_PAIR = re.compile(r"([a-z]+)=([A-Za-z0-9_.-]+)")
_FUNCTION = re.compile(r"(?P<cpu>[0-9]+) (?P<name>[A-Za-z_][\w.]*) (?P<hits>[0-9]+)")
_NUMBERS = ("order", "rep", "ns", "pgscan", "pgsteal", "before", "after", "error", "wrong", "seen")
_RUN = ("lru", "kernel", *_NUMBERS)
_PANIC = re.compile(r"Kernel panic - not syncing: .*")
_OOM = re.compile(r"[Oo]ut of memory: Killed process .*|oom-kill:.*")
_OOPS = re.compile(r"(?:BUG: |Oops: |Unable to handle kernel |general protection fault).*")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|c)")


@dataclass(frozen=True)
class Run:
    """One request: what was asked in which cell, and what came of it.

    Attributes:
        ns: duration on the guest's clock; under emulation one instruction is one nanosecond.
        pgscan, pgsteal: pages, from the cgroup's memory.stat.
        before, after: bytes of the workload's memory charged to the cgroup.
        error: errno of the request, 0 if it was met (11: less was freed than asked for).
        wrong, seen: pages still mapped afterwards of another folio order, and all of them.
        hits: of each function by CPU, where the profiler ran.
    """

    lru: str
    kernel: str
    order: int
    rep: int
    ns: int
    pgscan: int
    pgsteal: int
    before: int
    after: int
    error: int
    wrong: int
    seen: int
    hits: dict[int, dict[str, int]] = field(default_factory=dict)


class Console:
    """Reads lines as they come; `runs` are those that are complete."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.started = self.ended = False
        self.failure = ""  # what the kernel or init said of its end
        self.cell = ""  # the cell that runs
        self._hits: dict[int, dict[str, int]] = {}
        self._last: deque[str] = deque(maxlen=LAST)

    def read(self, line: str) -> None:
        """Take one line; GuestError for one of init's that cannot be read."""
        text = _ESCAPES.sub("", line).strip()
        if not text:
            return
        if text.startswith(MARK):
            self._read_own(text[len(MARK) :])
        elif not self.failure:
            # an oops is told by the panic that follows, where one does
            found = _PANIC.search(text) or _OOM.search(text) or _OOPS.search(text)
            self.failure = found[0] if found else ""
        if not text.startswith(MARK + "fn "):
            self._last.append(text)

    def last_lines(self) -> str:
        """Return the last lines said, indented; what is not printable ASCII escaped."""
        lines = [text.encode("unicode_escape").decode("ascii") for text in self._last]
        return "\n".join(f"  | {line[:160]}" for line in lines) or "  | (nothing was said)"

    def _read_own(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "fn":
            self._function(rest)
        elif word == "run":
            self.runs.append(self._run(rest))
        elif word == "cell":
            self.cell, self._hits = rest, {}
        elif word == "error":
            self.failure = self.failure or f"the guest's init: {rest}"
        elif word in ("start", "end"):
            self.started, self.ended = True, self.ended or word == "end"
        else:
            raise self._unread(text)

    def _function(self, text: str) -> None:
        row = _FUNCTION.fullmatch(text)
        if not row:
            raise self._unread(f"fn {text}")
        of_cpu = self._hits.setdefault(int(row["cpu"]), {})
        # names are cut at 30 characters: two of one beginning are counted together
        of_cpu[row["name"]] = of_cpu.get(row["name"], 0) + int(row["hits"])

    def _run(self, text: str) -> Run:
        values = dict(_PAIR.findall(text))
        if tuple(values) != _RUN or " ".join(f"{k}={v}" for k, v in values.items()) != text:
            raise self._unread(f"run {text}")
        try:
            numbers = {name: int(values[name]) for name in _NUMBERS}
        except ValueError:
            raise self._unread(f"run {text}") from None
        return Run(values["lru"], values["kernel"], **numbers, hits=self._hits)

    def _unread(self, text: str) -> GuestError:
        shown = text.encode("unicode_escape").decode("ascii")[:160]
        return GuestError(
            f"the guest's init said {MARK}{shown!r}; expected start, cell, fn, run, end or error, "
            "with all their values: the kernel wrote into the line, or the guest is not ours"
        )
