# SPDX-License-Identifier: GPL-2.0-only
"""Check: how far what was measured now is from tables measured before, cell by cell."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lab.errors import LabError

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "emulated"
WITHIN = 0.005
_KEY = ("arch", "lru", "cpus", "mapped_by", "map_bytes", "reclaim_bytes", "order", "kernel")


@dataclass(frozen=True)
class Difference:
    """One cell in both tables: instructions then and now.

    The least of the repeats counts, for a timer or a worker can only add to it.

    Attributes:
        repeats: the table's own, the least first.
        now: least of those measured.
        same_worker: whether the statistics worker was on, or off, in both; the table's own of
            either kind is taken where it has one.
    """

    arch: str
    lru: str
    order: int
    kernel: str
    repeats: tuple[float, ...]
    now: float
    same_counts: bool
    same_worker: bool

    @property
    def then(self) -> float:
        """The table's least."""
        return self.repeats[0]

    @property
    def share(self) -> float:
        """Now over then, less one."""
        return self.now / self.then - 1

    @property
    def apart(self) -> float:
        """The table's most over its least, less one."""
        return self.repeats[-1] / self.then - 1

    @property
    def from_nearest(self) -> float:
        """Now over the nearest of the table's repeats, less one."""
        return min((self.now / one - 1 for one in self.repeats), key=abs)


def instructions(rows: Iterable[dict], table: Path | None = None) -> list[Difference]:
    """Compare rows of instructions.csv with a table of the same columns.

    Raises:
        LabError: the table cannot be read, or has none of the cells.
    """
    path = table or SHIPPED / "instructions.csv"
    then, now = _repeats(_rows(path)), _repeats(rows)
    found = []
    for (cell, worker), repeats in now.items():
        if of := _like(then, cell, worker):
            arch, lru, *_, order, kernel = cell
            same = (repeats[0][1:] == of[0][1:], (cell, worker) in then)
            counted = (tuple(one[0] for one in of), repeats[0][0])
            found.append(Difference(arch, lru, int(order), kernel, *counted, *same))
    if not found:
        raise LabError(f"{path.name}: has none of the cells measured; expected some to compare")
    return found


def to_text(found: Sequence[Difference], within: float = WITHIN) -> str:
    """Return a table of how far cells are off, by architecture, LRU and kernel, then the worst."""
    lines = [f"{'arch':<8}{'lru':<9}{'kernel':<12}{'cells':>6}{'median':>9}{'largest':>9}  pages"]
    groups: dict[tuple, list[Difference]] = {}
    for one in found:
        groups.setdefault((one.arch, one.lru, one.kernel), []).append(one)
    for (arch, lru, kernel), ones in groups.items():
        off = [abs(one.share) for one in ones]
        pages = "same" if all(one.same_counts for one in ones) else "differ"
        lines.append(f"{arch:<8}{lru:<9}{kernel:<12}{len(ones):>6}{median(off):>9.2%}"
                     f"{max(off):>9.2%}  {pages}")  # fmt: skip
    over = sorted((one for one in found if abs(one.share) > within), key=lambda o: -abs(o.share))
    inside = len(found) - len(over)
    lines += ["", f"{inside} of {len(found)} cells within {within:.1%} of the table"]
    if repeated := [one for one in found if len(one.repeats) > 1]:
        near = sum(abs(one.from_nearest) <= within for one in repeated)
        alike = sum(one.apart <= within for one in repeated)
        lines.append(f"{near} of {len(repeated)} within {within:.1%} of one of its repeats; "
                     f"{alike} have repeats so near each other")  # fmt: skip
    lines += [
        f"  {one.arch} {one.lru} {one.kernel} order {one.order}: {one.then:,.0f} then, "
        f"{one.now:,.0f} now ({one.share:+.2%})"
        for one in over[:20]
    ]
    if other := sum(not one.same_worker for one in found):
        lines += ["", f"{other} cells: the table has them with another --stats-worker only"]
    return "\n".join(lines)


def counters(rows: Iterable[dict], table: Path | None = None) -> str:
    """Return how many functions of how many cells have the hits of a table of counters."""
    path = table or SHIPPED / "counters.csv"
    then, now = _hits(_rows(path)), _hits(rows)
    lines, same, all_of = [], 0, 0
    for (cell, worker), hits in now.items():
        of = _like(then, cell, worker) or {}
        shared = {name: (of[name], hits[name]) for name in of.keys() & hits.keys()}
        all_of += len(shared)
        same += sum(old == new for old, new in shared.values())
        for name, (old, new) in sorted(shared.items()):
            if abs(old - new) > 8:
                where = f"{cell[0]} {cell[1]} {cell[7]} order {cell[6]}"
                lines.append(f"  {where} {name}: {old} then, {new} now")
    if not all_of:
        return f"{path.name}: has none of the cells profiled"
    head = f"{same} of {all_of} counts in both tables are equal; off by more than 8: {len(lines)}"
    return "\n".join([head, *lines[:20]])


def plain_rows(path: Path, lru: str) -> list[dict]:
    """Return the rows of an LRU with one CPU and process, of the size most rows have.

    Where any has no statistics worker, only such. LabError if the table cannot be read.
    """
    rows = [
        row
        for row in _rows(path)
        if (row["lru"], row["cpus"], row["mapped_by"]) == (lru, "1", "1")
    ]
    sizes = Counter((row["map_bytes"], row["reclaim_bytes"]) for row in rows)
    size = sizes.most_common(1)[0][0] if sizes else None
    rows = [row for row in rows if (row["map_bytes"], row["reclaim_bytes"]) == size]
    return [row for row in rows if row["stats_worker"] == "off"] or rows


def _rows(path: Path) -> list[dict]:
    try:
        with path.open(newline="") as table:
            return list(csv.DictReader(table))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; expected a table to compare with") from None


# What a row is of, and whether its statistics worker was on.
def _cell(row: dict) -> tuple[tuple[str, ...], bool]:
    return tuple(str(row[name]) for name in _KEY), row["stats_worker"] != "off"


# What a table has of a cell: of the same worker, or else of the other kind.
def _like(then: dict, cell: tuple[str, ...], worker: bool):
    return then.get((cell, worker)) or then.get((cell, not worker))


# By cell: instructions, pgscan and pgsteal of each repeat, the least first.
def _repeats(rows: Iterable[dict]) -> dict[tuple, list[tuple]]:
    found: dict[tuple, list[tuple]] = {}
    for row in rows:
        if row.get("workload", "file") != "file" or row.get("access", "pread") != "pread":
            continue
        told = (float(row["instructions"]), int(row["pgscan"]), int(row["pgsteal"]))
        found.setdefault(_cell(row), []).append(told)
    return {key: sorted(repeats) for key, repeats in found.items()}


# By cell: hits of each function.
def _hits(rows: Iterable[dict]) -> dict[tuple, dict[str, int]]:
    found: dict[tuple, dict[str, int]] = {}
    for row in rows:
        found.setdefault(_cell(row), {})[row["function"]] = int(row["hits"])
    return found
