# SPDX-License-Identifier: GPL-2.0-only
"""Run notebooks through papermill, each in processes of its own that have its imports already.

A fork server imports what notebooks need (`analysis.preload`); each notebook gets a copy of it that
runs papermill, and a copy of that as its kernel. A process each, because signal handlers,
environment and the event loop belong to a process: an interrupt ends the process, which ends its
kernel. Kernels run the interpreter that runs this, and read and write nothing below the home
directory.

A notebook saves its results into a scratch folder. They come back as bytes, and whoever asked
writes them: nothing is in its place before it is whole.
"""

import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

# Seconds that a process has to end its kernel.
GRACE_S = 10

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Job:
    """One notebook to run.

    `path` and `source` are the notebook's path, as it will be shown, and its text. `out` is where
    results will stand: what the notebook knows as its `out` is a scratch folder, whose path is
    replaced by this one in the executed copy. `ident` is for whoever asked.
    """

    path: str
    source: str
    parameters: dict[str, object] = field(hash=False)
    out: str
    ident: str = ""

    @property
    def name(self) -> str:
        """The name of the notebook, without folder and suffix."""
        return Path(self.path).stem


@dataclass(frozen=True)
class Failure:
    """Why a notebook failed: its cell, if one did, and the error in words."""

    error: str
    cell_id: str | None = None
    cell_source: str = ""
    count: int | None = None

    def __str__(self) -> str:
        if self.cell_id is None:
            return self.error
        source = "\n".join(f"    {line}" for line in self.cell_source.splitlines())
        return f"cell {self.count} failed:\n\n{source}\n\n{self.error}"


@dataclass(frozen=True)
class Ran:
    """What came of a notebook: its executed copy, as far as it came, and what it saved.

    `saved` is by path below `out`; results/NAME.json, which names the others, is the last.
    """

    executed: bytes | None
    saved: dict[str, bytes]
    failure: Failure | None
    elapsed_s: float


