# SPDX-License-Identifier: GPL-2.0-only
"""bpftrace's maps at exit, as text or with -f json: counts, hist(), lhist(), stats() and friends.

The program that was traced writes between them; what does not look like a map is noted and left
alone. K, M and so on in a bucket's bounds are powers of 1024 and stay as printed. A stack in a key
is printed a frame a line; its frames are joined by semicolons, the innermost first, as printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.document import loads
from analysis.ingest.source import TextLine

ADVICE = "Capture it with: bpftrace -f json -o FILE PROGRAM."
EXPECTED = "a map as bpftrace prints it"
_NAME = r"@[A-Za-z0-9_]*(?:\[(?P<key>.*)\])?"
_VALUE = re.compile(rf"(?P<name>{_NAME}): (?P<value>-?[0-9]+)")
_STATS = re.compile(
    rf"(?P<name>{_NAME}): count (?P<count>[0-9]+), average (?P<average>-?[0-9]+), "
    r"total (?P<total>-?[0-9]+)"
)
_HIST = re.compile(rf"(?P<name>{_NAME}): *")
_BOUND = r"-?[0-9]+[KMGTPE]?"
_BUCKET = re.compile(
    rf"(?P<bucket>\[{_BOUND}(?:, (?:{_BOUND}|\.\.\.))?[\])]"
    rf"|\((?:\.\.\.|{_BOUND}), (?:{_BOUND}|\.\.\.)[\])])"
    r" +(?P<count>[0-9]+) \|@* *\|"
)
_BEGIN = re.compile(r"@[A-Za-z0-9_]*\[(?!.*\]:).*")  # of a key that goes on below
_FRAME = re.compile(r" {4,}\S.*|\]?, .*|")
_KEY_END = re.compile(r"(?P<key>(?:, .*)?)\]:(?P<value>.*)")
KEY_LINES = 10_000
_TYPES = ("attached_probes", "map", "hist", "lhist", "stats", "printf", "time", "lost_events",
          "value", "cat", "join", "syscall", "strftime", "errorf", "tseries")  # fmt: skip
_SHAPE_ERRORS = (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


def recognised(text: str) -> bool:
    """Tell whether a line is one that only bpftrace prints."""
    return bool(
        re.match(r'\{"type": "(?:' + "|".join(_TYPES) + r')"', text)
        or _BUCKET.fullmatch(text)
        or re.match(r"Attach(?:ing|ed) [0-9]+ probe", text)
        or (text.startswith("@") and (_VALUE.fullmatch(text) or _STATS.fullmatch(text)))
        or re.fullmatch(r"@[A-Za-z0-9_]*\[", text)
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read maps into the book; IngestError for one that is damaged."""
    name: str | None = None  # of the histogram whose buckets come
    for line in _whole_keys(lines, book):
        text = line.text
        if bucket := _BUCKET.fullmatch(text):
            if name is None:
                book.error(line, shown(text), "the name of its map above it")
                continue
            book.measured(line)
            _row(line, name, bucket["count"], book, bucket["bucket"])
        elif text.startswith("@"):
            name = _map(line, book)
        elif text.startswith('{"type"'):
            _object(line, book)
        elif re.match(r"\[-?[0-9]|\((?:\.\.\.|-?[0-9])", text) or ("|@" in text):
            book.error(line, shown(text), EXPECTED)
        elif not text.strip():
            name = None
            book.comment(line)
        elif re.match(r"Attach(?:ing|ed) [0-9]+ probe", text):
            book.header(line)
        elif text.startswith("{"):
            book.error(line, shown(text), EXPECTED)
        else:
            book.comment(line, foreign=True)


