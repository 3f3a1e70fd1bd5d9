# SPDX-License-Identifier: GPL-2.0-only
import functools
import itertools
import json

import pytest

from analysis import elapsed, folio_sizes, machines, measurements, predict, timing
from analysis.fit import FitError
from sim import MEASURED_ARCHES, WorldError

STEPS = [("references", "unmap"), ("base", "unmap"), ("base", "references")]
STEP_IDS = [" to ".join(step) for step in STEPS]
BACKWARDS = [("unmap", "base"), ("references", "unmap-only")]
RUN_ORDERS = (1, 2, 4, 5, 7, 8)
X86_CHANGED = {
    ("base", "unmap"): ("references", "unmap", "unmap-only"),
    ("base", "references"): ("references", "unmap", "unmap-only"),
    ("references", "unmap"): ("unmap", "unmap-only"),
}


@functools.cache
def asked(arch, order, step=STEPS[0], **rest):
    before, after = step
    return predict.predict(arch, order, before=before, after=after, **rest)


def ten_times(arch, kernels):
    def edit(runs):
        chosen = (runs["arch"] == arch) & runs["kernel"].isin(kernels)
        # Not one factor for all orders, or a ratio could hide it.
        factor = (10 + runs["order"]).where(chosen, 1)
        return runs.assign(instructions=runs["instructions"] * factor)

    return edit


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("metric", predict.METRICS)
@pytest.mark.parametrize("order", [0, 9])
def test_what_no_batch_touches_saves_exactly_nothing(arch, metric, order):
    for step, blind in itertools.product((*STEPS, ("unmap", "unmap-only")), (False, True)):
        found = asked(arch, order, step, metric=metric, blind=blind)
        assert found.elapsed_reduction == (0, 0, 0)
        assert found.speedup == (1, 1, 1)
        assert found.assumptions


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("metric", predict.METRICS)
@pytest.mark.parametrize("order", range(1, 10))
def test_low_is_below_best_is_below_high_and_speedup_says_the_same(arch, metric, order):
    for step in (*STEPS, *BACKWARDS):
        found = asked(arch, order, step, metric=metric)
        reduction, speedup = found.elapsed_reduction, found.speedup
        assert reduction.low <= reduction.best <= reduction.high <= 1
        assert speedup.low <= speedup.best <= speedup.high
        for name in ("low", "best", "high"):
            if getattr(reduction, name) < 1:
                assert getattr(speedup, name) == pytest.approx(1 / (1 - getattr(reduction, name)))
        assert found.assumptions


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [0, 9])
def test_real_kernels_agree_that_no_batch_touches_it(arch, order):
    cells = measurements.plain_cells(arch, order)["instructions"]
    assert cells["unmap"] == pytest.approx(cells["references"], rel=0.002)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("metric", predict.METRICS)
def test_larger_folios_gain_more(arch, metric):
    best = [asked(arch, order, metric=metric).elapsed_reduction.best for order in range(9)]
    assert best == sorted(best)
    assert best[8] > (0.5 if metric == "instructions" else 0.4)


def within(order, step, **rest):
    found = asked(order=order, step=step, metric="instructions", **rest)
    cells = measurements.plain_cells(rest["arch"], order)["instructions"]
    assert found.measured == pytest.approx(1 - cells[step[1]] / cells[step[0]])
    return found.elapsed_reduction.low <= found.measured <= found.elapsed_reduction.high


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("step", STEPS, ids=STEP_IDS)
@pytest.mark.parametrize("order", RUN_ORDERS)
def test_what_was_measured_lies_within_the_interval(arch, step, order):
    assert within(order, step, arch=arch)


@pytest.mark.parametrize("step", STEPS, ids=STEP_IDS)
@pytest.mark.parametrize("order", RUN_ORDERS)
def test_what_was_measured_lies_within_the_blind_interval(step, order):
    assert within(order, step, arch="x86_64", blind=True)


@pytest.mark.parametrize("step", STEPS, ids=STEP_IDS)
def test_an_interval_says_something(step):
    for order in (4, 8):
        seeing = asked("x86_64", order, step, metric="instructions").elapsed_reduction
        blind = asked("x86_64", order, step, metric="instructions", blind=True).elapsed_reduction
        assert seeing.high - seeing.low < 0.05
        assert seeing.high - seeing.low < blind.high - blind.low < 0.4


@pytest.mark.parametrize("step", STEPS, ids=STEP_IDS)
def test_a_blind_prediction_reads_no_run_of_a_changed_kernel(step, shipped):
    def blind():
        return [asked("x86_64", o, step, metric="instructions", blind=True) for o in (2, 6, 8)]

    before = blind()
    shipped("emulated/instructions.csv", ten_times("x86_64", X86_CHANGED[step]))
    for old, new in zip(before, blind(), strict=True):
        assert new.elapsed_reduction == old.elapsed_reduction
        assert new.assumptions == old.assumptions
        assert new.id == old.id


