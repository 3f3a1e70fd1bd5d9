# SPDX-License-Identifier: GPL-2.0-only
"""The oracle's page tables: what the kernel does to entries, and where a batch of them ends.

arm64: arch/arm64/include/asm/pgtable.h, arch/arm64/mm/contpte.c; others: include/linux/pgtable.h.
"""

from dataclasses import replace


class PageTables:
    """The entries of all address spaces, by their places in memory."""

    def __init__(self, objects, kernel, hits):
        self.arch, self.kernel = objects.arch, kernel
        self.hits, self.hit = hits, hits.hit
        self.ptes, self.leaves = objects.ptes, objects.leaves
        # x86's pte_mkdirty() sets the soft-dirty bit as well.
        self.dirty_is_soft_dirty = not self.arch.range_helpers

    def get(self, place):
        """__ptep_get(): one entry as it stands in memory."""
        return self.ptes.get(place)

    def is_cont(self, place):
        entry = self.get(place)
        return entry is not None and entry.present and entry.cont

    def block(self, place):
        first = place - place % (1 << self.arch.cont_order)
        return range(first, first + (1 << self.arch.cont_order))

    def ptep_get(self, place, function="contpte_ptep_get"):
        entry = self.get(place)
        if not self.is_cont(place):
            return entry
        self.hit(function)
        block = [self.get(neighbour) for neighbour in self.block(place)]
        return replace(
            entry,
            young=any(neighbour.young for neighbour in block),
            dirty=any(neighbour.dirty for neighbour in block),
        )

    def ptep_get_lockless(self, place):
        return self.ptep_get(place, "contpte_ptep_get_lockless")

    def mkdirty(self, entry):
        soft_dirty = entry.soft_dirty or self.dirty_is_soft_dirty
        return replace(entry, dirty=True, soft_dirty=soft_dirty)

    def merge(self, entry, entries):
        """As get_and_clear_full_ptes() and contpte_convert() do."""
        for other in entries:
            if other.dirty:
                entry = self.mkdirty(entry)
            if other.young:
                entry = replace(entry, young=True)
        return entry

    def unfold(self, place):
        """contpte_try_unfold()"""
        if not self.is_cont(place):
            return
        self.hit("__contpte_try_unfold")
        self.hit("contpte_convert")
        block = self.block(place)
        first = replace(self.get(place), cont=False)
        merged = self.merge(first, [self.get(neighbour) for neighbour in block])
        first_page = merged.page - (place - block[0])
        for number, neighbour in enumerate(block):
            self.ptes[neighbour] = replace(merged, page=first_page + number)

    def get_and_clear(self, place, nr):
        """get_and_clear_ptes()"""
        if self.arch.range_helpers and nr > 1:
            self.hit("contpte_get_and_clear_full_ptes")
            self.hit("contpte_try_unfold_partial")
            size = 1 << self.arch.cont_order
            if place % size or nr < size:
                self.unfold(place)
            if (place + nr) % size:
                self.unfold(place + nr - 1)
        elif nr == 1:
            self.unfold(place)
        cleared = [self.ptes.pop(place + number) for number in range(nr)]
        return self.merge(cleared[0], cleared[1:])

    def set_ptes(self, place, entry, nr):
        size = 1 << self.arch.cont_order
        for number in range(nr):
            block = self.block(place + number)
            whole = nr > 1 and size > 1 and place <= block[0] and block[-1] < place + nr
            page = entry.page + number
            aligned = (page - (place + number - block[0])) % size == 0
            self.ptes[place + number] = replace(entry, page=page, cont=whole and aligned)

    def completes_block(self, place, folio):
        """Whether contpte_try_fold() has something to do for an entry that was set alone."""
        size = 1 << self.arch.cont_order
        if size == 1 or (place + 1) % size or folio.nr_pages < size:
            return False
        return None not in [self.get(neighbour) for neighbour in self.block(place)]

    def test_and_clear_young(self, place):
        self.hit("young_pte_ops")
        entry = self.ptes[place]
        self.ptes[place] = replace(entry, young=False)
        return entry.young

    def clear_flush_young(self, place, nr):
        """clear_flush_young_ptes()"""
        if not self.arch.range_helpers:
            young = False
            for number in range(nr):
                self.hit("ptep_clear_flush_young")
                young |= self.test_and_clear_young(place + number)
            return young
        first, end = place, place + nr
        if nr > 1 or self.is_cont(place):
            self.hit("contpte_clear_flush_young_ptes")
            self.hit("contpte_test_and_clear_young_ptes")
            if self.is_cont(end - 1):
                end = self.block(end - 1)[-1] + 1
            if self.is_cont(first):
                first = self.block(first)[0]
        young = False
        for cleared in range(first, end):
            young |= self.test_and_clear_young(cleared)
        if young:
            self.hit("young_tlbi")
        return young

    def pmdp_clear_flush_young(self, place):
        self.hit("pmdp_clear_flush_young")
        leaf = self.leaves[place]
        self.leaves[place] = replace(leaf, young=False)
        if leaf.young:
            self.flush_pmd_tlb_range()
        return leaf.young

    def pmdp_huge_clear_flush(self, place):
        self.flush_pmd_tlb_range()
        return self.leaves.pop(place)

    def flush_pmd_tlb_range(self):
        if self.arch.pmd_flush_is_mm_range:
            self.hit("flush_tlb_mm_range")

    def hint(self, place):
        """pte_batch_hint()"""
        return self.block(place)[-1] + 1 - place if self.is_cont(place) else 1

    def batch(self, place, entry, max_nr, respect=()):
        """folio_pte_batch_flags(): neither young nor dirty is ever compared by reclaim."""
        alike = ("uffd_wp", "cont", *respect)
        nr = self.hint(place)
        while nr < max_nr:
            other = self.ptep_get(place + nr)
            if other is None or not other.present or other.page != entry.page + nr:
                break
            if any(getattr(other, name) != getattr(entry, name) for name in alike):
                break
            nr += self.hint(place + nr)
        return min(nr, max_nr)
