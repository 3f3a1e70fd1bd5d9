# SPDX-License-Identifier: GPL-2.0-only
"""Laws: what a change of the world or the kernel may change in the events, and what it may not."""

import dataclasses
import os
import subprocess
import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.events import (
    FUNCTIONS,
    LRU_FUNCTIONS,
    MEASURING_OFFSETS,
    PROFILER_NAME_CHARS,
    ConservationError,
)
from sim.layout import first_pages, lay_out, page_table
from sim.reclaim import walk
from sim.state import NR_PAGES, Count
from sim.vmscan import inactive_is_low

pytestmark = pytest.mark.core

PAGE = 4096
PMD_ORDER = 9
ORDERS = st.integers(0, PMD_ORDER)
# Page sizes and anonymous workloads have tests of their own.
ARCHES = sorted(sim.MEASURED_ARCHES)
KERNELS = sorted(sim.FILE_SERIES)

# Decided by young bits and list order alone, before any batching.
SCHEDULE = [
    Count.PGSCAN, Count.PGSTEAL, Count.PGREFILL, Count.TRY_TO_FREE_MEM_CGROUP_PAGES,
    Count.MEM_CGROUP_ITER, Count.SHRINK_NODE, Count.ISOLATE_LRU_FOLIOS, Count.SHRINK_FOLIO_LIST,
    Count.SHRINK_ACTIVE_LIST, Count.MOVE_FOLIOS_TO_LRU, Count.FOLIO_LRUVEC_LOCK_IRQ,
    Count.FOLIO_REFERENCED, Count.FOLIOS_ACTIVATED, Count.TRY_TO_UNMAP, Count.REMOVE_MAPPING,
    Count.FREE_UNREF_FOLIOS, Count.UNCHARGE_BATCH,
]  # fmt: skip
# One per address space that is walked, whatever the kernel.
PER_VMA = [
    Count.FOLIO_REFERENCED_ONE, Count.TRY_TO_UNMAP_ONE, Count.PAGE_VMA_MAPPED_WALK,
    Count.FOLIO_PTE_BATCH, Count.PTEP_CLEAR_FLUSH_YOUNG, Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES,
    Count.YOUNG_PTE_OPS, Count.YOUNG_TLBI, Count.PMDP_CLEAR_FLUSH_YOUNG, Count.CONTPTE_PTEP_GET,
    Count.CONTPTE_PTEP_GET_LOCKLESS, Count.CONTPTE_TRY_UNFOLD,
    Count.CONTPTE_GET_AND_CLEAR_FULL_PTES, Count.PTES_CLEARED, Count.FOLIO_REMOVE_RMAP_PTES,
    Count.FOLIO_REMOVE_RMAP_PMD, Count.SET_TLB_UBC_FLUSH_PENDING, Count.FLUSH_TLB_MM_RANGE,
    Count.REFERENCES_PUT, Count.FOLIO_NOT_MAPPED, Count.MM_TRACE_RSS_STAT,
]  # fmt: skip
TLB_FUNCTIONS = {
    "set_tlb_ubc_flush_pending.cons",
    "flush_tlb_mm_range",
    "arch_tlbbatch_flush",
    "native_flush_tlb_multi",
}
# Counts that appear in a law; YOUNG_TLBI, say, is free.
CONSERVED = [
    Count.PTES_CLEARED, Count.PGSTEAL, Count.REFERENCES_PUT, Count.FOLIO_REMOVE_RMAP_PTES,
    Count.REMOVE_MAPPING, Count.TRY_TO_UNMAP, Count.FOLIO_REFERENCED, Count.PGSCAN,
    Count.PGREFILL, Count.SET_TLB_UBC_FLUSH_PENDING, Count.FLUSH_TLB_MM_RANGE,
]  # fmt: skip


@st.composite
def worlds(draw, orders=ORDERS, accesses=sim.ACCESSES):
    order = draw(orders)
    nr_folios = draw(st.integers(1, max(4, 1024 >> order)))
    file_pages = nr_folios << order
    return sim.World(
        map_bytes=file_pages * PAGE,
        reclaim_bytes=draw(st.integers(1, 2 * file_pages)) * PAGE,
        order=order,
        access=draw(st.sampled_from(accesses)),
        mapped_by=draw(st.integers(1, 3)),
        cpus=draw(st.integers(1, 2)),
    )


