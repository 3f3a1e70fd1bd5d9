# SPDX-License-Identifier: GPL-2.0-only
"""Run the workbook's notebooks, and build the page from what they save."""

import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from analysis import params, runner
from analysis.files import write_whole
from analysis.params import NOTEBOOKS, PARAMETERS
from analysis.runner import Job, Ran

# Notebooks at a time. On two cores, two took 0.6 of the time of one after the other.
AT_ONCE = 2


class BatchError(Exception):
    """A notebook that failed, or a folder that cannot be written; says which and why."""


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
    job = _job(notebook, given, writable(out))
    if failed := _run([job], tqdm(total=1, unit="notebook", leave=False)):
        raise BatchError(failed[job])
    return _executed(job)


def build(out: str | Path) -> int:
    """Run every notebook with its defaults, then write out/index.html; return the exit status.

    What an earlier build wrote is removed first. If a notebook fails, its message goes to stderr,
    the others still run, no page is written and the status is 1.

    Raises:
        BatchError: `out` cannot be written.
        PageError: the results do not make a page.
    """
    from analysis import page, results  # noqa: PLC0415 - a second, and one run of a notebook is one

    out = writable(out)
    (out / "index.html").unlink(missing_ok=True)
    for notebook, result in results.read(out).items():
        results.remove(out, notebook, result)
    jobs = [_job(notebook, {}, out) for notebook in PARAMETERS]
    for job in jobs:  # one that failed left no result that names it
        _executed(job).unlink(missing_ok=True)
    failed = _run(jobs, tqdm(total=len(jobs), unit="notebook"))
    for message in failed.values():
        print(f"\n{message}", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(jobs)} notebooks failed: no page", file=sys.stderr)
        return 1
    print(page.write_page(out))
    return 0


def writable(out: str | Path) -> Path:
    """Return the folder `out`, made if it was missing; BatchError if it cannot be written."""
    folder = Path(out).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _cannot_write(folder, error) from None


def source_of(notebook: str | Path) -> Path:
    """Return the path of a notebook given by path, or by a name of one of the workbook's."""
    name = Path(notebook).name.removesuffix(".ipynb")
    own = Path(notebook).resolve()
    return own if own.suffix == ".ipynb" and own.is_file() else NOTEBOOKS / f"{name}.ipynb"


def _cannot_write(path: Path, error: OSError) -> BatchError:
    return BatchError(
        f"{path}: {error.strerror}; name a folder that can be written, with room in it"
    )


def _job(notebook: str | Path, given: Mapping[str, object], out: Path) -> Job:
    path = source_of(notebook)
    asked = replace(params.read(path.stem, given), out=str(out))
    return Job(str(path), path.read_text(encoding="utf-8"), asdict(asked), str(out))


def _executed(job: Job) -> Path:
    return Path(job.out, "notebooks", f"{job.name}.ipynb")


# Run jobs and write what they made; return a message for each that failed.
def _run(jobs: list[Job], bar: tqdm) -> dict[Job, str]:
    at_once = min(AT_ONCE, os.cpu_count() or 1)
    failed = {}
    with bar, closing(runner.run(jobs, at_once)) as outcomes:
        for job, ran in outcomes:
            _write(job, ran)
            if ran.failure:
                seen = f"\n\nsee {_executed(job)}" if ran.executed else ""
                failed[job] = f"{job.name}: {ran.failure}{seen}"
            bar.set_description(job.name)
            bar.update()
    return failed


def _write(job: Job, ran: Ran) -> None:
    out = Path(job.out)
    try:
        if ran.executed:
            write_whole(_executed(job), ran.executed)
        for name, content in ran.saved.items():
            write_whole(out / name, content)
    except OSError as error:
        raise _cannot_write(out, error) from None
