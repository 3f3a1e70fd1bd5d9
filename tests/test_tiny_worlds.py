# SPDX-License-Identifier: GPL-2.0-only
"""Worlds small enough to be counted by hand.

The arithmetic beside each number follows the kernel: a scan at priority p asks for list >> p
pages, in quanta of 32; a request asks for max(32, a quarter of what is left); a walk over the
priorities that frees nothing (13 node scans) is repeated as a full walk, and again with
deactivation forced. First contact of a read file activates (young and referenced), of a mapped
file keeps (young only); second contact frees.
"""

import pytest

import sim
from sim.events import PROFILER_NAME_CHARS, listed
from sim.state import Count

pytestmark = pytest.mark.core

PAGE = 4096
KERNELS = ("base", "references", "unmap", "unmap-only")


def events(nr_folios, request_pages, *, order=0, arch="x86_64", kernel="base", **world):
    world = sim.World(
        map_bytes=nr_folios * PAGE << order,
        reclaim_bytes=request_pages * PAGE,
        order=order,
        **world,
    )
    return sim.reclaim(world, arch, kernel)


INNER = (Count.PGSCAN, Count.PGSTEAL, Count.PGREFILL, Count.YOUNG_PTE_OPS, Count.YOUNG_TLBI)
PROFILED = {name for arch in sim.ARCHES for lru in sim.LRUS for name in listed(arch, lru)}


def assert_counts(found, **expected):
    hits = dict.fromkeys(PROFILED, 0) | found.functions()
    hits |= {count.name.lower(): found[count] for count in INNER}
    expected = {name[:PROFILER_NAME_CHARS]: nr for name, nr in expected.items()}
    assert {name: hits[name] for name in expected} == expected


def test_one_small_folio():
    found = events(1, 1)
    assert found.result == 0
    assert_counts(
        found,
        # 1 >> priority is 1 at priority 0 only. First request: activated, then skipped (full
        # walk), then deactivated (forced), which frees nothing: 0. Second request: freed.
        try_to_free_mem_cgroup_pages=2,
        shrink_node=3 * 13 + 13,
        # The memcg and the end of the walk; 1 page never satisfies 32.
        mem_cgroup_iter=2 * 52,
        pgscan=1 + 1,
        pgsteal=1,
        pgrefill=1,
        shrink_folio_list=2,
        shrink_active_list=1,
        isolate_lru_folios=2 + 1,
        lru_add_drain=2 + 1,
        lru_note_cost_unlock_irq=2 + 1,
        move_folios_to_lru=2 + 2 * 1,
        folio_lruvec_lock_irq=1 + 1,  # one activated, one deactivated; nothing kept when freed
        folio_referenced=2 + 1,
        folio_referenced_one=2 + 1,
        rmap_walk=3 + 1,
        page_vma_mapped_walk=3 + 1,
        ptep_clear_flush_young=3,
        try_to_unmap=1,
        folio_remove_rmap_ptes=1,
        flush_tlb_mm_range=1,
        free_unref_folios=1 + 1,  # for the empty batch of the first contact as well
        try_to_unmap_flush=1 + 1,
        uncharge_batch=1,
        lruvec_stat_mod_folio=1 + 1,  # no longer mapped, no longer in the page cache
        workingset_age_nonresident=1,  # activated; x86_64 inlines the eviction's
        free_tail_page_prepare=0,
    )


def test_one_small_folio_that_was_only_mapped_is_kept_once():
    assert_counts(
        events(1, 1, access="mmap"),
        # Kept at priority 0 of the first walk, freed at priority 0 of the full walk.
        try_to_free_mem_cgroup_pages=1,
        shrink_node=13 + 13,
        mem_cgroup_iter=2 * 26,
        pgscan=2,
        pgsteal=1,
        shrink_folio_list=2,
        shrink_active_list=0,
        move_folios_to_lru=2,
        folio_lruvec_lock_irq=1,
        folio_referenced=2,
        workingset_age_nonresident=0,
    )


