# SPDX-License-Identifier: GPL-2.0-only
"""README.md and docs/: every shell and Python block is run, and the answer is today's."""

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
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Return kind and content of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


BLOCKS = blocks_of(README)
PYTHON = [code for text in (README, *DOCS.values()) for kind, code in blocks_of(text)
          if kind == "python"]  # fmt: skip
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


@pytest.mark.parametrize("name", DOCS)
def test_shell_blocks_of_a_page_run_one_after_the_other(name, checkout):
    block = "\n".join(code for kind, code in blocks_of(DOCS[name]) if kind == "sh")
    done = run(block, checkout)
    assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_print_what_they_say(block):
    said = re.search(r"print\(.*# (.+)$", block.rstrip())[1]
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True)
    assert " ".join(done.stdout.split()) == said


@pytest.mark.parametrize("text", [README, *DOCS.values()], ids=["README.md", *DOCS])
def test_every_block_is_of_a_kind_that_is_run(text):
    found = blocks_of(text)
    assert found
    assert {kind for kind, _ in found} <= {"sh", "python"}
    assert text.count("```") == 2 * len(found)


@pytest.mark.parametrize("text", [README, *DOCS.values()], ids=["README.md", *DOCS])
def test_commands_within_a_sentence_have_that_name_and_those_options(text, run):
    prose = re.sub(r"(?ms)^```.*?^```$", "", text)
    for told in re.findall(r"(?m)(?:^ {4}|`)(reclaim \w[^`]*?)(?:`|$)", prose):
        _, *words = told.split()
        command = words[: 2 if words[0] == "lab" and len(words) > 1 else 1]
        status, shown, _ = run(*command, "--help")
        assert status == 0, told
        assert [word for word in words if word.startswith("--") and word not in shown] == []


@pytest.mark.parametrize("name", DOCS)
def test_links_and_names_of_files_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)]+)\)", DOCS[name]):
        page, _, heading = link.partition("#")
        titles = re.findall(r"^#+ (.+)$", DOCS[page], re.MULTILINE)
        assert not heading or heading in [title.lower().replace(" ", "-") for title in titles]
    for path in re.findall(r"`((?:sim|analysis|data|tests|docs|notebooks)/[\w./]*)`", DOCS[name]):
        assert (ROOT / path).exists()


def test_answer_is_todays():
    assert readme.with_answer(README) == README, "run: python -m analysis.readme"


def test_picture_is_todays(tmp_path):
    svg, _ = readme.sheet.save(readme.answer_figure(), tmp_path / "answer")
    today, kept = (numbers(path) for path in (svg, ROOT / "docs" / "answer.svg"))
    assert kept
    assert "prefers-color-scheme: dark" in (ROOT / "docs" / "answer.svg").read_text()
    assert today == pytest.approx(kept, abs=0.5), "run: python -m analysis.readme"


def numbers(svg: Path) -> list[float]:
    """Return the coordinates of the markers: another matplotlib may write the rest otherwise."""
    text = svg.read_text(encoding="utf-8")
    return [
        float(n) for pair in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', text) for n in pair
    ]
