# SPDX-License-Identifier: GPL-2.0-only
"""Batches change nothing that outlives a request, and each rule is why."""

import numpy as np
import pytest

import sim
from analysis import figures, safety
from sim.kernel import KERNELS

PAGE = 4096


def world(nr_pages, **changes):
    changes = {"reclaim_bytes": PAGE, "order": 1} | changes
    return sim.World(map_bytes=nr_pages * PAGE, **changes)


@pytest.mark.parametrize("change", safety.BATCHES, ids=lambda change: change.name)
def test_no_random_world_feels_a_batch(change):
    verdict = safety.judge(change, 150)
    assert (verdict.nr_worlds, verdict.nr_differing, verdict.smallest) == (150, 0, None)


# Two pages each: one marker for two, rss of another process, a permission, a soft-dirty bit.
SMALLEST = {
    "without refuses_uffd_wp": ("arm64", world(2, uffd_wp=1.0, young=0.0)),
    "without stops_at_page_table": ("arm64", world(2, mapped_by=2, vma_shift=511, young=0.0)),
}


@pytest.mark.parametrize("change", safety.RULES_REMOVED[:2], ids=lambda change: change.name)
def test_a_rule_taken_away_breaks_two_pages(change):
    arch, smallest = SMALLEST[change.name]
    assert safety.differences(change, smallest, arch)
    intact = safety.Change("", change.without, KERNELS["unmap"], "file")
    assert safety.differences(intact, smallest, arch) == {}


@pytest.mark.parametrize("change", safety.RULES_REMOVED, ids=lambda change: change.name)
def test_a_rule_taken_away_is_found_out_and_the_world_shrunk(change):
    verdict = safety.judge(change, 600)
    assert verdict.nr_differing > 0
    smallest, arch = verdict.smallest
    assert safety.differences(change, smallest, arch)
    assert not any(safety.differences(change, less, arch) for less in safety._smaller(smallest))


def test_the_batch_of_linux_6_15_ran_on_behind_its_page_table():
    # Mended in Linux 6.16, see stops_at_page_table in sim/kernel.py.
    v6_15 = KERNELS["lazyfree"]
    change = safety.Change("", v6_15._replace(batched_lazyfree=False), v6_15, "lazyfree")
    crossing = world(2, workload="lazyfree", request="memory.reclaim", mapped_by=2, vma_shift=511)
    assert "rss" in safety.differences(change, crossing, "x86_64")


def test_of_a_lazyfree_folio_that_was_written_in_part_more_is_kept():
    (lazyfree,) = (change for change in safety.BATCHES if change.workload == "lazyfree")
    for seed in range(20):
        mixed = world(
            4, order=2, workload="lazyfree", request="memory.reclaim", dirty=0.5, seed=seed
        )
        without, batched = (
            safety.final_state(mixed, "x86_64", kernel)["entries"] > 0
            for kernel in (lazyfree.without, lazyfree.batched)
        )
        assert np.all(batched >= without)


def test_a_lost_bit_is_a_difference_and_a_gathered_one_is_not():
    entries = np.array([[3, 1]], np.uint8)  # young, old
    gathered = np.array([[3, 3]], np.uint8)
    assert not safety._lost(entries, gathered)
    assert safety._lost(gathered, entries)
    assert safety._lost(entries, np.array([[3, 0]], np.uint8))


def test_text_and_figure_say_what_was_found():
    verdicts = [safety.judge(safety.BATCHES[1], 20), safety.judge(safety.RULES_REMOVED[0], 60)]
    text = safety.to_text(verdicts)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "smallest: " in text
    figure = figures.batch_safety(verdicts)
    shares = figure.axes[0].patches
    assert [bar.get_width() for bar in shares] == [
        100 * verdict.nr_differing / verdict.nr_worlds for verdict in verdicts
    ]
    assert figures.finding(figure).startswith("1 of 2 changes leave memory as it would be")


def test_verdicts_are_the_same_on_every_run():
    first, again = (safety.judge(safety.RULES_REMOVED[0], 60) for _ in range(2))
    assert first.id == again.id
