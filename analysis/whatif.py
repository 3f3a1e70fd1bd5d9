# SPDX-License-Identifier: GPL-2.0-only
"""What a change that nobody has written yet could still save, in instructions or in time.

A change is a row of `WHATIFS`: of what there would be less, and how much less. What it saves is the
share of what that costs today, for the published request and the kernel with both batches. A row of
one's own takes five lines:

    WhatIf(
        "one flush a folio", "the TLB flushed once a folio, whatever its mappings",
        (Less("flush_tlb_mm_range", keeps=folios_freed),), "mm/rmap.c: try_to_unmap_one(), 7.2",
    )
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis import elapsed, fit, timing
from analysis.groups import NAMES
from analysis.interval import Interval
from analysis.stalls import NR_PRICES, TERM_NAMES, by_part, group_counts_of, terms_of
from sim import ARCHES, Events, WorldError
from sim.arch import isa
from sim.state import Count

TODAY = "unmap"


def nothing(events: Events) -> float:
    """No event is left."""
    del events
    return 0.0


def folios_freed(events: Events) -> float:
    """One event is left for each folio freed."""
    return events.nr_reclaimed_folios


def batches_freed(events: Events) -> float:
    """One event is left for each batch of folios freed, 31 at most."""
    return events[Count.UNCHARGE_BATCH]


def quanta_of_32_folios(events: Events) -> float:
    """What is left of quanta of 32 pages, but one folio at least, if they took 32 folios."""
    quanta = events[Count.SHRINK_FOLIO_LIST] + events[Count.SHRINK_ACTIVE_LIST]
    return quanta * _quantum_in_folios(events)


def flushes_of_32_folios(events: Events) -> float:
    """What is left of the deferred TLB flushes, one a quantum, of such quanta."""
    return events[Count.ARCH_TLBBATCH_FLUSH] * _quantum_in_folios(events)


def _quantum_in_folios(events: Events) -> float:
    return max(1, 32 >> events.world.order) / 32


def waits_of_32_folios(events: Events) -> float:
    """The TLB waits that those flushes are, and those of contpte blocks that are unfolded."""
    return flushes_of_32_folios(events) + events[Count.CONTPTE_TRY_UNFOLD]


def adds_of_batches(events: Events) -> float:
    """Per-CPU adds, two a folio freed and two a batch of them: see `stalls.TERMS`."""
    return 2.0 * (events[Count.FOLIOS_FREED] + batches_freed(events))


@dataclass(frozen=True)
class Less:
    """A thing that there would be less of.

    Attributes:
        of: a group, a member of `NAMES`, which takes instructions; or a stall, a member of
            `stalls.TERM_NAMES`, which takes time alone.
        keeps: how many events are left.
        share: of the price of each of the others that is saved: lowest, best, highest guess.
    """

    of: str
    keeps: Callable[[Events], float] = nothing
    share: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class WhatIf:
    """A change that could be made.

    Attributes:
        name, what: in few words, and in one sentence.
        less: what there would be less of.
        changes: the code it would change: file, function, release or commit.
        range_helpers: the `Arch.range_helpers` for which it makes sense, None for either.
    """

    name: str
    what: str
    less: tuple[Less, ...]
    changes: str
    range_helpers: bool | None = None


# Instructions of one turn of each loop, x86_64, read from objdump of Linux 7.2.13, gcc 12.2, -O2: a
# further PTE takes 14 to be sized, in folio_pte_batch(), and 15 to 17 to be cleared, of which call,
# return and the reloads around it are 9 or 10.
_SIZED = (14 / 33, 14 / 32, 14 / 30)
_CALLED = (9 / 33, 9 / 32, 10 / 30)

WHATIFS: tuple[WhatIf, ...] = (
    WhatIf(
        "young bits in one call",
        "the young bits of a batch cleared by one call, not by one for each PTE",
        (Less("clear_flush_young_ptes", share=_CALLED),),
        "include/linux/pgtable.h: clear_flush_young_ptes(), 7.2, the loop that arm64 replaced in "
        "commit 07f440c23a19 (in v7.0)",
        range_helpers=False,
    ),
    WhatIf(
        "batches not sized",
        "a folio that a VMA maps whole taken as one batch without looking at each PTE",
        (
            Less("clear_flush_young_ptes", share=_SIZED),
            Less("get_and_clear_full_ptes", share=_SIZED),
        ),
        "mm/internal.h: folio_pte_batch_flags(), called by folio_referenced_one() and "
        "folio_unmap_pte_batch(), mm/rmap.c, 7.2",
        range_helpers=False,
    ),
    WhatIf(
        "mapped statistic once a batch",
        "the mapped-pages statistic updated for a batch of folios freed, not for each",
        (
            Less("lruvec_stat_mod_folio", keeps=batches_freed),
            Less("per-CPU add", keeps=adds_of_batches),
        ),
        "mm/rmap.c: __folio_mod_stat(), 7.2",
    ),
    WhatIf(
        "one shadow slot a folio",
        "one multi-index shadow entry stored for a folio, not each of its slots",
        (Less("xas_store", keeps=folios_freed),),
        "mm/filemap.c: page_cache_delete(); lib/xarray.c: xas_store(), 7.2",
    ),
    WhatIf(
        "batched page-cache removal",
        "folios of one file taken from the page cache under one lock, as truncation does; at most "
        "all that a large folio's removal costs beyond a small one's",
        (
            Less("__remove_mapping", keeps=batches_freed, share=(0.0, 0.5, 1.0)),
            Less("page-cache removal", keeps=batches_freed, share=(0.0, 0.5, 1.0)),
        ),
        "mm/vmscan.c: __remove_mapping(); mm/filemap.c: delete_from_page_cache_batch(), 7.2",
    ),
    WhatIf(
        "tail pages not prepared",
        "the tail pages of a folio freed without a look at each",
        (Less("free_tail_page_prepare"),),
        "mm/page_alloc.c: free_tail_page_prepare(), 7.2",
    ),
    WhatIf(
        "quanta counted in folios",
        "32 folios isolated and scanned at a time, whatever their size, not 32 pages",
        (
            Less("shrink_folio_list", keeps=quanta_of_32_folios),
            Less("arch_tlbbatch_flush", keeps=flushes_of_32_folios),
            Less("TLB wait", keeps=waits_of_32_folios),
        ),
        "mm/vmscan.c: shrink_lruvec(), isolate_lru_folios(), SWAP_CLUSTER_MAX, 7.2",
    ),
)


def whatif(arch: str, order: int, rows: tuple[WhatIf, ...] = WHATIFS) -> pd.DataFrame:
    """Rank what each change could save of today's instructions, the largest first.

    Columns: name, saved (`Interval` of the share of today's instructions: lowest to highest guess,
    each with the 95% interval of the prices), what, changes. Changes are not additive: two rows may
    save the same work.

    Raises:
        WorldError: no such order, or one that is PMD-mapped.
        FitError: no runs of the architecture.
    """
    model = fit.fit(arch)
    _require_ptes(arch, order)
    events = elapsed.request_events(arch, TODAY, order)
    return _ranked(arch, rows, lambda row: _saved(row, model, events))


def in_time(
    costs: timing.TimeFit, order: int, rows: tuple[WhatIf, ...] = WHATIFS
) -> pd.DataFrame:
    """Rank what each change could save of today's elapsed time on one machine; as `whatif`.

    The intervals are of the guesses and the costs. That the sum of terms is no whole account of the
    time is not in them: it is wrong alike of what is there and of what would be saved.
    """
    arch = costs.machine.arch
    _require_ptes(arch, order)
    flushes = elapsed.OPEN_FLUSHES[isa(arch)]
    asked = [timing.request(arch, TODAY, order, way, **costs.machine.request) for way in flushes]
    terms = [
        terms_of(events, costs.model, way).sum(axis=1)
        for events, way in zip(asked, flushes, strict=True)
    ]
    drawn = costs.posterior.costs
    way = np.arange(len(drawn)) % len(flushes)
    total = np.einsum("bt,bt->b", drawn, np.array(terms)[way])

    def saved(row: WhatIf) -> Interval:
        fewer = np.array(
            [_fewer_terms(row, costs.model, *pair) for pair in zip(asked, terms, strict=True)]
        )
        shares = np.einsum("bt,bgt->gb", drawn, fewer[way]) / total
        ends = (np.percentile(share, at) for share, at in zip(shares, (2.5, 50, 97.5), strict=True))
        return Interval(*map(float, ends))

    return _ranked(arch, rows, saved)


def _require_ptes(arch: str, order: int) -> None:
    if order not in range(ARCHES[arch].pmd_order):
        raise WorldError(
            f"order {order}: expected 0 to {ARCHES[arch].pmd_order - 1}, folios mapped by PTEs"
        )


def _ranked(
    arch: str, rows: tuple[WhatIf, ...], saved: Callable[[WhatIf], Interval]
) -> pd.DataFrame:
    fitting = [row for row in rows if row.range_helpers in (None, ARCHES[arch].range_helpers)]
    found = pd.DataFrame(
        {
            "name": [row.name for row in fitting],
            "saved": [saved(row) for row in fitting],
            "what": [row.what for row in fitting],
            "changes": [row.changes for row in fitting],
        }
    )
    best = [-interval.best for interval in found["saved"]]
    return found.iloc[np.argsort(best, kind="stable")].reset_index(drop=True)


def _fewer(row: WhatIf, names: tuple[str, ...], counts: np.ndarray, events: Events) -> np.ndarray:
    # Events saved, shape (3 guesses, len(names)). The shares of all of a row are guessed low or
    # high together.
    fewer = np.zeros((3, len(names)))
    for less in row.less:
        if less.of in names:
            place = names.index(less.of)
            fewer[:, place] = max(counts[place] - less.keeps(events), 0.0) * np.array(less.share)
    return fewer


def _fewer_terms(
    row: WhatIf, model: fit.CostModel, events: Events, terms: np.ndarray
) -> np.ndarray:
    # Of instructions by part, and of stalls: shape (3 guesses, len(TERMS)).
    fewer = _fewer(row, TERM_NAMES, terms, events)
    groups = _fewer(row, NAMES, group_counts_of(events), events)
    fewer[:, :NR_PRICES] = [by_part(guess * model.costs) for guess in groups]
    return fewer


def _saved(row: WhatIf, model: fit.CostModel, events: Events) -> Interval:
    counts = model.counts(events)
    lowest, middle, highest = _fewer(row, NAMES, counts, events)
    best = middle @ model.costs / (counts @ model.costs)
    low, high = (
        _bound(model, counts, fewer, sign) for fewer, sign in ((lowest, -1), (highest, 1))
    )
    return Interval(min(max(low, 0.0), best), best, max(high, best))


def _bound(model: fit.CostModel, counts: np.ndarray, fewer: np.ndarray, sign: int) -> float:
    total = counts @ model.costs
    share = fewer @ model.costs / total
    gradient = (fewer - share * counts) / total
    reach = stats.t.ppf(0.975, model.dof) * np.sqrt(max(gradient @ model.cov @ gradient, 0.0))
    return float(share + sign * reach)
