# SPDX-License-Identifier: GPL-2.0-only
"""Compare: two kernels, measured alike, as text by folio size for a commit message.

The text is made of what `reclaim lab compare` and `emulate` write, instructions.csv and
provenance.json, so that it can be written again later, and by others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab import check
from lab.emulate import Measured
from lab.errors import LabError

WIDTH = 75
SIDES = ("before", "after")
STYLES = ("table", "cover")
Cells = Mapping[tuple[str, int], tuple[int, int]]
# What all rows of one text have in common, and how that is said.
_WORLD = ("cpus", "mapped_by", "map_bytes", "reclaim_bytes", "stats_worker", "workload", "access")
_FOLIOS = {"file": "clean mapped file", "lazyfree": "lazyfree", "anon": "anonymous"}


@dataclass(frozen=True)
class Compared:
    """Two kernels of one table.

    Attributes:
        rows: of instructions.csv, values as they are written there.
        about: provenance.json, see `emulate.provenance`.
        before, after: the table's names of the two kernels.
        id: first 12 hex digits of the table's SHA-256; "" where it was not written.
    """

    rows: Sequence[Mapping[str, str]]
    about: Mapping
    before: str = SIDES[0]
    after: str = SIDES[1]
    id: str = ""

    @property
    def lrus(self) -> list[str]:
        """The LRUs that the table has."""
        return list(dict.fromkeys(row["lru"] for row in self.rows))

    def cells(self, lru: str) -> Cells:
        """Return instructions before and after by (architecture, order), least of repeats."""
        return _pairs((row for row in self.rows if row["lru"] == lru), self.before, self.after)


def sides(before: Sequence[Measured], after: Sequence[Measured]) -> list[Measured]:
    """Return both sides with the kernels named before and after, for one table."""
    return [
        replace(one, runs=[replace(run, kernel=name) for run in one.runs])
        for name, side in zip(SIDES, (before, after), strict=True)
        for one in side
    ]


def of_folder(
    folder: Path, kernels: tuple[str, str], arches: Sequence[str], orders: Sequence[int]
) -> Compared:
    """Return what was measured into a folder, of these architectures and orders.

    Args:
        kernels: those to compare, of a table that does not have before and after.

    Raises:
        LabError: the folder has no tables of the lab's, or none of what was asked for.
    """
    path = folder / "instructions.csv"
    try:
        content, about = path.read_bytes(), json.loads((folder / "provenance.json").read_bytes())
        guests = [guest["kernel"]["release"] for guest in about["guests"]]
        rows = list(csv.DictReader(content.decode().splitlines()))
        named = [(row["arch"], int(row["order"]), float(row["instructions"])) for row in rows]
    except OSError as error:
        path = Path(error.filename)
        raise LabError(f"{path}: {error.strerror}; {_EXPECTED}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder}: cannot be read ({error!r}); {_EXPECTED}") from None
    found = {row["kernel"] for row in rows}
    before, after = SIDES if set(SIDES) <= found else kernels
    if not guests or not {before, after} <= found:
        raise LabError(f"{path}: has the kernels {', '.join(sorted(found)) or 'none'}; expected "
                       f"before and after, or {before} and {after}")  # fmt: skip
    chosen = [
        row
        for row, (arch, order, _) in zip(rows, named, strict=True)
        if arch in arches and order in orders
    ]
    return Compared(chosen, about, before, after, hashlib.sha256(content).hexdigest()[:12])


def to_text(compared: Compared, style: str = "table") -> str:
    """Return the text: tables, method, how to reproduce; ASCII, at most 75 columns.

    Raises:
        LabError: no cell has both kernels, or the rows are of several worlds.
    """
    world = _world(compared)
    parts = {lru: compared.cells(lru) for lru in compared.lrus}
    if not any(parts.values()):
        raise LabError(f"no architecture and order was measured with {compared.before} and "
                       f"{compared.after} both; expected one, see --arch and --orders")  # fmt: skip
    sections = [
        ("", "\n\n".join(_fill(_changes(cells, lru)) for lru, cells in parts.items() if cells)),
        ("By folio size", _tables(compared, parts, world)),
        ("Method", _method(compared)),
        ("How to reproduce", _command(compared.about["command"])),
        *((("Ids", f"instructions.csv {compared.id}"),) if compared.id else ()),
    ]
    return "\n\n".join(_section(style, *section) for section in sections) + "\n"


def table(cells: Cells) -> str:
    """Return before, after and change by (architecture, order), a line an order."""
    arches = list(dict.fromkeys(arch for arch, _ in cells))
    lines = [" " * 8 + "".join(f"{arch:^31}" for arch in arches)]
    lines.append(f"{'folio':<8}" + f"{'before':>12}{'after':>12}{'':>7}" * len(arches))
    for order in sorted({order for _, order in cells}):
        told = [_cell(cells.get((arch, order))) for arch in arches]
        lines.append(f"{_size(order):<8}" + "".join(told))
    return "\n".join(line.rstrip() for line in lines)


def of_file(path: str, before: str, after: str, lru: str) -> Cells:
    """Return what two kernels of an instructions.csv took, the shipped one if none is named.

    Rows of one CPU, one process and the most common size, the statistics worker off where a cell
    has such. LabError if the table has none of both kernels.
    """
    table = Path(path) if path else check.SHIPPED / "instructions.csv"
    found = _pairs(check.plain_rows(table, lru), before, after)
    if not found:
        raise LabError(f"{table}: has no cells of {before} and {after} both, {lru} LRU; expected "
                       "what reclaim lab emulate or compare wrote")  # fmt: skip
    return found


def most_saved(cells: Cells) -> tuple[float, tuple[str, str]]:
    """Return the largest share saved, and on which architecture and folio size that was."""
    (arch, order), (old, new) = min(cells.items(), key=lambda cell: cell[1][1] / cell[1][0])
    return 1 - new / old, (arch, _size(order))


_EXPECTED = "expected a folder that reclaim lab compare --out or emulate --out wrote"


# A timer or a worker can only add instructions: the least of repeats.
def _pairs(rows: Iterable[Mapping[str, str]], before: str, after: str) -> Cells:
    least: dict[tuple[str, int], dict[str, int]] = {}
    for row in rows:
        cell = least.setdefault((row["arch"], int(row["order"])), {})
        count = int(float(row["instructions"]))
        cell[row["kernel"]] = min(count, cell.get(row["kernel"], count))
    return {
        key: (cell[before], cell[after])
        for key, cell in sorted(least.items())
        if {before, after} <= cell.keys()
    }


def _world(compared: Compared) -> dict[str, str]:
    plain = {"workload": "file", "access": "pread"}
    worlds = {tuple({**plain, **row}[name] for name in _WORLD) for row in compared.rows}
    if len(worlds) > 1:
        raise LabError(f"the table has {len(worlds)} kinds of requests ({', '.join(_WORLD)}); "
                       "expected one, as reclaim lab writes it")  # fmt: skip
    return dict(zip(_WORLD, *worlds, strict=True)) if worlds else {}


def _changes(cells: Cells, lru: str) -> str:
    said = []
    for arch in dict.fromkeys(arch for arch, _ in cells):
        shares = {order: new / old - 1 for (of, order), (old, new) in cells.items() if of == arch}
        low, high = min(shares, key=shares.get), max(shares, key=shares.get)
        most = f"{_change(shares[low])} ({_size(low)})"
        rest = f" to {_change(shares[high])} ({_size(high)})" if high != low else ""
        said.append(f"{most}{rest} on {arch}")
    return f"Change of the instructions by folio size, {lru} LRU: {', '.join(said)}."


def _tables(compared: Compared, parts: Mapping[str, Cells], world: Mapping[str, str]) -> str:
    cpus, mapped_by = world["cpus"], world["mapped_by"]
    head = (
        f"Instructions of one request to reclaim {_mib(world['reclaim_bytes'])} MiB of "
        f"{_mib(world['map_bytes'])} MiB of {_FOLIOS[world['workload']]} folios of one size, "
        f"{cpus} CPU{'s' * (cpus != '1')}, mapped by {mapped_by}; "
        f"before: {_named(compared, compared.before)}, after: {_named(compared, compared.after)}."
    )
    several = len(parts) > 1
    blocks = [f"{lru} LRU:\n{table(cells)}" if several else table(cells)
              for lru, cells in parts.items() if cells]  # fmt: skip
    return "\n\n".join([_fill(head), *blocks])


def _method(compared: Compared) -> str:
    guests = compared.about["guests"]
    arches = {row["arch"] for row in compared.rows}
    used = [guest for guest in guests if guest["arch"] in arches]
    qemu = ", ".join(dict.fromkeys(guest["qemu"].partition(" (")[0] for guest in used))
    lines = [f"Counted under emulation ({qemu}, one virtual nanosecond an instruction)"
             f"{_repeats(compared)}. Instructions are no time: caches, TLBs and waits are not in "
             "them."]  # fmt: skip
    lines += dict.fromkeys(_kernel(guest) for guest in used)
    lines += dict.fromkeys(
        f"Note: {guest['arch']}: {note}." for guest in used for note in guest["notes"]
    )
    return "\n".join(map(_fill, lines))


def _kernel(guest: Mapping) -> str:
    kernel = guest["kernel"]
    switches = f", switches {', '.join(kernel['switches'])}" if kernel["switches"] else ""
    return (
        f"{guest['arch']}, {' and '.join(guest['kernels'])}: Linux {kernel['release']}, "
        f"{kernel['source']}, source {kernel['source_id']}{switches}, minimal configuration "
        f"{kernel['config_sha256'][:12]}, {kernel['compiler']}."
    )


def _repeats(compared: Compared) -> str:
    runs: dict[tuple, list[float]] = {}
    for row in compared.rows:
        if row["kernel"] in (compared.before, compared.after):
            key = tuple(row[name] for name in ("arch", "lru", "order", "kernel"))
            runs.setdefault(key, []).append(float(row["instructions"]))
    nr = max(map(len, runs.values()))
    if nr == 1:
        return ", one run a cell"
    spread = max(max(counts) / min(counts) - 1 for counts in runs.values())
    return f", the least of {nr} runs a cell, which differ by {spread:.2%} at most"


# The tree behind a side of `reclaim lab compare`; a kernel of one tree goes by its own name.
def _named(compared: Compared, kernel: str) -> str:
    if (compared.before, compared.after) != SIDES:
        return kernel
    return next(guest["kernel"]["source"] for guest in compared.about["guests"]
                if kernel in guest["kernels"])  # fmt: skip


# The command that was written down, an option and its value on one line.
def _command(said: str) -> str:
    lines, options = ["   "], [""]
    for word in map(shlex.quote, shlex.split(said)):
        if word.startswith("--"):
            options.append("")
        options[-1] += f" {word}"
    for option in options:
        if len(lines[-1]) + len(option) + 2 > WIDTH:
            lines[-1] += " \\"
            lines.append(" " * 7)
        lines[-1] += option
    return _ascii("\n".join(lines))


def _section(style: str, title: str, text: str) -> str:
    if style == "cover" and title:
        return f"{title}\n{'=' * len(title)}\n{text}"
    if not title or title == "By folio size":
        return text
    return f"{title}:\n{text}" if title != "How to reproduce" else f"{title}:\n\n{text}"


def _cell(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return f"{'-':>12}{'-':>12}{'':>7}"
    old, new = pair
    return f"{old:>12,}{new:>12,}{_change(new / old - 1):>7}"


def _change(share: float) -> str:
    return "0%" if abs(share) < 0.0005 else f"{share:+.1%}"


def _size(order: int) -> str:
    kib = 4 << order
    return f"{kib} KiB" if kib < 1024 else f"{kib >> 10} MiB"


def _mib(size: str) -> str:
    return f"{int(size) / (1 << 20):.4g}"


def _fill(text: str) -> str:
    return textwrap.fill(_ascii(text), WIDTH, break_on_hyphens=False)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
