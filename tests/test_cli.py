# SPDX-License-Identifier: GPL-2.0-only
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sim
from analysis import (
    cli,
    explain,
    fit,
    machines,
    measurements,
    predict,
    report,
    score,
    text,
    timing,
    whatif,
)

MIB = 1 << 20
SMALL = ["--map", "16M", "--reclaim", "4M"]
RECLAIM = Path(sys.executable).with_name("reclaim")
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
def run(capsys):
    """Return a function that runs one command line: status, stdout, stderr."""

    def command(*words):
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as ended:  # argparse's own way out
            status = ended.code
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def out(run):
    """Return a function that runs a command line that has to succeed: stdout."""

    def command(*words):
        status, stdout, stderr = run(*words)
        assert (status, stderr) == (0, "")
        return stdout

    return command


def spawn(*words, **options):
    return subprocess.run([RECLAIM, *words], capture_output=True, text=True, check=False, **options)


# reclaim simulate


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


# reclaim ingest


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


def test_ingest_reads_stdin_as_it_reads_a_file(mail):
    from_file = spawn("ingest", mail, "--json")
    from_stdin = spawn("ingest", "-", "--json", input=MAIL)
    assert (from_stdin.returncode, from_stdin.stderr) == (0, "")
    one, other = (json.loads(found.stdout)["samples"] for found in (from_file, from_stdin))
    assert [row["value"] for row in one] == [row["value"] for row in other]
    assert other[0]["source"].endswith(":3")


CAPTURES = Path(__file__).parent / "captures"


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


# reclaim fit, explain, predict, message


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


@pytest.mark.parametrize("arch", sim.MEASURED_ARCHES)
def test_costs_in_time_and_what_rests_on_them_fit_a_terminal(arch, out):
    shown = [
        out("fit", "--metric", "time", "--arch", arch),
        *(out(command, "--arch", arch) for command in ("advise", "assumptions", "ablations")),
        out("explain", "--arch", arch, "--metric", "time"),
    ]
    for told in shown:
        assert max(map(len, told.splitlines())) <= 100
    assert "prior only" in shown[0]


@pytest.mark.parametrize("command", ["advise", "assumptions", "ablations", "sizes", "claims"])
def test_tables_about_time_are_json_too(command, out):
    rows = json.loads(out(command, "--json"))
    assert len({tuple(row) for row in rows}) == 1
    assert all(row for row in rows)


def test_sizes_and_claims_say_what_was_published(out):
    assert "rule out" in " ".join(out("sizes").split())
    assert "50%+" in out("claims")


TO_UNMAP_ONLY = {"before": "base", "after": "unmap-only"}


def test_fit_prints_both_architectures_unless_told(out):
    assert out("fit") == f"{text.cost_model('arm64')}\n\n{text.cost_model('x86_64')}\n"
    assert out("fit", "--arch", "x86_64") == f"{text.cost_model('x86_64')}\n"
    assert out("fit", "--arch", "x86_64", "--metric", "instructions") == out(
        "fit", "--arch", "x86_64"
    )


def test_score_writes_the_predictions_that_it_scores(out, tmp_path):
    shown = out("score", "--out", tmp_path)
    path = tmp_path / "blind-x86_64.json"
    found, notes = score.scored(path), ()
    ident = json.loads(path.read_text(encoding="utf-8"))["id"]
    assert shown == text.scores("x86_64", ident, path, found, notes) + "\n"
    assert "all 26 cells: error mean" in shown
    told = json.loads(out("score", "--out", tmp_path, "--json"))
    assert told == json.loads(json.dumps(score.to_dict("x86_64", ident, found, notes)))


def test_score_says_which_step_nothing_tells(out, tmp_path):
    assert "- base to unmap: not predicted" in out("score", "--arch", "arm64", "--out", tmp_path)


def test_whatif_prints_its_rows_ranked(out):
    found = whatif.whatif("x86_64", 8)
    shown = out("whatif", "--order", 8)
    assert shown == text.whatifs("x86_64", 8, found) + "\n"
    places = [shown.index(f"\n{name}  ") for name in found["name"]]
    assert places == sorted(places)
    rows = json.loads(out("whatif", "--order", 8, "--json"))
    assert [row["name"] for row in rows] == list(found["name"])
    assert rows[0]["saved"] == found["saved"].iloc[0]._asdict()


