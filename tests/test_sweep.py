# SPDX-License-Identifier: GPL-2.0-only
"""A sweep runs each point once, whatever ends a run of it, and leaves no file half-written."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.iorw import papermill_io

from analysis import cli, files, stores, sweep

RECLAIM = Path(sys.executable).with_name("reclaim")
# Saves a number as the workbook's notebooks do, after it has told that it ran.
SAVES = """\
import json, pathlib, time
folder = pathlib.Path({folder!r})
with (folder / "log").open("a") as log:
    print(a, file=log)
while a >= {slow_from} and not (folder / "gate").exists():
    time.sleep(0.05)
if a == {failing} and not (folder / "mended").exists():
    raise ValueError("a is\\n{failing}")
results = pathlib.Path(out, "results")
results.mkdir()
saved = {{"numbers": {{"twice": 2 * a, "of": {{"kind": "even", "none": None}}}}}}
_ = (results / "mine.json").write_text(json.dumps(saved))
print("x" * {padding})
"""


@pytest.fixture
def notebook(tmp_path):
    """Return a function that writes a notebook with the parameter `a`."""

    def write(failing=-1, slow_from=99, padding=0):
        parameters = new_code_cell("a = 0\nout = ''", metadata={"tags": ["parameters"]})
        told = SAVES.format(
            folder=str(tmp_path), failing=failing, slow_from=slow_from, padding=padding
        )
        path = tmp_path / "mine.ipynb"
        cell = new_code_cell(told)
        cell.id = "saves"
        nbformat.write(new_notebook(cells=[parameters, cell]), path)
        return str(path)

    return write


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that sweeps into tmp_path/out: status, stdout, stderr."""

    def command(*words, out=tmp_path / "out"):
        status = cli.main(["sweep", *map(str, words), "--out", str(out)])
        return status, *capsys.readouterr()

    return command


def ran(folder):
    log = folder / "log"
    return Counter(map(int, log.read_text().split())) if log.exists() else Counter()


def records(out):
    found = [json.loads(path.read_text()) for path in (out / "points").glob("*/point.json")]
    return {record["parameters"]["a"]: record for record in found}


def all_whole(out):
    for path in out.rglob("*"):
        assert not path.name.endswith(".tmp"), path
        if path.suffix in (".json", ".ipynb"):
            json.loads(path.read_text())
    return True


def wait_for(found):
    for _ in range(600):
        if found():
            return
        time.sleep(0.1)
    pytest.fail("waited a minute")


def test_each_point_has_an_executed_notebook_and_the_table_all_numbers(notebook, run, tmp_path):
    status, stdout, _ = run(notebook(), "-p", "a=3,1:2", "--jobs", 3)
    assert status == 0
    assert stdout.startswith("3 points: 0 done before, 3 to run\n")
    rows = pd.read_csv(tmp_path / "out/mine.csv", keep_default_na=False)
    assert list(rows) == ["id", "a", "status", "name", "value", "text"]
    assert rows.query("name == 'twice'")["value"].tolist() == ["6", "2", "4"]
    assert rows.query("name == 'of.kind'")["text"].tolist() == ["even"] * 3
    assert (rows["status"] == "done").all()
    for ident in rows["id"]:
        executed = nbformat.read(tmp_path / f"out/points/{ident}/notebooks/mine.ipynb", 4)
        home = f"{tmp_path}/out/points/{ident}"
        assert executed.metadata.papermill.parameters.out == home
        assert (Path(home) / "results/mine.json").is_file()
    title = re.sub(r"\s+", " ", (tmp_path / "out/mine.svg").read_text())
    assert "twice: 2 with a=1, 6 with a=3, 3 times as many" in title


def test_what_is_done_is_not_run_again_until_something_that_goes_in_changes(
    notebook, run, tmp_path
):
    run(path := notebook(), "-p", "a=1:2")
    before = (tmp_path / "out/mine.csv").read_bytes()
    status, stdout, stderr = run(path, "-p", "a=1:2")
    assert (status, stderr) == (0, "")
    assert stdout.startswith("2 points: 2 done before, 0 to run\n")
    assert (tmp_path / "out/mine.csv").read_bytes() == before
    _, stdout, _ = run(path, "-p", "a=1:3")
    assert stdout.startswith("3 points: 2 done before, 1 to run\n")
    assert ran(tmp_path) == {1: 1, 2: 1, 3: 1}
    run(notebook(padding=1), "-p", "a=1")
    assert ran(tmp_path)[1] == 2


