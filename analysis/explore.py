# SPDX-License-Identifier: GPL-2.0-only
"""One request under two kernels, as fast as a control moves: events, costs, what is saved.

A mixture of folio orders is simulated as it is; it is priced as its orders alone, each by its share
of the memory, because costs are fitted to worlds of one order.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis import elapsed, fit, machines, params, predict, report, timing
from analysis.groups import GROUPS
from analysis.ingest import symbols
from analysis.interval import Interval
from analysis.samples import Samples
from analysis.stalls import NR_PRICES, group_counts_of, terms_of
from analysis.units import folio_size
from sim import ARCHES, Events, World
from sim.events import listed
from sim.ident import short_id

# Rows of events that are shown: those that differ most, then those that happen most.
NR_EVENTS = 10
# What is simulated while a reader waits: bytes mapped, times the processes that map them, times the
# simulations that it takes. 10 GiB of one order and process are 40; they take 40 to 70 ms. And what
# is where more must be drawn than that: a part of it, of no more processes than that.
AT_ONCE_BYTES, SMALL_PART, SMALL_PROCESSES = 48 << 30, 4, 8
# What kernels save that execute the same events.
NOTHING = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Cost:
    """What both kernels spend, and what `after` saves of it: 1 - after / before."""

    unit: str
    before: Interval
    after: Interval
    reduction: Interval


@dataclass(frozen=True)
class Answer:
    """One request under two kernels.

    Attributes:
        asked: the request.
        before, after: its events.
        instructions, time: its costs, 95% intervals.
    """

    asked: params.Explore
    before: Events
    after: Events
    instructions: Cost
    time: Cost

    @cached_property
    def id(self) -> str:
        """Id of the events and of what they cost."""
        ends = [f"{end:.6g}" for cost in (self.instructions, self.time) for end in cost.reduction]
        return short_id([self.before.id, self.after.id, ends])

    @property
    def folios(self) -> str:
        """The folios, as people say them: "64 KiB", or "20% 4 KiB, 80% 64 KiB"."""
        shares = self.asked.world.shares
        if len(shares) == 1:
            return folio_size(*shares)
        return ", ".join(f"{share:.0%} {folio_size(order)}" for order, share in shares.items())

    @property
    def finding(self) -> str:
        """What changes, in one sentence."""
        asked = self.asked
        if self.before.counts == self.after.counts:
            return (
                f"{asked.arch}, {self.folios}: {asked.before} and {asked.after} execute the same "
                "events, nothing is saved"
            )
        return (
            f"{asked.arch}, {self.folios}: {asked.after} saves "
            f"{percent(self.instructions.reduction)} of the instructions of {asked.before}, and "
            f"{percent(self.time.reduction)} of the time"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known to read it."""
        world = self.asked.world
        mixed = "a mixture is priced as the sum of its orders, each as if it were alone"
        return (
            "events: exact, of Linux 7.2, one CPU; W/o and W/: without and with the change",
            "instructions: fitted to Linux 7.2 under emulation; time: predicted for the "
            f"{machines.reference(self.asked.arch).name}; lines are 95% intervals",
            *([mixed] if len(world.shares) > 1 else []),
            *dict.fromkeys((*self.before.warnings, *self.after.warnings)),
        )

    def events(self, also: tuple[str, ...] = ()) -> pd.DataFrame:
        """Return the events that differ most, or happen most: function, before, after.

        `also` names functions that are returned whatever they do.
        """
        sides = [pd.Series(events.functions(), dtype=float) for events in (self.before, self.after)]
        table = pd.concat(sides, axis=1, keys=["before", "after"]).fillna(0.0)
        table["change"] = (table["before"] - table["after"]).abs()
        ranked = table.sort_values(["change", "before"], ascending=False, kind="stable")
        names = list(dict.fromkeys([*ranked.index[:NR_EVENTS], *also]))
        shown = ranked[["before", "after"]].reindex(names, fill_value=0.0)
        return shown.rename_axis("function").reset_index()


def request(asked: params.Explore) -> str:
    """Return what is asked of how much memory: "8G of 10G, mapped by 16 processes"."""
    mapped = "" if asked.mapped_by == 1 else f", mapped by {asked.mapped_by:,} processes"
    return f"{asked.reclaim_size} of {asked.map_size}{mapped}"


