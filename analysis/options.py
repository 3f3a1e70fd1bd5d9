# SPDX-License-Identifier: GPL-2.0-only
"""What each subcommand of `reclaim` takes: one function a subcommand adds its arguments."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import sim
from analysis import time_cli
from analysis.units import UnitError, argument_of, parse_orders, parse_size

# A subcommand that prices events knows the architectures that were measured.
ARCHES = sim.MEASURED_ARCHES

# `reclaim simulate` options beyond the common ones: World field, metavar, help.
WORLD_OPTIONS = (
    ("mapped_by", "N", "processes that map the memory"),
    ("mappings", "N", "mappings of the file in each process"),
    ("cpus", "N", "2: the mapping processes run elsewhere"),
    ("lru_add_batch", "N", "order-0 folios in that batch"),
    ("vma_shift", "PAGES", "mappings start so far behind the start of a page table"),
    ("vma_cut", "PAGES", "so much at either end of the file is not mapped"),
    ("mlocked", "N", "processes whose mappings are VM_LOCKED"),
    ("young", "SHARE", "entries that are young"),
    ("dirty", "SHARE", "entries that are dirty"),
    ("writable", "SHARE", "entries that are writable"),
    ("soft_dirty", "SHARE", "entries that are soft-dirty"),
    ("uffd_wp", "SHARE", "entries write-protected by userfaultfd"),
    ("partly_mapped", "SHARE", "large folios whose second half is no longer mapped"),
    ("hwpoison", "SHARE", "folios with a memory error"),
    ("dirty_folios", "SHARE", "folios that are dirty"),
    ("pinned", "SHARE", "folios that somebody else holds"),
    ("seed", "N", "of what the shares hit"),
)


def _at_least(low: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, at least {low}")
        return int(text)

    return read


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = list(dict.fromkeys(text.split(",")))
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))!r}: expected some of {', '.join(allowed)}"
            )
        return names

    return read


def simulate(command: argparse.ArgumentParser) -> None:
    """Add what a world is, and which kernel meets it."""
    add = command.add_argument
    add("--arch", choices=tuple(sim.ARCHES), required=True)
    add("--kernel", choices=tuple(sim.KERNELS), default="unmap")
    add("--lru", choices=sim.LRUS, default="classic")
    folios = command.add_mutually_exclusive_group()
    folios.add_argument("--order", type=int, default=4, help="folio order, 0 to 9 (default: 4)")
    folios.add_argument("--folios", default="", metavar="O:SHARE,...", help="e.g. 0:0.2,4:0.8")
    add("--workload", choices=sim.WORKLOADS, default="file", help="what the folios are")
    add("--request", choices=sim.REQUESTS, default="", help="default: as the workload was measured")
    size = {"type": argument_of(parse_size), "metavar": "SIZE"}
    add("--map", default="10G", help="file size (default: 10G)", **size)
    add("--reclaim", default="8G", help="request (default: 8G)", **size)
    add("--access", choices=sim.ACCESSES, default="pread", help="how the file was brought in")
    for name, metavar, what in WORLD_OPTIONS:
        kind = float if metavar == "SHARE" else int
        add(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=what)
    add("--stats-flush", default="never", metavar="WHEN", help="never, always or NODE_CALL,...")
    add("--json", action="store_true", help="one JSON object")


def conformance(command: argparse.ArgumentParser) -> None:
    """Add which table of counters is compared."""
    command.add_argument("--counters", metavar="FILE", help="another table, same columns")
    command.add_argument("--json", action="store_true", help="one JSON object")


def ingest(command: argparse.ArgumentParser) -> None:
    """Add what is read, and how it is printed."""
    command.add_argument("paths", nargs="+", metavar="PATH", help="files, directories, - for stdin")
    command.add_argument("--format", metavar="NAME", help="do not tell the format by the content")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="rows as CSV, notes on stderr")
    form.add_argument("--parquet", metavar="FILE", help="rows into a Parquet file")
    form.add_argument("--explain", action="store_true", help="say what each line was taken for")
    form.add_argument("--folded", action="store_true", help="perf script as folded stacks, fast")
    command.add_argument("--event", metavar="NAME", help="the event to fold, of several")
    command.add_argument("--orders", metavar="FILE", help="folio orders that the runs really had")
    command.add_argument("--pair", action="store_true", help="two snapshots: what counters grew by")


def compare(command: argparse.ArgumentParser) -> None:
    """Add what is compared, and how it is printed."""
    command.add_argument("before", metavar="BEFORE", help="a capture, or a directory of them")
    command.add_argument("after", metavar="AFTER", help="the same of the other kernel")
    command.add_argument(
        "--interleaved", action="store_true", help="each run of BEFORE was followed by one of AFTER"
    )
    command.add_argument("--profiles", action="store_true", help="by function, of two profiles")
    command.add_argument("--svg", metavar="FILE", help="of --profiles: a flame graph of what moved")
    command.add_argument("--speedscope", metavar="FILE", help="of --profiles: both, as JSON")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON list")
    form.add_argument("--markdown", action="store_true", help="a Markdown table")


def fit(command: argparse.ArgumentParser) -> None:
    """Add which costs are printed."""
    command.add_argument(
        "--arch", type=_names(ARCHES), default=ARCHES, metavar="A,...", help="default: all"
    )
    metrics = ("instructions", "time")
    command.add_argument("--metric", choices=metrics, default=metrics[0], help="costs in what")
    command.add_argument("--coverage", action="store_true", help="check the 95%% intervals of time")


def score(command: argparse.ArgumentParser) -> None:
    """Add what is predicted blind, and where that is written."""
    command.add_argument(
        "--arch", type=_names(ARCHES), default=["x86_64"], metavar="A,...", help="default: x86_64"
    )
    command.add_argument(
        "--out", type=Path, default=Path("build"), metavar="DIR", help="default: build"
    )
    command.add_argument("--json", action="store_true", help="one JSON object an architecture")


def whatif(command: argparse.ArgumentParser) -> None:
    """Add where a further change is asked about."""
    command.add_argument("--arch", choices=ARCHES, default="x86_64")
    command.add_argument("--order", type=int, default=4, help="folio order, 0 to 8 (default: 4)")
    command.add_argument("--metric", choices=("time", "instructions"), default="instructions")
    command.add_argument("--json", action="store_true", help="one JSON list")


def step(command: argparse.ArgumentParser, kernels: tuple[str, ...] = sim.FILE_SERIES) -> None:
    """Add which kernels a difference is of."""
    command.add_argument("--before", choices=kernels, default="references")
    command.add_argument("--after", choices=kernels, default="unmap")


def explain(command: argparse.ArgumentParser) -> None:
    """Add which difference is attributed."""
    command.add_argument("--arch", choices=ARCHES, default="arm64")
    command.add_argument("--order", type=int, default=6, help="folio order, 0 to 9 (default: 6)")
    step(command, (*sim.FILE_SERIES, "lazyfree-before", "lazyfree"))
    command.add_argument("--metric", choices=("time", "instructions"), default="instructions")


def predict(command: argparse.ArgumentParser) -> None:
    """Add what is predicted, on which machine."""
    add = command.add_argument
    add("--arch", choices=tuple(sim.ARCHES), default=None, help="default: x86_64, or the machine's")
    add("--order", type=int, default=None, help="folio order, 0 to 9 (default: 4, or the table's)")
    step(command)
    add("--metric", choices=("time", "instructions"), default="time")
    add("--blind", action="store_true", help="use no run of a changed kernel of this architecture")
    time_cli.machine_arguments(command, argument_of(parse_size))
    add("--json", action="store_true", help="one JSON object")


def question(command: argparse.ArgumentParser) -> None:
    """Add the elapsed reduction that is asked for."""
    command.add_argument("--arch", choices=tuple(sim.ARCHES), default=None, help="default: x86_64")
    order = argument_of(_folio_order)
    command.add_argument("--order", type=order, default=6, help="1 to 8 (default: 6)")
    step(command)
    time_cli.machine_arguments(command, argument_of(parse_size))
    json_alone(command)


def _folio_order(text: str) -> int:
    if text not in tuple("12345678"):
        raise UnitError(f"order {text!r}: expected 1 to 8, where batches can matter")
    return int(text)


def advise(command: argparse.ArgumentParser) -> None:
    """Add the question that a run is to answer."""
    question(command)
    command.add_argument("--unpatched", action="store_true", help="only kernels before the change")


def json_alone(command: argparse.ArgumentParser) -> None:
    """Add --json, where nothing else can be chosen."""
    command.add_argument("--json", action="store_true", help="one JSON list")


def message(command: argparse.ArgumentParser) -> None:
    """Add what a commit message or cover letter is about."""
    styles = ("blocks", "table", "cover")
    command.add_argument("--style", choices=styles, default="table", help="default: table")
    orders = argument_of(parse_orders)
    command.add_argument("--orders", type=orders, default="0:9", help="e.g. 0:9 or 2,4,9")
    command.add_argument("--arch", type=_names(ARCHES), default=ARCHES, metavar="A,...")
    step(command)
    time_cli.machine_arguments(command, argument_of(parse_size))
    command.add_argument("--lab", metavar="DIR", help="tables of reclaim lab compare or emulate, "
                         "told instead")  # fmt: skip


def safety(command: argparse.ArgumentParser) -> None:
    """Add how many random worlds are reclaimed."""
    command.add_argument(
        "--worlds", type=_at_least(1), default=10000, metavar="N", help="default: 10000"
    )
    command.add_argument(
        "--seed", type=_at_least(0), default=0, metavar="N", help="of the random worlds"
    )
    command.add_argument("--json", action="store_true", help="one JSON list")


def build(command: argparse.ArgumentParser) -> None:
    """Add where results are written."""
    command.add_argument("--out", default="build", metavar="DIR", help="default: build")


def sweep(command: argparse.ArgumentParser) -> None:
    """Add the grid, where it runs and where its results go."""
    add = command.add_argument
    add("notebook", metavar="NOTEBOOK", help="a path, or a name of the workbook's own")
    add(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUES",
        help="order=0:9 or arch=arm64,x86_64; the grid is every combination",
    )  # fmt: skip
    add("--out", required=True, metavar="DIR", help="a folder, or what papermill knows: s3://...")
    where = command.add_mutually_exclusive_group()
    jobs = _at_least(1)
    where.add_argument("--jobs", type=jobs, metavar="N", help="at a time (default: one a core)")
    where.add_argument("--dask", metavar="ADDRESS", help="a scheduler's, tcp://host:8786")
    add("--retry-failed", action="store_true", help="run points again that have failed before")
    add("--number", default="", metavar="NAME", help="drawn; default: the one that varies most")
