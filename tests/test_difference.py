# SPDX-License-Identifier: GPL-2.0-only
"""The test behind `reclaim compare`: its rates on the host's runs and on noise that is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from analysis.difference import difference, order_of, p_value, rejected
from analysis.measurements import DATA

AA = pd.read_csv(DATA / "host" / "aa_runs.csv")
REPEATS = 400
MOST = 0.093  # a rate of 6%, and three errors of as many repeats


def remembering(r, size):
    def noise(choose):
        steps = choose.normal(size=size)
        steps[0] /= math.sqrt(1 - r * r)
        return 0.02 * signal.lfilter([1], [1, -r], steps)

    return noise


def rate(noise, labels):
    choose = np.random.default_rng(0)
    return np.mean([p_value(noise(choose), labels) < 0.05 for _ in range(REPEATS)])


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_identical_runs_in_sequence_differ_in_at_most_6_percent(column):
    assert rejected(AA[column], "sequence") <= 0.06


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_welch_and_mann_whitney_find_differences_that_are_not_there(column):
    logs = np.log(AA[column].to_numpy())
    windows = [logs[start : start + 20] for start in range(481)]
    welch = [stats.ttest_ind(w[:10], w[10:], equal_var=False).pvalue < 0.05 for w in windows]
    ranks = [stats.mannwhitneyu(w[:10], w[10:]).pvalue < 0.05 for w in windows]
    assert np.mean(welch) > 0.12
    assert np.mean(ranks) > 0.22


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
@pytest.mark.parametrize("design", ["alternating", "paired"])
def test_interleaved_runs_have_the_nominal_rate_and_the_power(column, design):
    assert rejected(AA[column], design) <= 0.06
    assert rejected(AA["cpu_s"], design) >= 0.04
    assert rejected(AA[column], design, effect=0.05) >= 0.9


@pytest.mark.parametrize("r", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("per_side", [4, 10, 20])
def test_sequences_keep_the_rate_whatever_the_noise_remembers(r, per_side):
    labels = np.arange(2 * per_side) >= per_side
    assert rate(remembering(r, 2 * per_side), labels) <= MOST


@pytest.mark.parametrize("order", ["AB", "ABBA", "AABB", "AAABBB", "ABBABAAB", "BAABABABAA"])
@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
def test_every_other_order_keeps_the_rate(order, r):
    labels = np.array([side == "B" for side in (order * 20)[:20]])
    assert rate(remembering(r, 20), labels) <= MOST


def test_a_bent_drift_is_no_difference_where_sides_alternate():
    wave = np.linspace(0, 2 * math.pi, 40)

    def noise(choose):
        return choose.normal(size=40) + 1.5 * np.sin(wave + choose.uniform(0, 2 * math.pi))

    assert rate(noise, np.arange(40) % 2 == 1) <= MOST


@pytest.mark.parametrize("labels", [np.arange(20) >= 10, np.arange(20) % 2 == 1])
def test_a_straight_drift_is_no_difference(labels):
    line = np.linspace(0, 6, 20)
    assert rate(lambda choose: choose.normal(size=20) + line, labels) <= MOST


def test_a_second_mode_is_not_pulled_in_as_if_it_were_outliers():
    def modes(choose):
        return 0.3 * choose.normal(size=20) + 2 * choose.integers(0, 2, 20)

    assert rate(modes, np.arange(20) % 2 == 1) <= MOST


def test_what_the_order_of_the_sides_is_called():
    orders = {"AAABBB": "sequence", "BBA": "sequence", "AB": "sequence", "ABABAB": "alternating"}
    orders |= {"ABBAAB": "paired", "ABBAB": "mixed", "AABBAA": "mixed"}
    for order, name in orders.items():
        assert order_of(np.array([side == "B" for side in order])) == name


def test_the_interval_covers_the_difference_and_agrees_with_p():
    hits, labels, noise = [], np.arange(20) % 2 == 1, remembering(0.0, 20)
    for seed in range(200):
        found = difference(noise(np.random.default_rng(seed)) + 0.05 * labels, labels)
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
        assert found.low < found.best < found.high
        hits.append(found.low <= 0.05 <= found.high)
    assert 0.9 < np.mean(hits) < 0.99


@pytest.mark.parametrize("labels", [np.arange(20) % 2 == 1, np.arange(20) >= 10])
def test_the_smallest_effect_told_is_found_four_times_of_five(labels):
    hits, noise = [], remembering(0.5, 20)
    for seed in range(300):
        values = noise(np.random.default_rng(seed))
        smallest = difference(values, labels).detectable
        hits.append(p_value(values + labels * smallest, labels) < 0.05)
    assert 0.73 < np.mean(hits) < 0.88


def test_swapped_sides_have_the_opposite_difference():
    values, labels = remembering(0.5, 21)(np.random.default_rng(7)), np.arange(21) % 2 == 1
    one, other = difference(values, labels), difference(values, ~labels)
    assert one.p == pytest.approx(other.p)
    assert (one.low, one.best) == pytest.approx((-other.high, -other.best))


@pytest.mark.parametrize("nr_least", [2, 3])
def test_few_runs_tell_nothing(nr_least):
    labels = np.arange(12) < nr_least
    found = difference(np.arange(12.0), labels)
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)
    assert found.detectable == math.inf


def test_runs_that_nearly_all_tie_have_a_finite_interval():
    values = np.zeros(12)
    values[[3, 8, 10]] = 0.01
    found = difference(values, np.arange(12) % 2 == 1)
    assert math.isfinite(found.high)


def test_many_runs_are_averaged_and_still_told_apart():
    values, labels = np.random.default_rng(0).normal(size=20000), np.arange(20000) % 2 == 1
    found = difference(values, labels)
    assert found.low < 0 < found.high
    assert found.detectable < 0.1
    assert p_value(values + 0.2 * labels, labels) < 0.001