def test_blind_time_reads_no_run_of_a_changed_kernel(shipped):
    before = asked("x86_64", 6, blind=True)
    shipped("emulated/instructions.csv", ten_times("x86_64", X86_CHANGED[STEPS[0]]))
    assert asked("x86_64", 6, blind=True).elapsed_reduction == before.elapsed_reduction


@pytest.mark.parametrize("metric", predict.METRICS)
def test_blind_needs_no_run_of_a_changed_kernel(shipped, metric):
    before = asked("x86_64", 6, metric=metric, blind=True)
    changed = X86_CHANGED[STEPS[0]]
    shipped(
        "emulated/instructions.csv",
        lambda runs: runs[~((runs["arch"] == "x86_64") & runs["kernel"].isin(changed))],
    )
    after = asked("x86_64", 6, metric=metric, blind=True)
    assert after.elapsed_reduction == before.elapsed_reduction


@pytest.mark.parametrize("order", [4.0, True, "4", None])
def test_an_order_is_a_whole_number_whatever_was_asked_before(order):
    asked("x86_64", 4), asked("x86_64", 1)
    with pytest.raises(WorldError, match="expected a whole number, 0 to 13"):
        predict.predict("x86_64", order)


def test_a_blind_prediction_does_read_the_runs_before_and_arm64(shipped):
    before = asked("x86_64", 4, metric="instructions", blind=True).elapsed_reduction
    for arch, kernels in (("x86_64", ("references",)), ("arm64", ("unmap",))):
        shipped("emulated/instructions.csv", ten_times(arch, kernels))
        after = asked("x86_64", 4, metric="instructions", blind=True).elapsed_reduction
        assert after != before


def test_a_seeing_prediction_reads_the_changed_kernel(shipped):
    before = asked("x86_64", 4, metric="instructions").elapsed_reduction
    shipped("emulated/instructions.csv", ten_times("x86_64", ("unmap",)))
    assert asked("x86_64", 4, metric="instructions").elapsed_reduction != before


@pytest.mark.parametrize("metric", predict.METRICS)
def test_the_published_claim_is_shown_and_never_an_input(metric, shipped):
    before = [asked("x86_64", order, metric=metric) for order in (4, 6)]
    assert before[0].to_dict()["published"]["elapsed_reduction"] == "50%+"

    def boast(pairs):
        return pairs.assign(
            reported=pairs["reported"].where(pairs["arch"] != "x86_64", "99%"),
            before=pairs["before"].where(pairs["arch"] != "x86_64", 100.0),
            after=pairs["after"].where(pairs["arch"] != "x86_64", 1.0),
        )

    shipped("published/reclaim.csv", boast)
    after = [asked("x86_64", order, metric=metric) for order in (4, 6)]
    assert after[0].to_dict()["published"]["elapsed_reduction"] == "99%"
    assert [p.elapsed_reduction for p in after] == [p.elapsed_reduction for p in before]
    assert [p.id for p in after] == [p.id for p in before]


@pytest.mark.parametrize(
    ("arch", "step", "claim"),
    [
        ("x86_64", ("references", "unmap"), "50%+"),
        ("x86_64", ("base", "references"), "10%+"),
        ("arm64", ("references", "unmap"), "75%"),
        ("x86_64", ("base", "unmap"), None),
        ("x86_64", ("unmap", "references"), None),
    ],
)
def test_a_claim_belongs_to_its_step(arch, step, claim):
    published = predict.published_claim(arch, *step)
    assert (published and published["elapsed_reduction"]) == claim


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [0, 1, 4, 6, 9])
def test_json_has_plain_finite_numbers(arch, order):
    for metric, step in itertools.product(predict.METRICS, STEPS):
        found = asked(arch, order, step, metric=metric)
        back = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert back["elapsed_reduction"] == found.elapsed_reduction._asdict()
        assert back["speedup"] == found.speedup._asdict()
        assert back["measured_elapsed_reduction"] == found.measured
        assert (back["arch"], back["order"], back["metric"]) == (arch, order, metric)
        assert (back["before"], back["after"], back["blind"]) == (*step, False)
        assert back["assumptions"]


def test_json_of_a_speedup_without_bound_is_null():
    found = asked("x86_64", 4, metric="instructions")
    limitless = predict.Interval(0.2, 0.5, 1.0)
    shown = predict.Prediction(**(vars(found) | {"elapsed_reduction": limitless})).to_dict()
    assert shown["speedup"] == {"low": pytest.approx(1.25), "best": 2.0, "high": None}
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_time_is_what_the_costs_of_its_machine_give(arch):
    found = asked(arch, 5)
    costs = timing.time_fit(machines.reference(arch))
    assert found.elapsed_reduction == elapsed.reduction(costs, *STEPS[0], 5).interval
    assert found.measured is None
    for note in costs.machine.notes:
        assert note in found.assumptions


