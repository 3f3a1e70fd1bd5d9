# SPDX-License-Identifier: GPL-2.0-only
"""lru_gen: generations, their eviction and their aging.

Hold this file beside the lru_gen half of mm/vmscan.c of Linux 7.2, from lru_gen_shrink_lruvec()
down to scan_folios(): same names, callees first.
"""

from sim.folio_list import shrink_folio_list
from sim.folios import (
    add_run,
    end_of_equal,
    end_of_same_flags,
    folio_order,
    set_each,
    set_flags,
)
from sim.jit import jit, jit_rare
from sim.lists import list_add, oldest_extent, take_oldest
from sim.look_around import MAX_NR_GENS, MIN_LRU_BATCH, walk_mm
from sim.state import (
    ACTIVE,
    ALL_FLAGS,
    MAX_SEQ,
    MIN_SEQ,
    MLOCKED,
    NO_GEN,
    NR_EXTENTS,
    NR_PAGES,
    NR_PROMOTED,
    NR_WALKS,
    REFERENCED,
    WORKINGSET,
    Count,
    LruList,
)

# include/linux/mmzone.h
MIN_NR_GENS = 2
MAX_NR_TIERS = 4
# mm/vmscan.c, where a walk over the priorities starts
DEF_PRIORITY = 12


@jit
def gen_list(lrugen, gen):
    return LruList(lrugen.extents[gen], lrugen.lists[gen])


@jit_rare
def inc_max_seq(memory, machine, counts):
    """Open a new youngest generation, after a walk of the page tables that ran since the last."""
    seq = memory.lrugen.seq
    counts[Count.INC_MAX_SEQ] += 1
    if seq[NR_WALKS] == 0:  # the mapping processes sleep: their bitmap is set once
        for vma in range(len(memory.vmas)):
            walk_mm(vma, memory, machine, counts)
        seq[NR_WALKS] = 1
    seq[MAX_SEQ] += 1


@jit
def try_to_inc_min_seq(lrugen):
    """Retire the oldest generations that are empty, but for the two youngest."""
    seq = lrugen.seq
    while seq[MIN_SEQ] + MIN_NR_GENS <= seq[MAX_SEQ]:
        if lrugen.lists[seq[MIN_SEQ] % MAX_NR_GENS, NR_EXTENTS] > 0:
            return
        seq[MIN_SEQ] += 1


@jit
def lru_gen_add_folio(folio, end, memory):
    """Put folios with the same flags back at the newest end of the generation that these name."""
    lrugen = memory.lrugen
    flags = memory.folio_flags[folio] & ALL_FLAGS
    nr_pages = 1 << folio_order(folio, memory)
    if flags & MLOCKED:
        list_add(memory.lruvec.unevictable, folio, end)
        return
    seq = lrugen.seq[MAX_SEQ]
    if flags & ACTIVE:
        seq -= 0 if flags & WORKINGSET else 1
    elif flags & (REFERENCED | WORKINGSET):
        seq -= 2
    else:
        seq -= 3
    gen = max(seq, lrugen.seq[MIN_SEQ]) % MAX_NR_GENS
    set_each(lrugen.folio_gen, folio, end, nr_pages, gen)
    set_flags(folio, end, nr_pages, flags & (ALL_FLAGS ^ ACTIVE), memory)
    list_add(gen_list(lrugen, gen), folio, end)


@jit
def end_of_same_gen(folio, end, memory):
    # The end of a run of listed neighbours, `folio` first, of which lru_gen knows the same.
    lrugen = memory.lrugen
    nr_pages = 1 << folio_order(folio, memory)
    end = end_of_same_flags(folio, end, memory)
    end = end_of_equal(lrugen.folio_gen, folio, end, nr_pages)
    return end_of_equal(lrugen.folio_refs, folio, end, nr_pages)


@jit
def sort_folio(folio, end, gen, memory, counts):
    """Move folios that do not belong into the oldest generation; return whether it did."""
    lrugen = memory.lrugen
    flags = memory.folio_flags[folio] & ALL_FLAGS
    nr_pages = 1 << folio_order(folio, memory)
    if flags & MLOCKED:
        list_add(memory.lruvec.unevictable, folio, end)
        return True
    tier = lrugen.folio_refs[folio] + (flags & REFERENCED > 0) + (flags & WORKINGSET > 0)
    if lrugen.folio_gen[folio] != gen:  # promoted in place
        counts[Count.PGREFILL] += end - folio
    elif tier == MAX_NR_TIERS + 1:  # protected
        set_each(lrugen.folio_gen, folio, end, nr_pages, (gen + 1) % MAX_NR_GENS)
        set_each(lrugen.folio_refs, folio, end, nr_pages, 0)
        set_flags(folio, end, nr_pages, flags & (ALL_FLAGS ^ REFERENCED), memory)
    else:
        return False
    list_add(gen_list(lrugen, lrugen.folio_gen[folio]), folio, end)
    return True


