# SPDX-License-Identifier: GPL-2.0-only
"""Fold a big perf script file, beside the script that everybody uses, on the same file.

    python benchmarks/fold.py path/to/stackcollapse-perf.pl [--bytes 1G] [--file FILE]

The script is that of https://github.com/brendangregg/FlameGraph: clone it and name the path of its
stackcollapse-perf.pl. The file is made from `tests/captures/script_default.txt`: its samples in
random order (seed 0), each with a time, a thread and a place in its leaf function of its own. Both
read it once before the clock starts, both write their stacks to a file, and these must be the same
bytes. Times are wall clock, the least of two runs; memory is the peak of the process.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from analysis.units import parse_size

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "script_default.txt"
SEED = 0
RUNS = 2
FOLD = "import sys\nfrom analysis.cli import main\nsys.exit(main(['ingest', '--folded', sys.argv[1]]))"


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
    samples = CAPTURE.read_text().split("\n\n")[:-1]  # the capture ends inside its last
    parts = [sample.split("\n", 2) for sample in samples]
    seconds, written = 2199.0, 0
    with path.open("w") as file:
        while written < nr_bytes:
            batch = []
            for _ in range(10_000):
                head, leaf, *callers = choose.choice(parts)
                seconds += choose.expovariate(5000)
                batch.append("\n".join([_head(head, seconds, choose), _leaf(leaf, choose), *callers]))
            written += file.write("\n\n".join(batch) + "\n\n")


def _head(head: str, seconds: float, choose: random.Random) -> str:
    comm, _, _, period, event = head.split()
    return f"{comm} {choose.randrange(29000, 29064)}  {seconds:.6f}:     {period} {event} "


def _leaf(leaf: str, choose: random.Random) -> str:
    address, symbol, dso = leaf.split()
    shift = choose.randrange(64)
    name, plus, offset = symbol.partition("+")
    moved = f"{name}+0x{int(offset, 16) + shift:x}" if plus else name
    return f"\t{int(address, 16) + shift:16x} {moved} {dso}"


def _race(path: Path, script: Path, folder: Path) -> None:
    size = path.stat().st_size
    print(f"{path}: {size / 1e9:.3f} GB")
    ours, theirs = folder / "ours.txt", folder / "theirs.txt"
    times = {}
    for name, command, out in (
        ("reclaim ingest --folded", [sys.executable, "-c", FOLD, str(path)], ours),
        (script.name, ["perl", str(script), str(path)], theirs),
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        times[name] = min(_seconds(command, out) for _ in range(RUNS))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        told = f"{peak / 1024:.0f} MiB" if peak > before else "less than that"
        print(f"{name:<26}{times[name]:>8.2f} s{size / 1e6 / times[name]:>8.0f} MB/s  peak {told}")
    if ours.read_bytes() != theirs.read_bytes():
        sys.exit("the two outputs differ")
    first, second = times.values()
    print(f"the same {len(ours.read_text().splitlines())} stacks; {second / first:.1f} times as fast")


def _seconds(command: list[str], out: Path) -> float:
    with out.open("wb") as file:
        start = time.perf_counter()
        subprocess.run(command, stdout=file, check=True)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
