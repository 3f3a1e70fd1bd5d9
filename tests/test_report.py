# SPDX-License-Identifier: GPL-2.0-only
import functools
import re
import subprocess

import pytest

from analysis import elapsed, explain, fit, measurements, predict
from analysis.report import ReportError, commit_message, instructions_pair
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
]


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


@pytest.mark.parametrize("asked", MESSAGES)
def test_it_can_be_pasted_into_a_commit_message(asked):
    text = message(**asked)
    assert text.isascii()
    assert text.endswith(".\n")
    for line in text.splitlines():
        assert len(line) <= 75
        assert line == line.rstrip()
        assert not line.startswith("#")
        assert "\t" not in line
        assert line.isprintable()


@pytest.mark.parametrize("asked", MESSAGES[:2])
def test_git_takes_it_as_it_is(asked, tmp_path):
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
    assert git("log", "-1", "--format=%B").rstrip("\n") == message(**asked).rstrip("\n")


@pytest.mark.parametrize("asked", MESSAGES[1:5])
def test_it_is_the_same_every_time(asked):
    assert commit_message(**asked) == message(**asked)


def test_orders_and_architectures_are_rows_and_columns_once_each():
    text = commit_message(orders=(4, 0, 4), arches=("arm64", "arm64"))
    assert text == message(orders=(0, 4), arches=("arm64",))


@pytest.mark.parametrize("asked", [MESSAGES[0], *MESSAGES[7:]])
def test_instructions_are_those_measured_and_a_star_marks_those_that_are_not(asked):
    before, after = asked.get("before", "references"), asked.get("after", "unmap")
    instructions, _ = tables(message(**asked))
    orders = asked.get("orders", range(10))
    assert list(instructions) == [folio_size(order) for order in orders]
    for order in orders:
        cells = instructions[folio_size(order)]
        for arch, cell in zip(asked.get("arches", MEASURED_ARCHES), cells, strict=True):
            old, new, change = cell.split()
            measured = measurements.plain_cells(arch, order)["instructions"]
            assert change.endswith("*") == measured.empty
            if not measured.empty:
                assert (old, new) == tuple(f"{measured[k] / 1e6:.1f}" for k in (before, after))
                assert change == percent(measured[after] / measured[before] - 1)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("order", [3, 6])
def test_an_order_that_was_not_run_lies_between_its_neighbours(arch, order):
    below, at, above = (
        instructions_pair(arch, o, "references", "unmap") for o in (order - 1, order, order + 1)
    )
    assert (below[2], at[2], above[2]) == (True, False, True)
    for side in (0, 1):
        assert below[side] > at[side] > above[side]


@pytest.mark.parametrize("asked", [MESSAGES[0], *MESSAGES[7:]])
def test_changes_of_elapsed_time_are_those_predicted(asked):
    before, after = asked.get("before", "references"), asked.get("after", "unmap")
    _, changes = tables(message(**asked))
    for order in asked.get("orders", range(10)):
        cells = changes[folio_size(order)]
        for arch, cell in zip(asked.get("arches", MEASURED_ARCHES), cells, strict=True):
            reduction = predict.predict(arch, order, before=before, after=after).elapsed_reduction
            ends = (reduction.best, reduction.low, reduction.high)
            expected = [percent(-end) for end in ends] if any(ends) else ["0%"]
            assert re.findall(r"[+-]?\d+%", cell) == expected


def test_the_published_times_and_what_they_are_worth_are_shown():
    text = message(arches=("arm64",))
    assert re.search(r"^real +0m1\.018s +real +0m0\.249s$", text, re.MULTILINE)
    assert re.search(r"^sys +0m1\.018s +sys +0m0\.249s$", text, re.MULTILINE)
    assert "Elapsed reduction 75.5%, speedup 4.09x." in text
    assert "folio size not" in text


@pytest.mark.parametrize("asked", [MESSAGES[5], MESSAGES[8]])
def test_no_published_times_are_shown_for_what_they_are_not_of(asked):
    assert "real" not in message(**asked).split()


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
    assert message(orders=(9,)).startswith("Performance testing:\n")


def test_the_footer_has_method_errors_and_digests():
    footer = " ".join(message().rpartition("\n\n")[2].split())
    for arch in MEASURED_ARCHES:
        cells = fit.leave_one_order_out(arch)
        error = cells[cells["order"] > 0]["relative_error"].abs().mean()
        assert f"{arch} {error:.1%}" in footer
    for name in ("emulated/instructions.csv", "host/order_sweep.csv"):
        assert f"{name} {measurements.manifest()[name]['sha256'][:12]}" in footer
    assert re.search(r"id [0-9a-f]{12}", footer)


def test_ids_tell_messages_apart():
    ids = [re.search(r"id ([0-9a-f]{12})", message(**asked))[1] for asked in MESSAGES]
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
    ],
)
def test_a_message_about_nothing_is_refused(asked, told):
    with pytest.raises(ReportError, match=told):
        commit_message(**asked)


def test_a_published_time_over_a_minute_is_in_minutes(monkeypatch):
    seconds = {"base": 130.5, "references": 61.018, "unmap": 0.249}
    monkeypatch.setattr(elapsed, "published_seconds", lambda _metric="real": seconds)
    text = commit_message(orders=(9,), arches=("arm64",))
    assert re.search(r"^real +1m1\.018s +real +0m0\.249s$", text, re.MULTILINE)
