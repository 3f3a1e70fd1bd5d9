# SPDX-License-Identifier: GPL-2.0-only
import csv
import json
from collections import defaultdict

import pytest

from analysis import conformance, measurements
from analysis.samples import COLUMNS
from lab import check, emulate, tables
from lab.console import Run
from lab.emulate import Measured
from lab.errors import LabError
from lab.plan import Plan

PLAN = Plan(kernels=("unmap",), orders=(4,), lrus=("classic",))


def run(**changed):
    fields = {
        "lru": "classic", "kernel": "unmap", "order": 4, "rep": 0, "ns": 42732000,
        "pgscan": 117968, "pgsteal": 52432, "before": 268435456, "after": 53673984,
        "error": 0, "wrong": 0, "seen": 13104, **changed,
    }  # fmt: skip
    return Run(**fields)


@pytest.fixture
def written(tmp_path):
    profiled = [run(ns=9, hits={0: {"try_to_unmap": 3277}, 1: {"try_to_unmap": 9}})]
    timed = [run(), run(rep=1)]
    found = Measured("x86_64", PLAN, timed, profiled, 12.34, True, (), {"qemu": "QEMU 7"})
    emulate.write([found], tmp_path, "reclaim lab emulate")
    return tmp_path


def rows(path):
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


def test_tables_have_the_columns_of_the_shipped_ones(written):
    for name in ("instructions.csv", "counters.csv"):
        with (written / name).open() as ours, (check.SHIPPED / name).open() as shipped:
            assert ours.readline() == shipped.readline()


def test_a_row_is_what_the_guest_said(written):
    row = rows(written / "instructions.csv")[1]
    assert (row["arch"], row["order"], row["kernel"], row["rep"]) == ("x86_64", "4", "unmap", "1")
    assert (row["instructions"], row["pgscan"]) == ("42732000", "117968")
    assert row["file_after_bytes"] == "53673984"


def test_counters_are_those_of_the_cpu_that_reclaims(written):
    found = [(row["function"], row["hits"]) for row in rows(written / "counters.csv")]
    assert found == [("pgscan", "117968"), ("pgsteal", "52432"), ("try_to_unmap", "3277")]


def test_counters_are_taken_by_conformance(written):
    found = conformance.compare(conformance.read_counters(written / "counters.csv"))
    assert [verdict.exact for verdict in found] == [True]


def test_provenance_names_versions_and_the_command(written):
    about = json.loads((written / "provenance.json").read_text())
    assert about["command"] == "reclaim lab emulate"
    (guest,) = about["guests"]
    assert (guest["arch"], guest["kernels"], guest["qemu"]) == ("x86_64", ["unmap"], "QEMU 7")
    assert guest["wall_s"] == 12.3


def test_time_under_kvm_is_no_instructions(tmp_path):
    found = Measured("x86_64", PLAN, [run()], counted=False, about={})
    names = [path.name for path in emulate.write([found], tmp_path, "")]
    assert names == ["samples.csv", "provenance.json"]
    (row,) = rows(tmp_path / "samples.csv")
    assert (row["metric"], row["unit"], row["value"]) == ("real", "s", "0.042732")


def test_other_work_says_so_in_the_table():
    plan = Plan(kernels=("unmap",), orders=(4,), lrus=("classic",), workload="lazyfree")
    row = tables.instructions(plan, "arm64", [run()])[0]
    assert (row["workload"], row["access"]) == ("lazyfree", "pread")


def test_an_interrupted_table_leaves_the_old_one(written, monkeypatch):
    path = written / "instructions.csv"
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        tables.write_csv(path, [], tables.INSTRUCTIONS)
    assert path.read_bytes() == before
    assert not [item for item in written.iterdir() if item.name.endswith(".tmp")]


def shipped(**where):
    frame = measurements.load("emulated/instructions.csv")
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame.astype(object).to_dict("records")


def test_the_shipped_table_agrees_with_itself():
    found = check.instructions(shipped(cpus=1, stats_worker="off"))
    assert len(found) == 64
    assert {one.share for one in found} == {0.0}
    assert all(one.same_counts for one in found)
    text = check.to_text(found)
    assert "64 of 64 cells within 0.5% of the table" in text
    repeats = defaultdict(list)
    for row in shipped(cpus=1, stats_worker="off"):
        if row["mapped_by"] == 1:
            cell = (row["arch"], row["lru"], row["order"], row["kernel"])
            repeats[cell].append(row["instructions"])
    alike = sum(max(of) / min(of) <= 1.005 for of in repeats.values())
    assert f"64 of 64 within 0.5% of one of its repeats; {alike} have repeats so near" in text
    assert alike < 64


