# SPDX-License-Identifier: GPL-2.0-only
"""Settings: what `reclaim lab host` changes of this machine, each put back however it ends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab.errors import LabError, MissingError

CGROUP = Path("/sys/fs/cgroup")
THP = Path("/sys/kernel/mm/transparent_hugepage")
REQUESTS = ("memory.reclaim", "limit", "pageout")
NAME = "reclaim-lab"
REMOVED_S = 2.0  # from the end of what is in a cgroup to its own


@contextmanager
def folio_size(order: int, thp: Path = THP) -> Iterator[None]:
    """Let anonymous memory have folios of one order only; needs root.

    LabError if the kernel does not offer that size.
    """
    if not offers(order, thp):
        raise LabError(f"order {order}: {thp} offers no folios of {4 << order} KiB; expected it")
    sizes = sorted(thp.glob("hugepages-*kB/enabled"))
    with ExitStack() as back:
        for path in sizes:
            kib = int(path.parent.name.removeprefix("hugepages-").removesuffix("kB"))
            _set(path, "always" if kib == 4 << order else "never", back)
        if not sizes:  # before Linux 6.8: one page, or a PMD's
            _set(thp / "enabled", "always" if order else "never", back)
        yield


def offers(order: int, thp: Path = THP) -> bool:
    """Tell whether this kernel has anonymous folios of an order."""
    if (thp / f"hugepages-{4 << order}kB/enabled").exists() or order == 0:
        return True
    return order == 9 and (thp / "enabled").exists()


@contextmanager
def xfs(size_bytes: int, where: Path | None = None) -> Iterator[Path]:
    """Yield a folder of an XFS made for this, in a sparse file of this size on a loop device.

    MissingError without mkfs.xfs; LabError if it cannot be made or mounted.
    """
    with ExitStack() as back:
        folder = Path(back.enter_context(tempfile.TemporaryDirectory(prefix=NAME, dir=where)))
        image, mounted = folder / "xfs.img", folder / "mounted"
        mounted.mkdir()
        with image.open("wb") as sparse:
            sparse.truncate(size_bytes)
        _run("mkfs.xfs", "-q", "-f", str(image), package="xfsprogs")
        back.callback(_unmount, mounted)  # first: mount may be done when it is interrupted
        _run("mount", "-o", "loop", str(image), str(mounted), package="mount")
        yield mounted


@contextmanager
def cgroup(request: str, root: Path = CGROUP) -> Iterator[Path | None]:
    """Put this process into a cgroup of its own, and back; None where the request needs none."""
    if request == "pageout":
        yield None
        return
    v1 = request == "limit"
    base = root / "memory" if v1 else root
    folder = base / f"{NAME}-{os.getpid()}"
    with ExitStack() as back:
        if not v1:
            _enable_memory(base, back)
        before = base / own_cgroup(v1).lstrip("/")
        _make(folder, back)
        back.callback(_write, before / "cgroup.procs", str(os.getpid()))
        _write(folder / "cgroup.procs", str(os.getpid()))
        yield folder


def usable(root: Path = CGROUP) -> list[str]:
    """Return the requests that this machine allows, the truest first."""
    found = []
    if os.geteuid() == 0:
        controllers = root / "cgroup.controllers"
        if controllers.exists() and "memory" in controllers.read_text().split():
            found.append("memory.reclaim")
        if (root / "memory" / "memory.limit_in_bytes").exists() or (
            root / "memory" / "memory.use_hierarchy"
        ).exists():
            found.append("limit")
    return [*found, "pageout"]


def own_cgroup(v1: bool, text: str | None = None) -> str:
    """Return the path of this process's cgroup below its hierarchy."""
    for line in (text or Path("/proc/self/cgroup").read_text()).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers.split(",") == [""] and not v1:
            return path
        if "memory" in controllers.split(",") and v1:
            return path
    return "/"


@contextmanager
def prepared(request: str, group: Path, less: int) -> Iterator[Callable[[], None]]:
    """Yield a call that makes a cgroup reclaim so many bytes, in one write to an open file.

    With cgroup v1 it lowers the limit that far below what is used, and takes it away at once, for
    who allocates under it is killed. That less was freed than asked for is no error.
    """
    limit = request == "limit"
    path = group / ("memory.limit_in_bytes" if limit else "memory.reclaim")
    size = max(_used(group) - less, 1 << 20) if limit else less
    text = str(size).encode()
    try:
        file = os.open(path, os.O_WRONLY)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; expected to write to it, as root") from None

    def call() -> None:
        try:
            os.write(file, text)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EBUSY):
                raise LabError(f"{path}: {error.strerror}; expected to reclaim {less}") from None
        finally:
            if limit:
                os.write(file, b"-1")

    try:
        yield call
    finally:
        os.close(file)


def _used(group: Path) -> int:
    return int((group / "memory.usage_in_bytes").read_text())


def _set(path: Path, value: str, back: ExitStack) -> None:
    before = _chosen(path.read_text())
    if before != value:
        back.callback(_write, path, before)
        _write(path, value)


# "always [madvise] never": the one in brackets.
def _chosen(text: str) -> str:
    _, bracket, rest = text.partition("[")
    return rest.partition("]")[0] if bracket else text.strip()


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise LabError(f"{path}: writing {value}: {error.strerror}; expected to, as root") from None


def _enable_memory(base: Path, back: ExitStack) -> None:
    control = base / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        back.callback(_write, control, "-memory")
        _write(control, "+memory")


def _make(folder: Path, back: ExitStack) -> None:
    back.callback(_remove, folder)
    try:
        folder.mkdir()
    except OSError as error:
        raise LabError(f"{folder}: {error.strerror}; expected to make a cgroup there") from None


# In it are only we and what we started: an interrupt may have left a perf that nobody waits for.
def _remove(folder: Path) -> None:
    end = time.monotonic() + REMOVED_S
    while folder.exists() and time.monotonic() < end:
        for pid in (folder / "cgroup.procs").read_text().split():
            if int(pid) != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):  # busy until those are gone
            folder.rmdir()
        time.sleep(0.005)


def _unmount(folder: Path) -> None:
    if folder.is_mount():
        _run("umount", str(folder), package="mount")


def _run(program: str, *words: str, package: str, run: Callable = subprocess.run) -> None:
    path = shutil.which(program) or shutil.which(program, path="/sbin:/usr/sbin")
    if not path:
        raise MissingError(f"{program}: no such program; install it: apt-get install {package}")
    ran = run([path, *words], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise LabError(f"{program} {words[-1]}: {ran.stderr.strip()}")
