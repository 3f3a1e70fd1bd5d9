# SPDX-License-Identifier: GPL-2.0-only
"""Event groups against the profiler's names, and against the change that each kernel makes."""

import numpy as np
import pytest

from analysis.groups import GROUPS, NAMES, PRICED_AS, folded, group_counts
from sim import FILE_SERIES, KERNELS, MEASURED_ARCHES, World, reclaim

MIB = 1 << 20
PARTS = np.array([group.part for group in GROUPS])


def events(arch, kernel, order, **world):
    return reclaim(
        World(map_bytes=32 * MIB, reclaim_bytes=8 * MIB, order=order, **world), arch, kernel
    )


def counts(*of):
    return dict(zip(NAMES, group_counts(events(*of)), strict=True))


def test_groups_are_named_once_and_belong_to_a_part():
    assert len(set(NAMES)) == len(GROUPS)
    assert set(PARTS) == {"check", "unmap", "rest"}


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", range(9))
def test_each_batch_changes_the_counts_of_its_own_part_alone(arch, order):
    base, references, unmap = (
        group_counts(events(arch, kernel, order)) for kernel in ("base", "references", "unmap")
    )
    assert set(PARTS[base != references]) == ({"check"} if order else set())
    assert set(PARTS[references != unmap]) == ({"unmap"} if order else set())


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("kernel", FILE_SERIES)
@pytest.mark.parametrize("order", [0, 1, 3, 4, 5, 6, 8])
def test_every_page_and_folio_is_charged_once(arch, kernel, order):
    seen = events(arch, kernel, order)
    priced = counts(arch, kernel, order)
    pages = seen.to_dict()["pgsteal"]
    folios = pages >> order
    batched = KERNELS[kernel].batched_unmap and order > 0
    further = pages - folios
    sized = 0 < order < 4 and arch == "arm64" and batched
    assert priced["try_to_unmap_one"] == folios
    assert priced["folio_remove_rmap_ptes"] == (folios if batched else pages)
    assert priced["get_and_clear_full_ptes"] == (further if batched else 0)
    assert priced["folio_unmap_pte_batch"] == (further if sized else 0)
    assert priced["lruvec_stat_mod_folio"] == (folios if batched else pages)
    assert priced["free_tail_page_prepare"] == further
    assert priced["__remove_mapping"] == (folios if order else 0)
    assert priced["xas_store"] == (pages if order < 6 else pages / 64)


@pytest.mark.parametrize(
    ("arch", "order", "kernel", "expected"),
    [
        # Each lookup of n PTEs tests the first in folio_referenced_one() and goes on to the others.
        ("x86_64", 3, "base", {"page_vma_mapped_walk": 7}),
        ("arm64", 3, "base", {"page_vma_mapped_walk": 7}),
        ("x86_64", 3, "references", {"folio_pte_batch": 1, "clear_flush_young_ptes": 7}),
        # Without a contpte block arm64 sizes the batch one PTE at a time too, priced apart.
        (
            "arm64",
            3,
            "references",
            {"folio_pte_batch": 1, "clear_flush_young_ptes": 7, "pte_batch_hint": 7},
        ),
        ("arm64", 5, "references", {"folio_pte_batch": 1, "clear_flush_young_ptes": 31}),
        ("x86_64", 0, "references", {}),
        # arm64 folds 16 PTEs: each of the 32 asked for sweeps its block.
        (
            "arm64",
            5,
            "base",
            {"contpte_clear_flush_young_ptes": 31, "clear_flush_young_ptes": 16 * 32 - 1},
        ),
        ("x86_64", 5, "base", {"page_vma_mapped_walk": 31}),
    ],
)
def test_reference_checks_by_hand(arch, order, kernel, expected):
    priced = counts(arch, kernel, order)
    looked_up = priced["folio_referenced_one"]
    assert looked_up > 0
    assert priced["vma_address_end"] == (looked_up if order else 0)
    names = ("page_vma_mapped_walk", "folio_pte_batch", "clear_flush_young_ptes", "pte_batch_hint")
    for name in (*names, "contpte_clear_flush_young_ptes"):
        assert priced[name] == expected.get(name, 0) * looked_up, name


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_counts_are_folded_into_the_group_that_has_the_price(arch):
    seen = group_counts(events(arch, "unmap", 4))
    sums = folded(seen)
    assert sums.sum() == seen.sum()
    assert not sums[np.arange(len(GROUPS)) != PRICED_AS].any()
    assert sums[NAMES.index("clear_flush_young_ptes")] == sum(
        seen[NAMES.index(name)] for name in ("clear_flush_young_ptes", "get_and_clear_full_ptes")
    )


