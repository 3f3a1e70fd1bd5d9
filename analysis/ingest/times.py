# SPDX-License-Identifier: GPL-2.0-only
"""What `time` prints: bash, POSIX -p, zsh, GNU default, -p and -v; bash's and POSIX `times`.

A bash TIMEFORMAT and GNU -f can print anything; only output that names its numbers is read. A
decimal comma is no riddle here, for none of these groups digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.mail import is_label
from analysis.ingest.source import TextLine

ADVICE = "Capture it with: LC_ALL=C bash -c 'time COMMAND' 2> FILE, or LC_ALL=C time -v -o FILE."
EXPECTED = "rows as time prints them"
_N = r"[0-9]{1,9}(?:[.,][0-9]{1,9})?"
_MINUTES = rf"(?P<minutes>[0-9]{{1,9}})m(?P<seconds>{_N})s"
_BASH = re.compile(rf"(?P<key>real|user|sys)\s+(?:{_MINUTES}|(?P<plain>{_N}))")
_GNU = re.compile(
    rf"(?P<user>{_N})user (?P<sys>{_N})system (?P<elapsed>[0-9:]+(?:[.,][0-9]+)?)elapsed "
    r"(?P<cpu>[0-9]+|\?)%CPU \([0-9]+avgtext\+[0-9]+avgdata "
    r"(?P<resident>[0-9]+)maxresident\)k"
)
_GNU_SECOND = re.compile(
    r"(?P<inputs>[0-9]+)inputs\+(?P<outputs>[0-9]+)outputs "
    r"\((?P<major>[0-9]+)major\+(?P<minor>[0-9]+)minor\)pagefaults (?P<swaps>[0-9]+)swaps"
)
_ZSH = re.compile(
    rf"(?P<command>.*?)\s*\b(?P<user>{_N})s user (?P<sys>{_N})s system (?P<cpu>[0-9]+)% cpu "
    r"(?P<elapsed>[0-9:]+(?:[.,][0-9]+)?) total"
)
_TIMES = re.compile(rf"(?P<user>[0-9]+m{_N}s) (?P<sys>[0-9]+m{_N}s)")
_STATUS = re.compile(
    r"Command (?:exited with non-zero (status [0-9]+)|(?:terminated|stopped) by (signal [0-9]+))"
)
_NAMED = re.compile(
    r"(?P<key>(?i:real|user|sys|system|elapsed|wall|cpu))\s*[:= ]\s*"
    rf"(?P<value>(?:[0-9]+m)?{_N})(?P<unit>s|%)?(?![0-9.,\w])"
)
_VERBOSE = {
    "User time (seconds)": ("user", "s", 1),
    "System time (seconds)": ("sys", "s", 1),
    "Elapsed (wall clock) time (h:mm:ss or m:ss)": ("real", "s", 1),
    "Percent of CPU this job got": ("CPU", "percent", 1),
    "Maximum resident set size (kbytes)": ("maximum resident", "bytes", 1024),
    "Major (requiring I/O) page faults": ("major faults", "count", 1),
    "Minor (reclaiming a frame) page faults": ("minor faults", "count", 1),
    "Voluntary context switches": ("voluntary context switches", "count", 1),
    "Involuntary context switches": ("involuntary context switches", "count", 1),
    "Swaps": ("swaps", "count", 1),
    "File system inputs": ("file system inputs", "count", 1),
    "File system outputs": ("file system outputs", "count", 1),
    "Socket messages sent": ("socket messages sent", "count", 1),
    "Socket messages received": ("socket messages received", "count", 1),
    "Signals delivered": ("signals", "count", 1),
    "Page size (bytes)": ("page size", "bytes", 1),
    "Exit status": ("exit status", "1", 1),
    **{
        f"Average {what} (kbytes)": (f"average {what}", "bytes", 1024)
        for what in (
            "shared text size",
            "unshared data size",
            "stack size",
            "total size",
            "resident set size",
        )
    },
}
_VERBOSE_ROW = re.compile(r"\t(?P<key>[A-Z].*?): (?P<value>\S.*)")
_NAMES = {"elapsed": "real", "wall": "real", "system": "sys", "cpu": "CPU"}


def recognised(text: str) -> bool:
    """Tell whether a line is one that some `time` prints."""
    return bool(
        _BASH.fullmatch(text.strip())
        or _GNU.fullmatch(text)
        or _ZSH.fullmatch(text)
        or _STATUS.fullmatch(text)
        or _TIMES.fullmatch(text)
        or text.startswith("\tCommand being timed:")
        or _all_named(text)
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read any number of runs into the book; IngestError for one that is cut or damaged."""
    state = _Runs(book)
    for line in lines:
        state.take(line)
    state.close()


