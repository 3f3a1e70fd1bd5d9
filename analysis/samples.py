# SPDX-License-Identifier: GPL-2.0-only
"""Samples: the one shape every measurement takes, one row per observation, checked on entry."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim import MEASURED_ARCHES
from sim.ident import short_id

# Where pyarrow is, pandas would keep text in Arrow's UTF-8. A name from a capture, or a path, may
# hold what has none: half a surrogate pair.
pd.options.mode.string_storage = "python"

WIDTH = 100  # columns of to_text()
UNITS = ("s", "ns", "instructions", "count", "bytes", "pages", "percent", "per_s", "J", "1")
DTYPES = {
    "machine": "string",
    "arch": "string",
    "kernel": "string",
    "workload": "string",
    "order": "Int64",
    "metric": "string",
    "unit": "string",
    "value": "float64",
    "run": "Int64",
    "part": "string",
    "symbol": "string",
    "mark": "string",
    "source": "string",
}
COLUMNS = tuple(DTYPES)
_REQUIRED = ("metric", "unit", "value", "run", "source")
OPTIONAL = ("part", "symbol", "mark")  # shown where a row has one
_TIMES = ("real", "user", "sys")  # what time(1) prints; always kept in seconds


class SamplesError(ValueError):
    """A row or column that is not a sample: its text says what, where and what was expected."""

    def __init__(self, what: str, where: str, expected: str):
        super().__init__(f"{where}: found {what}; expected {expected}")


@dataclass(frozen=True, eq=False)
class Samples:
    """Observations, one a row, with the columns of `COLUMNS`, and remarks that travel with them.

    frame: dtypes as in `DTYPES`; machine, arch, kernel, workload, order, part, symbol and mark may
    be missing (pd.NA), the rest may not. arch is one of `MEASURED_ARCHES`, unit one of `UNITS`
    (real, user and sys: "s"; "1": a number without a dimension, or whose unit the metric's name
    tells), value finite and >= 0, order and run >= 0, source "file:line". part: what of the machine
    or the program a row is about ("cpu=0", a call chain as printed); symbol: its function, the same
    across builds; mark: why the value is less than it looks ("multiplexed", "cut"). The frame is
    copied. Raises SamplesError.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_columns(self.frame)
        frame = self.frame.reset_index(drop=True).copy()
        _check_values(frame)
        object.__setattr__(self, "frame", frame)
        object.__setattr__(self, "notes", tuple(self.notes))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, object]], notes: Iterable[str] = ()) -> Samples:
        """Samples from mappings of column to value, a column left out is missing; SamplesError."""
        rows = list(rows)
        for place, row in enumerate(rows):
            if unknown := sorted(set(row) - set(COLUMNS)):
                raise SamplesError(f"unknown columns {unknown}", f"row {place}", ", ".join(COLUMNS))
        return cls.from_columns({n: [row.get(n) for row in rows] for n in COLUMNS}, notes)

    @classmethod
    def from_columns(cls, columns: Mapping[str, list], notes: Iterable[str] = ()) -> Samples:
        """Samples from lists of one length by column name, None is missing; SamplesError.

        Takes less memory than from_rows; a column left out is missing throughout.
        """
        size = len(next(iter(columns.values())))
        made = {name: _column(columns.get(name, [None] * size), name) for name in COLUMNS}
        return cls(pd.DataFrame(made), tuple(notes))

    @property
    def id(self) -> str:
        """Id of the rows; notes do not count, nor do part, symbol and mark where no row has any."""
        empty = [name for name in OPTIONAL if self.frame[name].isna().all()]
        frame = self.frame.drop(columns=empty)
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return short_id(rows)

    def to_text(self) -> str:
        """An ASCII table at most 100 columns wide, the notes as footnotes; the unprintable escaped.

        What all rows share stands above the table; a text too long for its cell is a [number] told
        below it.
        """
        cells = _cells(self.frame).map(_ascii)
        shared = [name for name in cells if len(cells) > 1 and cells[name].nunique() == 1]
        table, told = _fitted(cells.drop(columns=shared))
        head = [f"{name}: {cells[name].iloc[0]}" for name in shared]
        feet = [f"[{n}] {text}" for n, text in enumerate(told, 1)]
        feet += [f"note: {_ascii(note)}" for note in self.notes]
        parts = [_wrapped(head), table, _wrapped([*feet, f"n = {len(cells)} rows, id {self.id}"])]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _repr_html_(self) -> str:
        table = _cells(self.frame).to_html(index=False, escape=True, border=0)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"{table}<ul>{notes}</ul><p>n = {len(self.frame)} rows, id {self.id}</p>"


