# SPDX-License-Identifier: GPL-2.0-only
"""Worlds: what memory looks like before the request, and what is asked of reclaim."""

import math
from dataclasses import asdict, dataclass
from numbers import Integral, Real

from sim.arch import Arch

ACCESSES = ("pread", "mmap")
WORKLOADS = ("file", "lazyfree", "anon")
REQUESTS = ("memory.reclaim", "pageout")

# The walk numbers pages in 32 bits.
MAX_PAGES = 2**31 - 1
# include/linux/pagemap.h: MAX_XAS_ORDER, beyond which the page cache has no folios.
MAX_PAGECACHE_ORDER = 11

_RANGES = {
    "map_bytes": (1, 2**63 - 1),
    "reclaim_bytes": (1, 2**63 - 1),
    "mapped_by": (1, 1024),
    "mappings": (1, 1024),
    "cpus": (1, 2),
    "lru_add_batch": (0, 30),
    "vma_shift": (0, 2**20),
    "vma_cut": (0, 2**20),
    "mlocked": (0, 1024),
    "seed": (0, 2**63 - 1),
}
_ALWAYS_TOLD = (
    *("map_bytes", "reclaim_bytes", "order", "access"),
    *("mapped_by", "cpus", "lru_add_batch", "stats_flush"),
)
# Shares of page-table entries, and of folios.
_PTE_SHARES = ("young", "dirty", "writable", "soft_dirty", "uffd_wp")
_FOLIO_SHARES = ("partly_mapped", "hwpoison", "dirty_folios", "pinned")
# Entries as each workload leaves them: read through a mapping; written, then MADV_FREE'd, which
# cleans them and makes them old; written.
_WORKLOAD_PTES = {
    "file": {"young": 1.0, "dirty": 0.0, "writable": 0.0},
    "lazyfree": {"young": 0.0, "dirty": 0.0, "writable": 1.0},
    "anon": {"young": 1.0, "dirty": 1.0, "writable": 1.0},
}


