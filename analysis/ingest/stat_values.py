# SPDX-License-Identifier: GPL-2.0-only
"""What perf stat's numbers, units and places mean, whatever the locale and the output form.

Its printf formats fix the digits: a count without a unit has none behind the decimal mark, a value
with a unit two (six before Linux 4.18, "task-clock (msec)"), a metric three or more, a percentage
two, a time nine (Linux tools/perf/util/stat-display.c, v4.1 to v7.2). So a number that could be
read in two ways can mostly be told, and is refused where it cannot.
"""

from __future__ import annotations

import re
from decimal import Decimal

# Digit groups of every locale that glibc has: comma, dot, space (also no-break ones), apostrophe.
GROUPS = ",. \u00a0\u202f\u2009'\u2019"
DECIMALS = ".,\u066b"
# perf's unit: ours, and the factor between them.
_UNITS = {
    "": ("count", Decimal(1)),
    "msec": ("s", Decimal("0.001")),
    "usec": ("s", Decimal("0.000001")),
    "sec": ("s", Decimal(1)),
    "ns": ("ns", Decimal(1)),
    "Bytes": ("bytes", Decimal(1)),
    "bytes": ("bytes", Decimal(1)),
    "KiB": ("bytes", Decimal(1 << 10)),
    "MiB": ("bytes", Decimal(1 << 20)),
    "GiB": ("bytes", Decimal(1 << 30)),
    "Joules": ("J", Decimal(1)),
    "%": ("percent", Decimal(1)),
}
UNIT_WORDS = frozenset(_UNITS) - {""} | {"C", "Watts", "MHz", "GHz", "MB", "uJ"}
_PER_S = {"": 1, "K": 1000, "M": 10**6, "G": 10**9}
_INSTRUCTIONS = re.compile(r"(?:cpu(?:_core|_atom)?/)?instructions(?:/?:?[a-zA-Z]*)?/?")
PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?")
UNMEASURED = {"<not counted>": "not counted", "<not supported>": "not supported"}
# -A, --per-socket, --per-die, --per-cluster, --per-cache, --per-core, --per-node
PLACE = re.compile(r"CPU[0-9]+|N[0-9]+|S[0-9]+(?:-D[0-9]+)?(?:-CLS?[0-9]+|-L[0-9]+-ID[0-9]+)?"
                   r"(?:-C[0-9]+)?|D[0-9]+(?:-C[0-9]+)?")  # fmt: skip


class Runs:
    """The run of each row: its block in the file (-o --append), or with -I its interval's place."""

    def __init__(self):
        self._first = 0  # of the block
        self._started = False
        self._times: dict[str, int] = {}

    def start(self) -> None:
        """Take note of a line "# started on"."""
        self._first += max(len(self._times), 1) if self._started else 0
        self._started = True
        self._times = {}

    def of(self, time: str | None) -> int:
        """Return the run of a row, told its interval's time as printed, None without -I."""
        place = 0 if time is None else self._times.setdefault(time, len(self._times))
        return self._first + place

    def last(self) -> int:
        """Return the run of the interval above, or of the block."""
        return self._first + max(len(self._times) - 1, 0)


class AmbiguousError(ValueError):
    """A number that can be read in two ways; the text says which."""


def measured(event: str, unit: str, value: Decimal) -> tuple[str, str, Decimal]:
    """Return metric, unit and value of a counter; a unit perf knows and we do not stays a name."""
    if not unit and _INSTRUCTIONS.fullmatch(event):
        return event, "instructions", value
    if unit in _UNITS:
        ours, factor = _UNITS[unit]
        return event, ours, value * factor
    return f"{event} ({unit})", "1", value


def derived(event: str, unit: str, value: Decimal) -> tuple[str, str, Decimal]:
    """Return metric, unit and value of what perf computes from a counter ("CPUs utilized").

    Raises ValueError for a rate whose unit is damaged, for its factor would be lost.
    """
    rate = re.fullmatch(r"([KMG]?)/sec", unit)
    if rate:
        return f"{event} # /sec", "per_s", value * _PER_S[rate[1]]
    if "/sec" in unit:
        raise ValueError(f"{unit!r} is no unit of perf's")
    percent = unit.startswith(("%", "of all")) or "%" in unit
    return f"{event} # {unit}", "percent" if percent else "1", value


def grouped(word: str, decimal: str | None) -> Decimal:
    """Read a counter, digit groups and all; decimal: the capture's decimal mark, None if unknown.

    Groups are of three digits, or Indian (two, and three at the end). Raises AmbiguousError if a
    mark could be either ("196.925" where nothing tells the locale), ValueError if it is no number.
    """
    marks = [mark for mark in word if not mark.isascii() or not mark.isdigit()]
    if not word or not set(marks) <= {*GROUPS, *DECIMALS}:
        raise ValueError(f"{word!r} is not a number")
    if not marks:
        return Decimal(word)
    if decimal is None:
        decimal = _told(word, marks)
    whole, mark, part = word.partition(decimal)
    if mark and not (part.isascii() and part.isdigit()):
        raise ValueError(f"{word!r} does not end in digits behind {decimal!r}")
    if len(set(marks) - {decimal}) > 1:
        raise ValueError(f"{word!r} mixes digit groups")
    return Decimal(f"{_ungrouped(whole, word)}{'.' if mark else ''}{part}")


# One mark with three digits behind it may be either, unless no locale has it as a decimal mark.
def _told(word: str, marks: list[str]) -> str:
    last = marks[-1]
    behind = len(word) - word.rindex(last) - 1
    if last not in DECIMALS or marks.count(last) > 1:
        return "." if last != "." else ","
    if behind == 3 and len(set(marks)) == 1:
        raise AmbiguousError(f"{word!r}: {last!r} may be a decimal mark or a digit group")
    return last if behind != 3 else _other(last, marks)


def _other(last: str, marks: list[str]) -> str:
    if set(marks) - {last}:  # two kinds of mark: the last is the decimal one, with three digits
        return last
    return "," if last == "." else "."


def _ungrouped(whole: str, word: str) -> str:
    marks = {mark for mark in whole if not mark.isdigit()}
    if not marks:
        if not whole:
            raise ValueError(f"{word!r} has no digit before its decimal mark")
        return whole
    first, *rest = whole.split(marks.pop())
    even = 1 <= len(first) <= 3 and all(len(group) == 3 for group in rest)
    indian = 1 <= len(first) <= 2 and len(rest[-1]) == 3 and all(len(g) == 2 for g in rest[:-1])
    if not (even or indian) or not (first + "".join(rest)).isdigit():
        raise ValueError(f"{word!r} has digit groups of no locale")
    return first + "".join(rest)


def place_text(**labels: str | None) -> str | None:
    """Return the part column: "time=0.1; cpu=0", of what is known; None if nothing is."""
    told = [f"{name}={value}" for name, value in labels.items() if value]
    return "; ".join(told) or None


def running_mark(percent: Decimal | None, *more: str | None) -> str | None:
    """Return the mark of a counter: multiplexed below 100% of the time, and what else is told."""
    multiplexed = percent is not None and percent < 100
    marks = [f"multiplexed: counted {percent}% of the time"] if multiplexed else []
    return "; ".join([*marks, *(one for one in more if one)]) or None
