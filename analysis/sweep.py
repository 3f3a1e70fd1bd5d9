# SPDX-License-Identifier: GPL-2.0-only
"""Run a notebook over a grid of parameters, each point once, whatever ends a run.

A point is known by the content of what goes into it: the notebook, the parameters, files that they
name, the sources of this package and the measured files. DIR/points/ID/ holds what came of it;
point.json there is written last and says whether it is done or failed. What has no point.json was
cut short, and runs again; nothing else does, unless failed points are to be tried again.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tqdm import tqdm

from analysis import grid, runner, stores
from analysis.measurements import DATA
from analysis.runner import Job, Ran
from sim.ident import short_id

PACKAGES = (Path(__file__).parent, Path(__file__).resolve().parents[1] / "sim")
DONE, FAILED = "done", "failed"

# Takes jobs, and yields what came of each as it ends.
Runner = Callable[[Iterator[Job]], Iterator[tuple[Job, Ran]]]


@dataclass(frozen=True)
class Point:
    """One point of a sweep: its id, its parameters and the folder of its files, below DIR."""

    ident: str
    parameters: dict[str, object]

    @property
    def folder(self) -> str:
        """Where its files are, below the folder of the sweep."""
        return f"points/{self.ident}"


def plan(notebook: Path, asked: Sequence[str]) -> list[Point]:
    """Return the points of a sweep, with their ids.

    Raises:
        GridError, ParamsError: as in `grid.points`.
    """
    same = {"notebook": _sha256(notebook), "package": package_digest()}
    return [
        Point(short_id(same | {"parameters": point, "files": _files(point)}), point)
        for point in grid.points(notebook, asked)
    ]


def sweep(
    notebook: Path,
    points: Sequence[Point],
    store: stores.Store,
    run: Runner,
    *,
    retry_failed: bool = False,
) -> dict[str, dict]:
    """Run the points that are not done, and return the record of each by its id.

    Args:
        run: as `local` returns; closed when this is left, however that happens.
        retry_failed: also run those that have failed before.

    Raises:
        StoreError: a file cannot be written; what was done before stays done.
    """
    records = _records(notebook, points, store, retry_failed)
    to_run = {point.ident: point for point in points if point.ident not in records}
    _tell(len(points), records, len(to_run))
    for point in to_run.values():
        store.clear(point.folder)
    if not to_run:
        return records
    jobs = _jobs(notebook, to_run.values(), store)
    bar = tqdm(total=len(points), initial=len(records), unit="point")
    with bar, closing(run(jobs)) as outcomes:
        for job, ran in outcomes:
            point = to_run[job.ident]
            records[point.ident] = _keep(store, point, job, ran)
            if ran.failure:
                bar.write(_failed_line(point, records[point.ident]), file=sys.stderr)
            bar.update()
    return records


def report(
    store: stores.Store, name: str, points: Sequence[Point], found: dict[str, dict], number: str
) -> int:
    """Write the table and the figure, print what there is; return 1 if a point failed, else 0.

    Raises:
        StoreError: a file cannot be written.
        SweptError: no point has the number that is asked for.
    """
    from analysis import swept  # noqa: PLC0415 - pandas and matplotlib, once the points are done

    records = [found[point.ident] for point in points]
    print("\n".join(swept.write(store, name, records, number)))
    if store.left_out:
        kinds = ", ".join(sorted({Path(name).suffix for name in store.left_out}))
        told = f"{len(store.left_out)} files left out ({kinds})"
        print(f"papermill writes text only to {store}: {told}")
    failed = sum(record["status"] == FAILED for record in records)
    if failed:
        print(f"{failed} of {len(points)} points failed; see `text` in the table", file=sys.stderr)
    return int(failed > 0)


def local(at_once: int) -> Runner:
    """Return the runner of this machine, `at_once` notebooks at a time."""
    return lambda jobs: runner.run(jobs, at_once)


@cache
def package_digest() -> str:
    """Return the SHA-256 over the names and contents of this package's sources and measurements."""
    digest = hashlib.sha256()
    for folder in PACKAGES:
        _add(digest, folder, "*.py")
    _add(digest, DATA, "*")
    return digest.hexdigest()


