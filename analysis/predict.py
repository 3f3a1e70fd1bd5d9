# SPDX-License-Identifier: GPL-2.0-only
"""Predictions: what a changed kernel saves at one folio order, with an interval.

There is no prediction without stated assumptions. Where the two kernels execute the same events
(order 0, and PMD-mapped folios) the answer is 0, exactly, on any machine.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import stats

from analysis import elapsed, fit, measurements
from analysis.interval import Interval, speedup_of
from sim import ARCHES, FILE_SERIES, KERNELS, WorldError
from sim.ident import short_id

METRICS = ("time", "instructions")
DONOR = {"x86_64": "arm64", "arm64": "x86_64"}


@dataclass(frozen=True)
class Prediction:
    """What `after` saves over `before`, both of one architecture and folio order.

    Attributes:
        elapsed_reduction: 1 - after / before. For instructions, a 95% interval from the fit's
            covariance, widened by its largest leave-one-order-out error; for time, the range over
            all scenarios of `analysis.elapsed`, each with its 95% bootstrap interval where runs
            were repeated.
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
    return fit.transfer(arch, DONOR[arch], unchanged(before)) if blind else fit.fit(arch)


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
    scored_on = DONOR[arch] if blind else arch
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
    cells = fit.leave_one_order_out(arch)
    same = [column for column in measurements.CELL if column not in ("kernel", "stats_worker")]
    old, new = (cells[cells["kernel"] == kernel].set_index(same) for kernel in (before, after))
    pairs = old.add_suffix("_old").join(new.add_suffix("_new"), how="inner")
    pairs = pairs[pairs.index.get_level_values("order") > 0]
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
    scenarios = elapsed.scenarios(arch, model)
    reductions = [
        1 - scenario.seconds(after, order) / scenario.seconds(before, order)
        for scenario in scenarios
    ]
    best = float(reductions[0][0])
    low = min(float(np.percentile(reduction, 2.5)) for reduction in reductions)
    high = max(float(np.percentile(reduction, 97.5)) for reduction in reductions)
    names = [scenario.name for scenario in scenarios]
    assumptions = (
        *TIME_ASSUMPTIONS[arch],
        f"best: {names[0]}",
        f"low to high: over {len(names)} scenarios: {'; '.join(names)}",
        *(model.warnings if blind else ()),
    )
    return Prediction(
        arch,
        before,
        after,
        order,
        "time",
        blind,
        Interval(min(low, best), best, max(high, best)),
        None,
        assumptions,
        short_id([arch, names, [f"{r[0]:.6f}" for r in reductions]]),
    )


TIME_ASSUMPTIONS = {
    "arm64": (
        "one server, one published time a kernel (n = 1, no spread), folio order not published",
        "ns per instruction of each part of the path do not depend on the folio order",
        "events of Linux 7.2, 4 KiB pages, contpte, classic LRU, one mapping process",
    ),
    "x86_64": (
        "one virtual machine (AMD EPYC, Linux 6.18), 15 rounds of MADV_PAGEOUT; no run of "
        "memory.reclaim, and none of a kernel that batches file folios",
        "batched lazyfree folios stand in for batched file folios, page-cache removal added",
        "scanning is priced per instruction, from what one PTE removal took with and without its "
        "flush",
    ),
}
