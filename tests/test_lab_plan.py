# SPDX-License-Identifier: GPL-2.0-only
import stat
from itertools import pairwise

import pytest

from lab import initramfs
from lab.errors import LabError
from lab.machine import Boot
from lab.plan import Plan


def test_the_switches_are_those_the_kernels_need():
    file = {"folio_order", "no_stats_worker"}
    assert set(Plan(kernels=("unmap",)).switches) == file
    assert set(Plan(kernels=("references",)).switches) == file | {"no_unmap_batch"}
    assert set(Plan(kernels=("unmap-only",)).switches) == file | {"no_reference_batch"}
    assert len(Plan().switches) == 4
    assert Plan(kernels=("unmap",), stats_worker="on").switches == ("folio_order",)
    assert Plan(kernels=("unmap",), workload="lazyfree", orders=(4,)).switches == (
        "no_stats_worker",
    )
    assert Plan(kernels=("unmap",), orders=(0, 9), modified=False).switches == ()
    assert Plan(kernels=("unmap",), orders=(0, 9), modified=False).stats_worker == "on"


def test_cells_come_in_the_guests_order():
    plan = Plan(kernels=("base", "unmap"), orders=(0, 4), lrus=("classic",), reps=2)
    assert plan.cells[:3] == [
        ("classic", 0, 0, "base"),
        ("classic", 0, 0, "unmap"),
        ("classic", 0, 1, "base"),
    ]
    assert len(plan.cells) == 8


def test_init_is_told_everything():
    words = set(Plan(orders=(4, 9), kernels=("unmap",), lrus=("mglru",)).arguments())
    assert {"lab.orders=4,9", "lab.kernels=unmap", "lab.lrus=mglru", "lab.map=268435456"} <= words
    assert all(len(word) < 100 for word in words)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"orders": (10,)}, "--orders: found 10"),
        ({"orders": ()}, "--orders: found none"),
        ({"kernels": ("mine",)}, "--kernels: found mine; expected one or more of base"),
        ({"lrus": ("lru",)}, "--lrus: found lru"),
        ({"map_bytes": 4096}, "--map 4096: expected 2M or more"),
        ({"reclaim_bytes": 1 << 40}, "--reclaim 1099511627776: expected 4096 to"),
        ({"cpus": 3}, "--cpus 3: expected 1, 2"),
        ({"mapped_by": 0}, "--mapped-by 0: expected 1 to 64"),
        ({"workload": "lazyfree", "orders": (1,)}, "--orders: found 1"),
        ({"workload": "lazyfree", "orders": (4,), "mapped_by": 2}, "anonymous memory has one"),
        ({"modified": False, "kernels": ("unmap",)}, "--orders: found 5, 6, 7, 8"),
        ({"modified": False, "orders": (4,)}, "--unmodified"),
        ({"request": "pageout", "mapped_by": 2}, "--request pageout"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields, told):
    with pytest.raises(LabError, match=told):
        Plan(**fields)


def test_memory_grows_with_what_is_mapped():
    small, large = Plan(), Plan(map_bytes=10 << 30, reclaim_bytes=8 << 30)
    assert 512 < small.needed_mib < 1024
    assert small.memory_mib == 4096
    assert 11 << 10 < large.needed_mib == large.memory_mib < 13 << 10


def test_memory_can_be_said_but_not_less_than_is_needed():
    assert Plan(memory_bytes=1 << 30).memory_mib == 1024
    with pytest.raises(LabError, match=r"--memory 536870912: what is mapped needs \d+M; say that"):
        Plan(memory_bytes=512 << 20)


@pytest.mark.parametrize(
    ("arch", "program", "console", "disk"),
    [
        ("x86_64", "qemu-system-x86_64", "console=ttyS0", "virtio-blk-pci,drive=disk0"),
        ("arm64", "qemu-system-aarch64", "console=ttyAMA0", "virtio-blk-device,drive=disk0"),
    ],
)
def test_command_line_of_an_emulated_machine(tmp_path, arch, program, console, disk):
    plan = Plan(cpus=2)
    boot = Boot(
        arch, tmp_path / "kernel", tmp_path / "cpio", tuple(plan.arguments()), plan.memory_mib,
        plan.cpus, (tmp_path / "a,b.img",),
    )  # fmt: skip
    words = boot.command()
    assert words[0] == program
    pairs = set(pairwise(words))
    assert {("-icount", "shift=0,sleep=off"), ("-cpu", "max"), ("-smp", "2,sockets=2")} <= pairs
    assert ("-device", disk) in pairs
    assert "-no-reboot" in words
    append = words[words.index("-append") + 1]
    assert append.startswith(console + " ")
    assert append.split(" -- ")[1].split() == list(plan.arguments())
    drive = next(word for word in words if word.startswith("file="))
    assert "a,,b.img,if=none" in drive
    assert "snapshot=on" in drive


def test_several_sockets_are_told_to_have_one_clock(tmp_path):
    for cpus, told in ((1, False), (2, True)):
        words = Boot("x86_64", tmp_path, tmp_path, (), cpus=cpus).command()
        assert ("tsc=reliable" in words[words.index("-append") + 1].split()) is told


def test_command_line_under_kvm_does_not_count_instructions(tmp_path):
    words = Boot("x86_64", tmp_path, tmp_path, (), accel="kvm").command()
    assert "-icount" not in words
    assert ("-cpu", "host") in set(pairwise(words))


def members(archive):
    """Read a newc archive: name, mode, content of each entry."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_at = at + 110
        name = archive[name_at : name_at + fields[11] - 1].decode()
        content_at = (name_at + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], archive[content_at : content_at + fields[6]], fields))
        at = (content_at + fields[6] + 3) // 4 * 4


def test_initramfs_holds_init_and_a_console_only():
    found = {name: rest for name, *rest in members(initramfs.archive(b"program"))}
    assert list(found) == ["dev", "dev/console", "init"]
    assert found["init"][:2] == [stat.S_IFREG | 0o755, b"program"]
    assert stat.S_ISCHR(found["dev/console"][0])
    assert found["dev/console"][2][9:11] == [5, 1]


def test_initramfs_is_the_same_each_time():
    assert initramfs.archive(b"x") == initramfs.archive(b"x")


def test_initramfs_makes_the_folders_of_further_files():
    names = [name for name, *_ in members(initramfs.archive(b"x", {"a/b/c.ko": b"1", "a/d": b""}))]
    assert names[3:] == ["a", "a/b", "a/b/c.ko", "a/d"]
