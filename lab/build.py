# SPDX-License-Identifier: GPL-2.0-only
"""Build: a kernel image of one tree and architecture, with switches, cached by all it is made of.

The first build of an architecture compiles about a thousand files, ten minutes on two cores; later
ones only what differs from the tree built before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cache, switches
from lab.errors import BuildError, MissingError
from lab.machine import MACHINES
from lab.tree import Tree, copy

CONFIG = Path(__file__).parent / "config"
GUEST = Path(__file__).parent / "guest"
# Program or header, and the Debian package that has it.
NEEDED = {
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
}
HEADERS = {"gelf.h": "libelf-dev", "openssl/ssl.h": "libssl-dev"}


@dataclass(frozen=True)
class Image:
    """A kernel that was built.

    Attributes:
        folder: has `kernel`, System.map, `config` and about.json.
        release: the kernel's own name of its version.
        source, source_id: the tree it is of; switches: those that were put into it.
        config_sha256: of the whole configuration; compiler: its first line of --version.
    """

    arch: str
    folder: Path
    release: str
    source: str
    source_id: str
    switches: tuple[str, ...]
    config_sha256: str
    compiler: str

    @property
    def kernel(self) -> Path:
        """What the emulator boots."""
        return self.folder / "kernel"

    @property
    def about(self) -> dict:
        """Where it comes from, for a table's provenance."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}


def compiler(arch: str) -> str:
    """Return the C compiler for an architecture; MissingError names the packages that have one."""
    machine = MACHINES[arch]
    names = ["gcc"] if machine.native else []
    for name in (*names, f"{machine.prefix}gcc"):
        if shutil.which(name):
            return name
    packages = "gcc libc6-dev" if machine.native else " ".join(machine.compilers)
    raise MissingError(
        f"{machine.prefix}gcc: no compiler for {arch}; install one: apt-get install {packages}"
    )


