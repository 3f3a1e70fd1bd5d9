# SPDX-License-Identifier: GPL-2.0-only
"""Explanations: which kernel functions a difference between two kernels comes from.

The parts are event groups priced by a cost model; what was measured and is not in their sum is a
row of its own, "not explained". It is never spread over the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis import elapsed, fit, machines, measurements, stalls, timing
from analysis import shown as tables
from analysis.folio_sizes import consistent_orders, order_sentence
from analysis.groups import GROUPS, NAMES, PARTS
from sim import ARCHES, FILE_SERIES, MEASURED_ARCHES, Events, World, WorldError
from sim.ident import short_id
from sim.table import shown

NOT_EXPLAINED = "not explained"


@shown(tables.attribution)
@dataclass(frozen=True)
class Attribution:
    """A difference, before - after, and the parts it is made of.

    Attributes:
        unit: "instructions" or "s".
        before_value, after_value: the two totals, in `unit`.
        parts: one row a part that is not 0, largest first, "not explained" last: part, value,
            low, high (95%, of the costs; of "not explained" that of the model's form, missing for
            instructions). The values sum to before_value - after_value.
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
        before, after: members of `sim.FILE_SERIES`; for time, the two of the lazyfree series too,
            which is MADV_PAGEOUT of 128 MiB of lazyfree folios.
        metric: "instructions": the emulated cell of 256 MiB with 0.2 GiB reclaimed, or, for an
            order that was not run, the fit of the published request; "time": the published arm64
            seconds, priced as if they had been taken at this order, or what the costs of
            `analysis.timing` give, where none were published.

    Raises:
        WorldError: an unknown name, or no batch can matter at that order.
        FitError: there are no measurements of that architecture.
    """
    if metric not in ("time", "instructions"):
        raise WorldError(f"metric {metric!r}: expected one of time, instructions")
    _check_kernels(before, after, metric)
    if order not in range(10):
        raise WorldError(f"order {order}: expected 0 to 9")
    if metric == "instructions":
        return _explain_instructions(arch, order, before, after)
    if arch not in MEASURED_ARCHES:
        raise fit.FitError(f"no times of {arch}: there are some of {', '.join(MEASURED_ARCHES)}")
    return _explain_time(arch, order, before, after)


# The two series whose kernels differ in what they do to the same folios.
_LAZYFREE_SERIES = ("lazyfree-before", "lazyfree")


def _check_kernels(before: str, after: str, metric: str) -> None:
    allowed = FILE_SERIES
    if metric == "time" and before in _LAZYFREE_SERIES:
        allowed = _LAZYFREE_SERIES
    for name, value in (("before", before), ("after", after)):
        if value not in allowed:
            raise WorldError(f"{name} {value!r}: expected one of {', '.join(allowed)}")


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
    if not 0 < order < ARCHES[arch].pmd_order:
        raise WorldError(f"order {order}: no batch can matter, so that no time is saved")
    machine = machines.reference(arch)
    costs = timing.time_fit(machine) if machine.knows_orders else timing.fit_at(machine, order)
    workload = "file" if before in FILE_SERIES else "lazyfree"
    found = elapsed.reduction(costs, before, after, order, workload=workload)
    drawn, names = _time_parts(costs, (before, after), order, workload)
    observed = elapsed.published_seconds() if arch == "arm64" else {}
    if {before, after} <= set(observed):
        values, basis = [observed[before], observed[after]], "published"
    else:
        whole = [_whole(costs, kernel, order, workload) for kernel in (before, after)]
        values, basis = whole, f"predicted for the {machine.name}"
    parts = _drawn_parts(drawn, names, values[0] - values[1])
    wrong = (found.draws - found.costs_only) * values[0]
    rest = parts["part"] == NOT_EXPLAINED
    parts.loc[rest, ["low", "high"]] = parts["value"].iloc[-1] + np.percentile(wrong, (2.5, 97.5))
    assumed = () if machine.knows_orders else (
        f"order {order} is assumed: the folio size was not published",
    )  # fmt: skip
    notes = (
        *assumed,
        *machine.notes[:1],
        f"the interval of {NOT_EXPLAINED!r} is the error of the model's form",
    )
    return Attribution(arch, before, after, order, "s", *values, parts, basis, notes)


def _requested(order: int, workload: str) -> tuple[World, str]:
    # The request that is explained, and how it flushes the TLB where that is open.
    if workload == "lazyfree":
        size = elapsed.LAZYFREE_BYTES
        world = World(map_bytes=size, reclaim_bytes=size, order=order, workload=workload)
        return world, "own"
    sizes = {"map_bytes": elapsed.MAP_BYTES, "reclaim_bytes": elapsed.RECLAIM_BYTES}
    return World(**sizes, order=order, cpus=2), "deferred"


def _whole(costs: timing.TimeFit, kernel: str, order: int, workload: str) -> float:
    world, flush = _requested(order, workload)
    events = timing.simulated(world, costs.machine.arch, kernel)
    return float(costs.ns(stalls.terms_of(events, costs.model, flush)).sum(axis=1).mean() * 1e-9)


def _time_parts(costs, kernels, order, workload) -> tuple[np.ndarray, list[str]]:
    # Draws of what each event group, by the price of its part, and each stall takes less: seconds.
    world, flush = _requested(order, workload)
    old, new = (timing.simulated(world, costs.machine.arch, kernel) for kernel in kernels)
    fewer = stalls.group_counts_of(old) - stalls.group_counts_of(new)
    prices = costs.posterior.costs[:, [PARTS.index(group.part) for group in GROUPS]]
    waits = np.subtract(
        *(stalls.terms_of(events, costs.model, flush).sum(axis=1) for events in (old, new))
    )[stalls.NR_PRICES :]
    drawn = np.hstack(
        [prices * (fewer * costs.model.costs), costs.posterior.costs[:, stalls.NR_PRICES :] * waits]
    )
    return drawn * 1e-9, [*NAMES, *stalls.TERM_NAMES[stalls.NR_PRICES :]]


def _drawn_parts(drawn: np.ndarray, names: list[str], difference: float) -> pd.DataFrame:
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    parts = pd.DataFrame({"part": names, "value": drawn.mean(axis=0), "low": low, "high": high})
    parts = parts[drawn.any(axis=0)].sort_values("value", ascending=False, key=np.abs)
    rest = {"part": [NOT_EXPLAINED], "value": [difference - parts["value"].sum()]}
    # Not of integers, where no part is left.
    return pd.concat([parts.astype({"value": float}), pd.DataFrame(rest)], ignore_index=True)


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


__all__ = [
    "NOT_EXPLAINED",
    "Attribution",
    "consistent_orders",
    "explain",
    "leftover_instructions",
    "order_sentence",
]
