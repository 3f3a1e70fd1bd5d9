# SPDX-License-Identifier: GPL-2.0-only
"""Conformance: whether the simulator's counts are the kernel's, cell by cell.

A cell is exact if every function that the simulator counts and the profiler lists has the kernel's
hits, pgscan and pgsteal included, but for what measuring itself adds (`sim.events`). Two facts of a
run are not in a table of counters, and may be parameters of the world: how many order-0 folios
still waited in a per-CPU lru_add batch, and, where the two-second statistics worker ran, which node
calls found the statistics fresh. A cell that needs one number is told apart from one that needs
none, and from one whose run was so long that the worker ran several times: its moments then are
those of a clock with one period, of which period, phase and the cost of a removal beside that of a
check are searched. Nothing else is ever fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from analysis import measurements
from analysis.fit import cell_world, simulate_cell
from sim import ARCHES, KERNELS, Events
from sim.events import MEASURING_OFFSETS
from sim.layout import lay_out
from sim.reclaim import walk
from sim.state import Count

COLUMNS = [*measurements.CELL, "function", "hits"]
NUMBERS = ["cpus", "mapped_by", "map_bytes", "reclaim_bytes", "order", "hits"]
# The clock that is searched: cost of try_to_unmap() in calls of folio_referenced(), how often the
# worker ran, and into how many parts its period and phase are divided.
REMOVAL_COSTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
NR_FLUSHES = (2, 3, 4, 5, 6)
PARTS = 40
# What tells most candidates from the measured run, before all functions are compared.
TELLING = (
    Count.PGSCAN,
    Count.PGSTEAL,
    Count.SHRINK_NODE,
    Count.SHRINK_ACTIVE_LIST,
    Count.SHRINK_FOLIO_LIST,
    Count.MEM_CGROUP_ITER,
)
# Folios that fit into an lru_add batch without filling it.
BATCHES = range(1, 31)


class ConformanceError(ValueError):
    """A file of counters that cannot be compared; says what is missing and where."""


@dataclass(frozen=True)
class Verdict:
    """How one cell compares.

    Attributes:
        cell: the cell's columns and values.
        parameter: "" if none was needed, else the world's parameter as --option value.
        differing: functions that differ, with (measured, simulated); empty for an exact cell.
    """

    cell: dict
    parameter: str
    differing: dict[str, tuple[int, int]]

    @property
    def exact(self) -> bool:
        """Whether every count is the kernel's."""
        return not self.differing


def compare(counters: pd.DataFrame | None = None) -> list[Verdict]:
    """Compare every cell of a table of counters, the shipped one by default.

    Raises:
        ConformanceError: the table lacks columns, or has none of a cell's pages scanned.
        WorldError: a cell is of a world that cannot be simulated.
    """
    counters = measurements.counters() if counters is None else counters
    verdicts = []
    for values, rows in counters.groupby(measurements.CELL, sort=True):
        cell = {
            name: value if isinstance(value, str) else int(value)
            for name, value in zip(measurements.CELL, values, strict=True)
        }
        hits = dict(zip(rows["function"], rows["hits"].astype(int), strict=True))
        verdicts.append(_verdict(cell, hits))
    return verdicts


def read_counters(path: str | Path) -> pd.DataFrame:
    """Return a table of counters in the columns of data/emulated/counters.csv.

    Raises:
        ConformanceError: it cannot be read, lacks a column, or has a row that is no count.
    """
    try:
        counters = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ConformanceError(f"{path}: {error}; expected a CSV table") from None
    if missing := [name for name in COLUMNS if name not in counters]:
        raise ConformanceError(
            f"{path}:1: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}"
        )
    for name in NUMBERS:
        wrong = ~counters[name].str.fullmatch("[0-9]{1,18}")
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            found = counters[name].iloc[row]
            raise ConformanceError(f"{path}:{row + 2}: {name} {found!r}: expected a whole number")
        counters[name] = counters[name].astype("int64")
    return counters


def summary(verdicts: list[Verdict]) -> dict[str, int]:
    """Return cells, exact, and these by what they needed: nothing, one number, several flushes."""
    without = sum(verdict.exact and not verdict.parameter for verdict in verdicts)
    several = sum("," in verdict.parameter for verdict in verdicts)
    exact = sum(verdict.exact for verdict in verdicts)
    return {
        "cells": len(verdicts),
        "exact": exact,
        "exact_without_parameters": without,
        "exact_with_one_parameter": exact - without - several,
        "exact_with_several_flushes": several,
        "not_exact": len(verdicts) - exact,
    }


