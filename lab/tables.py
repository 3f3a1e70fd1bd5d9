# SPDX-License-Identifier: GPL-2.0-only
"""Tables: what guests counted, in the columns of data/emulated and of `reclaim ingest`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab import cache
from lab.console import Run
from lab.plan import Plan

CELL = (
    "arch",
    "lru",
    "stats_worker",
    "cpus",
    "mapped_by",
    "map_bytes",
    "reclaim_bytes",
    "order",
    "kernel",
)
INSTRUCTIONS = (
    *CELL,
    "rep",
    "instructions",
    "pgscan",
    "pgsteal",
    "file_before_bytes",
    "file_after_bytes",
)
COUNTERS = (*CELL, "function", "hits")
FUNCTIONS = (*CELL, "function", "own", "beneath")
SAMPLES = ("machine", "arch", "kernel", "workload", "order", "metric", "unit", "value", "run",
           "part", "symbol", "mark", "source")  # fmt: skip


def cell(plan: Plan, arch: str, run: Run) -> dict[str, object]:
    """Return what tells a run's cell from others, in the columns `CELL`."""
    return {
        "arch": arch,
        "lru": run.lru,
        "stats_worker": plan.stats_worker,
        "cpus": plan.cpus,
        "mapped_by": plan.mapped_by,
        "map_bytes": plan.map_bytes,
        "reclaim_bytes": plan.reclaim_bytes,
        "order": run.order,
        "kernel": run.kernel,
    }


def instructions(plan: Plan, arch: str, runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return a row a run; other work than pread() of a file says so in two more columns."""
    more = {}
    if (plan.workload, plan.access) != ("file", "pread"):
        more = {"workload": plan.workload, "access": plan.access}
    return [
        cell(plan, arch, run)
        | {
            "rep": run.rep,
            "instructions": run.ns,
            "pgscan": run.pgscan,
            "pgsteal": run.pgsteal,
            "file_before_bytes": run.before,
            "file_after_bytes": run.after,
        }
        | more
        for run in runs
    ]


def counters(plan: Plan, arch: str, runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return a row a function and cell, pgscan and pgsteal first; of CPU 0, where reclaim runs."""
    rows = []
    for run in runs:
        hits = {"pgscan": run.pgscan, "pgsteal": run.pgsteal, **run.hits.get(0, {})}
        of = cell(plan, arch, run)
        rows += [of | {"function": name, "hits": count} for name, count in hits.items()]
    return rows


def samples(
    plan: Plan, arch: str, runs: Sequence[Run], machine: str, metric: str, unit: str
) -> list[dict[str, object]]:
    """Return a row a run as `reclaim ingest --csv` prints them, but for the source."""
    return [
        {
            "machine": machine,
            "arch": arch,
            "kernel": run.kernel,
            "workload": plan.workload,
            "order": run.order,
            "metric": metric,
            "unit": unit,
            "value": run.ns / 1e9 if unit == "s" else run.ns,
            "run": number,
            "part": f"lru={run.lru}",
        }
        for number, run in enumerate(runs)
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> Path:
    """Write rows, whole or not at all; columns that only rows have follow those named."""
    more = [name for name in (rows[0] if rows else {}) if name not in columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *more], lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    cache.write_whole(path, text.getvalue().encode())
    return path


def write_json(path: Path, value: object) -> Path:
    """Write one JSON document, whole or not at all."""
    cache.write_whole(path, (json.dumps(value, indent=2) + "\n").encode())
    return path