def test_the_published_reduction_is_predicted_at_the_orders_that_it_is_consistent_with():
    for order in folio_sizes.consistent_orders():
        reduction = asked("arm64", order).elapsed_reduction
        assert reduction.low <= 1 - 0.249 / 1.018 <= reduction.high


def table(tmp_path, *rows):
    columns = "machine,arch,kernel,workload,order,metric,unit,value,run,source"
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def one_run(tmp_path, seconds=0.8, order=6, kernel="references"):
    row = f"mine,x86_64,{kernel},reclaim,{order},real,s,{seconds},0,mine.txt:1"
    return machines.captured(table(tmp_path, row))


def test_one_unpatched_run_of_a_machine_of_ones_own_predicts_it(tmp_path):
    found = predict.predict_on(one_run(tmp_path))
    assert (found.arch, found.order, found.measured) == ("x86_64", 6, None)
    assert 0.1 < found.elapsed_reduction.low < found.elapsed_reduction.high < 0.8
    assert any("one run has no spread" in note for note in found.assumptions)
    assert any("costs start from those of the x86_64 host" in note for note in found.assumptions)


def test_the_patched_run_is_shown_and_never_an_input(tmp_path):
    rows = [
        "mine,x86_64,references,reclaim,6,real,s,0.8,0,mine.txt:1",
        "mine,x86_64,unmap,reclaim,6,real,s,0.2,1,mine.txt:2",
    ]
    alone = predict.predict_on(one_run(tmp_path))
    both = predict.predict_on(machines.captured(table(tmp_path, *rows)))
    assert both.measured == pytest.approx(0.75)
    assert both.elapsed_reduction == alone.elapsed_reduction


def test_runs_that_advice_asks_for_narrow_the_answer(tmp_path):
    rows = ["mine,x86_64,references,reclaim,6,real,s,0.8,0,mine.txt:1"]
    alone = predict.predict_on(machines.captured(table(tmp_path, *rows)))
    costs = timing.time_fit(machines.host())
    terms = timing.pageout_terms("x86_64", "lazyfree", 6, 10 << 30, costs.model, "lazyfree")
    seconds = float(costs.ns(terms).sum(axis=1).mean() * 1e-9)
    rows += [f"mine,x86_64,lazyfree,pageout-lazyfree,6,real,s,{seconds},{n},m:1" for n in range(5)]
    more = predict.predict_on(machines.captured(table(tmp_path, *rows)), 6)
    widths = [p.elapsed_reduction.high - p.elapsed_reduction.low for p in (alone, more)]
    assert widths[1] < widths[0]


def test_a_table_of_patched_runs_alone_predicts_nothing(tmp_path):
    with pytest.raises(machines.MachineError, match="time the kernel that you have"):
        predict.predict_on(one_run(tmp_path, kernel="unmap"))


def test_an_order_that_the_table_lacks_is_asked_for(tmp_path):
    machine = one_run(tmp_path, order="")
    with pytest.raises(machines.MachineError, match="say --order"):
        predict.predict_on(machine)
    assert predict.predict_on(machine, 4).order == 4


@pytest.mark.parametrize(
    ("question", "error", "told"),
    [
        ({"metric": "speed"}, WorldError, "expected one of time, instructions"),
        ({"arch": "riscv"}, WorldError, "expected one of arm64, "),
        ({"before": "linux"}, WorldError, "expected one of base, references, unmap, unmap-only"),
        ({"after": "linux"}, WorldError, "expected one of base, references, unmap, unmap-only"),
        ({"order": 10}, WorldError, "expected 0 to 9"),
        ({"order": -1}, WorldError, "expected 0 to 13"),
        ({"arch": "arm64", "blind": True}, FitError, "ask for --metric instructions"),
        (
            {"arch": "arm64", "blind": True, "metric": "instructions", "before": "base"},
            FitError,
            "x86_64 cannot tell arm64",
        ),
    ],
)
def test_what_cannot_be_predicted_says_why(question, error, told):
    with pytest.raises(error) as caught:
        predict.predict(**({"arch": "x86_64", "order": 4} | question))
    assert told in str(caught.value)


def test_ids_tell_predictions_apart():
    asks = itertools.product(MEASURED_ARCHES, (4, 5), STEPS, predict.METRICS)
    ids = [asked(arch, order, step, metric=metric).id for arch, order, step, metric in asks]
    ids.append(asked("x86_64", 4, metric="instructions", blind=True).id)
    assert len(set(ids)) == len(ids)
