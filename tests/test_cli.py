# SPDX-License-Identifier: GPL-2.0-only
"""Bad input, interrupts, help, and the command as it is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sim
from analysis import fit, measurements, report

RECLAIM = Path(sys.executable).with_name("reclaim")
ARM64 = ["simulate", "--arch", "arm64"]
SMALL = ["--map", "16M", "--reclaim", "4M"]


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


def test_the_message_is_the_same_from_any_directory_and_run(tmp_path, spawn):
    found = spawn("message", cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == report.commit_message()
    assert list(tmp_path.iterdir()) == []


def test_bad_input_gives_the_shell_status_2(tmp_path, spawn):
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
