# SPDX-License-Identifier: GPL-2.0-only
"""One real boot: a stock kernel of Debian's under emulation runs the guest and reclaims memory.

Nothing is built: the kernel comes through apt, unpacked and not installed. QEMU is installed where
apt and root are there to do it; elsewhere, and where there is no network, the test is skipped.
"""

import platform
import shutil

import debian_packages
import pytest

from lab import build, debian, emulate, emulator
from lab.errors import LabError, MissingError
from lab.machine import MACHINES
from lab.plan import Plan

ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "x86_64")
# No file system is needed, which this kernel has as a module: lazyfree memory.
PLAN = Plan(
    kernels=("unmap",), orders=(0,), lrus=("classic",), workload="lazyfree", modified=False,
    map_bytes=16 << 20, reclaim_bytes=8 << 20,
)  # fmt: skip


def absent():
    packages = [] if shutil.which(MACHINES[ARCH].qemu) else [MACHINES[ARCH].package]
    try:
        build.init_program(ARCH)
    except MissingError:
        packages += ["gcc", "libc6-dev"]
    return packages


@pytest.fixture(scope="module")
def installed():
    debian_packages.need(*absent())


@pytest.fixture(scope="module")
def stock_kernel(installed, tmp_path_factory):  # noqa: ARG001 - apt comes first
    try:
        package = debian.cloud_kernel()
    except LabError as error:
        pytest.skip(f"no stock kernel to boot: {error}")
    kernel = tmp_path_factory.mktemp("kernel") / "vmlinuz"
    for _, content in debian.members(package, r"^\./boot/vmlinuz-"):
        kernel.write_bytes(content)
    return kernel


def test_a_stock_kernel_reclaims_under_emulation(stock_kernel, tmp_path):
    boot = emulate.prepare(ARCH, stock_kernel, PLAN, tmp_path)
    (run,) = emulator.run(boot.command()).runs
    assert run.error == 0
    assert run.before == 16 << 20
    assert run.pgsteal >= 2048  # 8 MiB, and what a batch overshoots
    assert run.before - run.after == run.pgsteal << 12
    assert run.wrong == 0
    assert run.ns > 100 * run.pgsteal  # some hundred instructions a page, at the very least

