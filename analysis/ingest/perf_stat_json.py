# SPDX-License-Identifier: GPL-2.0-only
"""perf stat -j: one JSON object a line, counter values as strings, from Linux 6.0 on.

Under a locale with a decimal comma the lines are no JSON; and the first -j printed runtime and
percentage in one number, which cannot be taken apart. Both are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from analysis.ingest.book import STAT_ADVICE, Book, shown, unended
from analysis.ingest.document import loads
from analysis.ingest.source import TextLine
from analysis.ingest.stat_values import (
    UNMEASURED,
    Runs,
    derived,
    measured,
    place_text,
    running_mark,
)

EXPECTED = "one JSON object a line, as perf stat -j prints them"
ADVICE = "Capture it with: LC_ALL=C perf stat -j -o FILE COMMAND."
_PLACES = ("cpu", "socket", "die", "cluster", "cache", "core", "node", "thread")
_TORN = re.compile(r'" : "?[0-9]+,[0-9]')
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def recognised(text: str) -> bool:
    """Tell whether a line is one that perf stat -j prints."""
    return text.lstrip().startswith("{") and any(
        key in text for key in ('"counter-value"', '"metric-value"', '"aggregate-number"')
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read a -j capture into the book; IngestError for a line that is no whole object."""
    runs, event = Runs(), "metric"
    for line in lines:
        text = line.text.strip()
        if not text:
            book.comment(line)
        elif text.startswith("# started on "):
            runs.start()
            book.header(line)
        elif text.startswith("{"):
            event = _object(line, book, runs, event)
        elif '" : ' in text or text.startswith('"'):
            book.error(line, shown(text), EXPECTED, ADVICE)
        elif not line.ended and set(text) & set("{}"):
            book.error(line, *unended(line))
        else:
            book.comment(line, foreign=True)


# Takes an object told the event of the one above it; returns its own, for metrics that follow.
def _object(line: TextLine, book: Book, runs: Runs, event: str) -> str:
    try:
        fields = loads(line.text)
        values = _values(fields)
    except (ValueError, KeyError, TypeError, InvalidOperation, RecursionError):
        comma = "numbers with a decimal comma" if _TORN.search(line.text) else shown(line.text)
        book.error(line, comma, EXPECTED, ADVICE if comma != shown(line.text) else STAT_ADVICE)
        return event
    runtime = fields.get("event-runtime")
    if isinstance(runtime, Decimal) and "." in str(runtime) and "pcnt-running" not in fields:
        found = f"runtime and percentage run together in {runtime}: lost"
        book.error(line, found, "two numbers", "Use a perf from Linux 6.1 or later.")
        return event
    book.measured(line)
    event = str(fields.get("event", event))
    _rows(line, fields | {"event": event}, values, book, runs)
    return event


# What must be a number is one, or the line is refused: strings of numbers, NaN, null.
def _values(fields: dict) -> dict[str, Decimal | str | None]:
    if not isinstance(fields, dict):
        raise TypeError("no object")
    if "counter-value" in fields and not isinstance(fields["event"], str):
        raise TypeError("no event")
    values = {}
    for key in ("counter-value", "metric-value", "pcnt-running", "variance", "interval"):
        word = fields.get(key)
        if word is None or word in UNMEASURED or word in ("", "nan", "none"):
            values[key] = word
        elif isinstance(word, Decimal) or _NUMBER.fullmatch(word):
            values[key] = Decimal(word)
            if values[key] < 0 or not values[key].is_finite() or values[key] > Decimal("1e300"):
                raise ValueError("out of range")
        else:
            raise ValueError(word)
    if "counter-value" not in fields and "metric-value" not in fields:
        raise KeyError("no value")
    return values


def _rows(line: TextLine, fields: dict, values: dict, book: Book, runs: Runs) -> None:
    time = values["interval"]
    run = runs.of(str(time) if isinstance(time, Decimal) else None)
    place = " ".join(f"{key}={fields[key]}" for key in _PLACES if key in fields)
    counters = fields.get("counters", fields.get("aggregate-number"))
    if place and counters is not None:
        place += f" of {counters}"
    part = place_text(
        time=None if time is None else str(time), place=place, cgroup=_text(fields, "cgroup")
    )
    event = fields["event"]
    running = values["pcnt-running"] if isinstance(values["pcnt-running"], Decimal) else None
    value = values["counter-value"]
    if isinstance(value, Decimal):
        spread = values["variance"]
        mean = None if spread is None else f"mean of repeats, +- {spread}%"
        row = measured(event, _text(fields, "unit") or "", value)
        book.row(line.number, *row, run=run, part=part, mark=running_mark(running, mean))
    elif value is not None:
        book.unmeasured(line.number, event, UNMEASURED.get(value, "no value"))
    metric, unit = values["metric-value"], _text(fields, "metric-unit") or ""
    if isinstance(metric, Decimal) and unit and not isinstance(value, str):
        try:
            row = derived(event, unit, metric)
        except ValueError as cause:
            book.fail(line.number, str(cause), "CPUs utilized, K/sec and their like")
            return
        book.row(line.number, *row, run=run, part=part, mark=running_mark(running))


def _text(fields: dict, key: str) -> str | None:
    found = fields.get(key)
    return str(found) if found not in (None, "") else None
