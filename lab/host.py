# SPDX-License-Identifier: GPL-2.0-only
"""Host: time reclaim on the kernel that runs here, by folio order, in rounds of random order.

Each run makes memory in folios of one order, maps and touches it, and times one request to reclaim
it. Every round runs every cell once, in a new random order, so that no cell has the quiet minutes
to itself. What the machine does not allow is left out, and said.
"""

from __future__ import annotations

import mmap
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from lab import cache, folios, perf, settings, tables
from lab.errors import LabError

WORKLOADS = ("file", "lazyfree")
COLUMNS = ("run", "round", "workload", "order", "exact_share", "map_bytes", "pages",
           "resident_after", "cpu_s", "wall_s")  # fmt: skip
CAPTURES_S = 25.0
XFS_BYTES = 512 << 20  # mkfs.xfs makes none smaller than 300 MiB


@dataclass(frozen=True)
class Cell:
    """What one run reclaims: clean mapped file folios, or lazyfree ones, of one order."""

    workload: str
    order: int


@dataclass(frozen=True)
class Timed:
    """One run: cpu_s and wall_s are of the request alone.

    exact_share: of the folios, those of the cell's order; None: not allowed to look.
    """

    round: int
    cell: Cell
    exact_share: float | None
    resident_after: int
    cpu_s: float
    wall_s: float


