# SPDX-License-Identifier: GPL-2.0-only
"""The compiled walk is that of today's sources, and needs no disk to write to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sim

SOURCES = Path(sim.__file__).parent
WALKS = """
import sim, sim.jit
world = sim.World(map_bytes=1 << 20, reclaim_bytes=1 << 19, order=4)
print(sim.jit.CACHE, sim.reclaim(world, "arm64", "unmap").functions()["folio_pte_batch"])
"""


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SOURCES, tmp_path / "sim", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def walked(copy: Path, home: Path) -> tuple[str, int]:
    """Return the cache folder and the number of batches that a fresh interpreter counts."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(copy), "HOME": str(home)}
    command = [sys.executable, "-c", WALKS]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    folder, batches = done.stdout.rsplit(maxsplit=1)
    return folder, int(batches)


def test_an_edit_of_an_imported_module_is_compiled(copy):
    folder, batches = walked(copy, copy)
    assert Path(folder).is_relative_to(copy / "sim" / "__pycache__")
    assert any(Path(folder).rglob("*.nbi"))
    source = copy / "sim" / "rmap.py"
    counted = "counts[Count.FOLIO_PTE_BATCH] += nr"
    source.write_text(source.read_text().replace(counted, counted.replace("nr", "2 * nr")))
    edited_folder, edited = walked(copy, copy)
    assert edited_folder != folder
    assert edited == 2 * batches


def test_the_walk_runs_where_no_cache_can_be_written(copy):
    (copy / "sim" / "__pycache__").write_text("in the way of a folder")
    (copy / "home").write_text("in the way of a folder")
    folder, batches = walked(copy, copy / "home")
    assert folder == "None"
    assert batches > 0
