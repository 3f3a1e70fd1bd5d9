# SPDX-License-Identifier: GPL-2.0-only
"""Blind predictions of instructions, written down first and scored afterwards.

`predictions` reads runs, and profiles of runs, of kernels without the change alone: of the
architecture asked for those that have no batch that `before` lacks, of the other one everything.
`write` puts what it returns into a file, with an id. Only `scored`, which is given that file, opens
the runs of the changed kernel.

Each cell that was run before the change is predicted. Where orders were not run at all (3 and 6)
the plainest world of them is predicted too, and has nothing to be scored by.

No number of a scored run enters a prediction. The groups of `analysis.groups`, and which of them
share a price, were settled with all runs in sight: they are argued from the kernel's code there.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pandas as pd

from analysis import fit, measurements, predict
from analysis.files import write_whole
from analysis.groups import group_counts
from sim import ARCHES, reclaim
from sim.ident import short_id

STEPS = (("references", "unmap"), ("base", "unmap"), ("base", "references"))
WORLD = [column for column in measurements.CELL if column not in ("arch", "kernel")]
TARGET = 0.02
PLAIN = {"lru": "classic", "cpus": 1, "mapped_by": 1, "map_bytes": 256 << 20}


class ScoreError(ValueError):
    """A file of predictions that cannot be scored; says which and why."""


def predictions(arch: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Predict every cell of `arch` after each of `STEPS` from unchanged kernels of it.

    Returns one row a cell of orders 1 to 8, and which steps nothing tells. Columns: before, after,
    `WORLD`, low, best, high: the reduction of instructions, its 95% interval.

    Raises:
        FitError: that is so of every step, or there are no runs.
    """
    rows, notes = [], []
    for before, after in STEPS:
        try:
            rows += _step(arch, before, after)
        except fit.FitError as error:
            notes.append(f"{before} to {after}: not predicted: {error}")
    if not rows:
        raise fit.FitError("; ".join(notes))
    found = pd.DataFrame(rows).sort_values(["before", "after", *WORLD], ignore_index=True)
    return found, tuple(notes)


def write(arch: str, found: pd.DataFrame, path: Path) -> str:
    """Write predictions as JSON and return their id, which the file holds."""
    rows = found.to_dict(orient="records")
    ident = short_id([arch, *([str(value) for value in row.values()] for row in rows)])
    content = {"id": ident, "arch": arch, "predictions": rows}
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return ident


def scored(path: Path) -> pd.DataFrame:
    """Open the measurements and score the predictions of a file; one row each.

    Adds measured (missing where nothing was run), error (best - measured) and covered.

    Raises:
        ScoreError: the file holds no predictions.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = pd.DataFrame(content["predictions"])
        arch = content["arch"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoreError(
            f"{path}: no predictions: {error}; write them with reclaim score"
        ) from None
    cells = measurements.instructions()
    cells = cells[cells["arch"] == arch].set_index([*WORLD, "kernel"])["instructions"]
    measured = [_measured(cells, row) for row in found.itertuples()]
    found = found.assign(measured=measured)
    found["error"] = found["best"] - found["measured"]
    inside = found["measured"].between(found["low"], found["high"])
    return found.assign(covered=inside.where(found["measured"].notna()))


def blind(arch: str) -> tuple[str, pd.DataFrame, tuple[str, ...]]:
    """Predict, write that to a file of its own, then score it: return id, `scored`, notes.

    Raises:
        FitError: as of `predictions`.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, f"blind-{arch}.json")
        found, notes = predictions(arch)
        ident = write(arch, found, path)
        return ident, scored(path), notes


def plain_rows(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the plainest world: 256 MiB, one process, one CPU, classic LRU, quiet."""
    chosen = found["stats_worker"] == "off"
    for column, value in PLAIN.items():
        chosen &= found[column] == value
    return found[chosen]


def to_dict(arch: str, ident: str, found: pd.DataFrame, notes: tuple[str, ...]) -> dict:
    """Return everything as `reclaim score --json` prints it."""
    rows = found.astype(object).where(found.notna(), None).to_dict(orient="records")
    told = {"summary": summary(found), "rows": rows, "notes": list(notes)}
    return {"id": ident, "arch": arch, **told}


def summary(found: pd.DataFrame) -> list[dict]:
    """Return, by step, cells, mean and largest error, and the share of cells covered."""
    told = found.dropna(subset=["measured"])
    return [
        {
            "before": before,
            "after": after,
            "cells": len(own),
            "mean_error": float(own["error"].abs().mean()),
            "largest_error": float(own["error"].abs().max()),
            "covered": float(own["covered"].astype(bool).mean()),
            "within_target": float((own["error"].abs() <= TARGET).mean()),
        }
        for (before, after), own in told.groupby(["before", "after"], sort=False)
    ]


def _step(arch: str, before: str, after: str) -> list[dict]:
    donor = fit.DONOR[arch]
    model = fit.transfer(arch, donor, predict.unchanged(before))
    from_form = predict.left_out_error(donor, before, after)
    rows = []
    for cell in _cells_before(arch, model.cells, before):
        world = fit.cell_world(cell)
        old, new = (
            group_counts(reclaim(world, arch, kernel, cell.lru)) for kernel in (before, after)
        )
        interval, _ = predict.reduction_of(model, old, new, from_form)
        asked = {column: getattr(cell, column) for column in WORLD}
        rows.append({"before": before, "after": after, **asked, **interval._asdict()})
    return rows


def _cells_before(arch: str, cells: pd.DataFrame, before: str) -> list:
    own = cells[(cells["kernel"] == before) & (cells["order"] > 0)]
    plain = plain_rows(own)
    missing = set(range(1, ARCHES[arch].pmd_order)) - set(plain["order"])
    template = plain.iloc[0].to_dict()
    return [
        *own.itertuples(),
        *(SimpleNamespace(**(template | {"order": order})) for order in sorted(missing)),
    ]


def _measured(cells: pd.Series, row) -> float:
    world = tuple(getattr(row, column) for column in WORLD)
    old, new = ((*world, kernel) for kernel in (row.before, row.after))
    return float(1 - cells[new] / cells[old]) if {old, new} <= set(cells.index) else float("nan")
