# SPDX-License-Identifier: GPL-2.0-only
"""Text for commit messages: plain ASCII, at most 75 columns, the same bytes on every run."""

import re
import textwrap
from collections.abc import Sequence

from analysis import elapsed, explain, fit, measurements
from analysis.interval import Interval
from analysis.predict import Prediction, predict, published_claim
from analysis.units import folio_size
from sim import MEASURED_ARCHES, World, reclaim
from sim.ident import short_id

WIDTH = 75
# What the emulated runs measured; sizes in bytes.
EMULATED_MAP, EMULATED_RECLAIM = 256 << 20, 214748364

# Kernels as a commit message calls them.
_KERNELS = {
    "base": "neither batch",
    "references": "batched reference checks",
    "unmap": "batched unmapping too",
    "unmap-only": "batched unmapping alone",
}


class ReportError(ValueError):
    """A message that cannot be written: an unknown architecture, no orders."""


def commit_message(
    orders: Sequence[int] = tuple(range(10)),
    arches: Sequence[str] = ("arm64", "x86_64"),
    *,
    before: str = "references",
    after: str = "unmap",
) -> str:
    """Return a block to paste into a commit message: headline, tables by folio size, method.

    Args:
        orders: folio orders, 0 to 9, one row each.
        arches: one or two of `sim.MEASURED_ARCHES`, one group of columns each.
        before, after: the kernels compared; by default patch 5 of the series alone.
    """
    orders, arches = sorted(set(orders)), list(dict.fromkeys(arches))
    if unknown := [arch for arch in arches if arch not in MEASURED_ARCHES] or not arches:
        known = ", ".join(MEASURED_ARCHES)
        raise ReportError(f"arches {unknown!r}: expected one or more of {known}")
    if outside := [order for order in orders if not 0 <= order <= 9] or not orders:
        raise ReportError(f"orders {outside if orders else 'none'}: expected one or more, 0 to 9")
    steps = [(arch, before, after) for arch in arches]
    predictions = {
        (arch, order): predict(arch, order, before=before, after=after)
        for arch in arches
        for order in orders
    }
    blocks = [
        _headline(arches, predictions),
        *_published_blocks(arches, before, after),
        _instructions_table(orders, steps),
        _elapsed_table(orders, arches, predictions),
        _method(arches, predictions, before, after),
    ]
    return "\n\n".join(blocks) + "\n"


