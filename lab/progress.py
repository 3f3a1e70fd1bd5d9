# SPDX-License-Identifier: GPL-2.0-only
"""Progress: bars on stderr for what takes minutes, and nothing where nobody looks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from lab import build
from lab.console import Console
from lab.plan import Plan
from lab.tree import Tree

_COMPILED = re.compile(r"^\s+(?:CC|AS)\s")
_FILES = 1150  # of a first build, about


def built(arch: str, tree: Tree, switches: Sequence[str]) -> build.Image:
    """Return a kernel image, as `build.kernel`, with a bar of files compiled."""
    with tqdm(total=_FILES, desc=f"build {arch}", unit="file", disable=None, leave=False) as bar:
        return build.kernel(
            arch, tree, switches, heard=lambda line: bar.update(bool(_COMPILED.match(line)))
        )


@contextmanager
def cells(plan: Plan, nr_guests: int, profile: bool) -> Iterator[Callable[[str, Console], None]]:
    """Yield what `emulate.measure` calls with a guest's console: a bar of cells measured."""
    total = nr_guests * (len(plan.cells) + (len(plan.cells) // plan.reps if profile else 0))
    seen: dict[Console, int] = {}  # kept, for the next boot's may not be taken for this one
    with tqdm(total=total, desc="measure", unit="cell", disable=None, leave=False) as bar:

        def heard(_: str, console: Console) -> None:
            if (done := len(console.runs)) > seen.get(console, 0):
                bar.update(done - seen.get(console, 0))
                seen[console] = done

        yield heard
