# SPDX-License-Identifier: GPL-2.0-only
"""Tables by folio size, and W/o and W/ blocks, for messages: ASCII, at most 75 columns."""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis import elapsed, fit, measurements
from analysis.interval import Interval
from analysis.machines import Machine, Observation
from analysis.mail_lines import filled
from analysis.predict import Prediction, predict_on
from analysis.units import folio_size
from sim import ARCHES, World, reclaim

# What the emulated runs measured; sizes in bytes.
EMULATED_MAP, EMULATED_RECLAIM = 256 << 20, 214748364


def change(ratio: float) -> str:
    """Return a relative change in whole percent: -39%; one that rounds to nothing has no sign."""
    percent = round(100 * ratio)
    return f"{percent:+d}%" if percent else "0%"


def change_range(reduction: Interval) -> str:
    """Return the change that a reduction is: -51% (-35% to -72%); no range where there is none."""
    if reduction.low == reduction.high:
        return change(-reduction.best)
    best, ends = -reduction.best, (-reduction.low, -reduction.high)
    return f"{change(best):>4} ({change(ends[0]):>4} to {change(ends[1]):>4})"


def _noise(share: float) -> str:
    # One digit; what was measured to vary less is not called none.
    return "-" if np.isnan(share) else f"{share:.1%}" if share >= 0.0005 else "<0.1%"


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


def instructions(orders: Sequence[int], arches: Sequence[str], before: str, after: str) -> str:
    """Return millions of instructions of the emulated request; noise: how far repeats differ.

    A star marks what is fitted, because that order was not run.
    """
    heads = "".join(f" | {arch:^29}" for arch in arches)
    under = "".join(f" | {'W/o':>7} {'W/':>7} {'Change':>6} {'Noise':>6}" for _ in arches)
    rows = [f"{'':10}{heads}".rstrip(), f"{'Folio size':>10}{under}"]
    for order in orders:
        cells = (_instruction_cell(order, arch, before, after) for arch in arches)
        rows.append(f"{folio_size(order):>10}{''.join(cells)}")
    return "\n".join(rows)


def _instruction_cell(order: int, arch: str, before: str, after: str) -> str:
    old, new, measured = instructions_pair(arch, order, before, after)
    moved = f"{change(new / old - 1)}{'' if measured else '*'}"
    noise = np.nan
    if measured:  # the larger of the two; missing where there was one run
        noise = measurements.plain_cells(arch, order)["spread"][[before, after]].max(skipna=False)
    return f" | {old / 1e6:7.1f} {new / 1e6:7.1f} {moved:>6} {_noise(noise):>6}"


def elapsed_changes(predictions: dict[tuple[str, int], Prediction]) -> str:
    """Return predicted changes of elapsed time, a column an architecture.

    Noise is the standard deviation of one more pair of runs, which no interval holds.
    """
    arches, orders = (list(dict.fromkeys(keys)) for keys in zip(*predictions, strict=True))
    heads = "".join(f" | {arch:^29}" for arch in arches)
    under = "".join(f" | {'Change (low to high)':>21}   {'Noise':>5}" for _ in arches)
    rows = [f"{'':10}{heads}".rstrip(), f"{'Folio size':>10}{under}"]
    for order in orders:
        cells = (_elapsed_cell(predictions[arch, order].elapsed_reduction) for arch in arches)
        rows.append(f"{folio_size(order):>10}{''.join(cells)}")
    return "\n".join(rows)


def _elapsed_cell(reduction: Interval) -> str:
    moved = change_range(reduction)
    shown = moved if "(" in moved else f"{moved:>4}"
    return f" | {f'  {shown:<19}':>21}   {_noise(elapsed.pair_noise(reduction.best)):>5}"


def measured_pairs(
    machine: Machine, before: str, after: str
) -> Iterator[tuple[str, int | None, Observation | None, Observation | None]]:
    """Yield the request, folio order, and times before and after that a machine's table holds.

    One at least of the two times is there; the order is None where nobody said.
    """
    cells: dict[tuple, dict[str, Observation]] = {}
    for row in machine.observations:
        if row.kernel in (before, after) and not (row.part or row.terms):
            cells.setdefault((row.kind, row.workload, row.order), {})[row.kernel] = row
    for (kind, workload, order), own in cells.items():  # a machine's rows stand in this order
        yield _REQUESTS[kind].format(workload), order, own.get(before), own.get(after)


_REQUESTS = {"reclaim": "A write to memory.reclaim", "pageout": "MADV_PAGEOUT of {} folios"}


def measured_change(old: Observation, new: Observation) -> tuple[float, float]:
    """Return new over old - 1, and the standard deviation of its noise; both as shares."""
    ratio = new.ns / old.ns
    return ratio - 1, ratio * float(np.hypot(old.noise_ns / old.ns, new.noise_ns / new.ns))


def measured_times(machine: Machine, before: str, after: str) -> str:
    """Return what a machine's own table holds, beside what is predicted without runs of `after`.

    Seconds are medians of n runs; empty where there is no time of either kernel.
    """
    rows, asked = [], ""
    for request, order, old, new in measured_pairs(machine, before, after):
        if request != asked:
            rows += ["", f"{request}:"] if rows else [f"{request}:"]
            rows.append(
                f"{'Folio size':>10} | {'n':>6} {'W/o, s':>8} {'W/, s':>8} {'Change':>6} "
                f"{'Noise':>5} | {'Predicted':>21}"
            )
            asked = request
        known = order is not None and request == _REQUESTS["reclaim"]
        predicted = _predicted(machine, order, before, after) if known else "-"
        rows.append(f"{size_on(machine.arch, order):>10} | {_sides(old, new)} | {predicted:>21}")
    return "\n".join(rows)


def side_by_side(
    intro: str, old: dict[str, float], new: dict[str, float], noise: float | None = None
) -> str:
    """Return seconds by name as time(1) prints them, W/o patch beside W/ patch.

    The first of each are compared; `noise` is the standard deviation of that reduction.
    """
    columns = [
        [label, *(f"{name:<8}{int(s // 60)}m{s % 60:.3f}s" for name, s in times.items())]
        for label, times in (("W/o patch:", old), ("W/ patch:", new))
    ]
    rows = [f"{left:<24}{right}".rstrip() for left, right in zip(*columns, strict=True)]
    before, after = next(iter(old.values())), next(iter(new.values()))
    give = f" (standard deviation {_noise(noise)})" if noise is not None else ""
    close = f"Elapsed reduction {1 - after / before:.1%}{give}, speedup {before / after:.2f}x."
    return "\n".join([filled(intro), "", *rows, "", close])


def size_on(arch: str, order: int | None) -> str:
    """Return the size of a folio of an order on an architecture, whatever its pages."""
    return "not stated" if order is None else folio_size(order + ARCHES[arch].page_shift - 12)


def _sides(old: Observation | None, new: Observation | None) -> str:
    counts = dict.fromkeys(str(row.n) if row else "0" for row in (old, new))
    seconds = " ".join(f"{f'{row.ns / 1e9:.4g}' if row else '-':>8}" for row in (old, new))
    moved, noise = measured_change(old, new) if old and new else (np.nan, np.nan)
    shown = "-" if np.isnan(moved) else f"{100 * moved:+.1f}%"
    return f"{'+'.join(counts):>6} {seconds} {shown:>6} {_noise(noise):>5}"


def _predicted(machine: Machine, order: int, before: str, after: str) -> str:
    reduction = predict_on(machine, order, before=before, after=after).elapsed_reduction
    return change_range(reduction)