def by_world(verdicts: list[Verdict]) -> list[dict]:
    """Return `summary` for each architecture, LRU, worker, number of CPUs and of processes."""
    names = ("arch", "lru", "stats_worker", "cpus", "mapped_by")
    groups: dict[tuple, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(tuple(verdict.cell[name] for name in names), []).append(verdict)
    return [
        dict(zip(names, values, strict=True)) | summary(group) for values, group in groups.items()
    ]


def to_dict(verdicts: list[Verdict]) -> dict:
    """Return everything as `reclaim conformance --json` prints it."""
    return {
        "summary": summary(verdicts),
        "groups": by_world(verdicts),
        "not_exact": [
            verdict.cell | {"differing": {n: list(pair) for n, pair in verdict.differing.items()}}
            for verdict in verdicts
            if not verdict.exact
        ],
    }


def to_text(verdicts: list[Verdict]) -> str:
    """Return the same as a table, then each cell that is not exact with what differs."""
    head = (
        "arch",
        "lru",
        "worker",
        "cpus",
        "procs",
        "cells",
        "exact",
        "one param",
        "flushes",
        "not",
    )
    lines = ["  ".join(f"{name:>9}" for name in head)]
    for group in by_world(verdicts):
        values = [value for name, value in group.items() if name != "exact"]
        lines.append("  ".join(f"{value:>9}" for value in values))
    for verdict in verdicts:
        if verdict.exact:
            continue
        cell = " ".join(str(value) for value in verdict.cell.values())
        differing = ", ".join(
            f"{name} {measured} not {simulated}"
            for name, (measured, simulated) in list(verdict.differing.items())[:3]
        )
        lines.append(f"not exact: {cell}: {len(verdict.differing)} functions: {differing}")
    total = summary(verdicts)
    lines.append(
        f"{total['exact']} of {total['cells']} cells exact, {total['exact_without_parameters']} "
        "without a parameter"
    )
    return "\n".join(lines)


def _verdict(cell: dict, hits: dict[str, int]) -> Verdict:
    row = SimpleNamespace(**cell)
    plain = _differing(simulate_cell(row), hits)
    if not plain:
        return Verdict(cell, "", {})
    for name, value in _parameters(row, hits):
        if not _differing(simulate_cell(row, **{name: value}), hits):
            return Verdict(cell, f"--{name.replace('_', '-')} {value}", {})
    return Verdict(cell, "", plain)


def _parameters(cell: SimpleNamespace, hits: dict[str, int]) -> Iterator[tuple[str, object]]:
    if cell.order == 0 and (cell.lru == "mglru" or cell.cpus > 1):
        yield from (("lru_add_batch", number) for number in BATCHES)
    if cell.stats_worker == "on" and cell.lru == "classic":
        yield from (("stats_flush", str(call)) for call in range(hits.get("shrink_node", 0)))
        yield from (("stats_flush", flushes) for flushes in _periodic(cell, hits))


def _periodic(cell: SimpleNamespace, hits: dict[str, int]) -> Iterator[str]:
    # Lists of node calls that a worker with one period may have hit, and that agree in `TELLING`.
    @cache
    def run(flushes: tuple[int, ...]) -> tuple[np.ndarray, bool]:
        world = cell_world(cell, stats_flush=",".join(map(str, flushes)) or "never")
        memory = lay_out(world, ARCHES[cell.arch])
        counts, _ = walk(world, memory, cell.arch, KERNELS[cell.kernel])
        agrees = all(hits.get(count.name.lower(), nr) == nr for count, nr in _told(counts))
        return memory.lruvec.clock[: counts[Count.SHRINK_NODE]], agrees

    tried = set()
    for removal_cost, nr_flushes in product(REMOVAL_COSTS, NR_FLUSHES):
        total = run(())[0][-1] @ (1, removal_cost)
        for period in np.linspace(total / (nr_flushes + 1), total / (nr_flushes - 1), PARTS):
            for phase in np.linspace(0, period, PARTS, endpoint=False):
                flushes = _struck(run, removal_cost, period, phase)
                if len(flushes) > 1 and flushes not in tried:
                    tried.add(flushes)
                    if run(flushes)[1]:
                        yield ",".join(map(str, flushes))


def _told(counts: np.ndarray) -> Iterator[tuple[Count, int]]:
    return ((count, int(counts[count])) for count in TELLING)


def _struck(run, removal_cost: float, period: float, phase: float) -> tuple[int, ...]:
    # The node calls that first find the statistics fresh: each flush changes the run behind it.
    flushes: tuple[int, ...] = ()
    moment = phase
    while len(flushes) <= max(NR_FLUSHES):
        clock = run(flushes)[0] @ (1, removal_cost)
        call = int(np.searchsorted(clock, moment))
        if call >= len(clock):
            break
        if not flushes or call > flushes[-1]:
            flushes = (*flushes, call)
        moment += period
    return flushes


def _differing(events: Events, hits: dict[str, int]) -> dict[str, tuple[int, int]]:
    found = events.to_dict()
    counted = {"pgscan": found["pgscan"], "pgsteal": found["pgsteal"], **found["events"]}
    return {
        name: (hits[name], nr)
        for name, nr in counted.items()
        if name in hits and not 0 <= hits[name] - nr <= MEASURING_OFFSETS.get(name, 0)
    }
