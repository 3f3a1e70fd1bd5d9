# SPDX-License-Identifier: GPL-2.0-only
"""What a further change could save: counted by hand, never more than there is."""

import re

import pytest

from analysis import elapsed, fit, whatif
from analysis.groups import NAMES, group_counts
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
        assert {less.group for less in row.less} <= set(NAMES)
        assert all(low <= best <= high for low, best, high in (x.share for x in row.less))
    assert len({row.name for row in WHATIFS}) == len(WHATIFS)


@pytest.mark.parametrize("order", [-1, 9, 12])
def test_an_order_that_no_pte_maps_is_refused(order):
    with pytest.raises(WorldError, match="expected 0 to 8"):
        whatif.whatif("x86_64", order)
