# SPDX-License-Identifier: GPL-2.0-only
"""Kernels are rows of switches: what they do for a batch of PTEs, and where a batch ends."""

from typing import NamedTuple


class Kernel(NamedTuple):
    """What a kernel does for many PTEs of a large folio at once; small folios never feel it."""

    # folio_referenced_one() clears the young bits of a batch of PTEs per walk step: Linux commit
    # 52e054f71840 ("mm: rmap: support batched checks of the references for large folios")
    # (in v7.0), with the arm64 half in commit 07f440c23a19.
    batched_references: bool
    # folio_unmap_pte_batch() takes file folios: Linux commit a67fe41e214f ("mm: rmap: support
    # batched unmapping for file large folios") (in v7.0).
    batched_unmap: bool
    # try_to_unmap_one() takes lazyfree folios (MADV_FREE): Linux commit 354dffd29575 ("mm: support
    # batched unmap for lazyfree large folios during reclamation") (in v6.15).
    batched_lazyfree: bool
    # It takes exclusive swap-backed anonymous folios, writing all their swap entries in one go:
    # 20250513084620.58231-1-21cnbao@gmail.com ("mm: make try_to_unmap_one support batched unmap for
    # anon large folios"), a proposal of May 2025 that is in no release.
    batched_anon: bool
    # A lazyfree folio under a PMD leaf that was written since is kept as it is, swap-backed again;
    # before, the leaf was split first: 20250214093015.51024-5-21cnbao@gmail.com ("mm: avoid
    # splitting pmd for lazyfree pmd-mapped THP in try_to_unmap") (in v6.15).
    retains_dirty_pmd: bool
    # One that somebody else holds a reference to becomes swap-backed as if it were dirty; until
    # 20250214093015.51024-2-21cnbao@gmail.com ("mm: set folio swapbacked iff folios are dirty in
    # try_to_unmap_one") (in v6.15).
    pinned_is_swapbacked: bool
    # A batch is the whole folio or nothing: can_batch_unmap_folio_ptes() of v6.15. Linux 6.16 on
    # takes whatever run of PTEs is alike.
    whole_folios_only: bool
    # Where a batch of folio_unmap_pte_batch() ends or is refused, mm/rmap.c. At the end of the page
    # table and of the VMA: Linux commit ddd05742b45b ("mm/rmap: fix potential out-of-bounds page
    # table access during batched unmap") (in v6.16).
    stops_at_page_table: bool
    # Where the writable bit changes, FPB_RESPECT_WRITE: a mapping that is put back takes the bits
    # of the first of its batch.
    respects_write: bool
    # Where the soft-dirty bit changes, FPB_RESPECT_SOFT_DIRTY, for the same reason.
    respects_soft_dirty: bool
    # Never in a VMA with userfaultfd write-protection, userfaultfd_wp(): the marker that keeps the
    # protection is installed for one PTE only.
    refuses_uffd_wp: bool


_RULES = {
    "whole_folios_only": False,
    "stops_at_page_table": True,
    "respects_write": True,
    "respects_soft_dirty": True,
    "refuses_uffd_wp": True,
    "retains_dirty_pmd": True,
    "pinned_is_swapbacked": False,
}
_V6_15_RULES = {
    "whole_folios_only": True,
    "stops_at_page_table": False,
    "respects_write": False,
    "respects_soft_dirty": False,
    "refuses_uffd_wp": False,
}


def _file_series(*, references: bool, unmap: bool) -> Kernel:
    return Kernel(references, unmap, True, batched_anon=False, **_RULES)


def _anonymous(*, lazyfree: bool, anon: bool) -> Kernel:
    # Two further patches of the lazyfree series say what becomes of folios that may not go.
    kept = {"retains_dirty_pmd": lazyfree, "pinned_is_swapbacked": not lazyfree}
    return Kernel(False, False, lazyfree, anon, **kept, **_V6_15_RULES)


KERNELS: dict[str, Kernel] = {
    # Linux 6.19: neither batch for file folios.
    "base": _file_series(references=False, unmap=False),
    # Patches 1 to 4 of the series.
    "references": _file_series(references=True, unmap=False),
    # The whole series, patch 5 on top: Linux 7.0 and later.
    "unmap": _file_series(references=True, unmap=True),
    # Patch 5 alone; never a release, an ablation.
    "unmap-only": _file_series(references=False, unmap=True),
    # Linux 6.14, before the lazyfree series of February 2025.
    "lazyfree-before": _anonymous(lazyfree=False, anon=False),
    # Linux 6.15: that series.
    "lazyfree": _anonymous(lazyfree=True, anon=False),
    # The proposal of May 2025 on top of it.
    "anon": _anonymous(lazyfree=True, anon=True),
}

# The kernels that the file-folio series of 2025 is told by, oldest first.
FILE_SERIES = ("base", "references", "unmap", "unmap-only")
