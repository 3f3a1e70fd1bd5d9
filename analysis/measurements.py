# SPDX-License-Identifier: GPL-2.0-only
"""The measurements that ship with the workbook: read only after their digest has been checked."""

import hashlib
import tomllib
from functools import cache
from io import BytesIO
from pathlib import Path

import pandas as pd

DATA = Path(__file__).resolve().parents[1] / "data"

# What tells one emulated cell from another, in the order in which tables are sorted.
CELL = [
    "arch", "lru", "stats_worker", "cpus", "mapped_by", "map_bytes", "reclaim_bytes", "order",
    "kernel",
]  # fmt: skip


class MeasurementError(Exception):
    """A shipped file that is missing, unknown to the manifest or not as it was measured."""


@cache
def manifest() -> dict[str, dict[str, str]]:
    """Return what data/manifest.toml says of each file: sha256, what, how, where, kernel, n."""
    path = DATA / "manifest.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasurementError(
            f"{path}: {error}; take the file back from git, or run the workbook from its checkout"
        ) from None


def load(name: str) -> pd.DataFrame:
    """Return one file of data/ as a frame, columns as in its header.

    Raises:
        MeasurementError: not in the manifest, not there, or its digest is another.
    """
    entry = manifest().get(name)
    if entry is None:
        raise MeasurementError(f"{name}: not in {DATA / 'manifest.toml'}")
    path = DATA / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MeasurementError(f"{path}: {error.strerror}; take it back from git") from None
    found, said = hashlib.sha256(content).hexdigest(), entry.get("sha256", "nothing")
    if found != said:
        raise MeasurementError(
            f"{path}: sha256 is {found}, the manifest says {said}; "
            "the file was changed after it was measured: take it back from git"
        )
    return pd.read_csv(BytesIO(content))


@cache
def instructions() -> pd.DataFrame:
    """Return one row per emulated cell: `CELL`, instructions, pgscan, pgsteal, n, spread.

    An interrupt or a worker can only add instructions, so the least of n repeats is the estimate,
    and the row is that run's; spread is (largest - least) / least, missing for n = 1.
    """
    runs = load("emulated/instructions.csv").sort_values([*CELL, "instructions"])
    by_cell = runs.groupby(CELL)["instructions"]
    runs["n"] = by_cell.transform("size")
    runs["spread"] = (by_cell.transform("max") / runs["instructions"] - 1).where(runs["n"] > 1)
    columns = [*CELL, "instructions", "pgscan", "pgsteal", "n", "spread"]
    return runs.drop_duplicates(CELL)[columns].reset_index(drop=True)


def plain_cells(arch: str, order: int) -> pd.DataFrame:
    """Return the emulated cells of one architecture and order in the plainest world, by kernel.

    256 MiB mapped by one process, 0.2 GiB reclaimed, one CPU, classic LRU, the statistics worker
    silenced; columns as in `instructions`, index kernel; empty for an order that was not run.
    """
    cells = instructions()
    plain = {"lru": "classic", "stats_worker": "off", "cpus": 1, "mapped_by": 1}
    for column, value in {**plain, "arch": arch, "order": order}.items():
        cells = cells[cells[column] == value]
    return cells.set_index("kernel", drop=False)


def counters() -> pd.DataFrame:
    """Return exact hits of the kernel's functions: `CELL`, function, hits."""
    return load("emulated/counters.csv")


# What the parts of a request lie beneath, in a profile; the rest is beneath none of them.
PART_OF = {
    "folio_referenced": "check",
    "try_to_unmap": "unmap",
    "try_to_unmap_flush": "unmap",
}


@cache
def shares() -> pd.DataFrame:
    """Return which share of its instructions each profiled cell spent in which part of reclaim.

    Columns `CELL`, the parts of `PART_OF`, and rest; they sum to 1.
    """
    table = load("emulated/functions.csv").pivot_table(
        index=CELL, columns="function", values="beneath"
    )
    # What a profile does not list is below a thousandth of it.
    shares = table.reindex(columns=list(PART_OF)).fillna(0).div(table["init"], axis=0)
    shares = shares.T.groupby(PART_OF).sum().T
    return shares.assign(rest=1 - shares.sum(axis=1)).reset_index()


def host_sweep() -> pd.DataFrame:
    """Return MADV_PAGEOUT times by folio order on a real x86_64 host; one row a run."""
    return load("host/order_sweep.csv")


def published() -> pd.DataFrame:
    """Return the published pairs: before and after, NaN where only a percentage was printed."""
    return load("published/reclaim.csv")
