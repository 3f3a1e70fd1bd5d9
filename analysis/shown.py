# SPDX-License-Identifier: GPL-2.0-only
"""How results of `analysis` show themselves: one table each, for Jupyter and for a terminal.

Numbers have the digits that their errors leave; what a reader must know stands in footnotes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.digits import four, of_interval, with_error, written
from analysis.interval import Interval
from analysis.units import folio_size
from sim.table import Table

if TYPE_CHECKING:
    from analysis.explain import Attribution
    from analysis.fit import CostModel
    from analysis.predict import Prediction
    from analysis.timing import TimeFit


def cost_model(model: CostModel) -> Table:
    """Return the cost of each event with its standard error."""
    rows = tuple(
        (row.group, *with_error(row.instructions, row.standard_error), row.verdict,
         row.what + (f" (as {row.priced_as})" if row.priced_as else ""))
        for row in model.table().itertuples()
    )  # fmt: skip
    title = (
        f"{model.arch}: instructions per event, {model.source}, n = {len(model.cells)} cells, "
        f"{model.dof} degrees of freedom, id {model.id}"
    )
    return Table(title, ("event", "instructions", "+-", "verdict", "what"), rows, model.warnings)


def time_fit(costs: TimeFit) -> Table:
    """Return the cost of each term in time, 95%, and how it is known."""
    rows = tuple(
        (row.term, of_interval(Interval(row.low, row.best, row.high)), row.unit,
         f"{row.from_prior:.0%}", row.verdict)
        for row in costs.table().itertuples()
    )  # fmt: skip
    rank, occurring = costs.rank
    title = f"{costs.machine.name}, {costs.machine.arch}: costs in time, 95%, id {costs.id}"
    notes = (*costs.machine.notes, f"{rank} of {occurring} costs are told apart by the times alone")
    return Table(title, ("term", "cost", "unit", "prior has", "verdict"), rows, notes)


def prediction(value: Prediction) -> Table:
    """Return what is saved, with its interval and assumptions, beside what was measured."""
    what = "elapsed reduction" if value.metric == "time" else "reduction of instructions"
    rows = [
        (what, of_interval(value.elapsed_reduction, 100, "%")),
        ("speedup", of_interval(value.speedup, 1, "x")),
    ]
    if value.measured is not None:
        rows.append(("measured", f"{four(100 * value.measured)}%"))
    title = (
        f"{value.arch}, {folio_size(value.order)}: {value.before} to {value.after}, {value.metric}"
        f"{', blind' if value.blind else ''}, id {value.id}"
    )
    return Table(title, ("", "best (95%)"), tuple(rows), value.assumptions)


def attribution(value: Attribution) -> Table:
    """Return the parts of a difference, largest first, each with its interval."""
    scale, unit = (1e3, "ms") if value.unit == "s" else (1e-6, "million instructions")
    ends = {
        value.before: value.before_value, value.after: value.after_value,
        "difference": value.difference,
    }  # fmt: skip
    rows = [(name, four(end * scale)) for name, end in ends.items()]
    for part in value.parts.itertuples():
        known = not (pd.isna(part.low) or pd.isna(part.high))
        interval = Interval(part.low, part.value, part.high)
        rows.append(
            (part.part, of_interval(interval, scale) if known else written(part.value * scale, 3))
        )
    title = (
        f"{value.arch}, {folio_size(value.order)}: {value.before} to {value.after}, {value.basis}, "
        f"id {value.id}"
    )
    return Table(title, ("", f"{unit} (95%)"), tuple(rows), value.notes)
