# SPDX-License-Identifier: GPL-2.0-only
"""Terms of elapsed time: what instructions take, and the waits that instructions cannot show.

The time of a request is a sum over `TERMS`: how often the simulator saw a thing, times what it
takes. Three terms are prices, in ns per instruction of one part of the path; the others are stalls,
in ns an event: atomic read-modify-writes, TLB invalidations, cache lines that are cold.

Each has a prior from costs that were published of single operations. A prior is as wide as those
differ from machine to machine, and never narrower than half of itself; what weighs against it is
for `analysis.posterior` to say.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis import fit, measurements
from analysis.groups import GROUPS, IN_PART, PARTS, group_counts
from sim import ARCHES, Events, World, reclaim
from sim.arch import isa
from sim.state import Count

# sizeof(struct page), a cache line. The last cache of the host, data/manifest.toml: what does not
# fit into it fits into few.
LINE_BYTES, CACHE_BYTES = 64, 32 << 20

# Cycles in the sources are taken at 3 GHz; none of them states its clock.
NS_A_CYCLE = 1 / 3

# How the TLB is flushed on an architecture that flushes from software (x86):
#   deferred: other CPUs have the address space loaded; they are interrupted once a batch.
#   elsewhere: no CPU has it loaded; a counter is raised, nothing is flushed.
#   own: the CPU that reclaims has it loaded; it flushes at every removal. MADV_PAGEOUT does.
FLUSHES = ("deferred", "elsewhere", "own")

# Up to so many pages x86 invalidates one by one, more at one go: tlb_single_page_flush_ceiling,
# arch/x86/mm/tlb.c, Linux 7.2 and 6.18.
SINGLE_PAGE_FLUSH_CEILING = 33

ISAS = ("arm64", "x86_64")


@dataclass(frozen=True)
class Term:
    """One kind of thing that takes time.

    Attributes:
        name: in words.
        unit: "ns an instruction" or "ns".
        what: one event of it.
        count: events by part of the path, shape (len(PARTS),), of simulated events and a member of
            `FLUSHES`; None for a price, whose events are instructions.
        quoted: by instruction set, (id, ns) of the published costs that its prior is made of. Ids
            M are rows of data/published/micro_costs.csv, D of derived_costs.csv.
        least_spread: standard deviation of the prior, at least, over its mean.
    """

    name: str
    unit: str
    what: str
    count: Callable[[Events, str], tuple[float, float, float]] | None
    quoted: dict[str, tuple[tuple[str, float], ...]]
    least_spread: float = 0.5

    def prior(self, name: str) -> tuple[float, float]:
        """Return mean and standard deviation of the prior for an instruction set, in `unit`."""
        values = [value for _, value in self.quoted[name]]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        mean = float(np.mean(values))
        return mean, max(spread, self.least_spread * mean)


def _young_atomics(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    # arm64 tests a young bit by a compare-and-exchange whether it is set or not,
    # __ptep_test_and_clear_young(): one after the other in the same lines. x86 clears only bits
    # that are set: each PTE has that once, before its folio is put on the active list.
    if isa(events.arch) == "arm64":
        return events[Count.YOUNG_PTE_OPS], 0.0, 0.0
    ptes_each = events[Count.PTES_CLEARED] / max(events[Count.FOLIOS_FREED], 1)
    return events[Count.FOLIOS_ACTIVATED] * ptes_each, 0.0, 0.0


def _unmap_atomics(events: Events, flush: str) -> tuple[float, float, float]:
    # Of a PTE: taking it out of the table, and _mapcount of its page. Of a removal: the folio's
    # mapcount and its references, and on arm64 the rss counter of the CPU.
    unmapped = 2.0 * (events[Count.PTES_CLEARED] + events[Count.FOLIO_REMOVE_RMAP_PTES])
    if isa(events.arch) == "arm64":
        unmapped += events[Count.MM_TRACE_RSS_STAT]
    elif flush == "elsewhere":  # inc_mm_tlb_gen() is all that flush_tlb_mm_range() does
        unmapped += events[Count.FLUSH_TLB_MM_RANGE]
    return 0.0, unmapped, 0.0


def _percpu_adds(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    # this_cpu_add() of the memcg and of its lruvec, mm/memcontrol.c: on arm64 an atomic that the
    # core may carry out far away, on x86 an ordinary instruction.
    if isa(events.arch) != "arm64":
        return 0.0, 0.0, 0.0
    return 0.0, 2.0 * events[Count.MAPPED_STAT_UPDATES], 2.0 * events[Count.FOLIOS_FREED]


def _flushes(events: Events, flush: str) -> tuple[float, float, float]:
    own = flush == "own" and isa(events.arch) != "arm64"
    return 0.0, events[Count.FLUSH_TLB_MM_RANGE] if own else 0.0, 0.0


def _invalidations(events: Events, flush: str) -> tuple[float, float, float]:
    if isa(events.arch) == "arm64":
        pending = events[Count.SET_TLB_UBC_FLUSH_PENDING]
        return events[Count.YOUNG_TLBI], pending + events[Count.CONTPTE_TRY_UNFOLD], 0.0
    flushes = events[Count.FLUSH_TLB_MM_RANGE]
    if flush != "own" or not flushes:
        return 0.0, 0.0, 0.0
    pages = events[Count.PTES_CLEARED]
    one_by_one = pages <= SINGLE_PAGE_FLUSH_CEILING * flushes
    return 0.0, pages if one_by_one else flushes, 0.0


def _waits(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    return 0.0, events[Count.ARCH_TLBBATCH_FLUSH] + events[Count.CONTPTE_TRY_UNFOLD], 0.0


def _page_lines(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    # 64 bytes each: the struct page of every page, met first where it is unmapped; eight PTEs.
    # They are cold only if the memory before has pushed them out since they were used.
    if (events.world.map_bytes >> ARCHES[events.arch].page_shift) * LINE_BYTES <= CACHE_BYTES:
        return 0.0, 0.0, 0.0
    ptes = events[Count.PTES_CLEARED]
    if not events[Count.FOLIO_REFERENCED_ONE]:
        return 0.0, events[Count.PGSTEAL] + ptes / 8, 0.0
    each = ptes / max(events[Count.TRY_TO_UNMAP_ONE], 1)
    return events[Count.FOLIO_REFERENCED_ONE] * each / 8, events[Count.PGSTEAL], 0.0


def _folio_lines(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    return 0.0, 0.0, float(max(events[Count.FOLIO_REFERENCED], events[Count.FOLIOS_FREED]))


def _cache_removals(events: Events, flush: str) -> tuple[float, float, float]:  # noqa: ARG001
    return 0.0, 0.0, float(events[Count.REMOVE_MAPPING])


def _price(part: str) -> Term:
    # From 0.1 ns an instruction, 3.3 of them a cycle at 3 GHz, which server cores do not sustain
    # over code that walks page tables, to 1.5, where most of the time is waiting.
    bounds = (("bound", 0.1), ("bound", 0.4), ("bound", 1.5))
    what = f"one instruction of the part {part}"
    quoted = dict.fromkeys(ISAS, bounds)
    return Term(f"{part} instructions", "ns an instruction", what, None, quoted)


def _cycles(*rows: tuple[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((row, cycles * NS_A_CYCLE) for row, cycles in rows)


_ATOMIC = {
    "arm64": (("M031", 8.427), ("M032", 9.853), ("M033", 5.69), ("M034", 5.01), ("M039", 8.275)),
    "x86_64": _cycles(("M024", 19), ("M025", 18)),
}
# Lines that a folio's own state takes: its header, its two neighbours on the list, its memcg's
# counters; and those of the page cache: the xarray node, its list, the lock of the inode.
_FOUR_LINES = dict.fromkeys(ISAS, (("M066", 4 * 25.0),))

TERMS: tuple[Term, ...] = (
    *map(_price, PARTS),
    # One after the other in the same lines, they may overlap as those of the sources could not.
    Term("atomic of a young bit", "ns", "a young bit tested and cleared", _young_atomics,
         _ATOMIC, least_spread=0.8),
    Term("atomic of unmapping", "ns", "a read-modify-write whose value is used", _unmap_atomics,
         _ATOMIC),
    Term(
        "per-CPU add", "ns", "a statistic of the CPU's own, which arm64 may add to far away",
        _percpu_adds,
        {
            "arm64": (("M029", 50), ("M033", 45.53), ("M034", 5.01), ("M035", 45.79),
                      ("M036", 67.72)),
            "x86_64": _cycles(("M024", 19), ("M025", 18)),
        },
    ),
    Term("flush_tlb_mm_range", "ns", "a flush on its own CPU, beyond what it invalidates",
         _flushes, dict.fromkeys(ISAS, (("M016", 100.0),)), least_spread=1.0),
    Term(
        "TLB invalidation", "ns", "a range (arm64), or a page or more than 33 (x86_64, own CPU)",
        _invalidations,
        {
            # D024 is an invalidation with its wait; M040: 95% of it is the wait.
            "arm64": (("D024", 0.05 * 308),),
            "x86_64": _cycles(("M002", 260), ("M005", 237), ("M005", 883), ("M010", 216),
                              ("M014", 232)),
        },
    ),
    Term(
        "TLB wait", "ns", "for other CPUs to invalidate: a barrier (arm64), interrupts (x86_64)",
        _waits,
        {
            "arm64": (("D024", 308), ("D026", 893), ("D027", 2200)),
            "x86_64": (("M023", 1000), ("M023", 3000)),
        },
        least_spread=0.8,  # M023 is a rule of thumb, and says so
    ),
    Term("cold line of a page", "ns", "of its struct page, or of eight page-table entries",
         _page_lines, dict.fromkeys(ISAS, (("M066", 25.0),)), least_spread=1.0),
    Term("cold lines of a folio", "ns", "a folio looked at: header, list neighbours, counters",
         _folio_lines, _FOUR_LINES, least_spread=1.0),
    Term("page-cache removal", "ns", "a folio: xarray node, lock and list of its inode",
         _cache_removals, _FOUR_LINES, least_spread=1.0),
)  # fmt: skip

TERM_NAMES = tuple(term.name for term in TERMS)
NR_PRICES = len(PARTS)

# Correlation of the three prices before anything was measured: they are of one core.
PRICE_CORRELATION = 0.7


def prior(arch: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean, shape (len(TERMS),), and covariance of the priors of an architecture."""
    means, spreads = np.array([term.prior(isa(arch)) for term in TERMS]).T
    correlation = np.eye(len(TERMS))
    correlation[:NR_PRICES, :NR_PRICES] += PRICE_CORRELATION * (1 - np.eye(NR_PRICES))
    return means, correlation * np.outer(spreads, spreads)


