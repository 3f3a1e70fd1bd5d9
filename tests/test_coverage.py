# SPDX-License-Identifier: GPL-2.0-only
import time

import numpy as np
import pytest

from analysis import coverage, machines


@pytest.fixture(scope="module")
def table():
    start = time.perf_counter()
    found = coverage.coverage(120)
    found.attrs["seconds"] = time.perf_counter() - start
    return found


def test_intervals_cover_what_they_say(table):
    # 120 sets: one standard deviation is 2%; the 500 of the command have 1%.
    assert table["covered"].between(0.88, 1).all()
    assert 0.93 <= table["covered"].mean() <= 0.97


def test_five_hundred_take_at_most_a_minute(table):
    assert table.attrs["seconds"] * 500 / 120 < 60


def test_what_is_covered_is_each_cost_and_the_reductions(table):
    reductions = [name for name in table["quantity"] if name.startswith("elapsed reduction")]
    assert len(reductions) == len(coverage.ORDERS)
    assert len(table) > len(reductions) + 5
    assert (table["width"] > 0).all()
    assert (table["n"] == 120).all()


def test_made_up_noise_repeats_and_scatters_as_the_real_runs_do():
    noise = coverage._noise(50_000, np.random.default_rng(0))
    spread, again = machines.run_noise()
    assert noise.std() == pytest.approx(spread, rel=0.05)
    assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(again, abs=0.03)
    assert np.median(noise) == pytest.approx(0, abs=0.005)


def test_the_text_says_how_many_are_within(table):
    told = coverage.to_text(table)
    assert "120 made-up machines" in told
    assert all(len(line) <= 100 for line in told.splitlines())


def test_the_same_seed_makes_the_same_table():
    assert coverage.coverage(3, seed=1).equals(coverage.coverage(3, seed=1))
