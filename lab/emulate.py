# SPDX-License-Identifier: GPL-2.0-only
"""Emulate: boot kernels, let each measure its cells, write tables and where they come from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from lab import build, disks, emulator, initramfs, tables
from lab.console import Console, Run
from lab.emulator import DEFAULT, KVM_BOOT_S, Limits
from lab.errors import GuestError, LabError
from lab.machine import MACHINES, Boot
from lab.plan import Plan

TIME = "KVM: times, no instructions"


@dataclass(frozen=True)
class Measured:
    """What the guests of one architecture counted.

    Attributes:
        runs: timed runs; profiled: runs under the function profiler, whose times are of no use.
        wall_s: how long the guests ran on this machine.
        counted: whether the guest's ns are instructions; under KVM they are time.
        notes: what a reader of the numbers must know.
        about: versions and command lines.
    """

    arch: str
    plan: Plan
    runs: list[Run]
    profiled: list[Run] = field(default_factory=list)
    wall_s: float = 0.0
    counted: bool = True
    notes: tuple[str, ...] = ()
    about: dict = field(default_factory=dict)


def measure(
    image: build.Image,
    plan: Plan,
    *,
    profile: bool = False,
    accel: str = "tcg",
    limits: Limits = DEFAULT,
    logs: Path | None = None,
    heard: Callable[[str, Console], None] = lambda _, __: None,
    stop: threading.Event | None = None,
) -> Measured:
    """Boot one kernel for each of `plan.boots` and return what it counted in every cell.

    Args:
        profile: boot each once more, with the function profiler on, each cell once.
        accel: "tcg" counts instructions; "kvm" takes time, where KVM boots a guest.
        logs: folder that gets the whole consoles.
        stop: see `emulator.run`.

    Raises:
        GuestError: a guest failed; its last lines are in the text.
        MissingError: QEMU or mke2fs is not installed.
        LabError: this machine has less memory than the guest needs.
    """
    start = time.monotonic()
    _check_memory(plan)
    runs: dict[bool, list[Run]] = {False: [], True: []}
    about = {"kernel": image.about, "qemu": qemu_version(image.arch), "commands": {}}
    notes: list[str] = []
    for one, profiled in product(plan.boots, (False, True) if profile else (False,)):
        of = replace(one, profile=True, reps=1) if profiled else one
        name = f"{one.lrus[0]}-profile" if profiled else one.lrus[0]
        log = logs / f"console-{image.arch}-{name}.log" if logs else None
        console, command, note = _boot(image, of, accel, limits, log, heard, stop)
        runs[profiled] += console.runs
        about["commands"][name] = command
        notes += note
    notes += _notes(plan, runs[False])
    notes = list(dict.fromkeys(notes))
    wall_s = time.monotonic() - start
    counted = TIME not in notes
    return Measured(
        image.arch, plan, runs[False], runs[True], wall_s, counted, tuple(notes), about
    )


def measure_all(images: Sequence[build.Image], plan: Plan, **rest) -> list[Measured]:
    """Measure several kernels at once, as many as this machine has CPUs; as `measure`."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=max(1, min(os.cpu_count() or 1, len(images)))) as pool:
        try:
            return list(pool.map(lambda image: measure(image, plan, stop=stop, **rest), images))
        except BaseException:
            # one guest failed, or Ctrl-C: the others would run on for minutes before it is told
            stop.set()
            raise


def write(measured: Sequence[Measured], out: Path, command: str) -> list[Path]:
    """Write instructions.csv, counters.csv where a profiler ran, samples.csv and provenance.json.

    Guests under KVM, whose clock tells time, go into samples.csv alone. Returns the paths.
    """
    paths = []
    if rows := instructions(measured):
        paths.append(tables.write_csv(out / "instructions.csv", rows, tables.INSTRUCTIONS))
    hits = [row for one in measured for row in tables.counters(one.plan, one.arch, one.profiled)]
    if hits:
        paths.append(tables.write_csv(out / "counters.csv", hits, tables.COUNTERS))
    paths.append(tables.write_csv(out / "samples.csv", _samples(measured), tables.SAMPLES))
    paths.append(tables.write_json(out / "provenance.json", provenance(measured, command)))
    return paths


def instructions(measured: Sequence[Measured]) -> list[dict[str, object]]:
    """Return rows of instructions.csv of the guests whose clock counted instructions."""
    counted = [one for one in measured if one.counted]
    return [row for one in counted for row in tables.instructions(one.plan, one.arch, one.runs)]


