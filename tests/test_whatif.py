# SPDX-License-Identifier: GPL-2.0-only
"""What a further change could save: counted by hand, never more than there is."""

import re

import numpy as np
import pytest

from analysis import elapsed, fit, machines, timing, whatif
from analysis.groups import NAMES, PARTS, group_counts
from analysis.stalls import TERM_NAMES, terms_of
from analysis.whatif import WHATIFS, Less, WhatIf
from sim import MEASURED_ARCHES, WorldError


def saved(arch, order, row):
    return whatif.whatif(arch, order, (row,))["saved"].iloc[0]


def row_of(*less):
    return WhatIf("name", "what", less, "mm/rmap.c, 7.2")


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", range(9))
def test_rows_are_ranked_and_save_no_more_than_everything(arch, order):
    found = whatif.whatif(arch, order)
    best = [interval.best for interval in found["saved"]]
    assert best == sorted(best, reverse=True)
    for interval in found["saved"]:
        assert 0 <= interval.low <= interval.best <= interval.high < 1


def test_a_change_saves_its_groups_share_of_todays_instructions():
    events = elapsed.request_events("x86_64", "unmap", 4)
    model = fit.fit("x86_64")
    priced = dict(zip(NAMES, group_counts(events) * model.costs, strict=True))
    found = saved("x86_64", 4, row_of(Less("free_tail_page_prepare")))
    assert found.best == pytest.approx(
        priced["free_tail_page_prepare"] / sum(priced.values()), rel=1e-9
    )
    assert found.low < found.best < found.high
    half = saved("x86_64", 4, row_of(Less("free_tail_page_prepare", share=(0.0, 0.5, 1.0))))
    assert half.best == pytest.approx(found.best / 2)
    assert (half.low, half.high) == (0.0, pytest.approx(found.high))


def test_what_is_kept_is_not_saved():
    # A folio of 16 pages has 16 slots: with one left, 15 of 16 are saved.
    every = saved("x86_64", 4, row_of(Less("xas_store")))
    one_left = saved("x86_64", 4, row_of(Less("xas_store", keeps=whatif.folios_freed)))
    assert one_left.best == pytest.approx(15 / 16 * every.best)
    assert saved("x86_64", 0, row_of(Less("xas_store", keeps=whatif.folios_freed))).best == 0


def test_quanta_of_folios_are_as_many_fewer_as_a_quantum_has_fewer_folios():
    every = saved("arm64", 4, row_of(Less("shrink_folio_list")))
    fewer = row_of(Less("shrink_folio_list", keeps=whatif.quanta_of_32_folios))
    assert saved("arm64", 4, fewer).best == pytest.approx(every.best * (1 - 2 / 32))
    assert saved("arm64", 0, fewer).best == 0


def test_a_change_is_ranked_only_where_it_makes_sense():
    names = {arch: set(whatif.whatif(arch, 4)["name"]) for arch in MEASURED_ARCHES}
    assert names["x86_64"] - names["arm64"] == {"young bits in one call", "batches not sized"}
    assert not names["arm64"] - names["x86_64"]


def test_every_row_cites_code_and_names_groups():
    for row in WHATIFS:
        assert re.search(r"(mm|include|lib)/\S+\.[ch]: \w+\(\)", row.changes)
        assert "7.2" in row.changes
        assert {less.of for less in row.less} <= {*NAMES, *TERM_NAMES}
        assert all(low <= best <= high for low, best, high in (x.share for x in row.less))
    assert len({row.name for row in WHATIFS}) == len(WHATIFS)


@pytest.mark.parametrize("order", [-1, 9, 12])
def test_an_order_that_no_pte_maps_is_refused(order):
    with pytest.raises(WorldError, match="expected 0 to 8"):
        whatif.whatif("x86_64", order)


def in_time(arch, order, *less):
    costs = timing.time_fit(machines.reference(arch))
    return costs, whatif.in_time(costs, order, (row_of(*less),))["saved"].iloc[0]


def test_in_time_a_change_saves_instructions_at_the_price_of_their_part():
    costs, found = in_time("arm64", 4, Less("free_tail_page_prepare"))
    events = timing.request("arm64", "unmap", 4)
    drawn = costs.posterior.costs
    place = NAMES.index("free_tail_page_prepare")
    instructions = group_counts(events)[place] * costs.model.costs[place]
    total = drawn @ terms_of(events, costs.model).sum(axis=1)
    share = drawn[:, PARTS.index("rest")] * instructions / total
    assert found == pytest.approx(np.percentile(share, (2.5, 50, 97.5)))


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [0, 4, 8])
def test_in_time_a_stall_saves_its_share_and_no_more_than_there_is(arch, order):
    for term in TERM_NAMES[len(PARTS) :]:
        _, found = in_time(arch, order, Less(term))
        assert 0 <= found.low <= found.best <= found.high < 1
        _, half = in_time(arch, order, Less(term, share=(0.5, 0.5, 0.5)))
        assert half == pytest.approx([end / 2 for end in found])
    _, adds = in_time(arch, order, Less("per-CPU add"))
    assert (adds.best > 0) == (arch == "arm64")


def test_in_time_larger_quanta_save_what_their_flushes_wait():
    instructions = Less("shrink_folio_list", keeps=whatif.quanta_of_32_folios)
    waits = Less("TLB wait", keeps=whatif.waits_of_32_folios)
    (_, alone), (_, both) = (
        in_time("x86_64", 6, *row) for row in ((instructions,), (instructions, waits))
    )
    assert both.best > alone.best
    # A small folio's quantum is of 32 already.
    assert in_time("x86_64", 0, instructions, waits)[1] == (0, 0, 0)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_in_time_rows_are_ranked_and_have_the_widest_interval_where_costs_are_least_known(arch):
    costs = timing.time_fit(machines.reference(arch))
    found = whatif.in_time(costs, 4)
    best = [interval.best for interval in found["saved"]]
    assert best == sorted(best, reverse=True)
    counted = {row.name: row.saved for row in whatif.whatif(arch, 4).itertuples()}
    assert set(counted) == set(found["name"])
    for row in found.itertuples():
        width = counted[row.name].high - counted[row.name].low
        assert row.saved.high - row.saved.low > width or row.saved.high < 0.01


@pytest.mark.parametrize("order", [-1, 9])
def test_in_time_an_order_that_no_pte_maps_is_refused(order):
    costs = timing.time_fit(machines.reference("arm64"))
    with pytest.raises(WorldError, match="expected 0 to 8"):
        whatif.in_time(costs, order)
