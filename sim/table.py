# SPDX-License-Identifier: GPL-2.0-only
"""Values that show themselves: as a table in Jupyter, as the same table in a terminal."""

import re
import textwrap
from collections.abc import Callable
from html import escape
from typing import NamedTuple

WIDTH = 100
_NUMBER = re.compile(r"[-+<]?\d.*|-|any")


class Table(NamedTuple):
    """Text in rows, with a title and footnotes; the first column names the rows.

    A note that starts with a row's name and a colon is that row's: its number stands there.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the table for a terminal, at most as wide as `WIDTH` if its cells allow it."""
        rows = [(f"{row[0]}{self._marks(row[0])}", *row[1:]) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.header, *rows, strict=True)]
        pads = [str.rjust if numeric else str.ljust for numeric in self._numeric()]
        lines = [
            "  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True))
            for row in (self.header, *rows)
        ]
        notes = [
            textwrap.fill(f"[{number}] {note}", WIDTH, subsequent_indent="    ")
            for number, note in enumerate(self.notes, 1)
        ]
        told = [] if rows else ["(no rows)"]
        parts = [[textwrap.fill(self.title, WIDTH)], [*lines, *told], notes]
        return "\n\n".join("\n".join(map(str.rstrip, part)) for part in parts if part)

    def html(self) -> str:
        """Return the table as HTML, all text escaped."""
        sides = ["right" if numeric else "left" for numeric in self._numeric()]
        header = "".join(
            f'<th scope="col" style="text-align: {side}">{escape(name)}</th>'
            for name, side in zip(self.header, sides, strict=True)
        )
        rows = "".join(self._html_row(row, sides) for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f'<table><caption style="text-align: left">{escape(self.title)}</caption>'
            f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
            + (f"<ol>{notes}</ol>" if notes else "")
        )

    def _html_row(self, row: tuple[str, ...], sides: list[str]) -> str:
        cells = "".join(
            f'<td style="text-align: {side}">{escape(cell)}</td>'
            for cell, side in zip(row[1:], sides[1:], strict=True)
        )
        mark = f"<sup>{self._marks(row[0]).strip()}</sup>" if self._marks(row[0]) else ""
        return (
            f'<tr><th scope="row" style="text-align: left">{escape(row[0])}{mark}</th>{cells}</tr>'
        )

    def _marks(self, name: str) -> str:
        own = [number for number, n in enumerate(self.notes, 1) if n.startswith(f"{name}: ")]
        return "".join(f" [{number}]" for number in own)

    def _numeric(self) -> list[bool]:
        # Columns of nothing but numbers are aligned at their right.
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        return [
            place > 0 and all(_NUMBER.fullmatch(cell) for cell in column)
            for place, column in enumerate(columns)
        ]


def shown(build: Callable[[object], Table]) -> Callable[[type], type]:
    """Return a class decorator: values show the table that `build` makes of them."""

    def decorate(kind: type) -> type:
        kind.__repr__ = lambda self: build(self).text()
        kind._repr_html_ = lambda self: build(self).html()
        return kind

    return decorate
