# SPDX-License-Identifier: GPL-2.0-only
"""perf stat -x: [time,] [place, [nr,]] value, unit, event, [cgroup,] [variance,] runtime, running.

Then a metric and its unit, or nothing. The variance of -r stands before the runtime, whatever
perf-stat(1) says. Event names may hold the separator (cpu/event=0x11,name=x/): fields are found
from the value on the left and the runtime on the right. Under a locale with a decimal comma and
-x, the fields are put together again by the digits that perf's formats fix; the metric, which
perf cut at the comma, is lost and said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from analysis.ingest.book import STAT_ADVICE, Book, shown, unended
from analysis.ingest.source import TextLine
from analysis.ingest.stat_values import (
    PLACE,
    PLAIN,
    UNMEASURED,
    Runs,
    derived,
    measured,
    place_text,
)
from analysis.ingest.stat_values import running_mark as _mark

EXPECTED = "value, unit, event, runtime and percentage, as perf stat -x prints them"
SEPARATORS = ",;@|\t:! #~^&"
_TIME = re.compile(r" *[0-9]+[.,][0-9]{9}")
_VARIANCE = re.compile(r"[0-9]+\.[0-9]{2}%|nan%|-nan%")
_PERCENT = re.compile(r"[0-9]{1,3}\.[0-9]{2}")
_COMMA_PERCENT = re.compile(r"[0-9]{1,3},[0-9]{2}")
_THREAD = re.compile(r".+-[0-9]+")
_STARTED = re.compile(r"# started on .+")
_VALUE = r"(?:[0-9]+(?:[.,][0-9]+)?|<not (?:counted|supported)>)"
_ROW = re.compile(
    rf"(?P<time> *(?:summary|[0-9]+[.,][0-9]{{9}})(?P<sep>[{SEPARATORS}]))?.*?"
    rf"(?:^|(?<=[{SEPARATORS}])){_VALUE}(?P<sep2>[{SEPARATORS}])[^0-9]*?(?P=sep2)[^0-9<].*?(?P=sep2)"
    r"[0-9]+(?P=sep2)[0-9]{1,3}[.,][0-9]{2}(?:(?P=sep2)|$)"
)
_EXTRA = re.compile(
    rf"(?P<sep>[{SEPARATORS}])(?P=sep){{3,}}(?P<value>[0-9]+\.[0-9]+)(?P=sep)"
    r"(?P<unit>[^,;]*[^,;\s][^,;]*)"
)
_NUMERIC_START = re.compile(r"\s*(?:[0-9<]|CPU[0-9]|S[0-9]+-?D?)")


class _Fields(NamedTuple):
    time: str | None
    place: str | None
    value: str
    unit: str
    event: str
    cgroup: str | None
    variance: str | None
    running: Decimal
    metric: tuple[str, str] | None
    lost: bool


def separator(text: str) -> str | None:
    """Return the separator of a line if it is a row of perf stat -x, else None."""
    match = _ROW.match(text)
    if match is None or (match["sep"] and match["sep"] != match["sep2"]):
        return None
    return match["sep2"]


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read a -x capture into the book; IngestError at a row that perf cannot have printed."""
    state = _State()
    for line in lines:
        if not line.text.strip():
            book.comment(line)
        elif _STARTED.fullmatch(line.text):
            state.runs.start()
            book.header(line)
        elif not line.ended:
            book.error(line, *unended(line))
        else:
            _line(line, book, state)


class _State:
    def __init__(self):
        self.runs = Runs()
        self.sep: str | None = None
        self.event = ""
        self.place: str | None = None


def _line(line: TextLine, book: Book, state: _State) -> None:
    text = line.text
    state.sep = state.sep or separator(text)
    sep = state.sep
    if sep and text.count(sep) >= 3 and not text.strip(" " + sep).startswith("#"):
        if _EXTRA.fullmatch(text):
            _extra(line, book, state)
            return
        fields = _fields(text, sep)
        if fields is not None:
            _row(line, fields, book, state)
            return
        book.error(line, shown(text), EXPECTED, _advice(text, sep))
    elif _NUMERIC_START.match(text) or (sep and text.count(sep) > 1):
        book.error(line, shown(text), EXPECTED)
    elif text.startswith("#"):
        book.comment(line)
    elif state.event:
        found = f"other output between or behind the rows ({shown(text)}): it may have torn one"
        book.error(line, found, EXPECTED)
    else:
        book.comment(line, foreign=True)


def _advice(text: str, sep: str) -> str:
    if sep == "," and re.search(r"(?:^|,)[0-9]+,[0-9]+,", text):
        return f"A decimal comma may have torn it. {STAT_ADVICE}"
    return STAT_ADVICE


def _fields(text: str, sep: str) -> _Fields | None:
    words = text.split(sep)
    found = _told(words, sep, lost=False)
    if found is None and sep == ",":
        found = _told(_mended(words), sep, lost=True)
    return found


