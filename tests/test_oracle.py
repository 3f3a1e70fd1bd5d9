# SPDX-License-Identifier: GPL-2.0-only
"""Random worlds: `sim` and the naive oracle agree on each count and on the memory left behind."""

import numpy as np
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sim
from sim.reclaim import lay_out, walk
from sim.state import (
    ACTIVE,
    NR_EXTENTS,
    NR_PAGES,
    OLDEST,
    PTE_CONT,
    PTE_PRESENT,
    PTE_YOUNG,
    REFERENCED,
    WORKINGSET,
    Count,
)

pytestmark = pytest.mark.core

PAGE = 4096
PMD_ORDER = 9
MOST_PAGES = 600
# Counted by both, though no function of that name is called.
INNER = (Count.PGSCAN, Count.PGSTEAL, Count.PGREFILL, Count.YOUNG_PTE_OPS, Count.YOUNG_TLBI)

machines = {
    "arch": st.sampled_from(sorted(sim.ARCHES)),
    "kernel": st.sampled_from(sorted(sim.KERNELS)),
}


@st.composite
def worlds(draw):
    order = draw(st.integers(0, 9))
    nr_pages = 1 << order
    # A PMD leaf is one entry, however many pages it maps: many of them are no work.
    most = 48 if order == PMD_ORDER else max(3, MOST_PAGES // nr_pages)
    nr_folios = draw(st.integers(1, most))
    file_pages = nr_folios * nr_pages
    # Bytes beyond the last whole folio are left unmapped. Only a request of more than four files
    # makes one scan run on after its list is empty.
    odd_bytes = draw(st.integers(0, nr_pages * PAGE - 1))
    return sim.World(
        map_bytes=file_pages * PAGE + odd_bytes,
        reclaim_bytes=PAGE * draw(st.integers(1, 8 * file_pages)) + draw(st.integers(0, PAGE - 1)),
        order=order,
        access=draw(st.sampled_from(sim.ACCESSES)),
        mapped_by=draw(st.integers(1, 3)),
        cpus=draw(st.integers(1, 2)),
    )


def simulated(world, arch, kernel, memory):
    counts, result = walk(world, memory, arch, kernel)
    named = {count.name: counts[count] for count in Count}
    events = sim.Events(world, arch, kernel, "classic", named, result)
    inner = {count.name.lower(): events[count] for count in INNER if events[count]}
    return result, events.functions() | inner


def oldest_first(lru):
    oldest, nr = lru.state[OLDEST], lru.state[NR_EXTENTS]
    extents = [lru.extents[(oldest + i) % len(lru.extents)] for i in range(nr)]
    return [folio for first, end in extents for folio in range(first, end)]


def assert_same_memory(memory, outcome, order):
    nr_pages = 1 << order
    entries = [space.pmds | space.ptes for space in outcome.spaces]
    step = nr_pages if order == PMD_ORDER else 1  # a PMD leaf sits in the slot of its first page
    for found, expected in zip(memory.ptes, entries, strict=True):
        flags = [0] * len(found)
        for page, entry in expected.items():
            flags[page] = PTE_PRESENT | PTE_YOUNG * entry.young | PTE_CONT * entry.cont
        assert found[::step].tolist() == flags[::step]
    for lru, folios in (
        (memory.lruvec.inactive, outcome.inactive),
        (memory.lruvec.active, outcome.active),
    ):
        assert oldest_first(lru) == [folio.first // nr_pages for folio in folios]
        assert lru.state[NR_PAGES] == len(folios) * nr_pages
    flags = [
        (REFERENCED * folio.referenced | ACTIVE * folio.active | WORKINGSET * folio.workingset)
        if folio.refs
        else 0
        for folio in outcome.folios
    ]
    assert memory.folio_flags.tolist() == flags


# A scan that goes on after its list has run empty: most random worlds never get there.
OVERSCAN = sim.World(map_bytes=20 * PAGE << 9, reclaim_bytes=100 * PAGE << 9, order=9)


@given(world=worlds(), **machines)
@example(world=OVERSCAN, arch="x86_64", kernel="unmap")
@settings(max_examples=250, deadline=None)
def test_a_request_after_the_workload(world, arch, kernel):
    memory = lay_out(world, sim.ARCHES[arch])
    result, hits = simulated(world, arch, kernel, memory)
    outcome = oracle.simulate(world, arch, kernel)
    assert result == outcome.result
    assert hits == outcome.hits
    assert_same_memory(memory, outcome, world.order)


def shuffle_memory(memory, young, referenced, nr_active):
    memory.ptes[:] = np.where(young, memory.ptes | PTE_YOUNG, memory.ptes & ~np.uint8(PTE_YOUNG))
    memory.folio_flags[:] = referenced * REFERENCED
    lists = memory.lruvec
    nr_folios = len(memory.folio_flags)
    nr_inactive = nr_folios - nr_active
    for lru, first, end in (
        (lists.inactive, 0, nr_inactive),
        (lists.active, nr_inactive, nr_folios),
    ):
        lru.extents[0] = first, end
        lru.state[:] = 0, int(end > first), (end - first) * memory.nr_pages
    memory.folio_flags[nr_inactive:] |= ACTIVE
    lists.stale_pages[:] = lists.inactive.state[NR_PAGES], lists.active.state[NR_PAGES]


def shuffle_oracle(young, referenced, nr_active):
    def prepare(reclaim):
        for space, row in zip(reclaim.rmap.spaces, young, strict=True):
            for page, entry in (space.pmds | space.ptes).items():
                entry.young = bool(row[page])
        for folio, flag in zip(reclaim.folios, referenced, strict=True):
            folio.referenced = bool(flag)
        for _ in range(nr_active):
            folio = reclaim.inactive.pop()
            folio.active = True
            reclaim.active.appendleft(folio)

    return prepare


@given(
    world=worlds(),
    seed=st.integers(0, 2**32 - 1),
    young_share=st.sampled_from([0.0, 0.003, 0.05, 0.5, 1.0]),
    active_share=st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]),
    **machines,
)
@settings(max_examples=250, deadline=None)
def test_a_request_in_any_state_of_memory(world, arch, kernel, seed, young_share, active_share):
    random = np.random.default_rng(seed)
    memory = lay_out(world, sim.ARCHES[arch])
    young = random.random(memory.ptes.shape) < young_share
    referenced = random.integers(0, 2, len(memory.folio_flags), np.uint8)
    nr_active = int(active_share * len(referenced))
    shuffle_memory(memory, young, referenced, nr_active)
    result, hits = simulated(world, arch, kernel, memory)
    outcome = oracle.simulate(world, arch, kernel, shuffle_oracle(young, referenced, nr_active))
    assert result == outcome.result
    assert hits == outcome.hits
    assert_same_memory(memory, outcome, world.order)


@pytest.mark.parametrize("arch", sorted(sim.ARCHES))
@pytest.mark.parametrize("order", [0, 3, 4, 8, 9])
def test_both_lay_the_same_memory_out(arch, order):
    world = sim.World(map_bytes=3 * PAGE << order, reclaim_bytes=PAGE, order=order, mapped_by=2)
    laid_out = oracle.simulate(world, arch, "base", prepare=stop_before_reclaim)
    assert_same_memory(lay_out(world, sim.ARCHES[arch]), laid_out, order)


def stop_before_reclaim(reclaim):
    reclaim.memory_reclaim = lambda nr_pages: nr_pages * 0
