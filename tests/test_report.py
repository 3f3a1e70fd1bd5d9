# SPDX-License-Identifier: GPL-2.0-only
"""Messages say what was measured and predicted, and git and checkpatch.pl take them."""

import functools
import re
import shlex
import subprocess

import numpy as np
import pytest

from analysis import cli, elapsed, explain, fit, machines, measurements, predict
from analysis.mail_lines import EATEN
from analysis.report import STYLES, ReportError, commit_message, instructions_pair
from analysis.units import folio_size
from sim import MEASURED_ARCHES

message = functools.cache(commit_message)
MESSAGES = [
    {},
    {"orders": (4,)},
    {"orders": (9,)},
    {"orders": (0, 3, 6)},
    {"arches": ("arm64",)},
    {"arches": ("x86_64",)},
    {"arches": ("x86_64", "arm64"), "orders": (5,)},
    {"before": "base", "after": "unmap", "orders": (5, 8)},
    {"before": "base", "after": "unmap-only", "orders": (2, 6)},
    {"before": "base", "after": "references", "arches": ("x86_64",), "orders": (1, 4)},
    {"style": "blocks"},
    {"style": "blocks", "orders": (9,), "arches": ("x86_64",)},
    {"style": "cover"},
    {"style": "cover", "orders": (0, 9)},
    {"style": "cover", "before": "base", "after": "unmap", "orders": (2, 6)},
]
TABLES = [asked for asked in (MESSAGES[0], *MESSAGES[7:]) if asked.get("style") != "blocks"]
COLUMNS = "machine,arch,kernel,workload,order,metric,unit,value,run,source"
# Names that would end a patch, start a comment or hide the text, were they not told apart.
HOSTILE = ("# box", "--- a/mm", "From x", "diff -u a b", "\x1b[2J\u202e", "word" * 30, "a\tb")


def mine(folder, *rows, name="box"):
    """Return the machine of some runs: kernel, order, seconds."""
    lines = [f'"{name}",x86_64,{kernel},reclaim,{order},real,s,{s},{run},"mine.txt:1"'
             for run, (kernel, order, s) in enumerate(rows)]  # fmt: skip
    path = folder / "mine.csv"
    path.write_text("\n".join([COLUMNS, *lines]) + "\n")
    return path


PAIR = (("before", 4, 0.8), ("after", 4, 0.6))


def tables(text):
    """Return the rows of the two tables: folio size, and the cells of each architecture."""
    found, rows = [], None
    for line in text.splitlines():
        if line.startswith("Folio size |"):
            found.append(rows := {})
        elif rows is not None and re.match(r" *\d+ [KM]iB \|", line):
            size, *cells = (cell.strip() for cell in line.split("|"))
            rows[size] = cells
    return found


def percent(ratio):
    whole = round(100 * ratio)
    return f"{whole:+d}%" if whole else "0%"


def assert_pasteable(text):
    """Assert what git and scripts/checkpatch.pl ask of the text of a commit."""
    assert text.isascii()
    assert text.endswith(".\n")
    assert "\n\n\n" not in text
    for line in text.split("\n"):
        assert len(line) <= 75
        assert line == line.rstrip()
        assert line.isprintable()  # no tab either
        assert not line.startswith(EATEN)
        # A diff, a hunk, a stack dump, or a hash that checkpatch.pl takes for that of a commit.
        assert not re.match(r"\s*(diff\b.*a/|--- +a/|\+\+\+ +b/|@@ |\[ *\d+\.\d{6}\])", line)
        assert not re.search(r"(\s|^)[0-9a-f]{12,40}(?=[\s\"'(\[]|$)", line) or "commit" in line
    # A commit is named as `commit HASH ("title")`.
    for cited in re.findall(r"commit\s+[0-9a-f]{5,}\b([^;.]{3})", text):
        assert re.match(r'\s\("', cited)


