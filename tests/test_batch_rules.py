# SPDX-License-Identifier: GPL-2.0-only
"""What ends a batch of page-table entries, and what forbids one: a world for each, by hand.

The rules are folio_unmap_pte_batch() and try_to_unmap_one() in mm/rmap.c of Linux 7.2, and
can_batch_unmap_folio_ptes() of v6.15. Entries are old unless said otherwise, so that the first
contact unmaps: one look for references, one try_to_unmap(). A batch is one walk step and one
removal; the walk goes on, to find nothing, unless the batch was the folio. Where n entries go one
by one they take n steps to look and n + 1 to unmap: folio_referenced_one() counts what it met,
try_to_unmap_one() does not. Each removal, and each set_ptes(), has one flush: Events' laws.
"""

import pytest

import sim
from sim.events import listed
from sim.layout import first_pages, lay_out, page_table
from sim.reclaim import walk
from sim.state import (
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_SWAP,
    PTE_UFFD_WP,
    PTE_WRITE,
    SWAPBACKED,
    Count,
)

pytestmark = pytest.mark.core

SHORT = {"walks": "page_vma_mapped_walk", "removals": "folio_remove_rmap_ptes"}
LAZYFREE = {"workload": "lazyfree"}  # by MADV_PAGEOUT, which ignores references
LAZYFREE_RECLAIM = {"workload": "lazyfree", "request": "memory.reclaim"}
EAGAIN = -11
# A walk over the priorities finds 16 pages at 4 to 0, as 16 >> priority >= 1. What can never be
# freed is met by 17 requests, MAX_RECLAIM_RETRIES and the first. Each of them walks twice if the
# folio stays inactive: as asked, then fully.
KEPT_CONTACTS = 17 * 2 * 5
# If each contact activates it, a request meets it at priority 4, skips it in the full walk, and
# forces its deactivation in the third: deactivated at 4, 2 and 0, met at 3 and 1.
ACTIVATED_CONTACTS = 17 * (1 + 2)
DEACTIVATIONS = 17 * 3


class Run:
    """A world, one folio of order 4 if nothing else is said, and what reclaim made of it."""

    def __init__(self, kernel, nr_pages=16, *, arch="x86_64", **fields):
        facts = sim.ARCHES[arch]
        nr_bytes = nr_pages << facts.page_shift
        old = {} if "workload" in fields else {"access": "mmap", "young": 0.0}
        world = sim.World(map_bytes=nr_bytes, reclaim_bytes=nr_bytes, **old | fields)
        self.memory = lay_out(world, facts)
        self.nr_entries = 1 << facts.pmd_order
        self.rss_before = self.memory.ledger.rss.tolist()
        self.before = self.entries()
        counts, self.result = walk(world, self.memory, arch, sim.KERNELS[kernel])
        named = {count.name: counts[count] for count in Count}
        self.events = sim.Events(world, arch, kernel, "classic", named, self.result)
        self.after = self.entries()

    def entries(self):
        return page_table(self.memory, 0, self.nr_entries).tolist()

    def counts(self, **expected):
        """Assert hits, by the names of functions, of `Count`, or in SHORT."""
        hits = dict.fromkeys(listed(self.events.arch, "classic"), 0) | self.events.functions()
        hits |= {count.name.lower(): self.events[count] for count in Count}
        assert {name: hits[SHORT.get(name, name)] for name in expected} == expected
        return self


def test_the_end_of_the_vma_ends_a_batch():
    # Pages 3 to 12 of 16: max_nr = pmd_addr_end(addr, vma->vm_end) - addr = 10, which is not the
    # folio, so that both walks go on. Linux commit ddd05742b45b ("mm/rmap: fix potential
    # out-of-bounds page table access during batched unmap") (in v6.16).
    for kernel, batches in (("base", 10), ("unmap", 1)):
        Run(kernel, vma_cut=3).counts(
            walks=2 * (batches + 1), removals=batches, ptes_cleared=10, pgsteal=16
        )


