# SPDX-License-Identifier: GPL-2.0-only
import csv
import errno
import json
import mmap
import os
import pathlib
import signal
import subprocess

import pytest

from analysis import cli, ingest
from lab import doctor, folios, host, settings
from lab.errors import LabError, MissingError

MIB = 1 << 20


@pytest.fixture
def ordinary(monkeypatch):
    """Be a user without root, whatever the tests run as: nothing of the machine is changed."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.fixture
def timed(ordinary, tmp_path):  # noqa: ARG001 - comes first
    return host.measure((0, 4), map_bytes=2 * MIB, rounds=2, folder=tmp_path)


def test_without_root_it_does_what_it_can_and_says_the_rest(timed):
    assert timed.request == "pageout"
    assert {run.cell.workload for run in timed.runs} == {"file"}
    assert any("no root: no XFS of our own" in note for note in timed.notes)
    assert any("lazyfree folios left out" in note for note in timed.notes)


def test_every_round_runs_every_cell_once(timed):
    cells = {(run.round, run.cell.order) for run in timed.runs}
    assert cells == {(number, order) for number in (0, 1) for order in (0, 4)}
    assert len(timed.runs) == 4
    assert all(run.wall_s > 0 for run in timed.runs)


def test_files_are_removed(timed, tmp_path):
    assert timed.runs
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_by_ingest(timed, tmp_path):
    paths = host.write(timed, tmp_path / "out", "reclaim lab host")
    read = ingest.read_many([tmp_path / "out" / "time-file-order4.txt"])
    assert len(read.frame[read.frame["metric"] == "real"]) == 2
    with (tmp_path / "out" / "host.csv").open(newline="") as table:
        assert len(list(csv.DictReader(table))) == 4
    assert json.loads(paths[-1].read_text())["request"] == "pageout"


def test_the_table_is_ascii_of_75_columns(timed):
    table, *_ = host.to_text(timed).partition("\nnote:")
    assert table.isascii()
    assert max(map(len, table.splitlines())) <= 75


def test_a_request_that_is_not_allowed_is_refused(ordinary):  # noqa: ARG001
    with pytest.raises(LabError, match=r"--request memory\.reclaim: this machine allows pageout"):
        host.measure((0,), request="memory.reclaim")


def test_no_round_starts_that_is_not_likely_to_end(ordinary, tmp_path):  # noqa: ARG001
    found = host.measure((0,), map_bytes=2 * MIB, rounds=50, seconds=1e-9, folder=tmp_path)
    assert len(found.runs) == 1
    assert any("1 of 50 rounds" in note for note in found.notes)


@pytest.fixture
def sizes(tmp_path):
    for kib, chosen in ((16, "never"), (64, "inherit"), (2048, "madvise")):
        (tmp_path / f"hugepages-{kib}kB").mkdir()
        words = ["always", "inherit", "madvise", "never"]
        text = " ".join(f"[{word}]" if word == chosen else word for word in words)
        (tmp_path / f"hugepages-{kib}kB" / "enabled").write_text(text)
    (tmp_path / "hugepages-8kB").mkdir()  # as of a kernel that has it for shmem only
    return tmp_path


def chosen(sizes):
    return [path.read_text() for path in sorted(sizes.glob("*/enabled"))]


def test_one_folio_size_is_chosen_and_all_are_put_back(sizes):
    with settings.folio_size(4, sizes):
        assert (sizes / "hugepages-64kB/enabled").read_text() == "always"
        assert (sizes / "hugepages-2048kB/enabled").read_text() == "never"
    assert (sizes / "hugepages-64kB/enabled").read_text() == "inherit"
    assert (sizes / "hugepages-2048kB/enabled").read_text() == "madvise"


def test_settings_are_put_back_on_ctrl_c(sizes):
    with pytest.raises(KeyboardInterrupt), settings.folio_size(4, sizes):
        raise KeyboardInterrupt
    assert (sizes / "hugepages-64kB/enabled").read_text() == "inherit"


def test_a_size_that_is_not_offered_changes_nothing(sizes):
    before = chosen(sizes)
    with pytest.raises(LabError, match="offers no folios of 8 KiB"), settings.folio_size(1, sizes):
        pass
    assert chosen(sizes) == before


def test_the_own_cgroup_of_either_version():
    text = "4:memory:/slice/a\n1:cpu,cpuacct:/\n0::/user/b\n"
    assert settings.own_cgroup(True, text) == "/slice/a"
    assert settings.own_cgroup(False, text) == "/user/b"


def test_a_missing_program_names_its_package(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(MissingError, match="apt-get install xfsprogs"), settings.xfs(1):
        pass


@pytest.mark.parametrize("interrupted", ["mkfs.xfs", "mount", "measuring"])
def test_what_was_mounted_is_unmounted_wherever_it_ends(monkeypatch, tmp_path, interrupted):
    ran, mounts = [], set()

    def run(program, *words, **_):
        ran.append(program)
        mounts.add(words[-1]) if program == "mount" else mounts.discard(words[-1])
        if program == interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(settings, "_run", run)
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: str(path) in mounts)
    with pytest.raises(KeyboardInterrupt), settings.xfs(1 * MIB, tmp_path):
        raise KeyboardInterrupt
    assert ran[-1] == ("mkfs.xfs" if interrupted == "mkfs.xfs" else "umount")
    assert not mounts
    assert not list(tmp_path.iterdir())


def test_touching_brings_every_page_in(tmp_path):
    with folios.clean_file(tmp_path, 2 * MIB, 0) as mapped:
        assert folios.touch(mapped) == 0
        assert folios.resident(mapped) in (-1, 2 * MIB // mmap.PAGESIZE)
    with folios.lazyfree(2 * MIB) as mapped:
        assert len(mapped) == 2 * MIB


def test_doctor_names_packages_of_what_is_missing(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    text = doctor.report()
    for package in ("qemu-system-x86", "qemu-system-arm", "xfsprogs", "e2fsprogs", "linux-perf"):
        assert f"apt-get install {package}" in text
    assert "gcc-aarch64-linux-gnu" in text


def test_doctor_as_json(capsys):
    assert cli.main(["lab", "doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"name", "works", "found", "enable"} == set(found[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["emulate", "--arch", "riscv"], "'riscv': expected some of x86_64, arm64"),
        (["emulate", "--orders", "11"], "expected some of 0 to 9"),
        (["emulate", "--map", "much"], "size 'much'"),
        (["emulate", "--unmodified"], "--orders: found 5, 6, 7, 8"),
        (["emulate", "--reclaim", "1G"], "--reclaim 1073741824: expected 4096 to 268435456"),
        (["compare", "--before", "a"], "--after"),
        (["host", "--map", "1M"], "--map: expected a multiple of 2M"),
        ([], "PART"),
    ],
)
def test_bad_input_is_one_message(capsys, words, told):
    try:
        status = cli.main(["lab", *words])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [["emulate"], ["profile"], ["compare", "--before", "a", "--after", "b"], ["host"]],
)
def test_an_out_that_cannot_be_written_is_told_before_the_work(capsys, tmp_path, words):
    (tmp_path / "file").write_text("")
    assert cli.main(["lab", *words, "--out", str(tmp_path / "file" / "out")]) == 2
    told = capsys.readouterr().err
    assert "Not a directory; expected a folder that may be written to" in told


def test_without_qemu_the_packages_are_named_before_a_build(capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert cli.main(["lab", "emulate"]) == 2
    said = capsys.readouterr().err
    assert "apt-get install qemu-system-x86 qemu-system-arm" in said


@pytest.fixture
def group(tmp_path):
    (tmp_path / "memory.usage_in_bytes").write_text(f"{96 * MIB}\n")
    for name in ("memory.limit_in_bytes", "memory.reclaim"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_limit_is_lowered_by_what_is_asked_for_and_lifted_at_once(group, monkeypatch):
    written = []
    monkeypatch.setattr("os.write", lambda _, text: written.append(text))
    with settings.prepared("limit", group, 64 * MIB) as call:
        assert written == []
        call()
    assert written == [str(32 * MIB).encode(), b"-1"]


def test_a_limit_that_cannot_be_met_is_lifted_too(group, monkeypatch):
    written = []

    def write(_, text):
        written.append(text)
        if text != b"-1":
            raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("os.write", write)
    with settings.prepared("limit", group, 64 * MIB) as call:
        call()
    assert written[-1] == b"-1"


def test_a_request_that_is_refused_is_told(group, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    with settings.prepared("memory.reclaim", group, 4096) as call:
        call()
        assert (group / "memory.reclaim").read_text() == "4096"
        monkeypatch.setattr("os.write", refuse)
        with pytest.raises(LabError, match=r"memory\.reclaim: Invalid argument; expected to recl"):
            call()


def test_a_cgroup_that_cannot_be_written_to_is_told(tmp_path):
    with (
        pytest.raises(LabError, match=r"memory\.reclaim: No such file or directory; expected"),
        settings.prepared("memory.reclaim", tmp_path, 4096),
    ):
        pass


def test_what_an_interrupt_left_in_the_cgroup_is_ended(tmp_path, monkeypatch):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/cgroup.procs").write_text("")
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    remove = pathlib.Path.rmdir

    def rmdir(folder):
        (folder / "cgroup.procs").unlink()
        remove(folder)

    monkeypatch.setattr("pathlib.Path.rmdir", rmdir)
    monkeypatch.setattr(settings, "own_cgroup", lambda _: "/")
    with settings.cgroup("limit", tmp_path) as folder:
        (folder / "cgroup.procs").write_text(f"{left.pid}\n{os.getpid()}\n")
    assert left.wait(10) == -signal.SIGKILL
    assert not folder.exists()