def missing(arch: str) -> list[str]:
    """Return the Debian packages that a build for this architecture still needs."""
    packages = [package for name, package in NEEDED.items() if not shutil.which(name)]
    try:
        compiler(arch)
    except MissingError as error:
        packages += str(error).rpartition("apt-get install ")[2].split()
    host = shutil.which("gcc")
    if not host:
        return sorted({*packages, "gcc", "libc6-dev"})
    for header, package in HEADERS.items():
        found = subprocess.run(
            [host, "-E", "-"], input=f"#include <{header}>\n", capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        packages += [package] if found.returncode else []
    return sorted(set(packages))


def init_program(arch: str) -> bytes:
    """Return the guest's init for an architecture, compiled if it is not in the cache.

    Raises:
        MissingError: no compiler, or no static C library for it.
        BuildError: it does not compile.
    """
    sources = sorted(GUEST.glob("*.[ch]"))
    using = compiler(arch)
    ident = cache.key(_version(using), *(path.read_bytes() for path in sources))
    kept = cache.folder("guest") / f"{arch}-{ident}"
    if not kept.exists():
        cache.write_whole(kept, _compiled(using, sources, arch), 0o755)
    return kept.read_bytes()


def kernel(
    arch: str,
    tree: Tree,
    wanted: Sequence[str],
    *,
    heard: Callable[[str], None] = lambda _: None,
) -> Image:
    """Return a kernel image, built if it is not in the cache.

    Args:
        tree: its source, which is only read.
        wanted: names of switches to put into the copy.
        heard: called with each line that make prints.

    Raises:
        MissingError: programs of a build are not installed; names their packages.
        AnchorError: the tree has no place for a switch.
        BuildError: make failed; has its last lines.
    """
    if packages := missing(arch):
        raise MissingError(
            f"a build for {arch} needs what is not installed here: "
            f"apt-get install {' '.join(packages)}"
        )
    fragment = "".join((CONFIG / name).read_text() for name in ("common.config", f"{arch}.config"))
    edits, new = switches.edits(wanted), switches.new_files(wanted)
    version = _version(compiler(arch))
    told = json.dumps([sorted(wanted), new, switches.told(wanted)])
    folder = cache.folder("images") / f"{arch}-{cache.key(tree.id, fragment, told, version)}"
    with cache.locked("build"):
        if not (folder / "about.json").exists():
            source = cache.folder("source")
            copy(tree, source, edits, new)
            _make_all(arch, fragment, heard)
            _keep(arch, tree, wanted, folder)
    about = json.loads((folder / "about.json").read_text())
    return Image(folder=folder, **{**about, "switches": tuple(about["switches"])})


def _compiled(using: str, sources: list[Path], arch: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="reclaim-lab-") as folder:
        program = Path(folder, "init")
        files = [str(path) for path in sources if path.suffix == ".c"]
        command = [using, "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(program)]
        ran = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
        if ran.returncode:
            packages = "libc6-dev" if MACHINES[arch].native else MACHINES[arch].compilers[1]
            if re.search(r"No such file|cannot find -l", ran.stderr):
                raise MissingError(
                    f"{using}: found no static C library; install it: apt-get install {packages}"
                )
            raise BuildError(f"the guest's init did not compile:\n{_last(ran.stderr)}")
        return program.read_bytes()


def _make_all(arch: str, fragment: str, heard) -> None:
    where = cache.folder(f"build/{arch}")
    allconfig = where / "lab.config"
    cache.write_whole(allconfig, fragment.encode())
    _make(arch, ["allnoconfig"], heard, KCONFIG_ALLCONFIG=str(allconfig))
    kept = set((where / ".config").read_text().splitlines())
    wanted = [line for line in fragment.splitlines() if line.startswith("CONFIG_")]
    # an option that an older tree does not know is no loss; one that it refuses may be
    for line in wanted:
        if line not in kept and f"# {line.partition('=')[0]} is not set" in kept:
            raise BuildError(f"{arch}: this tree's configuration does not take {line}")
    _make(arch, [MACHINES[arch].target], heard)


def _make(arch: str, targets: list[str], heard, **environment: str) -> None:
    command = [
        "make", f"-j{os.cpu_count() or 1}", "-C", str(cache.folder("source")),
        f"O={cache.folder(f'build/{arch}')}", f"ARCH={arch}",
        f"CROSS_COMPILE={compiler(arch).removesuffix('gcc')}", *targets,
    ]  # fmt: skip
    # who built it when, and where, is no part of a kernel that is to be built alike
    alike = {"KBUILD_BUILD_USER": "lab", "KBUILD_BUILD_HOST": "lab",
             "KBUILD_BUILD_TIMESTAMP": "2026-01-01", "LC_ALL": "C"}  # fmt: skip
    lines: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **alike, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout:
                lines.append(line)
                heard(line)
        except BaseException:
            # All compilers with it: they would go on in the tree that the next build writes to.
            # make deletes what it had half done.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise BuildError(f"make {' '.join(targets)} for {arch} failed:\n{_last(''.join(lines))}")


def _keep(arch: str, tree: Tree, wanted: Sequence[str], folder: Path) -> None:
    where = cache.folder(f"build/{arch}")
    config = (where / ".config").read_bytes()
    about = {
        "arch": arch,
        "release": (where / "include/config/kernel.release").read_text().strip(),
        "source": tree.name,
        "source_id": tree.id,
        "switches": sorted(wanted),
        "config_sha256": hashlib.sha256(config).hexdigest(),
        "compiler": _version(compiler(arch)),
    }
    with cache.whole_folder(folder) as made:
        shutil.copyfile(where / MACHINES[arch].image, made / "kernel")
        shutil.copyfile(where / "System.map", made / "System.map")
        (made / "config").write_bytes(config)
        (made / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def _version(program: str) -> str:
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return ran.stdout.partition("\n")[0]


def _last(text: str) -> str:
    errors = [line for line in text.splitlines() if re.search(r"error|Error|\*\*\*", line)]
    return "\n".join(f"  | {line[:160]}" for line in (errors or text.splitlines())[-12:])
