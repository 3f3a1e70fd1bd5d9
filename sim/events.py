# SPDX-License-Identifier: GPL-2.0-only
"""Events: how often each kernel function ran, and the laws that such counts obey."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType

from sim.arch import ARCHES
from sim.ident import short_id
from sim.state import Count
from sim.world import World

# The kernel's function profiler (kernel/trace/ftrace.c, function_stat_show()) prints "%-30.30s".
PROFILER_NAME_CHARS = 30


class ConservationError(AssertionError):
    """Counts that contradict each other: a defect of the simulator, never of its input."""


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
        nr_pages = 1 << self.world.order
        pmd_mapped = self.world.order == ARCHES[self.arch].pmd_order
        mappings = Count.FOLIO_REMOVE_RMAP_PMD if pmd_mapped else Count.PTES_CLEARED
        return [
            (
                "page-table entries cleared = mapcounts of the folios unmapped",
                self[Count.PTES_CLEARED],
                self[Count.PGSTEAL] * self.world.mapped_by,
            ),
            (
                "references put = mappings removed",
                self[Count.REFERENCES_PUT],
                self[mappings],
            ),
            (
                "pages freed = pages of the folios removed from the page cache",
                self[Count.PGSTEAL],
                self[Count.REMOVE_MAPPING] * nr_pages,
            ),
            (
                "folios unmapped = folios removed from the page cache",
                self[Count.TRY_TO_UNMAP],
                self[Count.REMOVE_MAPPING],
            ),
            (
                "reference checks = folios scanned, on either list of the classic LRU",
                self[Count.FOLIO_REFERENCED] * nr_pages,
                self[Count.PGSCAN] + (self[Count.PGREFILL] if self.lru == "classic" else 0),
            ),
            (
                "TLB operations of unmapping = runs of entries removed",
                self[Count.SET_TLB_UBC_FLUSH_PENDING] + self._immediate_flushes,
                self[Count.FOLIO_REMOVE_RMAP_PTES],
            ),
        ]

    @property
    def _immediate_flushes(self) -> int:
        return 0 if self[Count.PMDP_CLEAR_FLUSH_YOUNG] else self[Count.FLUSH_TLB_MM_RANGE]

    @property
    def inputs(self) -> dict:
        """The inputs as a JSON-able dict."""
        return {"arch": self.arch, "kernel": self.kernel, "lru": self.lru, **asdict(self.world)}

    @cached_property
    def id(self) -> str:
        """Id of the inputs; a walk has no other source of variation."""
        return short_id(self.inputs)

    @property
    def nr_reclaimed_folios(self) -> int:
        """Folios freed."""
        return self[Count.REMOVE_MAPPING]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the counts must know of this request."""
        warnings = []
        folio_bytes = 1 << (ARCHES[self.arch].page_shift + self.world.order)
        if left := self.world.map_bytes % folio_bytes:
            warnings.append(
                f"the last {left} bytes of the file are no whole order-{self.world.order} folio "
                "and are left out"
            )
        if self.result:
            warnings.append(
                f"memory.reclaim gave up with -EAGAIN: {self[Count.PGSTEAL]} pages freed of the "
                f"{self.world.nr_to_reclaim(ARCHES[self.arch])} asked for"
            )
        return tuple(warnings)

    def functions(self) -> dict[str, int]:
        """Return hits by kernel function, named as the function profiler prints them.

        A function that the kernel would not call is left out, as the profiler does. Hits are those
        of the reclaim path alone; `MEASURING_OFFSETS` says what a real measurement adds.
        """
        hits = {name: count(self) for name, count in listed(self.arch, self.lru).items()}
        return {name: nr for name, nr in hits.items() if nr}

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


_BOTH = ("arm64", "x86_64")
_ARM64 = ("arm64",)
_X86 = ("x86_64",)


def _tail_pages(events: Events) -> int:
    return events[Count.PGSTEAL] - events.nr_reclaimed_folios


