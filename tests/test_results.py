# SPDX-License-Identifier: GPL-2.0-only
import errno
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import files, params, results
from analysis.interval import Interval
from analysis.results import ResultsError

NOTEBOOK = "05_predict_x86"


@pytest.fixture
def asked(tmp_path):
    return params.read(NOTEBOOK, {"out": str(tmp_path / "out")})


def titled_figure(title="a finding"):
    figure = Figure()
    figure.suptitle(title)
    return figure


def save_all(asked, **changed):
    return results.save(
        asked,
        "It is so.",
        numbers={"n": np.int64(3), "best": Interval(0.1, 0.2, np.float64(0.3)), "none": np.nan},
        assumptions=["one"],
        drawn={"drawn": titled_figure("two\nlines")},
        tables={"table": pd.DataFrame({"a": [1, 2]}, index=[7, 8])},
        texts={"message.txt": "text\n"},
        **changed,
    )


def test_everything_is_written_and_named_json_last(asked, tmp_path):
    paths = save_all(asked)
    out = tmp_path / "out"
    names = ["figures/drawn.svg", "figures/drawn.png", "tables/table.csv", "message.txt"]
    assert paths == [out / name for name in [*names, f"results/{NOTEBOOK}.json"]]
    assert {path for path in out.rglob("*") if path.is_file()} == set(paths)
    saved = json.loads(paths[-1].read_text())
    assert saved["numbers"] == {
        "n": 3,
        "best": {"low": 0.1, "best": 0.2, "high": 0.3},
        "none": None,
    }
    assert saved["figures"] == [{"name": "drawn", "title": "two lines"}]
    assert (saved["tables"], saved["texts"]) == (["table"], ["message.txt"])
    assert saved["inputs"] == params.inputs(asked)
    assert saved["title"] == "Predict what x86 gains"
    assert saved["question"].endswith("?")
    assert (out / "tables/table.csv").read_text() == "a\n1\n2\n"


def test_an_empty_out_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert save_all(params.read(NOTEBOOK, {})) == []
    assert list(tmp_path.iterdir()) == []


def test_the_same_results_are_the_same_bytes(asked):
    first = {path: path.read_bytes() for path in save_all(asked)}
    second = {path: path.read_bytes() for path in save_all(asked)}
    assert first == second


def test_the_id_follows_inputs_and_numbers_but_not_the_folder(tmp_path):
    def saved_id(out, numbers, **given):
        asked = params.read(NOTEBOOK, given | {"out": str(tmp_path / out)})
        path = results.save(asked, "It is so.", numbers=numbers)[-1]
        return json.loads(path.read_text())["id"]

    assert saved_id("a", {"n": 1}) == saved_id("b", {"n": 1})
    assert saved_id("a", {"n": 1}) != saved_id("a", {"n": 2})
    assert saved_id("a", {"n": 1}) != saved_id("a", {"n": 1}, orders="4")


def test_what_is_not_json_is_a_defect_of_the_notebook(asked):
    with pytest.raises(TypeError, match="Timestamp"):
        results.save(asked, "It is so.", numbers={"when": pd.Timestamp(0)})


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ResultsError, match=r"out.*must name a folder that can be written"):
        save_all(params.read(NOTEBOOK, {"out": str(tmp_path / "out")}))
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_leaves_no_result_that_names_missing_files(asked, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "table.csv")

    monkeypatch.setattr(results, "write_whole", full)
    with pytest.raises(ResultsError, match=r"table\.csv: No space left on device"):
        save_all(asked)
    assert results.read(tmp_path / "out") == {}


def test_read_leaves_out_what_is_not_a_result(asked, tmp_path):
    save_all(asked)
    folder = tmp_path / "out" / "results"
    for name, text in {"torn": "{", "list": "[]", "other": '{"notebook": "x"}'}.items():
        files.write_whole(folder / f"{name}.json", text.encode())
    assert list(results.read(tmp_path / "out")) == [NOTEBOOK]


def test_remove_takes_what_the_result_names_and_nothing_else(asked, tmp_path):
    save_all(asked)
    out = tmp_path / "out"
    bystander = files.write_whole(out / "figures" / "mine.svg", b"mine")
    outside = files.write_whole(tmp_path / "message.txt", b"mine")
    result = results.read(out)[NOTEBOOK] | {"texts": ["../message.txt"]}
    results.remove(out, NOTEBOOK, result)
    assert [path for path in out.rglob("*") if path.is_file()] == [bystander]
    assert outside.exists()
