# SPDX-License-Identifier: GPL-2.0-only
"""Calibration of A/B tests on identical runs: how often each finds a difference that is not there.

`difference` states what was found on the runs that ship with the workbook; whether that holds on
another machine, its own identical runs tell. Welch's test and Mann-Whitney's stand beside it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis import difference, ingest, measurements

PLAIN_TESTS = {
    "Welch": lambda one, other: stats.ttest_ind(one, other, equal_var=False).pvalue,
    "Mann-Whitney": lambda one, other: stats.mannwhitneyu(one, other).pvalue,
}


class CalibrationError(ValueError):
    """Runs that cannot calibrate a test: too few of them, or of more than one thing."""


def identical_runs(path: str = "", metric: str = "") -> np.ndarray:
    """Return identical runs in the order in which they were made: float64, shape (runs,).

    Args:
        path: a capture that `reclaim ingest` reads; "" for CPU seconds of the 500 runs of
            data/host/aa_runs.csv.
        metric: which metric of the capture; "" if it has one alone.

    Raises:
        CalibrationError: several metrics and none chosen, or one that is not there.
        IngestError: the capture cannot be read.
    """
    if not path:
        return measurements.load("host/aa_runs.csv").sort_values("run")["cpu_s"].to_numpy()
    frame = ingest.read(Path(path)).frame
    names = list(dict.fromkeys(frame["metric"]))
    if metric not in names and (metric or len(names) > 1):
        found = f"metric {metric!r}" if metric else f"{len(names)} metrics"
        raise CalibrationError(f"{path}: {found}; expected one of {', '.join(names)}")
    chosen = frame[frame["metric"] == (metric or names[0])].sort_values("run", kind="stable")
    return chosen["value"].to_numpy(float)


def calibration(runs: np.ndarray, per_side: int = 10, effect: float = 0.05) -> pd.DataFrame:
    """Return how often each test finds a difference between identical runs, and a real one.

    Args:
        runs: positive values in run order, of one kernel.
        per_side: runs a side; every window of twice as many neighbours is one experiment.
        effect: how much slower every second side is made to tell the power, as a share.

    Returns:
        One row a test and run order: test, order, false_positives, power (shares of the windows, at
        a nominal 5%).

    Raises:
        CalibrationError: fewer than three experiments that do not overlap, or runs that are not
            above 0.
    """
    runs = np.asarray(runs, float)
    if len(runs) < 6 * per_side:
        raise CalibrationError(
            f"{len(runs)} runs: expected at least {6 * per_side}, three times {per_side} against "
            f"{per_side}; make more, or compare fewer a side"
        )
    if not (runs > 0).all():
        raise CalibrationError("a run of 0 or less: expected times or counts above 0")
    rows = [
        {
            "test": "this workbook",
            "order": design,
            "false_positives": difference.rejected(runs, design, per_side),
            "power": difference.rejected(runs, design, per_side, effect),
        }
        for design in difference.DESIGNS
    ]
    for name, test in PLAIN_TESTS.items():
        for order in ("alternating", "sequence"):
            shares = (_plainly_rejected(runs, test, order, per_side, by) for by in (0.0, effect))
            rows.append({"test": name, "order": order} | dict(zip(RATES, shares, strict=True)))
    return pd.DataFrame(rows)


RATES = ("false_positives", "power")

ASSUMPTIONS = (
    "the runs are of one kernel and one workload, in the order in which they were made",
    "windows overlap, so that rates are surer than one experiment, not as sure as that many",
    "a real difference multiplies every run by the same factor",
)


def _plainly_rejected(runs, test, order: str, per_side: int, effect: float) -> float:
    logs = np.log(runs)
    places = np.arange(2 * per_side)
    after = places % 2 == 1 if order == "alternating" else places >= per_side
    hits = []
    for start in range(len(logs) - 2 * per_side + 1):
        window = logs[start : start + 2 * per_side] + after * np.log1p(effect)
        hits.append(test(window[~after], window[after]) < difference.LEVEL)
    return float(np.mean(hits))


def sentence(table: pd.DataFrame, nr_runs: int) -> str:
    """Return the finding in one sentence."""
    ours = table[table["test"] == "this workbook"]["false_positives"]
    others = table[table["test"] != "this workbook"]["false_positives"]
    return (
        f"Of {nr_runs} identical runs, this workbook calls {ours.min():.1%} to {ours.max():.1%} of "
        f"comparisons different at a nominal 5%; Welch's and Mann-Whitney's tests call up to "
        f"{others.max():.1%} of them so."
    )