def test_two_processes_activate_a_folio_that_was_only_mapped():
    assert_counts(
        events(1, 1, access="mmap", mapped_by=2),
        # Young in two VMAs, so the course is that of a folio that had been read.
        try_to_free_mem_cgroup_pages=2,
        shrink_node=52,
        shrink_active_list=1,
        workingset_age_nonresident=1,
        folio_referenced=3,
        folio_referenced_one=3 * 2,
        page_vma_mapped_walk=(3 + 1) * 2,
        ptep_clear_flush_young=3 * 2,
        try_to_unmap=1,
        try_to_unmap_one=2,
        folio_remove_rmap_ptes=2,
        mm_trace_rss_stat=2,
        flush_tlb_mm_range=2,
        lruvec_stat_mod_folio=1 + 1,  # the last VMA alone brings the mapcount to "unmapped"
    )


def test_two_small_folios():
    assert_counts(
        events(2, 1),
        # 2 >> 1 = 1: folio 0 is activated at priority 1, folio 1 at 0. Full walk: skipped.
        # Forced: folio 0 deactivated at priority 1; freed at 0, where folio 1 is deactivated.
        try_to_free_mem_cgroup_pages=1,
        shrink_node=3 * 13,
        mem_cgroup_iter=2 * 39,
        pgscan=2 + 1,
        pgsteal=1,
        pgrefill=2,
        shrink_folio_list=3,
        shrink_active_list=2,
        move_folios_to_lru=3 + 2 * 2,
        folio_lruvec_lock_irq=2 + 2,
        folio_referenced=3 + 2,
        free_unref_folios=3,
    )


def test_a_batch_of_31_small_folios_is_freed_when_it_is_full():
    assert_counts(
        events(32, 32, access="mmap"),
        # 32 >> 5, 4, 3, 2, 1 = 1 + 2 + 4 + 8 + 16 = 31 kept; at priority 0 one quantum of 32:
        # the last folio is kept, 31 are freed. 31 < 32, so a second request frees the last one.
        try_to_free_mem_cgroup_pages=2,
        shrink_node=13 + 13,
        pgscan=31 + 32 + 1,
        pgsteal=31 + 1,
        shrink_folio_list=5 + 1 + 1,
        # 5 empty; full at 31, then an empty one; 1.
        free_unref_folios=5 + 2 + 1,
        uncharge_batch=1 + 1,
    )


def test_32_small_folios_freed_at_once_take_two_batches():
    assert_counts(
        events(64, 63, access="mmap"),
        # 64 >> 6 ... 1 = 1 + 2 + 4 + 8 + 16 + 32 = 63 kept. Priority 0, 64 pages: the first
        # quantum keeps the last folio and frees 31, the second frees 32. 63 >= 32: satisfied.
        try_to_free_mem_cgroup_pages=1,
        shrink_node=13,
        mem_cgroup_iter=12 * 2 + 1,
        pgscan=63 + 64,
        pgsteal=31 + 32,
        shrink_folio_list=6 + 2,
        free_unref_folios=6 + 2 + 2,  # 31 and none; 31 and 1
        uncharge_batch=1 + 2,
    )


def test_a_33rd_page_takes_a_second_quantum():
    assert_counts(
        events(33, 1, access="mmap"),
        # 33 >> 5 ... 1 = 1 + 2 + 4 + 8 + 16 = 31 kept. Priority 0: of 32, two are kept and 30
        # freed; then a quantum of 1 frees the 31st. One page was asked for, 31 are gone.
        try_to_free_mem_cgroup_pages=1,
        shrink_node=13,
        mem_cgroup_iter=2 * 13,  # 31 < 32
        pgscan=31 + 32 + 1,
        pgsteal=30 + 1,
        shrink_folio_list=5 + 2,
        free_unref_folios=5 + 1 + 1,
    )


def test_a_quantum_takes_whole_folios():
    assert_counts(
        events(2, 1, order=6, access="mmap"),
        # 128 >> 7 = 1 page, 128 >> 6 = 2: one folio of 64 each, kept. 128 >> 5 = 4: the first
        # is freed, 64 >= 32: no other priority.
        shrink_node=8,  # 12 to 5
        mem_cgroup_iter=7 * 2 + 1,
        pgscan=3 * 64,
        pgsteal=64,
        shrink_folio_list=3,
    )
    assert_counts(
        events(4, 64, order=4, access="mmap"),
        # 64 >> 6, 5, 4 = 1, 2, 4: folios 0, 1, 2 kept. 64 >> 3 = 8: 3 kept. 64 >> 2 = 16: folio 0
        # freed. 48 >> 1 = 24: two folios, 32 pages; 16 + 32 >= 32. Second request, 16 left:
        # 16 >> 4 = 1, the last folio; 16 < 32, so on to priority 0.
        try_to_free_mem_cgroup_pages=2,
        shrink_node=12 + 13,
        pgscan=(4 + 1 + 2 + 1) * 16,
        pgsteal=64,
        shrink_folio_list=4 + 1 + 1 + 1,
    )


