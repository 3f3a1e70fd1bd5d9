# SPDX-License-Identifier: GPL-2.0-only
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.interval import Interval, speedup_of

reductions = st.lists(st.floats(-100, 1), min_size=3, max_size=3).map(
    lambda three: Interval(*sorted(three))
)


@pytest.mark.parametrize(
    ("reduction", "speedup"),
    [(0.0, 1.0), (0.75, 4.0), (0.5, 2.0), (-1.0, 0.5), (1 - 0.249 / 1.018, 1.018 / 0.249)],
)
def test_a_speedup_is_before_over_after(reduction, speedup):
    assert speedup_of(reduction) == pytest.approx(speedup, rel=1e-12)


@pytest.mark.parametrize("reduction", [1.0, 1.5])
def test_no_time_left_is_a_speedup_without_bound(reduction):
    assert speedup_of(reduction) == math.inf


@given(reductions)
def test_a_rising_or_falling_function_keeps_the_ends_in_order(reduction):
    rising = reduction.map(speedup_of)
    assert rising.low <= rising.best <= rising.high
    assert rising.best == speedup_of(reduction.best)
    falling = reduction.map(lambda value: -value)
    assert falling == (-reduction.high, -reduction.best, -reduction.low)


def test_text_is_the_best_value_then_the_range():
    reduction = Interval(0.492, 0.581, 0.657)
    assert reduction.percent() == "58% (49% to 66%)"
    assert reduction.percent(1) == "58.1% (49.2% to 65.7%)"
    assert Interval(2.0, 2.4, 2.875).times(1) == "2.4x (2.0x to 2.9x)"


def test_what_is_known_exactly_has_no_range():
    assert Interval(0.0, 0.0, 0.0).percent(1) == "0.0%"
    assert Interval(1.0, 1.0, 1.0).times() == "1.00x"
