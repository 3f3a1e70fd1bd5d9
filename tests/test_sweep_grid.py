# SPDX-License-Identifier: GPL-2.0-only
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from analysis import grid
from analysis.grid import GridError
from analysis.params import NOTEBOOKS, ParamsError

SIMULATE = NOTEBOOKS / "02_simulate_reclaim.ipynb"


@pytest.fixture
def foreign(tmp_path):
    cell = new_code_cell("a = 1\nb = 'x'", metadata={"tags": ["parameters"]})
    path = tmp_path / "mine.ipynb"
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def picked(notebook, *asked):
    names = [text.partition("=")[0] for text in asked]
    return [tuple(point[name] for name in names) for point in grid.points(notebook, asked)]


def test_a_grid_is_every_combination_the_last_fastest():
    assert picked(SIMULATE, "order=0:1", "arch=arm64,x86_64") == [
        (0, "arm64"), (0, "x86_64"), (1, "arm64"), (1, "x86_64"),
    ]  # fmt: skip
    assert len(grid.points(SIMULATE, ["order=0:9", "arch=arm64,x86_64", "kernel=base,unmap"])) == 40


def test_a_point_has_every_parameter_but_out():
    (point,) = grid.points(SIMULATE, [])
    assert "out" not in point
    assert (point["order"], point["kernel"]) == (4, "unmap")


def test_ranges_and_values_mix():
    assert picked(SIMULATE, "order=9, 0:2,4") == [(9,), (0,), (1,), (2,), (4,)]


def test_text_is_no_range_and_a_quoted_value_keeps_its_comma():
    message = NOTEBOOKS / "06_commit_message.ipynb"
    assert picked(message, "orders=0:9,4") == [("0:9",), ("4",)]
    assert picked(message, 'arches="arm64,x86_64",x86_64') == [("arm64,x86_64",), ("x86_64",)]
    assert picked(NOTEBOOKS / "compare_ab.ipynb", "effect=0.05,1") == [(0.05,), (1.0,)]


def test_another_notebook_is_asked_what_it_takes(foreign):
    assert picked(foreign, "a=-1:1", "b=none,True,1.5,1e3,nan,y") == [
        (a, b) for a in (-1, 0, 1) for b in (None, True, 1.5, 1000.0, "nan", "y")
    ]
    assert grid.points(foreign, []) == [{}]
    assert not grid.takes_out(foreign)
    with pytest.raises(GridError, match=r"mine\.ipynb: no parameter c; there are a, b"):
        grid.points(foreign, ["c=1"])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["order"], "'order': expected NAME=VALUES"),
        (["=1"], "expected NAME=VALUES"),
        (["or der=1"], "expected NAME=VALUES"),
        (["order="], "a value is empty"),
        (["order=1,,2"], "a value is empty"),
        (["order=9:0"], "9:0: holds no number; write the smaller one first"),
        (["order=0:999999999"], "1,000,000,000 values; expected at most 100,000"),
        (
            ["order=0:9", "mapped_by=1:1024", "cpus=1,2", "arch=a,b,c,d,e"],
            "102,400 points: expected at most 100,000",
        ),
        (["order=1,0:3"], "order=1,0:3: 1 is there twice"),
        (["arch=arm64,arm64"], "arm64 is there twice"),
        (["order=1", "order=2"], "order is given twice; put its values into one -p"),
        (["out=here"], "use --out DIR"),
        (['arch="arm64'], "quote a value with commas"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(asked, told):
    with pytest.raises(GridError) as refusal:
        grid.points(SIMULATE, asked)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    "asked", ["ordr=1", "order=0:10", "order=four", "arch=arm", "map_size=some"]
)
def test_a_point_that_the_notebook_refuses_is_refused_before_anything_runs(asked):
    with pytest.raises(ParamsError, match="02_simulate_reclaim: "):
        grid.points(SIMULATE, [asked])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no JSON", "no notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {"kernelspec": '
         '{"name": "ir", "display_name": "R", "language": "R"}}}', "written in R"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_python_notebook_is_refused(tmp_path, text, told):
    (tmp_path / "odd.ipynb").write_text(text)
    with pytest.raises(GridError, match=told):
        grid.points(tmp_path / "odd.ipynb", [])


def test_a_notebook_is_found_by_path_and_by_name(foreign, monkeypatch):
    assert grid.find("02_simulate_reclaim") == grid.find(str(SIMULATE)) == SIMULATE
    monkeypatch.chdir(foreign.parent)
    assert grid.find("mine.ipynb") == foreign
    for name in ("nowhere.ipynb", "nowhere/02_simulate_reclaim.ipynb", ""):
        with pytest.raises(GridError, match="no such notebook; there are 01_measurements"):
            grid.find(name)


def test_what_is_swept_and_what_it_is_called():
    points = grid.points(SIMULATE, ["order=0:1", "arch=arm64,x86_64", "kernel=base"])
    assert sorted(grid.swept(points)) == ["arch", "order"]
    assert grid.label(points[0], ["order", "arch"]) == "order=0 arch=arm64"