def run(jobs: Iterable[Job], at_once: int) -> Iterator[tuple[Job, Ran]]:
    """Run jobs, `at_once` at a time, and yield what came of each as it ends.

    Close the iterator to end what runs: an interrupt, and SIGTERM in the main thread, do so.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["analysis.preload"])
    waiting, nr = iter(jobs), 0
    running: dict[Connection, tuple[Job, BaseProcess]] = {}
    scratches = tempfile.TemporaryDirectory(prefix="reclaim-", ignore_cleanup_errors=True)
    with scratches as scratch, _termination_unwinds():
        try:
            while True:
                while len(running) < at_once and (job := next(waiting, None)):
                    nr += 1
                    running |= _started(context, job, Path(scratch, str(nr)))
                if not running:
                    return
                for connection in wait(list(running)):
                    job, process = running.pop(connection)
                    yield job, _outcome(connection, process)
        finally:
            _end([process for _, process in running.values()])


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
    process = context.Process(target=_drive, args=(job, scratch, theirs))
    process.start()
    theirs.close()
    return {ours: (job, process)}


def _outcome(connection: Connection, process: BaseProcess) -> Ran:
    with connection:
        try:
            ran = connection.recv()
        except EOFError:
            ran = None
    process.join()
    if ran is None:
        said = f"its process ended with status {process.exitcode} before the notebook did"
        return Ran(None, {}, Failure(said), 0.0)
    return ran


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()


# The rest runs in the process of one notebook.


def _drive(job: Job, scratch: Path, connection: Connection) -> None:
    from analysis.kernels import WaitingKernel  # noqa: PLC0415 - imported in the fork server

    os.setsid()  # an interrupt from the terminal is for the parent, which ends this process
    scratch.mkdir()
    _isolate(scratch)
    _divert(scratch / "stderr")
    kernel = WaitingKernel()  # before this process has threads
    signal.signal(signal.SIGTERM, lambda *_: _end_both(kernel))
    threading.Thread(target=_end_with_parent, args=(kernel, scratch), daemon=True).start()
    _silence()
    connection.send(_execute(job, scratch, kernel))
    connection.close()
    _end_kernel(kernel)
    shutil.rmtree(scratch, ignore_errors=True)


# A parent that was killed could not end this process, nor remove what it made.
def _end_with_parent(kernel, scratch: Path) -> None:
    wait([multiprocessing.parent_process().sentinel])
    _end_kernel(kernel)
    shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):  # the last one removes the folder of all
        scratch.parent.rmdir()
    os._exit(1)


def _end_kernel(kernel) -> None:
    kernel.kill()
    kernel.wait(GRACE_S / 2)


# The kernel first, so that nothing writes to the scratch folder any more.
def _end_both(kernel) -> None:
    _end_kernel(kernel)
    os._exit(1)


def _isolate(scratch: Path) -> None:
    # The user's IPython profile may run anything at start, and the home may be read-only.
    os.environ |= {"IPYTHONDIR": str(scratch), "JUPYTER_RUNTIME_DIR": str(scratch)}


def _divert(log: Path) -> None:
    # What libraries say while all goes well is kept for the message of a failure.
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def _silence() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _execute(job: Job, scratch: Path, kernel) -> Ran:
    began = time.monotonic()
    out = scratch / "out"
    executed = out / "notebooks" / f"{job.name}.ipynb"
    executed.parent.mkdir(parents=True)
    try:
        failure = _papermill(job, scratch, executed, kernel)
    except Exception as error:
        failure = _broken(executed, f"{type(error).__name__}: {error}", scratch / "stderr")
    saved = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"), key=lambda path: (path.parent.name == "results", path))
        if path.is_file() and path != executed
    }
    moved = {str(out): job.out, str(_source(scratch)): job.path}
    copy = _at_home(executed, moved) if executed.is_file() else None
    return Ran(copy, saved, failure, time.monotonic() - began)


def _source(scratch: Path) -> Path:
    return scratch / "source.ipynb"


def _papermill(job: Job, scratch: Path, executed: Path, kernel) -> Failure | None:
    import papermill  # noqa: PLC0415 - imported in the fork server
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415

    from analysis import kernels  # noqa: PLC0415

    own = {"out": str(executed.parents[1])} if "out" in job.parameters else {}
    _source(scratch).write_text(job.source, encoding="utf-8")
    try:
        papermill.execute_notebook(
            _source(scratch),
            str(executed),
            parameters=job.parameters | own,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            engine_name=_engine(executed),
            request_save_on_cell_execute=False,
            kernel_manager_class=kernels.manager(kernel, scratch),
            shutdown_kernel="immediate",
        )
    except PapermillExecutionError as error:
        what = ANSI.sub("", f"{error.ename}: {error.evalue}")
        return Failure(what, _cell_of(executed, error), error.source, error.exec_count)
    return None


# Saving at each cell would take longer than most cells; papermill's own engine saves only then, or
# when a cell raises, and a notebook whose kernel died would leave nothing.
def _engine(executed: Path) -> str:
    from papermill.engines import NBClientEngine, papermill_engines  # noqa: PLC0415
    from papermill.iorw import write_ipynb  # noqa: PLC0415

    class KeepsWhatRan(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **options)
            except Exception:
                write_ipynb(nb_man.nb, str(executed))
                raise

    papermill_engines.register("reclaim", KeepsWhatRan)
    return "reclaim"


def _cell_of(executed: Path, error) -> str | None:
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    failed = [cell for cell in cells if cell.get("execution_count") == error.exec_count]
    return failed[0]["id"] if failed else ""


# No cell raised: the kernel died, say. The cell that was started last is the one.
def _broken(executed: Path, what: str, log: Path) -> Failure:
    said = f"{what}\n{log.read_text(errors='replace')}".strip()
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return Failure(said)
    begun = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    if not begun:
        return Failure(said)
    before = cells[: cells.index(begun[-1])]
    count = 1 + max((cell.get("execution_count") or 0 for cell in before), default=0)
    return Failure(said, begun[-1].get("id", ""), "".join(begun[-1]["source"]), count)


def _at_home(executed: Path, moved: Mapping[str, str]) -> bytes:
    text = executed.read_text(encoding="utf-8")
    for scratch, home in moved.items():
        escaped = json.dumps(home)[1:-1]
        # In code it stands within quotes within JSON.
        text = text.replace(f'\\"{scratch}', f'\\"{json.dumps(escaped)[1:-1]}')
        text = text.replace(scratch, escaped)
    return text.encode()
