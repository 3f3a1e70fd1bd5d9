# SPDX-License-Identifier: GPL-2.0-only
import pytest

from analysis import folio_sizes, machines, timing


@pytest.fixture(scope="module")
def table():
    return folio_sizes.posterior().set_index("order")


def test_shares_sum_to_one_and_grow_towards_small_orders(table):
    assert table["share"].sum() == pytest.approx(1)
    assert table["prior"].sum() == pytest.approx(1)
    assert table["at_least"].iloc[0] == pytest.approx(1)
    assert table["at_least"].is_monotonic_decreasing
    assert table["alone"].max() == 1


def test_small_folios_and_huge_ones_alone_are_ruled_out(table):
    assert (table["alone"].loc[[0, 1, 2, 3, 9]] < 0.01).all()
    assert (table["high"].loc[:3] < 0.1).all()
    assert table["at_least_low"].loc[4] > 0.8


def test_consistent_orders_are_the_likely_ones_and_the_sentence_names_them(table):
    orders = folio_sizes.consistent_orders()
    assert list(orders) == list(table.index[table["alone"] >= folio_sizes.LEAST_LIKELY])
    sentence = folio_sizes.order_sentence()
    for told in ("1.518", "1.018", "0.249", "35%", "5%", f"order {orders[0]} to {orders[-1]}"):
        assert told in sentence
    assert "rule out" in sentence


def test_orders_that_are_known_are_not_inferred():
    with pytest.raises(ValueError, match="orders are known"):
        folio_sizes.posterior(timing.time_fit(machines.host()))
