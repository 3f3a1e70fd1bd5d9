# SPDX-License-Identifier: GPL-2.0-only
"""A small Bayesian linear model: few observations, more unknowns than they can tell, none below 0.

    observed = design @ costs + error of the model + noise

The costs have a Gaussian prior cut off at 0. The model errs by a share of each observation that is
itself unknown, one of `MODEL_ERRORS`. The design may be unknown too: several are given, each with a
prior weight, as where the folio size was not published. Draws are exact: design and model error by
their evidence, costs from the Gaussian that they leave, thrown away if one of them is below 0.
Where nearly all would be, what was observed contradicts the model; then each design keeps its
weight, and costs and model error are walked to their posterior, one at a time.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.special import log_ndtr, ndtri_exp

# How far the model may be off, as a share of what was observed, one standard deviation: from what
# repeats of a cell differ by to what makes a model useless. Equally likely beforehand.
MODEL_ERRORS = np.array([0.01, 0.02, 0.04, 0.07, 0.10, 0.14, 0.20])
DRAWS = 2000
_BATCH, _MOST_TRIED = 8000, 160_000
_CHAINS, _WARM_UP, _THIN = 200, 300, 10

# 95% of a chi-square with one degree of freedom.
_PROFILE_RISE = 3.84


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of everything that is unknown.

    Attributes:
        costs: shape (draws, terms), never negative, ns.
        design: which design each draw holds for, shape (draws,).
        model_error: relative, of each draw, shape (draws,).
        weights: posterior of each design, shape (designs,), sums to 1.
    """

    costs: np.ndarray
    design: np.ndarray
    model_error: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    """What was observed, and what was believed before.

    Attributes:
        designs: events behind each observation, shape (designs, observations, terms).
        observed: ns, shape (observations,).
        noise: its standard deviation, ns, shape (observations,).
        mean, cov: of the costs' prior before it is cut off at 0.
        design_weights: prior of each design, shape (designs,).
    """

    designs: np.ndarray
    observed: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    design_weights: np.ndarray

    def infer(self, draws: int = DRAWS, seed: int = 0) -> Posterior:
        """Return draws of the posterior, the same for the same seed."""
        gains, scatter, log_weights = self._gains()
        weights = np.exp(log_weights - log_weights.max())
        rng = np.random.default_rng(seed)
        kept, tried, found = [], 0, 0
        while found < draws:
            if tried >= _MOST_TRIED:
                return self._walk(weights.sum(axis=1) / weights.sum(), draws, rng)
            batch = self._draw(gains, scatter, weights / weights.sum(), rng)
            kept.append([part[batch[-1]] for part in batch[:-1]])
            tried, found = tried + _BATCH, found + int(batch[-1].sum())
        costs, design, error = (np.concatenate(part)[:draws] for part in zip(*kept, strict=True))
        posterior = np.bincount(design, minlength=len(self.designs)) / draws
        return Posterior(costs, design, MODEL_ERRORS[error], posterior)

    def _gains(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Of each pair of design and model error: Kalman gain (terms, observations), standard
        # deviation of each observation around what the costs give, log of prior times evidence.
        # The model errs by a share of what it says, not of what was observed: an observation that
        # came out small by such an error would weigh too much. So what it says comes from a first
        # pass, and no further from what was observed than a factor of two.
        size = np.broadcast_to(self.observed, (*self.designs.shape[:1], 1, len(self.observed)))
        off = self.observed - self.designs @ self.mean
        gains = self._gain(size)[0]
        fitted = self.mean + np.einsum("dtij,dj->dti", gains, off)
        said = np.einsum("doi,dti->dto", self.designs, fitted)
        said = np.clip(said, self.observed / 2, self.observed * 2)
        gains, scatter, total, inverse = self._gain(said)
        misfit = np.einsum("di,dtij,dj->dt", off, inverse, off)
        log_weights = -0.5 * (misfit + np.linalg.slogdet(total)[1])
        with np.errstate(divide="ignore"):
            return gains, np.sqrt(scatter), log_weights + np.log(self.design_weights)[:, None]

    def _gain(self, size: np.ndarray) -> tuple[np.ndarray, ...]:
        # For model errors relative to `size`, shape (designs, 1 or model errors, observations).
        spread = self.cov @ np.swapaxes(self.designs, 1, 2)
        scatter = self.noise**2 + (MODEL_ERRORS[:, None] * size) ** 2
        total = (self.designs @ spread)[:, None] + scatter[..., None] * np.eye(len(self.observed))
        inverse = np.linalg.inv(total)
        return spread[:, None] @ inverse, scatter, total, inverse

    def _draw(self, gains, scatter, weights, rng) -> tuple[np.ndarray, ...]:
        # A draw of the prior and of the errors, moved by what was observed.
        pair = rng.choice(weights.size, _BATCH, p=weights.ravel())
        design, error = np.divmod(pair, len(MODEL_ERRORS))
        costs = rng.multivariate_normal(self.mean, self.cov, _BATCH, method="cholesky")
        simulated = np.einsum("bij,bj->bi", self.designs[design], costs)
        wrong = rng.normal(size=simulated.shape) * scatter[design, error]
        off = self.observed - simulated - wrong
        costs = costs + np.einsum("bij,bj->bi", gains[design, error], off)
        return costs, design, error, (costs >= 0).all(axis=1)

    def _walk(self, weights: np.ndarray, draws: int, rng) -> Posterior:
        # Gibbs sampling of costs and model error, from the least squares of each chain's design.
        design = rng.choice(len(weights), _CHAINS, p=weights)
        rows = self.designs[design]
        start = nnls(rows[0] / self.observed[:, None], np.ones(len(self.observed)))[0]
        costs = np.tile(np.maximum(start, 0.01 * self.mean), (_CHAINS, 1))
        precision = np.linalg.inv(self.cov)
        kept = []
        for sweep in range(_WARM_UP + _THIN * -(-draws // _CHAINS)):
            error = self._model_error(rows, costs, rng)
            _sweep(costs, *self._conditional(rows, error, precision), rng)
            if sweep >= _WARM_UP and (sweep - _WARM_UP) % _THIN == 0:
                kept.append((costs.copy(), design, error))
        costs, design, error = (np.concatenate(part)[:draws] for part in zip(*kept, strict=True))
        posterior = np.bincount(design, minlength=len(self.designs)) / draws
        return Posterior(costs, design, MODEL_ERRORS[error], posterior)

    def _model_error(self, rows, costs, rng) -> np.ndarray:
        off = self.observed - np.einsum("cij,cj->ci", rows, costs)
        scatter = np.hypot(self.noise, MODEL_ERRORS[:, None] * self.observed)
        log = -0.5 * (off[:, None] / scatter) ** 2 - np.log(scatter)
        weights = log.sum(axis=2)
        return np.argmax(weights + rng.gumbel(size=weights.shape), axis=1)

    def _conditional(self, rows, error, precision) -> tuple[np.ndarray, np.ndarray]:
        # Precision (chains, terms, terms), and precision times mean.
        scatter = np.hypot(self.noise, MODEL_ERRORS[error][:, None] * self.observed)
        scaled = rows / scatter[..., None]
        towards = np.einsum("cij,ci->cj", scaled, self.observed / scatter)
        return precision + np.swapaxes(scaled, 1, 2) @ scaled, towards + precision @ self.mean


def _sweep(costs: np.ndarray, precision: np.ndarray, towards: np.ndarray, rng) -> None:
    # Each cost in turn, from the Gaussian that the others leave, cut off at 0.
    for place in range(costs.shape[1]):
        own = precision[:, place, place]
        pull = towards[:, place] - np.einsum("cj,cj->c", precision[:, place], costs)
        middle, spread = costs[:, place] + pull / own, own**-0.5
        # The share of the Gaussian above 0 may be tiny: in logarithms.
        above = log_ndtr(middle / spread) + np.log(1 - rng.random(len(costs)))
        costs[:, place] = np.maximum(middle - spread * ndtri_exp(above), 0.0)


def profile(
    design: np.ndarray, observed: np.ndarray, scatter: np.ndarray, term: int
) -> tuple[float, float, float]:
    """Return the least, best and most that the observations alone allow one cost, without a prior.

    The 95% profile likelihood interval, all costs at 0 or above: at its ends the least squares of
    the others have risen by 3.84. The most is infinite where nothing limits it.

    Args:
        design: shape (observations, terms). observed, scatter: ns, shape (observations,).
        term: which cost.
    """
    rows, aims = design / scatter[:, None], observed / scatter
    scale = np.where(rows.any(axis=0), np.linalg.norm(rows, axis=0), 1.0)
    rows = rows / scale
    best, least = nnls(rows, aims)
    others = np.delete(rows, term, axis=1)

    def within(value: float) -> bool:
        return nnls(others, aims - rows[:, term] * value)[1] ** 2 <= least**2 + _PROFILE_RISE

    if not rows[:, term].any():
        return 0.0, np.nan, np.inf
    ends = (_edge(within, best[term], 0.0), _edge(within, best[term], _ceiling(aims)))
    return ends[0] / scale[term], best[term] / scale[term], ends[1] / scale[term]


def _ceiling(aims: np.ndarray) -> float:
    # Columns have length 1: no cost can go beyond what was observed in all, and its error.
    return 4 * float(np.linalg.norm(aims)) + 10


def _edge(within, inside: float, outside: float) -> float:
    if within(outside):
        return outside
    for _ in range(30):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if within(middle) else (inside, middle)
    return inside


def variance_inflation(design: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Return by how much the other terms inflate each cost's variance, shape (terms,).

    1 where nothing else moves with it; infinite where the observations cannot tell it from the
    others, or do not contain it.
    """
    rows = design / scatter[:, None]
    length = np.linalg.norm(rows, axis=0)
    inflation = np.full(len(length), np.inf)
    for term in np.flatnonzero(length):
        column, others = rows[:, term] / length[term], np.delete(rows, term, axis=1)
        scale = np.where(others.any(axis=0), np.linalg.norm(others, axis=0), 1.0)
        rest = column - others / scale @ np.linalg.lstsq(others / scale, column, rcond=1e-8)[0]
        if (left := float(rest @ rest)) > 1e-8:
            inflation[term] = 1 / left
    return inflation