def test_an_id_holds_all_that_goes_into_a_point(notebook, tmp_path, monkeypatch):
    path = Path(notebook())
    (tmp_path / "input").write_text("1")

    def ident(*asked):
        return sweep.plan(path, asked)[0].ident

    plain, named = ident("a=1"), ident(f"a={tmp_path}/input")
    assert plain == ident("a=1") != ident("a=2")
    (tmp_path / "input").write_text("2")
    sweep._content.cache_clear()
    assert named != ident(f"a={tmp_path}/input")
    monkeypatch.setattr(sweep, "package_digest", lambda: "other sources")
    assert plain != ident("a=1")


def test_the_sources_and_the_measurements_are_in_the_digest(tmp_path, monkeypatch):
    before = sweep.package_digest()
    for place in ("PACKAGES", "DATA"):
        folder = sweep.DATA if place == "DATA" else sweep.PACKAGES[1]
        copy = shutil.copytree(folder, tmp_path / place / folder.name)
        changed = copy if place == "DATA" else (sweep.PACKAGES[0], copy)
        monkeypatch.setattr(sweep, place, changed)
        sweep.package_digest.cache_clear()
        assert sweep.package_digest() == before
        next(copy.rglob("*.py" if place == "PACKAGES" else "*.toml")).write_text("")
        sweep.package_digest.cache_clear()
        assert sweep.package_digest() != before
        monkeypatch.undo()
    sweep.package_digest.cache_clear()


def test_a_failing_point_is_recorded_and_the_others_run(notebook, run, tmp_path):
    status, stdout, stderr = run(path := notebook(failing=2), "-p", "a=1:3")
    assert status == 1
    assert "a=2: cell saves: ValueError: a is\n" in stderr
    assert "1 of 3 points failed; see `text` in the table" in stderr
    assert "Traceback" not in stderr
    failure = records(tmp_path / "out")[2]["failure"]
    assert (failure["cell"], failure["cell_number"]) == ("saves", 3)
    assert failure["error"] == "ValueError: a is\n2"
    assert failure["cell_source"].startswith("import json")
    rows = pd.read_csv(tmp_path / "out/mine.csv").query("status == 'failed'")
    assert rows[["a", "name", "text"]].values.tolist() == [[2, "error", "ValueError: a is\n2"]]

    status, stdout, _ = run(path, "-p", "a=1:3")
    assert status == 1
    assert "3 points: 2 done before, 1 failed before (--retry-failed tries again), 0" in stdout
    (tmp_path / "mended").touch()
    status, stdout, _ = run(path, "-p", "a=1:3", "--retry-failed")
    assert status == 0
    assert ran(tmp_path) == {1: 1, 2: 2, 3: 1}
    assert all_whole(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_ends_a_sweep_costs_the_running_points_alone(notebook, run, tmp_path, number):
    path, out = notebook(slow_from=2), tmp_path / "out"
    command = [RECLAIM, "sweep", path, "-p", "a=0:4", "--jobs", "2", "--out", out]
    # A shell starts what runs in the background with SIGINT ignored, and these tests with it.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **heard
    ) as begun:
        try:
            wait_for(lambda: len(records(out)) == 2 and len(ran(tmp_path)) == 4)
            begun.send_signal(number)
            _, stderr = begun.communicate(timeout=60)
        finally:
            begun.kill()
    assert begun.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in stderr
    assert sorted(records(out)) == [0, 1]
    assert all_whole(out)
    (tmp_path / "gate").touch()
    status, stdout, _ = run(path, "-p", "a=0:4")
    assert status == 0
    assert stdout.startswith("5 points: 2 done before, 3 to run\n")
    assert ran(tmp_path) == {0: 1, 1: 1, 2: 2, 3: 2, 4: 1}
    assert sorted(records(out)) == [0, 1, 2, 3, 4]
    assert all_whole(out)


def test_what_was_cut_short_is_removed_before_it_runs_again(notebook, run, tmp_path):
    path = notebook()
    (point,) = sweep.plan(Path(path), ["a=1"])
    left = tmp_path / "out" / point.folder / "tables" / ".half.csv.123.tmp"
    files.write_whole(left, b"half")
    assert run(path, "-p", "a=1")[0] == 0
    assert not left.exists()