def after(world, arch, kernel):
    memory = lay_out(world, sim.ARCHES[arch])
    counts, result = walk(world, memory, arch, sim.KERNELS[kernel])
    lists = memory.lruvec
    ptes = [page_table(memory, vma, 1 << PMD_ORDER) for vma in range(len(memory.vmas))]
    state = (
        [table.astype(bool).tolist() for table in ptes],  # present or not; unfolding is an event
        [(table & 2).tolist() for table in ptes],  # young
        memory.folio_flags[first_pages(memory)].tolist(),
        int(lists.inactive.state[NR_PAGES]),
        int(lists.active.state[NR_PAGES]),
        result,
    )
    return {count: int(counts[count]) for count in Count}, state


@given(world=worlds(), arch=st.sampled_from(ARCHES))
@settings(max_examples=60, deadline=None)
def test_batching_changes_neither_the_schedule_nor_the_memory_left(world, arch):
    base, base_state = after(world, arch, "base")
    for kernel in KERNELS:
        counts, state = after(world, arch, kernel)
        assert state == base_state
        assert {c: counts[c] for c in SCHEDULE} == {c: base[c] for c in SCHEDULE}
        # Nor how much is unmapped, only in how many strokes.
        assert counts[Count.PTES_CLEARED] == base[Count.PTES_CLEARED]
        assert counts[Count.REFERENCES_PUT] == base[Count.REFERENCES_PUT]


@given(world=worlds(orders=st.integers(1, 8)), arch=st.sampled_from(ARCHES))
@settings(max_examples=60, deadline=None)
def test_batching_makes_fewer_calls_of_what_it_batches(world, arch):
    base, references, unmap, unmap_only = (
        after(world, arch, kernel)[0] for kernel in ("base", "references", "unmap", "unmap-only")
    )
    assert references[Count.PAGE_VMA_MAPPED_WALK] < base[Count.PAGE_VMA_MAPPED_WALK]
    assert unmap[Count.PAGE_VMA_MAPPED_WALK] <= references[Count.PAGE_VMA_MAPPED_WALK]
    removed = Count.FOLIO_REMOVE_RMAP_PTES
    assert base[removed] == references[removed] == base[Count.PTES_CLEARED]
    assert unmap[removed] == unmap_only[removed] == base[Count.TRY_TO_UNMAP_ONE]
    # Each batch works on its own half: what one saves does not depend on the other.
    for count in Count:
        assert unmap[count] - references[count] == unmap_only[count] - base[count], count.name


@given(world=worlds(orders=st.sampled_from([0, PMD_ORDER])), arch=st.sampled_from(ARCHES))
@settings(max_examples=40, deadline=None)
def test_small_folios_and_pmd_leaves_do_not_feel_batching(world, arch):
    base = after(world, arch, "base")
    assert all(after(world, arch, kernel) == base for kernel in KERNELS)


@given(world=worlds(), arch=st.sampled_from(ARCHES), kernel=st.sampled_from(KERNELS))
@settings(max_examples=60, deadline=None)
def test_a_second_cpu_changes_tlb_work_alone_and_on_arm64_none(world, arch, kernel):
    one, two = (sim.reclaim(dataclasses.replace(world, cpus=cpus), arch, kernel) for cpus in (1, 2))
    changed = {name for name, _ in one.functions().items() ^ two.functions().items()}
    assert changed <= (TLB_FUNCTIONS if arch == "x86_64" else set())
    assert one[Count.PGSTEAL] == two[Count.PGSTEAL]
    if arch == "x86_64" and world.order < PMD_ORDER:
        assert two[Count.SET_TLB_UBC_FLUSH_PENDING] == one[Count.FLUSH_TLB_MM_RANGE]
        assert two[Count.ARCH_TLBBATCH_FLUSH] == one[Count.UNCHARGE_BATCH]