def percent(reduction: Interval) -> str:
    """Return "39% (37% to 41%)", or with a decimal where the ends would look alike without."""
    return reduction.percent(_digits(reduction))


def _digits(reduction: Interval) -> int:
    return 1 if 0 < reduction.high - reduction.low < 0.02 else 0


# Two at once: each holds its page tables in memory.
_THREADS = ThreadPoolExecutor(2, "simulate")


def start(asked: params.Explore) -> list[Future]:
    """Start all that `answer` simulates, beside this thread; what is done is remembered."""
    return [_THREADS.submit(timing.simulated, *each) for each in _simulations(asked)]


def _simulations(asked: params.Explore) -> list[tuple[World, str, str, str]]:
    # Of what is shown, and of what prices it.
    world = asked.world
    alone = [
        replace(world, order=order, folios="", cpus=2 if flush == "deferred" else 1)
        for order in world.shares
        for flush in elapsed.OPEN_FLUSHES[asked.arch]
    ]
    return [
        (each, asked.arch, kernel, asked.lru)
        for each in dict.fromkeys([world, *alone])
        for kernel in (asked.before, asked.after)
    ]


def at_once(asked: params.Explore) -> bool:
    """Return whether an answer takes no longer than a reader waits."""
    return _walked_bytes(asked) <= AT_ONCE_BYTES


def _walked_bytes(asked: params.Explore) -> int:
    return asked.world.map_bytes * asked.mapped_by * len(_simulations(asked))


def smaller(asked: params.Explore) -> params.Explore:
    """Return the same request of less memory, mapped by fewer processes, which is soon answered.

    Both sizes are divided by the same power of two, and rounded.
    """
    world, mapped_by = asked.world, min(asked.mapped_by, SMALL_PROCESSES)
    walked_bytes, shift = _walked_bytes(replace(asked, mapped_by=mapped_by)), 0
    while walked_bytes >> shift > AT_ONCE_BYTES // SMALL_PART:
        shift += 1
    if not shift:
        return replace(asked, mapped_by=mapped_by)
    page_bytes = 1 << ARCHES[asked.arch].page_shift
    reclaim_bytes = max(world.reclaim_bytes >> shift, page_bytes)
    sizes = {"map_size": world.map_bytes >> shift, "reclaim_size": reclaim_bytes}
    return replace(asked, mapped_by=mapped_by, **{n: _written(size) for n, size in sizes.items()})


def _written(nr_bytes: int) -> str:
    return f"{nr_bytes >> 20}M" if nr_bytes >= 10 << 20 else f"{nr_bytes >> 10}K"


@lru_cache(maxsize=1024)
def answer(asked: params.Explore) -> Answer:
    """Simulate and price one request under both kernels; remembered.

    The first of an architecture fits its costs, which takes seconds.
    """
    before, after = (
        timing.simulated(asked.world, asked.arch, kernel, asked.lru)
        for kernel in (asked.before, asked.after)
    )
    same = before.counts == after.counts
    return Answer(asked, before, after, _instructions(asked, same), _time(asked, same))


def warm(arch: str) -> None:
    """Fit what `answer` needs of one architecture."""
    timing.time_fit(machines.reference(arch))
    _left_out(arch)


def _instructions(asked: params.Explore, same: bool) -> Cost:
    model = fit.fit(asked.arch)
    old, new = (_priced(asked, kernel, model) for kernel in (asked.before, asked.after))
    sides = _with_interval(old, model), _with_interval(new, model)
    if same:
        return Cost("instructions", *sides, NOTHING)
    form = predict.left_out_error(asked.arch, asked.before, asked.after)
    found, _ = predict.reduction_of(model, old.counts, new.counts, form)
    # Of PMD-mapped folios, which no batch touches, that has nothing yet.
    batched = float(old.counts @ model.costs) / old.instructions
    return Cost("instructions", *sides, Interval(*(end * batched for end in found)))


class _Priced(NamedTuple):
    # Group counts, and instructions with those of PMD-mapped folios, which no group describes.
    counts: np.ndarray
    instructions: float


def _priced(asked: params.Explore, kernel: str, model: fit.CostModel) -> _Priced:
    counts, total = np.zeros(len(GROUPS)), 0.0
    # No price of an instruction depends on it; but it has been simulated: on x86_64 of one CPU.
    flush = elapsed.OPEN_FLUSHES[asked.arch][-1]
    for order, share in asked.world.shares.items():
        events = timing.request(asked.arch, kernel, order, flush, **_world(asked))
        counts += share * group_counts_of(events)
        total += share * float(terms_of(events, model, flush)[:NR_PRICES].sum())
    return _Priced(counts, total)


