# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from analysis import batch, params, runner
from analysis.batch import BatchError
from analysis.files import write_whole
from analysis.params import PARAMETERS, ParamsError

PARAMETERS_CELL = {"id": "parameters", "metadata": {"tags": ["parameters"]}}
FAILING = "04_explain_speedup"

BUILD = """
import signal
import sys
from pathlib import Path
from analysis import batch

if __name__ == "__main__":
    # A shell starts what runs in the background with SIGINT ignored, and these tests with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batch.NOTEBOOKS = Path(sys.argv[1])
    sys.exit(batch.build(sys.argv[2]))
"""


def write_notebooks(folder, **cells):
    """Stand-ins that start fast: one cell each, by the first word of the notebook's name."""
    folder.mkdir()
    for name in PARAMETERS:
        source = cells.get(f"n{name[:2]}", "out")
        nbformat.write(
            new_notebook(cells=[new_code_cell("", **PARAMETERS_CELL), new_code_cell(source)]),
            folder / f"{name}.ipynb",
        )
    return folder


def left_in(out):
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def failed_build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failed")
    cells = {
        "n02": "import sys, os\nprint(sys.executable, os.environ['IPYTHONDIR'])",
        "n04": "order = 6\nraise ValueError('\\x1b[31mno such order\\x1b[0m')",
        "n05": "import os\nos._exit(3)",
    }
    notebooks = write_notebooks(folder / "notebooks", **cells)
    out = folder / "out"
    earlier = {"notebook": FAILING, "figures": [{"name": "old"}], "tables": ["old"], "texts": ["t"]}
    for name in (
        "index.html",
        "figures/old.svg",
        "figures/old.png",
        "tables/old.csv",
        "t",
        "mine",
        "notebooks/05_predict_x86.ipynb",
    ):
        write_whole(out / name, b"stale")
    write_whole(out / f"results/{FAILING}.json", json.dumps(earlier).encode())
    script = folder / "build.py"
    script.write_text(BUILD)
    # A kernel named python3 that the user has installed, and that is not this interpreter.
    spec = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    write_whole(folder / "jupyter/kernels/python3/kernel.json", json.dumps(spec).encode())
    environment = os.environ | {
        "JUPYTER_PATH": str(folder / "jupyter"),
        "HOME": str(folder / "nowhere"),
    }
    command = [sys.executable, script, notebooks, out]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    return done, out


def test_a_failing_notebook_is_told_in_one_block_and_the_status(failed_build):
    done, out = failed_build
    assert done.returncode == 1
    block = f"{FAILING}: cell 2 failed:\n\n    order = 6\n    raise ValueError("
    assert block in done.stderr
    assert f"\n\nValueError: no such order\n\nsee {out}/notebooks/{FAILING}.ipynb" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_kernel_that_dies_is_told(failed_build):
    done, _ = failed_build
    assert "05_predict_x86: cell 2 failed:\n\n    import os\n    os._exit(3)" in done.stderr
    assert "\n\nDeadKernelError: Kernel died" in done.stderr
    assert f"2 of {len(PARAMETERS)} notebooks failed: no page" in done.stderr


def test_the_other_notebooks_run_and_no_page_is_written(failed_build):
    _, out = failed_build
    assert left_in(out) == {f"notebooks/{name}.ipynb" for name in PARAMETERS} | {"mine"}


def test_the_executed_copy_of_a_failure_shows_where(failed_build):
    _, out = failed_build
    cells = nbformat.read(out / "notebooks" / f"{FAILING}.ipynb", 4).cells
    assert [o.ename for c in cells for o in c.get("outputs", ()) if o.output_type == "error"]


def test_kernels_run_this_interpreter_whatever_is_installed(failed_build):
    _, out = failed_build
    cells = nbformat.read(out / "notebooks" / "02_simulate_reclaim.ipynb", 4).cells
    printed = cells[-1].outputs[0].text.split()
    assert printed[0] == sys.executable
    assert "nowhere" not in printed[1]


def test_the_bar_counts_notebooks(failed_build):
    done, _ = failed_build
    assert f"{len(PARAMETERS)}/{len(PARAMETERS)}" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_kernels_and_leaves_no_half_written_file(tmp_path, number):
    sleeps = f"import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()"
    sleeps += "\ntime.sleep(600)"
    notebooks = write_notebooks(tmp_path / "notebooks", n02=sleeps, n03=sleeps)
    out, script = tmp_path / "out", tmp_path / "build.py"
    script.write_text(BUILD)
    command = [sys.executable, script, notebooks, out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as build:
        try:
            kernels = wait_for(lambda: numbers_in(tmp_path), 2)
            build.send_signal(number)
            build.communicate(timeout=60)
        finally:
            build.kill()
    assert build.returncode != 0
    wait_for(lambda: [pid for pid in kernels if not running(pid)], 2)
    assert left_in(out) == {"notebooks/01_measurements.ipynb"}
    nbformat.validate(nbformat.read(out / "notebooks/01_measurements.ipynb", 4))


def numbers_in(folder):
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for(found, count):
    for _ in range(600):
        if len(found()) >= count:
            return found()
        time.sleep(0.1)
    pytest.fail(f"waited a minute for {count}, found {found()}")


@pytest.mark.parametrize("given", [{"ordr": "4"}, {"order": "four"}, {"order": "12"}])
def test_a_wrong_parameter_is_refused_before_a_kernel_starts(tmp_path, monkeypatch, given):
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(ParamsError) as refusal:
        batch.run_notebook("02_simulate_reclaim", given, tmp_path)
    assert params.allowed("02_simulate_reclaim") in str(refusal.value)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(BatchError, match="name a folder that can be written"):
            batch.build(out)


def test_one_notebook_runs_by_path_with_text_from_a_shell(tmp_path):
    given = {"order": "4", "map_size": "256M", "reclaim_size": "0.2G", "arch": "x86_64"}
    path = params.NOTEBOOKS / "02_simulate_reclaim.ipynb"
    executed = batch.run_notebook(path, given, tmp_path / "out")
    assert executed == tmp_path / "out/notebooks/02_simulate_reclaim.ipynb"
    numbers = json.loads((tmp_path / "out/results/02_simulate_reclaim.json").read_text())["numbers"]
    # 0.2 GiB is 52428 pages; whole folios of 16 are freed.
    assert 52428 <= numbers["pgsteal"] < 52428 + 32 * 16
    nr_folios = numbers["pgsteal"] // 16
    assert numbers["events"]["folio_remove_rmap_ptes"] == nr_folios
    # The real kernel, and the two calls that measuring added.
    assert 0 <= numbers["measured"]["folio_remove_rmap_ptes"] - nr_folios <= 2


def test_a_failing_cell_is_an_error_that_shows_it(tmp_path):
    notebooks = write_notebooks(tmp_path / "notebooks", n03="1 / 0")
    with pytest.raises(BatchError, match=r"03_fit_costs: cell 2 failed:\n\n    1 / 0\n\nZeroDiv"):
        batch.run_notebook(notebooks / "03_fit_costs.ipynb", {}, tmp_path / "out")
