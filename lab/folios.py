# SPDX-License-Identifier: GPL-2.0-only
"""Folios: memory of this process in folios of a chosen order, mapped, touched, and looked at."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lab.errors import LabError

PAGE = mmap.PAGESIZE
MADV_FREE, MADV_PAGEOUT = 8, 21  # include/uapi/asm-generic/mman-common.h
HEAD, TAIL = 1 << 15, 1 << 16  # KPF_COMPOUND_HEAD and _TAIL: include/uapi/linux/kernel-page-flags.h
PRESENT, PFN = 1 << 63, (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst


@contextmanager
def clean_file(folder: Path, size: int, order: int) -> Iterator[mmap.mmap]:
    """Yield a clean file, mapped and touched, written in pieces of a folio: XFS makes it of one.

    The file's pages are those that were written; it is removed afterwards.
    """
    path = folder / f"folios-{os.getpid()}"
    try:
        with path.open("wb", buffering=0) as file:
            # XFS reserves blocks beyond the end of a file that grows; where they end folios do
            file.truncate(size)
            piece = bytes(PAGE << order)
            for _ in range(0, size, len(piece)):
                file.write(piece)
            os.fsync(file.fileno())
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        try:
            touch(mapped)
            yield mapped
        finally:
            mapped.close()
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def lazyfree(size: int) -> Iterator[mmap.mmap]:
    """Yield anonymous memory that was written and given to MADV_FREE."""
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        view = np.frombuffer(mapped, dtype=np.uint8)
        view[::PAGE] = 1
        del view
        mapped.madvise(MADV_FREE)
        yield mapped
    finally:
        mapped.close()


def touch(mapped: mmap.mmap) -> int:
    """Read a byte of each page."""
    return int(np.frombuffer(mapped, dtype=np.uint8)[::PAGE].sum())


def resident(mapped: mmap.mmap) -> int:
    """Return how many pages are mapped, or -1 if this process may not see."""
    entries = _entries(mapped)
    return -1 if entries is None else int(np.count_nonzero(entries & np.uint64(PRESENT)))


def share_of_order(mapped: mmap.mmap, order: int) -> float | None:
    """Return the share of folios that are of this order; None without root.

    Each is looked at whole in kpageflags: a head, tails to its end, and no tail behind it.
    """
    entries = _entries(mapped)
    if entries is None:
        return None
    nr = 1 << order
    pfns = [int(entry) & PFN for entry in entries[: len(entries) - nr + 1 : nr]]
    if not pfns or not any(pfns):
        return None
    with Path("/proc/kpageflags").open("rb", buffering=0) as flags:
        right = [_is_folio(flags.fileno(), pfn, nr) for pfn in pfns]
    return sum(right) / len(right)


def _is_folio(flags: int, pfn: int, nr: int) -> bool:
    read = os.pread(flags, 8 * (nr + 1), 8 * pfn)
    words = np.frombuffer(read, dtype=np.uint64)
    if pfn == 0 or len(words) < nr:
        return False
    tails = (words & np.uint64(TAIL)) != 0
    if len(words) > nr and tails[nr]:
        return False
    if nr == 1:
        return not words[0] & np.uint64(HEAD | TAIL)
    return pfn % nr == 0 and bool(words[0] & np.uint64(HEAD)) and bool(tails[1:nr].all())


def _entries(mapped: mmap.mmap) -> np.ndarray | None:
    address = np.frombuffer(mapped, dtype=np.uint8).ctypes.data
    if address % PAGE:
        raise LabError(f"mapping at {address:#x}: expected the start of a page")
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            read = os.pread(pagemap.fileno(), 8 * (len(mapped) // PAGE), 8 * (address // PAGE))
    except OSError:
        return None
    return np.frombuffer(read, dtype=np.uint64)
