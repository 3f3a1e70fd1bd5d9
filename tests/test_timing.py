# SPDX-License-Identifier: GPL-2.0-only
import time

import numpy as np
import pytest

from analysis import machines, timing
from analysis.stalls import TERM_NAMES, TERMS
from sim import World

HOST, SERVER = machines.host, machines.server


def row(machine, term):
    return timing.time_fit(machine()).table().set_index("term").loc[term]


@pytest.mark.parametrize("machine", [HOST, SERVER])
def test_a_table_holds_each_term_that_occurs_once_with_intervals_in_order(machine):
    table = timing.time_fit(machine()).table()
    assert table["term"].is_unique
    assert set(table["term"]) <= set(TERM_NAMES)
    for low, best, high in (("low", "best", "high"), ("prior_low", "prior", "prior_high")):
        assert (table[low] < table[best]).all()
        assert (table[best] < table[high]).all()
    assert table["from_prior"].between(0, 1).all()
    assert set(table["verdict"]) <= set(timing.VERDICTS)


def test_verdicts_of_the_host_are_what_madvise_can_tell():
    for term in ("unmap instructions", "rest instructions", "TLB invalidation"):
        assert row(HOST, term)["verdict"] == "measured"
        assert row(HOST, term)["from_prior"] < 0.1
    for term in ("check instructions", "TLB wait", "atomic of a young bit", "cold line of a page"):
        assert row(HOST, term)["verdict"] == "prior only"
    assert np.isinf(row(HOST, "TLB wait")["data_high"])
    assert "per-CPU add" not in timing.time_fit(HOST()).table()["term"].tolist()


def test_a_price_that_was_not_measured_follows_those_that_were():
    found = row(HOST, "check instructions")
    assert found["best"] < found["prior"]
    assert 0.1 < found["from_prior"] < 0.9


def test_the_flush_of_the_host_is_what_its_profile_says():
    begun, page = row(HOST, "flush_tlb_mm_range"), row(HOST, "TLB invalidation")
    whole = machines.host().observations[-1]
    assert (
        begun["low"] + page["low"]
        < whole.ns / (whole.map_bytes >> 12)
        < begun["high"] + page["high"]
    )


def test_five_numbers_do_not_measure_eleven_costs():
    costs = timing.time_fit(SERVER())
    assert costs.rank[0] <= 5 < costs.rank[1]
    assert "measured" not in set(costs.table()["verdict"])
    assert "bounded" in set(costs.table()["verdict"])


@pytest.mark.parametrize(("machine", "worst"), [(HOST, 0.1), (SERVER, 0.1)])
def test_observations_come_back(machine, worst):
    seen = timing.time_fit(machine()).observations()
    assert (seen["error"].abs() < worst).all()
    assert (seen["low"] <= seen["predicted"]).all()


def test_a_fit_takes_at_most_two_seconds():
    machine = machines.server()
    timing.time_fit(machine)  # simulates
    timing._FITS.clear()
    start = time.perf_counter()
    timing.time_fit(machine)
    assert time.perf_counter() - start < 2


def test_shares_of_memory_sum_to_one_and_single_orders_come_first():
    shares, weights = timing.mixtures(10)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert weights.sum() == pytest.approx(1)
    assert np.array_equal(shares[:10], np.eye(10))
    assert weights[:10].sum() == pytest.approx(0.5)


def test_a_mixture_counts_what_its_orders_count():
    # Events of a mixture are taken as those of its orders, by their shares of the memory.
    costs = timing.time_fit(SERVER())
    sizes = {"map_bytes": 1 << 30, "reclaim_bytes": 1 << 29}
    alone = [
        timing.request_terms("arm64", "base", order, costs.model, **sizes)[3:] for order in (5, 8)
    ]
    mixed = timing.simulated(
        World(**sizes, order=None, folios="5:0.5,8:0.5", cpus=2), "arm64", "base"
    )
    for place, term in enumerate(TERMS[3:]):
        expected = (alone[0][place] + alone[1][place]).sum() / 2
        if term.name in ("TLB wait", "cold lines of a folio") or not expected:
            continue
        assert sum(term.count(mixed, "deferred")) == pytest.approx(expected, rel=0.05), term.name


def test_a_fit_at_one_order_holds_that_order_alone():
    costs = timing.fit_at(machines.server(), 6)
    assert costs.machine.knows_orders
    assert costs.shares.shape == (1, 1)


def test_ids_tell_machines_apart():
    fits = [timing.time_fit(HOST()), timing.time_fit(SERVER()), timing.fit_at(SERVER(), 6)]
    assert len({one.id for one in fits}) == 3
