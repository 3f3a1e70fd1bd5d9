# SPDX-License-Identifier: GPL-2.0-only
"""What a sweep found: one tidy table over its points, and one figure."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from analysis import grid, stores
from analysis.sheet import (
    COLOURS,
    GROUND,
    MARKERS,
    SERIES,
    WIDTH,
    frame,
    legend_above,
    name_axis,
    number_ticks,
    one_id,
    order_axis,
    require,
    styled,
    svg,
)
from analysis.units import two_digits
from sim import ARCHES

# What a notebook was asked for, which the parameters say already: never the number that is drawn.
INPUTS = "inputs."
# Beyond so many series a legend says less than the table; beyond so many rows an axis does.
MOST_SERIES, MOST_ROWS = 12, 60
# A number that varies by more is drawn on a logarithmic axis.
LINEAR_RATIO = 20
TENS = [10.0**power for power in range(-12, 19)]
ERROR = "error"


class SweptError(ValueError):
    """A figure that cannot be drawn: no such number."""


def write(
    store: stores.Store, name: str, records: Sequence[Mapping], number: str = ""
) -> list[str]:
    """Write NAME.csv, NAME.parquet and NAME.svg; return a line for each, or why no figure is there.

    Args:
        records: what `sweep.sweep` returns, in the order of the points.
        number: what the figure shows; empty: the number that varies most.

    Raises:
        StoreError: a file cannot be written.
        SweptError: no point has the number that is asked for; the table is written.
    """
    rows = table(records)
    said = [
        store.write(f"{name}.csv", csv(rows)),
        store.write(f"{name}.parquet", parquet(rows)),
    ]
    try:
        figure = summary(rows, telling_number(rows, number))
    except SweptError as error:
        if number:
            raise
        return [*said, f"no figure: {error}"]
    return [*said, store.write(f"{name}.svg", svg(figure))]


def table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Return a row for each number of each point, and one for each point without numbers.

    Args:
        records: what `sweep.sweep` returns, in the order of the points.

    Returns:
        Columns `id`, the parameters, `status`, `name`, `value` (int or float; missing where the
        notebook saved text or nothing) and `text`. A failed point has one row, named `error`.
    """
    rows = []
    for record in records:
        head = {"id": record["id"], **record["parameters"], "status": record["status"]}
        if record["failure"]:
            numbers = {ERROR: record["failure"]["error"]}
        else:
            numbers = record["numbers"] or {"": None}
        rows += [head | {"name": name} | _cell(value) for name, value in numbers.items()]
    values = pd.Series([row.pop("value") for row in rows], dtype=object)
    found = pd.DataFrame(rows)
    found.insert(len(found.columns) - 1, "value", values)  # whole numbers stay whole
    return found


def _cell(value: object) -> dict[str, object]:
    if isinstance(value, int | float):
        return {"value": int(value) if isinstance(value, bool) else value, "text": ""}
    return {"value": None, "text": "" if value is None else str(value)}


def csv(rows: pd.DataFrame) -> bytes:
    """Return the table as CSV: whole numbers whole, others with all their digits."""
    return rows.to_csv(index=False, lineterminator="\n").encode()


def parquet(rows: pd.DataFrame) -> bytes:
    """Return the table as Parquet: values as float64, a parameter of several types as text."""
    content = BytesIO()
    mixed = {name: str for name in _parameters(rows) if rows[name].dtype == object}
    typed = rows.astype(mixed | {"value": float})
    typed.to_parquet(content, index=False, engine="pyarrow")
    return content.getvalue()


def telling_number(rows: pd.DataFrame, asked: str = "") -> str:
    """Return the name of the number that is drawn: the one asked for, or which differs most.

    Between points that share the parameter across, if others tell them apart: where two kernels
    are swept over folio orders, it is what the kernels do differently.

    Raises:
        SweptError: no such number, or none at all.
    """
    numbers = _numbers(rows)
    if asked and asked in set(numbers["name"]):
        return asked
    known = [name for name in numbers["name"].unique() if not name.startswith(INPUTS)]
    if asked or not known:
        found = ", ".join(known) or "none"
        what = f"no number {asked!r}" if asked else "no number to draw"
        raise SweptError(f"{what}; the notebook saved {found}")
    names = _differing(rows)
    ratios = {name: _ratio(_widest(own, names)) for name, own in numbers.groupby("name")}
    return max(known, key=ratios.get)  # of equals, the one that was saved first


# Where points differ most: those that share the parameter across, if others tell them apart.
def _widest(drawn: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    across = _across(drawn, names)
    if across is None or len(names) == 1:
        return drawn
    return max((own for _, own in drawn.groupby(across)), key=_ratio)


# Largest over smallest; what is 0 or less anywhere has none that means anything.
def _ratio(drawn: pd.DataFrame) -> float:
    low, high = drawn["value"].min(), drawn["value"].max()
    return high / low if low > 0 else 0.0


def _differing(rows: pd.DataFrame) -> list[str]:
    return [name for name in _parameters(rows) if rows[name].astype(str).nunique() > 1]


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["value"].notna()].astype({"value": float})


