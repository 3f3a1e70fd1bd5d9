# SPDX-License-Identifier: GPL-2.0-only
"""Profiles: which functions moved between two of them; a flame graph and speedscope JSON of it.

Counts samples in which a function is the leaf, under its name without the compiler's suffixes. The
intervals are of sampling alone (Newcombe's, from Wilson's for each side): how runs differ from each
other one profile a side cannot tell. p is Fisher's exact test, corrected by Holm's method.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from scipy import stats

from analysis.compare import CompareError
from analysis.ingest.symbols import normal
from analysis.samples import Samples

Z = float(stats.norm.ppf(0.975))
ADVICE = "Give perf script's text or perf data convert --to-json: they have every sample."
ROW, WIDTH, LEAST = 17, 1200, 0.5  # pixels: a frame's height, the picture's width, what is drawn
SCHEMA = "https://www.speedscope.app/file-format-schema.json"


@dataclass(frozen=True)
class Moved:
    """One function: its samples, its shares (0 to 1), their difference with a 95% interval, p."""

    symbol: str
    before: int
    after: int
    share_before: float
    share_after: float
    difference: float
    low: float
    high: float
    p: float


@dataclass
class _Node:
    name: str
    before: int = 0
    after: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def stacks(samples: Samples) -> Counter[tuple[str, ...]]:
    """Return samples by stack, root first; CompareError where a profile has no sample counts."""
    frame = samples.frame
    counted = frame[frame["metric"].str.endswith(" samples") & frame["symbol"].notna()]
    if counted.empty or (frame["mark"].fillna("") == "cut").any():
        raise CompareError(f"no profile with all its samples. {ADVICE}")
    if not counted["value"].sum():
        raise CompareError("a profile with 0 samples: record for longer, or at a higher rate")
    if counted["metric"].nunique() > 1:
        raise CompareError("samples of several events: make one profile of each")
    found: Counter[tuple[str, ...]] = Counter()
    for part, count in zip(counted["part"], counted["value"], strict=True):
        found[tuple(normal(name) for name in part.split(";"))] += int(count)
    return found


def moved(before: Samples, after: Samples) -> list[Moved]:
    """Return every function of two profiles, the largest difference first; CompareError."""
    leaves = [Counter(), Counter()]
    for side, samples in zip(leaves, (before, after), strict=True):
        for stack, count in stacks(samples).items():
            side[stack[-1]] += count
    sizes = [side.total() for side in leaves]
    rows = [_moved(name, leaves, sizes) for name in sorted(leaves[0] | leaves[1])]
    rows = _corrected(rows)
    return sorted(rows, key=lambda one: (-abs(one.difference), one.symbol))


def to_text(found: list[Moved], most: int = 20) -> str:
    """Return an ASCII table of at most 75 columns, the functions that moved most."""
    lines = [f"{'function':<28}{'before':>8}{'after':>8}{'change, points':>24}{'p':>7}"]
    for one in found[:most]:
        name = one.symbol.encode("unicode_escape").decode("ascii")
        name = name if len(name) < 28 else f"{name[:24]}..."
        points = f"{100 * one.difference:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
        p = "<0.001" if one.p < 0.0005 else f"{one.p:.3f}"
        lines.append(f"{name:<28}{one.share_before:>8.1%}{one.share_after:>8.1%}{points:>24}{p:>7}")
    sizes = [sum(getattr(one, side) for one in found) for side in ("before", "after")]
    lines += ["", f"n = {sizes[0]} and {sizes[1]} samples; {len(found)} functions, the first "]
    lines[-1] += f"{min(most, len(found))} shown; p: Holm"
    return "\n".join([*lines, "intervals are of sampling, not of how runs differ"]) + "\n"


def speedscope(before: Samples, after: Samples) -> dict:
    """Return both profiles as one speedscope document, plain JSON."""
    frames: dict[str, int] = {}
    profiles = []
    for name, samples in (("before", before), ("after", after)):
        counted = sorted(stacks(samples).items())
        chains = [[frames.setdefault(one, len(frames)) for one in stack] for stack, _ in counted]
        weights = [count for _, count in counted]
        profiles.append(
            {
                "type": "sampled",
                "name": name,
                "unit": "none",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": chains,
                "weights": weights,
            }
        )
    shared = {"frames": [{"name": name} for name in frames]}
    return {"$schema": SCHEMA, "shared": shared, "profiles": profiles}


def flame_graph(before: Samples, after: Samples) -> str:
    """Return an SVG of the second profile's stacks: red where a share grew, blue where it fell.

    A frame is as wide as its share after; what is gone is told in a frame's title alone.
    """
    root = _Node("all")
    for side, samples in (("before", before), ("after", after)):
        for stack, count in stacks(samples).items():
            node = root
            setattr(node, side, getattr(node, side) + count)
            for name in stack:
                node = node.children.setdefault(name, _Node(name))
                setattr(node, side, getattr(node, side) + count)
    frames = list(_frames(root))
    shapes = [_shape(root, *frame) for frame in frames]
    depth = max(depth for _, _, depth in frames)
    height = ROW * (depth + 1)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
    head += f'viewBox="0 {-height} {WIDTH} {height}" font-family="monospace" font-size="11">'
    return "\n".join([head, *shapes, "</svg>"]) + "\n"


# Every frame wide enough to be seen, its left end and its depth; callers first. A loop, because
# stacks may be deeper than Python recurses.
def _frames(root: _Node) -> Iterator[tuple[_Node, float, int]]:
    waiting = [(root, 0.0, 0)]
    while waiting:
        node, x, depth = waiting.pop()
        if WIDTH * node.after / root.after < LEAST:
            continue
        yield node, x, depth
        for child in sorted(node.children.values(), key=lambda one: one.name):
            waiting.append((child, x, depth + 1))
            x += WIDTH * child.after / root.after


def _shape(root: _Node, node: _Node, x: float, depth: int) -> str:
    width = WIDTH * node.after / root.after
    old, new = node.before / root.before, node.after / root.after
    strength = min(1.0, abs(new - old) / max(new, old)) * 160
    other = f"{240 - strength:.0f}"
    colour = f"rgb(240,{other},{other})" if new >= old else f"rgb({other},{other},240)"
    shown = _printable(node.name)
    name, y = html.escape(shown), -ROW * (depth + 1)
    label = name if width > 7 * len(shown) + 6 else ""
    return (
        f'<g><title>{name}: {old:.2%} to {new:.2%}</title><rect x="{x:.2f}" y="{y}" '
        f'width="{width:.2f}" height="{ROW - 1}" fill="{colour}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 12}">{label}</text></g>'
    )


# XML has no place for most control characters, not even escaped; Unicode's others turn text around.
def _printable(name: str) -> str:
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name
    )


def _moved(name: str, leaves: list[Counter], sizes: list[int]) -> Moved:
    counts = [side[name] for side in leaves]
    shares = [count / size for count, size in zip(counts, sizes, strict=True)]
    (low0, high0), (low1, high1) = (
        _wilson(share, size) for share, size in zip(shares, sizes, strict=True)
    )
    gap = shares[1] - shares[0]
    low = gap - math.hypot(shares[1] - low1, high0 - shares[0])
    high = gap + math.hypot(high1 - shares[1], shares[0] - low0)
    rest = [size - count for count, size in zip(counts, sizes, strict=True)]
    p = float(stats.fisher_exact([counts, rest]).pvalue)
    return Moved(name, *counts, *shares, gap, low, high, p)


def _wilson(share: float, size: int) -> tuple[float, float]:
    middle = (share + Z * Z / (2 * size)) / (1 + Z * Z / size)
    half = Z * math.sqrt(share * (1 - share) / size + Z * Z / (4 * size * size))
    half /= 1 + Z * Z / size
    return max(0.0, middle - half), min(1.0, middle + half)


def _corrected(rows: list[Moved]) -> list[Moved]:
    corrected, highest = [], 0.0
    for rank, one in enumerate(sorted(rows, key=lambda one: one.p)):
        highest = max(highest, min(1.0, one.p * (len(rows) - rank)))
        corrected.append(Moved(**{**vars(one), "p": highest}))
    return corrected
