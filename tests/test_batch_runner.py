# SPDX-License-Identifier: GPL-2.0-only
"""A copied kernel is a kernel like any other: fresh, alone, and gone with who asked for it."""

import ast
import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from analysis import runner
from analysis.params import NOTEBOOKS, PARAMETERS
from analysis.runner import Job

PRELOAD = Path(runner.__file__).with_name("preload.py")


HOME = '/a "quoted" home'


def job(*sources, ident="", **parameters):
    cells = [new_code_cell("out = ''", metadata={"tags": ["parameters"]})]
    cells += map(new_code_cell, sources)
    return Job("any.ipynb", nbformat.writes(new_notebook(cells=cells)), parameters, HOME, ident)


def run(*jobs, at_once=1):
    with closing(runner.run(jobs, at_once)) as outcomes:
        return [ran for _, ran in sorted(outcomes, key=lambda each: each[0].ident)]


def printed(ran):
    assert ran.failure is None, str(ran.failure)
    cells = json.loads(ran.executed)["cells"]
    return [
        "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
        for cell in cells
        for output in cell.get("outputs", ())
    ]


def test_what_the_notebooks_import_is_imported_before():
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.parse(PRELOAD.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "MODULES"
    )
    wanted = set()
    for name in PARAMETERS:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        for node in ast.walk(ast.parse("\n".join(c.source for c in cells if "outputs" in c))):
            if isinstance(node, ast.ImportFrom) and node.module == "analysis":
                wanted |= {f"analysis.{alias.name}" for alias in node.names}
    # Those that another of them imports need no line.
    reached = {"elapsed", "explain", "fit", "machines", "timing"}
    assert wanted - set(listed) == {f"analysis.{name}" for name in reached}


def test_nothing_is_left_of_the_notebook_before():
    draws = "import numpy, random\nnumpy.random.random(), random.random()"
    sees = "import sim\n(hasattr(sim, 'stray'), 'stray' in globals())"
    leaves = "import sim\nsim.stray = stray = 1"
    one, other = (printed(ran) for ran in run(job(draws, sees, leaves), job(draws, sees, leaves)))
    assert one[1] == other[1] == "(False, False)"
    assert one[0] != other[0]


def test_pyplot_draws_into_the_notebook_and_warnings_are_shown():
    plot = "import matplotlib.pyplot as plt\nlines = plt.plot([1, 2])"
    warn = "import warnings\nwarnings.warn('look out')"
    (ran,) = run(job(plot, warn))
    cells = json.loads(ran.executed)["cells"]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    assert any("image/png" in each for each in data)
    assert "look out" in "".join(printed(ran))


def test_a_kernel_has_the_interpreter_and_folder_of_who_asked_but_not_its_profile():
    (ran,) = run(
        job("import os, sys\nprint(sys.executable, os.getcwd(), os.environ['IPYTHONDIR'])")
    )
    executable, folder, profile = printed(ran)[0].split()
    assert (executable, folder) == (sys.executable, str(Path.cwd()))
    assert not Path(profile).exists()


def test_what_is_saved_comes_back_and_the_scratch_folder_is_named_nowhere():
    saves = (
        "from pathlib import Path\nplace = Path(out, 'results', 'any.json')\n"
        "place.parent.mkdir()\nPath(out, 'note').write_text('n')\nplace.write_text('{}')\nplace"
    )
    (ran,) = run(job(saves, out=HOME))
    assert ran.saved == {"note": b"n", "results/any.json": b"{}"}
    assert list(ran.saved)[-1] == "results/any.json"
    metadata = json.loads(ran.executed)["metadata"]["papermill"]
    assert metadata["output_path"] == f"{HOME}/notebooks/any.ipynb"
    assert metadata["input_path"] == "any.ipynb"
    assert metadata["parameters"]["out"] == HOME
    assert "reclaim-" not in ran.executed.decode()


def test_a_failing_cell_and_a_dying_kernel_say_which_cell():
    raised, died = run(
        job("1", "raise ValueError('\x1b[31mno\x1b[0m')", ident="1"),
        job("1", "import os\nos._exit(3)", "2", ident="2"),
    )
    for ran, error in ((raised, "ValueError: no"), (died, "DeadKernelError: Kernel died")):
        cells = json.loads(ran.executed)["cells"]
        found = next(cell for cell in cells if cell["id"] == ran.failure.cell_id)
        assert "".join(found["source"]) == ran.failure.cell_source
        assert ran.failure.error.startswith(error)
        assert ran.failure.count == 3


def test_many_in_parallel_reach_their_own_kernels():
    wanted = [str(nr) for nr in range(24)]
    jobs = [job(f"print({nr})", ident=f"{nr:02}") for nr in range(24)]
    assert [printed(ran)[0].strip() for ran in run(*jobs, at_once=8)] == wanted


def gone(pid):
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def begin_and_sleep(folder):
    pids = "import os, pathlib, time\n"
    pids += "told = f'{os.getpid()} {os.getppid()} {os.environ[\"IPYTHONDIR\"]}'\n"
    pids += f"pathlib.Path({folder!r}, 'pids').write_text(told)\n"
    run(job(pids + "time.sleep(600)"))


def test_a_killed_sweep_leaves_no_process_and_no_scratch_folder(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=begin_and_sleep, args=(str(tmp_path),)
    )
    process.start()
    for _ in range(600):
        if (tmp_path / "pids").is_file() and (tmp_path / "pids").read_text():
            break
        time.sleep(0.1)
    kernel, driver, scratch = (tmp_path / "pids").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert gone(int(driver))
    assert gone(int(kernel))
    assert not Path(scratch).parent.exists()


def test_a_killed_driver_is_a_failure_that_says_so():
    (ran,) = run(job("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"))
    assert ran.executed is None
    assert str(ran.failure) == "its process ended with status -9 before the notebook did"


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_closed_run_ends_what_runs(at_once):
    sleeping = [job("import time\ntime.sleep(600)") for _ in range(4)]
    outcomes = runner.run([job("1"), *sleeping], at_once)
    next(outcomes)
    outcomes.close()
    assert multiprocessing.active_children() == []
