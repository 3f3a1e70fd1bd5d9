# SPDX-License-Identifier: GPL-2.0-only
"""A second, deliberately naive simulator of classic-LRU reclaim; it exists only for the tests.

It is written from the kernel, not from `sim`, and shares nothing with it: folios and page-table
entries are objects, lists are deques, and each call is counted where it happens, one entry at a
time. It is slow and meant for worlds of some hundred pages below 1 GiB.
"""

from collections import deque
from dataclasses import dataclass

from oracle_rmap import PMD_ORDER, AddressSpace, Folio, Rmap

PAGE_BYTES = 4096
QUANTUM_PAGES = 32
FREE_BATCH = 31
EAGAIN = 11


@dataclass
class Outcome:
    result: int
    hits: dict[str, int]  # by function, as profiled, plus pgscan, pgsteal, pgrefill and young work
    spaces: list[AddressSpace]
    folios: list[Folio]  # all, in file order; those freed are on no list and have refs 0
    inactive: list[Folio]  # oldest first
    active: list[Folio]


class Reclaim:
    """One request: the lists, and a method for each function of mm/vmscan.c that does something."""

    def __init__(self, world, arch, kernel):
        self.rmap = Rmap(world, arch, kernel)
        self.hit, self.hits = self.rmap.hit, self.rmap.hits
        self.order = world.order
        self.force_deactivate = False
        self.skipped_deactivate = False
        nr_pages = 1 << world.order
        file_pages = world.map_bytes // PAGE_BYTES // nr_pages * nr_pages
        self.folios = [
            self.rmap.read_and_map(first, nr_pages, world)
            for first in range(0, file_pages, nr_pages)
        ]
        self.inactive, self.active = deque(self.folios), deque()

    def shrink_folio_list(self, folios):
        self.hit("shrink_folio_list")
        self.hit("handle_reclaim_writeback")
        kept, batch, nr_reclaimed = [], [], 0
        for folio in folios:
            verdict = self.folio_check_references(folio)
            self.hit("folio_unlock")
            if verdict == "reclaim":
                self.rmap.try_to_unmap(folio)
                self.remove_mapping(folio)
                nr_reclaimed += folio.nr_pages
                batch.append(folio)
                if len(batch) == FREE_BATCH:
                    self.free_batch(batch)
                continue
            folio.active = folio.active or verdict == "activate"
            kept.append(folio)
        self.free_batch(batch)
        return nr_reclaimed, kept

    def folio_check_references(self, folio):
        nr_young = self.rmap.folio_referenced(folio)
        was_referenced, folio.referenced = folio.referenced, False
        if not nr_young:
            return "reclaim"
        folio.referenced = True
        return "activate" if was_referenced or nr_young > 1 else "keep"

    def remove_mapping(self, folio):
        assert not any(folio.mapcounts)
        assert folio.refs == folio.nr_pages
        folio.refs = 0
        for function in (
            "__remove_mapping",
            "__filemap_remove_folio",
            "filemap_unaccount_folio",
            "workingset_eviction",
            "workingset_update_node",
            "lruvec_stat_mod_folio",  # NR_FILE_PAGES
        ):
            self.hit(function)
        if self.order >= PMD_ORDER:
            self.hit("lruvec_stat_mod_folio")  # NR_FILE_THPS
        if self.rmap.arm64:  # x86: inlined into workingset_eviction()
            self.hit("workingset_age_nonresident")

    def free_batch(self, batch):
        self.hit("__mem_cgroup_uncharge_folios")
        for _ in batch:
            self.hit("uncharge_folio")
        if batch:
            self.hit("uncharge_batch")
            self.hit("page_counter_uncharge")
        self.rmap.try_to_unmap_flush()
        self.hit("free_unref_folios")
        for folio in batch:
            for _ in range(folio.nr_pages - 1):
                self.hit("free_tail_page_prepare")
            if self.order in (4, 5, 6, 7, 8):
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
        return taken

    def move_folios_to_lru(self, folios):
        self.hit("move_folios_to_lru")
        if folios:
            self.hit("folio_lruvec_lock_irq")
        for folio in folios:
            (self.active if folio.active else self.inactive).append(folio)
            if folio.active:
                self.hit("workingset_age_nonresident")

    def shrink_inactive_list(self, nr_to_scan):
        taken = self.isolate_lru_folios(self.inactive, nr_to_scan)
        self.hits["pgscan"] += self.pages(taken)
        if not taken:
            return 0
        nr_reclaimed, kept = self.shrink_folio_list(taken)
        self.move_folios_to_lru(kept)
        self.hit("lru_note_cost_unlock_irq")
        self.hits["pgsteal"] += nr_reclaimed
        return nr_reclaimed

    def shrink_active_list(self, nr_to_scan):
        self.hit("shrink_active_list")
        taken = self.isolate_lru_folios(self.active, nr_to_scan)
        self.hits["pgrefill"] += self.pages(taken)
        for folio in taken:
            self.rmap.folio_referenced(folio)
            self.hit("folio_unlock")
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
        # The statistics were flushed just before the request, and are not again during it.
        self.stale_inactive = self.pages(self.inactive)
        self.stale_active = self.pages(self.active)
        done, retries = 0, 16
        while done < nr_pages:
            got = self.try_to_free_mem_cgroup_pages(max(QUANTUM_PAGES, (nr_pages - done) // 4))
            done += got
            if not got and not retries:
                return -EAGAIN
            retries -= not got
        return 0


def simulate(world, arch, kernel, prepare=lambda _reclaim: None) -> Outcome:
    """Serve `world`'s request; `prepare` may first change the state that the workload left."""
    reclaim = Reclaim(world, arch, kernel)
    prepare(reclaim)
    result = reclaim.memory_reclaim(world.reclaim_bytes // PAGE_BYTES)
    return Outcome(
        result,
        {name: nr for name, nr in reclaim.hits.items() if nr},
        reclaim.rmap.spaces,
        reclaim.folios,
        list(reclaim.inactive),
        list(reclaim.active),
    )
