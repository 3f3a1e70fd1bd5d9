# SPDX-License-Identifier: GPL-2.0-only
"""Architectures are rows of facts: what the reclaim path meets in their page tables and TLBs.

Nothing here is fitted. A new architecture is one row of `ARCHES`; behaviour that needs code
is a field that the walk reads.
"""

from typing import NamedTuple


class Arch(NamedTuple):
    """Page-table and TLB facts of one architecture: ints and bools, which numba takes as is."""

    # log2 of the page size in bytes: CONFIG_ARM64_4K_PAGES, x86 always 12.
    page_shift: int
    # PMD_ORDER: a folio of this order is mapped by one PMD leaf (filemap_map_pmd()).
    pmd_order: int
    # log2 of the PTEs of one contiguous block, 0 where the page table has none. arm64: CONT_PTES,
    # see arch/arm64/mm/contpte.c, Linux commit 4602e5757bcc ("arm64/mm: wire up PTE_CONT for user
    # mappings") (in v6.9).
    cont_order: int
    # clear_flush_young_ptes() and get_and_clear_full_ptes() take a whole range in one call of a
    # contpte helper: arm64, the former since Linux commit 07f440c23a19 ("arm64: mm: implement the
    # architecture-specific clear_flush_young_ptes()") (in v7.0). The generic ones of
    # include/linux/pgtable.h loop over the PTEs.
    range_helpers: bool
    # Clearing a young PTE issues a TLB invalidation, without waiting for it:
    # ptep_clear_flush_young() of arch/arm64. x86 lets the accessed bit go stale instead.
    young_clear_flushes: bool
    # PMD leaves are flushed through flush_tlb_mm_range(): pmdp_clear_flush_young() if it was young
    # and pmdp_huge_clear_flush(), arch/x86/mm/pgtable.c. arm64 issues the instruction in line.
    pmd_flush_is_mm_range: bool
    # There is a soft-dirty bit: CONFIG_HAVE_ARCH_SOFT_DIRTY; arm64 has none in 7.2.
    has_soft_dirty: bool
    # pte_mkdirty() sets it too: arch/x86/include/asm/pgtable.h.
    mkdirty_is_soft_dirty: bool
    # arch_tlbbatch_should_defer(): True whatever the CPUs (arm64: the invalidation is issued at
    # once, only the wait is deferred); False: only if another CPU has the mm loaded (x86).
    defers_flush_always: bool


_ARM64 = Arch(
    page_shift=12,
    pmd_order=9,
    cont_order=4,
    range_helpers=True,
    young_clear_flushes=True,
    pmd_flush_is_mm_range=False,
    has_soft_dirty=False,
    mkdirty_is_soft_dirty=False,
    defers_flush_always=True,
)

ARCHES: dict[str, Arch] = {
    "arm64": _ARM64,
    # CONFIG_ARM64_16K_PAGES, CONFIG_ARM64_64K_PAGES: ARM64_CONT_PTE_SHIFT is 7 and 5, a table of
    # entries of eight bytes fills a page; arch/arm64/include/asm/pgtable-hwdef.h.
    "arm64-16k": _ARM64._replace(page_shift=14, pmd_order=11, cont_order=7),
    "arm64-64k": _ARM64._replace(page_shift=16, pmd_order=13, cont_order=5),
    "x86_64": Arch(
        page_shift=12,
        pmd_order=9,
        cont_order=0,
        range_helpers=False,
        young_clear_flushes=False,
        pmd_flush_is_mm_range=True,
        has_soft_dirty=True,
        mkdirty_is_soft_dirty=True,
        defers_flush_always=False,
    ),
}

# The rows whose counts and costs were measured: data/emulated/.
MEASURED_ARCHES = ("arm64", "x86_64")


def isa(arch: str) -> str:
    """Return the instruction set of an architecture whose name ends in a page size."""
    return arch.partition("-")[0]
