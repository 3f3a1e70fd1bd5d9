# SPDX-License-Identifier: GPL-2.0-only
"""Difference: do two sets of runs differ, given the order in which they were taken.

Runs on a real machine are not independent: frequency, page cache and neighbours drift, so runs that
follow each other are alike, and a test that ignores this finds differences between identical
kernels. Here logarithms of runs are a side's level, a drift, and noise that remembers itself: of
runs k apart it correlates by r to the k, but for a share without memory. Nobody knows r, and ten
runs hardly tell it: generalised least squares is made for each r from -0.6 to 0.97 and each share
of 0, 40% and 70%, and the answers (t distributions) are averaged, each by its likelihood without
the levels, so that the p-value and the interval hold what is not known of the noise. Runs beyond
three scaled median deviations of their side are pulled in to there, 15% of the runs at most (more
are another mode), and each costs a degree of freedom. Four runs a side at least; more than 100 are
averaged in 100 batches.

- alternating (A B A B ...), pairs, or any order that changes side more than once: a drift is taken
  out, straight, and with one more bend for each 12 runs; each r is as likely before the runs are
  seen.
- sequence (all of one side first): a level that changed and drift are nearly the same thing. So
  noise may hold a straight drift besides, and each r starts with more weight the more it harms:
  the sixth power of how far it makes plain least squares err, over 1 - r.

Measured on data/host/aa_runs.csv, 500 identical runs, in all windows of 20 (CPU time / wall time):

                       false positives at 5%        power for 5%
    sequence           3.7% /  5.6%                 68% / 53%
    alternating        4.2% /  2.5%                 98% / 93%
    paired             4.6% /  4.2%                 97% / 93%
    Welch              20.4% / 12.7% (sequence)     87% / 64% (alternating)
    Mann-Whitney       28.5% / 23.1% (sequence)     95% / 89% (alternating)

False positives on simulated noise, 10 runs a side (4 a side where they differ by 1.5 or more),
1600 repeats, Welch's test in sequence beside (benchmarks/calibrate_compare.py has more):

                                   sequence  alternating  random pairs   Welch
    no memory                    1.2% (2.4%)        4.8%          5.2%    4.6%
    r = 0.5                             4.1%        2.4%          4.1%   23.4%
    r = 0.8                             6.1%   2.6% (1.1%)        3.4%   44.9%
    r = 0.95                            8.0%   2.8% (1.1%)        3.2%   59.8%
    independent and r = 0.9             3.6%        4.3%          5.0%   27.4%
    straight drift, 6 deviations        6.4%        4.6%          5.8%  100.0%
    warm-up from 6 deviations    1.8% (0.1%)   8.1% (1.9%)  7.2% (3.6%)  35.1%
    slow wave, 1.5 deviations    7.4% (4.5%)   6.1% (0.9%)  4.8% (2.5%)  47.8%
    two modes                    0.9% (4.5%)        7.1%          6.6%    4.9%
    two modes that last                10.9%   4.4% (1.4%)        4.0%   34.2%

So pairs in random order are the best order to run in. Levels that jump, memory beyond r = 0.9 and a
warm-up still fool this test; memory without anything else makes it shy of strict alternation. In a
sequence no test could be right: a lasting jump at the switch is what a change of kernel looks like.
The weights and shares were chosen on these runs and this noise. Three series of 800 runs that were
not (hashing in CPU and wall time, page faults, one shared x86_64 virtual machine): sequence 5.6%,
3.6%, 5.1%; alternating 8.7%, 4.0%, 5.4%, which had a say in the shares (12.8%, 6.1%, 8.1% without);
paired 5.4%, 5.0%, 5.6%; Welch's in sequence 34%, 10%, 20%. `rejected` tells the rates of others.

A block bootstrap was rejected (ten runs hold too few blocks); so were swaps within pairs, exact
only if chance drew the order, which a fixed ABBA resembles. No method tells a change of kernel from
what else changed once, at the switch in a sequence: a reboot, where the kernel's memory landed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import linalg, optimize, stats

LEVEL = 0.05
POWER = 0.8  # of the smallest effect told
LEAST = 4  # runs a side
MOST = 100  # batches a side
DESIGNS = ("sequence", "alternating", "paired")
_CLIP = 3.0  # scaled median absolute deviations
_NORMAL = 1 / stats.norm.ppf(0.75)  # a standard deviation over a median absolute one
_OUTLIERS = 0.15  # of the runs
_MEMORY = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)  # lag-1 autocorrelations
_INDEPENDENT = (0.0, 0.4, 0.7)  # shares of the noise that have no memory
_DRIFT = (0.0, 3.0)  # variance of a straight drift in a sequence, over that of the noise
_HARM = 6  # power
_BENDS = 12  # runs for each bend of a drift


@dataclass(frozen=True)
class Difference:
    """After minus before, of logarithms.

    best, low, high: the difference and its 95% interval. p: of no difference. detectable: the
    smallest difference that runs like these show with 80% power. design: of the run order. Where
    runs cannot tell, because they are too few or all equal, low, high and detectable are infinite.
    """

    best: float
    low: float
    high: float
    p: float
    detectable: float
    design: str


def difference(values: np.ndarray, labels: np.ndarray) -> Difference:
    """Test a difference of logarithms in run order; labels: False before, True after."""
    values, labels = np.asarray(values, dtype=float), np.asarray(labels, dtype=bool)
    design = order_of(labels)
    found = _answers(values, labels)
    if found is None:
        gap = float(np.median(values[labels]) - np.median(values[~labels]))
        return Difference(gap, -math.inf, math.inf, 1.0, math.inf, design)
    shares = (LEVEL / 2, 1 - POWER, 0.5, POWER, 1 - LEVEL / 2)
    low, weak, best, strong, high = (found.quantile(share) for share in shares)
    smallest = (high - low + strong - weak) / 2
    return Difference(best, low, high, found.p, smallest, design)


def p_value(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the p-value of `difference` alone, five times as fast."""
    found = _answers(values, labels)
    return 1.0 if found is None else found.p