def test_a_second_repeat_is_near_the_first_or_told_of():
    # the dearer one of repeats that are 1% apart is the table's as well
    of = shipped(arch="x86_64", lru="classic", order=2, kernel="base", cpus=1, stats_worker="off")
    most = max(of, key=lambda row: row["instructions"])
    (found,) = check.instructions([most])
    assert found.share == pytest.approx(found.apart) == pytest.approx(0.0106, abs=0.0001)
    assert found.from_nearest == 0.0
    text = check.to_text([found])
    assert "0 of 1 cells within 0.5% of the table" in text
    assert "1 of 1 within 0.5% of one of its repeats; 0 have repeats so near each other" in text
    beyond = most | {"instructions": 1.01 * most["instructions"]}
    assert check.instructions([beyond])[0].from_nearest == pytest.approx(0.01)
    below = most | {"instructions": 0.99 * found.then}
    assert check.instructions([below])[0].from_nearest == pytest.approx(-0.01)
    between = most | {"instructions": (found.then + most["instructions"]) / 2}
    (halfway,) = check.instructions([between])
    assert abs(halfway.from_nearest) == pytest.approx(found.apart / 2, rel=0.02)
    assert "0 of 1 within 0.5% of one of its repeats" in check.to_text([halfway])


def test_a_cell_that_is_off_is_named():
    cells = shipped(arch="arm64", order=4, kernel="base", cpus=1, stats_worker="off")
    least = min(cells, key=lambda row: row["instructions"])
    text = check.to_text(check.instructions([least | {"instructions": 211000000, "pgscan": 1}]))
    assert "0 of 1 cells within 0.5%" in text
    assert "arm64 classic base order 4: 206,470,000 then, 211,000,000 now (+2.19%)" in text
    assert "differ" in text


def test_a_table_of_one_repeat_says_nothing_of_repeats(tmp_path):
    path = tmp_path / "before.csv"
    first = shipped(arch="arm64", order=4, kernel="base", cpus=1, stats_worker="off", rep=0)
    tables.write_csv(path, first, tables.INSTRUCTIONS)
    text = check.to_text(check.instructions(first, path))
    assert "1 of 1 cells within 0.5% of the table" in text
    assert "repeats" not in text


def test_rows_with_the_worker_serve_where_there_are_no_others():
    found = check.instructions([row | {"stats_worker": "off"} for row in shipped(lru="mglru")])
    assert len(found) == 64
    told = "64 cells: the table has them with another --stats-worker only"
    assert told in check.to_text(found)
    assert told not in check.to_text(check.instructions(shipped(lru="mglru")))


def test_rows_with_the_worker_are_compared_with_such():
    with_worker = shipped(arch="arm64", lru="classic", cpus=1, stats_worker="on")
    assert {one.share for one in check.instructions(with_worker)} == {0.0}


def test_nothing_to_compare_is_told(tmp_path):
    with pytest.raises(LabError, match="has none of the cells"):
        check.instructions([shipped()[0] | {"map_bytes": 1}])
    with pytest.raises(LabError, match="expected a table"):
        check.instructions([], tmp_path / "no.csv")


def test_counters_that_differ_are_named(written):
    found = rows(written / "counters.csv")
    assert check.counters(found) == (
        "3 of 3 counts in both tables are equal; off by more than 8: 0"
    )
    found[-1]["hits"] = "4000"
    assert "try_to_unmap: 3277 then, 4000 now" in check.counters(found)


def test_counters_with_a_statistics_worker_are_compared_with_such():
    # where the table has both, those of the other kind differ
    table = rows(check.SHIPPED / "counters.csv")
    plain = [row for row in table if (row["cpus"], row["mapped_by"]) == ("1", "1")]
    for worker in ("on", "off"):
        of = [row for row in plain if row["stats_worker"] == worker]
        assert check.counters(of).startswith(f"{len(of)} of {len(of)} counts")
    asked = [row | {"stats_worker": "off"} for row in plain if row["lru"] == "mglru"]
    assert check.counters(asked).startswith(f"{len(asked)} of {len(asked)} counts")


def test_samples_have_the_columns_of_ingest(written):
    # `reclaim ingest --csv` prints these columns, and `reclaim predict --machine` reads them
    assert tuple(rows(written / "samples.csv")[0]) == COLUMNS
