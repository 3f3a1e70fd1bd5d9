# SPDX-License-Identifier: GPL-2.0-only
"""Ablations: what a step saves with one thing about it changed, the rest as published.

In time, from the costs of one machine; in instructions, of real kernels under emulation where that
very cell was run. What was not measured is missing, never 0.
"""

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis import elapsed, measurements, timing
from analysis.interval import Interval
from analysis.stalls import FLUSHES
from analysis.units import folio_size
from sim import ARCHES
from sim.arch import isa

STEP = ("base", "unmap")
# The memory starts a page beside where blocks of 16 entries could: no block is contiguous.
MISALIGNED = {"vma_shift": 1}
ORDERS = (2, 4, 6, 8)


def ablations(costs: timing.TimeFit, order: int) -> pd.DataFrame:
    """Return what each change of kernel, memory or machine does to what is saved.

    One row a case: what was changed, case; low, best, high: elapsed reduction, 95%; seconds
    before and after; instructions: the measured reduction of the same, missing where none was run.
    The first row of each `what` is the plain case or holds it, the step is base to unmap unless the
    case says another, and time is of the machine's request.
    """
    rows = [
        *_kernels(costs, order), *_sizes(costs), *_processes(costs, order),
        *_page_tables(costs, order), *_flushes(costs, order), *_lists(costs, order),
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _row(costs, what: str, case: str, order: int, step=STEP, cell=None, **options) -> dict:
    # cell: what tells the emulated cells from the plain ones; None where none are like it.
    found = elapsed.reduction(costs, *step, order, **options)
    counted = np.nan if cell is None else _counted(isa(costs.machine.arch), order, step, cell)
    return _cells(what, case, found.interval, (found.before_s, found.after_s), counted)


def _cells(what, case, interval: Interval, seconds, counted: float) -> dict:
    before_s, after_s = seconds
    return {
        "what": what, "case": case, **interval._asdict(), "before_s": before_s,
        "after_s": after_s, "instructions": counted,
    }  # fmt: skip


def _counted(arch: str, order: int, step: tuple[str, str], cell: dict) -> float:
    plain = {"lru": "classic", "cpus": 1, "mapped_by": 1, "arch": arch, "order": order}
    cells = measurements.instructions()
    for column, value in (plain | cell).items():
        cells = cells[cells[column] == value]
    least = cells.groupby("kernel")["instructions"].min()
    return float(1 - least[step[1]] / least[step[0]]) if set(step) <= set(least.index) else np.nan


def _kernels(costs, order: int) -> Iterator[dict]:
    for case, after in (("both", "unmap"), ("references only", "references"),
                        ("unmap only", "unmap-only")):  # fmt: skip
        yield _row(costs, "batches", case, order, ("base", after), {})
    yield _row(costs, "batches", "unmap on references", order, ("references", "unmap"), {})


def _sizes(costs) -> Iterator[dict]:
    for order in ORDERS:
        yield _row(costs, "folio size", folio_size(order), order, cell={})


def _processes(costs, order: int) -> Iterator[dict]:
    for nr in (1, 2, 4):
        yield _row(costs, "processes", str(nr), order, cell={"mapped_by": nr}, mapped_by=nr)


def _page_tables(costs, order: int) -> Iterator[dict]:
    if ARCHES[costs.machine.arch].cont_order == 0:
        return
    yield _row(costs, "contpte", "on", order, cell={})
    yield _row(costs, "contpte", "off", order, **MISALIGNED)


def _flushes(costs, order: int) -> Iterator[dict]:
    if isa(costs.machine.arch) == "arm64":
        return
    for flush in FLUSHES:
        yield _row(costs, "TLB flush", flush, order, flushes=(flush,))


def _lists(costs, order: int) -> Iterator[dict]:
    # Time of the multi-generational LRU is not told: what it does is not among the event groups.
    # Of the orders that were run, the nearest.
    nothing = Interval(np.nan, np.nan, np.nan)
    cells = measurements.instructions()
    run = cells["order"][cells["order"] < ARCHES[costs.machine.arch].pmd_order].unique()
    nearest = int(min(run, key=lambda other: (abs(other - order), other)))
    for lru in ("classic", "mglru"):
        counted = _counted(isa(costs.machine.arch), nearest, STEP, {"lru": lru})
        case = f"{lru}, {folio_size(nearest)}"
        yield _cells("LRU", case, nothing, (np.nan, np.nan), counted)


def sentence(table: pd.DataFrame) -> str:
    """Return in one sentence what the batches save, and what changes that most."""
    kernels = table["what"] == "batches"
    batches = table[kernels].set_index("case")["best"]
    spread = table[~kernels].dropna(subset="best").groupby("what")["best"].agg(np.ptp)
    most = spread.sort_values(ascending=False).index[:2]
    reach = " and ".join(f"{what} by {100 * spread[what]:.0f} points" for what in most)
    return (
        f"Batched reference checks alone save {batches['references only']:.0%} of the time, "
        f"batched unmapping alone {batches['unmap only']:.0%}, both {batches['both']:.0%}; of "
        f"what was changed, {reach} move that most"
    )


def to_text(table: pd.DataFrame, heading: str) -> str:
    """Return the table as lines; a dash where nothing was measured."""
    lines = [
        heading,
        "",
        f"{'':<13}{'':<26}{'time saved':>20}{'s':>9}{'to s':>8}{'instructions':>14}",
    ]
    for what, own in table.groupby("what", sort=False):
        for place, row in enumerate(own.itertuples()):
            saved = f"{row.best:.0%} ({row.low:.0%} to {row.high:.0%})"
            known = np.isfinite(row.best)
            times = f"{saved:>20}{row.before_s:>9.3f}{row.after_s:>8.3f}" if known else f"{'-':>37}"
            counted = f"{row.instructions:.0%}" if np.isfinite(row.instructions) else "-"
            lines.append(f"{what if not place else '':<13}{row.case:<26}{times}{counted:>14}")
    lines += ["", *textwrap.wrap(sentence(table) + ".", 100)]
    lines += ["", "-: no such run; instructions: measured under emulation, least of repeats"]
    return "\n".join(lines)
