# SPDX-License-Identifier: GPL-2.0-only
"""A sweep on a Dask cluster of two workers, one of which is killed: nothing lost, nothing twice."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from analysis import cluster
from analysis.cluster import ClusterError
from analysis.runner import Job

RECLAIM = Path(sys.executable).with_name("reclaim")
NR_POINTS = 8
# Tells in which worker's process it runs, and waits for the test.
SAVES = """\
import json, os, pathlib, time
folder = pathlib.Path({folder!r})
with (folder / "log").open("a") as log:
    print("began", a, os.environ["WORKER"], os.getpid(), file=log)
while a >= 2 and not (folder / "gate").exists():
    time.sleep(0.05)
results = pathlib.Path(out, "results")
results.mkdir()
_ = (results / "mine.json").write_text(json.dumps({{"numbers": {{"twice": 2 * a}}}}))
with (folder / "log").open("a") as log:
    print("ended", a, os.environ["WORKER"], os.getpid(), file=log)
"""


@pytest.fixture
def dask(tmp_path):
    """Return a function that starts a scheduler or a worker; ends them all."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed")
    started = []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(*words, **environment):
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", tmp_path / "at"]
        # A group each, so that a worker goes with its nanny.
        group = {"cwd": tmp_path, "start_new_session": True}
        started.append(subprocess.Popen(command, env=os.environ | environment, **group, **quiet))
        return started[-1]

    yield start
    for process in started:
        end_group(process)


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(found):
    for _ in range(900):
        if found():
            return
        time.sleep(0.1)
    pytest.fail("waited a minute and a half")


def address(dask, folder):
    dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    wait_for((folder / "at").is_file)
    return json.loads((folder / "at").read_text())["address"]


def test_a_killed_worker_loses_nothing_and_nothing_is_there_twice(dask, tmp_path):
    cells = [new_code_cell("a = 0\nout = ''", metadata={"tags": ["parameters"]})]
    cells.append(new_code_cell(SAVES.format(folder=str(tmp_path))))
    nbformat.write(new_notebook(cells=cells), tmp_path / "mine.ipynb")
    scheduler, log = address(dask, tmp_path), tmp_path / "log"
    workers = {
        name: dask("worker", "--nthreads", "1", "--no-dashboard", WORKER=name) for name in "AB"
    }

    def told(what):
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(int(a), worker, int(pid)) for did, a, worker, pid in lines if did == what]

    def recorded():
        return list((tmp_path / "out/points").glob("*/point.json"))

    def running():
        return Counter(told("began")) - Counter(told("ended"))

    command = [RECLAIM, "sweep", tmp_path / "mine.ipynb", "-p", f"a=0:{NR_POINTS - 1}"]
    command += ["--dask", scheduler, "--out", tmp_path / "out"]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with sweep:
        try:
            # Both of the first are done and kept, and both workers are at something.
            wait_for(lambda: len(recorded()) == 2 and len({w for _, w, _ in running()}) == 2)
            lost, pids = zip(*((a, pid) for a, name, pid in running() if name == "A"), strict=True)
            end_group(workers["A"])
            wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
            (tmp_path / "gate").touch()
            _, stderr = sweep.communicate(timeout=120)
        finally:
            sweep.kill()
    assert sweep.returncode == 0, stderr
    assert "Traceback" not in stderr
    records = [json.loads(path.read_text()) for path in recorded()]
    assert sorted(record["parameters"]["a"] for record in records) == list(range(NR_POINTS))
    assert all(record["numbers"] == {"twice": 2 * record["parameters"]["a"]} for record in records)
    # What the dead worker was at began again, by the other; nothing else did, and each ended once.
    began = Counter(a for a, *_ in told("began"))
    assert began == Counter(range(NR_POINTS)) + Counter(lost)
    assert Counter(a for a, *_ in told("ended")) == Counter(range(NR_POINTS))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.startswith(f"{NR_POINTS} points: {NR_POINTS} done before, 0 to run\n")


def test_a_scheduler_that_is_not_there_is_one_message(monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers"):
        next(cluster.runner("tcp://127.0.0.1:9")(iter([])))


def test_without_distributed_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="no package distributed; install it: pip install"):
        cluster.runner("tcp://127.0.0.1:8786")


def test_a_worker_with_other_sources_is_refused():
    told = cluster.run_one(Job("mine.ipynb", "{}", {}, "out"), "another digest")
    assert told == "a worker has other sources of this package: install the same there"
