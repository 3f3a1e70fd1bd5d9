# SPDX-License-Identifier: GPL-2.0-only
"""The oracle's page tables and reverse mapping, one entry at a time; see oracle.py."""

from collections import Counter
from dataclasses import dataclass, field

PMD_ORDER = 9
CONT_PTES = 16  # arm64, 4 KiB pages
PROFILED_CHARS = 30  # of a function's name

BATCHES_REFERENCES = {"base": False, "references": True, "unmap": True, "unmap-only": False}
BATCHES_UNMAP = {"base": False, "references": False, "unmap": True, "unmap-only": True}


@dataclass(eq=False)
class Entry:
    """A present page-table entry: of one page, or a PMD leaf."""

    young: bool
    cont: bool = False


@dataclass(eq=False)
class AddressSpace:
    """The page table of one process, by page number in the file; PMD leaves by their first page."""

    ptes: dict[int, Entry] = field(default_factory=dict)
    pmds: dict[int, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class Folio:
    first: int
    nr_pages: int
    mapcounts: list[int]  # of each page; of a PMD-mapped folio, one for all
    refs: int
    referenced: bool
    active: bool = False
    workingset: bool = False

    @property
    def end(self) -> int:
        return self.first + self.nr_pages


class PageVmaMappedWalk:
    """The cursor that rmap moves over the entries of one folio in one address space."""

    def __init__(self, rmap, space, folio, locked):
        self.rmap, self.space, self.folio, self.locked = rmap, space, folio, locked
        self.page = None
        self.at_pmd = False

    def restart(self):
        self.page, self.at_pmd = None, False

    def find(self) -> bool:
        self.rmap.hit("page_vma_mapped_walk")
        if self.at_pmd:
            return False  # nothing follows a PMD leaf
        if self.folio.first in self.space.pmds:
            self.at_pmd = True
            return True
        return self._first_pte() if self.page is None else self._next_pte()

    def _first_pte(self):
        self.page = self.folio.first
        pte = self.space.ptes.get(self.page)
        if pte is None:
            return False
        if not self.locked and pte.cont:
            self.rmap.hit("contpte_ptep_get_lockless")
        self.rmap.ptep_get(self.space, self.page)  # check_pte()
        return True

    def _next_pte(self):
        while True:
            self.page += 1
            if self.page >= self.folio.end:
                return False
            if self.rmap.ptep_get(self.space, self.page) is not None:
                break
        self.rmap.ptep_get(self.space, self.page)  # check_pte()
        return True


class Rmap:
    """The address spaces of a world, and the counters that each call goes into."""

    def __init__(self, world, arch, kernel):
        self.arm64 = arch == "arm64"
        self.batches_references = BATCHES_REFERENCES[kernel]
        self.batches_unmap = BATCHES_UNMAP[kernel]
        self.cpus = world.cpus
        self.spaces = [AddressSpace() for _ in range(world.mapped_by)]
        self.tlb_pending = False
        self.hits = Counter()

    def hit(self, function):
        self.hits[function[:PROFILED_CHARS]] += 1

    def read_and_map(self, first, nr_pages, world):
        pmd = world.order == PMD_ORDER
        cont = self.arm64 and nr_pages >= CONT_PTES
        for space in self.spaces:
            if pmd:
                space.pmds[first] = Entry(young=True)
                continue
            for page in range(first, first + nr_pages):
                space.ptes[page] = Entry(young=True, cont=cont)
        mappings = 1 if pmd else nr_pages
        return Folio(
            first,
            nr_pages,
            mapcounts=[world.mapped_by] * mappings,
            refs=nr_pages + mappings * world.mapped_by,  # the page cache, the mappings
            referenced=world.access == "pread",
        )

    def ptep_get(self, space, page):
        pte = space.ptes.get(page)
        if pte is not None and pte.cont:
            self.hit("contpte_ptep_get")
        return pte

    def test_and_clear_young(self, space, first, end):
        young = False
        for page in range(first, end):
            self.hit("young_pte_ops")
            young |= space.ptes[page].young
            space.ptes[page].young = False
        return young

    def clear_flush_young(self, space, first, end):
        if not self.arm64:
            young = False
            for page in range(first, end):
                self.hit("ptep_clear_flush_young")
                young |= self.test_and_clear_young(space, page, page + 1)
            return young
        if end - first > 1 or space.ptes[first].cont:
            self.hit("contpte_clear_flush_young_ptes")
            self.hit("contpte_test_and_clear_young_ptes")
        while space.ptes[first].cont and first % CONT_PTES:
            first -= 1
        while space.ptes[end - 1].cont and end % CONT_PTES:
            end += 1
        young = self.test_and_clear_young(space, first, end)
        if young:
            self.hit("young_tlbi")
        return young

    def pte_batch(self, space, folio, page):
        # The caller has read the entry of `page`; hints let the scan step over contpte blocks.
        hint = CONT_PTES if space.ptes[page].cont else 1
        end = page + hint
        while end < folio.end and self.ptep_get(space, end) is not None:
            end += CONT_PTES if space.ptes[end].cont else 1
        return end

    def get_and_clear(self, space, first, end):
        if self.arm64 and end - first > 1:
            self.hit("contpte_get_and_clear_full_ptes")
            self.hit("contpte_try_unfold_partial")
            if first % CONT_PTES and space.ptes[first].cont:
                self.unfold(space, first)
            if end % CONT_PTES and space.ptes[end - 1].cont:
                self.unfold(space, end - 1)
        elif space.ptes[first].cont:
            self.unfold(space, first)
        for page in range(first, end):
            del space.ptes[page]

    def unfold(self, space, page):
        self.hit("__contpte_try_unfold")
        self.hit("contpte_convert")
        start = page - page % CONT_PTES
        for neighbour in range(start, start + CONT_PTES):
            space.ptes[neighbour].cont = False

    def folio_referenced(self, folio):
        self.hit("folio_referenced")
        self.hit("rmap_walk")
        self.hit("__rmap_walk_file")
        return sum(self.folio_referenced_one(folio, space) for space in self.spaces)

    def folio_referenced_one(self, folio, space):
        self.hit("folio_referenced_one")
        self.hit("invalid_folio_referenced_vma")
        walk = PageVmaMappedWalk(self, space, folio, locked=False)
        young, seen = False, 0
        while walk.find():
            if walk.at_pmd:
                young |= self.pmdp_clear_flush_young(space, folio)
                seen += 1
            else:
                end = walk.page + 1
                if self.batches_references and folio.nr_pages > 1:
                    self.ptep_get(space, walk.page)
                    self.hit("folio_pte_batch")
                    end = self.pte_batch(space, folio, walk.page)
                young |= self.clear_flush_young(space, walk.page, end)
                seen += end - walk.page
                walk.page = end - 1
            if seen == folio.nr_pages:
                break
        return young

    def pmdp_clear_flush_young(self, space, folio):
        self.hit("pmdp_clear_flush_young")
        pmd = space.pmds[folio.first]
        young, pmd.young = pmd.young, False
        if young and not self.arm64:
            self.hit("flush_tlb_mm_range")
        return young

    def try_to_unmap(self, folio):
        self.hit("try_to_unmap")
        self.hit("rmap_walk")
        self.hit("__rmap_walk_file")
        for space in self.spaces:
            self.try_to_unmap_one(folio, space)
            self.hit("folio_not_mapped")
            if not any(folio.mapcounts):
                break

    def try_to_unmap_one(self, folio, space):
        self.hit("try_to_unmap_one")
        walk = PageVmaMappedWalk(self, space, folio, locked=folio.nr_pages > 1)
        while walk.find():
            if walk.at_pmd:
                self.zap_pmd(folio, space)
                walk.restart()
                continue
            self.ptep_get(space, walk.page)
            first, end = walk.page, walk.page + 1
            if self.batches_unmap and folio.nr_pages > 1:
                end = self.pte_batch(space, folio, first)
            self.get_and_clear(space, first, end)
            self.flush_or_defer()
            self.remove_rmap("folio_remove_rmap_ptes", folio, range(first, end))
            if end - first == folio.nr_pages:
                break
            walk.page = end - 1

    def zap_pmd(self, folio, space):
        del space.pmds[folio.first]
        if not self.arm64:
            self.hit("flush_tlb_mm_range")
        self.remove_rmap("folio_remove_rmap_pmd", folio, [folio.first])

    def remove_rmap(self, function, folio, pages):
        self.hit(function)
        self.hit("mm_trace_rss_stat")
        unmapped = False
        for page in pages:
            folio.mapcounts[page - folio.first] -= 1
            unmapped |= folio.mapcounts[page - folio.first] == 0
            folio.refs -= 1
        if unmapped:
            self.hit("lruvec_stat_mod_folio")  # NR_FILE_MAPPED

    def flush_or_defer(self):
        if self.arm64:
            self.hit("set_tlb_ubc_flush_pending")
            self.tlb_pending = True
        elif self.cpus > 1:
            self.hit("set_tlb_ubc_flush_pending.constprop.0")
            self.tlb_pending = True
        else:
            self.hit("flush_tlb_mm_range")

    def try_to_unmap_flush(self):
        self.hit("try_to_unmap_flush")
        if self.tlb_pending and not self.arm64:
            self.hit("arch_tlbbatch_flush")
            self.hit("native_flush_tlb_multi")
        self.tlb_pending = False