def test_half_a_folio_in_the_vma_can_be_a_contpte_block():
    # Folios [0, 32) and [32, 64), of which the VMA has [16, 32) and [32, 48): a block each. One by
    # one, a folio takes 16 checks and the 15 steps between them; then the first entry is checked,
    # read, and unfolds the block: arch/arm64/mm/contpte.c.
    two = {"nr_pages": 64, "order": 5, "vma_cut": 16, "arch": "arm64"}
    Run("base", **two).counts(
        contpte_ptep_get=2 * (16 + 15 + 2), contpte_try_unfold=2, contpte_get_and_clear_full_ptes=0
    )
    # Batched, it is checked and read, twice: pte_batch_hint() covers the rest of the batch.
    Run("unmap", **two).counts(
        contpte_ptep_get=2 * (2 + 2), contpte_try_unfold=0, contpte_get_and_clear_full_ptes=2
    )


@pytest.mark.parametrize("shift", [511, 510, 500])
def test_the_end_of_the_page_table_ends_a_batch(shift):
    # 512 - shift entries in the first table, the others in the second: pmd_addr_end(). Looking ends
    # when all 16 have been met, unmapping only when a third step finds nothing.
    Run("base", vma_shift=shift).counts(walks=16 + 17, removals=16, pgsteal=16)
    Run("unmap", vma_shift=shift).counts(walks=2 + 3, removals=2, folio_pte_batch=2, pgsteal=16)


@pytest.mark.parametrize(
    ("seed", "tables", "walks", "removals", "deferred"),
    [(0, [0, 512], 16 + 1, 1, 0), (3, [512, 0], 16 + 17, 16, 1)],
)
def test_v6_15_read_on_behind_the_page_table(seed, tables, walks, removals, deferred):
    # can_batch_unmap_folio_ptes() asks for folio_nr_pages(), not for what the table has left: Linux
    # commit ddd05742b45b. Entry 511 is followed by whatever lies behind the table in memory. If
    # that is the next table, all 16 look like a batch; if not, 1 < 16, and they go one by one.
    world = LAZYFREE_RECLAIM | {"vma_shift": 511, "seed": seed}
    found = Run("lazyfree", **world)
    assert found.memory.tables.tolist() == [tables]
    found.counts(walks=walks, removals=removals, deferred_split_folio=deferred, ptes_cleared=16)
    # Linux 7.2 stops there, wherever the tables lie, and then has a folio that is mapped in part.
    Run("unmap", **world).counts(walks=2 + 3, removals=2, deferred_split_folio=1)


def test_an_unmapped_half_ends_a_batch():
    # Entry 8 is none, so that the batch is 8, and both walks go on.
    for kernel, batches in (("base", 8), ("unmap", 1)):
        Run(kernel, partly_mapped=1.0).counts(walks=2 * (batches + 1), removals=batches, pgsteal=16)
    # v6.15 takes the whole folio or nothing. The folio was queued for a split when its half went,
    # and is not queued again: __folio_remove_rmap(), mm/rmap.c.
    for kernel, batches in (("lazyfree-before", 8), ("lazyfree", 8), ("unmap", 1)):
        Run(kernel, partly_mapped=1.0, **LAZYFREE_RECLAIM).counts(
            walks=2 * (batches + 1), removals=batches, deferred_split_folio=0, pgsteal=16
        )


# Seeds that give four entries the bit in this order: set, set, clear, clear.
MIXED = [("writable", PTE_WRITE, 96), ("soft_dirty", PTE_SOFT_DIRTY, 130)]


def mixed(kernel, name, bit, **fields):
    found = Run(kernel, 4, order=2, **fields | {name: 0.5})
    assert [entry & bit for entry in found.before] == [bit, bit, 0, 0]
    return found


@pytest.mark.parametrize(("name", "bit", "seed"), MIXED)
def test_a_change_of_a_bit_that_would_be_lost_ends_a_batch(name, bit, seed):
    # FPB_RESPECT_WRITE, FPB_RESPECT_SOFT_DIRTY: 2 + 2 entries, and a third step. folio_pte_batch()
    # of the references respects neither: one step. v6.15 respected neither, and looked one by one.
    for kernel, walks, removals in (
        ("lazyfree-before", 4 + 5, 4),
        ("lazyfree", 4 + 1, 1),
        ("unmap", 1 + 3, 2),
    ):
        mixed(kernel, name, bit, seed=seed, **LAZYFREE_RECLAIM).counts(
            walks=walks, removals=removals, deferred_split_folio=int(removals > 1), pgsteal=4
        )
    mixed("unmap", name, bit, seed=seed).counts(walks=1 + 3, removals=2, pgsteal=4)