def provenance(measured: Sequence[Measured], command: str) -> dict:
    """Return what provenance.json holds: the command, and of each guest, in order, its kernel."""
    return {
        "command": command,
        "what": "instructions of one request, its duration in virtual ns: one an instruction",
        "guests": [
            {
                "arch": one.arch,
                "kernels": list(dict.fromkeys(run.kernel for run in one.runs)),
                **one.about,
                "wall_s": round(one.wall_s, 1),
                "notes": list(one.notes),
            }
            for one in measured
        ],
    }


def _samples(measured: Sequence[Measured]) -> list[dict[str, object]]:
    rows = []
    for one in measured:
        machine = f"QEMU {one.arch}" if one.counted else f"KVM {one.arch}"
        what = ("instructions", "instructions") if one.counted else ("real", "s")
        rows += tables.samples(one.plan, one.arch, one.runs, machine, *what)
    return [row | {"source": f"samples.csv:{number + 2}"} for number, row in enumerate(rows)]


def qemu_version(arch: str) -> str:
    """Return QEMU's own name of its version, or "" if it is not installed."""
    program = shutil.which(MACHINES[arch].qemu)
    if not program:
        return ""
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return ran.stdout.partition("\n")[0]


def _boot(
    image, plan, accel, limits, log, heard, stop
) -> tuple[Console, str, list[str]]:
    machine = MACHINES[image.arch]
    with tempfile.TemporaryDirectory(prefix="reclaim-lab-") as folder:
        boot = prepare(image.arch, image.kernel, plan, Path(folder))
        rest = {
            "package": machine.package,
            "heard": lambda console: heard(image.arch, console),
            "stop": stop,
        }
        note = []
        if accel == "kvm":
            console, reason = _with_kvm(boot, limits, log, rest)
            if console:
                return console, _told(boot, folder, "kvm"), [TIME]
            note = [reason]
        with _opened(log) as written:
            console = emulator.run(boot.command(), limits=limits, log=written, **rest)
        return console, _told(boot, folder, "tcg"), note


def prepare(arch: str, kernel: Path, plan: Plan, folder: Path) -> Boot:
    """Return a boot whose initramfs and disks are written into a folder."""
    archive = folder / "initramfs.cpio"
    archive.write_bytes(initramfs.archive(build.init_program(arch)))
    images = []
    if plan.workload == "file":
        images = disks.make(folder, of_each_block_size=not plan.modified)
    elif plan.workload == "anon":
        images = [disks.swap(folder, plan.map_bytes)]
    return Boot(
        arch, kernel, archive, tuple(plan.arguments()), plan.memory_mib, plan.cpus, tuple(images)
    )


# A guest under KVM, or why there is none: no device, or one that never boots a guest.
def _with_kvm(boot: Boot, limits: Limits, log, rest) -> tuple[Console | None, str]:
    if not MACHINES[boot.arch].native:
        return None, f"KVM: this machine does not run {boot.arch}; emulated instead"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None, "KVM: no /dev/kvm that may be used; emulated instead"
    first = Limits(min(KVM_BOOT_S, limits.boot_s), limits.silence_s)
    with _opened(log) as written:
        try:
            command = replace(boot, accel="kvm").command()
            return emulator.run(command, limits=first, log=written, **rest), ""
        except GuestError as error:
            reason = str(error).partition(";")[0]
            return None, f"KVM: {reason}; emulated instead"


def _opened(log: Path | None):
    path = log or Path(os.devnull)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", errors="backslashreplace")


# The command line, without the folder that was removed.
def _told(boot: Boot, folder: str, accel: str) -> str:
    words = replace(boot, accel=accel).command()
    return " ".join(re.sub(re.escape(str(folder)) + "/", "", word) for word in words)


def _check_memory(plan: Plan) -> None:
    needed = plan.needed_mib
    try:
        with Path("/proc/meminfo").open() as info:
            line = next(line for line in info if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return
    there = int(line.split()[1]) >> 10
    if needed > there:
        raise LabError(
            f"--map {plan.map_bytes}: the guest needs {needed} MiB, this machine has {there} MiB "
            "free; expected a smaller --map, or a machine with more"
        )


def _notes(plan: Plan, runs: Sequence[Run]) -> list[str]:
    notes = []
    short = [run for run in runs if run.error]
    if short:
        notes.append(f"{len(short)} of {len(runs)} requests were not met (errno {short[0].error})")
    wrong = [run for run in runs if run.wrong]
    if wrong:
        first = wrong[0]
        notes.append(
            f"{len(wrong)} of {len(runs)} runs had folios of another order: at order "
            f"{first.order} {first.wrong} of {first.seen} pages"
        )
    if plan.stats_worker == "on":
        notes.append("the two-second statistics worker ran: counts depend on the moment")
    return notes
