# SPDX-License-Identifier: GPL-2.0-only
"""Predictions: what a changed kernel saves at one folio order, with an interval.

There is no prediction without stated assumptions. Where the two kernels execute the same events
(order 0, and PMD-mapped folios) the answer is 0, exactly, on any machine.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import stats

from analysis import elapsed, fit, machines, measurements, timing
from analysis import shown as tables
from analysis.interval import Interval, speedup_of
from sim import ARCHES, FILE_SERIES, KERNELS, WorldError
from sim.arch import isa
from sim.ident import short_id
from sim.table import shown

METRICS = ("time", "instructions")


@shown(tables.prediction)
@dataclass(frozen=True)
class Prediction:
    """What `after` saves over `before`, both of one architecture and folio order.

    Attributes:
        elapsed_reduction: 1 - after / before. For instructions, a 95% interval from the fit's
            covariance, widened by its largest leave-one-order-out error; for time, 95% of the
            draws of `analysis.elapsed`, costs and model error, with the noise of one more run
            beside it.
        speedup: before / after, the same numbers.
        measured: what was measured of the very same, or None.
        assumptions: what must hold for the interval to mean anything.
    """

    arch: str
    before: str
    after: str
    order: int
    metric: str
    blind: bool
    elapsed_reduction: Interval
    measured: float | None
    assumptions: tuple[str, ...]
    model: str

    @property
    def speedup(self) -> Interval:
        """The same prediction as before / after."""
        return self.elapsed_reduction.map(speedup_of)

    @cached_property
    def id(self) -> str:
        """Id of the inputs and of the model that answered."""
        return short_id(
            [self.arch, self.before, self.after, self.order, self.metric, self.blind, self.model]
        )

    def to_dict(self) -> dict:
        """Return everything as `reclaim predict --json` prints it."""
        return {
            "arch": self.arch,
            "before": self.before,
            "after": self.after,
            "order": self.order,
            "metric": self.metric,
            "blind": self.blind,
            "elapsed_reduction": self.elapsed_reduction._asdict(),
            # No bound, where the data allow an elapsed reduction of everything, is null.
            "speedup": {
                name: value if np.isfinite(value) else None
                for name, value in self.speedup._asdict().items()
            },
            "measured_elapsed_reduction": self.measured,
            "published": published_claim(self.arch, self.before, self.after),
            "assumptions": list(self.assumptions),
            "id": self.id,
        }


def predict(
    arch: str,
    order: int,
    *,
    before: str = "references",
    after: str = "unmap",
    metric: str = "time",
    blind: bool = False,
) -> Prediction:
    """Predict what `after` saves over `before` for the published request.

    10 GiB of clean file folios of one order are mapped by one process, 8 GiB of them reclaimed.

    Args:
        arch: a member of `sim.MEASURED_ARCHES`.
        order: folio order, 0 to 9.
        before, after: members of `sim.FILE_SERIES`; by default patch 5 of the series alone.
        metric: a member of `METRICS`.
        blind: use no run of a changed kernel of this architecture: only kernels that have no batch
            that `before` lacks. Of the other architecture everything may be used.

    Raises:
        WorldError: a name or the order is not one of those.
        FitError: there are no measurements to answer from, e.g. blind time.
    """
    if metric not in METRICS:
        raise WorldError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
    asked = (arch, order, before, after)
    if _same_events(*asked):
        why = "PMD-mapped" if order >= ARCHES[arch].pmd_order else "not large, or kernels alike"
        zero = Interval(0.0, 0.0, 0.0)
        assumptions = (f"order {order}: {why}, so that both kernels execute the same events",)
        measured = measured_reduction(arch, before, after, order) if metric != "time" else None
        return Prediction(*_fields(asked), metric, blind, zero, measured, assumptions, "no model")
    if metric == "instructions":
        return _predict_instructions(*asked, blind)
    return _predict_time(*asked, blind)


def published_claim(arch: str, before: str, after: str) -> dict | None:
    """Return what the series' commit messages claim for this step, or None; never an input."""
    pairs = measurements.published()
    chosen = (
        (pairs["arch"] == arch)
        & (pairs["kernel_before"] == before)
        & (pairs["kernel_after"] == after)
        & (pairs["metric"] == "real")
    )
    if not chosen.any():
        return None
    row = pairs[chosen].iloc[0]
    return {"elapsed_reduction": row["reported"], "source": row["source"], "id": row["id"]}


def measured_reduction(arch: str, before: str, after: str, order: int) -> float | None:
    """Return the reduction of instructions in real kernels under emulation, or None.

    Of the cells of `measurements.plain_cells`.
    """
    instructions = measurements.plain_cells(arch, order)["instructions"]
    if not {before, after} <= set(instructions.index):
        return None
    return float(1 - instructions[after] / instructions[before])


def _fields(asked: tuple[str, int, str, str]) -> tuple[str, str, str, int]:
    arch, order, before, after = asked
    return arch, before, after, order


def _model(arch: str, before: str, blind: bool) -> fit.CostModel:
    return fit.transfer(arch, fit.DONOR[arch], unchanged(before)) if blind else fit.fit(arch)


def _same_events(arch: str, order: int, before: str, after: str) -> bool:
    old, new = (elapsed.request_events(arch, kernel, order) for kernel in (before, after))
    return old.counts == new.counts


def unchanged(before: str) -> tuple[str, ...]:
    """Return the kernels that have no batch that `before` lacks."""
    has = KERNELS[before]
    return tuple(
        name
        for name in FILE_SERIES
        if all(ours or not theirs for ours, theirs in zip(has, KERNELS[name], strict=True))
    )


