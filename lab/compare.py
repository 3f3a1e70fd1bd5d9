# SPDX-License-Identifier: GPL-2.0-only
"""Compare: two kernel trees, measured alike, as a table by folio size for a commit message."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab import check
from lab.console import Run
from lab.emulate import Measured
from lab.errors import LabError

WIDTH = 75


def to_text(before: Sequence[Measured], after: Sequence[Measured], names: tuple[str, str]) -> str:
    """Return the table: a line a folio size, instructions before and after of each architecture.

    One table an LRU; ASCII, at most 75 columns. before and after: the same architectures, in the
    same order, measured by the same plan.
    """
    plan = before[0].plan
    blocks = [_head(plan, names)]
    for lru in plan.lrus:
        cells = {
            (old.arch, order): (_least(old.runs, lru, order), _least(new.runs, lru, order))
            for old, new in zip(before, after, strict=True)
            for order in plan.orders
        }
        blocks.append(f"{lru} LRU:\n{table(cells)}" if len(plan.lrus) > 1 else table(cells))
    blocks.append(_foot(before))
    return "\n\n".join(blocks) + "\n"


def table(cells: Mapping[tuple[str, int], tuple[int, int]]) -> str:
    """Return before, after and change by (architecture, order), a line an order."""
    arches = list(dict.fromkeys(arch for arch, _ in cells))
    lines = [" " * 8 + "".join(f"{arch:^31}" for arch in arches)]
    lines.append(f"{'folio':<8}" + f"{'before':>12}{'after':>12}{'':>7}" * len(arches))
    for order in dict.fromkeys(order for _, order in cells):
        told = [_cell(*cells[arch, order]) for arch in arches]
        lines.append(f"{_size(order):<8}" + "".join(told))
    return "\n".join(line.rstrip() for line in lines)


def of_table(
    path: Path, before: str, after: str, lru: str
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return what two kernels of an instructions.csv took, least of repeats, for `table`.

    Rows of one CPU, one process and the most common size, the statistics worker off where a cell
    has such. LabError if the table has none of both kernels.
    """
    found: dict[str, dict[tuple[str, int], int]] = {before: {}, after: {}}
    for row in check.plain_rows(path, lru):
        if row["kernel"] in found:
            key = (row["arch"], int(row["order"]))
            least = found[row["kernel"]].get(key)
            count = int(float(row["instructions"]))
            found[row["kernel"]][key] = count if least is None else min(least, count)
    both = [key for key in found[before] if key in found[after]]
    if not both:
        raise LabError(f"{path}: has no cells of {before} and {after} both, {lru} LRU; expected "
                       "what reclaim lab emulate or compare wrote")  # fmt: skip
    return {key: (found[before][key], found[after][key]) for key in sorted(both)}


def rows(before: Sequence[Measured], after: Sequence[Measured]) -> list[Measured]:
    """Return both sides with the kernels named before and after, for one table."""
    return [
        replace(one, runs=[replace(run, kernel=name) for run in one.runs])
        for name, side in (("before", before), ("after", after))
        for one in side
    ]


def of_file(
    table: str, before: str, after: str, lru: str
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return `of_table` of an instructions.csv, or of the shipped one if none is named."""
    path = Path(table) if table else check.SHIPPED / "instructions.csv"
    return of_table(path, before, after, lru)


def most_saved(cells: Mapping[tuple[str, int], tuple[int, int]]) -> tuple[float, tuple[str, str]]:
    """Return the largest share saved, and on which architecture and folio size that was."""
    (arch, order), (old, new) = min(cells.items(), key=lambda cell: cell[1][1] / cell[1][0])
    return 1 - new / old, (arch, _size(order))


def _cell(old: int, new: int) -> str:
    change = new / old - 1
    told = "0%" if abs(change) < 0.0005 else f"{change:+.1%}"
    return f"{old:>12,}{new:>12,}{told:>7}"


# A timer or a worker can only add instructions.
def _least(runs: Sequence[Run], lru: str, order: int) -> int:
    return min(run.ns for run in runs if (run.lru, run.order) == (lru, order))


def _size(order: int) -> str:
    kib = 4 << order
    return f"{kib} KiB" if kib < 1024 else f"{kib >> 10} MiB"


def _head(plan, names: tuple[str, str]) -> str:
    what = {"file": "clean mapped file", "lazyfree": "lazyfree", "anon": "anonymous"}
    return _fill(
        f"Instructions of one request to reclaim {_mib(plan.reclaim_bytes)} MiB of "
        f"{_mib(plan.map_bytes)} MiB of {what[plan.workload]} folios of one size, "
        f"{plan.cpus} CPU{'s' * (plan.cpus > 1)}, mapped by {plan.mapped_by}, "
        f"{' and '.join(plan.lrus)} LRU; before: {names[0]}, after: {names[1]}."
    )


def _foot(measured: Sequence[Measured]) -> str:
    about = measured[0].about
    images = [one.about["kernel"] for one in measured]
    kernels = sorted({image["release"] for image in images})
    return _fill(
        f"Counted under emulation ({about['qemu'].partition(' (')[0]}, one virtual nanosecond an "
        f"instruction), Linux {', '.join(kernels)}, {images[0]['compiler']}, minimal "
        "configuration. Instructions are no time: caches, TLBs and waits are not in them."
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g}"


def _fill(text: str) -> str:
    return textwrap.fill(text.encode("ascii", "backslashreplace").decode(), WIDTH)