def test_a_full_disk_ends_the_sweep_in_one_line_and_keeps_what_is_done(
    notebook, run, tmp_path, monkeypatch
):
    written = []

    def fills_up(path, content):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return files.write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_whole", fills_up)
        status, _, stderr = run(path := notebook(), "-p", "a=0:2", "--jobs", 1)
    assert status == 2
    assert re.search(r"reclaim sweep: .*No space left on device", stderr.splitlines()[-1])
    assert "Traceback" not in stderr
    assert sorted(records(tmp_path / "out")) == [0]
    assert run(path, "-p", "a=0:2")[0] == 0
    assert ran(tmp_path)[0] == 1
    assert sorted(records(tmp_path / "out")) == [0, 1, 2]


def test_a_disk_that_is_full_indeed(notebook, run, tmp_path):
    out = tmp_path / "small"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", out]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small file system, as root")
    try:
        path = notebook(padding=50_000)
        status, _, stderr = run(path, "-p", "a=0:9", "--jobs", 2, out=out)
        assert status == 2
        assert "No space left on device" in stderr
        done = sorted(records(out))
        assert 0 < len(done) < 10
        assert all_whole(out)
        subprocess.run([*mount[:3], "-o", "remount,size=9m", "tmpfs", out], check=True)
        assert run(path, "-p", "a=0:9", out=out)[0] == 0
        assert all(ran(tmp_path)[a] == 1 for a in done)
        assert sorted(records(out)) == list(range(10))
    finally:
        subprocess.run(["umount", out], check=True)


def test_two_sweeps_do_not_write_to_one_folder(notebook, run, tmp_path):
    with stores.at(str(tmp_path / "out")).alone():
        status, _, stderr = run(notebook(), "-p", "a=1")
    assert status == 2
    assert "another sweep writes here" in stderr
    assert run(notebook(), "-p", "a=1")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.ipynb"], "no such notebook"),
        (["02_simulate_reclaim", "-p", "ordr=1"], "ordr: no such parameter (did you mean order?)"),
        (["02_simulate_reclaim", "-p", "order=9:0"], "write the smaller one first"),
    ],
)
def test_bad_input_is_one_message_and_makes_nothing(words, told, run, tmp_path):
    status, stdout, stderr = run(*words)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("reclaim sweep: ")
    assert told in stderr
    assert not (tmp_path / "out").exists()


def test_a_place_that_nobody_knows_is_refused(notebook, run):
    status, _, stderr = run(notebook(), "-p", "a=1", out="nowhere://bucket")
    assert (status, "papermill does not know how to write there" in stderr) == (2, True)


def test_paths_that_papermill_knows_pass_through(notebook, run, monkeypatch):
    class Bucket(dict):
        read = dict.__getitem__

        def write(self, text, path):
            self[path] = text

    bucket = Bucket()
    handlers = [("bucket://", bucket), *papermill_io._handlers]
    monkeypatch.setattr(papermill_io, "_handlers", handlers)
    path = notebook()
    assert run(path, "-p", "a=1:2", out="bucket://deep/in/")[0] == 0
    assert {name.rpartition("/")[2] for name in bucket} == {
        ".reclaim-sweep", "mine.csv", "mine.svg", "mine.ipynb", "mine.json", "point.json",
    }  # fmt: skip
    assert all(name.startswith("bucket://deep/in/") for name in bucket)
    _, stdout, _ = run(path, "-p", "a=1:2", out="bucket://deep/in")
    assert stdout.splitlines() == [
        "2 points: 2 done before, 0 to run",
        "bucket://deep/in/mine.csv",
        "not written: bucket://deep/in/mine.parquet",
        "bucket://deep/in/mine.svg",
        "papermill writes text only to bucket://deep/in: 1 files left out (.parquet)",
    ]


def test_a_workbook_notebook_is_swept_from_the_shell(tmp_path):
    asked = ["-p", "order=2,4", "-p", "kernel=base,unmap", "-p", "map_size=64M"]
    command = [RECLAIM, "sweep", "02_simulate_reclaim", *asked, "-p", "reclaim_size=32M"]
    command += ["--number", "events.folio_remove_rmap_ptes", "--out", "out", "--jobs", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4/4" in done.stderr
    rows = pd.read_csv(tmp_path / "out/02_simulate_reclaim.csv", low_memory=False)
    hits = rows.query("name == 'events.folio_remove_rmap_ptes'").set_index(["kernel", "order"])
    value = hits["value"].astype(float)
    assert value["base", 4] == 16 * value["unmap", 4]
    assert value["base", 2] == 4 * value["unmap", 2]
    assert (tmp_path / "out/02_simulate_reclaim.svg").stat().st_size
