# SPDX-License-Identifier: GPL-2.0-only
"""perf's captures of one call, with a perf of our own writing and, where it is, the real one."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from analysis import ingest
from lab import host, perf
from lab.errors import LabError, MissingError

MIB = 1 << 20
# Answers each word as perf does, and writes them down when it is asked to end.
FAKE = """#!{python}
import os, signal, sys
if sys.argv[1] == "script":
    print("  script of", open(sys.argv[3]).read())
    sys.exit()
out = sys.argv[sys.argv.index("-o") + 1]
heard, answered = map(int, sys.argv[sys.argv.index("--control") + 1][3:].split(","))
words = []
def end(*_):
    open(out, "w").write(" ".join(words))
    sys.exit(0)
signal.signal(signal.SIGINT, end)
while True:
    words += os.read(heard, 16).decode().split()
    os.write(answered, b"ack\\n\\0")
"""


def install(folder, text, monkeypatch):
    program = folder / "perf"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def places(tmp_path):
    for name in ("bin", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "bin", tmp_path / "out"


@pytest.mark.parametrize(
    ("kind", "told"), [("stat", "enable disable"), ("record", "  script of enable disable\n")]
)
def test_a_call_is_made_between_enable_and_disable(kind, told, places, monkeypatch):
    programs, out = places
    install(programs, FAKE.format(python=sys.executable), monkeypatch)
    made = []
    perf.capture(kind, lambda: made.append(1), out / "capture.txt")
    assert made == [1]
    assert (out / "capture.txt").read_text() == told
    assert [path.name for path in out.iterdir()] == ["capture.txt"]


def test_what_perf_says_when_it_may_not_is_told_and_nothing_is_left(places, monkeypatch):
    programs, out = places
    install(programs, "#!/bin/sh\necho 'No permission to enable it' >&2\nexit 255\n", monkeypatch)
    with pytest.raises(LabError, match="perf did not answer: No permission to enable it"):
        perf.capture("stat", lambda: None, out / "capture.txt")
    assert list(out.iterdir()) == []


def test_a_call_that_fails_leaves_no_perf_behind(places, monkeypatch):
    programs, out = places
    install(programs, FAKE.format(python=sys.executable), monkeypatch)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ZeroDivisionError):
        perf.capture("stat", lambda: 1 / 0, out / "capture.txt")
    assert list(out.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_no_perf_is_a_note_of_the_package_and_times_are_still_taken(places, monkeypatch):
    programs, out = places
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingError, match="apt-get install linux-perf"):
        perf.capture("stat", lambda: None, out / "capture.txt")
    found = host.measure((0,), map_bytes=2 * MIB, rounds=1, folder=programs, captures=out)
    assert len(found.runs) == 1
    assert any("no captures of perf: perf: no such program" in note for note in found.notes)


@pytest.mark.skipif(not shutil.which("perf"), reason="no perf here: apt-get install linux-perf")
def test_captures_of_the_real_one_are_read_by_ingest(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    out = tmp_path / "out"
    found = host.measure((4,), map_bytes=2 * MIB, rounds=1, folder=tmp_path, captures=out)
    if refused := [note for note in found.notes if "captures" in note]:
        pytest.skip(refused[0])
    assert {path.name for path in out.iterdir()} == {
        "perf-stat-file-order4.txt", "perf-record-file-order4.txt"
    }  # fmt: skip
    read = ingest.read(out / "perf-stat-file-order4.txt").frame
    assert "task-clock" in set(read["metric"])
