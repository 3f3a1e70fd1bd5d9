# SPDX-License-Identifier: GPL-2.0-only
"""`reclaim ingest` prints the rows that it reads, and they can be used."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis import ingest, machines, predict, text

CAPTURES = Path(__file__).parent / "captures"
MAIL = """\
> On an Arm64 32-core server:
> W/o patch:
> real    0m1.018s
> user    0m0.000s
> sys     0m1.018s
>
> W/ patch:
> real    0m0.249s
> user    0m0.000s
> sys     0m0.249s
"""


@pytest.fixture
def mail(tmp_path):
    path = tmp_path / "mail.txt"
    path.write_text(MAIL)
    return path


def test_ingest_prints_a_table_json_and_csv_of_the_same_rows(mail, run, out):
    assert str(mail) in out("ingest", mail)
    rows = json.loads(out("ingest", mail, "--json"))["samples"]
    times = [("real", 1.018), ("user", 0.0), ("sys", 1.018)]
    times += [("real", 0.249), ("user", 0.0), ("sys", 0.249)]
    assert [(row["metric"], row["value"]) for row in rows] == times
    assert rows[0]["order"] is None
    status, stdout, _ = run("ingest", mail, "--csv")
    assert status == 0
    shown = list(csv.DictReader(io.StringIO(stdout)))
    assert [(row["metric"], float(row["value"])) for row in shown] == times
    assert [row["source"] for row in shown] == [row["source"] for row in rows]


def test_ingest_csv_keeps_notes_off_stdout(mail, run):
    mail.write_text(MAIL + "\n" + re.sub("(?m)^>", ">>", MAIL))
    status, stdout, stderr = run("ingest", mail, "--csv")
    assert status == 0
    assert "note:" not in stdout
    assert re.search("^note: .*counted once", stderr, re.MULTILINE)


def test_ingest_reads_stdin_as_it_reads_a_file(mail, spawn):
    from_file = spawn("ingest", mail, "--json")
    from_stdin = spawn("ingest", "-", "--json", input=MAIL)
    assert (from_stdin.returncode, from_stdin.stderr) == (0, "")
    one, other = (json.loads(found.stdout)["samples"] for found in (from_file, from_stdin))
    assert [row["value"] for row in one] == [row["value"] for row in other]
    assert other[0]["source"].endswith(":3")


def test_ingest_explains_each_line(run):
    status, stdout, stderr = run("ingest", "--explain", CAPTURES / "stat_r5.txt")
    assert (status, stderr) == (0, "")
    kinds = [line.split(": ")[1].split()[0] for line in stdout.splitlines()]
    told = ["comment", "header", "comment", *["data"] * 3, "comment", "data", "comment", "note"]
    assert kinds == told
    status, stdout, stderr = run("ingest", "--explain", CAPTURES / "loc_de_DE_stat_json.txt")
    assert status == 2
    assert stdout.count(": error") == 2
    assert "LC_ALL=C perf stat -j" in stderr


def test_ingest_folds(tmp_path, run):
    path = tmp_path / "script.txt"
    path.write_text("a b 1 12.000001: 7 cycles: \n\tffff f+0x1 (x)\n\t10 main+0x2 (x)\n\n")
    assert run("ingest", "--folded", path) == (0, "a_b;main;f 7\n", "")
    status, stdout, stderr = run("ingest", "--folded", "--event", "faults", path)
    assert (status, stdout) == (2, "")
    assert "no sample of faults" in stderr


def test_ingest_pairs_counters_and_joins_orders(out):
    pair = out("ingest", "--pair", CAPTURES / "vmstat_before.txt", CAPTURES / "vmstat_after.txt")
    assert re.search(r"numa_hit +count +42083\.0", pair)
    joined = out(
        "ingest", CAPTURES / "time_bash_p.txt", "--orders", CAPTURES / "script_tracepoints.txt"
    )
    assert "order: 8" in joined


def test_ingest_writes_the_same_rows_as_parquet(tmp_path, run):
    target = tmp_path / "out.parquet"
    status, stdout, _ = run("ingest", CAPTURES / "stat_r5.txt", "--parquet", target)
    assert (status, stdout) == (0, "")
    _, table, _ = run("ingest", CAPTURES / "stat_r5.txt", "--csv")
    expected = pd.read_csv(io.StringIO(table))
    found = pd.read_parquet(target)
    assert list(found) == list(expected)
    assert found["value"].tolist() == expected["value"].tolist()
    assert found["metric"].tolist() == expected["metric"].tolist()


def test_a_path_that_is_no_utf8_is_read_and_refused_as_parquet(tmp_path, run):
    path = tmp_path / "bad\udcff.txt"
    path.write_bytes((CAPTURES / "stat_r5.txt").read_bytes())
    assert ingest.read(path).frame["source"].iloc[0].endswith("\udcff.txt:4")
    status, stdout, stderr = run("ingest", path, "--parquet", tmp_path / "out.parquet")
    assert (status, stdout) == (2, "")
    assert re.match(r"reclaim ingest: --parquet: found '.*\\udcff.txt:4'; expected text", stderr)
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "out.parquet").exists()


def test_what_ingest_prints_predicts_the_machine_that_it_is_of(tmp_path, out, run):
    (tmp_path / "mail.txt").write_text(MAIL)
    mine = tmp_path / "mine.csv"
    status, csv_text, _ = run("ingest", tmp_path / "mail.txt", "--csv")
    mine.write_text(csv_text)
    assert status == 0
    shown = out("predict", "--machine", mine, "--order", 6)
    expected = predict.predict_on(machines.captured(mine), 6)
    assert shown == text.prediction(expected) + "\n"
    assert "one run has no spread" in " ".join(shown.split())
    assert json.loads(out("predict", "--machine", mine, "--order", 6, "--json"))["order"] == 6
    assert "MADV_PAGEOUT" in out("advise", "--machine", mine, "--unpatched", "--order", 4)