def test_whatif_in_time_is_of_a_machine(out):
    shown = out("whatif", "--order", 4, "--metric", "time")
    found = whatif.in_time(timing.time_fit(machines.reference("x86_64")), 4)
    assert shown == text.whatifs("x86_64 host", 4, found, "time") + "\n"
    assert "not of the model's form" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ([], {"arch": "arm64", "order": 6, "metric": "instructions"}),
        (["--metric", "time"], {"arch": "arm64", "order": 6, "metric": "time"}),
        (
            ["--arch", "x86_64", "--order", 4, "--before", "base", "--after", "unmap-only"],
            {"arch": "x86_64", "order": 4, "metric": "instructions"} | TO_UNMAP_ONLY,
        ),
    ],
)
def test_explain_prints_the_attribution_asked_for(words, question, out):
    assert out("explain", *words) == text.attribution(explain.explain(**question)) + "\n"


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ([], {"arch": "x86_64", "order": 4}),
        (["--order", 6], {"arch": "x86_64", "order": 6}),
        (["--arch", "arm64", "--order", 0], {"arch": "arm64", "order": 0}),
        (["--before", "base"], {"arch": "x86_64", "order": 4, "before": "base"}),
        (
            ["--metric", "instructions", "--blind", "--after", "unmap-only", "--before", "base"],
            {"arch": "x86_64", "order": 4, "metric": "instructions", "blind": True} | TO_UNMAP_ONLY,
        ),
    ],
)
def test_predict_prints_the_prediction_asked_for(words, question, out):
    expected = predict.predict(**question)
    assert out("predict", *words) == text.prediction(expected) + "\n"
    assert json.loads(out("predict", *words, "--json")) == expected.to_dict()


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ([], {}),
        (["--orders", "2,4:6", "--arch", "x86_64"], {"orders": (2, 4, 5, 6), "arches": ["x86_64"]}),
        (["--orders", "5", "--before", "base"], {"orders": (5,), "before": "base"}),
    ],
)
def test_message_prints_the_message_asked_for(words, question, out):
    assert out("message", *words) == report.commit_message(**question)


# Bad input: one message on stderr, status 2, nothing on stdout.

ARM64 = ["simulate", "--arch", "arm64"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "COMMAND"),
        (["reclaim"], "invalid choice: 'reclaim'"),
        (["simulate"], "--arch"),
        (["simulate", "--arch", "riscv"], "arm64.*x86_64"),
        ([*ARM64, "--kernel", "linux"], "base.*references.*unmap.*unmap-only"),
        ([*ARM64, "--lru", "fifo"], "classic"),
        ([*ARM64, "--access", "write"], "pread.*mmap"),
        ([*ARM64, "--order", "10"], "order 10: expected 0 to 9"),
        ([*ARM64, "--order", "-1"], "order -1: expected 0 to 13"),
        ([*ARM64, "--order", "4.5"], "4.5"),
        ([*ARM64, "--order", "four"], "four"),
        ([*ARM64, "--map", "0"], "above 0, then K, M, G, T"),
        ([*ARM64, "--map", "-1G"], "--map"),
        ([*ARM64, "--map", "1P"], "above 0, then K, M, G, T"),
        ([*ARM64, "--map", "1e9"], "above 0, then K, M, G, T"),
        ([*ARM64, "--map", "ten"], "above 0, then K, M, G, T"),
        ([*ARM64, "--map", ""], "above 0, then K, M, G, T"),
        ([*ARM64, "--map", "4K", "--order", "4"], "smaller than one order-4 folio"),
        ([*ARM64, "--map", "99999999T"], "map_bytes"),
        ([*ARM64, "--map", "1024T"], "pages, at most"),
        ([*ARM64, "--reclaim", "4095"], "less than one page"),
        ([*ARM64, "--mapped-by", "0"], "mapped_by 0: expected 1 to 1024"),
        ([*ARM64, "--cpus", "3"], "cpus 3: expected 1 to 2"),
        ([*ARM64, "--fast"], "--fast"),
        (["ingest"], "PATH"),
        (["ingest", "nowhere.txt"], "nowhere.txt.*Check the path"),
        (["ingest", "."], "binary.txt:1: found a NUL.*Nor can these be taken: empty.txt"),
        (["ingest", "prose.txt", "--format", "perf"], "one of perf-stat"),
        (["ingest", "prose.txt", "--pair"], "found 1 paths"),
        (["ingest", "empty.txt"], "empty file"),
        (["ingest", "binary.txt"], "binary"),
        (["ingest", "prose.txt"], "prose.txt"),
        (["ingest", "mail.txt", "--json", "--csv"], "not allowed with"),
        (["fit", "--arch", "riscv"], "arm64, x86_64"),
        (["fit", "--metric", "speed"], "time.*instructions|instructions.*time"),
        (["score", "--arch", "riscv"], "arm64, x86_64"),
        (["whatif", "--order", "9"], "expected 0 to 8"),
        (["fit", "--arch", ""], "arm64, x86_64"),
        (["fit", "--arch", "arm64,,x86_64"], "arm64, x86_64"),
        (["explain", "--order", "10"], "expected 0 to 9"),
        (["explain", "--metric", "speed"], "time.*instructions"),
        (["explain", "--metric", "time", "--before", "lazyfree"], "one of lazyfree-before"),
        (["fit", "--coverage"], "say --metric time"),
        (["advise", "--order", "0"], "expected 1 to 8"),
        (["advise", "--machine", "none.csv"], "none.csv: No such file"),
        (["predict", "--map", "1G"], "only with --machine"),
        (["predict", "--arch", "arm64-64k"], "only with --machine"),
        (["predict", "--machine", "prose.txt"], "expected machine, arch, kernel"),
        (["predict", "--machine", "prose.txt", "--blind"], "leave --metric and --blind out"),
        (["explain", "--metric", "time", "--order", "0"], "no batch can matter"),
        (["explain", "--before", "linux"], "base.*references.*unmap"),
        (["predict", "--order", "10"], "order 10: expected 0 to 9"),
        (["predict", "--arch", "riscv"], "arm64.*x86_64"),
        (["predict", "--metric", "speed"], "time.*instructions"),
        (["predict", "--arch", "arm64", "--blind"], "ask for --metric instructions"),
        (
            ["predict", "--arch=arm64", "--blind", "--metric=instructions", "--before=base"],
            "x86_64 cannot tell arm64",
        ),
        (["safety", "--worlds", "0"], "'0': expected a whole number, at least 1"),
        (["safety", "--seed", "-1"], "expected a whole number, at least 0"),
        (["message", "--orders", "10"], "expected some of 0 to 9"),
        (["message", "--orders", "-1"], "expected some of 0 to 9"),
        (["message", "--orders", "9:0"], "expected some of 0 to 9"),
        (["message", "--orders", ""], "expected some of 0 to 9"),
        (["message", "--orders", "1:2:3"], "expected some of 0 to 9"),
        (["message", "--orders", "a"], "expected some of 0 to 9"),
        (["message", "--orders", "0:9999999999"], "expected some of 0 to 9"),
        (["message", "--arch", "arm"], "arm64, x86_64"),
    ],
)
def test_bad_input_is_one_message_and_status_2(words, told, run, tmp_path, monkeypatch):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "prose.txt").write_text("Looks good to me.\n")
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = run(*words)
    assert (status, stdout) == (2, "")
    # argparse puts its usage before its message.
    messages = [line for line in stderr.splitlines() if re.match(r"reclaim\b.*: ", line)]
    assert len(messages) == 1
    assert re.search(told, messages[0])
    assert "Traceback" not in stderr
    if not stderr.startswith("usage:"):
        assert messages[0].startswith(f"reclaim {words[0]}: ")
        assert len(stderr.splitlines()) == 1


