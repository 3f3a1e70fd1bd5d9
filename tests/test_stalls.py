# SPDX-License-Identifier: GPL-2.0-only
import re

import numpy as np
import pytest

from analysis import fit, measurements, stalls
from analysis.groups import group_counts
from sim import World, reclaim
from sim.state import Count

MIB = 1 << 20
PAGES = 4 * MIB >> 12


def request(arch="arm64", kernel="base", order=4, **world):
    sizes = {"map_bytes": 4 * MIB, "reclaim_bytes": 4 * MIB}
    return reclaim(World(**sizes, order=order, **world), arch, kernel)


def counted(events, term, flush="deferred"):
    model = fit.fit(events.arch)
    return stalls.terms_of(events, model, flush)[stalls.TERM_NAMES.index(term)]


@pytest.mark.parametrize("arch", stalls.ISAS)
def test_prices_are_of_the_instructions_that_the_cost_model_gives(arch):
    events, model = request(arch), fit.fit(arch)
    terms = stalls.terms_of(events, model)[: stalls.NR_PRICES]
    assert terms == pytest.approx(np.diag(np.diag(terms)))
    assert terms.sum() == pytest.approx(group_counts(events) @ model.costs)


def test_unbatched_removal_by_hand():
    # Each page: its entry and its mapcount; each removal: the folio's mapcount, its references,
    # and the rss counter of arm64.
    alone, batch = request(), request(kernel="unmap")
    assert counted(alone, "atomic of unmapping").tolist() == [0, 5 * PAGES, 0]
    assert counted(batch, "atomic of unmapping").tolist() == [0, 2 * PAGES + 3 * PAGES / 16, 0]
    assert counted(alone, "per-CPU add").tolist() == [0, 2 * PAGES, 2 * PAGES / 16]
    # An invalidation a removal, and one a contpte block that is unfolded, which waits.
    assert counted(alone, "TLB invalidation")[1] == PAGES + PAGES / 16
    assert counted(batch, "TLB invalidation")[1] == PAGES / 16
    waits = counted(alone, "TLB wait")[1] - counted(batch, "TLB wait")[1]
    assert waits == PAGES / 16


def test_x86_64_flushes_by_itself_or_interrupts_others_or_neither():
    one, two = request("x86_64"), request("x86_64", cpus=2)
    assert counted(one, "TLB invalidation", "own")[1] == PAGES
    assert counted(one, "TLB invalidation", "elsewhere")[1] == 0
    assert counted(one, "TLB wait", "own")[1] == 0
    assert counted(two, "TLB invalidation")[1] == 0
    assert counted(two, "TLB wait")[1] == two[Count.ARCH_TLBBATCH_FLUSH] > 0
    raised = [counted(one, "atomic of unmapping", way)[1] for way in ("elsewhere", "own")]
    assert raised[0] - raised[1] == PAGES


def test_a_young_bit_is_an_atomic_for_every_entry_tested_on_arm64_and_set_on_x86_64():
    arm, x86 = request(), request("x86_64")
    assert counted(arm, "atomic of a young bit")[0] == arm[Count.YOUNG_PTE_OPS]
    assert counted(x86, "atomic of a young bit")[0] == PAGES


def test_pages_are_cold_only_where_their_struct_pages_leave_the_cache():
    assert not counted(request(), "cold line of a page").any()
    large = reclaim(World(map_bytes=3 << 30, reclaim_bytes=4 * MIB, order=4), "arm64", "unmap")
    assert counted(large, "cold line of a page")[1] == large[Count.PGSTEAL]


@pytest.mark.parametrize("workload", ["file", "lazyfree"])
def test_pageout_checks_nothing_and_flushes_itself(workload):
    kernel = "base" if workload == "file" else "lazyfree"
    model = fit.fit("x86_64")
    terms = stalls.pageout_terms("x86_64", workload, 4, 4 * MIB, model, kernel)
    assert not terms[:, stalls.PARTS.index("check")].any()
    flushes = PAGES if workload == "file" else PAGES / 16
    assert terms[stalls.TERM_NAMES.index("flush_tlb_mm_range"), 1] == flushes
    assert terms[stalls.TERM_NAMES.index("TLB invalidation"), 1] == PAGES  # 16 are not too many
    removed = terms[stalls.TERM_NAMES.index("page-cache removal")].sum()
    assert removed == (PAGES / 16 if workload == "file" else 0)


@pytest.mark.parametrize(("order", "at_once"), [(5, 1), (6, 64), (8, 256)])
def test_x86_64_invalidates_more_than_33_pages_at_one_go(order, at_once):
    terms = stalls.pageout_terms(
        "x86_64", "lazyfree", order, 4 * MIB, fit.fit("x86_64"), "lazyfree"
    )
    assert terms[stalls.TERM_NAMES.index("TLB invalidation"), 1] == PAGES / at_once


def test_a_pmd_mapped_folio_has_the_instructions_that_were_measured_of_it():
    model = fit.fit("arm64")
    terms = stalls.terms_of(request(order=9), model)
    cell = measurements.plain_cells("arm64", 9).loc["unmap"]
    each = cell["instructions"] / cell["pgsteal"]
    assert terms[: stalls.NR_PRICES].sum() == pytest.approx(each * PAGES)


def test_every_quoted_cost_stands_in_the_row_that_it_names():
    rows = [measurements.load(f"published/{name}.csv") for name in ("micro_costs", "derived_costs")]
    said = {row.id: str(row.value) for frame in rows for row in frame.itertuples()}
    quoted = [
        (row, value)
        for term in stalls.TERMS[stalls.NR_PRICES :]
        for values in term.quoted.values()
        for row, value in values
    ]
    assert {row for row, _ in quoted} <= set(said)
    for row, ns in quoted:
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", said[row])]
        # As printed, in cycles of 3 GHz, in us, four lines, or the 5%.
        forms = {n * scale for n in numbers for scale in (1, 1 / 3, 1000, 4, 0.05)}
        assert any(ns == pytest.approx(form) for form in forms), (row, ns)


@pytest.mark.parametrize("arch", stalls.ISAS)
def test_priors_are_as_wide_as_machines_differ(arch):
    mean, cov = stalls.prior(arch)
    spread = np.sqrt(np.diag(cov))
    assert (mean > 0).all()
    assert (spread >= 0.5 * mean - 1e-12).all()
    assert np.linalg.eigvalsh(cov).min() > 0
    for term, middle, sd in zip(stalls.TERMS, mean, spread, strict=True):
        values = [value for _, value in term.quoted[arch]]
        assert middle == pytest.approx(np.mean(values))
        assert len(values) < 2 or sd >= np.std(values, ddof=1) - 1e-12
