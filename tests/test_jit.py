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
# One function that calls one of another file: all of the walk would take a minute to compile.
WALKS = """
import numpy as np
import sim, sim.jit
from sim.layout import lay_out
from sim.state import PARTIALLY_MAPPED, Count
from sim.unmap import deferred_split_folio
world = sim.World(map_bytes=1 << 20, reclaim_bytes=1 << 19, order=1, workload="lazyfree")
memory = lay_out(world, sim.ARCHES["x86_64"])
counts = np.zeros(len(Count), np.int64)
deferred_split_folio(0, 1, memory, counts)
queued = memory.folio_flags[0] & PARTIALLY_MAPPED > 0
print(sim.jit.CACHE, counts[Count.DEFERRED_SPLIT_FOLIO] + 10 * queued)
"""


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SOURCES, tmp_path / "sim", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def walked(copy: Path, home: Path) -> tuple[str, int]:
    """Return the cache folder, and what a fresh interpreter counts: 1, or 11 for order 2 and up."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(copy), "HOME": str(home)}
    command = [sys.executable, "-c", WALKS]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    folder, counted = done.stdout.rsplit(maxsplit=1)
    return folder, int(counted)


def test_an_edit_of_an_imported_module_is_compiled(copy):
    folder, counted = walked(copy, copy)
    assert Path(folder).is_relative_to(copy / "sim" / "__pycache__")
    assert any(Path(folder).rglob("*.nbi"))
    source = copy / "sim" / "folios.py"
    order = "return memory.folio_flags[folio] >> ORDER_SHIFT"
    one_more = "return (memory.folio_flags[folio] >> ORDER_SHIFT) + 1"
    text = source.read_text()
    assert order in text
    source.write_text(text.replace(order, one_more))
    edited_folder, edited = walked(copy, copy)
    assert edited_folder != folder
    assert (counted, edited) == (1, 11)


def test_the_walk_runs_where_no_cache_can_be_written(copy):
    (copy / "sim" / "__pycache__").write_text("in the way of a folder")
    (copy / "home").write_text("in the way of a folder")
    folder, counted = walked(copy, copy / "home")
    assert folder == "None"
    assert counted == 1
