# SPDX-License-Identifier: GPL-2.0-only
"""Claims: what was published of machines without a time of their own here, and how likely it is.

None of it is an input of what is predicted. A claim of "50%+" holds where the elapsed reduction is
50% or more; one of a speedup holds where it lies within the 95% interval.
"""

import numpy as np
import pandas as pd

from analysis import elapsed, folio_sizes, machines, measurements, timing
from analysis.units import folio_size

ORDERS = range(1, 9)
# The folio sizes that the published arm64 times leave: the same series may have run on the same.
AS_ON_ARM64 = "as on arm64"


def score() -> pd.DataFrame:
    """Return each published claim beside its prediction, a row a claim and folio size.

    Columns: claim, step, size; low, best, high: predicted elapsed reduction, 95%; holds: share of
    the draws in which the claim holds, of a speedup 1 if it is within the interval, else 0; source.
    """
    costs = timing.time_fit(machines.host())
    pairs = measurements.published()
    open_pairs = pairs[(pairs["arch"] == "x86_64") & (pairs["metric"] == "real")]
    rows = [row for pair in open_pairs.itertuples() for row in _series(costs, pair)]
    return pd.DataFrame([*rows, *_lazyfree(costs)])


def _series(costs: timing.TimeFit, pair) -> list[dict]:
    step = (pair.kernel_before, pair.kernel_after)
    least = float(pair.reported.removesuffix("%+")) / 100
    draws = {order: elapsed.reduction(costs, *step, order).draws for order in ORDERS}
    sized = {folio_size(order): drawn for order, drawn in draws.items()}
    alone = folio_sizes.posterior().set_index("order")["alone"].reindex(ORDERS).to_numpy()
    chosen = np.random.default_rng(4).choice(ORDERS, len(draws[1]), p=alone / alone.sum())
    sized[AS_ON_ARM64] = np.array([draws[order][place] for place, order in enumerate(chosen)])
    return [
        _row(pair.reported, step, size, drawn, float(np.mean(drawn >= least)), pair.source)
        for size, drawn in sized.items()
    ]


def _lazyfree(costs: timing.TimeFit) -> list[dict]:
    rows = []
    for pair in measurements.load("published/lazyfree.csv").itertuples():
        step = (pair.kernel_before, pair.kernel_after)
        draws = elapsed.reduction(costs, *step, int(pair.order), workload="lazyfree").draws
        told = 1 - (pair.after_low + pair.after_high) / (pair.before_low + pair.before_high)
        low, high = np.percentile(draws, (2.5, 97.5))
        claim = f"{pair.reported}, {told:.0%}"
        rows.append(_row(claim, step, folio_size(int(pair.order)), draws,
                         float(low <= told <= high), pair.source))  # fmt: skip
    return rows


def _row(claim, step, size, draws, holds, source) -> dict:
    low, best, high = np.percentile(draws, (2.5, 50, 97.5))
    return {
        "claim": claim, "step": f"{step[0]} to {step[1]}", "size": size, "low": low, "best": best,
        "high": high, "holds": holds, "source": source,
    }  # fmt: skip


def _holds(row) -> str:
    if row.claim.endswith("+"):
        return f"holds: {row.holds:.0%}"
    return "within the interval" if row.holds else "outside the interval"


def to_text(table: pd.DataFrame) -> str:
    """Return the table as lines, a block a claim."""
    lines = []
    for (claim, step, source), own in table.groupby(["claim", "step", "source"], sort=False):
        lines += [f"{step}: published {claim}", f"  {source}", ""]
        lines += [
            f"  {row.size:<14}{row.best:>5.0%} ({row.low:.0%} to {row.high:.0%})".ljust(42)
            + _holds(row)
            for row in own.itertuples()
        ]
        lines.append("")
    return "\n".join(
        [
            *lines,
            "predicted for the x86_64 host; the machines of the claims, and their folio sizes",
            "where several stand, were not published",
            f'"{AS_ON_ARM64}": sizes as the arm64 times leave them',
        ]
    )