@dataclass
class Host:
    """The runs made so far, and what could not be done."""

    request: str
    map_bytes: int
    runs: list[Timed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure(  # noqa: PLR0913 - all but one by name
    orders: Sequence[int],
    *,
    workloads: Sequence[str] = WORKLOADS,
    request: str = "",
    map_bytes: int = 64 << 20,
    seconds: float = 90.0,
    rounds: int = 15,
    folder: Path | None = None,
    captures: Path | None = None,
    heard: Callable[[float], None] = lambda _: None,
) -> Host:
    """Time each order of each workload in every round, and return the runs.

    After them each cell runs twice more, under perf stat and perf record, if `captures` says where
    to: a capture costs time, so that no timed run has one.

    Args:
        request: of `settings.REQUESTS`; "" takes the first that the machine allows.
        seconds: no round starts that is not likely to end before then.
        folder: where files are made where no XFS can be; also the XFS image.
        captures: folder of perf's captures, perf-WHAT-WORKLOAD-orderN.txt; `CAPTURES_S` at most.
        heard: called after each run with the share of the work that is done.

    Raises:
        LabError: nothing can be measured here, or a setting could not be changed.
    """
    allowed = settings.usable()
    if request and request not in allowed:
        raise LabError(f"--request {request}: this machine allows {', '.join(allowed)}")
    host = Host(request or allowed[0], map_bytes)
    with ExitStack() as back:
        place = _place(host, workloads, map_bytes, folder, back)
        cells = _cells(host, orders, workloads)
        if not cells:
            raise LabError("nothing can be measured here: " + "; ".join(host.notes))
        group = back.enter_context(settings.cgroup(host.request))
        _rounds(host, cells, place, group, (rounds, seconds), heard)
        if captures:
            _captures(host, cells, place, group, captures)
    _note_orders(host)
    return host


def write(host: Host, out: Path, command: str) -> list[Path]:
    """Write host.csv, samples.csv, one text of `time`'s for each cell, and provenance.json."""
    rows = [_row(host, number, run) for number, run in enumerate(host.runs, 1)]
    paths = [tables.write_csv(out / "host.csv", rows, COLUMNS)]
    samples = [_sample(number, run) for number, run in enumerate(host.runs)]
    paths.append(tables.write_csv(out / "samples.csv", samples, tables.SAMPLES))
    for cell in dict.fromkeys(run.cell for run in host.runs):
        name = out / f"time-{cell.workload}-order{cell.order}.txt"
        cache.write_whole(name, _time_text(host, cell).encode())
        paths.append(name)
    about = {"command": command, "kernel": platform.release(), "machine": platform.machine(),
             "request": host.request, "notes": host.notes}  # fmt: skip
    paths.append(tables.write_json(out / "provenance.json", about))
    return paths


def to_text(host: Host) -> str:
    """Return a table of the median and quartiles of each cell, ASCII, 75 columns."""
    nr_rounds = len({run.round for run in host.runs})
    lines = [
        f"{host.request} of {host.map_bytes >> 20} MiB, {nr_rounds} rounds, Linux "
        f"{platform.release()}: ms of wall time",
        f"{'workload':<10}{'folio':>8}{'runs':>6}{'median':>9}{'quartiles':>18}{'ns/page':>9}"
        f"{'exact':>7}",
    ]
    for cell in sorted({run.cell for run in host.runs}, key=lambda c: (c.workload, c.order)):
        runs = [run for run in host.runs if run.cell == cell]
        times = sorted(run.wall_s * 1e3 for run in runs)
        low, middle, high = (_quantile(times, share) for share in (0.25, 0.5, 0.75))
        shares = [run.exact_share for run in runs if run.exact_share is not None]
        exact = f"{min(shares):.0%}" if shares else "-"
        pages = host.map_bytes / folios.PAGE
        spread = f"{low:.2f} to {high:.2f}"
        lines.append(f"{cell.workload:<10}{(4 << cell.order):>4} KiB{len(runs):>6}{middle:>9.2f}"
                     f"{spread:>18}{middle * 1e6 / pages:>9.0f}{exact:>7}")  # fmt: skip
    return "\n".join([*lines, *(f"note: {note}" for note in host.notes)])


def _place(host: Host, workloads, map_bytes: int, folder: Path | None, back: ExitStack) -> Path:
    if "file" in workloads and os.geteuid() == 0:
        try:
            return back.enter_context(settings.xfs(XFS_BYTES + 2 * map_bytes, folder))
        except LabError as error:
            host.notes.append(f"no XFS of our own ({error}): folios of files may have other orders")
    elif "file" in workloads:
        host.notes.append("no root: no XFS of our own; folios of files may have other orders")
    return folder or Path.cwd()


def _cells(host: Host, orders: Sequence[int], workloads: Sequence[str]) -> list[Cell]:
    cells = [Cell("file", order) for order in orders if "file" in workloads]
    if "lazyfree" not in workloads:
        return cells
    if os.geteuid():
        host.notes.append("no root: no choice of mTHP sizes; lazyfree folios left out")
        return cells
    absent = []
    for order in orders:
        if settings.offers(order):
            cells.append(Cell("lazyfree", order))
        else:
            absent.append(order)
    if absent:
        told = ", ".join(map(str, absent))
        host.notes.append(f"no anonymous folios of order {told} on this kernel")
    return cells


def _rounds(host, cells: list[Cell], place: Path, group, limits, heard) -> None:
    rounds, seconds = limits
    random_order = random.Random(0)
    start = time.monotonic()
    for number in range(rounds):
        if number and (time.monotonic() - start) * (number + 1) / number > seconds:
            host.notes.append(f"{number} of {rounds} rounds, in the {seconds:g} s allowed")
            break
        for done, cell in enumerate(random_order.sample(cells, len(cells)), 1):
            host.runs.append(_run(host, number, cell, place, group))
            heard(min(1.0, (number + done / len(cells)) / rounds))


def _run(host: Host, number: int, cell: Cell, place: Path, group: Path | None) -> Timed:
    with _memory(cell, place, host.map_bytes) as mapped:
        exact = folios.share_of_order(mapped, cell.order)
        with _request(host, mapped, group) as request:
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            request()
            cpu_ns, wall_ns = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        return Timed(number, cell, exact, folios.resident(mapped), cpu_ns / 1e9, wall_ns / 1e9)


def _captures(host: Host, cells: list[Cell], place: Path, group, out: Path) -> None:
    end = time.monotonic() + CAPTURES_S
    out.mkdir(parents=True, exist_ok=True)
    for done, (cell, kind) in enumerate(product(cells, perf.WORDS)):
        if time.monotonic() > end:
            host.notes.append(f"{done} of {2 * len(cells)} captures, in {CAPTURES_S:g} s")
            return
        try:
            with (
                _memory(cell, place, host.map_bytes) as mapped,
                _request(host, mapped, group) as request,
            ):
                path = out / f"perf-{kind}-{cell.workload}-order{cell.order}.txt"
                perf.capture(kind, request, path)
        except LabError as error:
            host.notes.append(f"no captures of perf: {error}")
            return


@contextmanager
def _memory(cell: Cell, place: Path, size: int) -> Iterator[mmap.mmap]:
    if cell.workload == "file":
        with folios.clean_file(place, size, cell.order) as mapped:
            yield mapped
    else:
        with settings.folio_size(cell.order), folios.lazyfree(size) as mapped:
            yield mapped


# What is timed: everything that can be prepared is.
@contextmanager
def _request(host: Host, mapped: mmap.mmap, group: Path | None) -> Iterator[Callable[[], None]]:
    if host.request == "pageout":
        yield lambda: mapped.madvise(folios.MADV_PAGEOUT)
    else:
        with settings.prepared(host.request, group, host.map_bytes) as call:
            yield call


def _note_orders(host: Host) -> None:
    shares = [run.exact_share for run in host.runs]
    if all(share is None for share in shares):
        host.notes.append("no root: folio orders were not looked at")
        return
    wrong = {run.cell for run in host.runs if run.exact_share is not None and run.exact_share < 1}
    for cell in sorted(wrong, key=lambda c: (c.workload, c.order)):
        least = min(run.exact_share for run in host.runs if run.cell == cell)
        host.notes.append(f"{cell.workload} order {cell.order}: in some run only {least:.0%} of "
                          "the folios were of it")  # fmt: skip


def _row(host: Host, number: int, run: Timed) -> dict[str, object]:
    return {
        "run": number,
        "round": run.round,
        "workload": run.cell.workload,
        "order": run.cell.order,
        "exact_share": "" if run.exact_share is None else f"{run.exact_share:.3f}",
        "map_bytes": host.map_bytes,
        "pages": host.map_bytes // folios.PAGE,
        "resident_after": run.resident_after,
        "cpu_s": f"{run.cpu_s:.9f}",
        "wall_s": f"{run.wall_s:.9f}",
    }


def _sample(number: int, run: Timed) -> dict[str, object]:
    names = {"x86_64": "x86_64", "aarch64": "arm64"}
    return {
        "machine": "this machine",
        "arch": names.get(platform.machine(), ""),
        "kernel": platform.release(),
        "workload": run.cell.workload,
        "order": run.cell.order,
        "metric": "real",
        "unit": "s",
        "value": f"{run.wall_s:.9f}",
        "run": number,
        "source": f"host.csv:{number + 2}",
    }


# As bash's time prints it, once for each run, in the order of the runs.
def _time_text(host: Host, cell: Cell) -> str:
    return "".join(
        f"\nreal\t{_minutes(run.wall_s)}\nuser\t0m0.000s\nsys\t{_minutes(run.cpu_s)}\n"
        for run in host.runs
        if run.cell == cell
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}m{seconds % 60:.6f}s"


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