# One folio of order 5, read: activated (priority 5), skipped, deactivated (5) and freed (4): it is
# checked three times and unmapped once. n = 32 pages in B = 2 contpte blocks.
CHECKS = 3
ARM64_ORDER_5 = {
    "base": {
        "contpte_ptep_get": CHECKS * (32 + 31) + (3 * 2 - 1),
        "contpte_clear_flush_young_ptes": CHECKS * 32,
        "young_pte_ops": CHECKS * 32 * 16,  # each call sweeps a block
        "young_tlbi": 2,  # the first call of each block, first check
        "__contpte_try_unfold": 2,
        "contpte_get_and_clear_full_ptes": 0,
        "page_vma_mapped_walk": CHECKS * 32 + 33,
        "folio_pte_batch": 0,
        "folio_remove_rmap_ptes": 32,
        "set_tlb_ubc_flush_pending": 32,
        "lruvec_stat_mod_folio": 32 + 1,
    },
    "references": {
        "contpte_ptep_get": CHECKS * (2 + 1) + (3 * 2 - 1),
        "contpte_clear_flush_young_ptes": CHECKS,
        "young_pte_ops": CHECKS * 32,
        "young_tlbi": 1,
        "__contpte_try_unfold": 2,
        "contpte_get_and_clear_full_ptes": 0,
        "page_vma_mapped_walk": CHECKS + 33,
        "folio_pte_batch": CHECKS,
        "folio_remove_rmap_ptes": 32,
        "set_tlb_ubc_flush_pending": 32,
        "lruvec_stat_mod_folio": 32 + 1,
    },
    "unmap": {
        "contpte_ptep_get": CHECKS * (2 + 1) + (2 + 1),
        "contpte_clear_flush_young_ptes": CHECKS,
        "young_pte_ops": CHECKS * 32,
        "young_tlbi": 1,
        "__contpte_try_unfold": 0,
        "contpte_get_and_clear_full_ptes": 1,
        "page_vma_mapped_walk": CHECKS + 1,
        "folio_pte_batch": CHECKS,
        "folio_remove_rmap_ptes": 1,
        "set_tlb_ubc_flush_pending": 1,
        "lruvec_stat_mod_folio": 1 + 1,
    },
    "unmap-only": {
        "contpte_ptep_get": CHECKS * (32 + 31) + (2 + 1),
        "contpte_clear_flush_young_ptes": CHECKS * 32,
        "young_pte_ops": CHECKS * 32 * 16,
        "young_tlbi": 2,
        "__contpte_try_unfold": 0,
        "contpte_get_and_clear_full_ptes": 1,
        "page_vma_mapped_walk": CHECKS * 32 + 1,
        "folio_pte_batch": 0,
        "folio_remove_rmap_ptes": 1,
        "set_tlb_ubc_flush_pending": 1,
        "lruvec_stat_mod_folio": 1 + 1,
    },
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_contpte_blocks(kernel):
    found = events(1, 1, order=5, arch="arm64", kernel=kernel)
    assert_counts(
        found,
        shrink_node=13 + 13 + 9,  # satisfied at priority 4 of the forced walk
        mem_cgroup_iter=2 * 35,  # a full walk is always ended by asking for the next memcg
        contpte_ptep_get_lockless=CHECKS,  # unmapping a large folio takes the lock at once
        flush_tlb_mm_range=0,
        workingset_age_nonresident=1 + 1,  # activated, evicted
        **ARM64_ORDER_5[kernel],
    )


def test_one_contpte_block_before_and_after():
    both = {"shrink_node": 3 * 13, "contpte_ptep_get_lockless": 3, "free_one_page": 1}  # 16 < 32
    assert_counts(
        events(1, 1, order=4, arch="arm64", kernel="base"),
        contpte_ptep_get=3 * (16 + 15) + (3 * 1 - 1),
        __contpte_try_unfold=1,
        **both,
    )
    assert_counts(
        events(1, 1, order=4, arch="arm64", kernel="unmap"),
        contpte_ptep_get=3 * (1 + 1) + (1 + 1),
        __contpte_try_unfold=0,
        **both,
    )


def test_four_pages_are_no_contpte_block_but_take_its_range_calls():
    never = {"contpte_ptep_get": 0, "contpte_ptep_get_lockless": 0, "__contpte_try_unfold": 0}
    assert_counts(
        events(1, 1, order=2, arch="arm64", kernel="base"),
        contpte_clear_flush_young_ptes=0,
        contpte_get_and_clear_full_ptes=0,
        young_tlbi=4,
        **never,
    )
    assert_counts(
        events(1, 1, order=2, arch="arm64", kernel="unmap"),
        contpte_clear_flush_young_ptes=3,
        contpte_get_and_clear_full_ptes=1,
        young_tlbi=1,
        **never,
    )


def test_x86_64_clears_young_bits_one_by_one_in_every_kernel():
    for kernel, walks, removals in (
        ("base", 3 * 16 + 17, 16),
        ("references", 3 + 17, 16),
        ("unmap", 3 + 1, 1),
        ("unmap-only", 3 * 16 + 1, 1),
    ):
        assert_counts(
            events(1, 1, order=4, kernel=kernel),
            ptep_clear_flush_young=3 * 16,
            page_vma_mapped_walk=walks,
            folio_remove_rmap_ptes=removals,
            flush_tlb_mm_range=removals,
            free_tail_page_prepare=15,
        )


def test_x86_64_defers_flushes_to_the_free_batch_if_another_cpu_has_the_mm():
    found = events(64, 63, access="mmap", cpus=2)
    assert_counts(
        found,
        **{"set_tlb_ubc_flush_pending.cons": 63},  # as the profiler cuts the name
        flush_tlb_mm_range=0,
        arch_tlbbatch_flush=1 + 2,  # the batches that are not empty: 31; 31 and 1
        native_flush_tlb_multi=1 + 2,
        try_to_unmap_flush=6 + 2 + 2,
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("arch", "flushes"), [("x86_64", 1 + 1), ("arm64", 0)])
def test_one_pmd_leaf(arch, flushes, kernel):
    assert_counts(
        events(1, 1, order=9, arch=arch, kernel=kernel),
        # 512 >> 9 = 1: activated, skipped, deactivated; 512 >> 8: freed, and satisfied.
        shrink_node=13 + 13 + 5,
        mem_cgroup_iter=2 * 31,
        pgscan=2 * 512,
        pgsteal=512,
        pgrefill=512,
        folio_referenced=3,
        pmdp_clear_flush_young=3,
        page_vma_mapped_walk=3 * 2 + 2,  # each asked once more, as 1 is not 512
        folio_remove_rmap_pmd=1,
        folio_remove_rmap_ptes=0,
        mm_trace_rss_stat=1,
        flush_tlb_mm_range=flushes,  # found young once; zapped once
        set_tlb_ubc_flush_pending=0,
        folio_pte_batch=0,
        contpte_ptep_get=0,
        lruvec_stat_mod_folio=1 + 1 + 1,  # mapped, page cache, huge pages of the page cache
        free_tail_page_prepare=511,
        free_one_page=0,
    )


def test_a_request_that_the_file_cannot_meet_gives_up():
    found = events(1, 2)
    assert found.result == -11
    assert_counts(
        found,
        # Sixteen requests may come back empty, the seventeenth ends it. The first is one of them
        # (it only activates and deactivates), the second frees the page, 16 find nothing.
        try_to_free_mem_cgroup_pages=1 + 1 + 16,
        # Nothing to deactivate is nothing skipped, so that the empty ones are not forced.
        shrink_node=3 * 13 + 13 + 16 * 2 * 13,
        mem_cgroup_iter=2 * (39 + 13 + 416),
        pgscan=2,
        pgsteal=1,
        isolate_lru_folios=3,
    )


def test_a_request_is_rounded_down_to_pages():
    world = sim.World(map_bytes=2 * PAGE - 1, reclaim_bytes=2 * PAGE - 1, order=0)
    found = sim.reclaim(world, "x86_64", "base")
    assert found.result == 0
    assert_counts(found, pgsteal=1)
