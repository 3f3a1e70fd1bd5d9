# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import elapsed, fit, machines, measurements, timing
from sim import FILE_SERIES, World, reclaim

SECONDS = {"base": 1.518, "references": 1.018, "unmap": 0.249}


def instructions(kernel, order, arch="arm64"):
    world = World(map_bytes=10 << 30, reclaim_bytes=8 << 30, order=order)
    return fit.fit(arch).instructions(reclaim(world, arch, kernel))


def test_the_published_seconds_are_those_of_the_series():
    assert elapsed.published_seconds() == SECONDS
    assert elapsed.published_seconds("sys") == SECONDS
    assert set(elapsed.published_seconds("user").values()) == {0.0}
    assert elapsed.published_check_share() == (0.35, 0.05)


SERVER, HOST = machines.server, machines.host
STEPS = [("references", "unmap"), ("base", "references"), ("base", "unmap")]


def reduction(machine, order, step=STEPS[0], **options):
    return elapsed.reduction(timing.time_fit(machine()), *step, order, **options)


@pytest.mark.parametrize("machine", [SERVER, HOST])
@pytest.mark.parametrize("order", range(1, 9))
def test_a_batch_of_unmapping_saves_and_takes_time_itself(machine, order):
    found = reduction(machine, order)
    assert 0 < found.interval.low < found.interval.best < found.interval.high < 1
    assert 0 < found.after_s < found.before_s


@pytest.mark.parametrize("machine", [SERVER, HOST])
def test_kernels_alike_save_nothing_whatever_the_model_errs_by(machine):
    for order in (0, 9):
        assert reduction(machine, order).draws == pytest.approx(0, abs=1e-12)
    assert reduction(machine, 4, ("unmap", "unmap")).parameter_sd == 0


def test_a_reduction_by_hand():
    costs = timing.time_fit(HOST())
    terms = [
        elapsed.request_terms(costs, kernel, 6, "own").sum(axis=1)
        for kernel in ("references", "unmap")
    ]
    old, new = (costs.posterior.costs @ each for each in terms)
    found = reduction(HOST, 6, flushes=("own",))
    assert found.costs_only == pytest.approx(1 - new / old)
    assert found.parameter_sd == pytest.approx(np.std(1 - new / old))
    assert found.before_s == pytest.approx(np.median(old) * 1e-9)
    assert found.interval.best == pytest.approx(np.median(found.draws))


def test_what_is_not_known_stays_apart():
    found = reduction(HOST, 6)
    total = found.draws.std()
    assert np.hypot(found.parameter_sd, found.model_sd) == pytest.approx(total)
    noise = machines.run_noise()[0]
    assert found.noise_sd == pytest.approx((1 - found.interval.best) * np.sqrt(2) * noise)


def test_half_of_the_draws_take_either_way_of_flushing():
    both = reduction(HOST, 6).costs_only
    one, other = (
        reduction(HOST, 6, flushes=(way,)).costs_only for way in ("deferred", "elsewhere")
    )
    assert np.array_equal(both[::2], one[::2])
    assert np.array_equal(both[1::2], other[1::2])


def test_a_flush_at_each_removal_makes_batches_save_more():
    own, elsewhere = (reduction(HOST, 4, flushes=(way,)).interval for way in ("own", "elsewhere"))
    assert own.best > elsewhere.best + 0.05


def test_the_published_times_come_back_with_their_costs():
    costs = timing.time_fit(SERVER())
    seen = costs.observations()
    assert (seen["low"] < seen["ns"]).all()
    assert (seen["ns"] < seen["high"]).all()


def test_the_published_lazyfree_series_lies_within_its_interval():
    found = reduction(HOST, 4, ("lazyfree-before", "lazyfree"), workload="lazyfree")
    row = measurements.load("published/lazyfree.csv").iloc[0]
    middle = [np.mean([row[f"{side}_low"], row[f"{side}_high"]]) for side in ("before", "after")]
    assert found.interval.low < 1 - middle[1] / middle[0] < found.interval.high


def test_assumptions_say_what_is_prior_only_and_what_the_interval_holds():
    costs = timing.time_fit(HOST())
    told = "; ".join(elapsed.assumptions(costs, reduction(HOST, 4), ("deferred",)))
    for said in ("prior only: check instructions", "not in it", "TLB flush deferred"):
        assert said in told


def test_request_counts_price_to_what_the_model_says_of_the_request():
    for kernel in FILE_SERIES:
        priced = elapsed.request_counts("arm64", kernel, 4) @ fit.fit("arm64").costs
        assert priced == pytest.approx(instructions(kernel, 4))
