# SPDX-License-Identifier: GPL-2.0-only
"""Kernels are rows of switches: which of the two batches of the file-folio series they have."""

from typing import NamedTuple


class Kernel(NamedTuple):
    """What a kernel does for a whole large folio at once; small folios never feel it."""

    # folio_referenced_one() clears the young bits of a batch of PTEs per walk step: Linux commit
    # 52e054f71840 ("mm: rmap: support batched checks of the references for large folios")
    # (in v7.0), with the arm64 half in commit 07f440c23a19.
    batched_references: bool
    # folio_unmap_pte_batch() takes file folios too: Linux commit a67fe41e214f ("mm: rmap: support
    # batched unmapping for file large folios") (in v7.0).
    batched_unmap: bool


KERNELS: dict[str, Kernel] = {
    # Linux 6.19: neither.
    "base": Kernel(batched_references=False, batched_unmap=False),
    # Patches 1 to 4 of the series.
    "references": Kernel(batched_references=True, batched_unmap=False),
    # The whole series, patch 5 on top: Linux 7.0 and later.
    "unmap": Kernel(batched_references=True, batched_unmap=True),
    # Patch 5 alone; never a release, an ablation.
    "unmap-only": Kernel(batched_references=False, batched_unmap=True),
}