@pytest.mark.parametrize(("name", "bit", "seed"), MIXED)
def test_mappings_are_put_back_with_the_bits_of_the_first(name, bit, seed):
    # The folio is dirty, so that try_to_unmap_one() calls set_ptes() for the batch it has cleared,
    # with the first entry's bits: for v6.15 all four, two of which get a bit that they had not.
    world = LAZYFREE_RECLAIM | {"dirty_folios": 1.0, "seed": seed}
    kept, changed = (mixed(kernel, name, bit, **world) for kernel in ("unmap", "lazyfree"))
    for found in (kept, changed):
        found.counts(set_ptes=1, removals=0, pgsteal=0)
    assert kept.after == kept.before
    assert changed.after == [changed.before[0]] * 4


def test_userfaultfd_write_protection_forbids_a_batch():
    # userfaultfd_wp(): 1 at a time, as pte_install_uffd_wp_if_needed() makes one marker a call. The
    # references are a batch, all having the bit.
    for kernel, looking in (("base", 16), ("unmap", 1)):
        found = Run(kernel, uffd_wp=1.0)
        found.counts(walks=looking + 17, removals=16, pte_markers=16, pgsteal=16)
        assert found.after == [PTE_UFFD_WP] * 16


def test_userfaultfd_markers_are_for_files_only():
    # vma_is_anonymous(): a lazyfree page leaves nothing, one at a time all the same; v6.15 does not
    # ask. A swap entry keeps the bit itself: pte_swp_mkuffd_wp(), pte_swp_mksoft_dirty().
    for kernel, removals in (("lazyfree-before", 16), ("lazyfree", 1), ("unmap", 16)):
        found = Run(kernel, uffd_wp=1.0, **LAZYFREE)
        found.counts(removals=removals, pte_markers=0, pgsteal=16)
        assert found.after == [0] * 16
    found = Run("lazyfree", workload="anon", uffd_wp=1.0, soft_dirty=1.0)
    found.counts(removals=16, pte_markers=0, pgsteal=16)
    assert found.after == [PTE_SWAP | PTE_UFFD_WP | PTE_SOFT_DIRTY] * 16


@pytest.mark.parametrize("kernel", sim.FILE_SERIES)
def test_a_folio_in_an_mlocked_vma_is_mlocked_not_unmapped(kernel):
    # folio_referenced_one() meets all 16 one by one, in any kernel, and mlocks at the last, which
    # ends the rmap walk. The folio is unevictable from then on: met once, and nothing is freed.
    found = Run(kernel, mapped_by=2, mlocked=1)
    found.counts(mlock_folio=1, walks=16, folio_referenced_one=1, folio_pte_batch=0)
    found.counts(shrink_folio_list=1, folios_activated=0, try_to_unmap=0, pgsteal=0)
    assert found.result == EAGAIN
    Run(kernel, 512, order=9, mlocked=1).counts(mlock_folio=1, walks=1, try_to_unmap=0)


def test_a_folio_across_two_page_tables_is_not_mlocked():
    # PVMW_PGTABLE_CROSSED: one lock does not cover it. It is met (17 steps), found unused, refused
    # by try_to_unmap_one() at its 16th entry, activated, deactivated (17 steps), and so on.
    found = Run("unmap", mlocked=1, vma_shift=511).counts(
        mlock_folio=0,
        try_to_unmap=ACTIVATED_CONTACTS,
        walks=ACTIVATED_CONTACTS * (17 + 16) + DEACTIVATIONS * 17,
    )
    assert (found.after, found.result) == (found.before, EAGAIN)


def test_a_small_folio_with_a_memory_error_is_unmapped_and_not_reclaimed():
    # unmap_poisoned_folio(), mm/memory-failure.c: folio_mkclean() walks (found, and no other), then
    # try_to_unmap() does (found, and done, as 1 page is the folio). Never deferred: its ttu flags
    # have no TTU_BATCH_FLUSH. A clean page is dropped: no TTU_HWPOISON, no entry left.
    clean = Run("unmap", 1, order=0, hwpoison=1.0, cpus=2)
    clean.counts(unmap_poisoned_folio=1, folio_referenced=0, try_to_unmap=1, pgscan=1, pgsteal=0)
    clean.counts(rmap_walk=2, walks=2 + 1, removals=1, flush_tlb_mm_range=1)
    assert (clean.after, clean.result) == ([0], EAGAIN)
    # A writable entry counts as dirty, is cleaned with a flush, and leaves make_hwpoison_entry().
    dirty = Run("unmap", 1, order=0, hwpoison=1.0, writable=1.0).counts(flush_tlb_mm_range=2)
    assert dirty.after == [PTE_SWAP]


