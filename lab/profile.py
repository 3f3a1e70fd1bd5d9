# SPDX-License-Identifier: GPL-2.0-only
"""Profile: every instruction of a request by kernel function, exactly, and by call chain.

QEMU counts each block of code that it runs through a plugin of ours (plugin/stacks.c); what the
guest does is what it does without. Functions that the compiler inlined are part of those that they
were inlined into.
"""

from __future__ import annotations

import bisect
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lab import build, cache, emulate, emulator, tables
from lab.console import Run
from lab.emulator import Limits
from lab.errors import BuildError, LabError
from lab.machine import MACHINES
from lab.plan import Plan

SOURCE = Path(__file__).parent / "plugin" / "stacks.c"
MARKS = ("request_begins", "request_ends")  # guest/system.c
ROOT = "init"  # the process that makes the request
LISTED = 0.001  # share of a request from which on a function is in a table
NAMES = {-1: "[user]", -2: "[other]", -3: "[other task]"}
# Kinds of functions, of plugin/stacks.c: entry of an interrupt, return from it, switch of tasks.
KINDS = (
    (1, re.compile(r"asm_(?:sysvec|exc)_.*|asm_(?:common|spurious)_interrupt|irq_entries_start"
                   r"|vectors")),
    (2, re.compile(r"native_irq_return_iret|ret_to_kernel")),
    (3, re.compile(r"__switch_to_asm|cpu_switch_to")),
)  # fmt: skip
_CHAIN = re.compile(r"(?P<chain>(?:-?[0-9]+;)*) (?P<count>[0-9]+)")


@dataclass(frozen=True)
class Profile:
    """The instructions of one request.

    Attributes:
        run: the request; its ns are the instructions that the guest's clock saw.
        stacks: instructions by call chain, the outermost function first.
    """

    arch: str
    run: Run
    stacks: Mapping[tuple[str, ...], int]

    @property
    def total(self) -> int:
        """All instructions between the marks."""
        return sum(self.stacks.values())

    @property
    def own(self) -> Counter[str]:
        """Instructions of each function itself, by name."""
        found: Counter[str] = Counter()
        for chain, count in self.stacks.items():
            found[chain[-1] if chain else ROOT] += count
        return found

    @property
    def beneath(self) -> Counter[str]:
        """Instructions of each function and of all that it called, by name."""
        found: Counter[str] = Counter()
        for chain, count in self.stacks.items():
            for function in {ROOT, *chain}:
                found[function] += count
        return found

    def folded(self) -> str:
        """Return folded stacks, init first: "init;function;... instructions" a line."""
        lines = {";".join((ROOT, *chain)): count for chain, count in self.stacks.items()}
        return "".join(f"{chain} {count}\n" for chain, count in sorted(lines.items()) if count)


def measure(
    image: build.Image,
    plan: Plan,
    *,
    limits: Limits = emulator.DEFAULT,
    heard=lambda _, __: None,
) -> list[Profile]:
    """Boot one kernel with the plugin for each of `plan.boots`; return a profile of each run.

    Raises:
        LabError: QEMU has no plugins, or the plan has MADV_PAGEOUT, which has no marks.
        GuestError: the guest failed.
    """
    if plan.request != "memory.reclaim":
        raise LabError(f"--request {plan.request}: expected memory.reclaim, for a profile")
    return [one for of in plan.boots for one in _booted(image, of, limits, heard)]


def _booted(image: build.Image, plan: Plan, limits: emulator.Limits, heard) -> list[Profile]:
    with tempfile.TemporaryDirectory(prefix="reclaim-lab-") as name:
        folder = Path(name)
        boot = emulate.prepare(image.arch, image.kernel, plan, folder)
        starts, names = symbols((image.folder / "System.map").read_text())
        (folder / "functions").write_bytes(_packed(starts, names))
        boot = replace(boot, extra=_options(image.arch, folder))
        console = emulator.run(
            boot.command(),
            limits=limits,
            package=MACHINES[image.arch].package,
            heard=lambda console: heard(image.arch, console),
        )
        found = list(read((folder / "stacks").read_text(), names))
    if len(found) != len(console.runs):
        raise LabError(
            f"the plugin counted {len(found)} requests, the guest made {len(console.runs)}; "
            "expected the same: the kernel's text may have moved (nokaslr)"
        )
    pairs = zip(console.runs, found, strict=True)
    return [Profile(image.arch, run, stacks) for run, stacks in pairs]


