# SPDX-License-Identifier: GPL-2.0-only
"""Advice: which run to make next, on what and how many times, to know one reduction better.

A run is worth what it is expected to take off the variance of the quantity asked for: the square of
their covariance over the draws of all that is unknown, over the variance of what the run would
show, noise and model error included. The first run is chosen so; the next given the first.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import elapsed, machines, timing
from analysis.stalls import pageout_terms
from sim import ARCHES, FILE_SERIES, KERNELS
from sim.arch import isa

# Runs are repeated until more would take off less than a tenth of what endless ones could.
ENOUGH, MOST_RUNS = 0.9, 30
NR_ADVISED = 3


@dataclass(frozen=True)
class Candidate:
    """A run that could be made.

    Attributes:
        kernel, order: what runs, and of which folio order.
        kind, workload: as of `machines.Observation`.
        unpatched: whether the kernel is one that the user has before the change.
    """

    kernel: str
    order: int
    kind: str
    workload: str
    unpatched: bool

    @property
    def name(self) -> str:
        """In words."""
        how = "memory.reclaim" if self.kind == "reclaim" else "MADV_PAGEOUT"
        return f"{how}, {self.workload} folios, kernel {self.kernel}"


def candidates(arch: str, before: str) -> tuple[Candidate, ...]:
    """Return every run that could tell about a step from `before`: kernels, workloads, orders."""
    has = KERNELS[before]
    found = []
    for order in range(ARCHES[arch].pmd_order):
        for kernel in FILE_SERIES:
            lacks = all(b or not k for b, k in zip(has, KERNELS[kernel], strict=True))
            found.append(Candidate(kernel, order, "reclaim", "file", lacks))
        found.append(Candidate("base", order, "pageout", "file", True))
        # Linux 6.15 on batches lazyfree folios, whatever it does to those of files.
        found.append(Candidate("lazyfree", order, "pageout", "lazyfree", True))
    return tuple(found)


def advise(
    costs: timing.TimeFit,
    order: int,
    *,
    before: str = "references",
    after: str = "unmap",
    unpatched: bool = False,
) -> pd.DataFrame:
    """Return the runs to make next, best first, each given those before it.

    One row a run: run, order, times; sd_before, sd_after: standard deviation of the elapsed
    reduction before it and expected after it; gain: share of the variance that it takes off.

    Args:
        costs: of the machine that the runs would be made on.
        order, before, after: the reduction asked for, see `elapsed.reduction`.
        unpatched: only runs of kernels that have nothing that `before` lacks.
    """
    asked = elapsed.reduction(costs, before, after, order).draws
    pool = [c for c in candidates(costs.machine.arch, before) if c.unpatched or not unpatched]
    seconds = np.array([_ns(costs, candidate) for candidate in pool])
    wrong = costs.posterior.model_error * np.random.default_rng(3).normal(size=seconds.shape)
    # Relative to their means: columns of like size.
    shown = seconds / seconds.mean(axis=1, keepdims=True) * (1 + wrong)
    left, shown = asked - asked.mean(), shown - shown.mean(axis=1, keepdims=True)
    noise = (1.2533 * machines.run_noise()[0]) ** 2
    rows = []
    for _ in range(NR_ADVISED):
        covariance, variance = shown @ left / len(left), (shown**2).mean(axis=1)
        gains = covariance**2 / (variance + noise / MOST_RUNS) / np.mean(left**2)
        best = int(np.argmax(gains))
        times = _times(variance[best], noise)
        gain = covariance[best] ** 2 / (variance[best] + noise / times) / np.mean(left**2)
        sd = float(left.std())
        rows.append(
            {
                "run": pool[best].name, "order": pool[best].order, "times": times,
                "sd_before": sd, "sd_after": sd * float(np.sqrt(1 - gain)), "gain": float(gain),
            }
        )  # fmt: skip
        seen = shown[best] / (variance[best] + noise / times)
        left = left - covariance[best] * seen
        shown = shown - np.outer(shown @ shown[best] / len(left), seen)
    return pd.DataFrame(rows)


def _ns(costs: timing.TimeFit, run: Candidate) -> np.ndarray:
    # Draws of the time of one run, each with its own way to flush the TLB.
    arch, model = costs.machine.arch, costs.model
    if run.kind == "pageout":
        size = elapsed.LAZYFREE_BYTES
        terms = [pageout_terms(arch, run.workload, run.order, size, model, run.kernel)]
    else:
        flushes = elapsed.OPEN_FLUSHES[isa(arch)]
        terms = [elapsed.request_terms(costs, run.kernel, run.order, flush) for flush in flushes]
    drawn = costs.posterior.costs
    way = np.arange(len(drawn)) % len(terms)
    return np.einsum("bt,bt->b", drawn, np.array(terms).sum(axis=2)[way])


def _times(variance: float, noise: float) -> int:
    # n with variance / (variance + noise / n) >= ENOUGH.
    enough = ENOUGH / (1 - ENOUGH) * noise / variance
    return int(min(MOST_RUNS, max(3, np.ceil(enough - 1e-6))))


def to_text(table: pd.DataFrame, question: str) -> str:
    """Return the advice as lines, the question first."""
    lines = [question, "", f"{'':<3}{'run':<52}{'order':>6}{'times':>7}{'sd':>8}{'to':>8}"]
    lines += [
        f"{place}. {row.run:<52}{row.order:>6}{row.times:>7}{row.sd_before:>8.1%}"
        f"{row.sd_after:>8.1%}"
        for place, row in enumerate(table.itertuples(), 1)
    ]
    lines += [
        "",
        "sd: standard deviation of the elapsed reduction before and, as expected, after it. Make",
        "the runs in random order; the second is worth what it says once the first is known. A",
        f"table for --machine calls MADV_PAGEOUT workload {' or '.join(machines.PAGEOUTS)}.",
    ]
    return "\n".join(lines)