# Lines, those of a key that is printed on several joined to the last of them.
def _whole_keys(lines: Iterator[TextLine], book: Book) -> Iterator[TextLine]:
    begun: list[TextLine] = []
    for line in lines:
        if begun and (end := _KEY_END.fullmatch(line.text)):
            name, _, first = begun[0].text.partition("[")
            key = _key([first, *(one.text for one in begun[1:]), end["key"]])
            yield line._replace(text=f"{name}[{key}]:{end['value']}")
            begun = []
        elif begun and _FRAME.fullmatch(line.text) and len(begun) < KEY_LINES:
            book.measured(line)
            begun.append(line)
        elif begun:
            begun = []
            book.error(line, shown(line.text), "the rest of the key above it")
        elif _BEGIN.fullmatch(line.text):
            book.measured(line)
            begun = [line]
        else:
            yield line
    if begun:
        book.fail(begun[-1].number, f"a key without its end ({shown(begun[0].text)})", EXPECTED)


def _key(parts: list[str]) -> str:
    return ";".join(part.strip() for part in parts if part.strip())


# A map's line; returns its name if buckets follow.
def _map(line: TextLine, book: Book) -> str | None:
    text = line.text
    if not line.ended:
        book.error(line, *unended(line))
        return None
    if stats := _STATS.fullmatch(text):
        book.measured(line)
        for field in ("count", "average", "total"):
            if stats[field].startswith("-"):
                book.fail(line.number, f"a negative {field}", "a number >= 0")
            else:
                _row(line, stats["name"], stats[field], book, None, field)
        return None
    if value := _VALUE.fullmatch(text):
        book.measured(line)
        if value["value"].startswith("-"):
            book.fail(line.number, f"a negative value ({shown(text)})", "a number >= 0")
        else:
            _row(line, value["name"], value["value"], book)
        return None
    if hist := _HIST.fullmatch(text):
        book.header(line)
        return hist["name"]
    if re.fullmatch(rf"{_NAME}: \S.*", text):
        book.comment(line)
        book.unmeasured(line.number, text.partition(":")[0], "text, not a number")
        return None
    book.error(line, shown(text), EXPECTED)
    return None


def _row(
    line: TextLine, name: str, word: object, book: Book, bucket: str | None = None, what: str = ""
) -> None:
    name, _, key = name.partition("[")
    labels = [f"key={key.removesuffix(']')}"] if key else []
    labels += [f"bucket={bucket}"] if bucket else []
    metric = f"{name} {what}".strip()
    book.row(line.number, metric, "count", Decimal(word), part="; ".join(labels) or None)


def _object(line: TextLine, book: Book) -> None:
    try:
        found = loads(line.text)
        rows = list(_json_rows(found["type"], found["data"]))
    except _SHAPE_ERRORS as cause:
        book.error(line, f"{shown(line.text)} ({cause})", "one whole JSON object a line", ADVICE)
        return
    if not rows:
        book.header(line)
        if found["type"] == "lost_events":
            book.note(f"events were lost: {found['data']}")
        return
    book.measured(line)
    for name, bucket, value, what in rows:
        if value is None:
            book.unmeasured(line.number, name, "text, not a number")
        else:
            _row(line, name, value, book, bucket, what)


# Map and key, bucket, value (None: no number), and which of several values of one key.
def _json_rows(kind: str, fields: object) -> Iterator[tuple[str, str | None, Decimal | None, str]]:
    if kind not in ("map", "hist", "lhist", "stats"):
        return
    for name, value in fields.items():
        if isinstance(value, dict) and not (kind == "stats" and "count" in value):
            for key, one in value.items():
                yield from _values(f"{name}[{_key(key.split(chr(10)))}]", kind, one)
        else:
            yield from _values(name, kind, value)


def _values(
    name: str, kind: str, one: object
) -> Iterator[tuple[str, str | None, Decimal | None, str]]:
    if kind in ("hist", "lhist"):
        for bucket in one:
            low, high = bucket.get("min", "..."), bucket.get("max", "...")
            yield name, f"[{low}, {high}]", _count(bucket["count"]), ""
    elif kind == "stats" and isinstance(one, dict):
        for field, value in one.items():
            yield name, None, _count(value), field
    else:
        yield name, None, _count(one) if isinstance(one, Decimal) else None, ""


def _count(value: object) -> Decimal:
    if not isinstance(value, Decimal) or not 0 <= value < Decimal(1 << 64):
        raise ValueError(f"{ascii(value)[:40]} is no count")
    return value