@jit
def scan_folios(nr_to_scan, memory, counts):
    """Isolate folios of the oldest generation; return pages scanned and runs isolated."""
    lrugen = memory.lrugen
    if lrugen.seq[MAX_SEQ] - lrugen.seq[MIN_SEQ] + 1 == MIN_NR_GENS:
        return 0, 0
    gen = lrugen.seq[MIN_SEQ] % MAX_NR_GENS
    oldest = gen_list(lrugen, gen)
    # The budget counts folios, the limit pages.
    remaining = min(nr_to_scan, MIN_LRU_BATCH)
    scanned = 0
    isolated = 0
    nr_runs = 0
    while oldest.state[NR_EXTENTS] > 0 and remaining > 0 and isolated < MIN_LRU_BATCH:
        first, last = oldest_extent(oldest)
        order = folio_order(first, memory)
        nr = min(remaining, ((MIN_LRU_BATCH - isolated - 1) >> order) + 1)
        end = end_of_same_gen(first, min(first + (nr << order), last), memory)
        take_oldest(oldest, end - first)
        scanned += end - first
        remaining -= (end - first) >> order
        if sort_folio(first, end, gen, memory, counts):
            continue
        set_each(lrugen.folio_gen, first, end, 1 << order, NO_GEN)
        if not memory.folio_flags[first] & REFERENCED:
            set_each(lrugen.folio_refs, first, end, 1 << order, 0)
        nr_runs = add_run(memory.folio_list, nr_runs, first, end)
        isolated += end - first
    counts[Count.PGSCAN] += isolated
    return scanned, nr_runs


@jit
def move_folios_to_gens(nr_runs, memory, counts):
    # move_folios_to_lru(), with what evict_folios() does to the folios that stay.
    lrugen = memory.lrugen
    for run in range(nr_runs):
        folio, last = memory.ret_folios[run, 0], memory.ret_folios[run, 1]
        while folio < last:
            end = end_of_same_flags(folio, last, memory)
            flags = memory.folio_flags[folio] & ALL_FLAGS
            if not flags & (ACTIVE | REFERENCED | WORKINGSET | MLOCKED):
                # or it would be the oldest again
                set_flags(folio, end, 1 << folio_order(folio, memory), flags | ACTIVE, memory)
            lru_gen_add_folio(folio, end, memory)
            folio = end
    counts[Count.MOVE_FOLIOS_TO_LRU] += 1
    counts[Count.FOLIO_LRUVEC_LOCK_IRQ] += nr_runs > 0
    counts[Count.RESET_BATCH_SIZE] += lrugen.seq[NR_PROMOTED] > 0
    lrugen.seq[NR_PROMOTED] = 0


@jit
def evict_folios(nr_to_scan, memory, machine, counts):
    """Scan and reclaim once; return pages scanned and pages reclaimed."""
    lrugen = memory.lrugen
    counts[Count.EVICT_FOLIOS] += 1
    try_to_inc_min_seq(lrugen)
    scanned, nr_runs = scan_folios(nr_to_scan, memory, counts)
    if scanned > 0:
        try_to_inc_min_seq(lrugen)
    if nr_runs == 0:
        return scanned, 0
    nr_reclaimed, nr_kept = shrink_folio_list(nr_runs, memory, machine, counts)
    move_folios_to_gens(nr_kept, memory, counts)
    counts[Count.PGSTEAL] += nr_reclaimed
    return scanned, nr_reclaimed


@jit_rare
def lru_gen_shrink_lruvec(nr_to_reclaim, nr_reclaimed, priority, memory, machine, counts):
    """Evict by the share that priority gives; return pages reclaimed, nr_reclaimed included."""
    lrugen = memory.lrugen
    seq = lrugen.seq
    nr_to_scan = lrugen.lists[:, NR_PAGES].sum() >> priority
    while nr_to_scan > 0:
        nr_older = seq[MAX_SEQ] - seq[MIN_SEQ]
        if nr_older < MIN_NR_GENS or (priority < DEF_PRIORITY and nr_older == MIN_NR_GENS):
            inc_max_seq(memory, machine, counts)
        scanned, reclaimed = evict_folios(min(nr_to_scan, MIN_LRU_BATCH), memory, machine, counts)
        nr_reclaimed += reclaimed
        if scanned == 0 or nr_reclaimed >= nr_to_reclaim:
            break
        nr_to_scan -= scanned
    return nr_reclaimed
