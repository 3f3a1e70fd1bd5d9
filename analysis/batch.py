# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: PLC0415 - every process here imports this module; see its docstring
"""Run notebooks through papermill, each in a process of its own, and build the page from them.

A process each, because signal handlers, environment and the event loop belong to a process: an
interrupt ends the process, which ends its kernel. Kernels run the interpreter that runs this,
whatever kernels the user has installed, and read and write nothing below the home directory. They
are reached through Unix sockets: TCP ports are chosen before they are bound, and two kernels that
start together can be given the same.

Imports that take a second stand where they are needed: every process here imports this module.
"""

import logging
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from analysis import params
from analysis.files import write_whole
from analysis.params import NOTEBOOKS, PARAMETERS, Params

# Kernels at a time. On two cores, two took 0.6 of the time of one after the other.
AT_ONCE = 2
# Longest path that a Unix socket may have anywhere, less what jupyter_client appends to the folder.
SOCKET_FOLDER_CHARS = 103 - len("/kernel-ipc-5")
# Seconds that a process has to end its kernel.
GRACE_S = 10

ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BatchError(Exception):
    """A notebook that failed, or a folder that cannot be written; says which and why."""


@dataclass(frozen=True)
class Job:
    """One notebook to run: its file, its checked parameters and where its executed copy goes."""

    path: Path
    asked: Params
    executed: Path


def run_notebook(notebook: str | Path, given: Mapping[str, object], out: str | Path) -> Path:
    """Run one notebook and return the path of its executed copy, below out/notebooks/.

    Args:
        notebook: a key of `PARAMETERS`, or the path of a notebook of that name.
        given: parameters by name, as values or as text from a shell.
        out: the folder for results, figures and tables.

    Raises:
        ParamsError: a wrong parameter; no kernel has been started.
        BatchError: a cell failed; the executed copy shows where.
    """
    job = _job(notebook, given, _writable(out))
    with tqdm(total=1, unit="notebook", leave=False) as bar:
        failed = _run([job], bar)
    if failed:
        raise BatchError(failed[job])
    return job.executed


def build(out: str | Path) -> int:
    """Run every notebook with its defaults, then write out/index.html; return the exit status.

    What an earlier build wrote is removed first. If a notebook fails, its message goes to stderr,
    the others still run, no page is written and the status is 1.

    Raises:
        BatchError: `out` cannot be written.
        PageError: the results do not make a page.
    """
    from analysis import page, results

    out = _writable(out)
    (out / "index.html").unlink(missing_ok=True)
    for notebook, result in results.read(out).items():
        results.remove(out, notebook, result)
    jobs = [_job(notebook, {}, out) for notebook in PARAMETERS]
    for job in jobs:  # one that failed left no result that names it
        job.executed.unlink(missing_ok=True)
    with tqdm(total=len(jobs), unit="notebook") as bar:
        failed = _run(jobs, bar)
    for message in failed.values():
        print(f"\n{message}", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(jobs)} notebooks failed: no page", file=sys.stderr)
        return 1
    print(page.write_page(out))
    return 0


def _writable(out: str | Path) -> Path:
    folder = Path(out).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise BatchError(
            f"{folder}: {error.strerror}; name a folder that can be written, with room in it"
        ) from None


def _job(notebook: str | Path, given: Mapping[str, object], out: Path) -> Job:
    name = Path(notebook).name.removesuffix(".ipynb")
    asked = replace(params.read(name, given), out=str(out))
    own = Path(notebook).resolve()
    path = own if own.suffix == ".ipynb" and own.is_file() else NOTEBOOKS / f"{name}.ipynb"
    return Job(path, asked, out / "notebooks" / f"{name}.ipynb")


# Run jobs, `AT_ONCE` at a time; return a message for each that failed.
def _run(jobs: list[Job], bar: tqdm) -> dict[Job, str]:
    at_once = min(AT_ONCE, os.cpu_count() or 1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill", "analysis.batch"])
    waiting, failed = list(jobs), {}
    running: dict[Connection, tuple[Job, BaseProcess]] = {}
    with tempfile.TemporaryDirectory(prefix="reclaim-") as scratch, _termination_unwinds():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running |= _started(context, job, Path(scratch, job.path.stem))
                bar.set_description(", ".join(job.path.stem for job, _ in running.values()))
                for connection in wait(list(running)):
                    job, process = running.pop(connection)
                    if message := _message(connection, process):
                        failed[job] = f"{job.path.stem}: {message}"
                    bar.update()
        finally:
            _end([process for _, process in running.values()])
    return failed


@contextmanager
def _termination_unwinds():
    # SIGTERM then ends kernels and removes temporary files, as an interrupt does.
    def unwind(number, _frame):
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, unwind)
    except ValueError:  # not the main thread: signals are its caller's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _started(context, job: Job, scratch: Path) -> dict[Connection, tuple[Job, BaseProcess]]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_execute, args=(job, scratch, theirs), daemon=True)
    process.start()
    theirs.close()
    return {ours: (job, process)}


def _message(connection: Connection, process: BaseProcess) -> str:
    try:
        message = connection.recv()
    except EOFError:
        message = None
    process.join()
    if message is None:
        return f"its process ended with status {process.exitcode} before the notebook did"
    return message


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()


# The rest runs in the process of one notebook.


def _execute(job: Job, scratch: Path, connection: Connection) -> None:
    os.setsid()  # an interrupt from the terminal is for the parent, which ends this process
    scratch.mkdir()
    _isolate(scratch)
    _silence(scratch / "stderr")
    try:
        message = _papermill(job, scratch / job.executed.name)
    except Exception as error:
        message = f"{type(error).__name__}: {error}\n{(scratch / 'stderr').read_text()}".strip()
    connection.send(message)


def _isolate(scratch: Path) -> None:
    # The user's IPython profile may run anything at start, and the home may be read-only.
    os.environ |= {"IPYTHONDIR": str(scratch), "JUPYTER_RUNTIME_DIR": str(scratch)}
    if not os.access(Path("~").expanduser(), os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", str(scratch))
    # The debugger, which nobody attaches, warns that Python's own modules are frozen.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"


def _silence(log: Path) -> None:
    # What libraries say while all goes well is kept for the message of a failure.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with log.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def _papermill(job: Job, executed: Path) -> str:
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    message = ""
    try:
        papermill.execute_notebook(
            nbformat.read(job.path, as_version=4),
            str(executed),
            parameters=asdict(job.asked),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=_kernel_manager(executed.parent),
            shutdown_kernel="immediate",
        )
    except PapermillExecutionError as error:
        message = _cell_message(error, job.executed)
    write_whole(job.executed, executed.read_bytes())
    return message


def _cell_message(error, executed: Path) -> str:
    source = "\n".join(f"    {line}" for line in error.source.splitlines())
    what = ANSI.sub("", f"{error.ename}: {error.evalue}")
    return f"cell {error.exec_count} failed:\n\n{source}\n\n{what}\n\nsee {executed}"


def _kernel_manager(folder: Path) -> type:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnInterpreter(AsyncKernelManager):
        def __init__(self, **options):
            super().__init__(
                kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
                transport="ipc" if len(str(folder)) <= SOCKET_FOLDER_CHARS else "tcp",
                # Without a name, all sockets are named alike, in the current folder.
                connection_file=str(folder / "kernel.json"),
                **options,
            )

    return OwnInterpreter
