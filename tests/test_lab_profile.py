# SPDX-License-Identifier: GPL-2.0-only
import shutil
import subprocess

import pytest

from lab import profile, tables
from lab.console import Run
from lab.errors import LabError
from lab.plan import Plan

MAP = """\
0000000000000000 A fixed
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 T startup
ffffffff81000100 t __pfx_shrink_node
ffffffff81000110 t shrink_node
ffffffff81000110 t shrink_alias
ffffffff81000200 T try_to_unmap
ffffffff81000300 T _etext
ffffffff81000400 T data_that_is_none
"""
RUN = Run("classic", "unmap", 4, 0, 101, 1, 1, 1, 1, 0, 0, 1)


def test_functions_end_where_the_text_does():
    starts, names = profile.symbols(MAP)
    assert [start & 0xFFF for start in starts] == [0x0, 0x110, 0x200, 0x300]
    assert names == ["startup", "shrink_node", "try_to_unmap"]


def test_a_map_without_text_is_refused():
    with pytest.raises(LabError, match="found no functions"):
        profile.symbols("ffffffff81000400 D data\n")


def test_stacks_are_named_and_counted():
    text = "run\n 5\n1;2; 70\n1; 20\n-3;2; 5\nrun\n1; 1\n"
    first, second = profile.read(text, ["startup", "shrink_node", "try_to_unmap"])
    assert first == {
        (): 5,
        ("shrink_node", "try_to_unmap"): 70,
        ("shrink_node",): 20,
        ("[other task]", "try_to_unmap"): 5,
    }
    assert second == {("shrink_node",): 1}
    found = profile.Profile("arm64", RUN, first)
    assert found.total == 100
    assert found.own == {"try_to_unmap": 75, "shrink_node": 20, "init": 5}
    assert found.beneath == {"init": 100, "shrink_node": 90, "try_to_unmap": 75, "[other task]": 5}
    assert "init;shrink_node;try_to_unmap 70\n" in found.folded()


def test_functions_of_a_thousandth_are_in_the_table():
    stacks = {("shrink_node", "try_to_unmap"): 9_980, ("shrink_node",): 19, ("rare",): 1}
    plan = Plan(kernels=("unmap",), orders=(4,), lrus=("classic",))
    rows = profile.functions(plan, [profile.Profile("arm64", RUN, stacks)])
    found = [(row["function"], row["own"], row["beneath"]) for row in rows]
    assert found[0] == ("init", 0, 10_000)
    assert found[1:] == [("shrink_node", 19, 9_999), ("try_to_unmap", 9_980, 9_980)]
    assert all(tuple(row) == tables.FUNCTIONS for row in rows)
    assert {(row["arch"], row["order"], row["kernel"]) for row in rows} == {("arm64", 4, "unmap")}


@pytest.mark.parametrize("text", ["1; 70\n", "run\nnonsense\n", "run\n1;2 5\n"])
def test_what_the_plugin_did_not_write_is_refused(text):
    with pytest.raises(LabError, match="expected indices and a count"):
        list(profile.read(text, ["a", "b", "c"]))


def test_the_top_is_ascii_of_75_columns():
    found = profile.Profile("arm64", RUN, {("a" * 60,): 90, ("b",): 10})
    text = profile.top([found], 1)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "the guest's own clock: 101 (-0.990%)" in text


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_the_plugin_compiles_without_a_warning(tmp_path):
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-DPLUGIN_VERSION=1"]
    subprocess.run([*command, "-o", tmp_path / "a.so", profile.SOURCE], check=True)
