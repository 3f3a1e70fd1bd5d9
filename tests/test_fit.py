# SPDX-License-Identifier: GPL-2.0-only
"""Fits recover costs that are known, cover them as often as they say, and leave out what they say.

Cells are those that were emulated, with instructions made from their simulated events.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import fit, measurements
from analysis.fit import FitError
from analysis.groups import GROUPS, IN_PART, NAMES, PARTS, PRICED_AS, group_counts
from sim import FILE_SERIES, MEASURED_ARCHES, World, reclaim

# Instructions per event that a fit has to find again.
KNOWN_OF = {
    "folio_referenced": 1000,
    "folio_referenced_one": 400,
    "vma_address_end": 50,
    "page_vma_mapped_walk": 150,
    "folio_pte_batch": 60,
    "clear_flush_young_ptes": 20,
    "pte_batch_hint": 25,
    "contpte_clear_flush_young_ptes": 120,
    "contpte_ptep_get": 170,
    "folio_remove_rmap_ptes": 390,
    "contpte_get_and_clear_full_ptes": 100,
    "__contpte_try_unfold": 440,
    "flush_tlb_mm_range": 50,
    "arch_tlbbatch_flush": 350,
    "lruvec_stat_mod_folio": 300,
    "try_to_unmap_one": 300,
    "__remove_mapping": 400,
    "free_tail_page_prepare": 45,
    "free_frozen_page_commit": 230,
    "free_pcppages_bulk": 90,
    "shrink_folio_list": 2000,
    "shrink_node": 2000,
    "lru_gen_look_around": 300,
    "get_mem_cgroup_from_folio": 500,
    "get_pte_pfn": 40,
    "get_pfn_folio": 50,
    "walk_pte_range": 40,
    "lru_gen_set_refs": 1500,
    "sort_folio": 500,
}
KNOWN = np.array([KNOWN_OF[NAMES[price]] for price in PRICED_AS], float)
NOISE = 0.002  # relative standard deviation of one run
UNCHANGED = ("base", "references")


def use(monkeypatch, cells, counts):
    monkeypatch.setattr(fit, "emulated_cells", lambda: (cells, counts))


def made_from(monkeypatch, costs, noise=None):
    cells, counts = fit.emulated_cells()
    instructions = counts @ costs
    shares = np.array([counts * IN_PART[part] @ costs / instructions for part in PARTS])
    if noise is not None:
        instructions = instructions * (1 + NOISE * noise.standard_normal(len(cells)))
        off = noise.standard_normal(shares.shape) * NOISE / fit.SHARE_WEIGHT
        shares = shares + off - off.mean(axis=0)  # they sum to 1
    shares = np.where(cells["rest"].notna(), shares, np.nan)
    made = dict(zip(PARTS, shares, strict=True))
    use(monkeypatch, cells.assign(instructions=instructions, **made), counts)


def scaled(monkeypatch, chosen, factor=10.0):
    cells, counts = fit.emulated_cells()
    factors = np.where(chosen(cells), factor, 1.0)
    instructions = (cells["instructions"] * factors).astype(int)
    use(monkeypatch, cells.assign(instructions=instructions), counts)


fresh_fit = fit.fit.__wrapped__
fresh_left_out = fit.leave_one_order_out.__wrapped__
OWN = np.arange(len(GROUPS)) == PRICED_AS
LRUS = ("classic", "mglru")
RANGE_HELPER = "contpte_get_and_clear_full_ptes"
BATCHED_PTE = ("clear_flush_young_ptes", "pte_batch_hint")
INSEPARABLE = ("lruvec_stat_mod_folio", "folio_remove_rmap_ptes")
fresh_transfer = fit.transfer.__wrapped__


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_known_costs_are_found_again_exactly(arch, monkeypatch):
    made_from(monkeypatch, KNOWN)
    model = fresh_fit(arch)
    assert model.costs[model.seen] == pytest.approx(KNOWN[model.seen], rel=1e-6)
    assert np.abs(model.cells["relative_error"]).max() < 1e-9
    assert model.warnings == ()


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_standard_errors_cover_the_known_costs_as_often_as_they_say(arch, monkeypatch):
    covered = []
    for seed in range(200):
        with monkeypatch.context() as patch:
            made_from(patch, KNOWN, np.random.default_rng(seed))
            model = fresh_fit(arch)
        # Where nothing is at its bound, which cuts a distribution off.
        inside = model.seen & OWN & (model.costs > 0)
        errors = np.sqrt(np.diag(model.cov))[inside]
        reach = stats.t.ppf(0.975, model.dof) * errors
        covered.append(np.abs(model.costs - KNOWN)[inside] <= reach)
    assert 0.93 <= np.concatenate(covered).mean() <= 0.97


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_cost_is_never_negative_and_one_at_0_is_told(arch, monkeypatch):
    at = NAMES.index("folio_pte_batch")
    costs = KNOWN.copy()
    costs[at] = -400.0
    made_from(monkeypatch, costs)
    model = fresh_fit(arch)
    assert (model.costs >= 0).all()
    assert model.costs[at] == 0
    assert any(warning.startswith("folio_pte_batch: 0") for warning in model.warnings)
    assert not model.cov[at].any()


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_no_shipped_cost_is_negative_and_every_one_at_0_is_told(arch):
    model = fit.fit(arch)
    assert (model.costs >= 0).all()
    zero = {NAMES[i] for i in np.flatnonzero(model.seen & (model.costs == 0))}
    assert {w.partition(":")[0] for w in model.warnings if ": 0, " in w} == zero
    told = len(model.cells) + (len(PARTS) - 1) * np.count_nonzero(model.cells["rest"].notna())
    assert model.dof == told - np.count_nonzero(model.costs[OWN])
    assert np.linalg.eigvalsh(model.cov).min() >= -1e-6


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("lru", LRUS)
def test_left_out_orders_of_either_lru_are_priced_well(arch, lru):
    cells = fit.leave_one_order_out(arch)
    large = cells[cells["order"].between(1, 8) & (cells["lru"] == lru)]
    assert set(large["order"]) >= {1, 2, 4, 5, 7, 8}
    assert set(large["kernel"]) == set(FILE_SERIES)
    assert set(large["cpus"]) == set(large["mapped_by"]) == ({1, 2} if lru == "classic" else {1})
    error = large["predicted"] / large["instructions"] - 1
    assert error.to_numpy() == pytest.approx(large["relative_error"].to_numpy(), abs=1e-12)
    assert error.abs().mean() == pytest.approx(fit.left_out_error(arch, lru))
    assert error.abs().mean() <= 0.006
    assert error.abs().max() <= 0.03


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_small_folios_left_out_lean_on_what_another_architecture_tells(arch):
    own, left_out = fit.fit(arch).cells, fit.leave_one_order_out(arch)
    assert own[own["order"] == 0]["relative_error"].abs().max() <= 0.02
    small = left_out[left_out["order"] == 0]
    error = small["relative_error"].abs().groupby(small["lru"]).max()
    assert error.max() <= 0.03
    # What no other order tells is at 0 without a prior.
    cells, _ = fit.select(arch)
    alone = fit.priced_by_others(arch, (cells["order"] == 0).to_numpy())
    classic = alone[alone["lru"] == "classic"]["relative_error"].abs()
    assert classic.max() >= 2 * error["classic"]


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_errors_of_large_folios_read_no_run_of_another_architecture(arch, monkeypatch):
    donor = fit.DONOR[arch]
    before = fit.leave_one_order_out(arch, small=False)
    scaled(monkeypatch, lambda cells: cells["arch"] == donor)
    pd.testing.assert_frame_equal(fresh_left_out(arch, small=False), before)
    assert not before["order"].eq(0).any()


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_the_published_size_is_priced_by_cells_of_a_fortieth_of_it(arch):
    cells, _ = fit.select(arch)
    large = fit.priced_by_others(arch, (cells["map_bytes"] > 1 << 32).to_numpy())
    assert len(large) >= 7
    assert large["relative_error"].abs().mean() <= 0.01
    assert large["relative_error"].abs().max() <= 0.03


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("kernel", FILE_SERIES)
@pytest.mark.parametrize("order", [0, 3, 6])
def test_each_further_process_costs_what_the_second_did(arch, kernel, order):
    # Four processes were not run: the fit reaches them along the line through one and two.
    worlds = (
        World(map_bytes=64 << 20, reclaim_bytes=48 << 20, order=order, mapped_by=processes)
        for processes in (1, 2, 4)
    )
    one, two, four = (fit.fit(arch).instructions(reclaim(w, arch, kernel)) for w in worlds)
    assert four == pytest.approx(two + 2 * (two - one), rel=1e-6)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_orders_that_were_not_run_lie_between_their_neighbours(arch):
    worlds = (World(map_bytes=64 << 20, reclaim_bytes=48 << 20, order=order) for order in range(9))
    used = [fit.fit(arch).instructions(reclaim(world, arch, "unmap")) for world in worlds]
    assert used == sorted(used, reverse=True)
    for order in (3, 6):
        share = (used[order - 1] - used[order]) / (used[order - 1] - used[order + 1])
        assert 0.4 < share < 0.8


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_one_process_cannot_tell_what_two_share(arch):
    # With one process, every mapped-statistic update comes with one removal: their prices part
    # only where two processes map a folio. Runs of two at a few orders price the others badly.
    cells, counts = fit.select(arch)
    one = (cells["mapped_by"] == 1).to_numpy()
    update, removal = (counts[one][:, NAMES.index(n)] for n in INSEPARABLE)
    assert np.array_equal(update, removal)
    few = cells["order"].isin([0, 1, 2]).to_numpy()
    others = fit.priced_by_others(arch, ~one & ~few)
    assert set(others["order"]) == {4, 5, 7, 8}
    assert others["relative_error"].abs().mean() <= 0.04
    assert others["relative_error"].abs().max() <= 0.13
    fitted = fit.fit(arch).cells
    assert fitted[fitted["mapped_by"] == 2]["relative_error"].abs().max() <= 0.015


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [1, 4, 8])
def test_what_an_order_measured_does_not_reach_its_own_prediction(arch, order, monkeypatch):
    before = fit.leave_one_order_out(arch).set_index("order")["predicted"]
    scaled(monkeypatch, lambda cells: (cells["order"] == order) & (cells["kernel"] == "unmap"))
    after = fresh_left_out(arch).set_index("order")["predicted"]
    assert after.loc[order].to_numpy() == pytest.approx(before.loc[order].to_numpy(), rel=1e-12)
    others = after.index != order
    assert not np.allclose(after[others], before[others], rtol=1e-3)


def test_left_out_predictions_keep_every_cell_once():
    for arch in MEASURED_ARCHES:
        left_out = fit.leave_one_order_out(arch)
        own = fit.fit(arch).cells
        assert len(left_out) == len(own)
        assert sorted(left_out["instructions"]) == sorted(own["instructions"])


def test_too_few_cells_are_refused(monkeypatch):
    cells, counts = fit.emulated_cells()
    few = np.flatnonzero((cells["arch"] == "arm64") & (cells["mapped_by"] == 2))[:5]
    use(monkeypatch, cells.iloc[few].reset_index(drop=True), counts[few])
    with pytest.raises(FitError, match="5 cells cannot fit"):
        fresh_fit("arm64")


@pytest.mark.parametrize(("arch", "kernels"), [("riscv", FILE_SERIES), ("arm64", ("linux",))])
def test_no_cells_are_refused_with_what_there_is(arch, kernels):
    with pytest.raises(FitError, match="no emulated cell") as caught:
        fit.select(arch, kernels)
    assert "arm64, x86_64" in str(caught.value)


def test_only_cells_are_used_whose_scan_the_simulator_meets():
    cells, counts = fit.emulated_cells()
    assert counts.shape == (len(cells), len(GROUPS))
    assert set(cells["lru"]) == set(LRUS)
    assert set(cells["cpus"]) == {1, 2}
    assert cells["order"].max() <= 8
    for row, cell in enumerate(cells.itertuples()):
        events = fit.matching_events(cell)
        assert events.to_dict()["pgscan"] == cell.pgscan
        assert events.to_dict()["pgsteal"] == cell.pgsteal
        assert np.array_equal(counts[row], group_counts(events))


def test_a_run_without_the_statistics_worker_stands_where_there_is_one():
    same = [column for column in measurements.CELL if column != "stats_worker"]
    cells, _ = fit.emulated_cells()
    shipped = measurements.instructions()
    quiet = set(shipped[shipped["stats_worker"] == "off"][same].itertuples(index=False, name=None))
    disturbed = cells[cells["stats_worker"] == "on"][same].itertuples(index=False, name=None)
    assert not cells.duplicated(same).any()
    assert quiet.isdisjoint(disturbed)


@pytest.mark.parametrize("changed", [("unmap",), ("unmap", "unmap-only")])
def test_transfer_uses_no_run_of_a_kernel_it_was_not_given(changed, monkeypatch):
    before = fit.transfer("x86_64", "arm64", UNCHANGED)
    scaled(monkeypatch, lambda c: (c["arch"] == "x86_64") & c["kernel"].isin(changed))
    after = fresh_transfer("x86_64", "arm64", UNCHANGED)
    assert np.array_equal(after.costs, before.costs)
    assert np.array_equal(after.cov, before.cov)
    assert after.id == before.id


def test_transfer_does_use_the_runs_that_it_was_given(monkeypatch):
    before = fit.transfer("x86_64", "arm64", UNCHANGED)
    scaled(monkeypatch, lambda c: (c["arch"] == "x86_64") & (c["kernel"] == "base"), 1.5)
    after = fresh_transfer("x86_64", "arm64", UNCHANGED)
    assert not np.allclose(after.costs, before.costs, rtol=0.01)
    assert set(before.cells["kernel"]) == set(UNCHANGED)


def test_transfer_keeps_the_donors_width_where_no_run_tells():
    model = fit.transfer("x86_64", "arm64", ("base",))
    at = NAMES.index("folio_pte_batch")
    donor = fit.fit("arm64")
    own = np.sqrt(donor.cov[at, at]) / donor.costs[at]
    spread = np.hypot(0.3, own) * model.costs[at]
    assert np.sqrt(model.cov[at, at]) == pytest.approx(spread, rel=1e-6)
    known = NAMES.index("folio_referenced_one")
    assert np.sqrt(model.cov[known, known]) < 0.3 * model.costs[known]


def test_a_batch_without_a_hint_costs_what_the_donor_pays_for_both():
    # x86_64 sizes each batch one PTE at a time; runs of base alone say nothing of it.
    donor = fit.fit("arm64")
    model = fit.transfer("x86_64", "arm64", ("base",))
    cleared, sized = (donor.costs[NAMES.index(n)] for n in BATCHED_PTE)
    found = model.costs[NAMES.index("clear_flush_young_ptes")]
    ratio = (
        model.costs[NAMES.index("folio_pte_batch")] / donor.costs[NAMES.index("folio_pte_batch")]
    )
    assert found == pytest.approx(ratio * (cleared + sized), rel=1e-6)
    assert found == model.costs[NAMES.index("get_and_clear_full_ptes")]


def test_transfer_prices_nothing_that_only_the_donors_page_tables_have():
    model = fit.transfer("x86_64", "arm64", UNCHANGED)
    contpte = [place for place, name in enumerate(NAMES) if "contpte" in name]
    assert len(contpte) == 5
    assert not model.seen[contpte].any()
    assert not model.costs[contpte].any()


def test_arm64_cannot_be_priced_from_x86_64():
    with pytest.raises(FitError, match=r"x86_64 cannot tell arm64 what .*contpte"):
        fit.transfer("arm64", "x86_64", ("base",))
    # Runs of batched reference checks tell what a range helper costs.
    assert fit.transfer("arm64", "x86_64", UNCHANGED).seen[NAMES.index(RANGE_HELPER)]


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_model_prices_a_request_as_the_sum_over_its_events(arch):
    events = reclaim(World(map_bytes=64 << 20, reclaim_bytes=16 << 20, order=3), arch, "unmap")
    model = fit.fit(arch)
    assert model.instructions(events) == pytest.approx(sum(group_counts(events) * model.costs))


def test_work_without_a_cost_is_refused_by_name():
    events = reclaim(World(map_bytes=64 << 20, reclaim_bytes=16 << 20, order=4), "arm64", "base")
    with pytest.raises(FitError, match="contpte_clear_flush_young_ptes, contpte_ptep_get"):
        fit.fit("x86_64").instructions(events)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_the_table_shows_each_cost_with_its_standard_error(arch):
    model = fit.fit(arch)
    table = model.table().set_index("group")
    assert list(table.index) == [name for name, seen in zip(NAMES, model.seen, strict=True) if seen]
    for place in np.flatnonzero(model.seen):
        row = table.loc[NAMES[place]]
        assert row["instructions"] == model.costs[place]
        assert row["standard_error"] ** 2 == pytest.approx(model.cov[place, place])


def test_ids_tell_models_apart():
    models = (*map(fit.fit, MEASURED_ARCHES), fit.transfer("x86_64", "arm64", UNCHANGED))
    assert len({model.id for model in models}) == 3
    assert fresh_fit("arm64").id == fit.fit("arm64").id
