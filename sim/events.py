# SPDX-License-Identifier: GPL-2.0-only
"""Events: how often each kernel function ran, and the laws that such counts obey."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from sim.arch import ARCHES, isa
from sim.ident import short_id
from sim.state import Count
from sim.table import Table, shown
from sim.world import World

# The kernel's function profiler (kernel/trace/ftrace.c, function_stat_show()) prints "%-30.30s".
PROFILER_NAME_CHARS = 30


class ConservationError(AssertionError):
    """Counts that contradict each other: a defect of the simulator, never of its input."""


@shown(lambda events: events.table())
@dataclass(frozen=True)
class Events:
    """Exact counts of one simulated request.

    Attributes:
        world, arch, kernel, lru: the inputs.
        counts: read-only, every `Count` by its name, as Python ints.
        result: 0, or -EAGAIN if reclaim gave up before the request was met.
    """

    world: World
    arch: str
    kernel: str
    lru: str
    counts: Mapping[str, int]
    result: int

    def __post_init__(self) -> None:
        counts = {name: int(count) for name, count in self.counts.items()}
        object.__setattr__(self, "counts", MappingProxyType(counts))
        for law, left, right in self._laws():
            if left != right:
                raise ConservationError(f"{law}: {left} != {right} ({self.inputs})")

    def __getitem__(self, count: Count) -> int:
        return self.counts[count.name]

    def _laws(self) -> list[tuple[str, int, int]]:
        swaps = self.world.workload == "anon" and not self.world.hwpoison
        laws = [
            (
                "TLB operations of unmapping = runs of entries removed or put back",
                self[Count.SET_TLB_UBC_FLUSH_PENDING] + self._immediate_flushes,
                self[Count.FOLIO_REMOVE_RMAP_PTES] + self[Count.SET_PTES],
            ),
            (
                "references put = entries cleared, a PMD leaf being one",
                self[Count.REFERENCES_PUT],
                self[Count.PTES_CLEARED]
                - (self[Count.FOLIO_REMOVE_RMAP_PMD] - self[Count.SPLIT_HUGE_PMD])
                * ((1 << ARCHES[self.arch].pmd_order) - 1),
            ),
            (
                "swap entries written = pages whose slots were duplicated",
                self[Count.SWAP_PTES] if swaps else 0,
                self[Count.PTES_CLEARED] if swaps else 0,
            ),
        ]
        if self.world.regular:
            laws += self._laws_of_regular_worlds()
        return laws

    def _laws_of_regular_worlds(self) -> list[tuple[str, int, int]]:
        # Every folio is mapped whole by every VMA, and nothing forbids its reclaim.
        nr_vmas = self.world.mapped_by * self.world.mappings
        looked_at = 1 if self.world.request == "memory.reclaim" else 0
        return [
            (
                "page-table entries cleared = mapcounts of the folios unmapped",
                self[Count.PTES_CLEARED],
                self[Count.PGSTEAL] * nr_vmas,
            ),
            (
                "folios unmapped = folios freed",
                self[Count.TRY_TO_UNMAP],
                self[Count.FOLIOS_FREED],
            ),
            (
                "folios removed from a cache = folios freed, but for lazyfree ones",
                self[Count.REMOVE_MAPPING],
                self[Count.FOLIOS_FREED] if self.world.workload != "lazyfree" else 0,
            ),
            (
                "pages = folios of one order",
                self[Count.PGSTEAL],
                self[Count.FOLIOS_FREED] << self.world.order
                if self.world.order is not None
                else self[Count.PGSTEAL],
            ),
            (
                "reference checks = folios scanned, on either list of the classic LRU",
                (self[Count.FOLIO_REFERENCED] << self.world.order)
                if self.world.order is not None
                else 0,
                looked_at
                * (self[Count.PGSCAN] + (self[Count.PGREFILL] if self.lru == "classic" else 0))
                if self.world.order is not None
                else 0,
            ),
        ]

    @property
    def _immediate_flushes(self) -> int:
        # What PMD leaves flush, say, is no unmapping of PTEs.
        return self[Count.FLUSH_TLB_MM_RANGE] - self[Count.OTHER_FLUSHES]

    @property
    def inputs(self) -> dict:
        """The inputs as a JSON-able dict."""
        return {"arch": self.arch, "kernel": self.kernel, "lru": self.lru, **self.world.inputs}

    @cached_property
    def id(self) -> str:
        """Id of the inputs; a walk has no other source of variation."""
        return short_id(self.inputs)

    @property
    def nr_reclaimed_folios(self) -> int:
        """Folios freed."""
        return self[Count.FOLIOS_FREED]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the counts must know of this request."""
        warnings = []
        facts, world = ARCHES[self.arch], self.world
        if left := world.map_bytes - (world.nr_pages(facts) << facts.page_shift):
            folio = f"order-{min(world.shares)} folio"
            warnings.append(f"the last {left} bytes are no whole {folio} and are left out")
        if self.result:
            warnings.append(
                f"memory.reclaim gave up with -EAGAIN: {self[Count.PGSTEAL]} pages freed of the "
                f"{world.nr_to_reclaim(facts)} asked for"
            )
        elif world.request == "pageout" and self[Count.PGSTEAL] < self[Count.PGSCAN]:
            warnings.append(
                f"MADV_PAGEOUT freed {self[Count.PGSTEAL]} of the {self[Count.PGSCAN]} pages that "
                "it was asked for"
            )
        return tuple(warnings)

    def functions(self) -> dict[str, int]:
        """Return hits by kernel function, named as the function profiler prints them.

        A function that the kernel would not call is left out, as the profiler does. Hits are those
        of the reclaim path alone; `MEASURING_OFFSETS` says what a real measurement adds.
        """
        hits = {name: count(self) for name, count in listed(self.arch, self.lru).items()}
        return {name: nr for name, nr in hits.items() if nr}

    def table(self) -> Table:
        """Return hits by kernel function, most first: exact, so that no digit is left out."""
        hits = sorted(self.functions().items(), key=lambda item: -item[1])
        rows = tuple((name, f"{nr:,}") for name, nr in hits)
        asked = ", ".join(f"{name} {value}" for name, value in self.inputs.items())
        return Table(f"{asked}; id {self.id}", ("function", "hits"), rows, self.warnings)

    def to_dict(self) -> dict:
        """Return inputs, id, result, warnings, pgscan, pgsteal and events, as JSON has them."""
        return {
            "inputs": self.inputs,
            "id": self.id,
            "result": self.result,
            "warnings": list(self.warnings),
            "pgscan": self[Count.PGSCAN],
            "pgsteal": self[Count.PGSTEAL],
            "events": self.functions(),
        }


