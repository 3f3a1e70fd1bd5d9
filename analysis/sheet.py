# SPDX-License-Identifier: GPL-2.0-only
"""What every figure shares: its style, axes of folio orders and of names, title, footer, files.

A figure is drawn and saved under a style of its own, whatever the caller's matplotlib is set to;
text is never read as mathematics, because names come from files.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import cycler, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from analysis import palette
from analysis.files import write_whole
from analysis.units import folio_size
from sim import FILE_SERIES, MEASURED_ARCHES
from sim.ident import short_id

WIDTH = 9  # inches: 900 pixels at 100 dots an inch
GROUND, INK, SOFT, BEHIND, AREA, FAINT, RULE = map(
    palette.light, ("ground", "ink", "soft", "behind", "area", "faint", "rule")
)
COLOURS = {arch: palette.light(arch) for arch in MEASURED_ARCHES}
SERIES = tuple(map(palette.light, palette.SERIES))
MARKERS = dict(zip(FILE_SERIES, "osD^", strict=True))
STYLE = [
    "default",
    sns.axes_style("whitegrid"),
    {
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same outlines everywhere
        "font.size": 10,
        # The greys and the black of others, as roles.
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), GROUND),
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color", "hatch.color", "patch.edgecolor"), INK),
        **dict.fromkeys(("grid.color", "axes.edgecolor"), RULE),
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "hatch.linewidth": 0.6,
        "text.parse_math": False,
        "svg.hashsalt": "reclaim",
        "savefig.dpi": 150,
    },
]
NO_BREAK = "\N{NO-BREAK SPACE}"
NAME_CHARS = 34  # a longer name would leave no room for what is drawn


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return a figure function that draws under `STYLE`."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with style.context(STYLE):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # makes the ticks while our style holds
        return figure

    return drawn


def save(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write a figure as SVG and PNG, each whole or not at all; return both paths.

    Args:
        path: where to, without suffix. The same figure gives the same bytes of SVG: it has no
            date, and ids that are not random.
    """
    content = {".svg": svg(figure), ".png": _saved(figure, "png")}
    written = [write_whole(path.with_name(path.name + end), content[end]) for end in content]
    return written[0], written[1]


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, light and dark: the same bytes for the same figure."""
    return palette.themed(_saved(figure, "svg", metadata={"Date": None}))


def _saved(figure: Figure, kind: str, **options) -> bytes:
    content = BytesIO()
    with style.context(STYLE):
        figure.savefig(content, format=kind, **options)
    return content.getvalue()


def finding(figure: Figure) -> str:
    """Return the title of a figure as one line."""
    return " ".join(figure.get_suptitle().split())


def frame(figure: Figure, title: str, n: str, ident: str, notes: Sequence[str] = ()) -> None:
    """Set the finding above a figure, and under it n, id and notes."""
    lines = [f"{n}; id {ident}", *notes]
    footer = "\n".join(balanced(line, 125) for line in lines)
    figure.suptitle(balanced(title, 80), x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(footer, x=0.01, ha="left", fontsize=8, color=SOFT)


def balanced(text: str, width: int) -> str:
    """Break a text into as few lines of a width as can be, none much shorter than the others.

    A number keeps its unit, an interval its ends. Where it takes no more lines, they end at commas.
    """
    text = re.sub(r"(?<=\d) (?=(KiB|MiB|GiB|s|ns)\b)", NO_BREAK, text)
    text = re.sub(r"\([^()]{,30}\)", lambda found: found[0].replace(" ", NO_BREAK), text)
    lines = _evenly(text, width)
    phrases = re.sub("(?<![,;:]) ", NO_BREAK, text)
    if max(map(len, phrases.split(" "))) <= width:
        by_phrase = _evenly(phrases, width)
        lengths = list(map(len, by_phrase)) or [0]
        if len(lengths) == len(lines) and 2 * min(lengths) >= max(lengths):
            lines = by_phrase
    return "\n".join(lines).replace(NO_BREAK, " ")


def _evenly(text: str, width: int) -> list[str]:
    longest = max(map(len, text.split(" ")))
    widths = range(max(1, min(longest, width)), width + 1)
    least = len(textwrap.wrap(text, width))
    wrapped = (textwrap.wrap(text, narrow) for narrow in widths)
    return next(lines for lines in wrapped if len(lines) <= least)


def require(number: int, what: str) -> None:
    """Raise ValueError if there is nothing to draw."""
    if not number:
        raise ValueError(f"no {what} to draw: pass at least one")


def one_id(ids: Iterable[str]) -> str:
    """Return the id that stands for several: of the only one, or of them all."""
    distinct = sorted(set(ids))
    return distinct[0] if len(distinct) == 1 else short_id(distinct)


def frame_id(rows: pd.DataFrame) -> str:
    """Return the id of a frame's rows, numbers to six digits."""
    return short_id(rows.to_csv(float_format="%.6g"))