@pytest.mark.parametrize("asked", MESSAGES)
def test_it_can_be_pasted_into_a_commit_message(asked):
    assert_pasteable(message(**asked))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_a_file_breaks_no_line(style, name, tmp_path):
    machine = machines.captured(mine(tmp_path, *PAIR, name=name))
    asked = {"orders": (4,), "arches": ("x86_64",), "style": style, "machine": machine}
    text = commit_message(**asked, source=f"{name}.csv")
    assert_pasteable(text)
    assert "word" * 11 not in text


@pytest.mark.parametrize("style", STYLES)
def test_git_takes_it_as_it_is(style, tmp_path):
    asked = {"style": style}
    (tmp_path / "message.txt").write_text(message(**asked))

    def git(*words):
        config = ("user.name=A", "user.email=a@example.org", "commit.gpgsign=no")
        identity = [word for setting in config for word in ("-c", setting)]
        run = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return run.stdout

    git("init", "--quiet")
    # strip is what git does to a message that was pasted into its editor.
    git("commit", "--quiet", "--allow-empty", "--cleanup=strip", "-F", "message.txt")
    written = message(**asked).rstrip("\n")
    assert git("log", "-1", "--format=%B").rstrip("\n") == written
    # And git am gives back what git format-patch mails; a sign-off is no part of the last line.
    (tmp_path / "file").write_text("a\n")
    git("add", "file")
    (tmp_path / "titled.txt").write_text(f"mm: a title\n\n{written}\n")
    git("commit", "--quiet", "--signoff", "-F", "titled.txt")
    patch = git("format-patch", "-1").strip()
    git("reset", "--quiet", "--hard", "HEAD~1")
    git("am", "--quiet", "--scissors", patch)
    signed = f"mm: a title\n\n{written}\n\nSigned-off-by: A <a@example.org>"
    assert git("log", "-1", "--format=%B").rstrip("\n") == signed


@pytest.mark.parametrize("asked", MESSAGES[1:5])
def test_it_is_the_same_every_time(asked):
    assert commit_message(**asked) == message(**asked)


def test_orders_and_architectures_are_rows_and_columns_once_each():
    text = commit_message(orders=(4, 0, 4), arches=("arm64", "arm64"))
    assert text == message(orders=(0, 4), arches=("arm64",))


@pytest.mark.parametrize("asked", TABLES)
def test_instructions_are_those_measured_and_a_star_marks_those_that_are_not(asked):
    before, after = asked.get("before", "references"), asked.get("after", "unmap")
    instructions, _ = tables(message(**asked))
    orders = asked.get("orders", range(10))
    assert list(instructions) == [folio_size(order) for order in orders]
    for order in orders:
        cells = instructions[folio_size(order)]
        for arch, cell in zip(asked.get("arches", MEASURED_ARCHES), cells, strict=True):
            old, new, change, noise = cell.split()
            measured = measurements.plain_cells(arch, order)["instructions"]
            assert change.endswith("*") == measured.empty
            if not measured.empty:
                assert (old, new) == tuple(f"{measured[k] / 1e6:.1f}" for k in (before, after))
                assert change == percent(measured[after] / measured[before] - 1)
                spread = measurements.plain_cells(arch, order)["spread"][[before, after]].max()
                assert noise == (f"{spread:.1%}" if spread >= 0.0005 else "<0.1%")
            else:
                assert noise == "-"


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [3, 6])
def test_an_order_that_was_not_run_lies_between_its_neighbours(arch, order):
    below, at, above = (
        instructions_pair(arch, o, "references", "unmap") for o in (order - 1, order, order + 1)
    )
    assert (below[2], at[2], above[2]) == (True, False, True)
    for side in (0, 1):
        assert below[side] > at[side] > above[side]