class _Runs:
    def __init__(self, book: Book):
        self.book = book
        self.run = 0
        self.status: str | None = None
        self.keys: list[str] = []  # of bash's block or of -v's, so far
        self.verbose = False
        self.second = False  # GNU's second line is due
        self.times = 0
        self.last = 0

    def take(self, line: TextLine) -> None:
        text = line.text
        if self.second and not _GNU_SECOND.fullmatch(text):
            self.book.error(line, shown(text), "the second line of GNU time")
            self.second = False
            return
        for pattern, take in (
            (_STATUS, self._failed),
            (_GNU, self._gnu),
            (_GNU_SECOND, self._gnu_second),
            (_ZSH, self._zsh),
            (_TIMES, self._times),
        ):
            if match := pattern.fullmatch(text):
                if not line.ended and pattern is _GNU_SECOND:
                    break
                take(line, match)
                return
        self._rows(line)

    def _rows(self, line: TextLine) -> None:
        text = line.text
        if match := _BASH.fullmatch(text.strip()):
            if match["plain"] and not line.ended:
                self.book.error(line, *unended(line))
            else:
                self._bash(line, match)
        elif text.startswith("\tCommand being timed: "):
            self._verbose_start(line)
        elif self.verbose and (match := _VERBOSE_ROW.fullmatch(text)):
            self._verbose_row(line, match)
        elif named := _all_named(text):
            self._named(line, named)
        elif not text.strip():
            self.book.comment(line)
        elif is_label(text):
            found = f"the label {shown(text)} below a block that has none"
            self.book.error(line, found, "a label above each block, as mails have them")
        elif re.match(r"\s*(?:real|user|sys)\b[\s:=]*[0-9.,-]", text) or self.verbose or self.keys:
            self.book.error(line, shown(text), EXPECTED)
        else:
            self.book.comment(line, foreign=True)

    def _row(self, line: TextLine, metric: str, unit: str, value: Decimal, **more) -> None:
        self.last = line.number
        mark = more.pop("mark", self.status)
        self.book.row(line.number, metric, unit, value, run=self.run, mark=mark, **more)

    def _end(self) -> None:
        self.run += 1
        self.status, self.keys, self.verbose = None, [], False

    def _failed(self, line: TextLine, match: re.Match) -> None:
        self.book.header(line)
        self.status = f"exit {match[1]}" if match[1] else match[2]

    def _bash(self, line: TextLine, match: re.Match) -> None:
        if self.verbose:
            self.book.error(line, shown(line.text), "the rest of GNU time -v")
            self.verbose, self.keys = False, []
            return
        due = ("real", "user", "sys")[len(self.keys)]
        seconds = _decimal(match["plain"] or match["seconds"])
        if match["key"] != due or (match["minutes"] and seconds >= 60):
            self.book.error(line, shown(line.text), f"a {due!r} row below 60 seconds")
            self.keys = []
            return
        self.book.measured(line)
        self._row(line, due, "s", seconds + 60 * int(match["minutes"] or 0))
        self.keys.append(due)
        if due == "sys":
            self._end()

    def _gnu(self, line: TextLine, match: re.Match) -> None:
        elapsed = _clock(match["elapsed"])
        if elapsed is None:
            self.book.error(line, shown(match["elapsed"]), "minutes and seconds below 60")
            return
        self.book.measured(line)
        self._row(line, "real", "s", elapsed)
        self._row(line, "user", "s", _decimal(match["user"]))
        self._row(line, "sys", "s", _decimal(match["sys"]))
        self._row(line, "maximum resident", "bytes", 1024 * Decimal(match["resident"]))
        if match["cpu"] != "?":
            self._row(line, "CPU", "percent", Decimal(match["cpu"]))
        self.second = True

    def _gnu_second(self, line: TextLine, match: re.Match) -> None:
        if not self.second:
            self.book.error(line, shown(line.text), "the first line of GNU time above it")
            return
        self.book.measured(line)
        for key, metric in (
            ("inputs", "file system inputs"),
            ("outputs", "file system outputs"),
            ("major", "major faults"),
            ("minor", "minor faults"),
            ("swaps", "swaps"),
        ):
            self._row(line, metric, "count", Decimal(match[key]))
        self.second = False
        self._end()

    def _zsh(self, line: TextLine, match: re.Match) -> None:
        elapsed = _clock(match["elapsed"])
        if elapsed is None:
            self.book.error(line, shown(match["elapsed"]), "minutes and seconds below 60")
            return
        self.book.measured(line)
        part = f"command={match['command']}" if match["command"] else None
        self._row(line, "real", "s", elapsed, part=part)
        self._row(line, "user", "s", _decimal(match["user"]), part=part)
        self._row(line, "sys", "s", _decimal(match["sys"]), part=part)
        self._row(line, "CPU", "percent", Decimal(match["cpu"]), part=part)
        self._end()

    def _times(self, line: TextLine, match: re.Match) -> None:
        self.book.measured(line)
        part = ("shell", "children")[self.times % 2]
        for key in ("user", "sys"):
            minutes, _, seconds = match[key].rstrip("s").partition("m")
            value = _decimal(seconds) + 60 * int(minutes)
            self._row(line, key, "s", value, part=f"of={part}")
        self.times += 1
        self.run += self.times % 2 == 0

    def _verbose_start(self, line: TextLine) -> None:
        self.book.header(line)
        self.verbose, self.keys = True, []

    def _verbose_row(self, line: TextLine, match: re.Match) -> None:
        known = _VERBOSE.get(match["key"])
        word = match["value"].strip()
        if known is None or match["key"] in self.keys:
            self.book.error(line, shown(line.text), "a row of GNU time -v, once")
            return
        metric, unit, factor = known
        value = _clock(word) if metric == "real" else _number(word.rstrip("%"))
        if value is None and word == "?%":
            self.book.measured(line)
            self.book.unmeasured(line.number, metric, "not known")
        elif value is None or not line.ended:
            self.book.error(line, shown(line.text), "a number, and a line end behind it")
            return
        else:
            self.book.measured(line)
            self._row(line, metric, unit, value * factor)
        self.keys.append(match["key"])
        if match["key"] == "Exit status":
            self._end()

    def _named(self, line: TextLine, named: list[re.Match]) -> None:
        if not line.ended:
            self.book.error(line, *unended(line))
            return
        self.book.measured(line)
        for match in named:
            key = match["key"].lower()
            minutes, _, seconds = match["value"].rpartition("m")
            value = _decimal(seconds) + 60 * int(minutes or 0)
            unit = "percent" if match["unit"] == "%" or key == "cpu" else "s"
            self._row(line, _NAMES.get(key, key), unit, value)
        self._end()

    def close(self) -> None:
        if self.second or self.keys or self.times % 2:
            what = (
                "GNU time's first line" if self.second else f"a run that stops at {self.keys[-1:]}"
            )
            self.book.fail(self.last, what, "a whole run")


def _all_named(text: str) -> list[re.Match]:
    """Return the named numbers of a line that has at least two and nothing else in it."""
    found = list(_NAMED.finditer(text)) if len(text) < 500 else []
    rest = _NAMED.sub("", text).strip(" \t,;|()") if len(found) > 1 else text
    keys = {match["key"].lower() for match in found}
    return found if not rest and len(keys) == len(found) else []


def _decimal(word: str) -> Decimal:
    return Decimal(word.replace(",", "."))


def _number(word: str) -> Decimal | None:
    return _decimal(word) if re.fullmatch(_N, word) else None


# h:mm:ss or m:ss.ss in seconds; None where minutes or seconds have 60 or more.
def _clock(word: str) -> Decimal | None:
    if not re.fullmatch(rf"(?:[0-9]{{1,9}}:){{0,2}}{_N}", word):
        return None
    *whole, seconds = word.split(":")
    value = _decimal(seconds)
    if (whole and value >= 60) or any(int(part) >= 60 for part in whole[1:]):
        return None
    for place, part in enumerate(reversed(whole), 1):
        value += int(part) * 60**place
    return value
