# SPDX-License-Identifier: GPL-2.0-only
"""A second, deliberately naive simulator of classic-LRU reclaim; it exists only for the tests.

It is written from the kernel, not from `sim`, and shares with it the memory that it starts from:
folios and page-table entries are objects, lists are deques, and each call is counted where it
happens, one entry at a time. It is slow and meant for worlds of some hundred pages below 1 GiB.
"""

from collections import deque

from oracle_memory import Hits, World
from oracle_ptes import PageTables
from oracle_rmap import Rmap, Ttu

QUANTUM_PAGES = 32
FREE_BATCH = 31
COSTLY_ORDER = 3
EAGAIN = 11
EINVAL = 22


class Reclaim:
    """One request: the lists, and a method for each function of mm/vmscan.c that does something."""

    def __init__(self, world, arch, kernel, memory):
        self.objects = objects = World(world, arch, memory)
        self.world, self.arch = world, arch
        self.hits = Hits()
        self.hit = self.hits.hit
        self.tables = PageTables(objects, kernel, self.hits)
        defers = arch.defers_flush_always or world.cpus > 1
        self.rmap = Rmap(objects, self.tables, defers)
        self.force_deactivate = False
        self.skipped_deactivate = False
        self.nr_scanned = 0
        self.nr_node_calls = 0
        self.stale_inactive, self.stale_active = (int(nr) for nr in memory.lruvec.stale_pages)
        self.inactive, self.active = deque(objects.inactive), deque(objects.active)
        self.unevictable, self.anonymous = deque(), deque()
        on_a_list = {*objects.inactive, *objects.active}
        self.remote_batch = [folio for folio in objects.folios if folio not in on_a_list]

    def shrink_folio_list(self, folios, ignore_references):
        self.hit("shrink_folio_list")
        kept, batch, nr_reclaimed = [], [], 0
        for folio in folios:
            verdict = self.shrink_folio(folio, ignore_references)
            if verdict in ("activate", "keep"):
                if verdict == "activate":
                    folio.active = not folio.mlocked
                self.hit("folio_unlock")
                kept.append(folio)
            elif verdict == "free":
                self.hit("folio_unlock")
                nr_reclaimed += folio.nr_pages
                folio.freed = True
                batch.append(folio)
                if len(batch) == FREE_BATCH:
                    self.free_batch(batch)
        self.free_batch(batch)
        return nr_reclaimed, kept

    def shrink_folio(self, folio, ignore_references):
        """Returns what becomes of the folio: "free", "keep", "activate", or "lost" to its error."""
        if folio.hwpoison:
            if folio.large:
                return "keep"
            self.rmap.unmap_poisoned_folio(folio)
            self.hit("folio_unlock")
            folio.refs -= 1
            return "lost"
        self.nr_scanned += folio.nr_pages
        if folio.mlocked:
            return "activate"
        references = "reclaim" if ignore_references else self.folio_check_references(folio)
        return self.reclaim_unreferenced(folio) if references == "reclaim" else references

    def reclaim_unreferenced(self, folio):
        if folio.anon and folio.swapbacked and not folio.swapcache:
            if folio.large and folio.refs - 1 != folio.mapcount:
                return "activate"
            self.folio_alloc_swap(folio)
            self.rmap.folio_mark_dirty(folio)
        if folio.mapcount:
            ttu = Ttu(sync=folio.large, batch_flush=True)
            ttu.split_huge_pmd = folio.order >= self.arch.pmd_order
            self.rmap.try_to_unmap(folio, ttu)
            if folio.mapcount:
                return "activate"
        return self.reclaim_unmapped(folio)

    def reclaim_unmapped(self, folio):
        if folio.dirty:
            if not folio.swapbacked:
                folio.reclaim = True
                return "activate"
            self.rmap.try_to_unmap_flush_dirty()
            if not self.pageout(folio):
                return "keep"
        if folio.lazyfree:
            if folio.refs != 1:
                return "keep"
            folio.refs = 0
            return "free"
        return "free" if self.remove_mapping(folio) else "keep"

    def folio_alloc_swap(self, folio):
        self.hit("folio_alloc_swap")
        folio.swapcache = True
        folio.refs += folio.nr_pages
        self.hit("lruvec_stat_mod_folio")  # NR_SWAPCACHE

    def pageout(self, folio):
        """Writes at once; returns if it did."""
        self.hit("pageout")
        if folio.refs != 1 + folio.nr_pages:
            return False
        folio.dirty = False
        self.hit("folio_unlock")  # swap_writeout()
        return True

    def folio_check_references(self, folio):
        nr_young, locked = self.rmap.folio_referenced(folio, is_locked=True)
        if locked:
            return "activate"
        was_referenced, folio.referenced = folio.referenced, False
        if not nr_young:
            return "reclaim"
        folio.referenced = True
        return "activate" if was_referenced or nr_young > 1 else "keep"

    def remove_mapping(self, folio):
        self.hit("__remove_mapping")
        if folio.refs != 1 + folio.nr_pages or folio.dirty:
            return False
        folio.refs = 0
        self.hit("workingset_eviction")
        self.hit("lruvec_stat_mod_folio")  # NR_FILE_PAGES, NR_SWAPCACHE
        if self.arch.range_helpers:  # x86: inlined into workingset_eviction()
            self.hit("workingset_age_nonresident")
        if folio.anon:
            folio.swapcache = False
            return True
        self.hit("__filemap_remove_folio")
        self.hit("filemap_unaccount_folio")
        self.hit("workingset_update_node")
        if folio.order >= self.arch.pmd_order:
            self.hit("lruvec_stat_mod_folio")  # NR_FILE_THPS
        return True

    def free_batch(self, batch):
        self.hit("__mem_cgroup_uncharge_folios")
        self.hit("uncharge_folio", len(batch))
        if batch:
            self.hit("uncharge_batch")
            self.hit("page_counter_uncharge")
        self.rmap.try_to_unmap_flush()
        self.hit("free_unref_folios")
        for folio in batch:
            self.hit("free_tail_page_prepare", folio.nr_pages - 1)
            if COSTLY_ORDER < folio.order != self.arch.pmd_order:
                self.hit("free_one_page")
                self.hit("split_large_buddy")
        batch.clear()

    def pages(self, folios):
        return sum(folio.nr_pages for folio in folios)

    def isolate_lru_folios(self, lru, nr_to_scan):
        self.hit("lru_add_drain")
        self.hit("isolate_lru_folios")
        taken = []
        while lru and self.pages(taken) < nr_to_scan:
            taken.append(lru.popleft())
            taken[-1].refs += 1
        return taken

    def move_folios_to_lru(self, folios):
        self.hit("move_folios_to_lru")
        holds_lock = False
        for folio in folios:
            if not holds_lock:
                self.hit("folio_lruvec_lock_irq")
            holds_lock = not folio.mlocked
            if folio.active:
                self.hit("workingset_age_nonresident")
            self.put_back(folio)

    def put_back(self, folio):
        folio.refs -= 1
        if folio.mlocked:
            self.unevictable.append(folio)
        elif folio.swapbacked and self.world.workload == "lazyfree":
            self.anonymous.append(folio)  # lists that are not scanned without swap space
        else:
            (self.active if folio.active else self.inactive).append(folio)

    def shrink_inactive_list(self, nr_to_scan):
        taken = self.isolate_lru_folios(self.inactive, nr_to_scan)
        self.hits["pgscan"] += self.pages(taken)
        if not taken:
            return 0
        nr_reclaimed, kept = self.shrink_folio_list(taken, ignore_references=False)
        self.move_folios_to_lru(kept)
        self.hit("lru_note_cost_unlock_irq")
        self.hit("handle_reclaim_writeback")
        self.hits["pgsteal"] += nr_reclaimed
        return nr_reclaimed

    def shrink_active_list(self, nr_to_scan):
        self.hit("shrink_active_list")
        taken = self.isolate_lru_folios(self.active, nr_to_scan)
        self.hits["pgrefill"] += self.pages(taken)
        for folio in taken:
            self.rmap.folio_referenced(folio, is_locked=False)
            folio.active, folio.workingset = False, True
        self.move_folios_to_lru([])
        self.move_folios_to_lru(taken)
        self.hit("lru_note_cost_unlock_irq")

    def shrink_lruvec(self, want, priority, deactivate):
        self.hit("shrink_lruvec")
        nr_inactive = self.pages(self.inactive) >> priority
        nr_active = self.pages(self.active) >> priority
        nr_reclaimed = 0
        while nr_inactive or nr_active:
            quantum = min(nr_inactive, QUANTUM_PAGES)
            if quantum:
                nr_inactive -= quantum
                nr_reclaimed += self.shrink_inactive_list(quantum)
            quantum = min(nr_active, QUANTUM_PAGES)
            if quantum:
                nr_active -= quantum
                if deactivate:
                    self.shrink_active_list(quantum)
                else:
                    self.skipped_deactivate = True
            if nr_reclaimed >= want:
                break
        return nr_reclaimed

    def shrink_node(self, want, priority, full_walk, got):
        self.hit("shrink_node")
        self.hit("mem_cgroup_iter")
        if self.world.stats_flush == "always" or self.nr_node_calls in self.world.flushes:
            self.stale_inactive = self.pages(self.inactive)
            self.stale_active = self.pages(self.active)
        self.nr_node_calls += 1
        deactivate = self.force_deactivate or self.stale_inactive < self.stale_active
        got += self.shrink_lruvec(want, priority, deactivate)
        self.hit("shrink_slab")
        if full_walk or got < want:
            self.hit("mem_cgroup_iter")
        return got

    def all_priorities(self, want, full_walk):
        got = 0
        for priority in range(12, -1, -1):
            got = self.shrink_node(want, priority, full_walk, got)
            if got >= want:
                break
        return got

    def try_to_free_mem_cgroup_pages(self, want):
        self.hit("try_to_free_mem_cgroup_pages")
        self.hit("do_try_to_free_pages")
        self.force_deactivate = self.skipped_deactivate = False
        got = self.all_priorities(want, full_walk=False)
        if not got:
            got = self.all_priorities(want, full_walk=True)
        if not got and self.skipped_deactivate:
            self.force_deactivate = True
            got = self.all_priorities(want, full_walk=True)
        return got

    def memory_reclaim(self, nr_pages):
        self.hit("memory_reclaim")
        self.hit("user_proactive_reclaim")
        done, retries = 0, 16
        while done < nr_pages:
            if not retries:
                self.lru_add_drain_all()
            got = self.try_to_free_mem_cgroup_pages(max(QUANTUM_PAGES, (nr_pages - done) // 4))
            done += got
            if not got and not retries:
                return -EAGAIN
            retries -= not got
        return 0

    def lru_add_drain_all(self):
        self.hit("lru_add_drain")
        self.inactive.extend(self.remote_batch)
        self.remote_batch.clear()

    def madvise_pageout(self, nr_pages):
        (vma,) = self.objects.vmas
        if vma.locked:
            return -EINVAL
        self.hit("lru_add_drain")
        nr_pages = min(nr_pages, vma.end)
        page = 0
        while page < nr_pages:
            end = min(vma.end_of_table(page), nr_pages)
            self.madvise_pageout_pte_range(vma, page, end)
            page = end
        return 0

    def madvise_pageout_pte_range(self, vma, page, end):
        self.hit("madvise_cold_or_pageout_pte_range")
        if vma.table(page) in self.tables.leaves:
            folio = self.objects.folio_of[page]
            folios = [folio] if self.wants(folio) else []
            assert folio.end <= end, "split_folio() is not here"
        else:
            folios = self.collect(vma, page, end)
        self.hit("reclaim_pages")
        if not folios:
            return
        for folio in folios:
            folio.active = False
        nr_reclaimed, kept = self.shrink_folio_list(folios, ignore_references=True)
        self.hits["pgsteal"] += nr_reclaimed
        for folio in kept:
            self.put_back(folio)

    def collect(self, vma, page, end):
        self.rmap.flush_tlb_batched_pending(vma.mm)
        folios = []
        while page < end:
            entry = self.tables.ptep_get(vma.place(page))
            if entry is None or not entry.present:
                page += 1
                continue
            folio, nr = self.objects.folio_of[page], 1
            if folio.large:
                max_nr = min(end - page, folio.end - page)
                nr = self.tables.batch(vma.place(page), entry, max_nr)
                assert nr == folio.nr_pages, "split_folio() is not here"
            if folio.mapcount == folio.nr_pages and self.wants(folio):
                folios.append(folio)
            page += nr
        return folios

    def wants(self, folio):
        """folio_isolate_lru(), and what comes before it."""
        if folio in self.remote_batch:
            return False
        folio.referenced = False
        folio.workingset |= folio.active
        for lru in (self.inactive, self.active):
            if folio in lru:
                lru.remove(folio)
        folio.refs += 1
        return True


def simulate(world, arch, kernel, memory):
    """Serve `world`'s request in `memory`, which stays as it is; returns result and the request."""
    reclaim = Reclaim(world, arch, kernel, memory)
    nr_pages = world.reclaim_bytes >> arch.page_shift
    if world.request == "pageout":
        result = reclaim.madvise_pageout(nr_pages)
        reclaim.hits["pgscan"] = reclaim.nr_scanned
    else:
        result = reclaim.memory_reclaim(nr_pages)
    return result, reclaim