@pytest.mark.parametrize("asked", TABLES)
def test_changes_of_elapsed_time_are_those_predicted(asked):
    before, after = asked.get("before", "references"), asked.get("after", "unmap")
    _, changes = tables(message(**asked))
    for order in asked.get("orders", range(10)):
        cells = changes[folio_size(order)]
        for arch, cell in zip(asked.get("arches", MEASURED_ARCHES), cells, strict=True):
            reduction = predict.predict(arch, order, before=before, after=after).elapsed_reduction
            ends = (reduction.best, reduction.low, reduction.high)
            expected = [percent(-end) for end in ends] if any(ends) else ["0%"]
            *shown, noise = cell.split()
            assert re.findall(r"[+-]?\d+%", " ".join(shown)) == expected
            pair = np.sqrt(2) * machines.run_noise()[0]
            assert noise == f"{(1 - reduction.best) * pair:.1%}"


def test_the_published_times_and_what_they_are_worth_are_shown():
    text = message(arches=("arm64",), style="blocks")
    assert re.search(r"^real +0m1\.018s +real +0m0\.249s$", text, re.MULTILINE)
    assert re.search(r"^sys +0m1\.018s +sys +0m0\.249s$", text, re.MULTILINE)
    assert "Elapsed reduction 75.5%, speedup 4.09x." in text
    assert "folio size not" in text


@pytest.mark.parametrize("asked", [MESSAGES[5], MESSAGES[8]])
def test_no_published_times_are_shown_for_what_they_are_not_of(asked):
    assert "real" not in message(**asked, style="blocks").split()


