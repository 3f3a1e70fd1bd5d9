# SPDX-License-Identifier: GPL-2.0-only
"""Time a sweep beside a loop over plain papermill, in one run on one machine.

    python benchmarks/sweep.py [--points 100] [--loop 6] [--jobs 2] [--parallel 500]

The same notebook with the same parameters, results saved: `papermill` once a point in a shell loop,
as the README has it, for the first few points; then `reclaim sweep` for all of them, with `--jobs`
at a time, from its start to its exit status. The compiled walk is on disk before either starts.
CPU time is of all processes, and says more than the clock where others use the machine.

With `--parallel N` also: N notebooks of one cell, eight at a time, each asked to print its own
number; what came of them is counted, for kernels that meet in a port would answer each other.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice, product
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

import sim
from analysis import runner
from analysis.params import NOTEBOOKS

NOTEBOOK = NOTEBOOKS / "02_simulate_reclaim.ipynb"
BIN = Path(sys.executable).parent
# 10 orders, 2 architectures, 5 numbers of processes: 100 points.
GRID = {"order": range(10), "arch": ("arm64", "x86_64"), "mapped_by": range(1, 6)}
AT_ONCE = 8
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> None:
    """Print a table: points, seconds by the clock and of CPU time, for each a point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("points", 100), ("loop", 6), ("jobs", 2), ("parallel", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sim.reclaim(sim.World(map_bytes=1 << 20, reclaim_bytes=1 << 19), "arm64", "unmap")
    with tempfile.TemporaryDirectory() as folder:
        loop = _papermill(Path(folder), asked.loop)
        swept = _sweep(Path(folder), asked.points, asked.jobs)
    print(f"{os.cpu_count()} cores; seconds in all, and a point; CPU time a point")
    _row("papermill, one after the other", asked.loop, *loop)
    _row(f"reclaim sweep --jobs {asked.jobs}", asked.points, *swept)
    ratio = (loop[0] / asked.loop) / (swept[0] / asked.points)
    cpu = (loop[1] / asked.loop) / (swept[1] / asked.points)
    print(f"papermill takes {ratio:.1f} times as long a point, and {cpu:.1f} times the CPU time")
    if asked.parallel:
        _parallel(asked.parallel)


def _row(name: str, nr_points: int, elapsed_s: float, cpu_s: float) -> None:
    each = f"{elapsed_s / nr_points:7.2f}{cpu_s / nr_points:7.2f}"
    print(f"{name:<32}{nr_points:>5} points{elapsed_s:8.1f}{each}")


def _points(nr_points: int) -> list[dict]:
    points = (dict(zip(GRID, values, strict=True)) for values in product(*GRID.values()))
    return list(islice(points, nr_points))


def _papermill(folder: Path, nr_points: int) -> tuple[float, float]:
    began = _clocks()
    for nr, point in enumerate(_points(nr_points)):
        words = [word for name, value in point.items() for word in ("-p", name, str(value))]
        words += ["-p", "out", str(folder / "loop" / str(nr))]
        command = [BIN / "papermill", "--no-progress-bar", NOTEBOOK, folder / "out.ipynb", *words]
        subprocess.run(command, check=True, capture_output=True)
    return _since(began)


def _sweep(folder: Path, nr_points: int, jobs: int) -> tuple[float, float]:
    orders, arches, most = (len(values) for values in GRID.values())
    mapped_by = max(1, min(most, nr_points // (orders * arches)))
    command = [BIN / "reclaim", "sweep", NOTEBOOK, "-p", "order=0:9", "-p", "arch=arm64,x86_64"]
    command += ["-p", f"mapped_by=1:{mapped_by}", "--jobs", str(jobs), "--out", folder / "sweep"]
    began = _clocks()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    elapsed_s, _ = _since(began)
    _reap()
    print(done.stdout, end="")
    return elapsed_s, _since(began)[1]


# The fork server outlives the sweep by a moment; as its parent's parent we get its CPU time.
def _reap() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


# By the clock, and CPU time of the children that have ended, with theirs.
def _clocks() -> tuple[float, float]:
    times = os.times()
    return time.monotonic(), times.children_user + times.children_system


def _since(began: tuple[float, float]) -> tuple[float, float]:
    now = _clocks()
    return now[0] - began[0], now[1] - began[1]


def _parallel(nr_runs: int) -> None:
    cells = [new_code_cell("nr = 0", metadata={"tags": ["parameters"]}), new_code_cell("print(nr)")]
    source = nbformat.writes(new_notebook(cells=cells))
    jobs = (runner.Job("own.ipynb", source, {"nr": nr}, "", str(nr)) for nr in range(nr_runs))
    began, right, wrong = time.monotonic(), 0, []
    with closing(runner.run(jobs, AT_ONCE)) as outcomes:
        for job, ran in outcomes:
            printed = _printed(ran)
            right += printed == job.ident
            if printed != job.ident:
                wrong.append(f"{job.ident}: {printed or ran.failure}")
    took_s = time.monotonic() - began
    print(f"{nr_runs} runs, {AT_ONCE} at a time, {took_s:.0f} s: {right} printed their own number")
    print("\n".join(wrong) or "none failed, none met another's kernel")


def _printed(ran: runner.Ran) -> str:
    cells = json.loads(ran.executed)["cells"] if ran.executed else []
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", "")) for output in outputs).strip()


if __name__ == "__main__":
    main()
