# SPDX-License-Identifier: GPL-2.0-only
"""Sensitivity: how far each assumption moves the elapsed reduction, the most first.

An assumption that is a choice (how the TLB is flushed, which folio size) moves the answer from one
choice to another. A cost moves it from where 2.5% of its draws lie to where 97.5% do, and takes
with it, as a straight line over the draws, what it is tied to.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis import elapsed, timing
from analysis.stalls import FLUSHES, TERM_NAMES, TERMS
from analysis.units import folio_size, two_digits
from sim import ARCHES
from sim.arch import isa


def tornado(
    costs: timing.TimeFit, order: int, *, before: str = "references", after: str = "unmap"
) -> pd.DataFrame:
    """Return what each assumption does to the elapsed reduction of one step.

    One row an assumption, the widest first: assumption; at_low, at_high, the two cases in words;
    low, high: the reductions there; best: where none is moved; swing: |high - low|.
    """
    asked = (costs, before, after, order)
    found = elapsed.reduction(*asked)
    rows = [*_choices(asked), *_costs(costs, found), *_form(found)]
    table = pd.DataFrame(rows, columns=["assumption", "at_low", "at_high", "low", "high"])
    table["best"] = found.interval.best
    table["swing"] = (table["high"] - table["low"]).abs()
    return table.sort_values("swing", ascending=False, ignore_index=True)


def _choices(asked) -> Iterator[tuple]:
    costs, before, after, order = asked
    arch = costs.machine.arch

    def best(order: int = order, **options) -> float:
        return elapsed.reduction(costs, before, after, order, **options).interval.best

    smaller, larger = max(order - 1, 0), min(order + 1, ARCHES[arch].pmd_order - 1)
    sizes = (folio_size(smaller), folio_size(larger))
    yield "folio size", *sizes, best(smaller), best(larger)
    if isa(arch) != "arm64":
        ways = {flush: best(flushes=(flush,)) for flush in FLUSHES}
        low, high = min(ways, key=ways.get), max(ways, key=ways.get)
        yield "TLB flush", low, high, ways[low], ways[high]
    yield "processes that map", "1", "2", best(), best(mapped_by=2)


def _costs(costs: timing.TimeFit, found: elapsed.Reduction) -> Iterator[tuple]:
    for place in np.flatnonzero(costs.occurring):
        draws = costs.posterior.costs[:, place]
        slope = np.cov(draws, found.costs_only)[0, 1] / max(draws.var(), 1e-30)
        ends = np.percentile(draws, (2.5, 97.5))
        low, high = found.interval.best + slope * (ends - np.median(draws))
        unit = "ns" if TERMS[place].unit == "ns" else "ns/instr."
        yield TERM_NAMES[place], *(f"{two_digits(end)} {unit}" for end in ends), low, high


def _form(found: elapsed.Reduction) -> Iterator[tuple]:
    reach = 1.96 * found.model_sd
    best = found.interval.best
    yield "form of the model", "-1.96 sd", "+1.96 sd", best - reach, best + reach


def to_text(table: pd.DataFrame, question: str) -> str:
    """Return the table as lines."""
    lines = [
        question,
        "",
        f"{'assumption':<24}{'from':<22}{'to':<22}{'from':>8}{'to':>8}{'swing':>8}",
    ]
    lines += [
        f"{row.assumption:<24}{row.at_low:<22}{row.at_high:<22}{row.low:>8.1%}{row.high:>8.1%}"
        f"{row.swing:>8.1%}"
        for row in table.itertuples()
    ]
    return "\n".join([*lines, "", f"best guess with nothing moved: {table['best'].iloc[0]:.1%}"])
