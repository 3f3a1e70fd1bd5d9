# SPDX-License-Identifier: GPL-2.0-only
"""The oracle's reverse mapping, mm/rmap.c: who has used a folio, and its mappings' removal."""

from dataclasses import dataclass, replace

from oracle_memory import Entry
from oracle_walk import PageVmaMappedWalk


@dataclass
class Ttu:
    """enum ttu_flags"""

    sync: bool
    batch_flush: bool = False
    split_huge_pmd: bool = False
    ignore_mlock: bool = False
    hwpoison: bool = False


class Rmap:
    """The mappings of a world."""

    def __init__(self, objects, tables, defers_flush):
        self.tables, self.kernel, self.arch = tables, tables.kernel, tables.arch
        self.hits, self.hit = tables.hits, tables.hit
        self.vmas = objects.vmas
        self.defers_flush = defers_flush
        self.flush_required = self.flush_writable = False
        self.x86 = not self.arch.range_helpers

    def rmap_walk(self, folio, rmap_one, done=None):
        self.hit("rmap_walk")
        self.hit("rmap_walk_anon" if folio.anon else "__rmap_walk_file")
        for vma in self.vmas:
            if vma.end <= folio.first or vma.start >= folio.end:
                continue
            if not rmap_one(folio, vma):
                return
            if done is not None and done(folio):
                return

    def folio_not_mapped(self, folio):
        self.hit("folio_not_mapped")
        return folio.mapcount == 0

    def folio_referenced(self, folio, is_locked):
        """Returns how many VMAs have used the folio, and whether one of them is VM_LOCKED."""
        self.hit("folio_referenced")
        self.nr_referenced, self.found_locked = 0, False
        self.mappings_left = folio.mapcount
        if folio.mapcount == 0:
            return 0, False
        self.rmap_walk(folio, self.folio_referenced_one)
        if not is_locked:
            self.hit("folio_unlock")
        return self.nr_referenced, self.found_locked

    def folio_referenced_one(self, folio, vma):
        self.hit("invalid_folio_referenced_vma")
        self.hit("folio_referenced_one")
        walk = PageVmaMappedWalk(self.tables, vma, folio, sync=False)
        nr_ptes, referenced = 0, False
        while walk.find():
            if vma.locked:
                nr_ptes += 1
                self.mappings_left -= 1
                if (not walk.at_leaf and nr_ptes != folio.nr_pages) or walk.crossed_table:
                    continue
                self.mlock_folio(folio)
                self.found_locked = True
                return False
            nr = 1
            if walk.at_leaf:
                referenced |= self.tables.pmdp_clear_flush_young(vma.table(walk.page))
            else:
                nr = self.reference_batch(folio, vma, walk)
                referenced |= self.tables.clear_flush_young(walk.place, nr)
            nr_ptes += nr
            self.mappings_left -= nr
            if nr_ptes == folio.nr_pages:
                break
            if not walk.at_leaf:
                walk.skip(nr)
        self.nr_referenced += referenced
        return self.mappings_left != 0

    def reference_batch(self, folio, vma, walk):
        if not self.kernel.batched_references or not folio.large:
            return 1
        entry = self.tables.ptep_get(walk.place)
        self.hit("folio_pte_batch")
        end = min(vma.end_of_table(walk.page), vma.end)
        max_nr = min(end - walk.page, folio.end - entry.page)
        return self.tables.batch(walk.place, entry, max_nr)

    def mlock_folio(self, folio):
        self.hit("mlock_folio")
        folio.mlocked = True

    def try_to_unmap(self, folio, ttu):
        self.hit("try_to_unmap")
        self.rmap_walk(
            folio, lambda folio, vma: self.try_to_unmap_one(folio, vma, ttu), self.folio_not_mapped
        )

    def try_to_unmap_one(self, folio, vma, ttu):
        self.hit("try_to_unmap_one")
        walk = PageVmaMappedWalk(self.tables, vma, folio, sync=ttu.sync)
        nr_ptes, unmapped, split = 0, True, ttu.split_huge_pmd
        while walk.find():
            if vma.locked and not ttu.ignore_mlock:
                nr_ptes += 1
                unmapped = False
                if not walk.at_leaf and nr_ptes != folio.nr_pages:
                    continue
                if not walk.crossed_table:
                    self.mlock_folio(folio)
                break
            if walk.at_leaf:
                if folio.lazyfree:
                    discarded = self.discard_leaf(folio, vma)
                    if discarded or self.kernel.retains_dirty_pmd:
                        return discarded
                assert split
                split = False
                self.split_huge_pmd(folio, vma)
                walk.restart()
                continue
            nr = self.unmap_ptes(folio, vma, walk, ttu)
            if nr == 0:
                return False
            if nr == folio.nr_pages:
                break
            # `continue`, as the batch's other entries are none now
        return unmapped

    def batches_unmap(self, folio):
        if not folio.anon:
            return self.kernel.batched_unmap
        return self.kernel.batched_lazyfree if folio.lazyfree else self.kernel.batched_anon

    def unmap_batch(self, folio, vma, walk, ttu, entry):
        """folio_unmap_pte_batch(), or can_batch_unmap_folio_ptes() of v6.15"""
        kernel = self.kernel
        if ttu.hwpoison or not folio.large:
            return 1
        if kernel.whole_folios_only and kernel.batched_lazyfree:
            self.tables.ptep_get(walk.place)
        if not self.batches_unmap(folio) or (vma.uffd_wp and kernel.refuses_uffd_wp):
            return 1
        if kernel.whole_folios_only and entry.page != folio.first:
            return 1
        max_nr = folio.end - entry.page
        if kernel.stops_at_page_table:
            max_nr = min(max_nr, vma.end_of_table(walk.page) - walk.page, vma.end - walk.page)
        respect = ["write"] * kernel.respects_write + ["soft_dirty"] * kernel.respects_soft_dirty
        nr = self.tables.batch(walk.place, entry, max_nr, respect)
        if kernel.whole_folios_only and nr != folio.nr_pages:
            return 1
        if folio.anon and not folio.lazyfree:
            exclusive = folio.exclusive[entry.page - folio.first]
            if not exclusive or folio.mapcount != nr:
                return 1
        return nr

    def unmap_ptes(self, folio, vma, walk, ttu):
        """Returns the number of entries removed, or 0 if the walk is to be aborted."""
        tables, place = self.tables, walk.place
        entry = tables.ptep_get(place)
        first = entry.page - folio.first
        exclusive = folio.anon and folio.exclusive[first]
        nr = self.unmap_batch(folio, vma, walk, ttu, entry)
        entry = tables.get_and_clear(place, nr)
        self.flush_or_defer(vma, entry, ttu)
        if entry.dirty:
            self.folio_mark_dirty(folio)
        if not folio.anon and vma.uffd_wp and entry.uffd_wp:
            self.hit("pte_markers")
            tables.ptes[place] = Entry("marker", entry.page, uffd_wp=True)
        if folio.hwpoison and ttu.hwpoison:
            self.add_mm_counter(vma.mm, "rss", -1)
            tables.ptes[place] = Entry("swap", entry.page)
        elif not folio.anon:
            self.add_mm_counter(vma.mm, "rss", -nr)
        elif folio.lazyfree:
            if folio.dirty or folio.refs != 1 + folio.mapcount:
                self.hit("set_ptes")
                tables.set_ptes(place, entry, nr)
                # What was before a lone entry in its block has gone, or never was.
                assert nr > 1 or not tables.completes_block(place, folio)
                folio.swapbacked = folio.dirty or self.kernel.pinned_is_swapbacked
                return 0
            self.add_mm_counter(vma.mm, "rss", -nr)
        else:
            assert folio.swapcache
            self.swap_out(folio, vma, place, entry, nr, exclusive)
        self.hits["ptes_cleared"] += nr
        self.folio_remove_rmap_ptes(folio, first, nr)
        folio.refs -= nr
        self.hits["references_put"] += nr
        return nr

    def swap_out(self, folio, vma, place, entry, nr, exclusive):
        first = entry.page - folio.first
        self.hit("folio_dup_swap")
        for number in range(nr):
            folio.swap_map[first + number] += 1
            if exclusive:
                folio.exclusive[first + number] = False
            bits = {"soft_dirty": entry.soft_dirty, "uffd_wp": entry.uffd_wp}
            self.tables.ptes[place + number] = Entry("swap", entry.page + number, **bits)
            self.hit("swap_ptes")
        self.add_mm_counter(vma.mm, "rss", -nr)
        self.add_mm_counter(vma.mm, "swapents", nr)

    def add_mm_counter(self, mm, counter, nr):
        setattr(mm, counter, getattr(mm, counter) + nr)
        self.hit("mm_trace_rss_stat")

    def folio_mark_dirty(self, folio):
        self.hit("folio_mark_dirty")
        if not folio.anon or folio.swapcache:
            folio.reclaim = False
        if not folio.anon and not folio.dirty:
            self.hit("lruvec_stat_mod_folio")  # NR_FILE_DIRTY
        folio.dirty = True

    def flush_or_defer(self, vma, entry, ttu):
        if ttu.batch_flush and self.defers_flush:
            self.hit("set_tlb_ubc_flush_pending" + ".constprop.0" * self.x86)
            self.flush_required = True
            self.flush_writable |= entry.dirty
            vma.mm.flushes_pending = True
        elif self.x86:
            self.hit("flush_tlb_mm_range")

    def try_to_unmap_flush(self):
        self.hit("try_to_unmap_flush")
        if self.flush_required and self.x86:
            self.hit("arch_tlbbatch_flush")
            self.hit("native_flush_tlb_multi")
        self.flush_required = self.flush_writable = False

    def try_to_unmap_flush_dirty(self):
        if self.flush_writable:
            self.try_to_unmap_flush()

    def flush_tlb_batched_pending(self, mm):
        if mm.flushes_pending and self.x86:
            self.hit("flush_tlb_mm_range")
        mm.flushes_pending = False

    def folio_remove_rmap_ptes(self, folio, first, nr):
        self.hit("folio_remove_rmap_ptes")
        nr_unmapped = 0
        for number in range(first, first + nr):
            folio.mapcounts[number] -= 1
            assert folio.mapcounts[number] >= 0
            nr_unmapped += folio.mapcounts[number] == 0
        if folio.entire_mapcount:
            nr_unmapped = 0
        if folio.large and nr_unmapped and folio.nr_pages_mapped:
            self.folio_is_partially_mapped(folio)
        if nr_unmapped:
            self.mod_mapped_stat()

    def folio_remove_rmap_pmd(self, folio):
        self.hit("folio_remove_rmap_pmd")
        folio.entire_mapcount -= 1
        if folio.entire_mapcount:
            return
        nr_unmapped = folio.nr_pages - folio.nr_pages_mapped
        if 0 < nr_unmapped < folio.nr_pages:
            self.folio_is_partially_mapped(folio)
        if nr_unmapped:
            self.mod_mapped_stat()
        if folio.anon:
            self.mod_mapped_stat()  # NR_ANON_THPS

    def mod_mapped_stat(self):
        self.hit("mapped_stat_updates")
        self.hit("lruvec_stat_mod_folio")

    def folio_is_partially_mapped(self, folio):
        if folio.anon and not folio.partially_mapped:
            self.hit("deferred_split_folio")
            folio.partially_mapped = folio.order > 1 and not folio.swapcache

    def discard_leaf(self, folio, vma):
        """__discard_anon_folio_pmd_locked()"""
        place = vma.table(folio.first)
        dirty = folio.dirty or self.tables.leaves[place].dirty
        if dirty:
            if self.kernel.retains_dirty_pmd:
                folio.dirty = folio.swapbacked = True
            return False
        leaf = self.tables.pmdp_huge_clear_flush(place)
        if folio.refs != folio.mapcount + 1:
            self.tables.leaves[place] = leaf
            return False
        self.folio_remove_rmap_pmd(folio)
        self.hits["ptes_cleared"] += folio.nr_pages
        self.add_mm_counter(vma.mm, "rss", -folio.nr_pages)
        folio.refs -= 1
        self.hits["references_put"] += 1
        return True

    def split_huge_pmd(self, folio, vma):
        """__split_huge_pmd_locked(), which zaps the leaf of a file"""
        place = vma.table(folio.first)
        leaf = self.tables.pmdp_huge_clear_flush(place)
        if not folio.anon:
            if leaf.dirty and not folio.dirty:
                self.folio_mark_dirty(folio)
            folio.referenced |= leaf.young
            self.folio_remove_rmap_pmd(folio)
            self.hits["ptes_cleared"] += folio.nr_pages
            self.add_mm_counter(vma.mm, "rss", -folio.nr_pages)
            folio.refs -= 1
            self.hits["references_put"] += 1
            return
        folio.dirty |= leaf.dirty
        folio.refs += folio.nr_pages - 1
        folio.mapcounts = [count + 1 for count in folio.mapcounts]
        entry = self.tables.mkdirty(leaf) if leaf.dirty else leaf
        self.tables.set_ptes(place, entry, folio.nr_pages)
        self.folio_remove_rmap_pmd(folio)

    def unmap_poisoned_folio(self, folio):
        """mm/memory-failure.c"""
        self.hit("unmap_poisoned_folio")
        ttu = Ttu(sync=True, ignore_mlock=True, hwpoison=not folio.swapcache)
        if not folio.anon and not folio.dirty:
            if self.folio_mkclean(folio):
                folio.dirty = True
            else:
                ttu.hwpoison = False
        self.try_to_unmap(folio, ttu)

    def folio_mkclean(self, folio):
        self.nr_cleaned = 0
        if folio.mapcount:
            self.rmap_walk(folio, self.page_mkclean_one)
        return self.nr_cleaned

    def page_mkclean_one(self, folio, vma):
        walk = PageVmaMappedWalk(self.tables, vma, folio, sync=True)
        while walk.find():
            entry = self.tables.ptep_get(walk.place)
            if not entry.dirty and not entry.write:
                continue
            entry = self.tables.get_and_clear(walk.place, 1)
            if self.x86:
                self.hit("flush_tlb_mm_range")  # ptep_clear_flush()
            clean = replace(entry, dirty=False, write=False)
            self.tables.set_ptes(walk.place, clean, 1)
            self.nr_cleaned += 1
        return True