def _predict_instructions(arch, order, before, after, blind) -> Prediction:
    model = _model(arch, before, blind)
    scored_on = fit.DONOR[arch] if blind else arch
    old, new = (
        model.counts(elapsed.request_events(arch, kernel, order)) for kernel in (before, after)
    )
    from_form = left_out_error(scored_on, before, after)
    interval, from_costs = reduction_of(model, old, new, from_form)
    assumptions = (
        "instructions, not time: caches, TLB invalidations and atomics cost nothing here",
        "Linux 7.2, 4 KiB pages, classic LRU, one mapping process, one CPU",
        f"interval: standard error of {from_costs:.2%} from the costs, +-{from_form:.2%} from the "
        f"form of the model: the most that it errs on orders of {scored_on} left out of the fit",
        *(model.warnings if blind else ()),
    )
    measured = measured_reduction(arch, before, after, order)
    return Prediction(
        arch, before, after, order, "instructions", blind, interval, measured, assumptions, model.id
    )


def reduction_of(
    model: fit.CostModel, old: np.ndarray, new: np.ndarray, from_form: float
) -> tuple[Interval, float]:
    """Return the reduction between two group counts, and its standard error from the costs.

    The interval is the 95% one of the costs, widened by `from_form`; shapes (len(GROUPS),).
    """
    reduction = float(1 - (new @ model.costs) / (old @ model.costs))
    gradient = (old * (1 - reduction) - new) / (old @ model.costs)
    from_costs = float(np.sqrt(gradient @ model.cov @ gradient))
    reach = stats.t.ppf(0.975, model.dof) * from_costs + from_form
    return Interval(reduction - reach, reduction, min(reduction + reach, 1.0)), from_costs


@cache
def left_out_error(arch: str, before: str, after: str) -> float:
    """Return the largest error of the reduction at orders that a fit of `arch` had not seen.

    The form of the model errs alike in neighbouring cells, so that a mean would promise too much.
    """
    cells = fit.leave_one_order_out(arch, small=False)
    same = [column for column in measurements.CELL if column not in ("kernel", "stats_worker")]
    old, new = (cells[cells["kernel"] == kernel].set_index(same) for kernel in (before, after))
    pairs = old.add_suffix("_old").join(new.add_suffix("_new"), how="inner")
    predicted = pairs["predicted_new"] / pairs["predicted_old"]
    measured = pairs["instructions_new"] / pairs["instructions_old"]
    return float((predicted - measured).abs().max())


def _predict_time(arch, order, before, after, blind) -> Prediction:
    if blind and arch != "x86_64":
        raise fit.FitError(
            f"blind time on {arch}: the only times of {arch} are of changed kernels; "
            "ask for --metric instructions"
        )
    model = _model(arch, before, blind)
    costs = timing.time_fit(machines.reference(arch), model)
    notes = (*TIME_ASSUMPTIONS, *(model.warnings if blind else ()))
    return _in_time(costs, order, (before, after), blind=blind, notes=notes)


def _in_time(costs, order, step, *, blind=False, measured=None, notes=()) -> Prediction:
    arch = costs.machine.arch
    found = elapsed.reduction(costs, *step, order)
    told = elapsed.assumptions(costs, found, elapsed.OPEN_FLUSHES[isa(arch)])
    return Prediction(
        arch, *step, order, "time", blind, found.interval, measured, (*told, *notes),
        short_id([costs.id, found.id]),
    )  # fmt: skip


def predict_on(
    machine: machines.Machine,
    order: int | None = None,
    *,
    before: str = "references",
    after: str = "unmap",
) -> Prediction:
    """Predict in time what `after` saves over `before` on a machine that a user brought.

    Times of kernels with a batch that `before` lacks are not used; where both kernels are in the
    table at that order, their reduction is shown as measured.

    Args:
        machine: see `machines.captured`.
        order: folio order; by default the only one of its table.

    Raises:
        WorldError, MachineError: the order is missing or impossible, or nothing is left to use.
    """
    order = _only_order(machine) if order is None else order
    unpatched = tuple(row for row in machine.observations if _lacks(row.kernel, before))
    if not unpatched:
        raise machines.MachineError(
            f"{machine.name}: no time of a kernel without what {after} adds to {before}: "
            "time the kernel that you have, before the change"
        )
    known = machines.Machine(machine.name, machine.arch, unpatched, machine.notes)
    costs = timing.time_fit(known)
    alike = [r for r in machine.observations if r.kind == "reclaim" and r.order in (order, None)]
    times = {row.kernel: row.ns for row in alike}
    both = {before, after} <= set(times)
    measured = float(1 - times[after] / times[before]) if both else None
    source = machines.reference(machine.arch).name
    notes = (
        f"costs start from those of the {source}, give or take {timing.MACHINE_SPREAD:.0%} for all "
        f"alike and {timing.COST_SPREAD:.0%} for each",
        *TIME_ASSUMPTIONS,
    )
    return _in_time(costs, order, (before, after), measured=measured, notes=notes)


def _lacks(kernel: str, before: str) -> bool:
    # Whether file folios meet no batch in `kernel` that they do not meet in `before`.
    has, ours = KERNELS[kernel], KERNELS[before]
    return (has.batched_references <= ours.batched_references) and (
        has.batched_unmap <= ours.batched_unmap
    )


def _only_order(machine: machines.Machine) -> int:
    orders = {row.order for row in machine.observations}
    if len(orders) != 1 or None in orders:
        raise machines.MachineError(
            f"{machine.name}: the table has no single folio order; say --order"
        )
    return orders.pop()


TIME_ASSUMPTIONS = (
    "time is a sum over kinds of events, each taking what it takes whatever the folio order",
    "events of Linux 7.2, classic LRU, one mapping process",
)