def _column(values: list, name: str) -> pd.Series:
    try:
        return pd.Series(values, dtype=object).astype(DTYPES[name])
    except (TypeError, ValueError, OverflowError) as cause:
        raise SamplesError(f"a value that does not fit ({cause})", name, DTYPES[name]) from cause


def _check_columns(frame: pd.DataFrame) -> None:
    if tuple(frame.columns) != COLUMNS:
        raise SamplesError(f"columns {list(frame.columns)}", "frame", f"exactly {list(COLUMNS)}")
    for name, dtype in DTYPES.items():
        if frame[name].dtype != dtype:
            raise SamplesError(f"dtype {frame[name].dtype}", f"column {name}", dtype)


def _check_values(frame: pd.DataFrame) -> None:
    for name in _REQUIRED:
        _refuse(frame, name, frame[name].isna(), "a value (leave unmeasured rows out)")
    value, arch, unit = frame["value"], frame["arch"], frame["unit"]
    _refuse(frame, "value", ~np.isfinite(value) | (value < 0), "a finite number >= 0")
    unknown = arch.notna() & ~arch.isin(MEASURED_ARCHES)
    _refuse(frame, "arch", unknown, f"one of {MEASURED_ARCHES} or missing")
    _refuse(frame, "unit", ~unit.isin(UNITS), f"one of {UNITS}")
    _refuse(frame, "unit", frame["metric"].isin(_TIMES) & (unit != "s"), "s, for a time")
    for name in ("order", "run"):
        _refuse(frame, name, frame[name].lt(0).fillna(False), "0 or more")
    for name in ("machine", "kernel", "workload", "metric", *OPTIONAL):
        blank = frame[name].str.strip().eq("").fillna(False)
        _refuse(frame, name, blank, "text, or missing if it is not known")
    _refuse(frame, "source", ~frame["source"].str.fullmatch(r"(?s:.+):[0-9]+"), "file:line")


def _refuse(frame: pd.DataFrame, name: str, wrong: pd.Series, expected: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        where = f"row {row} ({frame['source'].iloc[row]})"
        raise SamplesError(f"{name} {frame[name].iloc[row]!r}", where, expected)


# The frame as strings, source as its two parts, "-" for what is missing.
def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    empty = [name for name in OPTIONAL if frame[name].isna().all()]
    cells = frame.drop(columns=["source", *empty]).astype(object)
    cells = cells.map(lambda v: "-" if pd.isna(v) else str(v))
    sources = [source.rpartition(":") for source in frame["source"]]
    return cells.assign(file=[name for name, _, _ in sources], line=[at for _, _, at in sources])


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _wrapped(lines: list[str]) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


# The widest cells that fit; at 5 characters all fourteen columns do (the longest title has 8).
def _fitted(cells: pd.DataFrame) -> tuple[str, list[str]]:
    for limit in (60, 40, 24, 16, 12, 10, 7, 5):
        texts = dict.fromkeys(text for name in cells for text in cells[name])
        told = {text: f"[{n}]" for n, text in enumerate((t for t in texts if len(t) > limit), 1)}
        table = _table(cells.map(lambda text, told=told: told.get(text, text)))
        if max(map(len, table.splitlines()), default=0) <= WIDTH:
            break
    return table, list(told)


def _table(cells: pd.DataFrame) -> str:
    columns = []
    for name in cells:
        width = max([len(name), *map(len, cells[name])])
        pad = str.rjust if name in ("order", "value", "run", "line") else str.ljust
        columns.append([pad(text, width) for text in (name, "-" * width, *cells[name])])
    return "\n".join(" ".join(row).rstrip() for row in zip(*columns, strict=True))