@styled
def summary(rows: pd.DataFrame, number: str) -> Figure:
    """Draw one number of each point, against the whole-number parameter with the most values.

    The title says where it differs most between points that share that parameter. Colour is the
    architecture, the marker the kernel, open as what a model says. Without such a parameter each
    point has a row.

    Args:
        rows: what `table` returns.
        number: one of its names.

    Raises:
        ValueError: no point has that number.
    """
    drawn = _numbers(rows)
    drawn = drawn[drawn["name"] == number].reset_index(drop=True)
    require(len(drawn), f"point with {number}")
    names = _differing(drawn)
    across = _across(drawn, names)
    figure = Figure(figsize=(WIDTH, 5.2 if across else 2 + 0.26 * min(len(drawn), MOST_ROWS)))
    body = figure.subfigures()
    axes = body.subplots()
    if across:
        _by_number(axes, drawn, across, [name for name in names if name != across], number)
        if 1 < len(axes.get_legend_handles_labels()[0]) <= MOST_SERIES:
            legend_above(body, axes, ncols=2)
    else:
        _by_row(axes, drawn, names, number)
    points = rows.drop_duplicates("id")
    failed = int((points["status"] != "done").sum())
    n = f"n = {len(drawn)} of {len(points)} points, {failed} failed"
    frame(figure, _finding(drawn, names, number), n, one_id(rows["id"]), _notes(drawn, across))
    return figure


def _parameters(rows: pd.DataFrame) -> list[str]:
    columns = list(rows.columns)
    return columns[1 : columns.index("status")]


def _across(drawn: pd.DataFrame, names: Sequence[str]) -> str | None:
    whole = [name for name in names if pd.api.types.is_integer_dtype(drawn[name])]
    return max(whole, key=lambda name: drawn[name].nunique(), default=None)


def _by_number(
    axes: Axes, drawn: pd.DataFrame, across: str, others: Sequence[str], number: str
) -> None:
    groups = drawn.groupby(list(others), sort=False) if others else [((), drawn)]
    groups = list(groups)
    step = 0.6 / len(groups) if across == "order" else 0.0
    for at, (_, own) in enumerate(groups):
        place = own[across] + step * (at - (len(groups) - 1) / 2)
        label = grid.label(own.iloc[0], others) or number
        axes.plot(place, own["value"], label=label, mfc=GROUND, **_look(own.iloc[0], at))
    if across == "order":
        arches = set(drawn.get("arch", ())) & ARCHES.keys()
        plain = all(ARCHES[arch].page_shift == 12 for arch in arches)
        order_axis(axes, drawn["order"], sizes=plain)
    else:
        axes.set_xlabel(across)
    axes.set_ylabel(number)
    _scale(axes, "y", drawn["value"])


def _look(point: pd.Series, at: int) -> dict[str, object]:
    arch = point.get("arch")
    spare = list(ARCHES).index(arch) if arch in ARCHES else at  # an architecture keeps its colour
    colour = COLOURS.get(arch, SERIES[spare % len(SERIES)])
    markers = [*MARKERS.values(), *"vP<>X*"]
    marker = MARKERS.get(point.get("kernel"), markers[at % len(markers)])
    return {"color": colour, "marker": marker, "linestyle": "-", "linewidth": 0.8}


def _by_row(axes: Axes, drawn: pd.DataFrame, names: Sequence[str], number: str) -> None:
    shown = drawn.head(MOST_ROWS)
    for row, (_, point) in enumerate(shown.iterrows()):
        axes.plot(point["value"], row, mfc=GROUND, **_look(point, 0))
    labels = [grid.label(point, names) or point["id"] for _, point in shown.iterrows()]
    name_axis(axes, labels, [_digits(point) for _, point in shown.iterrows()])
    axes.set_xlabel(number)
    _scale(axes, "x", shown["value"])


def _scale(axes: Axes, which: str, values: pd.Series) -> None:
    axis = getattr(axes, f"{which}axis")
    if values.min() > 0 and values.max() > LINEAR_RATIO * values.min():
        axes.set(**{f"{which}scale": "log"})
        number_ticks(axis, TENS)
    elif values.min() >= 0:
        axes.set(**{f"{which}lim": (0, 1.05 * values.max() or 1)})
        axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def _finding(drawn: pd.DataFrame, names: Sequence[str], number: str) -> str:
    own = _widest(drawn, names)
    low, high = (own.loc[at] for at in (own["value"].idxmin(), own["value"].idxmax()))
    if low["value"] == high["value"]:
        return f"{number} is {_digits(low)} in all {len(drawn)} points"
    shared = [name for name in names if own[name].astype(str).nunique() == 1]
    others = [name for name in names if low[name] != high[name]]
    where = f" at {grid.label(low, shared)}" if shared else ""
    ratio = high["value"] / low["value"] if low["value"] > 0 else None
    times = f", {two_digits(ratio)} times as many" if ratio else ""
    return (
        f"{number}{where}: {_digits(low)} with {grid.label(low, others)}, "
        f"{_digits(high)} with {grid.label(high, others)}{times}"
    )


def _digits(point: pd.Series) -> str:
    value = point["value"]
    return f"{value:,.0f}" if np.isclose(value, round(value), rtol=0) else f"{value:,.4g}"


def _notes(drawn: pd.DataFrame, across: str | None) -> list[str]:
    if across or len(drawn) <= MOST_ROWS:
        return []
    return [f"the first {MOST_ROWS} points are drawn; the table has all"]