def test_only_lru_gen_looks_around():
    own = (
        "lru_gen_look_around",
        "get_mem_cgroup_from_folio",
        "get_pte_pfn",
        "get_pfn_folio",
        "walk_pte_range",
        "lru_gen_set_refs",
        "sort_folio",
    )
    world = World(map_bytes=32 * MIB, reclaim_bytes=16 * MIB, order=2)
    for lru in ("classic", "mglru"):
        seen = dict(zip(NAMES, group_counts(reclaim(world, "x86_64", "base", lru)), strict=True))
        assert all((seen[name] > 0) == (lru == "mglru") for name in own)
    # Each of the four PTEs of a young folio opens a window of its own.
    assert seen["get_mem_cgroup_from_folio"] == 4 * seen["lru_gen_set_refs"]


@pytest.mark.parametrize(("order", "cpus"), [(0, 1), (0, 2), (3, 1), (3, 2), (4, 2)])
def test_pages_of_another_cpu_are_told_by_the_per_cpu_list_they_go_to(order, cpus):
    seen = events("arm64", "unmap", order, cpus=cpus)
    priced = dict(zip(NAMES, group_counts(seen), strict=True))
    small, large = priced["free_frozen_page_commit"], priced["free_pcppages_bulk"]
    freed = seen.nr_reclaimed_folios
    assert small == (freed if cpus == 2 and order == 0 else 0)
    assert large == (freed if cpus == 2 and order == 3 else 0)


@pytest.mark.parametrize("cpus", [1, 2])
def test_x86_64_flushes_at_once_or_later(cpus):
    priced = dict(zip(NAMES, group_counts(events("x86_64", "unmap", 4, cpus=cpus)), strict=True))
    assert (priced["flush_tlb_mm_range"] > 0) == (cpus == 1)
    assert (priced["arch_tlbbatch_flush"] > 0) == (cpus == 2)


@pytest.mark.parametrize(
    ("arch", "order", "kernel", "blocks"),
    [
        ("arm64", 4, "references", 1),
        ("arm64", 8, "base", 16),
        ("arm64", 3, "references", 0),
        ("arm64", 8, "unmap", 0),
        ("x86_64", 8, "references", 0),
    ],
)
def test_contpte_blocks_unfold_where_their_ptes_go_one_by_one(arch, order, kernel, blocks):
    folios = events(arch, kernel, order).nr_reclaimed_folios
    assert counts(arch, kernel, order)["__contpte_try_unfold"] == blocks * folios


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_second_mapping_process_doubles_what_is_done_per_mapping(arch):
    one, two = (
        dict(zip(NAMES, group_counts(events(arch, "unmap", 4, mapped_by=p)), strict=True))
        for p in (1, 2)
    )
    assert two["get_and_clear_full_ptes"] == 2 * one["get_and_clear_full_ptes"]
    assert two["try_to_unmap_one"] == 2 * one["try_to_unmap_one"]
    assert two["xas_store"] == one["xas_store"]


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_pmd_mapped_folio_is_refused(arch):
    with pytest.raises(ValueError, match="order 9 is PMD-mapped"):
        group_counts(events(arch, "unmap", 9))
