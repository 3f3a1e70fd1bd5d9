# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import ablations, machines, measurements, timing


def table(machine, order=6):
    return ablations.ablations(timing.time_fit(machine()), order).set_index(["what", "case"])


@pytest.mark.parametrize("machine", [machines.server, machines.host])
def test_both_batches_save_more_than_either(machine):
    best = table(machine)["best"]["batches"]
    assert best["both"] > max(best["references only"], best["unmap only"])
    rest = (1 - best["references only"]) * (1 - best["unmap on references"])
    assert rest == pytest.approx(1 - best["both"], abs=0.03)


@pytest.mark.parametrize("machine", [machines.server, machines.host])
def test_larger_folios_and_more_processes_save_more(machine):
    found = table(machine)["best"]
    assert found["folio size"].is_monotonic_increasing
    assert found["processes"].is_monotonic_increasing


def test_contpte_is_what_the_reference_batch_saves_from():
    found = table(machines.server)
    assert found.loc[("contpte", "off"), "before_s"] < found.loc[("contpte", "on"), "before_s"]
    assert "contpte" not in table(machines.host).index.get_level_values(0)


def test_flushes_are_of_x86_64_alone():
    assert list(table(machines.host)["best"]["TLB flush"].index) == ["deferred", "elsewhere", "own"]
    assert "TLB flush" not in table(machines.server).index.get_level_values(0)


def test_instructions_are_those_that_were_measured_and_missing_where_none_were():
    found = table(machines.host, 4)["instructions"]
    cells = measurements.plain_cells("x86_64", 4)["instructions"]
    assert found[("batches", "both")] == pytest.approx(1 - cells["unmap"] / cells["base"], rel=0.01)
    assert np.isnan(table(machines.host, 6)["instructions"][("batches", "both")])


def test_time_of_the_other_lru_is_not_told_but_its_instructions_are():
    found = table(machines.server).loc["LRU"]
    assert found["best"].isna().all()
    assert found["instructions"].between(0, 1).all()
    assert found["instructions"].nunique() == 2


def test_the_text_fits_a_terminal():
    shown = ablations.ablations(timing.time_fit(machines.host()), 6)
    told = ablations.to_text(shown, "what?")
    assert max(map(len, told.splitlines())) <= 100
    assert "nan" not in told


def test_the_sentence_has_the_numbers_of_the_batches():
    shown = ablations.ablations(timing.time_fit(machines.server()), 6)
    best = shown[shown["what"] == "batches"].set_index("case")["best"]
    said = ablations.sentence(shown)
    for case in ("references only", "unmap only", "both"):
        assert f"{best[case]:.0%}" in said