def test_a_large_folio_with_a_memory_error_is_kept():
    # shrink_folio_list() goes to keep_locked before it looks at references.
    found = Run("unmap", hwpoison=1.0)
    found.counts(unmap_poisoned_folio=0, folio_referenced=0, try_to_unmap=0, pgsteal=0)
    found.counts(shrink_folio_list=KEPT_CONTACTS, pgscan=KEPT_CONTACTS * 16)
    assert found.result == EAGAIN


# Kernel, walk steps, removals.
UNMAPPED_ONCE = [("base", 16 + 17, 16), ("unmap", 1 + 1, 1)]


@pytest.mark.parametrize(("kernel", "walks", "removals"), UNMAPPED_ONCE)
@pytest.mark.parametrize("why", [{"dirty_folios": 1.0}, {"dirty": 1.0, "writable": 1.0}])
def test_a_dirty_file_folio_is_unmapped_and_activated(why, kernel, walks, removals):
    # folio_is_file_lru(): left to the flusher, activate_locked. Unmapped at the first contact, by
    # which dirty entries make the folio dirty; folio_referenced() of it walks no more after that.
    found = Run(kernel, **why)
    found.counts(walks=walks, removals=removals, try_to_unmap=1, remove_mapping=0, pgsteal=0)
    by_entries = "dirty" in why
    found.counts(folio_mark_dirty=removals * by_entries, folio_account_dirtied=int(by_entries))
    found.counts(folios_activated=ACTIVATED_CONTACTS, shrink_active_list=DEACTIVATIONS)
    found.counts(folio_referenced=ACTIVATED_CONTACTS + DEACTIVATIONS, rmap_walk=1 + 1)
    assert found.result == EAGAIN


@pytest.mark.parametrize(("kernel", "walks", "removals"), UNMAPPED_ONCE)
def test_a_file_folio_that_somebody_holds_is_unmapped_and_kept(kernel, walks, removals):
    # __remove_mapping() cannot freeze the count at 1 + 16: keep_locked.
    found = Run(kernel, pinned=1.0)
    found.counts(walks=walks, removals=removals, try_to_unmap=1, pgsteal=0)
    found.counts(folio_referenced=KEPT_CONTACTS, remove_mapping=KEPT_CONTACTS)
    assert found.result == EAGAIN


def test_an_anonymous_folio_that_somebody_holds():
    # Large: "cannot split folio, skip it", before it gets swap. Small: swapped out, until pageout()
    # finds it not freeable and keeps it, unmapped and unwritten.
    large, small = (Run("anon", 1 << o, order=o, workload="anon", pinned=1.0) for o in (4, 0))
    large.counts(folio_alloc_swap=0, try_to_unmap=0, folios_activated=1, pageout=0, pgsteal=0)
    small.counts(folio_alloc_swap=1, removals=1, pageout=1, swap_writeout=0, remove_mapping=0)
    assert small.after == [PTE_SWAP]


@pytest.mark.parametrize(
    ("kernel", "swapbacked"), [("lazyfree-before", True), ("lazyfree", False), ("unmap", False)]
)
def test_a_lazyfree_folio_that_somebody_holds_is_put_back(kernel, swapbacked):
    # ref_count != 1 + map_count: the entry, or the batch, comes back and ends the walk. Before
    # v6.15 the folio was made swap-backed as if it were dirty.
    found = Run(kernel, pinned=1.0, **LAZYFREE).counts(walks=1, set_ptes=1, removals=0, pgsteal=0)
    assert found.after == found.before
    assert bool(found.memory.folio_flags[0] & SWAPBACKED) == swapbacked


