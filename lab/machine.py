# SPDX-License-Identifier: GPL-2.0-only
"""Machines that are emulated: QEMU's program, options and disks, a row for each architecture.

`-icount shift=0,sleep=off` makes one instruction one virtual nanosecond, and an idle guest's clock
jump to its next timer (QEMU, docs/devel/tcg-icount.rst): the guest's own clock counts instructions.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# panic=-1: reboot at once, which ends an emulator that may not reboot; the rest makes boots alike.
COMMON = "panic=-1 oops=panic nokaslr norandmaps quiet loglevel=4"
ICOUNT = "shift=0,sleep=off"


@dataclass(frozen=True)
class Machine:
    """What one architecture is called where, and which machine QEMU makes of it.

    Attributes:
        qemu: QEMU's program; package: the Debian package that has it.
        options: machine and CPU, with every instruction set QEMU knows.
        console: the kernel's name of the first serial port.
        disk: QEMU's device for a virtio disk.
        prefix: of the cross compiler's programs; compilers: packages that have it.
        image: what `make` builds, and where it leaves it.
        srcarch: the kernel's own name of the architecture.
        host: names that uname(2) gives this architecture.
        several: kernel options with more than one CPU.
    """

    qemu: str
    package: str
    options: tuple[str, ...]
    console: str
    disk: str
    prefix: str
    compilers: tuple[str, ...]
    target: str
    image: str
    host: tuple[str, ...]
    several: str = ""

    @property
    def native(self) -> bool:
        """Whether this machine's own processor is of this architecture."""
        return platform.machine().lower() in self.host


MACHINES = {
    "x86_64": Machine(
        qemu="qemu-system-x86_64",
        package="qemu-system-x86",
        options=("-M", "q35", "-cpu", "max"),
        console="ttyS0",
        disk="virtio-blk-pci",
        prefix="x86_64-linux-gnu-",
        compilers=("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"),
        target="bzImage",
        image="arch/x86/boot/bzImage",
        host=("x86_64", "amd64"),
        # sockets' TSCs are taken to differ: what was left tells the time in ticks of 4 ms
        several="tsc=reliable",
    ),
    "arm64": Machine(
        qemu="qemu-system-aarch64",
        package="qemu-system-arm",
        options=("-M", "virt", "-cpu", "max"),
        console="ttyAMA0",
        disk="virtio-blk-device",
        prefix="aarch64-linux-gnu-",
        compilers=("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
        target="Image",
        image="arch/arm64/boot/Image",
        host=("aarch64", "arm64"),
    ),
}


@dataclass(frozen=True)
class Boot:
    """One boot of a machine: files, memory, CPUs, what init is told.

    Attributes:
        accel: "tcg", instructions counted; or "kvm", time measured.
        disks: raw images, the first is /dev/vda; writes to them are thrown away.
        extra: options of QEMU's put last, such as a plugin.
    """

    arch: str
    kernel: Path
    initramfs: Path
    arguments: Sequence[str]
    memory_mib: int = 1024
    cpus: int = 1
    disks: Sequence[Path] = ()
    accel: str = "tcg"
    kernel_options: str = ""
    extra: Sequence[str] = ()

    def command(self) -> list[str]:
        """Return the command line."""
        machine = MACHINES[self.arch]
        words = [machine.qemu, *self._accelerated(machine)]
        # a socket each: a PC's MP table, all that a kernel without ACPI reads, has one CPU of each
        words += ["-smp", f"{self.cpus},sockets={self.cpus}", "-m", f"{self.memory_mib}M"]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-monitor", "none", "-serial", "stdio", "-rtc", "base=2026-01-01,clock=vm"]
        words += ["-kernel", str(self.kernel), "-initrd", str(self.initramfs)]
        words += ["-append", self._append(machine)]
        for number, disk in enumerate(self.disks):
            drive = f"file={str(disk).replace(',', ',,')},if=none,id=disk{number},format=raw"
            words += ["-drive", f"{drive},snapshot=on"]
            words += ["-device", f"{machine.disk},drive=disk{number}"]
        return [*words, *self.extra]

    def _accelerated(self, machine: Machine) -> list[str]:
        if self.accel == "kvm":
            gic = ",gic-version=host" if self.arch == "arm64" else ""
            board = machine.options[1] + gic
            return ["-M", board, "-cpu", "host", "-accel", "kvm"]
        return [*machine.options, "-accel", "tcg,thread=single", "-icount", ICOUNT]

    def _append(self, machine: Machine) -> str:
        several = machine.several if self.cpus > 1 else ""
        words = [f"console={machine.console}", COMMON, several, self.kernel_options]
        words += ["--", *self.arguments]
        return " ".join(word for word in words if word)
