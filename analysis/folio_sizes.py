# SPDX-License-Identifier: GPL-2.0-only
"""Folio sizes that a machine's times are consistent with, where nobody published them.

Every single order and thousands of mixtures are weighed by how well some costs, as published of
single operations, give the times under them: `analysis.timing`. What is left is the posterior.
"""

import numpy as np
import pandas as pd

from analysis import machines, timing
from analysis.elapsed import published_check_share, published_seconds
from analysis.units import folio_size

# An order is consistent if, alone, it is no less than this share as likely as the likeliest.
LEAST_LIKELY = 0.05


def posterior(costs: timing.TimeFit | None = None) -> pd.DataFrame:
    """Return what is known of the share of memory in folios of each order.

    One row an order: order; prior, the mean share beforehand; low, share, high: 95% of the draws
    and their mean; at_least: mean share in folios of that order or larger, with at_least_low and
    at_least_high; alone: how likely it is that all folios have this order, relative to the
    likeliest order. Of the published arm64 server, unless other costs are given.

    Raises:
        ValueError: the orders were known.
    """
    costs = costs or timing.time_fit(machines.server())
    if costs.machine.knows_orders:
        raise ValueError(f"{costs.machine.name}: its folio orders are known")
    shares = costs.order_shares()
    upward = shares[:, ::-1].cumsum(axis=1)[:, ::-1]
    nr_orders = shares.shape[1]
    # The single orders are the first designs.
    alone = single_weights(costs)
    low, high = np.percentile(shares, (2.5, 97.5), axis=0)
    at_least_low, at_least_high = np.percentile(upward, (2.5, 97.5), axis=0)
    return pd.DataFrame(
        {
            "order": range(nr_orders),
            "prior": timing.mixtures(nr_orders)[0].T @ timing.mixtures(nr_orders)[1],
            "low": low, "share": shares.mean(axis=0), "high": high,
            "at_least": upward.mean(axis=0), "at_least_low": at_least_low,
            "at_least_high": at_least_high,
            "alone": alone / alone.max(),
        }
    )  # fmt: skip


def single_weights(costs: timing.TimeFit) -> np.ndarray:
    """Return the posterior weight of each single order, shape (orders,)."""
    return costs.posterior.weights[: costs.shares.shape[1]]


def consistent_orders() -> tuple[int, ...]:
    """Return the orders that, alone, the published arm64 numbers leave likely enough."""
    table = posterior()
    return tuple(int(order) for order in table["order"][table["alone"] >= LEAST_LIKELY])


def order_sentence() -> str:
    """Return, in one sentence, what the published numbers rule out of the folio sizes."""
    table, orders = posterior().set_index("order"), consistent_orders()
    seconds, shares = published_seconds(), published_check_share()
    large = _least_order(table)
    return (
        f"{seconds['base']:.3f}, {seconds['references']:.3f} and {seconds['unmap']:.3f} s and the "
        f"fall from {shares[0]:.0%} to {shares[1]:.0%} are consistent with folios of order "
        f"{orders[0]} to {orders[-1]} ({folio_size(orders[0])} to {folio_size(orders[-1])}) or "
        f"mixtures, and rule out that more than {1 - table['at_least_low'][large]:.0%} of the "
        f"memory was in folios smaller than {folio_size(large)} (95%)"
    )


def _least_order(table: pd.DataFrame) -> int:
    # The largest order that most of the memory is certain to reach.
    return int(max(table.index[table["at_least_low"] >= 0.5], default=0))
