# SPDX-License-Identifier: GPL-2.0-only
"""Tables by folio size, as mm series print them: a size a row, a kernel a column.

    Folio Size | v6.8-rc1 |      New | Change
    ------------------------------------------
          4KiB | 0.014328 | 0.014035 |   - 2%

The columns between the size and the change are kernels; the change is checked against the first
two, never kept. The order is that of folios of 4 KiB pages. The unit is what the text above says,
else the values have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from analysis.ingest.book import shown
from analysis.ingest.capture import IngestError, Line
from analysis.ingest.setting import read_setting

ADVICE = "Send the table with one row a size and one column a kernel, separated by |."
_QUOTE = re.compile(r"(?:[ \t]*>)+ ?")
_HEAD = re.compile(r"\|?\s*(?:folio |page )?(?:size|order)s?\s*(?:\|.*)", re.I)
_RULE = re.compile(r"[-+=|: \t]*[-=][-+=|: \t]*")
_SIZE = re.compile(
    r"(?P<number>[0-9]{1,4})\s*(?P<scale>[KM])i?B?|order[- ]?(?P<order>[0-9]{1,2})", re.I
)
_CHANGE = re.compile(r"(?:change|diff(?:erence)?|delta|speed-?up|reduction|%).*", re.I)
_VALUE = re.compile(r"(?P<value>[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(?P<unit>s|sec|seconds|ms|us|ns)?")
_PERCENT = re.compile(r"(?P<sign>[-+]?)\s*(?P<value>[0-9]{1,3}(?:\.[0-9]+)?)\s*%")
_SECONDS = {"s": "1", "sec": "1", "seconds": "1", "ms": "0.001", "us": "0.000001", "ns": "1e-9"}
# A unit in the text above: its full name, or its sign where nothing else can be meant ("let us")
_TOLD = tuple(
    (re.compile(rf"\b{full}\b|(?:\bin |[(\[])(?:{sign})\b", re.I), factor)
    for full, sign, factor in (
        ("nanoseconds", "ns|nsec", "1e-9"),
        ("microseconds", "us|usec", "0.000001"),
        ("milliseconds", "ms|msec", "0.001"),
        ("seconds", "s|sec|secs", "1"),
    )
)
_ABOVE = 12  # lines of text that may speak of a table


def rows(messages: Iterable[list[Line]], name: str) -> list[dict]:
    """Return a row of Samples for each value of each table; a table quoted again counts once.

    Raises IngestError for a row that is damaged or whose change does not fit its values.
    """
    found, known = [], set()
    for message in messages:
        lines = [Line(line.number, _QUOTE.sub("", line.text).strip()) for line in message]
        for place, line in enumerate(lines):
            if not _HEAD.fullmatch(line.text):
                continue
            table = _table(lines, place, name)
            identity = tuple((row["kernel"], row["order"], row["value"]) for row in table)
            if table and identity not in known:
                known.add(identity)
                found += table
    return found


def _table(lines: list[Line], place: int, name: str) -> list[dict]:
    names = _cells(lines[place].text)
    above = tuple(line.text for line in lines[max(0, place - _ABOVE) : place])
    setting, factor = read_setting(above), _factor(above, names)
    found = []
    for line in lines[place + 1 :]:
        if _RULE.fullmatch(line.text):
            continue
        cells = _cells(line.text)
        order = _order(cells[0]) if cells else None
        if order is None:
            break
        if len(cells) != len(names):
            expected = f"{len(names)} cells, as its header has"
            raise IngestError(f"{name}:{line.number}", f"{len(cells)} cells", expected, ADVICE)
        for row in _row(names, cells, factor, f"{name}:{line.number}"):
            told = {"machine": setting.machine, "arch": setting.arch, "workload": setting.workload}
            found.append(told | row | {"order": order})
    return found


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip("|").split("|")] if "|" in text else []


def _order(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    if match["order"]:
        return int(match["order"])
    pages = (int(match["number"]) << (10 if match["scale"].upper() == "K" else 20)) // 4096
    return pages.bit_length() - 1 if pages and not pages & (pages - 1) else None


# Seconds of a value without a unit of its own; None where the text tells none.
def _factor(above: tuple[str, ...], names: list[str]) -> Decimal | None:
    for text in (" ".join(names), *reversed(above)):
        for pattern, factor in _TOLD:
            if pattern.search(text):
                return Decimal(factor)
    return None


def _row(names: list[str], cells: list[str], factor: Decimal | None, where: str) -> list[dict]:
    values, found = [], []
    for name, cell in zip(names[1:], cells[1:], strict=True):
        if _CHANGE.fullmatch(name):
            _check(values, cell, where)
            continue
        match = _VALUE.fullmatch(cell)
        if match is None:
            raise IngestError(where, shown(cell), "a number", ADVICE)
        values.append(Decimal(match["value"]))
        scale = Decimal(_SECONDS[match["unit"]]) if match["unit"] else factor
        value = values[-1] if scale is None else values[-1] * scale
        told = {"metric": "real", "unit": "s"} if scale else {"metric": "value", "unit": "1"}
        found.append(
            told | {"kernel": name or None, "value": float(value), "run": 0, "source": where}
        )
    return found


# A change of the first two values in percent, as printed: within its last digit, and a little more
# for values that were rounded before.
def _check(values: list[Decimal], cell: str, where: str) -> None:
    match = _PERCENT.fullmatch(cell)
    if match is None or len(values) < 2 or not values[0]:
        return
    printed = Decimal(match["value"]) * (-1 if match["sign"] == "-" else 1)
    change = 100 * (values[1] / values[0] - 1)
    speedup = 100 * (values[0] / values[1] - 1) if values[1] else change
    if not any(abs(printed - one) <= 1 for one in (change, -change, speedup)):
        found = f"a change of {cell} beside {values[0]} and {values[1]}"
        raise IngestError(where, found, f"{change:.0f}%", "Check the row.")