def order_axis(
    axes: Axes, orders: Iterable[int], *, narrow: bool = False, sizes: bool = True
) -> None:
    """Make x the folio order, each with its size in pages of 4 KiB under it.

    Args:
        narrow: sizes as a kernel writes them, 64K.
        sizes: False where pages are of another size.
    """
    first, last = int(min(orders)), int(max(orders))
    ticks = range(first, last + 1)
    under = [f"\n{folio_size(order)}" if sizes else "" for order in ticks]
    if narrow:
        under = [size.replace(" ", "").removesuffix("iB") for size in under]
    labels = [f"{order}{size}" for order, size in zip(ticks, under, strict=True)]
    axes.set_xticks(ticks, labels, fontsize=8.5 if narrow else 10)
    axes.set_xlim(first - 0.6, last + 0.6)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("folio order and size" if sizes else "folio order")


def name_axis(axes: Axes, names: Sequence[str], said: Sequence[str] = ()) -> None:
    """Make y one row a name, the first on top; `said` stands right of each row."""
    axes.set_yticks(range(len(names)), list(map(_cut, names)))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    for row, text in enumerate(said):
        axes.annotate(
            text, (1.0, row), (4, 0), ("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip


def _cut(name: str) -> str:
    return name if len(name) <= NAME_CHARS else name[: NAME_CHARS - 3] + "..."


def interval_rows(
    axes: Axes, names: Sequence[str], best, reach, said: Sequence[str], **look
) -> None:
    """Draw one row a name: an open point with its interval, and `said` at the right.

    A row whose value is not known stays empty. `reach` and `look`: as of `points`.
    """
    best = np.asarray(best, float)
    rows, known = np.arange(len(names)), np.isfinite(best)
    reach = np.asarray(reach, float)[..., known]
    points(axes, best[known], rows[known], reach, across=True, **look)
    name_axis(axes, names, said)


def points(axes: Axes, x, y, reach, *, across: bool = False, **look) -> None:
    """Draw open points with their intervals, in y or `across` in x.

    Args:
        reach: how far each interval goes below and above its point; infinite where it is unknown,
            which is drawn to the edge: give such axes `finite_limits`.
    """
    drawn = np.nan_to_num(np.asarray(reach, float), posinf=1e9)
    bars = {"xerr": drawn} if across else {"yerr": drawn}
    axes.errorbar(x, y, **bars, mfc=GROUND, capsize=3, linestyle="none", **look)


def finite_limits(set_limits: Callable, values: Iterable[float], margin: float = 0.05) -> None:
    """Fit an axis to the finite values of some, with a margin relative to their range."""
    finite = np.array([value for value in values if np.isfinite(value)])
    spare = margin * (np.ptp(finite) or 1.0)
    set_limits(finite.min() - spare, finite.max() + spare)


def percents(axis: Axis) -> None:
    """Write the shares of an axis as whole percents."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def number_ticks(axis: Axis, ticks: Sequence[float], text: str = "{:,.10g}") -> None:
    """Put ticks at given numbers of an axis that is not linear, written as numbers."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text.format(value) if value else "0"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def kernel_legend(figure: SubFigure, look: Callable[[str], dict]) -> None:
    """Name the kernels above panels of several architectures: a marker each, and no colour.

    Args:
        figure: a subfigure, as of `legend_above`.
        look: what else a kernel is drawn with, keyword arguments of `Line2D`.
    """
    handles = [
        Line2D([], [], marker=marker, label=kernel, **{"color": SOFT} | look(kernel))
        for kernel, marker in MARKERS.items()
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=9,
        handlelength=3,  # as long as a line's pattern
    )  # fmt: skip


def legend_above(figure: SubFigure, axes: Axes, ncols: int = 4) -> None:
    """Name what one of the axes shows, above all of them: never over what is drawn.

    Args:
        figure: a subfigure, since the title would lie over the legend of its own figure.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=ncols, frameon=False, fontsize=9)
