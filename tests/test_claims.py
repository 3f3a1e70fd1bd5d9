# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import claims, elapsed, machines, timing


@pytest.fixture(scope="module")
def table():
    return claims.score()


def test_each_claim_has_a_row_a_size_and_one_of_the_sizes_as_on_arm64(table):
    sized = table[table["claim"].str.endswith("+")].groupby("claim")["size"].apply(list)
    assert set(sized.index) == {"10%+", "50%+"}
    for sizes in sized:
        assert len(sizes) == len(claims.ORDERS) + 1
        assert sizes[-1] == claims.AS_ON_ARM64
    assert table["claim"].str.startswith("2.5x").sum() == 1


def test_a_claim_holds_in_the_share_of_draws_that_reach_it(table):
    costs = timing.time_fit(machines.host())
    draws = elapsed.reduction(costs, "references", "unmap", 8).draws
    row = table[(table["claim"] == "50%+") & (table["size"] == "1 MiB")].iloc[0]
    assert row["holds"] == pytest.approx(np.mean(draws >= 0.5))
    assert row["best"] == pytest.approx(np.median(draws))


def test_the_lazyfree_claim_lies_within_its_interval(table):
    row = table[table["claim"].str.startswith("2.5x")].iloc[0]
    assert row["holds"] == 1
    assert row["low"] < 0.578 < row["high"]


def test_larger_folios_make_a_claim_likelier(table):
    for claim in ("10%+", "50%+"):
        holds = table[table["claim"] == claim]["holds"].iloc[:-1]
        assert holds.is_monotonic_increasing


def test_the_text_names_sources(table):
    told = claims.to_text(table)
    for said in ("a67fe41e214f", "354dffd29575", "within the interval", "as on arm64"):
        assert said in told
    assert max(map(len, told.splitlines())) <= 100
