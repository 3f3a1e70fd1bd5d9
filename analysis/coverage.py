# SPDX-License-Identifier: GPL-2.0-only
"""Coverage: how many 95% intervals of costs in time hold what is true.

Machines are made up as the x86_64 host might be: costs from the prior, an error of the model's
form, and for each run of its sweep, in the order in which it was made, noise that is drawn from 500
equal runs and repeats from run to run as theirs does. Each goes through the same medians and the
same fit as the host itself.
"""

import numpy as np
import pandas as pd

from analysis import elapsed, machines, measurements, timing
from analysis.posterior import MODEL_ERRORS, Posterior, Problem
from analysis.stalls import TERM_NAMES

NR_SETS = 500
DRAWS = 1000
# What a correct 95% interval may come to over `NR_SETS`.
LOW, HIGH = 0.93, 0.97
STEP = ("references", "unmap")
ORDERS = (2, 4, 6, 8)


def coverage(nr_sets: int = NR_SETS, seed: int = 0) -> pd.DataFrame:
    """Return how often the intervals of made-up machines hold what is true of them.

    One row a quantity: quantity, covered (share of the sets), n, width (median of the intervals'
    width over their median), spread: median of the true values, so that a width can be judged.
    The quantities are each cost that occurs, then elapsed reductions of `STEP` at `ORDERS`.
    """
    real = timing.time_fit(machines.host())
    rng = np.random.default_rng(seed)
    truth = _true(real.problem, nr_sets, rng)
    fits = [_fitted(real, truth, place, rng) for place in range(nr_sets)]
    rows = []
    for place in np.flatnonzero(real.occurring):
        ends = np.array([_middle(one.posterior.costs[:, place]) for one in fits])
        rows.append(_row(TERM_NAMES[place], ends, truth.costs[:, place]))
    made_up = timing.TimeFit(real.machine, real.model, real.problem, truth, real.shares)
    for order in ORDERS:
        true = elapsed.reduction(made_up, *STEP, order).draws
        ends = np.array([elapsed.reduction(one, *STEP, order).interval for one in fits])
        rows.append(_row(f"elapsed reduction, order {order}", ends, true))
    return pd.DataFrame(rows)


def _middle(draws: np.ndarray) -> np.ndarray:
    return np.percentile(draws, (2.5, 50, 97.5))


def _row(name: str, ends: np.ndarray, true: np.ndarray) -> dict:
    low, best, high = ends.T
    return {
        "quantity": name,
        "covered": float(np.mean((low <= true) & (true <= high))),
        "n": len(true),
        "true": float(np.median(true)),
        "best": float(np.median(best)),
        "width": float(np.median(high - low)),
    }


def _true(problem: Problem, nr_sets: int, rng: np.random.Generator) -> Posterior:
    # Drawn from what is believed before anything was observed.
    nr_tried = 40 * nr_sets
    costs = rng.multivariate_normal(problem.mean, problem.cov, nr_tried, method="cholesky")
    costs = costs[(costs >= 0).all(axis=1)][:nr_sets]
    errors = rng.choice(MODEL_ERRORS, nr_sets)
    return Posterior(costs, np.zeros(nr_sets, int), errors, np.ones(1))


def _fitted(real: timing.TimeFit, truth: Posterior, place: int, rng) -> timing.TimeFit:
    ns = real.problem.designs[0] @ truth.costs[place]
    ns = ns * np.maximum(1 + truth.model_error[place] * rng.normal(size=len(ns)), 0.05)
    seen = [row for row in real.machine.observations if not row.terms]
    runs = measurements.host_sweep()
    noise = np.exp(_noise(int(runs["run"].max()) + 1, rng))
    observed, spread = [], []
    for row, true in zip(seen, ns, strict=False):
        own = runs[(runs["workload"] == row.workload) & (runs["order"] == row.order)]["run"]
        middle, noise_ns = machines.median_of_runs(true * noise[own.to_numpy()])
        observed.append(middle)
        spread.append(noise_ns)
    # Parts that a profile gave: as sure as it makes them, relative to the whole.
    for row, true in zip(real.machine.observations[len(seen) :], ns[len(seen) :], strict=True):
        scatter = row.noise_ns / row.ns * true
        observed.append(max(true + scatter * rng.normal(), 0.05 * true))
        spread.append(scatter)
    problem = Problem(
        real.problem.designs, np.array(observed), np.array(spread), real.problem.mean,
        real.problem.cov, real.problem.design_weights,
    )  # fmt: skip
    posterior = problem.infer(DRAWS, seed=place)
    return timing.TimeFit(real.machine, real.model, problem, posterior, real.shares)


def _noise(length: int, rng: np.random.Generator) -> np.ndarray:
    # Of logarithms of times, of runs in sequence; its median is 0 within 0.003.
    runs = measurements.load("host/aa_runs.csv").sort_values("run")["cpu_s"].to_numpy()
    logs = np.log(runs / np.median(runs))
    again = machines.run_noise()[1]
    fresh = logs[1:] - again * logs[:-1]
    warm_up = 50
    steps = rng.choice(fresh, length + warm_up)
    noise = np.empty(len(steps))
    noise[0] = steps[0]
    for place in range(1, len(steps)):
        noise[place] = again * noise[place - 1] + steps[place]
    return noise[warm_up:]


def to_text(table: pd.DataFrame) -> str:
    """Return the table, and whether all of it is within `LOW` and `HIGH`."""
    lines = [
        f"{'quantity':<32}{'covered':>9}{'true':>10}{'best':>10}{'width':>10}",
        *(
            f"{row.quantity:<32}{row.covered:>9.1%}{row.true:>10.3g}{row.best:>10.3g}"
            f"{row.width:>10.3g}"
            for row in table.itertuples()
        ),
    ]
    inside = table["covered"].between(LOW, HIGH)
    lines += [
        "",
        f"{int(inside.sum())} of {len(table)} within {LOW:.0%} to {HIGH:.0%}; all together "
        f"{table['covered'].mean():.1%}; {int(table['n'].iloc[0])} made-up machines, costs from "
        "the prior,",
        f"noise of runs with lag-1 autocorrelation {machines.run_noise()[1]:.2f} from 500 equal "
        "runs; true, best, width: medians",
    ]
    return "\n".join(lines)
