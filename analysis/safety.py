# SPDX-License-Identifier: GPL-2.0-only
"""Why batching is safe: random worlds are reclaimed with and without a batch, and must end alike.

What is compared is all that outlives the request: every page-table entry, mapcounts, references,
rss and swap counters, the LRU lists in order, and the flags of the folios that are kept. Two things
may differ, because the kernel means them to:

- the contiguous bit and PMD leaves, which are how entries are stored, not what they say;
- young, dirty and, on x86_64, soft-dirty of entries that are put back or become swap entries: a
  batch gathers them, so that an entry may gain such a bit. None may lose one.

A lazyfree folio of which only some entries were written is left out: without a batch its clean
pages in front go and the rest stays, with a batch all of it stays. And this is the classic LRU:
under lru_gen fewer looks around are meant to change what is scanned.
"""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from sim import ARCHES, KERNELS, MEASURED_ARCHES, World
from sim.ident import short_id
from sim.kernel import Kernel
from sim.layout import lay_out, page_table
from sim.reclaim import walk
from sim.state import (
    NR_EXTENTS,
    OLDEST,
    ORDER_SHIFT,
    PMD_LEAF,
    PTE_CONT,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_SWAP,
    PTE_UFFD_WP,
    PTE_WRITE,
    PTE_YOUNG,
    Memory,
)

_LAST = KERNELS["unmap"]
_ANON = _LAST._replace(batched_anon=True)
PAGE_BYTES = 4096
ASSUMPTIONS = (
    "classic LRU: under lru_gen, fewer looks around are meant to change what is scanned",
    "young, dirty and, on x86_64, soft-dirty bits of entries that are put back or swapped out may "
    "be gathered over a batch, never lost",
    "lazyfree folios were written whole or not at all: of a mixed one more is kept with a batch",
)
# Share of each order in random worlds: the large ones take longest and show least.
_ORDERS = (0.1, 0.1, 0.14, 0.14, 0.16, 0.12, 0.1, 0.06, 0.04, 0.04)
GATHERED = PTE_YOUNG | PTE_DIRTY | PTE_SOFT_DIRTY


@dataclass(frozen=True)
class Change:
    """A batch to be judged: a kernel without it, one with it, and the worlds that feel it."""

    name: str
    without: Kernel
    batched: Kernel
    workload: str


def _rule(rule: str, workload: str) -> Change:
    if workload == "file":
        without = _LAST._replace(batched_unmap=False)
    else:
        without = _LAST._replace(batched_lazyfree=False)
    return Change(f"without {rule}", without, _LAST._replace(**{rule: False}), workload)


# Each batch of Linux 7.2, and the one proposed for swap-backed folios.
BATCHES = (
    Change("reference checks", KERNELS["base"], KERNELS["references"], "file"),
    Change("unmapping of file folios", KERNELS["references"], _LAST, "file"),
    Change(
        "unmapping of lazyfree folios", _LAST._replace(batched_lazyfree=False), _LAST, "lazyfree"
    ),
    Change("unmapping of anonymous folios", _LAST, _ANON, "anon"),
)
# The same unmapping with one rule of where a batch ends taken away.
RULES_REMOVED = (
    _rule("refuses_uffd_wp", "file"),
    _rule("stops_at_page_table", "file"),
    _rule("respects_write", "lazyfree"),
    _rule("respects_soft_dirty", "lazyfree"),
)


@dataclass(frozen=True)
class Verdict:
    """What the worlds said of one change.

    Attributes:
        change: what was judged.
        nr_worlds: worlds tried.
        nr_differing: of those, how many ended differently.
        smallest: the smallest of these, shrunk, with its architecture; None if there is none.
    """

    change: Change
    nr_worlds: int
    nr_differing: int
    smallest: tuple[World, str] | None

    @cached_property
    def world_text(self) -> str:
        """The smallest world in words: what of it is out of the ordinary."""
        if not self.smallest:
            return ""
        left_out = {"map_bytes", "reclaim_bytes", "access", "lru_add_batch", "stats_flush", "seed"}
        left_out |= {"request", "cpus"}
        world = self.smallest[0]
        nr_pages = world.map_bytes // PAGE_BYTES
        told_of = [
            f"{n} {v:g}" if isinstance(v, float) else f"{n} {v}"
            for n, v in world.inputs.items()
            if n not in left_out
        ]
        return ", ".join([f"{nr_pages} pages", *told_of])

    @cached_property
    def id(self) -> str:
        """Id of the question and its outcome."""
        smallest = [self.smallest[0].inputs, self.smallest[1]] if self.smallest else None
        return short_id([self.change.name, self.nr_worlds, self.nr_differing, smallest])


