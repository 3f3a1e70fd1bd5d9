# SPDX-License-Identifier: GPL-2.0-only
import itertools

import numpy as np
import pytest

from analysis import elapsed, explain, fit, measurements
from analysis.explain import NOT_EXPLAINED
from analysis.fit import FitError
from analysis.groups import GROUPS, NAMES
from sim import FILE_SERIES, MEASURED_ARCHES, WorldError

PART = {group.name: group.part for group in GROUPS}
SECONDS = {"base": 1.518, "references": 1.018, "unmap": 0.249}
MEASURED = (0, 1, 2, 4, 5, 7, 8)
STEPS = list(itertools.permutations(FILE_SERIES, 2))


def by_part(attribution):
    return attribution.parts.set_index("part")["value"]


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", range(10))
def test_parts_sum_to_the_difference_and_the_last_is_not_explained(arch, order):
    for before, after in STEPS:
        found = explain.explain(arch, order, before=before, after=after, metric="instructions")
        parts = found.parts
        assert parts["value"].sum() == pytest.approx(found.difference, abs=1e-3)
        assert found.difference == found.before_value - found.after_value
        assert list(parts["part"]).index(NOT_EXPLAINED) == len(parts) - 1
        assert found.not_explained == parts["value"].iloc[-1]
        assert set(parts["part"][:-1]) <= set(NAMES)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_pmd_mapped_folio_leaves_all_of_the_measured_difference_unexplained(arch):
    found = explain.explain(arch, 9, before="base", after="unmap", metric="instructions")
    assert list(found.parts["part"]) == [NOT_EXPLAINED]
    assert found.not_explained == found.difference
    assert abs(found.difference) < 0.01 * found.before_value


@pytest.mark.parametrize("order", range(1, 9))
def test_parts_of_the_published_times_sum_to_what_was_published(order):
    for before, after in itertools.permutations(SECONDS, 2):
        found = explain.explain("arm64", order, before=before, after=after, metric="time")
        assert (found.before_value, found.after_value) == (SECONDS[before], SECONDS[after])
        assert found.parts["value"].sum() == pytest.approx(SECONDS[before] - SECONDS[after])
        assert found.parts["part"].iloc[-1] == NOT_EXPLAINED
        assert (found.unit, found.basis) == ("s", "published")
        assert any(f"order {order} is assumed" in note for note in found.notes)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", MEASURED)
def test_totals_are_what_was_measured_where_the_order_was_run(arch, order):
    found = explain.explain(arch, order, metric="instructions")
    cells = measurements.plain_cells(arch, order)["instructions"]
    assert (found.before_value, found.after_value) == (cells["references"], cells["unmap"])
    assert found.basis.startswith("measured")


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [3, 6])
def test_totals_are_fitted_where_it_was_not_and_leave_nothing_unexplained(arch, order):
    found = explain.explain(arch, order, metric="instructions")
    assert found.basis.startswith("fitted")
    assert found.not_explained == pytest.approx(0, abs=1e-3)
    for kernel, value in (("references", found.before_value), ("unmap", found.after_value)):
        counts = elapsed.request_counts(arch, kernel, order)
        assert value == pytest.approx(counts @ fit.fit(arch).costs)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [4, 5, 7, 8])
def test_what_is_not_explained_is_small_where_the_batch_pays(arch, order):
    found = explain.explain(arch, order, metric="instructions")
    assert abs(found.not_explained) < 0.05 * found.difference


def test_batched_unmapping_of_x86_64_is_explained_by_unmapping_alone():
    parts = by_part(explain.explain("x86_64", 4, metric="instructions"))
    assert {PART[name] for name in parts.index[:-1]} == {"unmap"}
    assert parts["folio_remove_rmap_ptes"] > 0 > parts["get_and_clear_full_ptes"]


