# SPDX-License-Identifier: GPL-2.0-only
"""Tree: the files of one kernel source, a folder, a git revision or a package, only ever read.

A build takes place in a copy in the cache. Only files that differ are written there, so that make
builds only what they touch: the second tree of a comparison takes a minute, not ten.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import cache, debian
from lab.errors import LabError

# What a build leaves in a tree; a copy with it would not build elsewhere.
_BUILT = re.compile(
    r"(?:^|/)\.(?:git|config(?:\.old)?|tmp_[^/]*|[^/]*\.cmd)(?:/|$)|^include/(?:generated|config)/"
    r"|^arch/[^/]+/include/generated/|\.(?:o|ko|a|mod|order|symvers)$|^vmlinux|^System\.map$"
    r"|^arch/[^/]+/boot/(?:bzImage|Image)"
)


@dataclass(frozen=True)
class Entry:
    """One file: its path in the tree, content, and whether it is a program or a symbolic link."""

    path: str
    content: bytes
    executable: bool = False
    link: bool = False


@dataclass(frozen=True)
class Tree:
    """A kernel source: `id` differs where any file does, `name` is for people."""

    name: str
    id: str
    entries: Callable[[], Iterator[Entry]]


def package() -> Tree:
    """Return the newest Linux source of Debian; LabError if it cannot be fetched."""
    path = debian.newest_source()
    return Tree(path.stem, cache.key(path.name), lambda: _of_package(path))


def of(what: str, git: str = "") -> Tree:
    """Return the tree that a folder or a revision names.

    Args:
        what: a folder, or a revision of `git`.
        git: repository that revisions are of; "" takes the current folder's.

    Raises:
        LabError: neither a kernel tree nor a revision of one.
    """
    folder = Path(what).expanduser()
    if folder.is_dir():
        return _of_folder(folder.resolve())
    return _of_revision(what, git or ".")


def copy(tree: Tree, to: Path, edits: dict[str, Callable[[str], str]], new: dict[str, str]) -> None:
    """Make `to` a copy of the tree with some files edited and some added; write what differs.

    Raises:
        AnchorError: an edit found nothing to hold on to; the copy then is of no use.
        LabError: a file to edit is not there.
    """
    kept = set()
    missing = set(edits)
    for entry in tree.entries():
        edited = entry
        if edit := edits.get(entry.path):
            missing.discard(entry.path)
            text = edit(entry.content.decode("utf-8", "surrogateescape"))
            content = text.encode("utf-8", "surrogateescape")
            edited = Entry(entry.path, content, entry.executable)
        _write(to, edited)
        kept.add(entry.path)
    if missing:
        raise LabError(f"{tree.name}: found no {sorted(missing)[0]}; expected a kernel tree")
    for path, text in new.items():
        _write(to, Entry(path, text.encode()))
    _forget(to, kept | set(new))


def _write(to: Path, entry: Entry) -> None:
    path = to / entry.path
    if entry.link:
        target = os.fsdecode(entry.content)
        if not path.is_symlink() or os.readlink(path) != target:  # noqa: PTH115 - as it stands
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        return
    mode = 0o755 if entry.executable else 0o644
    try:
        same = path.stat().st_size == len(entry.content) and path.read_bytes() == entry.content
    except OSError:
        same = False
    if not same:
        if path.is_symlink() or path.is_dir():
            raise LabError(f"{path}: is in the way; remove the folder {to}")
        cache.write_whole(path, entry.content, mode)
    elif bool(path.stat().st_mode & 0o100) != entry.executable:
        path.chmod(mode)


def _forget(to: Path, kept: set[str]) -> None:
    for folder, _, names in os.walk(to):
        for name in names:
            path = Path(folder, name)
            if str(path.relative_to(to)) not in kept:
                path.unlink()


def _of_package(path: Path) -> Iterator[Entry]:
    command = ["dpkg-deb", "--fsys-tarfile", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked:
        with tarfile.open(fileobj=unpacked.stdout, mode="r|") as outer:
            for member in outer:
                if re.fullmatch(r"\./usr/src/linux-source-[0-9.]+\.tar\.xz", member.name):
                    with tarfile.open(fileobj=outer.extractfile(member), mode="r|xz") as inner:
                        yield from _of_archive(inner, strip=1)
        unpacked.stdout.read()


def _of_archive(archive: tarfile.TarFile, strip: int) -> Iterator[Entry]:
    for member in archive:
        path = "/".join(member.name.split("/")[strip:])
        if member.issym():
            yield Entry(path, os.fsencode(member.linkname), link=True)
        elif member.isfile():
            content = archive.extractfile(member).read()
            yield Entry(path, content, bool(member.mode & 0o100))


def _of_folder(folder: Path) -> Tree:
    if not (folder / "mm/vmscan.c").is_file():
        raise LabError(f"{folder}: found no mm/vmscan.c; expected a kernel tree")
    digest = hashlib.sha256()
    for entry in _of_files(folder):
        digest.update(f"{entry.path}\0{entry.executable}{entry.link}{len(entry.content)}\0".encode())
        digest.update(entry.content)
    return Tree(folder.name, digest.hexdigest()[:12], lambda: _of_files(folder))


def _of_files(folder: Path) -> Iterator[Entry]:
    for path in sorted(_listed(folder)):
        place = folder / path
        if place.is_symlink():
            yield Entry(path, os.fsencode(os.readlink(place)), link=True)  # noqa: PTH115
        elif place.is_file():
            executable = bool(place.stat().st_mode & 0o100)
            yield Entry(path, place.read_bytes(), executable)


def _listed(folder: Path) -> list[str]:
    if (folder / ".git").exists():
        told = _git(folder, "ls-files", "-z", "-co", "--exclude-standard")
        return [os.fsdecode(path) for path in told.split(b"\0") if path]
    paths = []
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        for name in (*names, *links):
            path = str(Path(where, name).relative_to(folder))
            if not _BUILT.search(path):
                paths.append(path)
    return paths


def _of_revision(revision: str, git: str) -> Tree:
    where = Path(git)
    found = _git(where, "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}", fails=True)
    if not found or revision.startswith("-"):
        raise LabError(
            f"{revision}: found neither a folder nor a revision of {where.resolve().name}; "
            "expected a kernel tree, or a revision of the repository that --git names"
        )
    ident = found.decode().strip()
    if not _git(where, "ls-tree", ident, "mm/vmscan.c"):
        raise LabError(f"{revision}: found no mm/vmscan.c in it; expected a kernel tree")
    return Tree(revision, ident[:12], lambda: _of_commit(where, ident))


def _of_commit(where: Path, ident: str) -> Iterator[Entry]:
    command = ["git", "-c", "safe.directory=*", "-C", str(where), "archive", ident]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as packed:
        with tarfile.open(fileobj=packed.stdout, mode="r|") as archive:
            yield from _of_archive(archive, strip=0)
        packed.stdout.read()


def _git(where: Path, *words: str, fails: bool = False) -> bytes:
    command = ["git", "-c", "safe.directory=*", "-C", str(where), *words]
    ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if ran.returncode and not fails:
        said = ran.stderr.decode(errors="replace").strip()
        raise LabError(f"git {words[0]} in {where}: {said}")
    return ran.stdout if not ran.returncode else b""