def terms_of(events: Events, model: fit.CostModel, flush: str = "deferred") -> np.ndarray:
    """Return how often each of `TERMS` happened in one request, by part of the path.

    Args:
        events: of any simulated request.
        model: prices its instructions; of the same instruction set.
        flush: a member of `FLUSHES`; arm64 does not care.

    Returns:
        float64, shape (len(TERMS), len(PARTS)); times ns, its sum is the elapsed time in ns.
    """
    found = np.zeros((len(TERMS), len(PARTS)))
    found[:NR_PRICES] = np.diag(by_part(group_counts_of(events) * model.costs))
    if events.world.order == ARCHES[events.arch].pmd_order:
        found[NR_PRICES - 1, NR_PRICES - 1] = _pmd_instructions(events)
    for place, term in enumerate(TERMS[NR_PRICES:], NR_PRICES):
        found[place] = term.count(events, flush)
    return found


def group_counts_of(events: Events) -> np.ndarray:
    """Return group counts; 0 for PMD-mapped folios, which the groups do not describe."""
    if events.world.order == ARCHES[events.arch].pmd_order:
        return np.zeros(len(GROUPS))
    return group_counts(events)


def pageout_terms(
    arch: str, workload: str, order: int, map_bytes: int, model: fit.CostModel, kernel: str
) -> np.ndarray:
    """Return `terms_of` MADV_PAGEOUT of a whole mapping, with its flush on the own CPU."""
    world = World(
        map_bytes=map_bytes,
        reclaim_bytes=map_bytes,
        order=order,
        workload=workload,
        request="pageout",
    )
    return terms_of(reclaim(world, arch, kernel), model, "own")


def by_part(by_group: np.ndarray) -> np.ndarray:
    """Return the sum over the groups of each part, shape (len(PARTS),)."""
    return np.array([by_group[IN_PART[part]].sum() for part in PARTS])


def _pmd_instructions(events: Events) -> float:
    # Groups do not describe PMD-mapped folios; under emulation they took this a page.
    name = isa(events.arch)
    cell = measurements.plain_cells(name, ARCHES[name].pmd_order).loc["unmap"]
    return cell["instructions"] / cell["pgsteal"] * events[Count.PGSTEAL]