def rejected(
    runs: np.ndarray, design: str, per_side: int = 10, effect: float = 0.0, level: float = LEVEL
) -> float:
    """Return the share of windows of identical runs in which a difference is found.

    runs: positive values in run order, of one kernel. design: one of DESIGNS; "paired" takes eight
    orders that chance drew, the same each time. effect: every second side is made so much slower
    (0.05: 5%); at 0 the result is the rate of false positives of this method on this machine.
    """
    logs = np.log(np.asarray(runs, dtype=float))
    windows = np.lib.stride_tricks.sliding_window_view(logs, 2 * per_side)
    hits = []
    for labels in _orders(design, per_side):
        moved = windows + labels * math.log1p(effect)
        hits += [p_value(values, labels) < level for values in moved]
    return float(np.mean(hits))


def _orders(design: str, per_side: int) -> list[np.ndarray]:
    places = np.arange(2 * per_side)
    if design == "sequence":
        return [places >= per_side]
    if design == "alternating":
        return [places % 2 == 1]
    drawn = np.random.default_rng(0).integers(0, 2, (8, per_side, 1), dtype=bool)
    return list((drawn ^ np.array([False, True])).reshape(8, -1))


def order_of(labels: np.ndarray) -> str:
    """Return what the order of the sides is called: one of DESIGNS, or "mixed"."""
    changes = labels[1:] != labels[:-1]
    if changes.sum() <= 1:
        return "sequence"
    if changes.all():
        return "alternating"
    pairs = labels[: len(labels) // 2 * 2].reshape(-1, 2)
    return "paired" if len(labels) % 2 == 0 and (pairs.sum(axis=1) == 1).all() else "mixed"


# What each kind of noise says, shape (kinds,): t distributions, and their weights.
@dataclass(frozen=True)
class _Answers:
    centres: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    dof: float

    @property
    def p(self) -> float:
        tails = stats.t.cdf(np.stack([-self.centres, self.centres]) / self.errors, self.dof)
        return min(1.0, 2 * float((tails @ self.weights).min()))

    def quantile(self, share: float) -> float:
        def excess(value: float) -> float:
            below = stats.t.cdf((value - self.centres) / self.errors, self.dof)
            return float(below @ self.weights) - share

        ends = self.centres + self.errors * stats.t.ppf(share, self.dof)
        low, high = float(ends.min()), float(ends.max())
        return low if high - low <= 1e-15 else optimize.brentq(excess, low, high, xtol=1e-15)


def _answers(values: np.ndarray, labels: np.ndarray) -> _Answers | None:
    if min(labels.sum(), (~labels).sum()) < LEAST:
        return None
    residuals = values - _middle(values, labels)
    if np.ptp(residuals) <= 1e-12 * np.abs(values).max():
        return None  # equal runs: a clock too coarse, not a certainty
    clipped = _clipped(values, labels)
    outliers = (clipped != values).mean()
    clipped, labels = _batches(clipped, labels)
    kinds = _kinds(tuple(labels.tolist()))
    dof = max(1.0, kinds.dof - outliers * len(labels))
    squares = ((kinds.residuals @ clipped) ** 2).sum(axis=1)
    weights = kinds.weights - dof / 2 * np.log(squares)
    weights = np.exp(weights - weights.max())
    errors = kinds.errors * np.sqrt(squares / dof)
    return _Answers(kinds.gains @ clipped, errors, weights / weights.sum(), dof)


def _clipped(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    middle = _middle(values, labels)
    sizes = np.abs(values - middle)
    spread = max(_CLIP * np.median(sizes) * _NORMAL, np.quantile(sizes, 1 - _OUTLIERS))
    return np.clip(values, middle - spread, middle + spread) if spread else values


def _middle(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(labels, np.median(values[labels]), np.median(values[~labels]))


# Means of neighbours of one side, in the order of their mean places.
def _batches(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if max(labels.sum(), (~labels).sum()) <= MOST:
        return values, labels
    found = []
    for side in (False, True):
        places = np.flatnonzero(labels == side)
        parts = np.array_split(places, min(MOST, len(places)))
        found += [(part.mean(), values[part].mean(), side) for part in parts]
    found.sort()
    return np.array([mean for _, mean, _ in found]), np.array([side for *_, side in found])


# Generalised least squares of one run order under each kind of noise. gains: shape (kinds, runs),
# times values the difference; residuals: shape (kinds, runs, runs), times values the whitened
# residuals; errors: of the difference for noise of variance 1; weights: logarithms, before the
# values' own share.
@dataclass(frozen=True)
class _Kinds:
    gains: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    dof: int


@lru_cache(maxsize=16)
def _kinds(labels: tuple[bool, ...]) -> _Kinds:
    sequence, nr = order_of(np.array(labels)) == "sequence", len(labels)
    line = math.sqrt(3) * np.linspace(-1, 1, nr)
    if sequence:
        columns = np.column_stack([np.ones(nr), labels])
        noises = [
            (noise + drift * np.outer(line, line), prior / (1 - r))
            for r, noise, prior in _noises(nr)
            for drift in _DRIFT
        ]
    else:
        waves = np.arange(2, nr // _BENDS + 1)[:, None]  # half waves over all runs; 1 is the line
        bends = np.cos(math.pi * waves * (np.arange(nr) + 0.5) / nr)
        columns = np.column_stack([np.ones(nr), labels, line, *bends])
        noises = [(noise, prior) for _, noise, prior in _noises(nr)]
    rows = [_least_squares(columns, *noise, sequence) for noise in noises]
    arrays = (np.array(part) for part in zip(*rows, strict=True))
    return _Kinds(*arrays, nr - columns.shape[1])


# Lag-1 autocorrelation, covariance of shape (runs, runs), weight.
def _noises(nr: int) -> Iterator[tuple[float, np.ndarray, float]]:
    apart = np.abs(np.subtract.outer(np.arange(nr), np.arange(nr)))
    for r in _MEMORY:
        shares = _INDEPENDENT if r > 0 else (0.0,)
        for share in shares:
            yield r, share * np.eye(nr) + (1 - share) * r**apart, 1 / len(shares)


def _least_squares(
    columns: np.ndarray, noise: np.ndarray, prior: float, harm: bool
) -> tuple[np.ndarray, np.ndarray, float, float]:
    root = np.linalg.cholesky(noise)
    whiten = linalg.solve_triangular(root, np.eye(len(noise)), lower=True)
    white = whiten @ columns
    inner = np.linalg.inv(white.T @ white)
    gains = inner @ white.T @ whiten
    error = math.sqrt(inner[1, 1])
    weight = math.log(prior) - np.log(np.diag(root)).sum() + np.linalg.slogdet(inner)[1] / 2
    if harm:
        plain = np.eye(len(noise)) - columns @ np.linalg.pinv(columns)
        seen = np.trace(plain @ noise) / (len(noise) - 2)
        weight += _HARM * math.log(error / math.sqrt(seen))
    return gains[1], whiten - white @ gains, error, weight
