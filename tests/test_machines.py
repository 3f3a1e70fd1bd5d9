# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from analysis import machines, measurements
from analysis.machines import MachineError

COLUMNS = "machine,arch,kernel,workload,order,metric,unit,value,run,source"
ROW = "mine,x86_64,references,reclaim,6,real,s,0.8,0,mine.txt:1"


@pytest.fixture
def captured(tmp_path):
    """Return a function that reads a table of given lines."""

    def read(*lines, header=COLUMNS, **options):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return machines.captured(path, **options)

    return read


def test_the_server_is_three_times_and_two_shares_of_unknown_order():
    seen = machines.server().observations
    assert [round(row.ns * 1e-9, 3) for row in seen] == [1.518, 1.018, 0.249, 0.531, 0.051]
    assert [row.part for row in seen] == ["", "", "", "check", "check"]
    assert all(row.order is None and row.n == 1 for row in seen)
    assert "no spread of its own" in machines.server().notes[0]


def test_the_host_is_a_median_a_cell_and_one_part_of_a_profile():
    seen = machines.host().observations
    runs = measurements.host_sweep()
    for row in seen[:-1]:
        own = runs[(runs["workload"] == row.workload) & (runs["order"] == row.order)]["cpu_s"]
        assert row.ns == pytest.approx(1e9 * own.median())
        assert row.n == len(own) == 15
        assert 0 < row.noise_ns < 0.05 * row.ns
    whole = next(row for row in seen if (row.workload, row.order) == ("file", 8))
    assert seen[-1].terms == ("flush_tlb_mm_range", "TLB invalidation")
    assert seen[-1].ns == pytest.approx(0.41 * whole.ns)


def test_noise_is_that_of_equal_runs():
    spread, again = machines.run_noise()
    assert spread == pytest.approx(0.047, abs=0.001)
    assert again == pytest.approx(0.53, abs=0.01)


def test_the_noise_of_a_median_by_hand():
    runs = np.array([90.0, 100.0, 110.0, 100.0, 500.0])
    middle, noise = machines.median_of_runs(runs)
    own = 1.4826 * 10 * np.sqrt(5 / 4)
    pooled = np.sqrt((5 * own**2 + 5 * (machines.run_noise()[0] * 100) ** 2) / 10)
    assert (middle, noise) == pytest.approx((100, 1.2533 * pooled / np.sqrt(5)))


def test_runs_in_sequence_say_less_and_one_run_has_the_noise_of_another_machine():
    runs = np.array([90.0, 100.0, 110.0])
    alone, inflated = (machines.median_of_runs(runs, again)[1] for again in (0.0, 0.5))
    assert inflated == pytest.approx(np.sqrt(3) * alone)
    assert machines.median_of_runs(np.array([100.0]))[1] == 100 * machines.run_noise()[0]


def test_medians_scatter_by_what_they_say():
    rng = np.random.default_rng(0)
    sets = 100 * np.exp(0.047 * rng.normal(size=(400, 15)))
    found = np.array([machines.median_of_runs(runs) for runs in sets])
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.1)


def test_a_table_of_ones_own(captured):
    machine = captured(ROW, ROW.replace("0.8,0", "0.9,1"), map_bytes=1 << 30, reclaim_bytes=1 << 29)
    (seen,) = machine.observations
    assert (machine.name, machine.arch, seen.kernel, seen.order) == ("mine", "x86_64",
                                                                     "references", 6)  # fmt: skip
    assert (seen.ns, seen.n) == (pytest.approx(0.85e9), 2)
    assert (seen.map_bytes, seen.reclaim_bytes) == (1 << 30, 1 << 29)
    assert machine.request == {"map_bytes": 1 << 30, "reclaim_bytes": 1 << 29}
    assert machines.host().request == machines.server().request


def test_sides_of_a_pair_are_the_kernels_asked_about_and_an_order_may_be_missing(captured):
    rows = [ROW.replace("references", side).replace(",6,", ",,") for side in ("before", "after")]
    machine = captured(*rows, before="base", after="unmap")
    assert sorted(row.kernel for row in machine.observations) == ["base", "unmap"]
    assert not machine.knows_orders
    assert any("order is not in the table" in note for note in machine.notes)


def test_runs_that_advice_asks_for_have_a_name_in_the_table(captured):
    paged_out = ROW.replace("references,reclaim", "lazyfree,pageout-lazyfree")
    machine = captured(ROW, paged_out, map_bytes=1 << 28, reclaim_bytes=1 << 27)
    found = {row.kernel: row for row in machine.observations}
    assert (found["lazyfree"].kind, found["lazyfree"].workload) == ("pageout", "lazyfree")
    assert found["lazyfree"].reclaim_bytes == 1 << 28
    assert (found["references"].kind, found["references"].reclaim_bytes) == ("reclaim", 1 << 27)


def test_an_architecture_said_by_hand_stands_over_the_table(captured):
    assert captured(ROW, arch="arm64-64k").arch == "arm64-64k"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no row with metric real or sys"),
        ([ROW.replace("references", "linux")], "mine.txt:1: kernel 'linux': expected before"),
        ([ROW.replace("x86_64", "")], "say --arch"),
        ([ROW.replace("x86_64", "riscv")], "expected one of"),
        ([ROW.replace(",6,", ",12,")], "column order: expected 0 to 9"),
        ([ROW.replace("0.8", "-1")], "a finite number >= 0"),
        ([ROW.replace("0.8", "fast")], "reclaim ingest --csv"),
        ([ROW, ROW.replace("mine,", "yours,")], "one machine a file"),
        ([ROW.replace("real", "user")], "time the write"),
    ],
)
def test_a_table_that_does_not_say_what_ran(captured, lines, told):
    with pytest.raises(MachineError, match=told):
        captured(*lines)


def test_another_table_and_no_table(captured, tmp_path):
    with pytest.raises(MachineError, match="expected machine, arch"):
        captured("1,2", header="a,b")
    with pytest.raises(MachineError, match="No such file"):
        machines.captured(tmp_path / "none.csv")
