# SPDX-License-Identifier: GPL-2.0-only
"""README.md: every shell and Python block is run, and the answer is today's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import readme

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
INSIDE = "RECLAIM_README_TEST"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the tracked files whose .venv is the environment that runs this test."""
    place = tmp_path_factory.mktemp("read me") / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    venv = place / ".venv"
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name not in ("locked", "ready"):
            (venv / entry.name).symlink_to(entry)
    for stamp in ("locked", "ready"):  # set up already, as far as make can tell
        (venv / stamp).touch()
    return place


def run(block: str, place: Path) -> subprocess.CompletedProcess:
    # `make test` inside the tests runs one file of them, or it would never end.
    environment = os.environ | {INSIDE: "1", "PYTEST_ADDOPTS": "-k test_world -p no:cacheprovider"}
    environment.pop("NUMBA_DISABLE_JIT", None)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the make test of the README's own block")
@pytest.mark.parametrize("block", [code for kind, code in BLOCKS if kind == "sh"])
def test_shell_blocks_run(block, checkout):
    done = run(block, checkout)
    assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    if block.strip() == "make":
        page = (checkout / "build" / "index.html").stat().st_mtime_ns
        assert run("make", checkout).returncode == 0
        assert (checkout / "build" / "index.html").stat().st_mtime_ns == page


@pytest.mark.parametrize("block", [code for kind, code in BLOCKS if kind == "python"])
def test_python_blocks_print_what_they_say(block):
    said = re.search(r"# (\S+)$", block, re.MULTILINE)[1]
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_every_block_is_of_a_kind_that_is_run():
    assert BLOCKS
    assert {kind for kind, _ in BLOCKS} <= {"sh", "python"}
    assert README.count("```") == 2 * len(BLOCKS)


def test_answer_is_todays():
    assert readme.with_answer(README) == README, "run: python -m analysis.readme"


def test_picture_is_todays(tmp_path):
    svg, _ = readme.sheet.save(readme.answer_figure(), tmp_path / "answer")
    today, kept = (numbers(path) for path in (svg, ROOT / "docs" / "answer.svg"))
    assert kept
    assert today == pytest.approx(kept, abs=0.5), "run: python -m analysis.readme"


def numbers(svg: Path) -> list[float]:
    """Return the coordinates of the markers: another matplotlib may write the rest otherwise."""
    text = svg.read_text(encoding="utf-8")
    return [
        float(n) for pair in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', text) for n in pair
    ]
