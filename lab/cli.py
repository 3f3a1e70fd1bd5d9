# SPDX-License-Identifier: GPL-2.0-only
"""`reclaim lab`: its subcommands, what they take, and what they print.

What they need is imported by them: `reclaim simulate` waits for none of it.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from analysis.units import argument_of, parse_orders, parse_size
from lab import plan as plans
from lab.errors import LabError


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the subcommands of `reclaim lab`."""
    parts = command.add_subparsers(dest="part", required=True, metavar="PART")
    for name, run, add, what in (
        ("emulate", _emulate, _emulate_arguments, "count instructions of kernels under emulation"),
        ("compare", _compare, _compare_arguments, "measure two kernel trees and tell the change"),
        ("profile", _profile, _profile_arguments, "tell where the instructions go, by function"),
        ("host", _host, _host_arguments, "time reclaim on the kernel that runs here"),
        ("doctor", _doctor, _doctor_arguments, "tell what this machine can do"),
    ):
        part = parts.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        add(part)
        part.set_defaults(run_part=run)


def run(arguments: argparse.Namespace) -> int | None:
    """Run one subcommand; a request to end is taken as Ctrl-C, so that what was started ends."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.run_part(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Return an argparse type of some of these names, commas between them."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text.split(",")))
        if unknown := sorted(set(found) - set(allowed)):
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)!r}: expected some of {', '.join(allowed)}"
            )
        return found

    return read


def guest_arguments(part: argparse.ArgumentParser, *, orders: str, lrus: str) -> None:
    """Add what a guest measures, and how long it may take."""
    add, size = part.add_argument, {"type": argument_of(parse_size), "metavar": "SIZE"}
    add("--arch", type=names(plans.ARCHES), default=plans.ARCHES, metavar="A,...")
    add("--orders", type=argument_of(parse_orders), default=orders, help=f"default: {orders}")
    add("--lru", type=names(plans.LRUS), default=lrus, metavar="L,...", help=f"default: {lrus}")
    add("--map", default="256M", help="default: 256M", **size)
    add("--reclaim", default="0.2G", help="default: 0.2G", **size)
    add("--mapped-by", type=int, default=1, metavar="N", help="processes that map the file")
    add("--cpus", type=int, default=1, choices=(1, 2), help="2: the mappers run elsewhere")
    add("--workload", choices=plans.WORKLOADS, default="file")
    add("--access", choices=plans.ACCESSES, default="pread", help="how the file comes in")
    add("--request", choices=plans.REQUESTS, default=plans.REQUESTS[0])
    add("--stats-worker", choices=("off", "on"), default="off", help="on: as the tree has it")
    add("--memory", default=0, help="of the guest (default: 4G, or what --map needs)", **size)
    add("--reps", type=int, default=1, metavar="N", help="of each cell (default: 1)")
    add("--unmodified", action="store_true", help="no switch in the tree: orders 0 to 4, and 9")
    add("--profile", action="store_true", help="count hits of each function too, in boots more")
    add("--patience", type=float, metavar="S", help="seconds without a word before a guest hangs")


def _emulate_arguments(part: argparse.ArgumentParser) -> None:
    guest_arguments(part, orders="0:9", lrus="classic,mglru")
    add = part.add_argument
    _kernel_arguments(part, "base,references,unmap")
    add("--accel", choices=("tcg", "kvm"), default="tcg", help="kvm: time, where KVM boots a guest")
    add("--check", nargs="?", const="", metavar="DIR", help="compare with tables (default: data/)")
    add("--out", type=Path, default=Path("build/lab"), metavar="DIR", help="default: build/lab")


def plan_of(arguments: argparse.Namespace, kernels: tuple[str, ...]) -> plans.Plan:
    """Return the plan that the arguments tell; LabError if they contradict each other."""
    return plans.Plan(
        kernels=kernels,
        orders=arguments.orders,
        lrus=arguments.lru,
        map_bytes=arguments.map,
        reclaim_bytes=arguments.reclaim,
        mapped_by=arguments.mapped_by,
        cpus=arguments.cpus,
        workload=arguments.workload,
        access=arguments.access,
        request=arguments.request,
        stats_worker=arguments.stats_worker,
        memory_bytes=arguments.memory,
        reps=arguments.reps,
        modified=not arguments.unmodified,
    )


def limits_of(arguments: argparse.Namespace):
    """Return how long a guest may take, from --patience."""
    from lab.emulator import Limits

    if arguments.patience is None:
        return Limits()
    if not arguments.patience > 0:
        raise LabError(f"--patience {arguments.patience}: expected seconds, more than 0")
    return Limits(arguments.patience, arguments.patience)


def _emulate(arguments: argparse.Namespace) -> None:
    from lab import check, emulate, progress, tables

    plan = plan_of(arguments, arguments.kernel)
    _check_out(arguments.out)
    images = _images(arguments, plan)
    with progress.cells(plan, len(images), arguments.profile) as heard:
        measured = emulate.measure_all(
            images,
            plan,
            profile=arguments.profile,
            accel=arguments.accel,
            limits=limits_of(arguments),
            logs=arguments.out,
            heard=heard,
        )
    for path in emulate.write(measured, arguments.out, _said()):
        print(path)
    for one in measured:
        print(f"{one.arch}: {len(one.runs)} cells in {one.wall_s:.0f} s, {one.about['qemu']}")
        for note in one.notes:
            print(f"note: {one.arch}: {note}")
    if arguments.check is not None and all(one.counted for one in measured):
        _compared(arguments, measured, check, tables)


def _compared(arguments, measured, check, tables) -> None:
    folder = Path(arguments.check) if arguments.check else check.SHIPPED
    rows = [row for one in measured for row in tables.instructions(one.plan, one.arch, one.runs)]
    print()
    print(check.to_text(check.instructions(rows, folder / "instructions.csv")))
    hits = [row for one in measured for row in tables.counters(one.plan, one.arch, one.profiled)]
    if hits:
        print(check.counters(hits, folder / "counters.csv"))


# Before ten minutes of building, not after them.
def _check_tools(arches: tuple[str, ...]) -> None:
    import shutil

    from lab.errors import MissingError
    from lab.machine import MACHINES

    absent = [arch for arch in arches if not shutil.which(MACHINES[arch].qemu)]
    if absent:
        packages = " ".join(MACHINES[arch].package for arch in absent)
        raise MissingError(
            f"QEMU for {', '.join(absent)} is not installed: apt-get install {packages}"
        )


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise LabError(f"--out {out}: {error.strerror}; expected a folder that may be written to, "
                       "or may be made") from None  # fmt: skip


def _said() -> str:
    return shlex.join(["reclaim", *sys.argv[1:]])


def _compare_arguments(part: argparse.ArgumentParser) -> None:
    guest_arguments(part, orders="0:9", lrus="classic")
    add = part.add_argument
    for name in ("before", "after"):
        add(f"--{name}", required=True, metavar="TREE", help="kernel tree, or revision of --git")
    add("--git", default="", metavar="DIR", help="repository of revisions (default: this folder)")
    add("--out", type=Path, metavar="DIR", help="also write tables there")


def _compare(arguments: argparse.Namespace) -> None:
    from lab import compare, emulate, progress, tree

    plan = plan_of(arguments, ("unmap",))
    _check_out(arguments.out)
    _check_tools(arguments.arch)
    trees = [tree.of(name, arguments.git) for name in (arguments.before, arguments.after)]
    images = [progress.built(arch, of, plan.switches) for of in trees for arch in arguments.arch]
    with progress.cells(plan, len(images), arguments.profile) as heard:
        measured = emulate.measure_all(
            images, plan, profile=arguments.profile, limits=limits_of(arguments), heard=heard
        )
    nr = len(arguments.arch)
    both = compare.sides(measured[:nr], measured[nr:])
    if arguments.out:
        for path in emulate.write(both, arguments.out, _said()):
            print(path, file=sys.stderr)
    rows = [{name: str(value) for name, value in row.items()} for row in emulate.instructions(both)]
    print(compare.to_text(compare.Compared(rows, emulate.provenance(both, _said()))), end="")


def message(arguments: argparse.Namespace) -> str:
    """Return the text of `reclaim message --lab DIR`; LabError for what does not go with it."""
    from lab import compare

    if arguments.style not in compare.STYLES:
        raise LabError(f"--style {arguments.style}: tells times, and --lab has none; expected "
                       f"{' or '.join(compare.STYLES)}")  # fmt: skip
    if arguments.machine or arguments.map or arguments.reclaim:
        raise LabError("--lab: tells what was measured under emulation; leave --machine, --map and "
                       "--reclaim out")  # fmt: skip
    kernels = (arguments.before, arguments.after)
    found = compare.of_folder(Path(arguments.lab), kernels, arguments.arch, arguments.orders)
    return compare.to_text(found, arguments.style)


def _profile_arguments(part: argparse.ArgumentParser) -> None:
    guest_arguments(part, orders="4", lrus="classic")
    _kernel_arguments(part, "base,unmap")
    part.add_argument("--top", type=int, default=10, metavar="N", help="functions (default: 10)")
    part.add_argument("--out", type=Path, metavar="DIR", help="folded stacks, and functions.csv")


def _profile(arguments: argparse.Namespace) -> None:
    from lab import cache, profile, progress, tables

    plan = plan_of(arguments, arguments.kernel)
    _check_out(arguments.out)
    images = _images(arguments, plan)
    functions = []
    for image in images:
        with progress.cells(plan, 1, profile=False) as heard:
            found = profile.measure(image, plan, limits=limits_of(arguments), heard=heard)
        print(profile.top(found, arguments.top) + "\n")
        for one in found if arguments.out else ():
            name = f"{one.arch}-{one.run.lru}-{one.run.kernel}-order{one.run.order}.folded"
            cache.write_whole(arguments.out / name, one.folded().encode())
        functions += profile.functions(plan, found)
    if arguments.out:
        tables.write_csv(arguments.out / "functions.csv", functions, tables.FUNCTIONS)


def _kernel_arguments(part: argparse.ArgumentParser, kernels: str) -> None:
    add = part.add_argument
    add("--kernel", type=names(plans.KERNELS), default=kernels, metavar="K,...",
        help=f"default: {kernels}; unmap is the tree as it is")  # fmt: skip
    add("--source", metavar="TREE", help="kernel tree, or revision of --git (default: Debian's)")
    add("--git", default="", metavar="DIR", help="repository of that revision")


def _images(arguments: argparse.Namespace, plan: plans.Plan) -> list:
    from lab import progress, tree

    _check_tools(arguments.arch)
    source = tree.of(arguments.source, arguments.git) if arguments.source else tree.package()
    return [progress.built(arch, source, plan.switches) for arch in arguments.arch]


def _host_arguments(part: argparse.ArgumentParser) -> None:
    add = part.add_argument
    add("--orders", type=argument_of(parse_orders), default="0:9", help="default: 0:9")
    add("--workload", type=names(("file", "lazyfree")), default="file,lazyfree", metavar="W,...")
    add("--request", choices=("memory.reclaim", "limit", "pageout"), default="",
        help="default: the first that this machine allows")  # fmt: skip
    add("--map", type=argument_of(parse_size), default="64M", metavar="SIZE", help="default: 64M")
    add("--seconds", type=float, default=90.0, metavar="S", help="no round more (default: 90)")
    add("--rounds", type=int, default=15, metavar="N", help="default: 15")
    add("--dir", type=Path, metavar="DIR", help="where files are made (default: temporary)")
    add("--no-captures", dest="captures", action="store_false",
        help="no run more under perf stat and perf record")  # fmt: skip
    add("--out", type=Path, default=Path("build/lab-host"), metavar="DIR")


def _host(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from lab import host

    if arguments.map % (2 << 20) or arguments.rounds < 1:
        raise LabError("--map: expected a multiple of 2M, and --rounds 1 or more")
    _check_out(arguments.out)
    with tqdm(total=100, unit="%", disable=None, leave=False) as bar:
        found = host.measure(
            arguments.orders,
            workloads=arguments.workload,
            request=arguments.request,
            map_bytes=arguments.map,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            folder=arguments.dir,
            captures=arguments.out if arguments.captures else None,
            heard=lambda share: bar.update(int(100 * share) - bar.n),
        )
    for path in host.write(found, arguments.out, _said()):
        print(path, file=sys.stderr)
    print(host.to_text(found))


def _doctor_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("--json", action="store_true", help="one JSON list")


def _doctor(arguments: argparse.Namespace) -> None:
    from lab import doctor

    print(doctor.report(as_json=arguments.json))
