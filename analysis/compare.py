# SPDX-License-Identifier: GPL-2.0-only
"""Compare: does a metric differ between two sets of runs, by how much, and how sure is that.

Runs on a real machine are not independent: frequency, page cache and neighbours drift, so runs that
follow each other are alike. A test that ignores this finds differences between identical kernels.
How a comparison is made depends on the order in which the runs were taken, on logarithms, with
values beyond three scaled median deviations from their side's median pulled in to there:

- alternating (A B A B ...): the contrast is the highest frequency of the series, so its noise is
  taken from the three next lower frequencies, where drift has as little weight as there; t with 6
  degrees of freedom. Five runs a side, at least.
- paired (each two runs one of each, in random order): labels are swapped within pairs, the
  statistic is the sum of ranks; exact for any noise. Six pairs, at least.
- sequence (all of one side first, or any other order): the larger of two standard errors, from
  half-batch means and from the lag-1 autocorrelation r, corrected for its bias ((1 + r) / (1 - r)
  inflates the variance); t with 3 degrees of freedom. Four runs a side, at least.

Measured on data/host/aa_runs.csv, 500 identical runs, in all windows of 20 (CPU time / wall time):

                       false positives at 5%        power for 5%
    sequence           4.4% /  2.9%                 71% / 61%
    alternating        2.7% /  5.8%                 99% / 95%
    paired             5.0% /  4.4%                 98% / 90%
    Welch              20.4% / 12.7% (sequence)     87% / 64% (alternating)
    Mann-Whitney       28.5% / 23.1% (sequence)

On simulated runs, AR(1) with r = 0, 0.5 and 0.8: sequence 0.2%, 2.8%, 6.3%; alternating 6.2%, 4.8%,
3.2%; paired 3.6%, 4.4%, 4.3%. `rejected` tells the same of your own identical runs. A block
bootstrap was rejected: ten runs hold too few blocks.

Several comparisons of one call are corrected by Holm's method. A metric whose runs of each side are
all equal, and which counts, is exact: compared as it is, without a test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.samples import Samples

LEVEL = 0.05
POWER = 0.8  # of the smallest effect told
CLIP = 3.0  # scaled median absolute deviations
NEIGHBOURS = 3  # frequencies that tell the noise
SWAPS = 12  # pairs up to which all swaps are tried; beyond, so many random ones:
DRAWS = 4096
MINIMUM = {"alternating": 5, "paired": 6, "sequence": 4}
_COUNTS = ("instructions", "count", "bytes", "pages")


class CompareError(ValueError):
    """Samples that cannot be compared: what was found, what was expected."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two sets of runs.

    before, after: medians, in `unit`. ratio, low, high: after over before and its 95% interval;
    infinite ends where there are too few runs. p: of no difference; p_holm: corrected for all
    comparisons of the call. detectable: the smallest change, as a share, that runs like these show
    with 80% power; inf if they cannot. design: how it was tested. notes: what to know besides.
    """

    metric: str
    unit: str
    before: float
    after: float
    nr_before: int
    nr_after: int
    ratio: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float
    design: str
    notes: tuple[str, ...] = ()


def compare(before: Samples, after: Samples, interleaved: bool = False) -> tuple[Comparison, ...]:
    """Compare each metric (and folio order, part, architecture) that both samples have.

    Where the run numbers of both sides overlap, all runs of `before` came first, unless
    interleaved says that run i of one was followed by run i of the other. Raises CompareError.
    """
    found, notes = [], []
    sides = [_groups(samples) for samples in (before, after)]
    for key in sides[0]:
        if key not in sides[1]:
            continue
        one = _compared(key, sides[0][key], sides[1][key], interleaved)
        if isinstance(one, Comparison):
            found.append(one)
        else:
            notes.append(one)
    if not found:
        told = "; ".join(notes) or "no metric that both have"
        raise CompareError(f"nothing to compare: {told}")
    return tuple(_holm(found, tuple(notes)))


def difference(values: np.ndarray, labels: np.ndarray) -> tuple[float, float, float, float, str]:
    """Test a difference of logarithms in run order; labels: False before, True after.

    Returns the difference, half the width of its 95% interval, the p-value, the smallest
    difference shown with 80% power, and the design. The last three are inf, 1 and inf where there
    are too few runs.
    """
    values, labels = np.asarray(values, dtype=float), np.asarray(labels, dtype=bool)
    design = _design(labels)
    if design == "alternating" and len(labels) % 2:
        values, labels = values[:-1], labels[:-1]
    clipped = _clipped(values, labels)
    best = clipped[labels].mean() - clipped[~labels].mean()
    if min(labels.sum(), (~labels).sum()) < MINIMUM[design]:
        return best, math.inf, 1.0, math.inf, design
    if design == "paired":
        return (best, *_paired(values, labels, best), design)
    error, dof = (_alternating if design == "alternating" else _sequence)(clipped, labels)
    if error <= 1e-12 * abs(values).max():  # equal runs: a clock too coarse, not a certainty
        return best, math.inf, 1.0, math.inf, design
    half = stats.t.ppf(1 - LEVEL / 2, dof) * error
    p = 2 * stats.t.sf(abs(best) / error, dof)
    return best, half, float(p), half + stats.t.ppf(POWER, dof) * error, design


def rejected(
    runs: np.ndarray, design: str, per_side: int = 10, effect: float = 0.0, level: float = LEVEL
) -> float:
    """Return the share of windows of identical runs in which a difference is found.

    runs: positive values in run order, of one kernel. design: one of MINIMUM. effect: every second
    side is made so much slower (0.05: 5%); at 0 the result is the rate of false positives of this
    method on this machine. "paired" draws the order within pairs, the same for the same runs.
    """
    logs, choose = np.log(np.asarray(runs, dtype=float)), np.random.default_rng(0)
    size, hits = 2 * per_side, []
    for start in range(len(logs) - size + 1):
        labels = np.arange(size) % 2 == 1
        if design == "sequence":
            labels = np.arange(size) >= per_side
        elif design == "paired":
            labels = (labels.reshape(-1, 2) ^ choose.integers(0, 2, (per_side, 1), bool)).ravel()
        hits.append(_p(logs[start : start + size] + labels * math.log1p(effect), labels) < level)
    return float(np.mean(hits))


def _p(values: np.ndarray, labels: np.ndarray) -> float:
    if _design(labels) == "paired":
        return _swap_p(values, labels, _signs(len(labels) // 2))
    return difference(values, labels)[2]


def _design(labels: np.ndarray) -> str:
    if len(labels) > 2 and (labels[1:] != labels[:-1]).all():
        return "alternating"
    pairs = labels[: len(labels) // 2 * 2].reshape(-1, 2)
    if len(labels) % 2 == 0 and len(labels) > 2 and (pairs.sum(axis=1) == 1).all():
        return "paired"
    return "sequence"


def _clipped(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    middle = _middle(values, labels)
    spread = CLIP * stats.median_abs_deviation(values - middle, scale="normal")
    return np.clip(values, middle - spread, middle + spread) if spread else values


def _alternating(values: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    del labels  # their difference is the highest frequency itself, and leaks into no other
    power = np.abs(np.fft.rfft(values - values.mean())) ** 2 / len(values)
    noise = power[-1 - NEIGHBOURS : -1].mean()
    return 2 * math.sqrt(noise / len(values)), 2 * NEIGHBOURS


def _sequence(values: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    sides = (values[~labels], values[labels])
    halves = [[part.mean() for part in np.array_split(side, 2)] for side in sides]
    batches = sum(np.var(means, ddof=1) / 2 for means in halves)
    residuals = [side - side.mean() for side in sides]
    squares = sum((one**2).sum() for one in residuals)
    lagged = sum((one[1:] * one[:-1]).sum() for one in residuals)
    shortest = min(map(len, sides))
    lag = lagged / squares if squares else 0.0
    lag = min(max(lag + (1 + 3 * lag) / shortest, 0.0), 0.95)
    variance = squares / (len(values) - 2) * (1 + lag) / (1 - lag)
    inflated = variance * sum(1 / len(side) for side in sides)
    return math.sqrt(max(batches, inflated)), 3


# Half-width, p and smallest effect from swaps within pairs; the interval holds every shift that the
# test does not reject.
def _paired(values: np.ndarray, labels: np.ndarray, best: float) -> tuple[float, float, float]:
    signs = _signs(len(labels) // 2)
    p = _swap_p(values, labels, signs)
    step = stats.median_abs_deviation(values - _middle(values, labels), scale="normal") or 1e-9
    width = 0.0
    while _swap_p(values - labels * (best + width), labels, signs) > LEVEL or (
        _swap_p(values - labels * (best - width), labels, signs) > LEVEL
    ):
        width += step / 8
    return width, p, width * (1 + stats.norm.ppf(POWER) / stats.norm.ppf(1 - LEVEL / 2))


def _middle(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(labels, np.median(values[labels]), np.median(values[~labels]))


def _signs(nr_pairs: int) -> np.ndarray:
    if nr_pairs <= SWAPS:
        bits = np.arange(1 << nr_pairs)[:, None] >> np.arange(nr_pairs)
        return 1 - 2 * (bits & 1)
    drawn = np.random.default_rng(0).integers(0, 2, (DRAWS, nr_pairs))
    return np.vstack([np.ones(nr_pairs, dtype=int), 1 - 2 * drawn])


def _swap_p(values: np.ndarray, labels: np.ndarray, signs: np.ndarray) -> float:
    ranks = stats.rankdata(values).reshape(-1, 2)
    gaps = np.where(labels.reshape(-1, 2)[:, 1], 1, -1) * (ranks[:, 1] - ranks[:, 0])
    return float((np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9).mean())


def _groups(samples: Samples) -> dict[tuple, pd.DataFrame]:
    frame = samples.frame
    if frame["kernel"].dropna().nunique() > 1:
        raise CompareError("one side has runs of several kernels: give each its own file")
    keys = frame[["metric", "unit", "arch", "order", "workload", "part"]].astype(object)
    keys = keys.where(keys.notna(), "")
    # what differs between sides or runs and is no other measurement: the command, the time of day
    keys["part"] = keys["part"].str.replace(r"(?:command|time)=[^;]*(?:; )?", "", regex=True)
    return {key: frame.loc[rows.index] for key, rows in keys.groupby(list(keys), sort=False)}


def _compared(
    key: tuple, before: pd.DataFrame, after: pd.DataFrame, interleaved: bool
) -> Comparison | str:
    metric, unit, arch, order, _, part = key
    told = [str(metric), arch, f"order {order}" if order != "" else "", part]
    name = " ".join(text for text in told if text)
    sides = [frame["value"].to_numpy() for frame in (before, after)]
    medians = [float(np.median(side)) for side in sides]
    counts = [len(side) for side in sides]
    if exact := _exact(name, unit, sides, medians):
        return exact
    if min(map(np.min, sides)) <= 0:
        return f"{name}: a value of 0 has no ratio"
    values, labels = _ordered(before, after, interleaved)
    best, half, p, smallest, design = difference(np.log(values), labels)
    ends = (math.exp(best - half), math.exp(best + half)) if half < 600 else (0.0, math.inf)
    detectable = math.expm1(smallest) if smallest < 600 else math.inf
    notes = _advice(design, min(counts), math.isinf(half))
    marks = {mark for frame in (before, after) for mark in frame["mark"].dropna()}
    notes += tuple(f"{name}: {mark}" for mark in sorted(marks))
    return Comparison(
        name, unit, *medians, *counts, math.exp(best), *ends, p, p, detectable, design, notes
    )


def _exact(name: str, unit: str, sides: list, medians: list) -> Comparison | None:
    enough = all(len(side) > 1 for side in sides)
    if unit not in _COUNTS or not enough or any(np.ptp(side) for side in sides):
        return None
    first, second = medians
    ratio = second / first if first else (1.0 if second == first else math.inf)
    p = float(first == second)
    counts = (len(sides[0]), len(sides[1]))
    return Comparison(name, unit, first, second, *counts, ratio, ratio, ratio, p, p, 0.0, "exact")


# All values in run order, and whose they are.
def _ordered(
    before: pd.DataFrame, after: pd.DataFrame, interleaved: bool
) -> tuple[np.ndarray, np.ndarray]:
    runs = [frame["run"].to_numpy(dtype=float) for frame in (before, after)]
    overlap = set(runs[0]) & set(runs[1])
    places = [np.arange(len(runs[0]), dtype=float), np.arange(len(runs[1]), dtype=float)]
    if not overlap:
        places = runs
    elif interleaved:
        places[1] += 0.5
    else:
        places[1] += len(runs[0])
    place = np.concatenate(places)
    values = np.concatenate([before["value"].to_numpy(), after["value"].to_numpy()])
    labels = np.repeat([False, True], [len(before), len(after)])
    order = np.argsort(place, kind="stable")
    return values[order], labels[order]


def _advice(design: str, nr_least: int, unknown: bool) -> tuple[str, ...]:
    if nr_least < MINIMUM[design]:
        needed = f"{design} needs {MINIMUM[design]}, and 10 do better"
        return (f"{nr_least} runs a side tell nothing: {needed}",)
    if unknown:
        return ("the runs of a side are all equal: the clock is too coarse to tell anything",)
    if design == "sequence":
        return ("all runs of one side came first, drift looks like a difference: alternate them",)
    return ()


# Holm's correction over all that was tested; exact metrics are not.
def _holm(found: list[Comparison], notes: tuple[str, ...]) -> list[Comparison]:
    tested = sorted((c.p, place) for place, c in enumerate(found) if c.design != "exact")
    corrected, highest = {}, 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[place] = highest
    return [
        replace(c, p_holm=corrected.get(place, c.p), notes=c.notes + (notes if place == 0 else ()))
        for place, c in enumerate(found)
    ]