def test_a_cover_letter_has_its_sections_and_says_why():
    text = message(style="cover")
    titles = re.findall(r"^(.+)\n=+$", text, re.MULTILINE)
    assert titles == [title for title, _ in STYLES["cover"]]
    at = explain.consistent_orders()
    for arch in MEASURED_ARCHES:
        asked = {"before": "references", "after": "unmap", "metric": "instructions"}
        found = explain.explain(arch, at[len(at) // 2], **asked)
        most = found.parts.loc[found.parts["value"].idxmax()]
        assert f"{arch}: {most['part']} {most['value'] / found.difference:.0%}" in text


@pytest.mark.parametrize("asked", [{}, {"orders": (2, 4, 5)}, {"arches": ("x86_64",)}])
@pytest.mark.parametrize("style", STYLES)
def test_the_command_in_it_writes_it_again(style, asked, capsys):
    text = message(**asked, style=style)
    lines = re.search(r"^    (reclaim message(.*\\\n)*.*)$", text, re.MULTILINE)[1]
    assert cli.main(shlex.split(lines.replace("\\\n", " "))[1:]) == 0
    assert capsys.readouterr().out == text


def test_times_of_ones_own_are_shown_beside_what_is_predicted(tmp_path):
    runs = (("before", 4, 0.8), ("after", 4, 0.6), ("before", 4, 0.82), ("after", 4, 0.61))
    path = mine(tmp_path, *runs, ("before", 6, 0.7), name="my box")
    machine = machines.captured(path)
    text = commit_message((4,), ("x86_64",), machine=machine, source=path.name)
    row, unpatched = re.findall(r"^ +(?:64|256) KiB \|.*\|.*\|?.*$", text, re.MULTILINE)[:2]
    assert row.split("|")[1].split()[:4] == ["2", "0.81", "0.605", f"{0.605 / 0.81 - 1:+.1%}"]
    old, new = machine.observations[0], machine.observations[-1]
    assert (old.order, new.order, new.kernel) == (4, 4, "unmap")
    noise = 0.605 / 0.81 * np.hypot(old.noise_ns / old.ns, new.noise_ns / new.ns)
    assert row.split("|")[1].split()[4] == f"{noise:.1%}"
    reduction = predict.predict_on(machine, 4).elapsed_reduction
    shown = re.findall(r"[+-]?\d+%", row.split("|")[2])
    assert shown == [percent(-reduction[at]) for at in (1, 0, 2)]
    assert unpatched.split("|")[1].split() == ["1+0", "0.7", "-", "-", "-"]
    assert "--machine mine.csv --map 10737418240" in " ".join(text.replace("\\", "").split())
    assert re.search(r"^time +0m0.810s +time +0m0.605s$", commit_message(
        (4,), ("x86_64",), machine=machine, style="blocks"), re.MULTILINE)  # fmt: skip


def test_sizes_that_nobody_told_are_not_guessed(tmp_path):
    machine = machines.captured(mine(tmp_path, ("before", "", 0.8), ("after", "", 0.6)))
    text = commit_message((4,), ("x86_64",), machine=machine)
    assert re.search(r"^not stated \| +1 +0.8 +0.6 -25.0% +\d.\d% \| +-$", text, re.MULTILINE)


def test_the_command_takes_a_machine(tmp_path, capsys):
    path = mine(tmp_path, *PAIR)
    words = ["message", "--orders", "4", "--arch", "x86_64", "--machine", str(path)]
    assert cli.main(words) == 0
    asked = {"machine": machines.captured(path), "source": path.name}
    assert capsys.readouterr().out == commit_message((4,), ("x86_64",), **asked)
    assert cli.main(["message", "--map", "1G"]) == 2
    assert "only with --machine" in capsys.readouterr().err


def test_a_claim_is_shown_as_a_claim():
    text = " ".join(message(arches=("x86_64",)).split())
    assert "Published for x86_64, not an input here: 50%+ (Linux commit a67fe41e214f" in text


def test_the_headline_is_of_the_orders_that_the_published_times_allow():
    at = explain.consistent_orders()
    best = [predict.predict("arm64", order).elapsed_reduction.best for order in at]
    headline = " ".join(message().partition("\n\n")[0].split())
    assert f"{folio_size(at[0])} to {folio_size(at[-1])}" in headline
    assert f"{min(best):.0%} to {max(best):.0%} less time on arm64" in headline
    assert "predicted" in headline
    assert message(orders=(9,)).startswith("Performance testing:\n\n")


def test_the_footer_has_method_errors_and_digests():
    footer = " ".join(message().partition("Method:")[2].split())
    for arch in MEASURED_ARCHES:
        cells = fit.leave_one_order_out(arch)
        error = cells[cells["order"] > 0]["relative_error"].abs().mean()
        assert f"{arch} {error:.1%}" in footer
    for name in ("emulated/instructions.csv", "host/order_sweep.csv"):
        assert f"{name} {measurements.manifest()[name]['sha256'][:12]}" in footer
    assert re.search(r"id [0-9a-f]{12}", footer)


def test_ids_tell_messages_apart():
    asked_once = [asked for asked in MESSAGES if "style" not in asked]
    ids = [re.search(r"id ([0-9a-f]{12})", message(**asked))[1] for asked in asked_once]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"arches": ("riscv",)}, "riscv.*expected one or more of arm64, x86_64"),
        ({"arches": ("arm64", "ARM64")}, "ARM64.*expected one or more of arm64, x86_64"),
        ({"arches": ()}, "expected one or more of arm64, x86_64"),
        ({"orders": ()}, "none.*expected one or more, 0 to 9"),
        ({"orders": (4, 10)}, r"\[10\].*0 to 9"),
        ({"orders": (-1,)}, r"\[-1\].*0 to 9"),
        ({"style": "prose"}, "'prose': expected one of blocks, table, cover"),
    ],
)
def test_a_message_about_nothing_is_refused(asked, told):
    with pytest.raises(ReportError, match=told):
        commit_message(**asked)


def test_a_published_time_over_a_minute_is_in_minutes(monkeypatch):
    seconds = {"base": 130.5, "references": 61.018, "unmap": 0.249}
    monkeypatch.setattr(elapsed, "published_seconds", lambda _metric="real": seconds)
    text = commit_message(orders=(9,), arches=("arm64",), style="blocks")
    assert re.search(r"^real +1m1\.018s +real +0m0\.249s$", text, re.MULTILINE)


def test_a_machine_that_ran_neither_kernel_is_refused(tmp_path):
    machine = machines.captured(mine(tmp_path, ("base", 4, 0.8)))
    with pytest.raises(ReportError, match="mine: no whole time of references or unmap"):
        commit_message(machine=machine, source="mine")
