# SPDX-License-Identifier: GPL-2.0-only
"""Doctor: what this machine can do for the lab, and what to install or enable for the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import build
from lab.machine import MACHINES

CGROUP = Path("/sys/fs/cgroup")
SYSFS_THP = Path("/sys/kernel/mm/transparent_hugepage")


@dataclass(frozen=True)
class Finding:
    """One ability: whether it is here, what was found, and what would enable it."""

    name: str
    works: bool
    found: str
    enable: str = ""


def examine() -> list[Finding]:
    """Look at everything; nothing is changed, and no guest is booted."""
    return [*_emulation(), *_host()]


def report(*, as_json: bool = False) -> str:
    """Return the findings as text, or as a JSON list."""
    findings = examine()
    if as_json:
        return json.dumps([asdict(one) for one in findings], indent=2)
    lines = []
    for one in findings:
        lines.append(f"{'yes' if one.works else 'no':<4}{one.name:<18}{one.found}")
        if not one.works and one.enable:
            lines.append(f"{'':<22}to enable: {one.enable}")
    return "\n".join(lines)


def _emulation() -> Iterator[Finding]:
    for arch, machine in MACHINES.items():
        yield _program(f"emulate {arch}", machine.qemu, machine.package)
    for arch in MACHINES:
        packages = build.missing(arch)
        found = f"lacks {', '.join(packages)}" if packages else build.compiler(arch)
        enable = f"apt-get install {' '.join(packages)}"
        yield Finding(f"build {arch}", not packages, found, enable)
    yield _program("ext4 images", "mke2fs", "e2fsprogs")
    yield _program("fetch a kernel", "apt-get", "apt; or name a tree with --source")
    yield _kvm()


def _host() -> Iterator[Finding]:
    root = os.geteuid() == 0
    yield Finding("root", root, f"user {os.geteuid()}", "sudo; without, only one's own memory")
    yield _cgroup(root)
    yield _program("XFS images", "mkfs.xfs", "xfsprogs")
    yield _filesystem("xfs")
    yield _readable("kpageflags", Path("/proc/kpageflags"), "root, CONFIG_PROC_PAGE_MONITOR")
    yield _readable("MGLRU switch", Path("/sys/kernel/mm/lru_gen/enabled"), "CONFIG_LRU_GEN")
    sizes = sorted(SYSFS_THP.glob("hugepages-*kB"))
    yield Finding("mTHP sizes", bool(sizes), f"{len(sizes)} folio sizes", "Linux 6.8 or later")
    yield _program("perf", "perf", "linux-perf")
    yield _pmu()


def _program(name: str, program: str, package: str) -> Finding:
    path = shutil.which(program) or shutil.which(program, path="/sbin:/usr/sbin")
    return Finding(name, bool(path), path or f"no {program}", f"apt-get install {package}")


def _readable(name: str, path: Path, enable: str) -> Finding:
    works = os.access(path, os.R_OK)
    return Finding(name, works, str(path) if works else f"{path}: cannot be read", enable)


def _kvm() -> Finding:
    works = os.access("/dev/kvm", os.R_OK | os.W_OK)
    found = "/dev/kvm; --accel kvm tells whether it boots a guest" if works else "no /dev/kvm"
    return Finding("KVM", works, found, "virtualization in the firmware, or nested for a guest")


def _cgroup(root: bool) -> Finding:
    if (CGROUP / "cgroup.controllers").exists():
        has = "memory" in (CGROUP / "cgroup.controllers").read_text().split()
        enable = "boot without cgroup_disable=memory; Linux 5.19 or later"
        return Finding("memory.reclaim", has and root, f"cgroup v2, memory: {has}", enable)
    v1 = (CGROUP / "memory").is_dir()
    found = "cgroup v1: its limits serve" if v1 else "no cgroup file system"
    return Finding("memory.reclaim", False, found, "boot with systemd.unified_cgroup_hierarchy=1")


def _filesystem(name: str) -> Finding:
    known = name in Path("/proc/filesystems").read_text().split()
    return Finding(f"{name} mounts", known, "in /proc/filesystems" if known else "not known yet",
                   f"modprobe {name}")  # fmt: skip


def _pmu() -> Finding:
    if not shutil.which("perf"):
        return Finding("hardware PMU", False, "no perf to ask", "apt-get install linux-perf")
    said = _said(["perf", "stat", "-x;", "-e", "instructions", "true"])
    works = bool(said) and "<not" not in said and "No permission" not in said
    return Finding("hardware PMU", works, "counts instructions" if works else "not supported here",
                   "a machine, or a virtual machine, with a PMU")  # fmt: skip


def _said(command: list[str], run: Callable = subprocess.run) -> str:
    try:
        return run(command, capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""
