# SPDX-License-Identifier: GPL-2.0-only
"""The oracle's objects: entries, page tables, VMAs and folios, and their state as `sim` has it.

They are made from a memory that `sim` has laid out, because what is random in a world is random
there. Nothing that happens afterwards is `sim`'s.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from sim import state

PROFILED_CHARS = 30  # of a function's name
_ENTRY_BITS = {
    "young": state.PTE_YOUNG,
    "cont": state.PTE_CONT,
    "dirty": state.PTE_DIRTY,
    "write": state.PTE_WRITE,
    "soft_dirty": state.PTE_SOFT_DIRTY,
    "uffd_wp": state.PTE_UFFD_WP,
}
_FOLIO_BITS = {
    "referenced": state.REFERENCED,
    "active": state.ACTIVE,
    "workingset": state.WORKINGSET,
    "dirty": state.DIRTY,
    "mlocked": state.MLOCKED,
    "hwpoison": state.HWPOISON,
    "swapbacked": state.SWAPBACKED,
    "swapcache": state.SWAPCACHE,
    "reclaim": state.RECLAIM,
    "pinned": state.PINNED,
    "partially_mapped": state.PARTIALLY_MAPPED,
}


class Hits(Counter):
    """How often each function was called, by its name as it is profiled."""

    def hit(self, function, times=1):
        self[function[:PROFILED_CHARS]] += times


@dataclass
class Entry:
    """What a page-table entry says: "present", a "swap" entry, or a userfaultfd "marker"."""

    kind: str
    page: int
    young: bool = False
    cont: bool = False
    dirty: bool = False
    write: bool = False
    soft_dirty: bool = False
    uffd_wp: bool = False

    @property
    def present(self):
        return self.kind == "present"

    def flags(self):
        kinds = {"present": state.PTE_PRESENT, "swap": state.PTE_SWAP, "marker": 0}
        bits = [bit for name, bit in _ENTRY_BITS.items() if getattr(self, name)]
        return kinds[self.kind] + sum(bits)


@dataclass(eq=False)
class Mm:
    """The address space of one process."""

    rss: int = 0
    swapents: int = 0
    flushes_pending: bool = False  # tlb_flush_batched: deferred flushes that mprotect() must do


@dataclass(eq=False)
class Vma:
    """One mapping. `tables` are the places in memory of its page tables."""

    start: int  # the first page that is mapped
    end: int
    shift: int  # virtual page number of page 0, from the start of the first table
    locked: bool
    uffd_wp: bool
    mm: Mm
    tables: list[int]
    nr_entries: int

    def place(self, page):
        number = page + self.shift
        return self.tables[number // self.nr_entries] + number % self.nr_entries

    def table(self, page):
        return self.tables[(page + self.shift) // self.nr_entries]

    def starts_table(self, page):
        return (page + self.shift) % self.nr_entries == 0

    def end_of_table(self, page):
        number = page + self.shift
        return (number // self.nr_entries + 1) * self.nr_entries - self.shift


@dataclass(eq=False)
class Folio:
    first: int
    order: int
    anon: bool
    refs: int = 0
    mapcounts: list[int] = field(default_factory=list)  # by PTEs, of each page
    entire_mapcount: int = 0  # by PMD leaves
    exclusive: list[bool] = field(default_factory=list)
    swap_map: list[int] = field(default_factory=list)
    referenced: bool = False
    active: bool = False
    workingset: bool = False
    dirty: bool = False
    mlocked: bool = False
    hwpoison: bool = False
    swapbacked: bool = False
    swapcache: bool = False
    reclaim: bool = False
    pinned: bool = False
    partially_mapped: bool = False
    freed: bool = False

    @property
    def nr_pages(self):
        return 1 << self.order

    @property
    def end(self):
        return self.first + self.nr_pages

    @property
    def large(self):
        return self.order > 0

    @property
    def lazyfree(self):
        return self.anon and not self.swapbacked

    @property
    def mapcount(self):
        return sum(self.mapcounts) + self.entire_mapcount

    @property
    def nr_pages_mapped(self):
        """Pages that some PTE maps: _nr_pages_mapped but for ENTIRELY_MAPPED."""
        return sum(count > 0 for count in self.mapcounts)

    def flags(self):
        bits = [bit for name, bit in _FOLIO_BITS.items() if getattr(self, name)]
        if all(self.exclusive):
            bits.append(state.EXCLUSIVE)
        return sum(bits)


class World:
    """All objects of one laid-out memory."""

    def __init__(self, world, arch, memory):
        self.world, self.arch = world, arch
        self.nr_entries = 1 << arch.pmd_order
        self.ptes, self.leaves = {}, {}  # by their places in memory
        self.folios = list(self._folios(memory))
        self.folio_of = {page: folio for folio in self.folios for page in _pages(folio)}
        self.mms = [Mm() for _ in range(world.mapped_by)]
        self.vmas = [self._vma(memory, number) for number in range(len(memory.vmas))]
        for vma in self.vmas:
            self._map(vma, memory.ptes)
        self.inactive = self._on(memory.lruvec.inactive)
        self.active = self._on(memory.lruvec.active)

    def _folios(self, memory):
        page = 0
        anon = self.world.workload != "file"
        while page < len(memory.folio_flags):
            flags = int(memory.folio_flags[page])
            order = flags >> state.ORDER_SHIFT
            folio = Folio(page, order, anon)
            for name, bit in _FOLIO_BITS.items():
                setattr(folio, name, bool(flags & bit))
            folio.mapcounts = [0] * folio.nr_pages
            folio.exclusive = [bool(flags & state.EXCLUSIVE)] * folio.nr_pages
            folio.swap_map = [0] * folio.nr_pages
            folio.refs = (0 if anon else folio.nr_pages) + folio.pinned
            yield folio
            page = folio.end

    def _vma(self, memory, number):
        start, end, shift, flags, process = (int(column) for column in memory.vmas[number])
        return Vma(
            start,
            end,
            shift,
            locked=bool(flags & state.LOCKED),
            uffd_wp=bool(flags & state.UFFD_WP),
            mm=self.mms[process],
            tables=[int(place) for place in memory.tables[number]],
            nr_entries=self.nr_entries,
        )

    def _map(self, vma, ptes):
        for page in range(vma.start, vma.end):
            place = vma.place(page)
            flags = int(ptes[place])
            if not flags:
                continue
            folio = self.folio_of[page]
            bits = {name: bool(flags & bit) for name, bit in _ENTRY_BITS.items()}
            entry = Entry("present", page, **bits)
            folio.refs += 1
            if flags & state.PMD_LEAF:
                self.leaves[place] = entry
                folio.entire_mapcount += 1
                vma.mm.rss += folio.nr_pages
            else:
                self.ptes[place] = entry
                folio.mapcounts[page - folio.first] += 1
                vma.mm.rss += 1

    def _on(self, lru):
        return [self.folio_of[page] for page in oldest_first(lru) if page in self._first_pages]

    @property
    def _first_pages(self):
        return {folio.first for folio in self.folios}

    def entries(self):
        """The page tables as `sim` keeps them."""
        nr = sum(len(vma.tables) for vma in self.vmas) * self.nr_entries
        flags = np.zeros(nr, np.uint8)
        for place, entry in self.ptes.items():
            flags[place] = entry.flags()
        for place, leaf in self.leaves.items():
            flags[place] = leaf.flags() | state.PMD_LEAF
        return flags


def oldest_first(lru):
    """The pages on a list of `sim`."""
    oldest, nr = lru.state[state.OLDEST], lru.state[state.NR_EXTENTS]
    extents = [lru.extents[(oldest + i) % len(lru.extents)] for i in range(nr)]
    return [page for first, end in extents for page in range(first, end)]


def _pages(folio):
    return range(folio.first, folio.end)
