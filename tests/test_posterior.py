# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import posterior
from analysis.posterior import Problem


def problem(design, observed, noise=0.01, mean=1.0, spread=1.0, designs=None, weights=(1.0,)):
    designs = np.array([design]) if designs is None else np.array(designs, float)
    observed = np.array(observed, float)
    nr_terms = designs.shape[2]
    cov = np.eye(nr_terms) * spread**2
    return Problem(
        designs.astype(float), observed, noise * observed, np.full(nr_terms, mean), cov,
        np.array(weights),
    )  # fmt: skip


def test_costs_that_are_told_apart_come_back():
    design = np.vstack([np.eye(2), [[1, 1]]] * 4)
    found = problem(design, design @ [2.0, 5.0], spread=10.0).infer()
    assert np.median(found.costs, axis=0) == pytest.approx([2.0, 5.0], rel=0.03)
    assert found.model_error.mean() < 0.03


def test_a_cost_that_is_not_observed_keeps_its_prior():
    found = problem([[1, 0]], [2.0], mean=3.0).infer()
    assert found.costs[:, 1].mean() == pytest.approx(3.0, abs=0.1)
    assert found.costs[:, 1].std() == pytest.approx(1.0, abs=0.05)


def test_no_cost_is_negative():
    found = problem([[1, 0], [1, 1]], [2.0, 1.9], noise=0.1).infer()
    assert (found.costs >= 0).all()


def test_designs_are_weighed_by_how_well_they_fit():
    designs = [[[1, 0], [0, 1], [1, 1]], [[1, 0], [0, 1], [3, 3]]]
    asked = problem(None, [1.0, 1.0, 2.0], designs=designs, weights=(0.5, 0.5))
    assert asked.infer().weights[0] > 0.9
    alike = problem(None, [1.0, 1.0, 2.0], designs=[designs[0]] * 2, weights=(0.8, 0.2))
    assert alike.infer().weights[0] == pytest.approx(0.8, abs=0.03)


def test_draws_are_the_same_for_the_same_seed():
    asked = problem([[1, 1]], [2.0])
    assert np.array_equal(asked.infer(seed=3).costs, asked.infer(seed=3).costs)
    assert not np.array_equal(asked.infer(seed=3).costs, asked.infer(seed=4).costs)


def test_the_walk_and_exact_draws_agree():
    rng = np.random.default_rng(0)
    design = rng.uniform(0, 2, (6, 3))
    asked = problem(design, design @ [1.0, 0.2, 2.0] * (1 + 0.05 * rng.normal(size=6)))
    exact, walked = asked.infer(), asked._walk(np.ones(1), 2000, rng)
    for share in (10, 50, 90):
        ends = [np.percentile(one.costs, share, axis=0) for one in (exact, walked)]
        assert ends[0] == pytest.approx(ends[1], abs=0.1)


def test_times_that_contradict_the_model_still_get_costs_and_a_large_error():
    # More of both events took a tenth of the time.
    found = problem([[1, 0], [2, 1]], [100.0, 10.0], spread=5.0).infer()
    assert (found.costs >= 0).all()
    assert found.model_error.mean() > 0.15


def test_a_profile_by_hand():
    # 10 +- 1 of one cost: 1.96 either way; the other is not observed at all.
    design = np.array([[1.0, 0.0]])
    low, best, high = posterior.profile(design, np.array([10.0]), np.array([1.0]), 0)
    assert (low, best, high) == pytest.approx((10 - 3.84**0.5, 10, 10 + 3.84**0.5), abs=1e-3)
    low, best, high = posterior.profile(design, np.array([10.0]), np.array([1.0]), 1)
    assert (low, high) == (0.0, np.inf)
    assert np.isnan(best)


def test_a_profile_of_two_costs_that_go_together_is_bounded_above_alone():
    design = np.array([[1.0, 1.0], [2.0, 2.0]])
    low, _, high = posterior.profile(design, np.array([10.0, 20.0]), np.ones(2), 0)
    assert low == 0
    assert 10 < high < 12


def test_variance_inflation():
    design = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert np.isinf(posterior.variance_inflation(design, np.ones(3))).all()
    assert posterior.variance_inflation(design[:, :2], np.ones(3)) == pytest.approx([1, 1])