def _told(words: list[str], sep: str, lost: bool) -> _Fields | None:
    at, time = 0, None
    if _TIME.fullmatch(words[0]) or words[0].strip() == "summary":
        time, at = words[0].strip().replace(",", "."), 1
    place, at = _place(words, at)
    if at + 4 >= len(words):
        return None
    value, unit = words[at], words[at + 1]
    end = _runtime(words, at + 2)
    if end is None or not (value in UNMEASURED or _number(value) is not None):
        return None
    running = Decimal(words[end + 1].replace(",", "."))
    comma = "," in words[end + 1]
    names, variance = words[at + 2 : end], None
    if names and _VARIANCE.fullmatch(names[-1].replace(",", ".")):
        variance = names.pop()
    event, cgroup = _event(names, sep)
    tail = words[end + 2 :]
    if not event or re.search(r"[0-9]", unit) or len(tail) not in (0, 2) or running > 100:
        return None
    metric = (tail[0], tail[1]) if tail and (tail[0] or tail[1]) else None
    return _Fields(
        time, place, value, unit, event, cgroup, variance, running, metric, lost or comma
    )


def _place(words: list[str], at: int) -> tuple[str | None, int]:
    word = words[at] if at < len(words) else ""
    if PLACE.fullmatch(word):
        number = words[at + 1] if at + 1 < len(words) else ""
        counted = not word.startswith("CPU") and re.fullmatch("[0-9]+", number)
        return (f"{word} of {number}", at + 2) if counted else (word, at + 1)
    if word and _number(word) is None and word not in UNMEASURED and _THREAD.fullmatch(word):
        return word, at + 1
    return None, at


def _number(word: str) -> Decimal | None:
    word = word.replace(",", ".") if word.count(",") == 1 else word
    return Decimal(word) if PLAIN.fullmatch(word) else None


# Where runtime and percentage stand; the percentage always has two digits behind its mark.
def _runtime(words: list[str], start: int) -> int | None:
    for at in range(start + 1, len(words) - 1):
        percent = words[at + 1]
        if re.fullmatch("[0-9]+", words[at]) and (
            _PERCENT.fullmatch(percent) or _COMMA_PERCENT.fullmatch(percent)
        ):
            return at
    return None


# Past an event that holds separators between its slashes, one more field is the cgroup.
def _event(names: list[str], sep: str) -> tuple[str, str | None]:
    for at in range(1, len(names) + 1):
        event = sep.join(names[:at])
        if event.count("/") % 2 == 0 and len(names) - at <= 1:
            return event, names[at] if at < len(names) else None
    return "", None


# Fields that a decimal comma tore: a time of 9 digits, a value of 2 before its unit, percentages.
def _mended(words: list[str]) -> list[str]:
    mended, at = [], 0
    while at < len(words):
        pair = ",".join(words[at : at + 2])
        after = words[at + 2] if at + 2 < len(words) else ""
        timed = not mended and re.fullmatch(r" *[0-9]+,[0-9]{9}", pair)
        valued = re.fullmatch(r"[0-9]+,[0-9]{2}", pair) and re.fullmatch("[A-Za-z%]+", after)
        valued = valued and not any(re.fullmatch("[A-Za-z%]+", word) for word in mended)
        varied = re.fullmatch(r"[0-9]+,[0-9]{2}%", pair)
        behind = mended and re.fullmatch("[0-9]+", mended[-1])
        percent = behind and re.fullmatch(r"[0-9]{1,3},[0-9]{2}", pair) and len(mended) > 3
        torn = bool(timed or valued or varied or percent)  # now: append changes `behind`
        mended.append(pair if torn else words[at])
        at += 2 if torn else 1
    return mended


def _row(line: TextLine, fields: _Fields, book: Book, state: _State) -> None:
    book.measured(line)
    part = place_text(time=fields.time, place=fields.place, cgroup=fields.cgroup)
    run = state.runs.of(None if fields.time == "summary" else fields.time)
    state.event, state.place = fields.event, part
    spread = f"mean of repeats, +- {fields.variance}" if fields.variance else None
    if fields.value in UNMEASURED:
        book.unmeasured(line.number, fields.event, UNMEASURED[fields.value])
    else:
        row = measured(fields.event, fields.unit, _number(fields.value))
        mark = _mark(fields.running, spread)
        book.row(line.number, *row, run=run, part=part, mark=mark)
    if fields.metric is not None and fields.value not in UNMEASURED:
        _metric(line, fields, book, run, part)


def _metric(line: TextLine, fields: _Fields, book: Book, run: int, part: str | None) -> None:
    word, unit = fields.metric
    if fields.lost:
        what = f"{fields.event} # {unit}"
        book.unmeasured(line.number, what, "lost, perf cut it at a decimal comma")
    elif PLAIN.fullmatch(word):
        mark = _mark(fields.running)
        try:
            row = derived(fields.event, unit, Decimal(word))
        except ValueError as cause:
            book.fail(line.number, str(cause), EXPECTED)
            return
        book.row(line.number, *row, run=run, part=part, mark=mark)
    elif word not in ("", "nan", "-nan", "inf"):
        book.fail(line.number, f"metric {shown(word)}", "a number")
    else:
        book.unmeasured(line.number, f"{fields.event} # {unit}", "no metric")


# A further metric of the counter above: its own line, the leading fields empty.
def _extra(line: TextLine, book: Book, state: _State) -> None:
    match = _EXTRA.fullmatch(line.text)
    word, unit = match["value"], match["unit"]
    if not state.event or match["sep"] != state.sep:
        book.error(line, shown(line.text), "a counter's row above a further metric")
        return
    book.measured(line)
    try:
        row = derived(state.event, unit, Decimal(word))
    except ValueError as cause:
        book.fail(line.number, str(cause), EXPECTED)
        return
    book.row(line.number, *row, run=state.runs.last(), part=state.place)