def judge_all(nr_worlds: int, seed: int = 0) -> list[Verdict]:
    """Judge every batch, then the unmapping with each rule taken away."""
    return [judge(change, nr_worlds, seed) for change in (*BATCHES, *RULES_REMOVED)]


def to_text(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as lines of at most 75 columns, ASCII: fit for a commit message."""
    lines = [f"{'random worlds, classic LRU':<42}{'tried':>8}{'differ':>8}"]
    for verdict in verdicts:
        name = f"{verdict.change.name} ({verdict.change.workload})"
        lines.append(f"{name:<42}{verdict.nr_worlds:>8,}{verdict.nr_differing:>8,}")
        if verdict.smallest:
            told_of = f"smallest: {verdict.smallest[1]}, {verdict.world_text}"
            lines += textwrap.wrap(told_of, 75, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def table(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Return a row a verdict: change, workload, worlds, differing, smallest."""
    return pd.DataFrame(
        {
            "change": verdict.change.name,
            "workload": verdict.change.workload,
            "worlds": verdict.nr_worlds,
            "differing": verdict.nr_differing,
            "smallest": ", ".join(
                filter(None, [verdict.smallest and verdict.smallest[1], verdict.world_text])
            )
            or "-",
        }
        for verdict in verdicts
    )


def judge(change: Change, nr_worlds: int, seed: int = 0) -> Verdict:
    """Try a change on random worlds of its workload, and shrink the smallest that differs."""
    rng = np.random.default_rng([seed, len(change.name)])
    differing = []
    for _ in range(nr_worlds):
        world, arch = random_world(rng, change.workload)
        if differences(change, world, arch):
            differing.append((world, arch))
    smallest = None
    if differing:
        world, arch = min(differing, key=lambda found: (found[0].map_bytes, found[0].mapped_by))
        smallest = shrink(change, world, arch)
    return Verdict(change, nr_worlds, len(differing), smallest)


def random_world(rng: np.random.Generator, workload: str) -> tuple[World, str]:
    """Return an irregular world of up to 1,100 pages, and an architecture for it."""
    arch = str(rng.choice(MEASURED_ARCHES))
    mixed = rng.random() < 0.3
    order = None if mixed else int(rng.choice(10, p=_ORDERS))
    folios = "0:0.2,2:0.3,4:0.5" if mixed else ""
    nr_pages = int(rng.integers(1, 4 if mixed or order < 9 else 3)) << (4 if mixed else order)
    anonymous = workload == "anon"
    share = lambda: float(rng.choice([0.0, 0.0, 0.3, 0.8, 1.0]))  # noqa: E731
    few = lambda: float(rng.choice([0.0, 0.0, 0.0, 0.4]))  # noqa: E731
    uniform = lambda: float(rng.integers(0, 2))  # noqa: E731
    shift = int(rng.choice([0, 0, 1, 3, 8, 500, 511])) if not anonymous else 0
    changes = {
        "young": share(),
        "writable": uniform() if anonymous else share(),
        "dirty": uniform() if workload == "lazyfree" else share(),
        "soft_dirty": share() if arch == "x86_64" else 0.0,
        "uffd_wp": (uniform() if anonymous else share()) if rng.random() < 0.4 else 0.0,
        "vma_shift": shift,
        "partly_mapped": few() if not anonymous else 0.0,
        "dirty_folios": few(),
        "pinned": few(),
        "hwpoison": few() if rng.random() < 0.3 else 0.0,
    }
    if workload == "file":
        changes["vma_cut"] = int(rng.choice([0, 0, 0, 1, 2, 5])) if nr_pages > 12 else 0
        changes["mappings"] = int(rng.choice([1, 1, 2]))
    if not anonymous:
        changes["request"] = "memory.reclaim"
        changes["mapped_by"] = int(rng.integers(1, 3))
        changes["mlocked"] = int(rng.random() < 0.1)
    world = World(
        map_bytes=nr_pages * PAGE_BYTES,
        reclaim_bytes=int(rng.integers(1, 2 * nr_pages + 1)) * PAGE_BYTES,
        order=order,
        folios=folios,
        workload=workload,
        cpus=int(rng.integers(1, 3)),
        seed=int(rng.integers(0, 1 << 31)),
        **changes,
    )
    return world, arch


def shrink(change: Change, world: World, arch: str) -> tuple[World, str]:
    """Return a world that still differs, from which nothing more can be taken away."""
    while True:
        for smaller in _smaller(world):
            if differences(change, smaller, arch):
                world = smaller
                break
        else:
            return world, arch


def _smaller(world: World) -> Iterable[World]:
    plain = {"young": 0.0, "dirty": 0.0, "writable": 0.0, "soft_dirty": 0.0, "uffd_wp": 0.0}
    plain |= {"vma_shift": 0, "vma_cut": 0, "partly_mapped": 0.0, "dirty_folios": 0.0}
    plain |= {"pinned": 0.0, "hwpoison": 0.0, "mlocked": 0}
    plain |= {"mapped_by": 1, "mappings": 1, "cpus": 1, "seed": 0}
    for name, value in plain.items():
        if getattr(world, name) != value:
            yield replace(world, **{name: value})
    for order in range(1, world.order or 0):
        yield replace(world, order=order, map_bytes=PAGE_BYTES << order)
    if world.order is None:
        for order in (1, 2, 3):
            yield replace(world, folios="", order=order, map_bytes=PAGE_BYTES << order)
    else:
        for nr in range(1, world.map_bytes // (PAGE_BYTES << world.order)):
            yield replace(world, map_bytes=nr * PAGE_BYTES << world.order)
    if world.reclaim_bytes > PAGE_BYTES:
        yield replace(world, reclaim_bytes=PAGE_BYTES)


def differences(change: Change, world: World, arch: str) -> dict[str, tuple[list, list]]:
    """Return what differs at the end, without the batch and with it, by name; empty if nothing."""
    without, batched = (
        final_state(world, arch, kernel) for kernel in (change.without, change.batched)
    )
    found = {
        name: (values, batched[name])
        for name, values in without.items()
        if name != "entries" and values != batched[name]
    }
    if _lost(without["entries"], batched["entries"]):
        found["entries"] = without["entries"].tolist(), batched["entries"].tolist()
    return found


def _lost(without: np.ndarray, batched: np.ndarray) -> bool:
    # Whether an entry says less, or something else, than it did without the batch.
    differ = without ^ batched
    return bool(np.any(differ & (0xFF ^ GATHERED)) or np.any(differ & without))


def final_state(world: World, arch: str, kernel: Kernel) -> Mapping[str, object]:
    """Return what outlives a request: "entries", uint8, shape (VMAs, pages), and lists by name."""
    memory = lay_out(world, ARCHES[arch])
    _, result = walk(world, memory, arch, kernel)
    nr_entries = 1 << ARCHES[arch].pmd_order
    entries = np.array([_entries(memory, vma, nr_entries) for vma in range(len(memory.vmas))])
    lists = memory.lruvec
    ledger = memory.ledger
    return {
        "entries": entries,
        "result": result,
        "flags of folios": memory.folio_flags.tolist(),
        "mapcounts": ledger.mapcounts.tolist(),
        "references": ledger.refs.tolist(),
        "swap slots in use": ledger.swap_map.tolist(),
        "rss": ledger.rss.tolist(),
        "LRU lists": [
            _oldest_first(lru)
            for lru in (lists.inactive, lists.active, lists.unevictable, lists.anon)
        ],
    }


def _entries(memory: Memory, vma: int, nr_entries: int) -> np.ndarray:
    # A leaf is told as the entries that it stands for.
    entries = page_table(memory, vma, nr_entries)
    present = entries & PTE_PRESENT > 0
    leaves = np.flatnonzero(present & (entries & PMD_LEAF > 0))
    for page in leaves:
        nr = 1 << (memory.folio_flags[page] >> ORDER_SHIFT)
        entries[page : page + nr] = entries[page] & (0xFF ^ PMD_LEAF)
    return entries & (0xFF ^ PTE_CONT)


def _oldest_first(lru) -> list[int]:
    nr, oldest = lru.state[NR_EXTENTS], lru.state[OLDEST]
    slots = (oldest + np.arange(nr)) % len(lru.extents)
    return [page for first, end in lru.extents[slots] for page in range(first, end)]


def told(found: Mapping[str, tuple]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return what differs as two rows of cells, without the batch and with it, for a reader.

    Each cell has its text and whether it differs: page-table entries if they do, else the first
    other thing, by name. At most 16 cells from the first that differs.
    """
    name = "entries" if "entries" in found else next(iter(found))
    without, batched = (np.ravel(np.array(values, dtype=object)) for values in found[name])
    first = max(int(np.flatnonzero(without != batched)[0]) - 2, 0)
    say = _entry if name == "entries" else str
    pairs = list(zip(without, batched, strict=True))[first : first + 16]
    return [
        (f"{label}: {name}", [(say(pair[row]), pair[0] != pair[1]) for pair in pairs])
        for row, label in enumerate(("without", "batched"))
    ]


def _entry(entry: int) -> str:
    if not entry:
        return "none"
    if not entry & PTE_PRESENT:
        return "swap" if entry & PTE_SWAP else "wp marker"
    bits = {
        PTE_YOUNG: "y", PTE_DIRTY: "d", PTE_WRITE: "w", PTE_SOFT_DIRTY: "s", PTE_UFFD_WP: "u",
    }  # fmt: skip
    return "".join(["p", *(letter for bit, letter in bits.items() if entry & bit)])