class WorldError(ValueError):
    """A world that cannot exist: says which field, what was found and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Folios, the address spaces that map them, and one request to reclaim some.

    What is not said is as plain as can be: a clean, sparse file, mapped whole and read-only, every
    page used once.

    Args:
        map_bytes: size of the file, or of the anonymous mapping, in bytes; taken in whole folios.
        reclaim_bytes: what is asked for, in bytes; whole pages of it count, as memparse() /
            PAGE_SIZE has it in user_proactive_reclaim(), mm/vmscan.c.
        order: folio order, from 0 to the architecture's PMD order, or to MAX_PAGECACHE_ORDER of a
            file; a folio of PMD order is mapped by one PMD leaf. None with `folios`.
        folios: a mixture instead, as shares of the memory by order: "0:0.2,4:0.5,9:0.3". Each folio
            is aligned to its size, so that the orders alternate as finely as alignment allows.
        workload: "file"; "lazyfree": anonymous memory that was written and then MADV_FREE'd;
            "anon": anonymous memory that was written, with swap space that writes at once (zram).
        request: "memory.reclaim", one write to it; "pageout": MADV_PAGEOUT of the first pages, in
            whole folios, used or not. By default the former for a file, and the latter for the
            others, as the patches about them were measured.
        access: how a file came into the page cache. "pread": read, then touched through the
            mapping, so that folios start referenced; "mmap": only touched.
        mapped_by: number of processes that map and touch every page, then sleep.
        mappings: number of mappings of the same file in each of them.
        cpus: 1: reclaim runs where the mapping processes ran; 2: they sit on another CPU, which
            keeps their address space loaded.
        lru_add_batch: order 0 only: how many folios at the file's end were still in the mapping
            CPU's lru_add batch. With two CPUs they are on no list of the classic LRU; lru_gen put
            them into a younger generation. With one CPU the classic LRU does not feel it.
        stats_flush: which node calls (shrink_node(), counted from 0) of the classic LRU find the
            memcg's statistics flushed by the periodic worker: "never", "always" or "3,17".
        vma_shift: pages by which every mapping starts behind the start of a page table.
        vma_cut: pages at either end of the file that no mapping covers.
        young, dirty, writable, soft_dirty, uffd_wp: share of page-table entries with that bit; by
            default as the workload leaves them. With uffd_wp every VMA is registered for
            userfaultfd write-protection.
        mlocked: number of processes whose mappings are VM_LOCKED, though their folios are on the
            evictable lists still.
        partly_mapped: share of large folios whose second half is no longer mapped.
        hwpoison, dirty_folios, pinned: share of folios with a memory error, that are dirty, that
            somebody holds a reference to.
        seed: of what is random in an irregular world: which entries and folios the shares hit, and
            in what order page tables lie in memory.
    """

    map_bytes: int
    reclaim_bytes: int
    order: int | None = 4
    folios: str = ""
    workload: str = "file"
    request: str = ""
    access: str = "pread"
    mapped_by: int = 1
    mappings: int = 1
    cpus: int = 1
    lru_add_batch: int = 0
    stats_flush: str = "never"
    vma_shift: int = 0
    vma_cut: int = 0
    young: float | None = None
    dirty: float | None = None
    writable: float | None = None
    soft_dirty: float = 0.0
    uffd_wp: float = 0.0
    mlocked: int = 0
    partly_mapped: float = 0.0
    hwpoison: float = 0.0
    dirty_folios: float = 0.0
    pinned: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            # A count out of a frame is numpy's integer; ids and JSON want Python's.
            self._set(name, _checked(name, getattr(self, name), low, high))
        for name, allowed in (("access", ACCESSES), ("workload", WORKLOADS)):
            _one_of(name, getattr(self, name), allowed)
        plain = _WORKLOAD_PTES[self.workload]
        for name in (*_PTE_SHARES, *_FOLIO_SHARES):
            value = getattr(self, name)
            self._set(name, _share(name, plain[name] if value is None else value))
        if not self.request:
            self._set("request", REQUESTS[0] if self.workload == "file" else REQUESTS[1])
        _one_of("request", self.request, REQUESTS)
        self._check_orders()
        self._check_combination()
        _ = self.flushes

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_orders(self) -> None:
        if self.folios:
            shares = self.shares  # refuses what is no mixture
            self._set("order", next(iter(shares)) if len(shares) == 1 else None)
            if len(shares) == 1:
                self._set("folios", "")
        else:
            self._set("order", _checked("order", self.order, 0, 13))

    def _check_combination(self) -> None:
        if self.lru_add_batch and self.order != 0:
            raise WorldError(
                f"lru_add_batch {self.lru_add_batch} at order {self.order}: large folios do not "
                "wait in that batch; leave it 0"
            )
        if self.mlocked > self.mapped_by:
            raise WorldError(
                f"mlocked {self.mlocked}: expected at most the {self.mapped_by} processes that map"
            )
        if self.workload == "anon" and self.request == "memory.reclaim":
            raise WorldError(
                "workload anon with memory.reclaim: how that divides its scan between anonymous "
                "and file memory is not simulated; use request pageout"
            )
        if self.workload != "file" and (self.mappings > 1 or self.vma_cut):
            raise WorldError("mappings and vma_cut: only of a file; leave them 1 and 0")
        if self.request == "pageout":
            self._check_pageout()

    def _check_pageout(self) -> None:
        # See madvise_cold_or_pageout_pte_range() in mm/madvise.c.
        if self.mapped_by * self.mappings > 1:
            raise WorldError(
                f"request pageout, mapped_by {self.mapped_by}, mappings {self.mappings}: "
                "MADV_PAGEOUT leaves folios alone that are mapped more than once; use 1"
            )
        if self.vma_cut:
            raise WorldError(
                f"request pageout with vma_cut {self.vma_cut}: folios that the mapping cuts are "
                "split first, which is not simulated; use memory.reclaim"
            )
        mixed = [name for name in ("writable", "uffd_wp") if 0 < getattr(self, name) < 1]
        if self.vma_shift or self.partly_mapped or mixed:
            raise WorldError(
                "request pageout with vma_shift, partly_mapped, or mixed writable or uffd_wp: "
                "MADV_PAGEOUT first splits folios that are not one batch of entries, which is "
                "not simulated; use memory.reclaim"
            )
        if self.mlocked:
            raise WorldError("request pageout with mlocked: MADV_PAGEOUT refuses VM_LOCKED memory")

    @property
    def inputs(self) -> dict:
        """What this world is, as a JSON-able dict: the plain questions, and what is out of line."""
        plain = World(
            map_bytes=self.map_bytes, reclaim_bytes=self.reclaim_bytes, workload=self.workload
        )
        return {
            name: value
            for name, value in asdict(self).items()
            if name in _ALWAYS_TOLD or value != getattr(plain, name)
        } | ({"workload": self.workload} if self.workload != WORKLOADS[0] else {})

    @property
    def shares(self) -> dict[int, float]:
        """The mixture: share of the memory by order, rising; of one order, all of it."""
        if not self.folios:
            return {self.order: 1.0}
        shares: dict[int, float] = {}
        for part in self.folios.split(","):
            order, _, share = part.partition(":")
            try:
                if int(order) in shares or not 0 <= int(order) <= 13:
                    raise ValueError
                shares[int(order)] = float(share)
            except ValueError:
                raise _no_mixture(self.folios) from None
        good = all(0 < share <= 1 for share in shares.values())
        if not good or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise _no_mixture(self.folios)
        return dict(sorted(shares.items()))

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

    @property
    def regular(self) -> bool:
        """Whether every mapping maps every folio whole, with entries that differ in young alone."""
        uniform = all(getattr(self, name) in (0.0, 1.0) for name in ("writable", "soft_dirty"))
        clean = self.dirty == (1.0 if self.workload == "anon" else 0.0)
        odd = ("vma_shift", "vma_cut", "uffd_wp", "mlocked", *_FOLIO_SHARES)
        return uniform and clean and not any(getattr(self, name) for name in odd)

    def nr_pages(self, arch: Arch) -> int:
        """Return the pages of all whole folios; WorldError if there is none, or one too large."""
        largest = max(self.shares)
        most = arch.pmd_order
        if self.workload == "file":
            most = min(most, MAX_PAGECACHE_ORDER)
        if largest > most:
            raise WorldError(f"order {largest}: expected 0 to {most} on this architecture")
        pages = self.map_bytes >> arch.page_shift
        smallest = min(self.shares)
        nr = pages >> smallest << smallest
        if pages >> largest == 0:
            folio_bytes = 1 << (arch.page_shift + largest)
            raise WorldError(
                f"map {self.map_bytes} bytes: smaller than one order-{largest} folio "
                f"({folio_bytes} bytes); map at least that much"
            )
        if nr > MAX_PAGES:
            raise WorldError(f"map {self.map_bytes} bytes: {nr} pages, at most {MAX_PAGES}")
        if nr <= 2 * self.vma_cut:
            raise WorldError(f"vma_cut {self.vma_cut}: leaves nothing of {nr} pages mapped")
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


def _no_mixture(folios: str) -> WorldError:
    return WorldError(
        f"folios {folios!r}: expected orders with their shares of the memory, which sum to 1, such "
        "as 0:0.2,4:0.5,9:0.3"
    )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WorldError(f"{name} {value!r}: expected one of {', '.join(allowed)}")


def _share(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise WorldError(f"{name} {value!r}: expected a share from 0 to 1")
    return float(value)


def _checked(name: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise WorldError(f"{name} {value!r}: expected a whole number, {low} to {high}")
    if not low <= value <= high:
        raise WorldError(f"{name} {value}: expected {low} to {high}")
    return int(value)