def answer_table(orders: Sequence[int] = tuple(range(10))) -> str:
    """Return the README's answer, in Markdown: what batched unmapping saves, by folio size."""
    rows = [
        "| Folio size | arm64, instructions | arm64, time | x86_64, instructions | x86_64, time |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for order in orders:
        cells = [folio_size(order)]
        for arch in ("arm64", "x86_64"):
            old, new, measured = instructions_pair(arch, order, "references", "unmap")
            cells.append(f"{_change(new / old - 1)}{'' if measured else '*'}")
            cells.append(_range(predict(arch, order).elapsed_reduction).replace("( ", "("))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def instructions_pair(arch: str, order: int, before: str, after: str) -> tuple[float, float, bool]:
    """Return instructions before and after, and whether both were measured (or are fitted).

    256 MiB mapped, 0.2 GiB reclaimed, one process, one CPU, classic LRU.
    """
    measured = measurements.plain_cells(arch, order)["instructions"]
    if {before, after} <= set(measured.index):
        return float(measured[before]), float(measured[after]), True
    world = World(map_bytes=EMULATED_MAP, reclaim_bytes=EMULATED_RECLAIM, order=order)
    model = fit.fit(arch)
    old, new = (model.instructions(reclaim(world, arch, kernel)) for kernel in (before, after))
    return old, new, False


def _headline(arches, predictions: dict) -> str:
    at = [order for order in explain.consistent_orders() if (arches[0], order) in predictions]
    best = [predictions[arch, order].elapsed_reduction.best for arch in arches for order in at]
    if not at or min(best) < 0:
        return "Performance testing:"
    sizes = f"{folio_size(at[0])} to {folio_size(at[-1])}" if len(at) > 1 else folio_size(at[0])
    parts = []
    for arch in arches:
        reductions = [predictions[arch, order].elapsed_reduction.best for order in at]
        least, most = min(reductions), max(reductions)
        parts.append(f"{least:.0%}{f' to {most:.0%}' if len(at) > 1 else ''} less time on {arch}")
    return _fill(
        f"Performance testing: reclaiming clean mapped file folios of {sizes} is predicted to take "
        f"{' and '.join(parts)} (best estimates; intervals below)."
    )


def _published_blocks(arches, before: str, after: str) -> list[str]:
    seconds = elapsed.published_seconds()
    if "arm64" not in arches or before not in seconds or after not in seconds:
        return []
    old, new = seconds[before], seconds[after]
    columns = [_time_block("W/o patch:", before), _time_block("W/ patch:", after)]
    rows = [f"{left:<24}{right}".rstrip() for left, right in zip(*columns, strict=True)]
    intro = _fill(
        "10 GiB of clean file folios mapped, 8 GiB reclaimed through memory.reclaim, on an Arm64 "
        "32-core server (published with the series; folio size not stated, one value each):"
    )
    close = f"Elapsed reduction {1 - new / old:.1%}, speedup {old / new:.2f}x."
    return ["\n".join([intro, "", *rows]), close]


def _time_block(label: str, kernel: str) -> list[str]:
    times = {m: elapsed.published_seconds(m)[kernel] for m in ("real", "user", "sys")}
    return [label] + [f"{name:<8}{int(s // 60)}m{s % 60:.3f}s" for name, s in times.items()]


def _instructions_table(orders, steps) -> str:
    _, before, after = steps[0]
    title = _fill(
        "Instructions (millions) of reclaiming 0.2 GiB of 256 MiB, Linux 7.2 under emulation, by "
        f"folio size; W/o: {_KERNELS[before]}, W/: {_KERNELS[after]} (fewer is better; * fitted, "
        "not run):"
    )
    heads = "".join(f" | {arch:^25}" for arch, *_ in steps)
    under = "".join(f" | {'W/o':>7}  {'W/':>7}  {'Change':>7}" for _ in steps)
    rows = [f"{'':10}{heads}".rstrip(), f"{'Folio size':>10}{under}"]
    for order in orders:
        cells = "".join(_instruction_cells(order, *step) for step in steps)
        rows.append(f"{folio_size(order):>10}{cells}")
    return "\n".join([title, "", *rows])


def _instruction_cells(order: int, arch: str, before: str, after: str) -> str:
    old, new, measured = instructions_pair(arch, order, before, after)
    change = f"{_change(new / old - 1)}{'' if measured else '*'}"
    return f" | {old / 1e6:7.1f}  {new / 1e6:7.1f}  {change:>7}"


def _elapsed_table(orders, arches, predictions: dict) -> str:
    title = _fill(
        "Change of elapsed time, predicted, 8 GiB of 10 GiB reclaimed, best (low to high):"
    )
    rows = [f"{'Folio size':>10}" + "".join(f" | {arch:^27}" for arch in arches).rstrip()]
    for order in orders:
        cells = "".join(
            f" | {_range(predictions[arch, order].elapsed_reduction):^27}" for arch in arches
        )
        rows.append(f"{folio_size(order):>10}{cells}".rstrip())
    return "\n".join([title, "", *rows])


def _range(reduction: Interval) -> str:
    if reduction.low == reduction.high:
        return _change(-reduction.best)
    best, ends = -reduction.best, (-reduction.low, -reduction.high)
    return f"{_change(best):>4} ({_change(ends[0]):>4} to {_change(ends[1]):>4})"


def _change(ratio: float) -> str:
    # Whole percent; a change that rounds to nothing has no sign.
    percent = round(100 * ratio)
    return f"{percent:+d}%" if percent else "0%"


def _method(arches, predictions: dict, before: str, after: str) -> str:
    lines = [
        "Method: event counts of a reclaim simulator, equal to the function profiler's of the "
        "emulated kernels, priced per event by least squares (left-out orders 1 to 8: "
        + ", ".join(f"{arch} {fit.left_out_error(arch):.1%}" for arch in arches)
        + " mean error). Low to high is the range over what the measurements leave open.",
        *(f"{arch}: {_assumptions(arch, predictions)}." for arch in arches),
        *_claims(arches, before, after),
        f"Reclaim Workbook, id {_id(predictions)}; data "
        + ", ".join(
            f"{name} {measurements.manifest()[name]['sha256'][:12]}"
            for name in ("emulated/instructions.csv", "host/order_sweep.csv")
        )
        + ".",
    ]
    return "\n".join(_fill(line) for line in lines)


def _claims(arches, before: str, after: str) -> list[str]:
    claims = [(arch, published_claim(arch, before, after)) for arch in arches]
    return [
        f"Published for {arch}, not an input here: {claim['elapsed_reduction']} "
        f"({claim['source']})."
        for arch, claim in claims
        if claim and arch != "arm64"
    ]


def _assumptions(arch: str, predictions: dict) -> str:
    asked: Prediction = next(
        (p for (name, _), p in predictions.items() if name == arch and len(p.assumptions) > 1),
        predictions[next(key for key in predictions if key[0] == arch)],
    )
    return "; ".join(asked.assumptions[:2])


def _id(predictions: dict) -> str:
    return short_id(sorted(p.id for p in predictions.values()))


def _fill(text: str) -> str:
    # A number and its unit stay on one line.
    tied = re.sub(r"(\d) (KiB|MiB|GiB|s|ns)\b", "\\1\0\\2", text)
    filled = textwrap.fill(tied, WIDTH, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")
