# SPDX-License-Identifier: GPL-2.0-only
"""`reclaim fit`, `explain`, `predict` and their like print what is asked of the functions."""

import json

import pytest

import sim
from analysis import explain, machines, predict, report, score, text, timing, whatif


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
