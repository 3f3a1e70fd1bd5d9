# SPDX-License-Identifier: GPL-2.0-only
import json
from functools import cache

import pytest

from analysis import cli, conformance, measurements
from analysis.conformance import ConformanceError
from sim import World, reclaim


@cache
def shipped(**chosen):
    """Return the verdicts of the shipped cells with these values."""
    counters = measurements.counters()
    for name, value in chosen.items():
        counters = counters[counters[name] == value]
    return conformance.compare(counters)


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_lru_gen_is_the_kernels_at_every_order(arch):
    verdicts = shipped(arch=arch, lru="mglru")
    assert [verdict.cell for verdict in verdicts if not verdict.exact] == []
    # At order 0 the batch that happened to wait is a fact of the run.
    assert {verdict.cell["order"] for verdict in verdicts if verdict.parameter} == {0}
    assert len(verdicts) == 32


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_order_0_on_two_cpus_needs_the_waiting_batch_alone(arch):
    verdicts = shipped(arch=arch, cpus=2, order=0)
    assert {verdict.parameter.split()[0] for verdict in verdicts} == {"--lru-add-batch"}
    assert all(verdict.exact for verdict in verdicts)


def test_the_flushes_by_the_worker_are_found():
    verdicts = shipped(arch="x86_64", stats_worker="on", mapped_by=1, lru="classic", order=1)
    found = {verdict.cell["kernel"]: verdict.parameter for verdict in verdicts if verdict.exact}
    assert found == {
        "base": "--stats-flush 26",
        "references": "",
        "unmap": "--stats-flush 26",
        "unmap-only": "--stats-flush 13,56",
    }
    summary = conformance.summary(verdicts)
    assert summary["exact_with_several_flushes"] == 1
    assert summary["exact_with_one_parameter"] == 2


def test_a_count_that_is_not_the_kernels_is_named():
    counters = measurements.counters()
    chosen = (counters["order"] == 4) & (counters["stats_worker"] == "off")
    counters = counters[
        chosen & (counters["arch"] == "arm64") & (counters["mapped_by"] == 2)
    ].copy()
    row = counters.index[counters["function"] == "page_vma_mapped_walk"][0]
    counters.loc[row, "hits"] += 1
    verdicts = conformance.compare(counters)
    assert conformance.summary(verdicts)["not_exact"] == 1
    wrong = next(verdict for verdict in verdicts if not verdict.exact)
    assert list(wrong.differing) == ["page_vma_mapped_walk"]
    assert "page_vma_mapped_walk" in conformance.to_text(verdicts)


def test_another_file_is_compared_and_summed_up(tmp_path, capsys):
    counters = measurements.counters()
    counters = counters[(counters["order"] == 9) & (counters["stats_worker"] == "off")]
    path = tmp_path / "counters.csv"
    counters.to_csv(path, index=False)
    assert cli.main(["conformance", "--counters", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"] == {
        "cells": 24, "exact": 24, "exact_without_parameters": 24, "exact_with_one_parameter": 0,
        "exact_with_several_flushes": 0, "not_exact": 0,
    }  # fmt: skip
    assert len(told["groups"]) == 6
    assert told["not_exact"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV table"),
        ("a,b\n1,2\n", r"csv:1: no column arch"),
        ("{header}\nx86_64,classic,off,1,1,a,1,0,base,f,1\n", r"csv:2: map_bytes 'a'"),
        (
            "{header}\nx86_64,classic,off,1,1,1,1,0,base,f,\n",
            r"csv:2: hits ''",
        ),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(tmp_path, text, message):
    path = tmp_path / "counters.csv"
    path.write_text(text.replace("{header}", ",".join(conformance.COLUMNS)))
    with pytest.raises(ConformanceError, match=message):
        conformance.read_counters(path)


def test_a_missing_file_is_an_error_not_a_traceback(capsys):
    assert cli.main(["conformance", "--counters", "/no/such/file.csv"]) == 2
    assert "/no/such/file.csv" in capsys.readouterr().err


@pytest.mark.parametrize("kernel", ["base", "unmap"])
def test_always_fresh_statistics_deactivate_early(kernel):
    def request(flush):
        world = World(map_bytes=16 << 20, reclaim_bytes=4 << 20, order=2, stats_flush=flush)
        return reclaim(world, "x86_64", kernel).functions()

    assert request("always")["shrink_node"] < request("never")["shrink_node"]
    assert request("0,1,2") != request("13")