def test_a_changed_measurement_is_told_and_not_used(run, monkeypatch):
    entry = {"sha256": "0" * 64}
    monkeypatch.setattr(measurements, "manifest", lambda: {"emulated/instructions.csv": entry})
    for function in (measurements.instructions, fit.emulated_cells, fit.fit):
        monkeypatch.setattr(
            sys.modules[function.__module__], function.__name__, function.__wrapped__
        )
    status, stdout, stderr = run("fit")
    assert (status, stdout) == (2, "")
    assert re.match("reclaim fit: .*instructions.csv: sha256 is .*take it back from git", stderr)


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sim, "reclaim", interrupted)
    assert run(*ARM64) == (130, "", "reclaim: interrupted\n")


@pytest.mark.parametrize("command", ["simulate", "ingest", "fit", "explain", "predict", "message"])
def test_help_names_the_options(command, run):
    status, stdout, stderr = run(command, "--help")
    assert (status, stderr) == (0, "")
    assert f"usage: reclaim {command}" in stdout


# The installed command


def test_a_reader_that_leaves_early_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [RECLAIM, *ARM64, *SMALL], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, "")


def test_head_gets_its_line():
    pipe = f"'{RECLAIM}' simulate --arch x86_64 --map 16M --reclaim 4M | head -1"
    found = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("arch x86_64, kernel unmap, lru classic, map_bytes 16777216")
    assert found.stderr == ""


def test_the_message_is_the_same_from_any_directory_and_run(tmp_path):
    found = spawn("message", cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == report.commit_message()
    assert list(tmp_path.iterdir()) == []


def test_bad_input_gives_the_shell_status_2(tmp_path):
    found = spawn("simulate", "--arch", "arm64", "--order", "12", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "reclaim simulate: order 12: expected 0 to 9 on this architecture\n"


def test_simulate_waits_for_nothing_that_it_does_not_need():
    code = (
        "import sys; from analysis.cli import main; "
        "main(['simulate', '--arch', 'arm64', '--map', '1M', '--reclaim', '64K', '--json']); "
        "sys.exit(bool({'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