def _with_interval(priced: _Priced, model: fit.CostModel) -> Interval:
    # 95% of the costs, widened by the most that the model errs on orders left out of its fit.
    from_costs = float(np.sqrt(priced.counts @ model.cov @ priced.counts))
    total = priced.instructions
    reach = float(stats.t.ppf(0.975, model.dof)) * from_costs + _left_out(model.arch) * total
    return Interval(max(total - reach, 0.0), total, total + reach)


@cache
def _left_out(arch: str) -> float:
    cells = fit.leave_one_order_out(arch, small=False)
    return float(cells["relative_error"].abs().max())


def _time(asked: params.Explore, same: bool) -> Cost:
    costs = timing.time_fit(machines.reference(asked.arch))
    shares = asked.world.shares
    found = elapsed.reduction(costs, asked.before, asked.after, shares, **_world(asked))
    ends = np.percentile(found.seconds, (2.5, 50, 97.5), axis=0)
    sides = [Interval(*side) for side in ends.T.tolist()]
    return Cost("s", *sides, NOTHING if same else found.interval)


def _world(asked: params.Explore) -> dict:
    # What `timing.request` takes beside the order.
    return {
        "map_bytes": asked.world.map_bytes, "reclaim_bytes": asked.world.reclaim_bytes,
        "mapped_by": asked.mapped_by, "lru": asked.lru,
    }  # fmt: skip


# How a capture names what a request costs, the most telling first.
_INSTRUCTIONS = ("instructions:k", "instructions")
_TIMES = ("real", "elapsed", "sys", "task-clock")


@dataclass(frozen=True)
class Measured:
    """What a capture says of the same things.

    Attributes:
        name: of the capture.
        events: by kernel function, hits: median of the runs, and the least and most of them.
        instructions, seconds: what it says of them, with its name for it; or None.
        notes: what must be known to read it.
    """

    name: str
    events: dict[str, Interval]
    instructions: tuple[str, Interval] | None
    seconds: tuple[str, Interval] | None
    notes: tuple[str, ...]


@lru_cache(maxsize=16)
def measured(samples: Samples, name: str, arch: str, lru: str) -> Measured:
    """Return what a capture, read by `ingest`, says of what is simulated; `name` is for people."""
    frame = samples.frame
    ours = {symbols.normal(function): function for function in listed(arch, lru)}
    symbol = frame["symbol"].fillna(frame["metric"].str.removesuffix("()")).map(ours)
    counts = frame[symbol.notna() & (frame["unit"] == "count")]
    events = {
        str(function): _over_runs(rows) for function, rows in counts.groupby(symbol[counts.index])
    }
    whole = frame[frame["symbol"].isna()]
    instructions, seconds = _first(whole, _INSTRUCTIONS), _first(whole, _TIMES)
    nr_used = len(events) + (instructions is not None) + (seconds is not None)
    said = (
        f"{name}: {nr_used} of the quantities that are simulated, in {len(frame)} rows; of all "
        "that it ran, which may be more than the request",
        *samples.notes,
    )
    return Measured(name, events, instructions, seconds, said)


def _first(frame: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, Interval] | None:
    for name in names:
        rows = frame[frame["metric"] == name]
        if len(rows):
            return name, _over_runs(rows)
    return None


def _over_runs(rows: pd.DataFrame) -> Interval:
    # Parts of one run, such as its CPUs, add up.
    runs = rows.groupby("run")["value"].sum()
    return Interval(float(runs.min()), float(runs.median()), float(runs.max()))


def message(asked: params.Explore) -> str:
    """Return the table by folio size for a commit message, of these kernels on this architecture.

    Of the request that is published with the series, by the classic LRU.
    """
    return start_message(asked).result()


def start_message(asked: params.Explore) -> Future:
    """Start writing `message`, which takes a second where the kernels are new."""
    return _written_message(asked.arch, asked.before, asked.after)


@cache
def _written_message(arch: str, before: str, after: str) -> Future:
    return _THREADS.submit(report.commit_message, arches=(arch,), before=before, after=after)
