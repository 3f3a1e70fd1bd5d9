# SPDX-License-Identifier: GPL-2.0-only
"""Fold a big perf script file, beside the script that everybody uses, on the same file.

    python benchmarks/fold.py path/to/stackcollapse-perf.pl [--bytes 1G] [--file FILE]

The script is that of https://github.com/brendangregg/FlameGraph: clone it and name the path of its
stackcollapse-perf.pl. The file is made from `tests/captures/convert.json.xz`, a profile of 1639
samples: these in random order (seed 0), each with a time, a thread, a period and a place in its
leaf function of its own. Both fold the same file, in this run, into files that must be the same
bytes.
Times are the least of two runs of a whole process, by the wall clock and of its CPU; memory is its
peak.
"""

import argparse
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from analysis.units import parse_size

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "convert.json.xz"
SEED = 0
RUNS = 2
FOLD = (
    "import sys\nfrom analysis.cli import main\nsys.exit(main(['ingest', '--folded', sys.argv[1]]))"
)


def main() -> None:
    """Print one line for each folder: seconds, MB/s, peak memory; then the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("script", type=Path, help="stackcollapse-perf.pl")
    parser.add_argument("--bytes", type=parse_size, default="1G")
    parser.add_argument("--file", type=Path, help="keep the generated file there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "script.txt"
        if not path.exists():
            generate(path, arguments.bytes)
        _race(path, arguments.script, Path(folder))


def generate(path: Path, nr_bytes: int) -> None:
    """Write a perf script file of at least so many bytes; the same bytes for the same size."""
    choose = random.Random(SEED)
    with lzma.open(CAPTURE) as file:
        samples = json.load(file)["samples"]
    parts = [(sample["comm"], *_chain(sample["callchain"])) for sample in samples]
    seconds, written = 2199.0, 0
    with path.open("w") as file:
        while written < nr_bytes:
            batch = []
            for _ in range(10_000):
                seconds += choose.expovariate(5000)
                batch.append(_sample(*choose.choice(parts), seconds, choose))
            written += file.write("".join(batch))


# A chain's leaf as address, symbol and object, and the lines of its callers.
def _chain(frames: list[dict]) -> tuple[tuple[int, str, str], str]:
    rows = []
    for frame in frames:
        address = int(frame["ip"], 16)
        symbol, dso = frame.get("symbol", "[unknown]"), frame.get("dso", "[unknown]")
        rows.append((address, symbol, dso))
    callers = [_line(address, symbol, dso, address % 4096) for address, symbol, dso in rows[1:]]
    return rows[0], "".join(callers)


def _line(address: int, symbol: str, dso: str, offset: int) -> str:
    place = "" if symbol == "[unknown]" else f"+0x{offset:x}"
    return f"\t{address:16x} {symbol}{place} ({dso})\n"


def _sample(comm, leaf, callers, seconds, choose: random.Random) -> str:
    address, symbol, dso = leaf
    shift = choose.randrange(256)
    tid, period = choose.randrange(29000, 29064), choose.randrange(190_000, 210_000)
    head = f"{comm} {tid} [{tid % 64:03}]  {seconds:.6f}:     {period} cpu-clock: \n"
    return f"{head}{_line(address + shift, symbol, dso, shift)}{callers}\n"


def _race(path: Path, script: Path, folder: Path) -> None:
    size = path.stat().st_size
    print(f"{path}: {size / 1e9:.3f} GB")
    ours, theirs = folder / "ours.txt", folder / "theirs.txt"
    print(f"{'':<26}{'wall s':>8}{'CPU s':>8}{'MB/s':>8}{'peak MiB':>10}")
    best = {}
    for name, command, out in (
        ("reclaim ingest --folded", [sys.executable, "-c", FOLD, str(path)], ours),
        (script.name, ["perl", str(script), str(path)], theirs),
    ):
        runs = [_run(command, out) for _ in range(RUNS)]
        wall, cpu, peak = (min(column) for column in zip(*runs, strict=True))
        print(f"{name:<26}{wall:>8.2f}{cpu:>8.2f}{size / 1e6 / cpu:>8.0f}{peak:>10.0f}")
        best[name] = (wall, cpu)
    if ours.read_bytes() != theirs.read_bytes():
        sys.exit("the two outputs differ")
    (wall, cpu), (their_wall, their_cpu) = best.values()
    stacks = len(ours.read_text().splitlines())
    print(
        f"the same {stacks} stacks; {their_wall / wall:.1f} times as fast by the wall clock, ",
        end="",
    )
    print(f"{their_cpu / cpu:.1f} by CPU time")


# Wall clock and CPU seconds, and peak memory in MiB, of one process
def _run(command: list[str], out: Path) -> tuple[float, float, float]:
    with out.open("wb") as file:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=file)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command[0]} ended with status {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