def _hits(*counts: Count) -> Callable[[Events], int]:
    return lambda events: sum(events[count] for count in counts)


def _of(workloads: tuple[str, ...], *counts: Count) -> Callable[[Events], int]:
    return lambda events: _hits(*counts)(events) if events.world.workload in workloads else 0


def _request(request: str) -> Callable[[Events], int]:
    return lambda events: int(events.world.request == request)


def _lists_shrunk(*counts: Count) -> Callable[[Events], int]:
    # What the lists of memory.reclaim have and those of MADV_PAGEOUT do not.
    return lambda events: _hits(*counts)(events) * _request("memory.reclaim")(events)


_FILE = ("file",)
_CACHED = ("file", "anon")
_ANONYMOUS = ("anon", "lazyfree")
_BOTH = ("arm64", "x86_64")
_ARM64 = ("arm64",)
_X86 = ("x86_64",)


def _tail_pages(events: Events) -> int:
    return events[Count.PGSTEAL] - events.nr_reclaimed_folios


def _lruvec_stats(events: Events) -> int:
    # NR_FILE_MAPPED as rmap is removed, NR_FILE_PAGES as the page cache gives the folio up, and
    # NR_FILE_THPS with it if the folio is PMD-mappable: filemap_unaccount_folio(), mm/filemap.c.
    # NR_FILE_DIRTY where a folio becomes dirty; NR_SWAPCACHE as one enters and leaves that cache.
    freed = _of(_FILE, Count.FOLIOS_FREED, Count.HUGE_FOLIOS_FREED)
    swapped = _of(("anon",), Count.FOLIO_ALLOC_SWAP, Count.FOLIOS_FREED)
    others = events[Count.MAPPED_STAT_UPDATES] + events[Count.FOLIO_ACCOUNT_DIRTIED]
    return others + freed(events) + swapped(events)


