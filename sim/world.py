# SPDX-License-Identifier: GPL-2.0-only
"""Worlds: what memory looks like before the request, and what is asked of reclaim."""

from dataclasses import dataclass
from numbers import Integral

from sim.arch import Arch

ACCESSES = ("pread", "mmap")

# The walk numbers folios in 32 bits.
MAX_FOLIOS = 2**31 - 1


_RANGES = {
    "order": (0, 9),
    "map_bytes": (1, 2**63 - 1),
    "reclaim_bytes": (1, 2**63 - 1),
    "mapped_by": (1, 1024),
    "cpus": (1, 2),
    "lru_add_batch": (0, 30),
}


class WorldError(ValueError):
    """A world that cannot exist: says which field, what was found and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A clean, sparse file of folios of one order, mapped whole, and one write to memory.reclaim.

    Args:
        map_bytes: size of the file and of each mapping, in bytes; mapped in whole folios.
        reclaim_bytes: what is written to memory.reclaim, in bytes; whole pages of it count, as
            memparse() / PAGE_SIZE has it in user_proactive_reclaim(), mm/vmscan.c.
        order: folio order, 0 to 9; a folio of PMD order is mapped by one PMD leaf.
        access: how the file came into the page cache. "pread": read, then touched through the
            mapping, so that folios start referenced; "mmap": only touched.
        mapped_by: number of processes that map and touch every page, then sleep.
        cpus: 1: reclaim runs where the mapping processes ran; 2: they sit on another CPU, which
            keeps their address space loaded.
        lru_add_batch: order 0 only: how many folios at the file's end were still in the mapping
            CPU's lru_add batch. With two CPUs they are on no list of the classic LRU; lru_gen put
            them into a younger generation. With one CPU the classic LRU does not feel it.
        stats_flush: which node calls (shrink_node(), counted from 0) of the classic LRU find the
            memcg's statistics flushed by the periodic worker: "never", "always" or "3,17".
    """

    map_bytes: int
    reclaim_bytes: int
    order: int = 4
    access: str = "pread"
    mapped_by: int = 1
    cpus: int = 1
    lru_add_batch: int = 0
    stats_flush: str = "never"

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            # A count out of a frame is numpy's integer; ids and JSON want Python's.
            object.__setattr__(self, name, _checked(name, getattr(self, name), low, high))
        if self.access not in ACCESSES:
            raise WorldError(f"access {self.access!r}: expected one of {', '.join(ACCESSES)}")
        if self.lru_add_batch and self.order:
            raise WorldError(
                f"lru_add_batch {self.lru_add_batch} at order {self.order}: large folios do not "
                "wait in that batch; leave it 0"
            )
        _ = self.flushes

    @property
    def flushes(self) -> tuple[int, ...]:
        """The node calls that find the statistics flushed, rising; none for "always"."""
        if self.stats_flush in ("never", "always"):
            return ()
        numbers = str(self.stats_flush).split(",")
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise WorldError(
                f"stats_flush {self.stats_flush!r}: expected never, always, or numbers of node "
                "calls such as 3,17"
            )
        return tuple(sorted({int(number) for number in numbers}))

    def nr_folios(self, arch: Arch) -> int:
        """Return the number of whole folios in the file; WorldError if there is none."""
        folio_bytes = 1 << (arch.page_shift + self.order)
        nr = self.map_bytes // folio_bytes
        if nr == 0:
            raise WorldError(
                f"map {self.map_bytes} bytes: smaller than one order-{self.order} folio "
                f"({folio_bytes} bytes); map at least that much"
            )
        if nr > MAX_FOLIOS:
            raise WorldError(f"map {self.map_bytes} bytes: {nr} folios, at most {MAX_FOLIOS}")
        return nr

    def nr_to_reclaim(self, arch: Arch) -> int:
        """Return the request in pages; WorldError if it is less than one page."""
        nr = self.reclaim_bytes >> arch.page_shift
        if nr == 0:
            raise WorldError(
                f"reclaim {self.reclaim_bytes} bytes: less than one page "
                f"({1 << arch.page_shift} bytes)"
            )
        return nr


def _checked(name: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise WorldError(f"{name} {value!r}: expected a whole number, {low} to {high}")
    if not low <= value <= high:
        raise WorldError(f"{name} {value}: expected {low} to {high}")
    return int(value)
