# SPDX-License-Identifier: GPL-2.0-only
"""What README and docs/ say to type for the lab takes minutes to run, so that it is parsed."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lab import cli

ROOT = Path(__file__).resolve().parents[1]
TREES = ["--before", "v7.2", "--after", "my-branch"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def inline(text):
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", prose))


def commands(text):
    lines = re.findall(r"^ {4}(reclaim lab .*)$", text.replace("\\\n", ""), re.MULTILINE)
    return [*lines, *(code for code in inline(text) if code.startswith("reclaim lab "))]


def options(text):
    return [code for code in inline(text) if re.match("--[a-z]", code)]


def found(of):
    return [(page.name, code) for page in PAGES for code in of(page.read_text())]


def parsed(*words):
    parser = argparse.ArgumentParser(prog="reclaim lab")
    cli.arguments(parser)
    return parser.parse_args(words)


def planned(*words):
    arguments = parsed(*words)
    if hasattr(arguments, "cpus"):
        cli.plan_of(arguments, getattr(arguments, "kernel", ("unmap",)))


def test_there_are_commands_to_check():
    pages = {page for page, _ in found(commands)}
    assert {"README.md", "measure-two-trees.md"} <= pages
    assert any("lab compare --git" in code for _, code in found(commands))


@pytest.mark.parametrize("code", [code for _, code in found(commands)])
def test_each_command_is_taken(code):
    words = shlex.split(code)[2:]
    trees = TREES if words[0] == "compare" and "--before" not in words else []
    planned(*words, *trees)


@pytest.mark.parametrize(
    "code", [code for page, code in found(options) if page == "measure-two-trees.md"]
)
def test_each_option_goes_with_compare(code):
    words = shlex.split(code)
    if len(words) > 1:
        planned("compare", *TREES, *words)
    else:
        assert hasattr(parsed("compare", *TREES), words[0].removeprefix("--"))


def test_one_that_is_not_taken_is_seen():
    with pytest.raises(SystemExit):
        planned("compare", *TREES, "--no-such")