def test_a_mixture_of_small_and_large_folios():
    # Order 4 fits at page 0, but lags no more than order 0, which comes first; then only at page
    # 16. The scan takes 1, 1, 3, 6 small ones at priorities 5 to 2 (32, 31, 30, 27 pages >> p); of
    # 21 >> 1 = 10 at priority 1 the last 5, and with the sixth the large one: five lists.
    base, found = (Run(kernel, 32, folios="0:0.5,4:0.5") for kernel in ("base", "unmap"))
    assert first_pages(lay_out(found.events.world, sim.ARCHES["x86_64"])).tolist() == [*range(17)]
    base.counts(walks=(16 + 16) + (16 + 17), removals=16 + 16, shrink_folio_list=5)
    found.counts(walks=17 + 17, removals=16 + 1, folio_pte_batch=1, try_to_unmap=17, pgscan=32)
    found.counts(shrink_node=12, shrink_folio_list=5, free_unref_folios=5, free_one_page=1)


@pytest.mark.parametrize(
    ("kernel", "split_deferred", "removals"),
    [("lazyfree-before", 2048, 32768), ("lazyfree", 0, 2048), ("unmap", 0, 2048)],
)
def test_lazyfree_folios_as_published(kernel, split_deferred, removals):
    # 128 MiB in folios of 64 KiB: 20250214093015.51024-4-21cnbao@gmail.com counts "split_deferred:
    # 2048" before the patch, 0 with it. 32768 pages, 2048 folios; one by one, the first of 16
    # removals leaves a folio mapped in part, which queues it once. A list for each page table.
    found = Run(kernel, 32768, **LAZYFREE)
    found.counts(deferred_split_folio=split_deferred, removals=removals, pgsteal=32768)
    found.counts(try_to_unmap=2048, folio_alloc_swap=0, reclaim_pages=32768 // 512)


# A seed that makes the second of four entries dirty.
SECOND_IS_DIRTY = LAZYFREE | {"order": 2, "dirty": 0.5, "seed": 1}
PLAIN = PTE_PRESENT | PTE_WRITE


@pytest.mark.parametrize("kernel", ["lazyfree", "unmap"])
def test_a_lazyfree_folio_that_was_written_again_is_put_back_whole(kernel):
    # get_and_clear_full_ptes() collects the dirty bit of the batch in its first entry, by
    # pte_mkdirty(), which on x86 sets soft-dirty too. The folio is dirty then, and all four entries
    # come back like that; it is swap-backed again, and activated.
    found = Run(kernel, 4, **SECOND_IS_DIRTY)
    found.counts(walks=1, folio_mark_dirty=1, set_ptes=1, removals=0, folios_activated=1, pgsteal=0)
    assert found.before == [PLAIN, PLAIN | PTE_DIRTY, PLAIN, PLAIN]
    assert found.after == [PLAIN | PTE_DIRTY | PTE_SOFT_DIRTY] * 4
    assert found.memory.folio_flags[0] & SWAPBACKED
    assert found.result == 0


def test_one_by_one_the_pages_before_the_dirty_one_went():
    # The first is discarded, which queues the folio for a split; the second is put back, which ends
    # the walk.
    found = Run("lazyfree-before", 4, **SECOND_IS_DIRTY)
    found.counts(walks=2, folio_mark_dirty=1, set_ptes=1, removals=1, deferred_split_folio=1)
    assert found.after == [0, *found.before[1:]]
    assert found.memory.folio_flags[0] & SWAPBACKED


@pytest.mark.parametrize(
    ("kernel", "calls", "walks"), [("lazyfree", 16, 17), ("anon", 1, 1), ("unmap", 16, 17)]
)
def test_an_anonymous_folio_before_and_after(kernel, calls, walks):
    # One by one, 16 removals: each but the last leaves a folio mapped in part, and as
    # deferred_split_folio() turns the swap cache away each asks again. Two rss counters a call. It
    # is marked dirty for the swap cache, and by each call that clears dirty entries.
    # 20250513084620.58231-1-21cnbao@gmail.com makes a batch of it.
    found = Run(kernel, workload="anon")
    found.counts(walks=walks, removals=calls, folio_dup_swap=calls, mm_trace_rss_stat=2 * calls)
    found.counts(deferred_split_folio=calls - 1, folio_mark_dirty=1 + calls, folio_alloc_swap=1)
    found.counts(swap_ptes=16, pageout=1, swap_writeout=1, remove_mapping=1, pgsteal=16)
    # A batch collects dirty bits by pte_mkdirty(), which on x86 makes them all soft-dirty.
    assert found.after == [PTE_SWAP | (PTE_SOFT_DIRTY if calls == 1 else 0)] * 16
    assert found.memory.ledger.rss.tolist() == [[0, 16]]


@pytest.mark.parametrize(("arch", "order", "n"), [("arm64-16k", 7, 128), ("arm64-64k", 5, 32)])
def test_contpte_blocks_of_other_page_sizes(arch, order, n):
    # CONT_PTE_SHIFT 7 and 5: arch/arm64/include/asm/pgtable-hwdef.h. One folio, one block, n
    # entries. One by one: n checks, n - 1 steps, and each call sweeps the block; then the first
    # entry is checked, read, and unfolds it. Batched: checked and read, twice.
    base = Run("base", n, arch=arch, order=order)
    base.counts(contpte_try_unfold=1, contpte_get_and_clear_full_ptes=0, young_pte_ops=n * n)
    base.counts(walks=n + (n + 1), contpte_ptep_get=n + (n - 1) + 2, pgsteal=n)
    batched = Run("unmap", n, arch=arch, order=order)
    batched.counts(contpte_try_unfold=0, contpte_get_and_clear_full_ptes=1, young_pte_ops=n)
    batched.counts(walks=1 + 1, contpte_ptep_get=2 + 2, pgsteal=n)
    # Half a block is none: nothing is gathered, but batched all the same.
    half = Run("unmap", n // 2, arch=arch, order=order - 1)
    half.counts(contpte_ptep_get=0, contpte_get_and_clear_full_ptes=1, walks=1 + 1)


@pytest.mark.parametrize(("vma_shift", "batches"), [(0, 1), (511, 2)])
def test_two_mappings_in_a_process_are_two_vmas(vma_shift, batches):
    # A batch never leaves its VMA: one each, as of two processes. The second VMA's removal is the
    # one that leaves the pages unmapped.
    once = Run("unmap", vma_shift=vma_shift, mappings=2)
    twice = Run("unmap", vma_shift=vma_shift, mapped_by=2)
    once.counts(folio_referenced_one=2, try_to_unmap_one=2, ptes_cleared=2 * 16)
    once.counts(removals=2 * batches, mm_trace_rss_stat=2 * batches, mapped_stat_updates=batches)
    assert once.events.functions() == twice.events.functions()
    assert (once.rss_before, twice.rss_before) == ([[32, 0]], [[16, 0], [16, 0]])
    assert once.memory.ledger.rss.sum() == twice.memory.ledger.rss.sum() == 0


@pytest.mark.parametrize(("kernel", "calls"), [("lazyfree-before", 16), ("lazyfree", 1)])
def test_lazyfree_flushes_are_deferred_to_the_free_batch(kernel, calls):
    # 64 folios, a list of 32 for each of two page tables: flushed when 31 are freed, and after the
    # last. The second table starts with flush_tlb_batched_pending(), mm/rmap.c, as entries of the
    # same mm have been cleared without a flush of its own.
    alone, other = (Run(kernel, 1024, cpus=cpus, **LAZYFREE) for cpus in (1, 2))
    alone.counts(set_tlb_ubc_flush_pending=0, flush_tlb_mm_range=64 * calls, arch_tlbbatch_flush=0)
    other.counts(set_tlb_ubc_flush_pending=64 * calls, flush_tlb_mm_range=1)
    other.counts(arch_tlbbatch_flush=2 * 2, try_to_unmap_flush=2 * 2, free_unref_folios=2 * 2)


@pytest.mark.parametrize(("kernel", "calls"), [("lazyfree", 16), ("anon", 1)])
def test_no_cpu_may_write_to_a_folio_that_is_written_to_swap(kernel, calls):
    # Dirty entries may be cached as writable: try_to_unmap_flush_dirty() before each pageout(). The
    # batch that is freed has nothing left to flush.
    found = Run(kernel, 32, cpus=2, workload="anon")
    found.counts(set_tlb_ubc_flush_pending=2 * calls, flush_tlb_mm_range=0)
    found.counts(arch_tlbbatch_flush=2, try_to_unmap_flush=2 + 1, pageout=2)
