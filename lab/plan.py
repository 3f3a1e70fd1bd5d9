# SPDX-License-Identifier: GPL-2.0-only
"""Plan: which cells one guest measures, and how that is said to the guest's init."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from lab.errors import LabError

ARCHES = ("x86_64", "arm64")
KERNELS = ("base", "references", "unmap", "unmap-only")
LRUS = ("classic", "mglru")
WORKLOADS = ("file", "lazyfree", "anon")
ACCESSES = ("pread", "mmap")
REQUESTS = ("memory.reclaim", "pageout")
# Orders that a tree has as it is: block sizes of 4 to 64 KiB, and MADV_HUGEPAGE.
UNMODIFIED_ORDERS = (0, 1, 2, 3, 4, 9)
# Anonymous folios: those of one page, and those that mTHP offers.
ANONYMOUS_ORDERS = (0, 2, 3, 4, 5, 6, 7, 8, 9)
MAX_MAPPERS = 64  # guest/init.c
MEMORY_MIB = 4096  # of what was tried, nearest to the guests of data/emulated at orders 0 to 2
# The switches that make a kernel out of one that has both batches.
_NEEDS = {
    "base": ("no_reference_batch", "no_unmap_batch"),
    "references": ("no_unmap_batch",),
    "unmap": (),
    "unmap-only": ("no_reference_batch",),
}


@dataclass(frozen=True)
class Plan:
    """Every combination of lrus, orders and kernels, each `reps` times.

    Attributes:
        kernels: of `KERNELS`; "unmap" is the tree as it is.
        orders: folio orders, 0 to 9.
        map_bytes, reclaim_bytes: mapped, and asked for; whole pages of 4 KiB are used.
        cpus: 2 puts the mapping processes on CPU 1 and the reclaimer on CPU 0.
        stats_worker: "on" leaves the two-second statistics worker alone.
        memory_bytes: of the guest; 0 takes 4 GiB, or what is needed if that is more.
        modified: whether the tree has switches; if not, orders come from block sizes.
        profile: whether the function profiler counts hits; then times are of no use.

    Raises:
        LabError: a value that is not allowed, or that does not go with another.
    """

    kernels: tuple[str, ...] = ("base", "references", "unmap")
    orders: tuple[int, ...] = tuple(range(10))
    lrus: tuple[str, ...] = LRUS
    map_bytes: int = 256 << 20
    reclaim_bytes: int = 214748364
    mapped_by: int = 1
    cpus: int = 1
    workload: str = "file"
    access: str = "pread"
    request: str = "memory.reclaim"
    stats_worker: str = "off"
    memory_bytes: int = 0
    reps: int = 1
    modified: bool = True
    profile: bool = False

    def __post_init__(self) -> None:
        if not self.modified:  # nothing in such a tree could silence it
            object.__setattr__(self, "stats_worker", "on")
        for name, allowed in (("kernels", KERNELS), ("lrus", LRUS), ("orders", self._orders())):
            _some_of(name, getattr(self, name), allowed)
        for name, allowed in (
            ("workload", WORKLOADS),
            ("access", ACCESSES),
            ("request", REQUESTS),
            ("stats_worker", ("on", "off")),
            ("cpus", (1, 2)),
            ("mapped_by", range(1, MAX_MAPPERS + 1)),
            ("reps", range(1, 1001)),
        ):
            _one_of(name, getattr(self, name), allowed)
        self._check_sizes()
        self._check_combination()

    def _orders(self) -> tuple[int, ...]:
        if self.workload != "file":
            return ANONYMOUS_ORDERS
        return tuple(range(10)) if self.modified else UNMODIFIED_ORDERS

    def _check_sizes(self) -> None:
        if self.map_bytes < 2 << 20:
            raise LabError(f"--map {self.map_bytes}: expected 2M or more, one folio of order 9")
        if not 4096 <= self.reclaim_bytes <= self.map_bytes:
            raise LabError(
                f"--reclaim {self.reclaim_bytes}: expected 4096 to {self.map_bytes}, what is mapped"
            )
        if self.memory_bytes and self.memory_mib < self.needed_mib:
            raise LabError(f"--memory {self.memory_bytes}: what is mapped needs "
                           f"{self.needed_mib}M; say that or more, or less --map")  # fmt: skip

    def _check_combination(self) -> None:
        if self.workload != "file" and self.mapped_by > 1:
            raise LabError(f"--mapped-by {self.mapped_by}: anonymous memory has one process; leave "
                           "it out, or take --workload file")  # fmt: skip
        if self.request == "pageout" and self.mapped_by > 1:
            raise LabError("--request pageout: one process pages out its own memory; leave "
                           "--mapped-by out")  # fmt: skip
        if not self.modified and set(self.kernels) != {"unmap"}:
            raise LabError(
                "--unmodified: a tree without switches is one kernel; say --kernel unmap"
            )

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the switches of `lab.switches` that these cells need."""
        if not self.modified:
            return ()
        needed = {name for kernel in self.kernels for name in _NEEDS[kernel]}
        if self.workload == "file":
            needed.add("folio_order")
        if self.stats_worker == "off":
            needed.add("no_stats_worker")
        return tuple(sorted(needed))

    @property
    def cells(self) -> list[tuple[str, int, int, str]]:
        """The cells as (lru, order, rep, kernel), in the order in which the guest runs them."""
        return list(product(self.lrus, self.orders, range(self.reps), self.kernels))

    @property
    def boots(self) -> list[Plan]:
        """The plan of each boot: one an LRU.

        An LRU leaves the page allocator's lists as it wants them, which the other's orders 0 and 1
        would find, up to 1% dearer: what is asked beside a cell is not to change it.
        """
        return [replace(self, lrus=(lru,)) for lru in self.lrus]

    @property
    def needed_mib(self) -> int:
        """Memory the guest will touch, MiB: what is mapped, its page tables and pages, the rest.

        Each page mapped has 64 bytes of struct page, and 8 of page table in every process.
        """
        pages = self.map_bytes >> 12
        extra = pages * (64 + 8 * self.mapped_by) + self.map_bytes // 16
        return (self.map_bytes + extra >> 20) + 512

    @property
    def memory_mib(self) -> int:
        """Memory the guest is given, MiB; more than it touches costs this machine nothing.

        Not only what is needed: the page allocator keeps per-CPU lists by the size of a zone, and
        with it orders 0 to 2 change by up to 4%.
        """
        return self.memory_bytes >> 20 or max(MEMORY_MIB, self.needed_mib)

    def arguments(self) -> Iterator[str]:
        """Yield what init is told, one lab.name=value each."""
        yield f"lab.map={self.map_bytes}"
        yield f"lab.reclaim={self.reclaim_bytes}"
        yield f"lab.reps={self.reps}"
        yield f"lab.mapped_by={self.mapped_by}"
        yield f"lab.cpus={self.cpus}"
        yield f"lab.profile={int(self.profile)}"
        yield f"lab.modified={int(self.modified)}"
        yield f"lab.orders={','.join(map(str, self.orders))}"
        yield f"lab.kernels={','.join(self.kernels)}"
        yield f"lab.lrus={','.join(self.lrus)}"
        yield f"lab.workload={self.workload}"
        yield f"lab.access={self.access}"
        yield f"lab.request={self.request}"
        yield f"lab.worker={self.stats_worker}"


def _one_of(name: str, value, allowed) -> None:
    if value not in allowed:
        told = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else _listed(allowed)
        raise LabError(f"--{name.replace('_', '-')} {value}: expected {told}")


def _some_of(name: str, values, allowed) -> None:
    wrong = [value for value in values if value not in allowed]
    if wrong or not values:
        found = _listed(wrong) if wrong else "none"
        raise LabError(f"--{name}: found {found}; expected one or more of {_listed(allowed)}")


def _listed(values) -> str:
    return ", ".join(map(str, values))
