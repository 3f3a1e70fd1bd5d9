# SPDX-License-Identifier: GPL-2.0-only
"""A fake emulator: a program that says what a guest would, and ends, or does not, as one would."""

import os
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lab import emulate, emulator, machine
from lab.build import Image
from lab.emulator import Limits
from lab.errors import GuestError, LabError, MissingError
from lab.plan import Plan

RUN = (
    "@lab run lru=classic kernel=unmap order=4 rep=0 ns=42732000 pgscan=117968 pgsteal=52432 "
    "before=268435456 after=53673984 error=0 wrong=0 seen=13104"
)
SHORT = Limits(boot_s=5, silence_s=1)


def fake(*lines, then=""):
    said = "".join(f"print({line!r}, flush=True)\n" for line in lines)
    return [sys.executable, "-c", f"import os, sys, time\n{said}{textwrap.dedent(then)}"]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ended(pid):
    # Or dead, and kept by whoever reaps orphans here.
    try:
        return gone(pid) or Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def test_a_guest_that_ends_well(tmp_path):
    with (tmp_path / "log").open("w") as log:
        heard = []
        console = emulator.run(
            fake("SeaBIOS", "@lab start", "@lab cell x", RUN, "@lab end"),
            log=log,
            heard=lambda console: heard.append(len(console.runs)),
        )
    assert [run.ns for run in console.runs] == [42732000]
    assert heard[-1] == 1
    assert (tmp_path / "log").read_text().splitlines()[1] == "@lab start"


def test_a_guest_that_panics_is_told_with_its_last_lines():
    panic = "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs"
    with pytest.raises(GuestError) as failed:
        emulator.run(fake("@lab start", "@lab cell order=4", panic))
    text = str(failed.value)
    assert "failed in cell order=4: Kernel panic - not syncing: VFS" in text
    assert f"  | {panic}" in text


def test_a_guest_without_memory_is_told_what_would_help():
    oom = "[    9.1] Out of memory: Killed process 41 (init) total-vm:264564kB"
    with pytest.raises(GuestError, match=r"it needs more memory: .* less --map") as failed:
        emulator.run(fake("@lab start", oom, "@lab error a process ended early: Cannot allocate"))
    assert "Killed process 41" in str(failed.value)


@pytest.mark.parametrize("said", [(), ("@lab start", "@lab cell order=9")])
def test_a_guest_that_hangs_is_ended_and_so_is_what_it_started(tmp_path, said):
    children = f"""
        child = os.fork()
        if child:
            open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child}}")
        time.sleep(1000)
    """
    with pytest.raises(GuestError) as failed:
        emulator.run(fake(*said, then=children), limits=Limits(boot_s=2, silence_s=1))
    where = "in cell order=9" if said else "did not reach its init within 2 s"
    assert where in str(failed.value)
    assert "--patience" in str(failed.value)
    parent, child = map(int, (tmp_path / "pids").read_text().split())
    assert gone(parent)
    # The child, killed with its group, ends when it next runs.
    end = time.monotonic() + 20
    while not ended(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert ended(child)


def test_a_guest_that_closes_its_console_and_lives_on_is_ended():
    command = fake("@lab start", RUN, "@lab end", then="os.close(1); os.close(2); time.sleep(1000)")
    assert len(emulator.run(command).runs) == 1


def test_a_guest_that_ends_early_is_no_success():
    with pytest.raises(GuestError, match="ended in cell a before all cells were measured"):
        emulator.run(fake("@lab start", "@lab cell a"))


def test_an_emulator_that_refuses_its_options_is_told():
    with pytest.raises(GuestError, match=r"status 1\) before the guest reached") as failed:
        emulator.run(fake("qemu: -M nothing: unsupported machine type", then="sys.exit(1)"))
    assert "unsupported machine type" in str(failed.value)


def test_a_line_that_is_garbled_ends_the_guest(tmp_path):
    command = fake("@lab start", "@lab run lru=", then=f"open({str(tmp_path / 'pid')!r}, 'w')"
                   ".write(str(os.getpid())); time.sleep(1000)")  # fmt: skip
    with pytest.raises(GuestError, match="expected start, cell"):
        emulator.run(command, limits=SHORT)


def test_output_without_a_last_line_end_is_read():
    command = [sys.executable, "-c", f"print('@lab start\\n{RUN}\\n@lab end', end='')"]
    assert emulator.run(command).ended


def test_a_missing_emulator_names_its_package():
    with pytest.raises(MissingError, match="no-such-qemu: no such program; install it: apt-get"):
        emulator.run(["no-such-qemu"], package="qemu-system-x86")


def test_a_file_that_is_no_program_is_told(tmp_path):
    (tmp_path / "qemu").write_text("")
    with pytest.raises(MissingError, match="is not a program"):
        emulator.run([str(tmp_path / "qemu")])


@pytest.fixture
def image(tmp_path):
    (tmp_path / "kernel").write_bytes(b"kernel")
    return Image("x86_64", tmp_path, "7.2.13", "linux-source-7.2", "abc", (), "0" * 64, "gcc 12")


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """Return a function that puts a program in QEMU's place; init and disks are empty files."""
    monkeypatch.setattr("lab.build.init_program", lambda _: b"init")
    monkeypatch.setattr("lab.disks.make", lambda _, **__: [])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def be(command):
        monkeypatch.setattr(machine.Boot, "command", lambda _: command)

    return be


SMALL = Plan(kernels=("unmap",), orders=(4,), lrus=("classic",))


def test_measuring_leaves_no_file_behind(faked, image, tmp_path):
    faked(fake("@lab start", RUN, "@lab end"))
    found = emulate.measure(image, SMALL, logs=tmp_path / "out")
    assert [run.order for run in found.runs] == [4]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "out" / "console-x86_64-classic.log").exists()


