# SPDX-License-Identifier: GPL-2.0-only
"""Compare: two kernel trees, measured alike, as a table by folio size for a commit message."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from lab.console import Run
from lab.emulate import Measured

WIDTH = 75


def to_text(before: Sequence[Measured], after: Sequence[Measured], names: tuple[str, str]) -> str:
    """Return the table: a line a folio size, instructions before and after of each architecture.

    One table an LRU; ASCII, at most 75 columns. before and after: the same architectures, in the
    same order, measured by the same plan.
    """
    plan = before[0].plan
    blocks = [_head(plan, names)]
    for lru in plan.lrus:
        lines = [f"{lru} LRU:" if len(plan.lrus) > 1 else ""]
        lines.append(" " * 8 + "".join(f"{one.arch:^31}".rstrip().ljust(31) for one in before))
        lines.append(f"{'folio':<8}" + f"{'before':>12}{'after':>12}{'':>7}" * len(before))
        for order in plan.orders:
            cells = [_cell(old, new, lru, order) for old, new in zip(before, after, strict=True)]
            lines.append(f"{_size(order):<8}" + "".join(cells))
        blocks.append("\n".join(line.rstrip() for line in lines if line.strip()))
    blocks.append(_foot(before))
    return "\n\n".join(blocks) + "\n"


def rows(before: Sequence[Measured], after: Sequence[Measured]) -> list[Measured]:
    """Return both sides with the kernels named before and after, for one table."""
    return [
        replace(one, runs=[replace(run, kernel=name) for run in one.runs])
        for name, side in (("before", before), ("after", after))
        for one in side
    ]


def _cell(old: Measured, new: Measured, lru: str, order: int) -> str:
    pair = [_least(one.runs, lru, order) for one in (old, new)]
    change = pair[1] / pair[0] - 1
    told = "0%" if abs(change) < 0.0005 else f"{change:+.1%}"
    return "".join(f"{value:>12,}" for value in pair) + f"{told:>7}"


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