def _drains(events: Events) -> int:
    # MADV_PAGEOUT drains once, at its start.
    once = _request("pageout")(events)
    return events[Count.ISOLATE_LRU_FOLIOS] + events[Count.LRU_ADD_DRAIN_ALL] + once


def _activated_or_evicted(events: Events) -> int:
    aged = _lists_shrunk(Count.FOLIOS_ACTIVATED)
    return aged(events) + _of(_CACHED, Count.FOLIOS_FREED)(events)


# Kernel function, architectures whose profile lists it, hits. Where several functions run once per
# call of another they share its count. gcc inlines differently per architecture: a function that is
# always inlined on one of them is listed for the other alone.
FUNCTIONS: tuple[tuple[str, tuple[str, ...], Callable[[Events], int]], ...] = (
    ("memory_reclaim", _BOTH, _request("memory.reclaim")),
    ("user_proactive_reclaim", _BOTH, _request("memory.reclaim")),
    ("try_to_free_mem_cgroup_pages", _BOTH, _hits(Count.TRY_TO_FREE_MEM_CGROUP_PAGES)),
    ("do_try_to_free_pages", _BOTH, _hits(Count.TRY_TO_FREE_MEM_CGROUP_PAGES)),
    ("mem_cgroup_iter", _BOTH, _hits(Count.MEM_CGROUP_ITER)),
    ("shrink_node", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_lruvec", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_slab", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_folio_list", _BOTH, _hits(Count.SHRINK_FOLIO_LIST)),
    ("handle_reclaim_writeback", _BOTH, _lists_shrunk(Count.SHRINK_FOLIO_LIST)),
    ("try_to_unmap_flush", _BOTH, _hits(Count.TRY_TO_UNMAP_FLUSH)),
    ("free_unref_folios", _BOTH, _hits(Count.FREE_UNREF_FOLIOS)),
    ("__mem_cgroup_uncharge_folios", _BOTH, _hits(Count.FREE_UNREF_FOLIOS)),
    ("uncharge_batch", _BOTH, _hits(Count.UNCHARGE_BATCH)),
    ("page_counter_uncharge", _BOTH, _hits(Count.UNCHARGE_BATCH)),
    ("arch_tlbbatch_flush", _X86, _hits(Count.ARCH_TLBBATCH_FLUSH)),
    ("native_flush_tlb_multi", _X86, _hits(Count.ARCH_TLBBATCH_FLUSH)),
    ("move_folios_to_lru", _BOTH, _hits(Count.MOVE_FOLIOS_TO_LRU)),
    ("folio_lruvec_lock_irq", _BOTH, _hits(Count.FOLIO_LRUVEC_LOCK_IRQ)),
    ("folio_referenced", _BOTH, _hits(Count.FOLIO_REFERENCED)),
    ("folio_unlock", _BOTH, _hits(Count.FOLIO_UNLOCK)),
    ("folio_referenced_one", _BOTH, _hits(Count.FOLIO_REFERENCED_ONE)),
    ("invalid_folio_referenced_vma", _BOTH, _hits(Count.FOLIO_REFERENCED_ONE)),
    ("rmap_walk", _BOTH, _hits(Count.RMAP_WALK)),
    ("__rmap_walk_file", _BOTH, _of(_FILE, Count.RMAP_WALK)),
    ("page_vma_mapped_walk", _BOTH, _hits(Count.PAGE_VMA_MAPPED_WALK)),
    ("folio_pte_batch", _BOTH, _hits(Count.FOLIO_PTE_BATCH)),
    ("ptep_clear_flush_young", _X86, _hits(Count.PTEP_CLEAR_FLUSH_YOUNG)),
    ("pmdp_clear_flush_young", _BOTH, _hits(Count.PMDP_CLEAR_FLUSH_YOUNG)),
    ("contpte_clear_flush_young_ptes", _ARM64, _hits(Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES)),
    ("contpte_ptep_get", _ARM64, _hits(Count.CONTPTE_PTEP_GET)),
    ("contpte_ptep_get_lockless", _ARM64, _hits(Count.CONTPTE_PTEP_GET_LOCKLESS)),
    ("__contpte_try_unfold", _ARM64, _hits(Count.CONTPTE_TRY_UNFOLD)),
    ("contpte_convert", _ARM64, _hits(Count.CONTPTE_TRY_UNFOLD)),
    ("contpte_get_and_clear_full_ptes", _ARM64, _hits(Count.CONTPTE_GET_AND_CLEAR_FULL_PTES)),
    ("contpte_try_unfold_partial", _ARM64, _hits(Count.CONTPTE_GET_AND_CLEAR_FULL_PTES)),
    ("try_to_unmap", _BOTH, _hits(Count.TRY_TO_UNMAP)),
    ("folio_not_mapped", _BOTH, _hits(Count.FOLIO_NOT_MAPPED)),
    ("try_to_unmap_one", _BOTH, _hits(Count.TRY_TO_UNMAP_ONE)),
    ("folio_remove_rmap_ptes", _BOTH, _hits(Count.FOLIO_REMOVE_RMAP_PTES)),
    ("folio_remove_rmap_pmd", _BOTH, _hits(Count.FOLIO_REMOVE_RMAP_PMD)),
    ("mm_trace_rss_stat", _BOTH, _hits(Count.MM_TRACE_RSS_STAT)),
    ("lruvec_stat_mod_folio", _BOTH, _lruvec_stats),
    ("set_tlb_ubc_flush_pending", _ARM64, _hits(Count.SET_TLB_UBC_FLUSH_PENDING)),
    ("set_tlb_ubc_flush_pending.constprop.0", _X86, _hits(Count.SET_TLB_UBC_FLUSH_PENDING)),
    ("flush_tlb_mm_range", _X86, _hits(Count.FLUSH_TLB_MM_RANGE)),
    ("__remove_mapping", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("__filemap_remove_folio", _BOTH, _of(_FILE, Count.FOLIOS_FREED)),
    ("filemap_unaccount_folio", _BOTH, _of(_FILE, Count.FOLIOS_FREED)),
    ("workingset_eviction", _BOTH, _of(_CACHED, Count.FOLIOS_FREED)),
    ("uncharge_folio", _BOTH, _hits(Count.FOLIOS_FREED)),
    ("free_one_page", _BOTH, _hits(Count.FREE_ONE_PAGE)),
    ("split_large_buddy", _BOTH, _hits(Count.FREE_ONE_PAGE)),
    ("mlock_folio", _BOTH, _hits(Count.MLOCK_VMA_FOLIO)),
    ("unmap_poisoned_folio", _BOTH, _hits(Count.UNMAP_POISONED_FOLIO)),
    ("madvise_cold_or_pageout_pte_range", _BOTH, _hits(Count.RECLAIM_PAGES)),
    ("reclaim_pages", _BOTH, _hits(Count.RECLAIM_PAGES)),
    ("rmap_walk_anon", _BOTH, _of(_ANONYMOUS, Count.RMAP_WALK)),
    ("deferred_split_folio", _BOTH, _hits(Count.DEFERRED_SPLIT_FOLIO)),
    ("folio_alloc_swap", _BOTH, _hits(Count.FOLIO_ALLOC_SWAP)),
    ("folio_dup_swap", _BOTH, _hits(Count.FOLIO_DUP_SWAP)),
    ("pageout", _BOTH, _hits(Count.PAGEOUT)),
)

# The same of what only one LRU does.
LRU_FUNCTIONS: dict[str, tuple[tuple[str, tuple[str, ...], Callable[[Events], int]], ...]] = {
    "classic": (
        ("isolate_lru_folios", _BOTH, _hits(Count.ISOLATE_LRU_FOLIOS)),
        ("lru_add_drain", _BOTH, _drains),
        (
            "lru_note_cost_unlock_irq",
            _BOTH,
            _lists_shrunk(Count.SHRINK_FOLIO_LIST, Count.SHRINK_ACTIVE_LIST),
        ),
        ("shrink_active_list", _BOTH, _hits(Count.SHRINK_ACTIVE_LIST)),
        (
            "contpte_test_and_clear_young_ptes",
            _ARM64,
            _hits(Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES),
        ),
        # lru_gen frees shadow nodes as well, whose pages and updates are not counted here.
        ("free_tail_page_prepare", _BOTH, _tail_pages),
        ("workingset_update_node", _BOTH, _of(_FILE, Count.FOLIOS_FREED)),
        ("workingset_age_nonresident", _X86, _lists_shrunk(Count.FOLIOS_ACTIVATED)),
        (
            "workingset_age_nonresident",
            _ARM64,
            _activated_or_evicted,
        ),
    ),
    "mglru": (
        ("lru_add_drain", _BOTH, _hits(Count.SHRINK_NODE, Count.LRU_ADD_DRAIN_ALL)),
        ("try_to_shrink_lruvec", _BOTH, _hits(Count.SHRINK_NODE)),
        ("evict_folios", _BOTH, _hits(Count.EVICT_FOLIOS)),
        ("isolate_folios", _X86, _hits(Count.EVICT_FOLIOS)),
        ("isolate_folios.constprop.0", _ARM64, _hits(Count.EVICT_FOLIOS)),
        ("lru_gen_look_around", _BOTH, _hits(Count.LRU_GEN_LOOK_AROUND)),
        ("get_pte_pfn.constprop.0", _BOTH, _hits(Count.GET_PTE_PFN)),
        ("get_pfn_folio", _BOTH, _hits(Count.GET_PFN_FOLIO)),
        ("walk_update_folio", _BOTH, _hits(Count.WALK_UPDATE_FOLIO)),
        ("lru_gen_set_refs", _BOTH, _hits(Count.LRU_GEN_SET_REFS)),
        ("reset_batch_size", _BOTH, _hits(Count.RESET_BATCH_SIZE)),
        ("inc_max_seq", _BOTH, _hits(Count.INC_MAX_SEQ)),
        ("try_to_inc_max_seq", _BOTH, _hits(Count.INC_MAX_SEQ)),
        (
            "contpte_test_and_clear_young_ptes",
            _ARM64,
            _hits(Count.TEST_AND_CLEAR_YOUNG_PTES),
        ),
    ),
}


def listed(arch: str, lru: str) -> dict[str, Callable[[Events], int]]:
    """Return how each function that a profile can list is counted, by its name there."""
    rows = (*FUNCTIONS, *LRU_FUNCTIONS[lru])
    return {
        name[:PROFILER_NAME_CHARS]: count for name, arches, count in rows if isa(arch) in arches
    }


# What a measured run may have in excess of the path: calls by the measuring process itself and by
# workers that ran meanwhile (copy-on-write after fork, slab and anonymous pages freed, statistics),
# by function, as the largest excess seen in Linux 7.2.13 under emulation.
MEASURING_OFFSETS: dict[str, int] = {
    "folio_remove_rmap_ptes": 2,
    "flush_tlb_mm_range": 2,
    "free_unref_folios": 5,
    "__mem_cgroup_uncharge_folios": 5,
    "lru_add_drain": 1,
    # Order 9 with two CPUs: the first PMD flushes still interrupt the mapping processes' CPU, which
    # then leaves the mm's mask. Flushes that are not deferred are not counted here otherwise.
    "native_flush_tlb_multi": 2,
    "free_tail_page_prepare": 8,
    "page_counter_uncharge": 1,
    "workingset_update_node": 8,
    "workingset_age_nonresident": 4,
    "folio_unlock": 13,
    "lruvec_stat_mod_folio": 24,
}