def symbols(system_map: str) -> tuple[list[int], list[str]]:
    """Return where functions start, rising, with the end of the text last, and their names.

    Of several names of one address the first is taken; padding before a function is no function.
    LabError if a System.map has no text.
    """
    found: dict[int, str] = {}
    bounds = {}
    for line in system_map.splitlines():
        address, kind, name = line.split()
        if name in ("_stext", "_text", "_etext"):
            bounds[name] = int(address, 16)
        elif kind in "tTwW" and not name.startswith(("__pfx_", "$", ".L")):
            found.setdefault(int(address, 16), name)
    end = bounds.get("_etext", 0)
    starts = sorted(address for address in found if address < end)
    if not starts:
        raise LabError("System.map: found no functions before _etext; expected a kernel's")
    first = bisect.bisect_left(starts, bounds.get("_stext", bounds.get("_text", 0)))
    return [*starts[first:], end], [found[start] for start in starts[first:]]


def read(text: str, names: list[str]) -> Iterator[dict[tuple[str, ...], int]]:
    """Yield the stacks of each run of the plugin's output; LabError for a line that is none."""
    stacks: dict[tuple[str, ...], int] | None = None
    for line in text.splitlines():
        if line == "run":
            if stacks is not None:
                yield stacks
            stacks = {}
            continue
        row = _CHAIN.fullmatch(line)
        if row is None or stacks is None:
            raise LabError(f"the plugin wrote {line[:80]!r}; expected indices and a count")
        indices = map(int, row["chain"].split(";")[:-1])
        chain = tuple(NAMES.get(index) or names[index] for index in indices)
        stacks[chain] = stacks.get(chain, 0) + int(row["count"])
    if stacks is not None:
        yield stacks


def functions(plan: Plan, profiles: Iterable[Profile]) -> list[dict[str, object]]:
    """Return a row a function of each profile, dearest first, in the columns `tables.FUNCTIONS`.

    own: instructions of the function itself; beneath: of it and of all that it called. Functions
    beneath which less than `LISTED` of the request lies are left to the folded stacks.
    """
    rows = []
    for profile in profiles:
        own, of = profile.own, tables.cell(plan, profile.arch, profile.run)
        rows += [
            of | {"function": function, "own": own[function], "beneath": beneath}
            for function, beneath in profile.beneath.most_common()
            if beneath >= LISTED * profile.total
        ]
    return rows


def top(profiles: list[Profile], number: int = 10) -> str:
    """Return the functions with most instructions of each profile, ASCII, at most 75 columns."""
    blocks = []
    for one in profiles:
        run = one.run
        head = f"{one.arch} {run.lru} {run.kernel} order {run.order}: {one.total:,} instructions"
        lines = [head, f"{'function':<34}{'instructions':>14}{'share':>8}"]
        for name, count in one.own.most_common(number):
            lines.append(f"{name[:33]:<34}{count:>14,}{count / one.total:>8.1%}")
        off = one.total / run.ns - 1 if run.ns else 0.0
        lines.append(f"the guest's own clock: {run.ns:,} ({off:+.3%})")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _packed(starts: list[int], names: list[str]) -> bytes:
    kinds = [
        next((kind for kind, pattern in KINDS if pattern.fullmatch(name)), 0) for name in names
    ]
    pairs = zip(starts, [*kinds, 0], strict=True)
    return b"".join(struct.pack("<2Q", *pair) for pair in pairs)


def _options(arch: str, folder: Path) -> tuple[str, ...]:
    begin, end = (_address(arch, folder, mark) for mark in MARKS)
    words = f"{_plugin(arch)},functions={folder}/functions,begin={begin},end={end}"
    return ("-plugin", f"{words},out={folder}/stacks")


# Of a function of init's, which is linked to run where it was put.
def _address(arch: str, folder: Path, name: str) -> int:
    program = folder / "init"
    program.write_bytes(build.init_program(arch))
    nm = build.compiler(arch).removesuffix("gcc") + "nm"
    ran = subprocess.run([nm, str(program)], capture_output=True, text=True, check=False)
    found = re.search(rf"^([0-9a-f]+) [tT] {name}$", ran.stdout, re.MULTILINE)
    if not found:
        raise BuildError(f"{nm}: found no {name} in the guest's init")
    return int(found[1], 16)


def _plugin(arch: str) -> Path:
    version = emulate.qemu_version(arch)
    number = re.search(r"version ([0-9]+)", version)
    interface = 2 if number and int(number[1]) >= 9 else 1
    kept = cache.folder("plugin") / f"stacks-{cache.key(SOURCE.read_bytes(), version)}.so"
    if not kept.exists():
        using = shutil.which("gcc") or build.compiler("x86_64")
        with tempfile.TemporaryDirectory(prefix="reclaim-lab-") as folder:
            made = Path(folder, "stacks.so")
            command = [using, "-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={interface}"]
            command += ["-o", str(made), str(SOURCE)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise BuildError(f"the plugin did not compile:\n{ran.stderr.strip()}")
            cache.write_whole(kept, made.read_bytes(), 0o755)
    return kept