def _add(digest, folder: Path, pattern: str) -> None:
    for path in sorted(folder.rglob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())


# A parameter may name a file or a folder that the notebook reads.
def _files(parameters: dict[str, object]) -> dict[str, str]:
    texts = {name: value for name, value in parameters.items() if isinstance(value, str) and value}
    return {name: digest for name, value in texts.items() if (digest := _content(value))}


@cache
def _content(name: str) -> str | None:
    path = Path(name)
    try:
        if path.is_file():
            return _sha256(path)
        if "/" not in name or not path.is_dir():
            return None
        found = [each for each in sorted(path.rglob("*")) if each.is_file()]
        return short_id([[str(each.relative_to(path)), _sha256(each)] for each in found])
    except OSError:  # too long for a name, say: no file, or none that the notebook can read
        return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _records(notebook, points, store, retry_failed) -> dict[str, dict]:
    found = {}
    for point in points:
        content = store.read(f"{point.folder}/point.json")
        try:
            record = json.loads(content or b"")
        except ValueError:
            continue
        done = record["status"] == DONE and store.read(_executed(point, notebook.stem))
        if done or (record["status"] == FAILED and not retry_failed):
            found[point.ident] = record
    return found


def _executed(point: Point, name: str) -> str:
    return f"{point.folder}/notebooks/{name}.ipynb"


def _tell(nr_points: int, records: dict[str, dict], nr_to_run: int) -> None:
    failed = sum(record["status"] == FAILED for record in records.values())
    again = f", {failed} failed before (--retry-failed tries again)" if failed else ""
    print(f"{nr_points} points: {len(records) - failed} done before{again}, {nr_to_run} to run")


def _jobs(notebook: Path, points, store: stores.Store) -> Iterator[Job]:
    source = notebook.read_text(encoding="utf-8")
    with_out = grid.takes_out(notebook)
    for point in points:
        out = f"{store}/{point.folder}"
        parameters = point.parameters | ({"out": out} if with_out else {})
        yield Job(str(notebook), source, parameters, out, point.ident)


def _keep(store: stores.Store, point: Point, job: Job, ran: Ran) -> dict:
    if ran.executed:
        store.write(_executed(point, job.name), ran.executed)
    for name, content in ran.saved.items():
        store.write(f"{point.folder}/{name}", content)
    record = {
        "id": point.ident,
        "notebook": job.name,
        "parameters": point.parameters,
        "status": FAILED if ran.failure else DONE,
        "elapsed_s": round(ran.elapsed_s, 3),
        "numbers": _numbers(ran),
        "failure": _failure(ran),
    }
    content = json.dumps(record, indent=2, allow_nan=False).encode() + b"\n"
    store.write(f"{point.folder}/point.json", content)
    return record


# The numbers that the notebook saved, by a name each, such as "events.try_to_unmap".
def _numbers(ran: Ran) -> dict[str, object]:
    flat = {}
    for name, content in ran.saved.items():
        if Path(name).parent.name == "results" and name.endswith(".json"):
            result = json.loads(content, parse_constant=lambda _: None)  # NaN is no JSON
            flat |= _leaves("", result.get("numbers", {}) if isinstance(result, dict) else {})
    return flat


def _leaves(name: str, value: object) -> dict[str, object]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {name: value}
    flat = {}
    for key, inner in value.items():
        flat |= _leaves(f"{name}.{key}" if name else str(key), inner)
    return flat


def _failure(ran: Ran) -> dict | None:
    if ran.failure is None:
        return None
    failure = ran.failure
    return {
        "error": failure.error,
        "cell": failure.cell_id,
        "cell_number": failure.count,
        "cell_source": failure.cell_source,
    }


def _failed_line(point: Point, record: dict) -> str:
    failure = record["failure"]
    where = f"cell {failure['cell']}: " if failure["cell"] else ""
    told = failure["error"].splitlines()[0]
    return f"{grid.label(point.parameters, list(point.parameters))}: {where}{told}"
