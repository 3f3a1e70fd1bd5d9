# SPDX-License-Identifier: GPL-2.0-only
"""Comparisons as people paste them: ASCII of at most 75 columns, Markdown, plain JSON."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from analysis.compare import Comparison
from analysis.difference import LEVEL

WIDTH = 75
_NAMES = (8, 20)  # columns; a name longer than what is left stands below, by its number
_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))
_HEAD = ("before", "after", "ratio", "95% interval", "p", "n")


def to_text(found: Sequence[Comparison]) -> str:
    """Return an aligned table, then footnotes; the same bytes for the same comparisons."""
    cells = [_HEAD, *map(_cells, found)]
    used = sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True))
    names, notes = _names(found, min(max(WIDTH - used, _NAMES[0]), _NAMES[1]))
    rows = [(name, *row) for name, row in zip(["", *names], cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(" ".join(cells).rstrip())
    feet = [*notes, *_footnotes(found)]
    wrapped = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in feet]
    return "\n".join([*lines, "", *wrapped]) + "\n"


def to_markdown(found: Sequence[Comparison]) -> str:
    """Return a Markdown table and the footnotes as a list."""
    rows = [("metric", *_HEAD), (":---", *["---:"] * 6)]
    rows += [(_markdown(_ascii(one.metric)), *_cells(one)) for one in found]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([table, "", *(f"- {_markdown(note)}" for note in _footnotes(found))]) + "\n"


def to_dict(found: Sequence[Comparison]) -> list[dict]:
    """Return plain JSON: one object a comparison; what is infinite is null."""
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(one).items()
        }
        for one in found
    ]


def _cells(one: Comparison) -> tuple[str, ...]:
    interval = f"{_ratio(one.low)} to {_ratio(one.high)}" if one.design != "exact" else "exact"
    p = f"{one.p_holm:.3f}" if one.p_holm >= 0.0005 else "<0.001"
    p = "" if one.design == "exact" else p + "*" * (one.p_holm < LEVEL)
    count = f"{one.nr_before}+{one.nr_after}"
    values = (_value(one.before, one.unit), _value(one.after, one.unit))
    return (*values, _ratio(one.ratio), interval, p, count)


def _value(value: float, unit: str) -> str:
    if unit in ("s", "ns") and value:
        seconds = value if unit == "s" else value * 1e-9
        scale, prefix = next((one for one in _PREFIXES if seconds >= one[0]), _PREFIXES[-1])
        return f"{seconds / scale:.4g} {prefix}s"
    scale, prefix = next(
        (one for one in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if value >= one[0]), (1.0, "")
    )
    scale = scale if scale != 1e4 else 1e3
    return f"{value / scale:.4g}{prefix}"


def _ratio(value: float) -> str:
    if not math.isfinite(value):
        return "inf"
    return f"{value:.3f}" if value < 1000 else f"{value:.2g}"


def _names(found: Sequence[Comparison], most: int) -> tuple[list[str], list[str]]:
    names, notes = [], []
    for one in found:
        name = _ascii(one.metric)
        if len(name) > most:
            notes.append(f"[{len(notes) + 1}] {name}")
            name = f"[{len(notes)}] {name[: max(0, most - 7)]}..."
        names.append(name)
    return names, notes


def _footnotes(found: Sequence[Comparison]) -> list[str]:
    notes = []
    tested = [one for one in found if one.design != "exact"]
    designs = sorted({one.design for one in tested})
    if designs:
        notes.append(f"run order: {', '.join(designs)}; ratio: after / before without drift")
    if any(one.p_holm < LEVEL for one in tested):
        notes.append(f"*: below {LEVEL}")
    if (count := sum(one.tested for one in found)) > 1:
        notes.append(f"p is corrected for {count} comparisons (Holm)")
    for one in tested:
        least = f"these runs could have shown {one.detectable:.1%} or more"
        least = least if math.isfinite(one.detectable) else "these runs could show no effect at all"
        notes.append(f"{_ascii(one.metric)}: {least}")
    for one in found:
        notes += [_ascii(note) for note in one.notes]
    return list(dict.fromkeys(notes))


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


# Escapes what Markdown takes for HTML, a cell's end, emphasis or a link.
def _markdown(text: str) -> str:
    return re.sub(r"([|*_`\[\]])", r"\\\1", text).replace("<", "&lt;")
