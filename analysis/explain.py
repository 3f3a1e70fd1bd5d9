# SPDX-License-Identifier: GPL-2.0-only
"""Explanations: which kernel functions a difference between two kernels comes from.

The parts are event groups priced by a cost model; what was measured and is not in their sum is a
row of its own, "not explained". It is never spread over the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis import elapsed, fit, measurements
from analysis.groups import NAMES
from analysis.units import folio_size
from sim import FILE_SERIES, Events, WorldError
from sim.ident import short_id

NOT_EXPLAINED = "not explained"


@dataclass(frozen=True)
class Attribution:
    """A difference, before - after, and the parts it is made of.

    Attributes:
        unit: "instructions" or "s".
        before_value, after_value: the two totals, in `unit`.
        parts: one row a part that is not 0, largest first, "not explained" last: part, value,
            low, high (95%, from the covariance of the costs; missing for "not explained"). The
            values sum to before_value - after_value.
        basis: what the totals are: measured, published or fitted.
        notes: what must be known to read it.
    """

    arch: str
    before: str
    after: str
    order: int
    unit: str
    before_value: float
    after_value: float
    parts: pd.DataFrame
    basis: str
    notes: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Before - after, in `unit`."""
        return self.before_value - self.after_value

    @property
    def not_explained(self) -> float:
        """What the priced parts leave of the difference, in `unit`."""
        return float(self.parts.set_index("part")["value"][NOT_EXPLAINED])

    @cached_property
    def id(self) -> str:
        """Id of the inputs and the parts."""
        values = [f"{value:.6g}" for value in self.parts["value"]]
        return short_id([self.arch, self.before, self.after, self.order, self.unit, values])


def explain(
    arch: str, order: int, *, before: str = "references", after: str = "unmap", metric: str
) -> Attribution:
    """Attribute the difference between two kernels at one order to kernel functions.

    Args:
        arch: a member of `sim.MEASURED_ARCHES`.
        order: folio order, 0 to 9.
        before, after: members of `sim.FILE_SERIES`.
        metric: "instructions": the emulated cell of 256 MiB with 0.2 GiB reclaimed, or, for an
            order that was not run, the fit of the published request; "time": the published arm64
            seconds, priced as if they had been taken at this order.

    Raises:
        WorldError: an unknown name, or no batch can matter at that order.
        FitError: time was asked for and none was published.
    """
    for name, value in (("before", before), ("after", after)):
        if value not in FILE_SERIES:
            raise WorldError(f"{name} {value!r}: expected one of {', '.join(FILE_SERIES)}")
    if order not in range(10):
        raise WorldError(f"order {order}: expected 0 to 9")
    if metric == "instructions":
        return _explain_instructions(arch, order, before, after)
    if metric == "time":
        return _explain_time(arch, order, before, after)
    raise WorldError(f"metric {metric!r}: expected one of time, instructions")


def _explain_instructions(arch: str, order: int, before: str, after: str) -> Attribution:
    model = fit.fit(arch)
    cells = measurements.plain_cells(arch, order)
    if {before, after} <= set(cells.index):
        pair = cells.loc[[before, after]]
        fewer = _fewer(model, *(fit.simulate_cell(cell) for cell in pair.itertuples()))
        values = pair["instructions"].astype(float).tolist()
        basis = "measured: Linux 7.2 under emulation; 256 MiB mapped, 0.2 GiB reclaimed"
    else:
        counts = [elapsed.request_counts(arch, kernel, order) for kernel in (before, after)]
        fewer = counts[0] - counts[1]
        values = [float(count @ model.costs) for count in counts]
        basis = "fitted: order not run; 10 GiB mapped, 8 GiB reclaimed"
    parts = _parts(model, fewer, 1.0, values[0] - values[1])
    return Attribution(
        arch, before, after, order, "instructions", *values, parts, basis, model.warnings
    )


def _fewer(model: fit.CostModel, old: Events, new: Events) -> np.ndarray:
    # Groups do not describe PMD-mapped folios; they need not, where both do the same.
    if old.counts == new.counts:
        return np.zeros(len(NAMES))
    return model.counts(old) - model.counts(new)


def _explain_time(arch: str, order: int, before: str, after: str) -> Attribution:
    seconds = elapsed.published_seconds()
    if arch != "arm64" or before not in seconds or after not in seconds:
        raise fit.FitError(
            f"no published seconds of {before} and {after} on {arch}: "
            f"arm64 has {', '.join(seconds)}; ask for --metric instructions"
        )
    if order not in elapsed.implied_prices().index:
        raise WorldError(f"order {order}: no batch can matter, but it did where it was published")
    model = fit.fit(arch)
    counts = [elapsed.request_counts(arch, kernel, order) for kernel in (before, after)]
    price = elapsed.implied_prices().loc[order, "remainder"] * 1e-9
    parts = _parts(model, counts[0] - counts[1], price, seconds[before] - seconds[after])
    notes = (
        f"order {order} is assumed: the folio size was not published",
        f"every instruction priced alike, {price * 1e9:.2f} ns: what the kernel with both batches "
        "takes; waiting for TLB invalidations and atomics shows up as not explained",
        "n = 1 run a kernel, no spread published",
    )
    return Attribution(
        arch, before, after, order, "s", seconds[before], seconds[after], parts, "published", notes
    )


def _parts(
    model: fit.CostModel, fewer: np.ndarray, price: float, difference: float
) -> pd.DataFrame:
    values = fewer * model.costs * price
    reach = 1.96 * np.abs(fewer) * np.sqrt(np.diag(model.cov)) * price
    parts = pd.DataFrame(
        {"part": NAMES, "value": values, "low": values - reach, "high": values + reach}
    )
    parts = parts[values != 0].sort_values("value", ascending=False, key=np.abs)
    rest = pd.DataFrame({"part": [NOT_EXPLAINED], "value": [difference - values.sum()]})
    return pd.concat([parts, rest], ignore_index=True)


def leftover_instructions(arch: str, order: int, kernel: str = "unmap") -> pd.DataFrame:
    """Return where the instructions that remain go: part, share; largest first."""
    priced = elapsed.request_counts(arch, kernel, order) * fit.fit(arch).costs
    shares = pd.DataFrame({"part": NAMES, "share": priced / priced.sum()})
    return shares[shares["share"] > 0].sort_values("share", ascending=False, ignore_index=True)


def consistent_orders() -> tuple[int, ...]:
    """Return the folio orders that the published arm64 numbers allow; see `elapsed`."""
    prices = elapsed.implied_prices()
    return tuple(int(order) for order in prices.index[prices["consistent"]])


def order_sentence() -> str:
    """Return, in one sentence, what the published numbers say of the folio size."""
    orders = consistent_orders()
    seconds = elapsed.published_seconds()
    shares = elapsed.published_check_share()
    return (
        f"{seconds['base']:.3f}, {seconds['references']:.3f} and {seconds['unmap']:.3f} s and the "
        f"fall from {shares[0]:.0%} to {shares[1]:.0%} are consistent with folios of order "
        f"{orders[0]} to {orders[-1]} ({folio_size(orders[0])} to {folio_size(orders[-1])}), and "
        "cannot tell these apart: three times do not determine a dozen costs"
    )
