# SPDX-License-Identifier: GPL-2.0-only
"""Blind predictions: written first, scored afterwards, and nothing scored ever enters one."""

import json

import pytest

from analysis import fit, measurements, score
from analysis.score import ScoreError

CHANGED = ("unmap", "unmap-only")


@pytest.fixture(scope="module")
def predicted():
    return score.predictions("x86_64")


def test_every_cell_before_the_change_and_every_order_is_predicted(predicted):
    found, notes = predicted
    assert notes == ()
    cells, _ = fit.select("x86_64", ("references",))
    own = found[found["before"] == "references"]
    assert len(own) == (cells["order"] > 0).sum() + 2
    assert set(score.plain_rows(own)["order"]) == set(range(1, 9))
    assert (found["low"] <= found["best"]).all()
    assert (found["best"] <= found["high"]).all()


def test_what_is_predicted_does_not_depend_on_what_it_is_scored_by(predicted, tmp_path, shipped):
    found, _ = predicted
    before = score.write("x86_64", found, tmp_path / "before.json")

    def ten_times(runs):
        scored = (runs["arch"] == "x86_64") & runs["kernel"].isin(CHANGED)
        # Not one factor for all orders, or a ratio could hide it.
        factor = (10 + runs["order"]).where(scored, 1)
        return runs.assign(instructions=runs["instructions"] * factor)

    shipped("emulated/instructions.csv", ten_times)
    again, _ = score.predictions("x86_64")
    assert score.write("x86_64", again, tmp_path / "after.json") == before
    kept, written = ((tmp_path / f"{name}.json").read_bytes() for name in ("before", "after"))
    assert written == kept
    assert score.scored(tmp_path / "after.json")["error"].abs().max() > 1


def test_predictions_are_within_two_points_of_what_was_measured(predicted, tmp_path):
    path = tmp_path / "blind.json"
    ident = score.write("x86_64", predicted[0], path)
    assert json.loads(path.read_text(encoding="utf-8"))["id"] == ident
    found = score.scored(path)
    plain = score.plain_rows(found)
    assert set(plain[plain["measured"].isna()]["order"]) == {3, 6}
    plain = plain[plain["after"] == "unmap"]
    for row in plain.dropna(subset=["measured"]).itertuples():
        cells = measurements.plain_cells("x86_64", row.order)["instructions"]
        assert row.measured == pytest.approx(1 - cells[row.after] / cells[row.before])
        assert row.error == pytest.approx(row.best - row.measured)
        assert abs(row.error) <= score.TARGET
    for step in score.summary(found):
        assert step["cells"] == 26
        assert step["covered"] >= 0.95
        # The reference checks alone, from base alone, are told worse: by up to 7 points.
        assert step["largest_error"] <= (score.TARGET if step["after"] == "unmap" else 0.07)


def test_json_has_null_where_nothing_was_run(predicted, tmp_path):
    path = tmp_path / "blind.json"
    ident = score.write("x86_64", predicted[0], path)
    shown = score.to_dict("x86_64", ident, score.scored(path), ("a note",))
    back = json.loads(json.dumps(shown, allow_nan=False))
    assert back["notes"] == ["a note"]
    missing = [row for row in back["rows"] if row["measured"] is None]
    assert {row["order"] for row in missing} == {3, 6}
    assert all(row["error"] is None and row["covered"] is None for row in missing)


def test_a_step_that_nothing_tells_is_said():
    found, notes = score.predictions("arm64")
    assert set(found["before"]) == {"references"}
    assert len(notes) == 2
    assert all("not predicted: x86_64 cannot tell arm64 what" in note for note in notes)
    assert {note.partition(":")[0] for note in notes} == {"base to unmap", "base to references"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"predictions": 3, "arch": "x86_64"}'])
def test_a_file_without_predictions_is_refused(content, tmp_path):
    path = tmp_path / "blind.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ScoreError, match=r"blind.json: no predictions: .*reclaim score"):
        score.scored(path)
    with pytest.raises(ScoreError, match="no predictions"):
        score.scored(tmp_path / "missing.json")
