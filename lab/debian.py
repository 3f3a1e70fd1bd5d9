# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages, fetched through apt with a configuration of our own, never installed.

The mirror, proxy and keys are the machine's own; only the suite, and where apt keeps its lists,
differ. Nothing of the machine's package database is read or written.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lab import cache
from lab.errors import LabError, MissingError

SUITE = "sid"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCE = re.compile(r"^linux-source-([0-9]+)\.([0-9]+)(?= )", re.MULTILINE)
_CLOUD = re.compile(r"^linux-image-[0-9][0-9.]*.*-cloud-(?:amd64|arm64)(?= )", re.MULTILINE)


def newest_source() -> Path:
    """Return the package of the newest Linux source of the newest release series, 7.x at least.

    Raises:
        MissingError: no apt here. LabError: apt could not fetch it, or knows none.
    """
    apt = _Apt(SUITE)
    found = _SOURCE.findall(apt.search("^linux-source-[0-9.]+$"))
    newest = max(((int(major), int(minor)) for major, minor in found), default=(0, 0))
    if newest < (7, 0):
        raise LabError(
            f"Debian {SUITE}: found no package linux-source-7.x; expected one: name a kernel tree "
            "with --source DIR"
        )
    return apt.download(f"linux-source-{newest[0]}.{newest[1]}")


def cloud_kernel() -> Path:
    """Return the package of a stock kernel for virtual machines, of this machine's release.

    Raises:
        MissingError: no apt here. LabError: apt could not fetch it, or knows none.
    """
    apt = _Apt("")
    names = _CLOUD.findall(apt.search("^linux-image-[0-9].*-cloud-(amd64|arm64)$"))
    plain = sorted(names, key=_version)
    if not plain:
        raise LabError("Debian: found no package linux-image-...-cloud; expected one")
    return apt.download(plain[-1])


def members(package: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files of a package whose path fits (re.search)."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=-1) as unpacked:
        with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
            for member in tar:
                if member.isfile() and re.search(pattern, member.name):
                    yield member.name.removeprefix("./"), tar.extractfile(member).read()
        unpacked.stdout.read()


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", name)[:4])


class _Apt:
    # suite "": that of the machine itself
    def __init__(self, suite: str):
        self.mirror, own = _mirror()
        self.suite = suite or own
        self.folder = cache.folder(f"apt-{self.suite}")
        self._configure()
        if not any((self.folder / "lists").glob("*Packages*")):
            self._run("apt-get", "update")

    def _configure(self) -> None:
        for name in ("lists/partial", "archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        source = f"deb {signed}{self.mirror} {self.suite} main\n"
        cache.write_whole(self.folder / "sources.list", source.encode())
        cache.write_whole(self.folder / "status", b"")
        settings = {
            "Dir::State": self.folder,
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder,
            "Dir::Cache::archives": self.folder / "archives",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            # a mirror that was frozen at some day has lists of that day; they are still signed
            "Acquire::Check-Valid-Until": "false",
            "APT::Sandbox::User": "root",  # _apt cannot read a home folder
            "Acquire::Languages": "none",
        }
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        cache.write_whole(self.folder / "apt.conf", text.encode())

    def search(self, pattern: str) -> str:
        return self._run("apt-cache", "search", "--names-only", pattern)

    def download(self, name: str) -> Path:
        """Return the path of a package, fetched if it is not there in its newest version."""
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        version = re.search(r"^Version: (.+)$", shown, re.MULTILINE)[1]
        kept = self.folder / f"{name}_{version.replace(':', '%3a')}.deb"
        if not kept.exists():
            with cache.whole_folder(self.folder / "fetched") as fetched:
                self._run("apt-get", "download", name, cwd=fetched)
                next(fetched.glob("*.deb")).rename(kept)
        return kept

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> str:
        command = [program, "-c", str(self.folder / "apt.conf"), "-q", *words]
        return _checked(command, f"{program} {words[0]} ({self.suite})", cwd)


def _mirror() -> tuple[str, str]:
    told = _checked(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN) $(LABEL)"],
        "apt-get indextargets",
    )
    for line in told.splitlines():
        words = line.split()
        if words[2:] == ["Debian", "Debian"] and "-" not in words[1]:
            return words[0], words[1]
    raise LabError(
        "apt: found no Debian mirror among this machine's own; expected one: run apt-get update, "
        "or name a kernel tree with --source DIR"
    )


def _checked(command: list[str], what: str, cwd: Path | None = None) -> str:
    try:
        ran = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise MissingError(
            f"{command[0]}: no such program; expected Debian's apt: name a kernel tree with "
            "--source DIR"
        ) from None
    if ran.returncode:
        last = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-3:]
        raise LabError(f"{what} failed: {' '.join(last)}")
    return ran.stdout