@given(
    world=worlds(accesses=["pread"]),
    arch=st.sampled_from(ARCHES),
    kernel=st.sampled_from(KERNELS),
)
@settings(max_examples=60, deadline=None)
def test_twice_the_processes_are_twice_the_work_per_process_and_nothing_else(world, arch, kernel):
    # Of a file that had been read. One that was only mapped is kept if one process used it, and
    # activated if two did: see the tiny worlds.
    once, _ = after(world, arch, kernel)
    doubled = dataclasses.replace(world, mapped_by=2 * world.mapped_by)
    twice, (present, *_) = after(doubled, arch, kernel)
    assert {c: twice[c] for c in SCHEDULE} == {c: once[c] for c in SCHEDULE}
    assert twice[Count.MAPPED_STAT_UPDATES] == once[Count.MAPPED_STAT_UPDATES]
    assert {c: twice[c] for c in PER_VMA} == {c: 2 * once[c] for c in PER_VMA}
    assert all(row == present[0] for row in present)


@given(world=worlds(), arch=st.sampled_from(ARCHES), kernel=st.sampled_from(KERNELS))
@settings(max_examples=60, deadline=None)
def test_memory_adds_up(world, arch, kernel):
    counts, (present, _, _, inactive, active, result) = after(world, arch, kernel)
    file_pages = world.map_bytes // PAGE
    assert inactive + active + counts[Count.PGSTEAL] == file_pages
    if world.order < PMD_ORDER:
        assert all(sum(row) == inactive + active for row in present)
    assert result in (0, -11)
    assert (result == 0) == (counts[Count.PGSTEAL] >= world.reclaim_bytes // PAGE)
    # A folio is freed on its second contact at the earliest: the first finds it young.
    assert counts[Count.PGSCAN] >= 2 * counts[Count.PGSTEAL]


@given(
    world=worlds(accesses=["pread"]),
    arch=st.sampled_from(ARCHES),
    kernel=st.sampled_from(KERNELS),
)
@settings(max_examples=40, deadline=None)
def test_a_read_file_is_scanned_once_young_and_what_is_freed_once_old(world, arch, kernel):
    counts, _ = after(world, arch, kernel)
    assert counts[Count.PGSCAN] == world.map_bytes // PAGE + counts[Count.PGSTEAL]


@pytest.mark.parametrize(
    ("inactive", "active", "low"),
    [
        # Below 1 GiB (2^18 pages) the active list may be as long as the inactive one.
        (100, 100, False),
        (100, 101, True),
        (2**16, 3 * 2**16 - 1, True),
        # From 1 GiB on sqrt(10 * GiB) times as long, rounded down: sqrt(10) is 3, ...
        (2**16, 3 * 2**16, False),
        (2**16, 3 * 2**16 + 1, True),
        # ... sqrt(30) is 5 (786432 pages are 3 GiB), ...
        (131072, 655360, False),
        (131072, 655361, True),
        # ... sqrt(100) is 10 (2621440 pages are 10 GiB).
        (238313, 2383130, False),
        (238313, 2383131, True),
    ],
)
def test_how_long_the_active_list_may_be(inactive, active, low):
    smallest = sim.World(map_bytes=PAGE, reclaim_bytes=PAGE, order=0)
    lruvec = lay_out(smallest, sim.ARCHES["x86_64"]).lruvec
    lruvec.stale_pages[:] = inactive, active
    assert inactive_is_low(lruvec, 12) == low


def request(**changes):
    world = {"map_bytes": 96 * PAGE, "reclaim_bytes": 40 * PAGE, "order": 2}
    names = {"arch": "arm64", "kernel": "unmap"}
    names |= {name: changes.pop(name) for name in ("arch", "kernel") if name in changes}
    return sim.reclaim(sim.World(**world | changes), **names)


@pytest.mark.parametrize("count", CONSERVED, ids=lambda count: count.name)
@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("arch", ARCHES)
def test_a_tampered_count_is_noticed(arch, count, change):
    events = request(arch=arch)
    counts = dict(events.counts) | {count.name: events[count] + change}
    with pytest.raises(ConservationError, match=r"\d+ != -?\d+ .*'order': 2"):
        dataclasses.replace(events, counts=counts)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(
    "count",
    [Count.FOLIO_REMOVE_RMAP_PMD, Count.REFERENCES_PUT, Count.PTES_CLEARED, Count.PGREFILL],
)
def test_a_tampered_count_of_pmd_leaves_is_noticed(arch, count):
    events = request(arch=arch, order=PMD_ORDER, map_bytes=3 << 21)
    with pytest.raises(ConservationError, match=r"\d+ != -?\d+"):
        dataclasses.replace(events, counts=dict(events.counts) | {count.name: events[count] + 1})


def test_counts_cannot_be_changed():
    given_counts = dict(request().counts)
    events = dataclasses.replace(request(), counts=given_counts)
    with pytest.raises(TypeError):
        events.counts["PGSCAN"] = 0
    with pytest.raises(TypeError):
        del events.counts["PGSCAN"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.counts = {}
    given_counts["PGSCAN"] = 0
    events.functions().clear()
    assert events[Count.PGSCAN] > 0
    assert events.functions()
    assert all(type(nr) is int for nr in events.counts.values())


VARIANTS = (
    {},
    {"arch": "x86_64"},
    {"kernel": "base"},
    {"map_bytes": 100 * PAGE},
    {"map_bytes": 96 * PAGE + 1},
    {"reclaim_bytes": 41 * PAGE},
    {"reclaim_bytes": 40 * PAGE + 1},
    {"order": 3},
    {"order": None, "folios": "2:0.5,3:0.5"},
    {"workload": "lazyfree"},
    {"mappings": 2},
    {"young": 0.5},
    {"seed": 1},
    {"access": "mmap"},
    {"mapped_by": 2},
    {"cpus": 2},
)


def test_ids_differ_when_any_input_does():
    for left, right in combinations(VARIANTS, 2):
        assert request(**left).id != request(**right).id, (left, right)
    nothing = dict.fromkeys(request().counts, 0)
    assert dataclasses.replace(request(), lru="mglru", counts=nothing).id != request().id


def test_ids_do_not_depend_on_what_was_found():
    events = request()
    nothing = dict.fromkeys(events.counts, 0)
    assert dataclasses.replace(events, counts=nothing, result=-11).id == events.id


SAY_ID = """
import sim
from sim.state import Count
world = sim.World(map_bytes=96 * 4096, reclaim_bytes=40 * 4096, order=2)
counts = {count.name: 0 for count in Count}
print(sim.Events(world, "arm64", "unmap", "classic", counts, 0).id)
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_ids_are_the_same_in_every_process(hash_seed):
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    said = subprocess.run(
        [sys.executable, "-c", SAY_ID], env=environment, check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == request().id
    assert len(request().id) == 12
    assert set(request().id) <= set("0123456789abcdef")


def test_json_says_what_the_events_say():
    events = request()
    told = events.to_dict()
    assert told["events"] == events.functions()
    assert (told["pgscan"], told["pgsteal"]) == (events[Count.PGSCAN], events[Count.PGSTEAL])
    assert (told["id"], told["result"]) == (events.id, 0)
    assert told["inputs"] == {
        "arch": "arm64", "kernel": "unmap", "lru": "classic", "map_bytes": 96 * PAGE,
        "reclaim_bytes": 40 * PAGE, "order": 2, "access": "pread", "mapped_by": 1, "cpus": 1,
        "lru_add_batch": 0, "stats_flush": "never",
    }  # fmt: skip


def test_functions_are_c_identifiers_cut_as_the_profiler_cuts_them():
    for lru in sim.LRUS:
        rows = [*FUNCTIONS, *LRU_FUNCTIONS[lru]]
        for name, arches, _ in rows:
            assert name.replace(".constprop.0", "").isidentifier(), name
            assert set(arches) <= set(ARCHES), name
        for arch in ARCHES:
            names = [name[:PROFILER_NAME_CHARS] for name, arches, _ in rows if arch in arches]
            assert len(set(names)) == len(names)
    rows = [*FUNCTIONS, *LRU_FUNCTIONS["classic"]]
    assert set(MEASURING_OFFSETS) <= {name for name, _, _ in rows}
    hits = request().functions()
    assert all(nr > 0 for nr in hits.values())
    assert all(len(name) <= PROFILER_NAME_CHARS for name in hits)
