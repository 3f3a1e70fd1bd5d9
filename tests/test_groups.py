# SPDX-License-Identifier: GPL-2.0-only
"""Event groups against the profiler's names, and against the change that each kernel makes."""

import numpy as np
import pytest

from analysis.groups import GROUPS, NAMES, group_counts
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
    # Both parts gather bits over a contpte block; the group is charged to the check.
    own = np.array(NAMES) != "contpte_ptep_get"
    assert set(PARTS[(base != references) & own]) == ({"check"} if order else set())
    assert set(PARTS[(references != unmap) & own]) == ({"unmap"} if order else set())


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("kernel", FILE_SERIES)
@pytest.mark.parametrize("order", [0, 1, 3, 4, 5, 6, 8])
def test_every_page_and_folio_is_charged_once(arch, kernel, order):
    seen = events(arch, kernel, order)
    priced = counts(arch, kernel, order)
    pages = seen.to_dict()["pgsteal"]
    folios = pages >> order
    batched = KERNELS[kernel].batched_unmap and order > 0
    assert priced["try_to_unmap_one"] == (0 if batched else pages)
    assert priced["folio_remove_rmap_ptes"] == (0 if batched or order == 0 else pages)
    assert priced["folio_unmap_pte_batch"] == (folios if batched else 0)
    assert priced["free_tail_page_prepare"] == pages - folios
    assert priced["__remove_mapping"] == (folios if order else 0)
    assert priced["xas_store"] == (pages if order < 6 else pages / 64)
    assert priced["free_one_page"] == (folios if order > 3 else 0)


@pytest.mark.parametrize(
    ("arch", "order", "kernel", "expected"),
    [
        # Each lookup of n PTEs tests the first in folio_referenced_one() and steps to the others.
        ("x86_64", 3, "base", {"page_vma_mapped_walk": 7}),
        ("arm64", 3, "base", {"page_vma_mapped_walk": 7}),
        ("x86_64", 3, "references", {"folio_pte_batch": 1, "clear_flush_young_ptes": 8}),
        ("x86_64", 0, "references", {}),
        # arm64 folds 16 PTEs: each of the 32 asked for sweeps its block.
        ("arm64", 5, "base", {"contpte_clear_flush_young_ptes": 32}),
        ("x86_64", 5, "base", {"page_vma_mapped_walk": 31}),
    ],
)
def test_reference_checks_by_hand(arch, order, kernel, expected):
    priced = counts(arch, kernel, order)
    looked_up = priced["folio_referenced_one"]
    assert looked_up > 0
    names = ("page_vma_mapped_walk", "folio_pte_batch", "clear_flush_young_ptes")
    for name in (*names, "contpte_clear_flush_young_ptes"):
        assert priced[name] == expected.get(name, 0) * looked_up, name


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
    assert two["folio_unmap_pte_batch"] == 2 * one["folio_unmap_pte_batch"]
    assert two["xas_store"] == one["xas_store"]


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_pmd_mapped_folio_is_refused(arch):
    with pytest.raises(ValueError, match="order 9 is PMD-mapped"):
        group_counts(events(arch, "unmap", 9))
