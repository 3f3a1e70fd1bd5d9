# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import advise, elapsed, machines, timing


@pytest.fixture(scope="module")
def host():
    return timing.time_fit(machines.host())


@pytest.mark.parametrize("unpatched", [False, True])
def test_each_run_takes_something_off_what_is_left(host, unpatched):
    table = advise.advise(host, 6, unpatched=unpatched)
    assert len(table) == advise.NR_ADVISED
    assert (table["sd_after"] < table["sd_before"]).all()
    assert table["gain"].between(0, 1).all()
    assert (table["times"] >= 3).all()
    found = elapsed.reduction(host, "references", "unmap", 6)
    assert table["sd_before"].iloc[0] == pytest.approx(found.draws.std())


def test_with_the_changed_kernel_at_hand_it_is_what_to_run(host):
    first = advise.advise(host, 6).iloc[0]
    assert "memory.reclaim, file folios, kernel unmap" in first["run"]
    assert abs(first["order"] - 6) <= 1


def test_without_it_no_batched_kernel_is_advised_but_the_lazyfree_one(host):
    table = advise.advise(host, 6, unpatched=True)
    assert not table["run"].str.contains("kernel unmap").any()


def test_any_kernel_is_worth_at_least_as_much_as_the_unpatched_ones(host):
    every, few = (advise.advise(host, 6, unpatched=one).iloc[0] for one in (False, True))
    assert every["gain"] >= few["gain"] - 1e-9


def test_candidates_are_kernels_workloads_and_orders_that_batches_reach():
    found = advise.candidates("x86_64", "references")
    assert {one.order for one in found} == set(range(9))
    assert {one.kernel for one in found if one.unpatched} == {"base", "references", "lazyfree"}
    assert len({(one.kernel, one.kind, one.order) for one in found}) == len(found)


def test_a_run_that_shows_the_answer_itself_would_leave_its_noise_alone():
    # How often: until noise is a tenth of what the run can show.
    assert advise._times(variance=0.04, noise=0.0036) == 3
    assert advise._times(variance=0.0036, noise=0.0036) == 9
    assert advise._times(variance=1e-9, noise=0.0036) == advise.MOST_RUNS


def test_the_text_is_a_table_of_at_most_100_columns(host):
    told = advise.to_text(advise.advise(host, 6), "what?")
    assert told.startswith("what?")
    assert "1. memory.reclaim" in told
    assert max(map(len, told.splitlines())) <= 100


def test_a_run_is_worth_what_conditioning_the_draws_on_it_takes_off(host):
    # The linear gain of the first run against the spread among draws that show the same time.
    row = advise.advise(host, 6).iloc[0]
    draws = elapsed.reduction(host, "references", "unmap", 6).draws
    run = advise.Candidate("unmap", int(row["order"]), "reclaim", "file", unpatched=False)
    shown = advise._ns(host, run)
    place = np.argsort(shown)
    within = np.mean([draws[part].var() for part in np.array_split(place, 20)])
    assert within < draws.var()
    assert row["sd_after"] == pytest.approx(np.sqrt(within), rel=0.35)
