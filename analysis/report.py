# SPDX-License-Identifier: GPL-2.0-only
"""Text for commit messages and cover letters: ASCII, at most 75 columns, the same on every run.

A style is a row of `STYLES`: the sections it is made of, each a function from what was asked to its
text, empty where there is nothing to say.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from analysis import elapsed, explain, fit, mail_lines, measurements, report_tables
from analysis.machines import Machine
from analysis.mail_lines import filled
from analysis.predict import Prediction, predict, published_claim
from analysis.report_tables import change, change_range, instructions_pair
from analysis.units import folio_size
from sim import MEASURED_ARCHES
from sim.ident import short_id

# Kernels as a commit message calls them.
_KERNELS = {
    "base": "neither batch",
    "references": "batched reference checks",
    "unmap": "batched unmapping too",
    "unmap-only": "batched unmapping alone",
}
# scripts/checkpatch.pl wants a commit's title behind its hash.
_TITLES = {
    "07f440c23a19": "arm64: mm: implement the architecture-specific clear_flush_young_ptes()",
    "a67fe41e214f": "mm: rmap: support batched unmapping for file large folios",
}


class ReportError(ValueError):
    """A message that cannot be written: unknown style or architecture, no orders, no time."""


@dataclass(frozen=True)
class Asked:
    """What a message is about; see `commit_message`."""

    style: str
    orders: tuple[int, ...]
    arches: tuple[str, ...]
    before: str
    after: str
    machine: Machine | None
    source: str

    @cached_property
    def step(self) -> dict[str, str]:
        """The two kernels, as most functions take them."""
        return {"before": self.before, "after": self.after}

    @cached_property
    def predictions(self) -> dict[tuple[str, int], Prediction]:
        """Predicted elapsed time by architecture and order."""
        return {
            (arch, order): predict(arch, order, **self.step)
            for arch in self.arches
            for order in self.orders
        }

    @cached_property
    def likely_orders(self) -> list[int]:
        """The orders asked for that the published arm64 times leave."""
        return [order for order in explain.consistent_orders() if order in self.orders]

    @cached_property
    def id(self) -> str:
        """Id of what is predicted, and of the machine."""
        own = [self.machine.id] if self.machine else []
        return short_id(sorted([*(p.id for p in self.predictions.values()), *own]))


def commit_message(
    orders: Sequence[int] = tuple(range(10)),
    arches: Sequence[str] = MEASURED_ARCHES,
    *,
    before: str = "references",
    after: str = "unmap",
    style: str = "table",
    machine: Machine | None = None,
    source: str = "FILE",
) -> str:
    """Return text to paste into a commit message or a cover letter.

    Args:
        orders: folio orders, 0 to 9, one row each.
        arches: one or two of `sim.MEASURED_ARCHES`, one group of columns each.
        before, after: the kernels compared; by default patch 5 of the series alone.
        style: a key of `STYLES`.
        machine: times of one's own, see `machines.captured`: shown as measured.
        source: name of the file that they come from, for the command that reproduces the text.

    Raises:
        ReportError: an unknown style or architecture, no orders, or a machine without a time of
            either kernel.
    """
    orders, arches = tuple(sorted(set(orders))), tuple(dict.fromkeys(arches))
    if style not in STYLES:
        raise ReportError(f"style {style!r}: expected one of {', '.join(STYLES)}")
    if unknown := [arch for arch in arches if arch not in MEASURED_ARCHES] or not arches:
        known = ", ".join(MEASURED_ARCHES)
        raise ReportError(f"arches {unknown!r}: expected one or more of {known}")
    if outside := [order for order in orders if not 0 <= order <= 9] or not orders:
        raise ReportError(f"orders {outside if orders else 'none'}: expected one or more, 0 to 9")
    if machine and not any(report_tables.measured_pairs(machine, before, after)):
        raise ReportError(f"{source}: no whole time of {before} or {after}: nothing to show")
    asked = Asked(style, orders, arches, before, after, machine, source)
    sections = (_section(asked, title, write(asked)) for title, write in STYLES[style])
    return "\n\n".join(filter(None, sections)) + "\n"


ANSWER_HEADER = (
    "Folio size", "arm64, instructions", "arm64, time", "x86_64, instructions", "x86_64, time"
)  # fmt: skip


@cache
def answer_rows() -> tuple[tuple[str, ...], ...]:
    """Return the answer, what batched unmapping saves: a row a folio size, below ANSWER_HEADER.

    Instructions with a star are fitted: that order was not run.
    """
    rows = []
    for order in range(10):
        cells = [folio_size(order)]
        for arch in ("arm64", "x86_64"):
            old, new, measured = instructions_pair(arch, order, "references", "unmap")
            cells.append(f"{change(new / old - 1)}{'' if measured else '*'}")
            cells.append(change_range(predict(arch, order).elapsed_reduction).replace("( ", "("))
        rows.append(tuple(cells))
    return tuple(rows)


def answer_table() -> str:
    """Return the README's answer in Markdown: `answer_rows`."""
    rows = [ANSWER_HEADER, ["---:"] * len(ANSWER_HEADER), *answer_rows()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _question(asked: Asked) -> str:
    text = (
        f"What does a kernel with {_KERNELS[asked.after]} take off the reclaim of clean mapped "
        f"file folios, over one with {_KERNELS[asked.before]}, by folio size, on "
        f"{' and '.join(asked.arches)}?"
    )
    return filled(text)


def _answer(asked: Asked) -> str:
    said = [_found(asked), _predicted(asked), *_claims(asked)]
    return "\n\n".join(filled(text) for text in said if text)


def _headline(asked: Asked) -> str:
    said = " ".join(filter(None, (_found(asked), _predicted(asked))))
    return filled(f"Performance testing: {said[:1].lower()}{said[1:]}".rstrip())


# What a machine's own times say, where both kernels ran.
def _found(asked: Asked) -> str:
    parts = [
        f"{report_tables.measured_change(old, new)[0]:+.1%} "
        f"({report_tables.size_on(asked.machine.arch, order)})"
        for _, order, old, new in _pairs(asked)
        if old and new
    ]
    if not parts:
        return ""
    changes = ", ".join(parts)
    return f"Measured on {_name(asked.machine)}, change of the time by folio size: {changes}."


def _predicted(asked: Asked) -> str:
    at, parts = asked.likely_orders, []
    for arch in asked.arches if at else ():
        best = [asked.predictions[arch, order].elapsed_reduction.best for order in at]
        if min(best) < 0:
            return ""
        most = f" to {max(best):.0%}" if len(at) > 1 else ""
        parts.append(f"{min(best):.0%}{most} less time on {arch}")
    if not parts:
        return ""
    sizes = f"{folio_size(at[0])} to {folio_size(at[-1])}" if len(at) > 1 else folio_size(at[0])
    seen = "" if asked.style == "blocks" else "; intervals below"
    return (
        f"Reclaiming clean mapped file folios of {sizes} is predicted to take "
        f"{' and '.join(parts)} (best estimates{seen})."
    )


def _why(asked: Asked) -> str:
    at = [order for order in asked.likely_orders or asked.orders if 1 <= order <= 8]
    if not at:
        return ""
    order = at[len(at) // 2]
    said = [f"{arch}: {_largest_parts(asked, arch, order)}." for arch in asked.arches]
    size = folio_size(order)
    intro = f"Instructions saved, by the kernel function that executes fewer, at {size}:"
    return f"{filled(intro)}\n\n" + "\n".join(filled(text) for text in said)


def _largest_parts(asked: Asked, arch: str, order: int) -> str:
    found = explain.explain(arch, order, **asked.step, metric="instructions")
    parts = found.parts.set_index("part")["value"].nlargest(3)
    shares = [f"{part} {value / found.difference:.0%}" for part, value in parts.items()]
    return f"{', '.join(shares)} of {found.difference / 1e6:,.1f} million ({found.basis})"


def _blocks(asked: Asked) -> str:
    own = [
        report_tables.side_by_side(
            f"{request}, folio size "
            f"{report_tables.size_on(asked.machine.arch, order)}, on {_name(asked.machine)} "
            f"(medians of {old.n} and {new.n} runs):",
            {"time": old.ns / 1e9},
            {"time": new.ns / 1e9},
            report_tables.measured_change(old, new)[1],
        )
        for request, order, old, new in _pairs(asked)
        if old and new
    ]
    return "\n\n".join(own) or _published_blocks(asked)


def _published_blocks(asked: Asked) -> str:
    known = elapsed.published_seconds()
    if "arm64" not in asked.arches or not {asked.before, asked.after} <= set(known):
        return ""
    sides = [
        {metric: elapsed.published_seconds(metric)[kernel] for metric in ("real", "user", "sys")}
        for kernel in (asked.before, asked.after)
    ]
    intro = (
        "10 GiB of clean file folios mapped, 8 GiB reclaimed through memory.reclaim, on an Arm64 "
        "32-core server (published with the series; folio size not stated, one value each):"
    )
    return report_tables.side_by_side(intro, *sides)


def _tables(asked: Asked) -> str:
    tables = [_measured_table(asked), _instructions_table(asked), _elapsed_table(asked)]
    return "\n\n".join(filter(None, tables))


def _measured_table(asked: Asked) -> str:
    if not asked.machine:
        return ""
    title = filled(
        f"Measured on {_name(asked.machine)} ({asked.machine.arch}): medians of n runs; W/o: "
        f"{_KERNELS[asked.before]}, W/: {_KERNELS[asked.after]}; noise: standard deviation of the "
        "change; predicted: from the runs without what the patch adds:"
    )
    return f"{title}\n\n{report_tables.measured_times(asked.machine, **asked.step)}"


def _instructions_table(asked: Asked) -> str:
    title = filled(
        "Instructions (millions) of reclaiming 0.2 GiB of 256 MiB, Linux 7.2 under emulation; "
        f"W/o: {_KERNELS[asked.before]}, W/: {_KERNELS[asked.after]}; noise: how far repeats of "
        "a kernel differ, the larger of the two (* fitted, not run):"
    )
    return f"{title}\n\n{report_tables.instructions(asked.orders, asked.arches, **asked.step)}"


def _elapsed_table(asked: Asked) -> str:
    title = filled(
        "Elapsed time, predicted, 8 GiB of 10 GiB reclaimed; noise: standard deviation of one "
        "more pair of runs, which is not in the range:"
    )
    return f"{title}\n\n{report_tables.elapsed_changes(asked.predictions)}"


def _method(asked: Asked) -> str:
    errors = ", ".join(f"{arch} {fit.left_out_error(arch):.1%}" for arch in asked.arches)
    lines = [
        "Event counts of a reclaim simulator, equal to the function profiler's of the "
        "emulated kernels, priced per event by least squares (left-out orders 1 to 8: "
        f"{errors} mean error). Low to high is the range over what the measurements leave open.",
        *(f"{arch}: {_assumptions(asked, arch)}." for arch in asked.arches),
        *(f"{_name(asked.machine)}: {note}." for note in _notes(asked)),
        *(_claims(asked) if asked.style != "cover" else ()),
    ]
    return "\n".join(filled(line) for line in lines)


# What a prediction rests on; where both kernels do the same, that is said once.
def _assumptions(asked: Asked, arch: str) -> str:
    own = [p for (name, _), p in asked.predictions.items() if name == arch]
    return "; ".join(max(own, key=lambda p: len(p.assumptions) > 1).assumptions[:2])


def _notes(asked: Asked) -> tuple[str, ...]:
    return asked.machine.notes if asked.machine else ()


def _claims(asked: Asked) -> list[str]:
    claims = [(arch, published_claim(arch, **asked.step)) for arch in asked.arches]
    return [
        f"Published for {arch}, not an input here: {claim['elapsed_reduction']} "
        f"({_titled(claim['source'])})."
        for arch, claim in claims
        if claim and arch != "arm64"
    ]


def _titled(source: str) -> str:
    return re.sub(
        r"\b[0-9a-f]{12}\b",
        lambda found: f'{found[0]} ("{_TITLES[found[0]]}")' if found[0] in _TITLES else found[0],
        source,
    )


def _reproduce(asked: Asked) -> str:
    said = [
        "Times: map 10 GiB of a file in a memory cgroup, touch each page, then time a write of 8G "
        "to its memory.reclaim. `reclaim ingest --csv` turns what time or perf stat printed into "
        "a table, and --machine puts that beside the prediction. Instructions: the same write, "
        "256 MiB mapped and 0.2 GiB reclaimed, in a kernel booted by QEMU with -icount. This "
        "text:"
    ]
    return "\n\n".join([*map(filled, said), _command(asked)])


def _command(asked: Asked) -> str:
    orders = asked.orders
    whole = len(orders) > 2 and orders == tuple(range(orders[0], orders[-1] + 1))
    words = [
        ("--style", asked.style),
        ("--orders", f"{orders[0]}:{orders[-1]}" if whole else ",".join(map(str, orders))),
        ("--arch", ",".join(asked.arches)),
        ("--before", asked.before),
        ("--after", asked.after),
    ]
    if asked.machine:
        sizes = asked.machine.request
        words += [("--machine", shlex.quote(mail_lines.name(asked.source)))]
        words += [("--map", str(sizes["map_bytes"])), ("--reclaim", str(sizes["reclaim_bytes"]))]
    return mail_lines.command("reclaim message", map(" ".join, words))


def _ids(asked: Asked) -> str:
    digests = ", ".join(
        f"{name} {measurements.manifest()[name]['sha256'][:12]}"
        for name in ("emulated/instructions.csv", "host/order_sweep.csv")
    )
    return filled(f"Reclaim Workbook, id {asked.id}; data {digests}.")


# A commit message ends in trailers, and has no titles but these words before a colon.
STYLES: dict[str, tuple[tuple[str, Callable[[Asked], str]], ...]] = {
    "blocks": (
        ("", _headline),
        ("", _blocks),
        ("Method", _method),
        ("How to reproduce", _reproduce),
        ("Ids", _ids),
    ),
    "table": (
        ("", _headline),
        ("", _tables),
        ("Method", _method),
        ("How to reproduce", _reproduce),
        ("Ids", _ids),
    ),
    "cover": (
        ("Question", _question),
        ("Answer", _answer),
        ("Why", _why),
        ("Published and measured", _blocks),
        ("By folio size", _tables),
        ("Method", _method),
        ("How to reproduce", _reproduce),
        ("Ids", _ids),
    ),
}


def _section(asked: Asked, title: str, text: str) -> str:
    if not title or not text:
        return text
    if asked.style == "cover":
        return f"{title}\n{'=' * len(title)}\n{text}"
    return f"{title}:\n{text}"


def _pairs(asked: Asked):
    return report_tables.measured_pairs(asked.machine, **asked.step) if asked.machine else ()


def _name(machine: Machine) -> str:
    return mail_lines.quoted(machine.name)
