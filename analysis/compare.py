# SPDX-License-Identifier: GPL-2.0-only
"""Compare: does a metric differ between two sets of runs, by how much, and how sure is that.

How far logarithms differ, and how sure that is although runs that follow each other are alike,
`analysis.difference` tells; it states the rates measured. The run numbers tell the order; where the
two sides have numbers in common, nobody knows it, and all runs of the first side are taken to have
come first, unless the caller says that the sides alternated.

Several comparisons of one call are corrected by Holm's method. A metric whose runs of each side are
all equal, and which counts, is exact: compared as it is, without a test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.difference import LEAST, difference
from analysis.samples import Samples

_COUNTS = ("instructions", "count", "bytes", "pages")


class CompareError(ValueError):
    """Samples that cannot be compared: what was found, what was expected."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two sets of runs.

    before, after: medians, in `unit`. ratio, low, high: after over before and its 95% interval, of
    the level without drift (so not just the ratio of the medians); 0 and infinity where there are
    too few runs. p: of no difference; p_holm: corrected for all comparisons of the call.
    detectable: the smallest change, as a share, that runs like these show with 80% power; inf if
    they cannot. design: how it was tested. notes: what to know besides.
    """

    metric: str
    unit: str
    before: float
    after: float
    nr_before: int
    nr_after: int
    ratio: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float
    design: str
    notes: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether p is of a test: of neither exact counts nor runs that can tell nothing."""
        return self.design != "exact" and math.isfinite(self.high)


def compare(before: Samples, after: Samples, interleaved: bool = False) -> tuple[Comparison, ...]:
    """Compare each metric (and folio order, part, architecture) that both samples have.

    Where the run numbers of both sides overlap, all runs of `before` came first, unless
    interleaved says that run i of one was followed by run i of the other. Raises CompareError.
    """
    found, notes = [], []
    sides = [_groups(samples) for samples in (before, after)]
    for key in sides[0] | sides[1]:
        if not all(key in side for side in sides):
            notes.append(_alone(key, "before" if key in sides[0] else "after"))
            continue
        one = _compared(key, sides[0][key], sides[1][key], interleaved)
        if isinstance(one, Comparison):
            found.append(one)
        else:
            notes.append(one)
    if not found:
        raise CompareError(f"nothing to compare: {'; '.join(notes)}")
    return tuple(_holm(found, tuple(notes)))


def _groups(samples: Samples) -> dict[tuple, pd.DataFrame]:
    frame = samples.frame
    if frame["kernel"].dropna().nunique() > 1:
        raise CompareError("one side has runs of several kernels: give each its own file")
    keys = frame[["metric", "unit", "arch", "order", "workload", "part"]].astype(object)
    keys = keys.where(keys.notna(), "")
    # what differs between sides or runs and is no other measurement: the command, the time of day
    keys["part"] = keys["part"].str.replace(r"(?:command|time)=[^;]*(?:; )?", "", regex=True)
    return {key: frame.loc[rows.index] for key, rows in keys.groupby(list(keys), sort=False)}


def _name(key: tuple) -> str:
    metric, _, arch, order, _, part = key
    told = [str(metric), arch, f"order {order}" if order != "" else "", part]
    return " ".join(text for text in told if text)


def _alone(key: tuple, side: str) -> str:
    return f"{_name(key)}, in {key[1]}: only {side} has it"


def _compared(
    key: tuple, before: pd.DataFrame, after: pd.DataFrame, interleaved: bool
) -> Comparison | str:
    name, unit = _name(key), key[1]
    sides = [frame["value"].to_numpy() for frame in (before, after)]
    medians = [float(np.median(side)) for side in sides]
    counts = [len(side) for side in sides]
    if exact := _exact(name, unit, sides, medians):
        return exact
    if min(map(np.min, sides)) <= 0:
        return f"{name}: a value of 0 has no ratio"
    values, labels = _ordered(before, after, interleaved)
    found = difference(np.log(values), labels)
    ratio, low, high, more = map(_exp, (found.best, found.low, found.high, found.detectable))
    notes = _advice(name, found.design, min(counts), math.isinf(high))
    marks = {mark for frame in (before, after) for mark in frame["mark"].dropna()}
    notes += tuple(f"{name}: {mark}" for mark in sorted(marks))
    told = (found.p, found.p, more - 1, found.design, notes)
    return Comparison(name, unit, *medians, *counts, ratio, low, high, *told)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _exact(name: str, unit: str, sides: list, medians: list) -> Comparison | None:
    enough = all(len(side) > 1 for side in sides)
    if unit not in _COUNTS or not enough or any(np.ptp(side) for side in sides):
        return None
    first, second = medians
    ratio = second / first if first else (1.0 if second == first else math.inf)
    p = float(first == second)
    counts = (len(sides[0]), len(sides[1]))
    return Comparison(name, unit, first, second, *counts, ratio, ratio, ratio, p, p, 0.0, "exact")


# All values in run order, and whose they are.
def _ordered(
    before: pd.DataFrame, after: pd.DataFrame, interleaved: bool
) -> tuple[np.ndarray, np.ndarray]:
    runs = [frame["run"].to_numpy(dtype=float) for frame in (before, after)]
    overlap = set(runs[0]) & set(runs[1])
    places = [stats.rankdata(side, method="ordinal") - 1.0 for side in runs]
    if not overlap:
        places = runs
    elif interleaved:
        places[1] += 0.5
    else:
        places[1] += len(runs[0])
    place = np.concatenate(places)
    values = np.concatenate([before["value"].to_numpy(), after["value"].to_numpy()])
    labels = np.repeat([False, True], [len(before), len(after)])
    order = np.argsort(place, kind="stable")
    return values[order], labels[order]


def _advice(name: str, design: str, nr_least: int, unknown: bool) -> tuple[str, ...]:
    if nr_least < LEAST:
        few = "1 run a side tells" if nr_least == 1 else f"{nr_least} runs a side tell"
        return (f"{few} nothing: it takes {LEAST}, and 10 do better",)
    if unknown:
        return (f"{name}: all runs of a side are equal: the clock is too coarse to tell anything",)
    if design == "sequence":
        return ("all runs of one side came first, as drift might: run pairs in random order",)
    return ()


# Holm's correction over all that was tested; exact metrics and those without an interval are not.
def _holm(found: list[Comparison], notes: tuple[str, ...]) -> list[Comparison]:
    tested = sorted((c.p, place) for place, c in enumerate(found) if c.tested)
    corrected, highest = {}, 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[place] = highest
    return [
        replace(c, p_holm=corrected.get(place, c.p), notes=c.notes + (notes if place == 0 else ()))
        for place, c in enumerate(found)
    ]
