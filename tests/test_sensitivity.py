# SPDX-License-Identifier: GPL-2.0-only
import pytest

from analysis import elapsed, machines, sensitivity, timing


@pytest.fixture(scope="module", params=["server", "host"])
def costs(request):
    return timing.time_fit(getattr(machines, request.param)())


def test_the_widest_comes_first_and_swings_are_between_the_ends(costs):
    table = sensitivity.tornado(costs, 6)
    assert table["swing"].is_monotonic_decreasing
    assert table["swing"].tolist() == pytest.approx((table["high"] - table["low"]).abs().tolist())
    best = elapsed.reduction(costs, "references", "unmap", 6).interval.best
    assert (table["best"] == best).all()
    assert table["assumption"].is_unique


def test_every_cost_that_occurs_is_an_assumption(costs):
    table = sensitivity.tornado(costs, 6)
    assert set(costs.table()["term"]) <= set(table["assumption"])
    assert {"folio size", "processes that map", "form of the model"} <= set(table["assumption"])


def test_larger_folios_save_more(costs):
    row = sensitivity.tornado(costs, 6).set_index("assumption").loc["folio size"]
    assert (row["at_low"], row["at_high"]) == ("128 KiB", "512 KiB")
    assert row["low"] < row["best"] < row["high"]


def test_only_x86_64_may_flush_this_way_or_that():
    tables = [
        sensitivity.tornado(timing.time_fit(machine()), 6)
        for machine in (machines.server, machines.host)
    ]
    flushed = [(table["assumption"] == "TLB flush").sum() for table in tables]
    assert flushed == [0, 1]


def test_the_text_fits_a_terminal(costs):
    told = sensitivity.to_text(sensitivity.tornado(costs, 8), "what?")
    assert max(map(len, told.splitlines())) <= 100
    assert told.splitlines()[-1].startswith("best guess")
