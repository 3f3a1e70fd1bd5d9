# SPDX-License-Identifier: GPL-2.0-only
"""Machines whose times are known: what ran, how long it took, and how sure that is.

`server`: three published times of an arm64 server and two shares of its profile; its folio size is
not published. `host`: MADV_PAGEOUT of an x86_64 virtual machine at six or seven folio orders, and
one profile. `captured`: what a user's tidy table says of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import measurements
from analysis.samples import COLUMNS, DTYPES, OPTIONAL, Samples, SamplesError
from sim import ARCHES, KERNELS
from sim.arch import isa
from sim.ident import short_id

GIB = 1 << 30
# The published experiment: 10 GiB mapped, 8 GiB reclaimed.
MAP_BYTES, RECLAIM_BYTES = 10 * GIB, 8 * GIB

# "Approximately 35%", "around 5%": one standard deviation, two roundings to a multiple of 5 away.
SHARE_SPREAD = (0.025, 0.01)
# The host's profile: its number of samples was not kept; as sure as 250 samples make a share.
PROFILE_SPREAD = 0.03
# Of what is in the host's profile, the part that no instruction tells.
PROFILED = {"flush_tlb_mm_range": ("flush_tlb_mm_range", "TLB invalidation")}

# What column workload says of a run that was no write to memory.reclaim: MADV_PAGEOUT of all that
# is mapped, as `reclaim advise` may ask for. Whatever else it says, it was such a write.
PAGEOUTS = {"pageout-file": "file", "pageout-lazyfree": "lazyfree"}
UNPATCHED, PATCHED = "before", "after"  # what ingest calls the sides of a pair


class MachineError(ValueError):
    """A table of times that does not say what ran; says which row and what is missing."""


@dataclass(frozen=True)
class Observation:
    """One time, or the part of one time that a profile gives.

    Attributes:
        kernel: a key of `sim.KERNELS`.
        kind: "reclaim", a write to memory.reclaim; "pageout", MADV_PAGEOUT.
        workload: a member of `sim.WORKLOADS`.
        order: folio order; None where nobody said.
        map_bytes, reclaim_bytes: of the request.
        ns: what was observed.
        noise_ns: standard deviation of its noise.
        n: runs behind it; with one, the noise is that of another machine's repeats.
        part, terms: what of the time it is: a member of `groups.PARTS`, or the names of some of
            `stalls.TERMS`; all of it where both are empty.
    """

    kernel: str
    kind: str
    workload: str
    order: int | None
    map_bytes: int
    reclaim_bytes: int
    ns: float
    noise_ns: float
    n: int
    part: str = ""
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """One machine and what was observed on it.

    Attributes:
        name: for people.
        arch: a key of `sim.ARCHES`.
        observations: at least one.
        notes: what a reader of its costs must know.
    """

    name: str
    arch: str
    observations: tuple[Observation, ...]
    notes: tuple[str, ...]

    @property
    def id(self) -> str:
        """Id of the observations."""
        rows = [list(map(str, vars(row).values())) for row in self.observations]
        return short_id([self.name, self.arch, rows])

    @property
    def request(self) -> dict[str, int]:
        """Sizes of its writes to memory.reclaim, fields of `sim.World`; else of the published."""
        for row in self.observations:
            if row.kind == "reclaim":
                return {"map_bytes": row.map_bytes, "reclaim_bytes": row.reclaim_bytes}
        return {"map_bytes": MAP_BYTES, "reclaim_bytes": RECLAIM_BYTES}

    @property
    def knows_orders(self) -> bool:
        """Whether every observation tells its folio order."""
        return all(row.order is not None for row in self.observations)


@cache
def run_noise() -> tuple[float, float]:
    """Return the noise of one run, relative, and its lag-1 autocorrelation, of 500 equal runs."""
    logs = np.log(measurements.load("host/aa_runs.csv").sort_values("run")["cpu_s"])
    return float(logs.std()), float(logs.autocorr(1))


@cache
def server() -> Machine:
    """Return the arm64 server of the published series."""
    pairs = measurements.published()
    pairs = pairs[pairs["arch"] == "arm64"]
    times = pairs[pairs["metric"] == "real"]
    seconds = dict(zip(times["kernel_before"], times["before"], strict=True))
    seconds |= dict(zip(times["kernel_after"], times["after"], strict=True))
    share = pairs[pairs["metric"] == "share of folio_check_references"].iloc[0]
    noise = run_noise()[0]
    rows = [_reclaimed(kernel, 1e9 * s, noise * 1e9 * s) for kernel, s in seconds.items()]
    for side, spread in zip(("before", "after"), SHARE_SPREAD, strict=True):
        kernel = share[f"kernel_{side}"]
        ns = 1e9 * seconds[kernel]
        rows.append(_reclaimed(kernel, share[side] / 100 * ns, spread * ns, part="check"))
    notes = (
        "n = 1 published run a kernel: no spread of its own; one run is taken to scatter by "
        f"{noise:.1%}, as 500 equal runs of the x86_64 host do",
        "the folio size is not published: inferred with the costs, see `reclaim sizes`",
    )
    return Machine("published server", "arm64", tuple(rows), notes)


def _reclaimed(kernel: str, ns: float, noise_ns: float, part: str = "") -> Observation:
    return Observation(
        kernel, "reclaim", "file", None, MAP_BYTES, RECLAIM_BYTES, float(ns), float(noise_ns), 1,
        part,
    )  # fmt: skip


@cache
def host() -> Machine:
    """Return the x86_64 host: medians over rounds at each order that PTEs map."""
    runs = measurements.host_sweep()
    return sweep_machine(runs[runs["order"] < ARCHES["x86_64"].pmd_order])


def sweep_machine(runs: pd.DataFrame) -> Machine:
    """Return a machine from runs with the columns of `measurements.host_sweep`."""
    rows = []
    for (workload, order), own in runs.groupby(["workload", "order"]):
        ns, noise_ns = median_of_runs(1e9 * own["cpu_s"].to_numpy())
        nr_bytes = int(own["map_bytes"].iloc[0])
        kernel = "base" if workload == "file" else "lazyfree"
        rows.append(
            Observation(
                kernel, "pageout", workload, int(order), nr_bytes, nr_bytes, ns, noise_ns, len(own)
            )
        )
    profile = measurements.load("host/profile_order8.csv").set_index("function")["share_percent"]
    whole = next(row for row in rows if (row.workload, row.order) == ("file", 8))
    for function, terms in PROFILED.items():
        ns = profile[function] / 100 * whole.ns
        observed = {"ns": float(ns), "noise_ns": PROFILE_SPREAD * whole.ns, "n": 1, "terms": terms}
        rows.append(Observation(**(vars(whole) | observed)))
    notes = (
        f"{len(runs)} runs of MADV_PAGEOUT, {min(row.n for row in rows[:-1])} or more a cell in "
        "random order, so that what is alike in neighbouring runs averages out; medians",
        "one virtual machine (AMD EPYC, Linux 6.18): TLB flushes are probably dearer than on metal",
        "MADV_PAGEOUT checks no references: what one takes is a prior, tied to the other prices",
        "256 MiB: struct pages stay in the cache, so that what a cold line takes is a prior",
        f"{', '.join(PROFILED)}: from one profile, number of samples not kept",
    )
    return Machine("x86_64 host", "x86_64", tuple(rows), notes)


def median_of_runs(ns: np.ndarray, autocorrelation: float = 0.0) -> tuple[float, float]:
    """Return the median of runs and the standard deviation of its noise, both in ns.

    The spread is the median absolute deviation, which a few slow runs do not move, with that of
    `run_noise` weighing as much as five runs; a median of normal runs scatters by 1.25 times what
    their mean does. Runs in sequence repeat each other: pass their `autocorrelation`.
    """
    middle, n = float(np.median(ns)), len(ns)
    own = 1.4826 * float(np.median(np.abs(ns - middle))) * np.sqrt(n / max(n - 1, 1))
    spread = np.sqrt((n * own**2 + 5 * (run_noise()[0] * middle) ** 2) / (n + 5))
    if n == 1:
        return middle, run_noise()[0] * middle
    inflation = (1 + autocorrelation) / (1 - autocorrelation)
    return middle, 1.2533 * spread * np.sqrt(inflation / n)


def captured(
    path: Path,
    *,
    arch: str = "",
    before: str = "references",
    after: str = "unmap",
    map_bytes: int = MAP_BYTES,
    reclaim_bytes: int = RECLAIM_BYTES,
) -> Machine:
    """Return the machine that a tidy table describes, as `reclaim ingest --csv` prints it.

    Args:
        path: CSV with the columns of `samples.COLUMNS`. `kernel` is a key of `sim.KERNELS`, or
            "before" or "after", as ingest calls the sides of a pair; `order` may be missing;
            `workload` is a key of `PAGEOUTS`, or anything for a write to memory.reclaim.
        arch: overrides column arch; needed where that is missing or the page size is not 4 KiB.
        before, after: which kernels those sides were.
        map_bytes, reclaim_bytes: of the request that was timed.

    Raises:
        MachineError, SamplesError: the table does not say what ran.
    """
    frame = _times(_read(path).frame, str(path))
    named = {UNPATCHED: before, PATCHED: after}
    frame = frame.assign(kernel=frame["kernel"].map(lambda name: named.get(name, name)))
    for row in frame[~frame["kernel"].isin(KERNELS)].itertuples():
        raise MachineError(
            f"{row.source}: kernel {row.kernel!r}: expected {UNPATCHED}, {PATCHED} or one of "
            f"{', '.join(KERNELS)}; write it into column kernel"
        )
    name = _one(frame, "machine", "") or Path(path).name
    found = arch or _one(frame, "arch", "")
    if found not in ARCHES:
        raise MachineError(f"{path}: column arch is empty; say --arch, {', '.join(ARCHES)}")
    pmd_order = ARCHES[found].pmd_order
    if (frame["order"] > pmd_order).any():
        raise MachineError(f"{path}: column order: expected 0 to {pmd_order} on {found}")
    sizes = (map_bytes, reclaim_bytes)
    paged_out = frame["workload"].where(frame["workload"].isin(PAGEOUTS), "").fillna("")
    cells = frame.assign(paged_out=paged_out).groupby(
        ["kernel", "paged_out", "order"], dropna=False, sort=True
    )
    rows = tuple(_cell(*map(str, of), order, own, sizes) for (*of, order), own in cells)
    return Machine(name, found, rows, tuple(_captured_notes(rows, sizes)))


def _read(path: Path) -> Samples:
    try:
        frame = pd.read_csv(path, dtype=DTYPES)
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror}") from None
    except (ValueError, pd.errors.ParserError) as error:
        found = " ".join(str(error).split())
        raise MachineError(
            f"{path}: {found}; expected the CSV that `reclaim ingest --csv` prints"
        ) from None
    # What a table says of parts and marks is nothing that a time of a write has to say.
    frame = frame.reindex(columns=[*frame.columns, *(set(OPTIONAL) - set(frame.columns))])
    if set(frame.columns) != set(COLUMNS):
        raise MachineError(
            f"{path}: columns {', '.join(frame.columns)}; expected {', '.join(COLUMNS)}, as "
            "`reclaim ingest --csv` prints them"
        )
    try:
        return Samples(frame[list(COLUMNS)].astype(DTYPES))
    except SamplesError as error:
        raise MachineError(f"{path}: {error}") from None


def _times(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    # Elapsed if there is one, else the kernel's own time: this path runs in the kernel.
    for metric in ("real", "sys"):
        own = frame[(frame["metric"] == metric) & (frame["value"] > 0)]
        if len(own):
            return own
    raise MachineError(f"{path}: no row with metric real or sys and a time above 0; time the write")


def _one(frame: pd.DataFrame, column: str, default: str) -> str:
    values = frame[column].dropna().unique()
    if len(values) > 1:
        raise MachineError(
            f"column {column}: {', '.join(values)}: expected one machine a file; split the file"
        )
    return str(values[0]) if len(values) else default


def _cell(kernel: str, paged_out: str, order, own: pd.DataFrame, sizes) -> Observation:
    # A person times runs one after the other.
    ns, noise_ns = median_of_runs(1e9 * own["value"].to_numpy(float), run_noise()[1])
    known = None if pd.isna(order) else int(order)
    kind, workload = ("pageout", PAGEOUTS[paged_out]) if paged_out else ("reclaim", "file")
    whole = (sizes[0], sizes[0]) if paged_out else sizes
    return Observation(kernel, kind, workload, known, *whole, ns, noise_ns, len(own))


def _captured_notes(rows: Sequence[Observation], sizes: tuple[int, int]) -> list[str]:
    notes = [
        f"request: clean file folios, {sizes[0] / GIB:.3g} GiB mapped by one process, "
        f"{sizes[1] / GIB:.3g} GiB reclaimed through memory.reclaim"
        + ("; or all of it by MADV_PAGEOUT" if any(r.kind == "pageout" for r in rows) else "")
    ]
    if single := [row for row in rows if row.n == 1]:
        notes.append(
            f"{', '.join(row.kernel for row in single)}: one run has no spread; it is taken to "
            f"scatter by {run_noise()[0]:.1%}, as 500 equal runs of the x86_64 host do"
        )
    if any(row.order is None for row in rows):
        notes.append("the folio order is not in the table: every size and mixture is weighed")
    return notes


def reference(arch: str) -> Machine:
    """Return the machine of `server` and `host` that has the instruction set of `arch`."""
    return server() if isa(arch) == "arm64" else host()
