# SPDX-License-Identifier: GPL-2.0-only
"""`reclaim simulate` prints what the simulator says."""

import json
import re

import pytest

import sim
from analysis import measurements

MIB = 1 << 20
SMALL = ["--map", "16M", "--reclaim", "4M"]


@pytest.mark.parametrize("arch", sim.ARCHES)
@pytest.mark.parametrize("kernel", sim.KERNELS)
@pytest.mark.parametrize("access", sim.ACCESSES)
def test_simulate_json_holds_what_the_simulator_says(arch, kernel, access, out):
    options = ["--arch", arch, "--kernel", kernel, "--access", access, "--order", 3]
    shown = json.loads(out("simulate", *options, *SMALL, "--json"))
    world = sim.World(map_bytes=16 * MIB, reclaim_bytes=4 * MIB, order=3, access=access)
    events = sim.reclaim(world, arch, kernel)
    assert shown["events"] == events.functions()
    assert shown["pgscan"] == events.counts["PGSCAN"]
    assert shown["pgsteal"] == events.counts["PGSTEAL"]
    names = {"arch": arch, "kernel": kernel, "lru": "classic", "access": access, "order": 3}
    sizes = {"map_bytes": 16 * MIB, "reclaim_bytes": 4 * MIB, "mapped_by": 1, "cpus": 1}
    sizes |= {"lru_add_batch": 0, "stats_flush": "never"}
    assert shown["inputs"] == names | sizes


def test_simulate_takes_the_sizes_of_the_emulated_runs_and_meets_their_counts(out):
    options = ["--kernel", "unmap", "--lru", "classic", "--order", 4]
    sizes = ["--map", "256M", "--reclaim", "0.2G"]
    shown = json.loads(out("simulate", "--arch", "arm64", *options, *sizes, "--json"))
    cell = measurements.plain_cells("arm64", 4).loc["unmap"]
    assert shown["inputs"]["reclaim_bytes"] == cell["reclaim_bytes"]
    assert (shown["pgscan"], shown["pgsteal"]) == (cell["pgscan"], cell["pgsteal"])


@pytest.mark.parametrize(
    ("size", "nr_bytes"),
    [
        ("65536", 65536),
        ("64K", 65536),
        ("2M", 2 * MIB),
        ("0.0625G", 64 * MIB),
        (".00001T", 10995116),
    ],
)
def test_simulate_takes_sizes_with_suffixes_and_decimals(size, nr_bytes, out):
    shown = json.loads(out("simulate", "--arch", "arm64", "--map", size, "--json"))
    assert shown["inputs"]["map_bytes"] == nr_bytes


def test_simulate_takes_processes_and_cpus(out):
    options = ["--arch", "x86_64", "--mapped-by", 2, "--cpus", 2]
    shown = json.loads(out("simulate", *options, *SMALL, "--json"))
    world = sim.World(map_bytes=16 * MIB, reclaim_bytes=4 * MIB, mapped_by=2, cpus=2)
    assert shown["events"] == sim.reclaim(world, "x86_64", "unmap").functions()


def test_names_are_cut_at_30_characters_as_the_profiler_cuts_them(out):
    shown = json.loads(out("simulate", "--arch", "x86_64", "--cpus", 2, *SMALL, "--json"))
    assert "set_tlb_ubc_flush_pending.cons" in shown["events"]
    arm64 = json.loads(out("simulate", "--arch", "arm64", "--kernel", "base", *SMALL, "--json"))
    assert "contpte_test_and_clear_young_p" in arm64["events"]
    assert max(map(len, (*shown["events"], *arm64["events"]))) == 30


def test_simulate_prints_a_table_of_the_same_counts(out):
    options = ["simulate", "--arch", "arm64", *SMALL]
    shown = json.loads(out(*options, "--json"))
    table = dict(re.findall(r"^(\S+) +([\d,]+)$", out(*options), re.MULTILINE))
    counts = {name: int(hits.replace(",", "")) for name, hits in table.items()}
    assert counts == {name: shown[name] for name in ("pgscan", "pgsteal")} | shown["events"]
    assert shown["id"] in out(*options)


def test_simulate_says_what_it_left_out_and_when_reclaim_gave_up(out):
    options = ["simulate", "--arch", "arm64", "--map", "100000", "--reclaim", "1M"]
    shown = json.loads(out(*options, "--json"))
    assert len(shown["warnings"]) == 2
    assert shown["result"] < 0
    table = out(*options)
    for warning in shown["warnings"]:
        assert f"note: {warning}" in table
