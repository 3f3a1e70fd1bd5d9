# SPDX-License-Identifier: GPL-2.0-only
"""The runner of a sweep on a Dask cluster: the same jobs, each run by a worker as on one machine.

A worker needs this package from the same sources, and no folder in common: notebooks travel as text
and what they save as bytes, and only the machine of the sweep writes. Of a worker that dies, Dask
runs the jobs again that it had not handed over; each outcome arrives once.
"""

import multiprocessing
from collections.abc import Iterator
from contextlib import closing

from analysis import runner as processes
from analysis import sweep
from analysis.runner import Failure, Job, Ran
from sim.ident import short_id

# Jobs that wait on the cluster, for each thread of its workers: none has to wait for us.
AHEAD = 2
# Seconds that a scheduler has to answer.
CONNECT_S = 10


class ClusterError(Exception):
    """A cluster that cannot be used; says why and what to do."""


def runner(address: str) -> sweep.Runner:
    """Return the runner of a Dask cluster.

    Args:
        address: its scheduler, such as tcp://host:8786.

    Raises:
        ClusterError: distributed is not installed. When run: no scheduler answers, or a worker
            has other sources of this package.
    """
    try:
        import distributed  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise ClusterError(
            "--dask: no package distributed; install it: pip install reclaim-workbook[dask]"
        ) from None
    return lambda jobs: _run(address, jobs)


def _run(address: str, jobs: Iterator[Job]) -> Iterator[tuple[Job, Ran]]:
    from distributed import as_completed  # noqa: PLC0415 - an extra

    with _client(address) as client:
        asked: dict[str, Job] = {}
        ended = as_completed(loop=client.loop, raise_errors=False)
        try:
            while True:
                _submit(client, jobs, asked, ended)
                if not asked:
                    return
                future = next(ended)
                job = asked.pop(future.key)
                yield job, _outcome(future)
                future.release()
        finally:
            client.cancel(list(ended.futures), force=True)


def _client(address: str):
    from distributed import Client  # noqa: PLC0415 - an extra

    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"{address}: no scheduler answers ({error}); start one with `dask scheduler`"
        ) from None


def _submit(client, jobs: Iterator[Job], asked: dict[str, Job], ended) -> None:
    wanted = max(1, AHEAD * sum(client.nthreads().values()))
    while len(asked) < wanted and (job := next(jobs, None)):
        key = f"reclaim-{job.ident}-{short_id([job.out])}"
        asked[key] = job
        ended.add(client.submit(run_one, job, sweep.package_digest(), key=key, pure=False))


def _outcome(future) -> Ran:
    if future.status == "finished":
        found = future.result()
        if isinstance(found, Ran):
            return found
        raise ClusterError(found)
    error = future.exception()
    return Ran(None, {}, Failure(f"{type(error).__name__}: {error}"), 0.0)


def run_one(job: Job, package_digest: str) -> Ran | str:
    """Run a job on a worker; return what came of it, or why this worker cannot be used."""
    if sweep.package_digest() != package_digest:
        return "a worker has other sources of this package: install the same there"
    # A worker is started as a daemon process, which may have no children; it ends ours all the
    # same, who watch for the end of their parent.
    multiprocessing.current_process().daemon = False
    with closing(processes.run([job], 1)) as outcomes:
        return next(outcomes)[1]