def test_each_lru_has_a_boot_of_its_own(faked, image, tmp_path):
    faked(fake("@lab start", RUN, "@lab end"))
    plan = Plan(kernels=("unmap",), orders=(4,))
    found = emulate.measure(image, plan, logs=tmp_path / "out", profile=True)
    boots = ["classic", "classic-profile", "mglru", "mglru-profile"]
    assert list(found.about["commands"]) == boots
    logs = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert logs == sorted(f"console-x86_64-{name}.log" for name in boots)
    assert (len(found.runs), len(found.profiled)) == (2, 2)


@pytest.mark.parametrize("then", ["sys.exit(1)", "time.sleep(1000)"])
def test_a_failure_leaves_no_file_behind(faked, image, tmp_path, then):
    faked(fake("@lab start", then=then))
    with pytest.raises(GuestError):
        emulate.measure(image, SMALL, limits=SHORT)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_kvm_that_never_boots_a_guest_falls_back(faked, image, monkeypatch):
    monkeypatch.setattr(machine.Machine, "native", property(lambda _: True))
    monkeypatch.setattr("os.access", lambda *_: True)
    monkeypatch.setattr(emulate, "KVM_BOOT_S", 1.0)
    ends = fake("@lab start", RUN, "@lab end")
    hangs = fake("SeaBIOS", then="time.sleep(1000)")
    faked(None)
    monkeypatch.setattr(
        machine.Boot, "command", lambda self: hangs if self.accel == "kvm" else ends
    )
    found = emulate.measure(image, SMALL, accel="kvm")
    assert len(found.runs) == 1
    assert found.notes[0].startswith("KVM: the guest did not reach its init within 1 s")
    assert found.notes[0].endswith("emulated instead")


def test_kvm_of_another_architecture_falls_back(faked, image, monkeypatch):
    monkeypatch.setattr(machine.Machine, "native", property(lambda _: False))
    faked(fake("@lab start", RUN, "@lab end"))
    found = emulate.measure(image, SMALL, accel="kvm")
    assert found.notes == ("KVM: this machine does not run x86_64; emulated instead",)


def test_wrong_folio_orders_and_unmet_requests_are_noted(faked, image):
    odd = RUN.replace("wrong=0", "wrong=7").replace("error=0", "error=11")
    faked(fake("@lab start", odd, "@lab end"))
    notes = emulate.measure(image, SMALL).notes
    assert "1 of 1 requests were not met (errno 11)" in notes
    assert any("folios of another order: at order 4 7 of 13104 pages" in note for note in notes)


def test_a_guest_larger_than_this_machine_is_refused(image):
    plan = Plan(kernels=("unmap",), map_bytes=1 << 60, reclaim_bytes=1 << 20)
    with pytest.raises(LabError, match=r"the guest needs .* MiB, this machine has"):
        emulate.measure(image, plan)


def test_a_guest_ends_when_another_thread_is_interrupted(tmp_path):
    stop, told = threading.Event(), tmp_path / "pid"
    command = fake("@lab start", then=f"open({str(told)!r}, 'w').write(str(os.getpid()))\n"
                   "print('@lab cell x', flush=True)\ntime.sleep(600)")  # fmt: skip
    with pytest.raises(GuestError):
        emulator.run(command, heard=lambda console: console.cell and stop.set(), stop=stop)
    assert ended(int(told.read_text()))


def test_of_several_guests_none_outlives_the_first_failure(monkeypatch):
    runs, stopped = threading.Event(), []

    def measure(image, _, stop):
        if image == "fails":
            runs.wait(60)
            raise GuestError("the guest failed")
        runs.set()
        stopped.append(stop.wait(60))

    monkeypatch.setattr(emulate, "measure", measure)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(GuestError, match="the guest failed"):
        emulate.measure_all(["fails", "runs"], Plan())
    assert stopped == [True]