def test_batched_reference_checks_are_explained_by_the_check():
    parts = by_part(
        explain.explain("x86_64", 4, before="base", after="references", metric="instructions")
    )
    assert {PART[name] for name in parts.index[:-1]} == {"check"}


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_each_part_is_fewer_events_times_their_cost_with_its_interval(arch):
    model = fit.fit(arch)
    cells = measurements.plain_cells(arch, 4)
    old, new = (
        model.counts(fit.simulate_cell(cells.loc[kernel])) for kernel in ("references", "unmap")
    )
    found = explain.explain(arch, 4, metric="instructions").parts.set_index("part")
    for place in np.flatnonzero((old - new) * model.costs):
        row = found.loc[NAMES[place]]
        value = (old - new)[place] * model.costs[place]
        reach = 1.96 * abs((old - new)[place]) * np.sqrt(model.cov[place, place])
        assert row["value"] == pytest.approx(value)
        assert (row["low"], row["high"]) == pytest.approx((value - reach, value + reach))
    assert found.loc[NOT_EXPLAINED, ["low", "high"]].isna().all()
    sizes = found["value"].iloc[:-1].abs()
    assert sizes.is_monotonic_decreasing


def test_the_way_back_has_the_signs_turned():
    there = explain.explain("arm64", 5, metric="instructions")
    back = explain.explain("arm64", 5, before="unmap", after="references", metric="instructions")
    assert back.difference == -there.difference
    names = list(by_part(there).index)
    assert by_part(back)[names].to_numpy() == pytest.approx(-by_part(there).to_numpy())


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"metric": "speed"}, WorldError, "expected one of time, instructions"),
        ({"metric": ""}, WorldError, "expected one of time, instructions"),
        ({"before": "linux"}, WorldError, "expected one of base, references, unmap, unmap-only"),
        ({"after": "Unmap"}, WorldError, "expected one of base, references, unmap, unmap-only"),
        ({"order": 10}, WorldError, "expected 0 to 9"),
        ({"order": -1}, WorldError, "expected 0 to 9"),
        ({"arch": "riscv"}, FitError, "arm64, x86_64"),
        ({"metric": "time", "order": 0}, WorldError, "no batch can matter"),
        ({"metric": "time", "order": 9}, WorldError, "no batch can matter"),
        ({"metric": "time", "arch": "riscv"}, FitError, "arm64, x86_64"),
        (
            {"metric": "time", "before": "lazyfree-before"},
            WorldError,
            "expected one of lazyfree-before, lazyfree",
        ),
    ],
)
def test_a_question_without_an_answer_is_told_what_is_allowed(asked, error, told):
    question = {"arch": "arm64", "order": 4, "metric": "instructions"} | asked
    with pytest.raises(error) as caught:
        explain.explain(**question)
    assert told in str(caught.value)


@pytest.mark.parametrize("order", [2, 6])
def test_times_that_nobody_published_are_predicted_and_explained_whole(order):
    steps = [("x86_64", "references", "unmap"), ("arm64", "base", "unmap-only"),
             ("x86_64", "lazyfree-before", "lazyfree")]  # fmt: skip
    for arch, before, after in steps:
        found = explain.explain(arch, order, before=before, after=after, metric="time")
        assert found.basis.startswith("predicted for the")
        assert found.parts["value"].sum() == pytest.approx(found.difference)
        assert abs(found.not_explained) < 1e-6 * found.before_value
        assert found.difference > 0


def test_every_part_of_a_time_has_an_interval_around_it():
    parts = explain.explain("arm64", 6, before="base", after="unmap", metric="time").parts
    assert (parts["low"] <= parts["value"]).all()
    assert (parts["value"] <= parts["high"]).all()
    assert {"TLB wait", "atomic of a young bit", "folio_remove_rmap_ptes"} <= set(parts["part"])


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_shares_of_what_is_left_sum_to_1_largest_first(arch):
    shares = explain.leftover_instructions(arch, 6)
    assert shares["share"].sum() == pytest.approx(1)
    assert shares["share"].is_monotonic_decreasing
    assert (shares["share"] > 0).all()


def test_ids_tell_questions_apart():
    found = [
        explain.explain(arch, order, metric="instructions")
        for arch in MEASURED_ARCHES
        for order in (4, 5)
    ]
    assert len({one.id for one in found}) == 4