def _lruvec_stats(events: Events) -> int:
    # NR_FILE_MAPPED as rmap is removed, NR_FILE_PAGES as the page cache gives the folio up, and
    # NR_FILE_THPS with it if the folio is PMD-mappable: filemap_unaccount_folio(), mm/filemap.c.
    per_folio = 2 if events.world.order >= ARCHES[events.arch].pmd_order else 1
    return events[Count.MAPPED_STAT_UPDATES] + per_folio * events.nr_reclaimed_folios


def _buddy_frees(events: Events) -> int:
    # free_unref_folios(): orders up to PAGE_ALLOC_COSTLY_ORDER (3) and the PMD order have per-CPU
    # lists (pcp_allowed_order(), mm/page_alloc.c); the others go straight to the buddy lists.
    straight = 3 < events.world.order < ARCHES[events.arch].pmd_order
    return events.nr_reclaimed_folios if straight else 0


# Kernel function, architectures whose profile lists it, hits. Where several functions run once per
# call of another they share its count. gcc inlines differently per architecture: a function that is
# always inlined on one of them is listed for the other alone.
FUNCTIONS: tuple[tuple[str, tuple[str, ...], Callable[[Events], int]], ...] = (
    ("memory_reclaim", _BOTH, lambda _events: 1),
    ("user_proactive_reclaim", _BOTH, lambda _events: 1),
    ("try_to_free_mem_cgroup_pages", _BOTH, _hits(Count.TRY_TO_FREE_MEM_CGROUP_PAGES)),
    ("do_try_to_free_pages", _BOTH, _hits(Count.TRY_TO_FREE_MEM_CGROUP_PAGES)),
    ("mem_cgroup_iter", _BOTH, _hits(Count.MEM_CGROUP_ITER)),
    ("shrink_node", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_lruvec", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_slab", _BOTH, _hits(Count.SHRINK_NODE)),
    ("shrink_folio_list", _BOTH, _hits(Count.SHRINK_FOLIO_LIST)),
    ("handle_reclaim_writeback", _BOTH, _hits(Count.SHRINK_FOLIO_LIST)),
    ("try_to_unmap_flush", _BOTH, _hits(Count.FREE_UNREF_FOLIOS)),
    ("free_unref_folios", _BOTH, _hits(Count.FREE_UNREF_FOLIOS)),
    ("__mem_cgroup_uncharge_folios", _BOTH, _hits(Count.FREE_UNREF_FOLIOS)),
    ("uncharge_batch", _BOTH, _hits(Count.UNCHARGE_BATCH)),
    ("page_counter_uncharge", _BOTH, _hits(Count.UNCHARGE_BATCH)),
    ("arch_tlbbatch_flush", _X86, _hits(Count.ARCH_TLBBATCH_FLUSH)),
    ("native_flush_tlb_multi", _X86, _hits(Count.ARCH_TLBBATCH_FLUSH)),
    ("move_folios_to_lru", _BOTH, _hits(Count.MOVE_FOLIOS_TO_LRU)),
    ("folio_lruvec_lock_irq", _BOTH, _hits(Count.FOLIO_LRUVEC_LOCK_IRQ)),
    ("folio_referenced", _BOTH, _hits(Count.FOLIO_REFERENCED)),
    ("folio_unlock", _BOTH, _hits(Count.FOLIO_REFERENCED)),
    ("folio_referenced_one", _BOTH, _hits(Count.FOLIO_REFERENCED_ONE)),
    ("invalid_folio_referenced_vma", _BOTH, _hits(Count.FOLIO_REFERENCED_ONE)),
    ("rmap_walk", _BOTH, _hits(Count.FOLIO_REFERENCED, Count.TRY_TO_UNMAP)),
    ("__rmap_walk_file", _BOTH, _hits(Count.FOLIO_REFERENCED, Count.TRY_TO_UNMAP)),
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
    ("folio_not_mapped", _BOTH, _hits(Count.TRY_TO_UNMAP_ONE)),
    ("try_to_unmap_one", _BOTH, _hits(Count.TRY_TO_UNMAP_ONE)),
    ("folio_remove_rmap_ptes", _BOTH, _hits(Count.FOLIO_REMOVE_RMAP_PTES)),
    ("folio_remove_rmap_pmd", _BOTH, _hits(Count.FOLIO_REMOVE_RMAP_PMD)),
    (
        "mm_trace_rss_stat",
        _BOTH,
        _hits(Count.FOLIO_REMOVE_RMAP_PTES, Count.FOLIO_REMOVE_RMAP_PMD),
    ),
    ("lruvec_stat_mod_folio", _BOTH, _lruvec_stats),
    ("set_tlb_ubc_flush_pending", _ARM64, _hits(Count.SET_TLB_UBC_FLUSH_PENDING)),
    ("set_tlb_ubc_flush_pending.constprop.0", _X86, _hits(Count.SET_TLB_UBC_FLUSH_PENDING)),
    ("flush_tlb_mm_range", _X86, _hits(Count.FLUSH_TLB_MM_RANGE)),
    ("__remove_mapping", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("__filemap_remove_folio", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("filemap_unaccount_folio", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("workingset_eviction", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("uncharge_folio", _BOTH, _hits(Count.REMOVE_MAPPING)),
    ("free_one_page", _BOTH, _buddy_frees),
    ("split_large_buddy", _BOTH, _buddy_frees),
)

# The same of what only one LRU does.
LRU_FUNCTIONS: dict[str, tuple[tuple[str, tuple[str, ...], Callable[[Events], int]], ...]] = {
    "classic": (
        ("isolate_lru_folios", _BOTH, _hits(Count.ISOLATE_LRU_FOLIOS)),
        ("lru_add_drain", _BOTH, _hits(Count.ISOLATE_LRU_FOLIOS)),
        (
            "lru_note_cost_unlock_irq",
            _BOTH,
            _hits(Count.SHRINK_FOLIO_LIST, Count.SHRINK_ACTIVE_LIST),
        ),
        ("shrink_active_list", _BOTH, _hits(Count.SHRINK_ACTIVE_LIST)),
        (
            "contpte_test_and_clear_young_ptes",
            _ARM64,
            _hits(Count.CONTPTE_CLEAR_FLUSH_YOUNG_PTES),
        ),
        # lru_gen frees shadow nodes as well, whose pages and updates are not counted here.
        ("free_tail_page_prepare", _BOTH, _tail_pages),
        ("workingset_update_node", _BOTH, _hits(Count.REMOVE_MAPPING)),
        ("workingset_age_nonresident", _X86, _hits(Count.FOLIOS_ACTIVATED)),
        (
            "workingset_age_nonresident",
            _ARM64,
            _hits(Count.FOLIOS_ACTIVATED, Count.REMOVE_MAPPING),
        ),
    ),
    "mglru": (
        ("lru_add_drain", _BOTH, _hits(Count.SHRINK_NODE)),
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
    return {name[:PROFILER_NAME_CHARS]: count for name, arches, count in rows if arch in arches}


# What a measured run may have in excess of the path: calls by the measuring process itself and by
# workers that ran meanwhile (copy-on-write after fork, slab and anonymous pages freed, statistics),
# by function, as the largest excess seen in Linux 7.2.13 under emulation.
MEASURING_OFFSETS: dict[str, int] = {
    "folio_remove_rmap_ptes": 2,
    "flush_tlb_mm_range": 2,
    "free_unref_folios": 3,
    "__mem_cgroup_uncharge_folios": 3,
    "lru_add_drain": 1,
    # Order 9 with two CPUs: the first PMD flushes still interrupt the mapping processes' CPU.
    "native_flush_tlb_multi": 2,
    "free_tail_page_prepare": 8,
    "page_counter_uncharge": 1,
    "workingset_update_node": 8,
    "workingset_age_nonresident": 4,
    "folio_unlock": 13,
    "lruvec_stat_mod_folio": 24,
}
