# SPDX-License-Identifier: GPL-2.0-only
"""lru_gen: a tiny world by hand, and what holds in every world."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.layout import lay_out
from sim.reclaim import walk
from sim.state import NR_PAGES, PTE_PRESENT, Count

pytestmark = pytest.mark.core

PAGE = 4096


def events(nr_folios, request_pages, *, order=0, arch="x86_64", kernel="base", **world):
    world = sim.World(
        map_bytes=nr_folios * PAGE << order,
        reclaim_bytes=request_pages * PAGE,
        order=order,
        **world,
    )
    return sim.reclaim(world, arch, kernel, "mglru")


def test_two_small_folios_by_hand():
    # Priorities 12 to 2 have nothing to scan: 2 >> 2 is 0.
    # Priority 1 scans one folio: young and referenced, it is activated into the second youngest
    # generation; its window of two PTEs shows folio 1 young, which is promoted in place.
    # Priority 0 scans up to two: folio 1 only moves to the youngest generation, whose two older
    # ones are empty and retire; a new one is opened after a walk of the page table, two PTEs;
    # folio 0 is the oldest then, old, and is freed.
    found = events(2, 1)
    expected = {
        Count.PGSCAN: 2,
        Count.PGSTEAL: 1,
        Count.PGREFILL: 1,
        Count.TRY_TO_FREE_MEM_CGROUP_PAGES: 1,
        Count.SHRINK_NODE: 13,
        Count.EVICT_FOLIOS: 3,
        Count.INC_MAX_SEQ: 1,
        Count.LRU_GEN_LOOK_AROUND: 2,
        Count.GET_PTE_PFN: 2 + 2,
        Count.PTES_AGED: 2,
        Count.GET_PFN_FOLIO: 1,
        Count.LRU_GEN_SET_REFS: 1,
        Count.RESET_BATCH_SIZE: 1,
        Count.SHRINK_FOLIO_LIST: 2,
    }
    assert {count: found[count] for count in expected} == expected


def test_a_page_alone_in_its_mapping_has_no_window():
    found = events(1, 1)
    assert found[Count.GET_PTE_PFN] == found[Count.PTES_AGED] == 1


@given(
    order=st.integers(0, 9),
    folios=st.integers(1, 40),
    share=st.floats(0.01, 1.5),
    arch=st.sampled_from(sim.MEASURED_ARCHES),
    kernel=st.sampled_from(sim.FILE_SERIES),
    access=st.sampled_from(sim.ACCESSES),
)
@settings(max_examples=60, deadline=None)
def test_folios_are_freed_once_or_stay_on_one_list(order, folios, share, arch, kernel, access):
    folios = min(folios, 2048 >> order) or 1
    request = max(1, int(share * folios) << order)
    world = sim.World(
        map_bytes=folios * PAGE << order, reclaim_bytes=request * PAGE, order=order, access=access
    )
    memory = lay_out(world, sim.ARCHES[arch], "mglru")
    counts, result = walk(world, memory, arch, sim.KERNELS[kernel], "mglru")
    listed = int(memory.lrugen.lists[:, NR_PAGES].sum())
    assert listed + counts[Count.PGSTEAL] == folios << order
    slots = memory.ptes[:: 1 << order] & PTE_PRESENT
    assert np.count_nonzero(slots) << order == listed
    assert (result == 0) == (counts[Count.PGSTEAL] >= request)


@pytest.mark.parametrize("order", [0, 9])
@pytest.mark.parametrize("arch", sim.MEASURED_ARCHES)
def test_what_has_no_batch_to_make_feels_no_batching(order, arch):
    found = {
        kernel: events(6, 512, order=order, arch=arch, kernel=kernel) for kernel in sim.FILE_SERIES
    }
    assert len({tuple(each.counts.values()) for each in found.values()}) == 1
