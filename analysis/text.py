# SPDX-License-Identifier: GPL-2.0-only
"""Values as a terminal shows them."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import baselines, fit, folio_sizes, predict, score, timing, whatif
from analysis.explain import NOT_EXPLAINED, Attribution
from analysis.units import folio_size, two_digits

WIDTH = 100


def cost_model(arch: str) -> str:
    """Return costs, standard errors and the errors of the fit, in sample and left out.

    Beside them what curves in the folio size alone make of the same cells, left out alike.
    """
    model = fit.fit(arch)
    rows = [
        f"{row.group:<34}{row.instructions:>9.1f} {'+-':>3} {row.standard_error:<8.1f} {row.what}"
        f"{f' (as {row.priced_as})' if row.priced_as else ''}"
        for row in model.table().itertuples()
    ]
    errors = model.cells["relative_error"]
    left_out = fit.leave_one_order_out(arch)
    return "\n".join(
        [
            f"{arch}: instructions per event, {len(model.cells)} cells, {model.dof} degrees of "
            f"freedom, id {model.id}",
            "each cell is the least of its repeats; errors are relative",
            "",
            *rows,
            "",
            f"residuals: mean {_mean_abs(errors):.2%}, worst {errors.abs().max():.2%}",
            "",
            f"{'left out in turn':<38}{'mean':>8} {'worst':>8} {'cells':>6}  worst cell",
            *_left_out_rows("events, orders 1 to 8", left_out, small=False),
            *_left_out_rows("events, order 0", left_out, small=True),
            *(
                row
                for form in baselines.FORMS
                for row in _left_out_rows(
                    f"{form} curve, orders 1 to 8",
                    baselines.leave_one_order_out(arch, form),
                    small=False,
                )
            ),
            *_order_rows(left_out),
            *_notes((_CLAIM.format(donor=fit.DONOR[arch]), _OUTSIDE, *model.warnings)),
        ]
    )


_CLAIM = (
    "order 0 left out: what a large folio costs beyond a small one is told by no other order; "
    "costs of {donor} are the prior"
)
_OUTSIDE = "order 9, PMD-mapped, is outside: no group describes it"


def _left_out_rows(what: str, cells: pd.DataFrame, *, small: bool) -> list[str]:
    rows = []
    for lru, own in cells[(cells["order"] == 0) == small].groupby("lru"):
        errors = own["relative_error"].abs()
        worst = own.loc[errors.idxmax()]
        rows.append(
            f"{f'{lru}: {what}':<38}{errors.mean():>8.2%} {errors.max():>8.2%} {len(own):>6}  "
            f"{worst['kernel']}, order {worst['order']}, {worst['mapped_by']} mapping, "
            f"{worst['cpus']} CPU, {worst['map_bytes'] >> 20} MiB"
        )
    return rows


def _order_rows(left_out: pd.DataFrame) -> list[str]:
    by_order = left_out.groupby("order")["relative_error"]
    return [
        "",
        f"{'order':>6} {'mean':>8} {'worst':>8} {'cells':>6}",
        *(
            f"{order:>6} {_mean_abs(errors):>8.2%} {errors.abs().max():>8.2%} {len(errors):>6}"
            for order, errors in by_order
        ),
    ]


def scores(arch: str, ident: str, path: Path, found: pd.DataFrame, notes: tuple[str, ...]) -> str:
    """Return blind predictions of the plainest world beside what was measured, in percent."""
    lines = [f"{arch}: blind, instruction reduction, id {ident}, written to {path} before scoring"]
    for step in score.summary(found):
        chosen = (found["before"] == step["before"]) & (found["after"] == step["after"])
        lines += [
            "",
            f"{step['before']} to {step['after']}, 256 MiB, one process, one CPU, classic LRU",
            f"{'order':>6} {'predicted':>26} {'measured':>9} {'points':>7} covered",
            *map(_score_row, score.plain_rows(found[chosen]).itertuples()),
            f"all {step['cells']} cells: error mean {100 * step['mean_error']:.2f}, worst "
            f"{100 * step['largest_error']:.2f} points, {step['within_target']:.0%} within "
            f"{100 * score.TARGET:.0f}; intervals cover {step['covered']:.0%}",
        ]
    return "\n".join([*lines, *(_notes(notes) if notes else ())])


def _score_row(row) -> str:
    predicted = predict.Interval(row.low, row.best, row.high).percent(1)
    if pd.isna(row.measured):
        return f"{row.order:>6} {predicted:>26} {'not run':>9}"
    covered = "yes" if row.covered else "no"
    return f"{row.order:>6} {predicted:>26} {row.measured:>9.1%} {100 * row.error:>+7.2f} {covered}"


def whatifs(asked: str, order: int, found: pd.DataFrame, metric: str = "instructions") -> str:
    """Return what each change could save, the largest first, with what it would change.

    `asked` is the architecture, or, in time, the machine.
    """
    rows = [
        line
        for row in found.itertuples()
        for line in (
            f"{row.name:<32}{row.saved.percent(1):>24}",
            textwrap.fill(
                f"{row.what}; {row.changes}",
                WIDTH,
                initial_indent=" " * 4,
                subsequent_indent=" " * 4,
            ),
        )
    ]
    return "\n".join(
        [
            f"{asked}, order {order}: {metric} that a further change could save, of today's "
            f"({whatif.TODAY})",
            "",
            *rows,
            *_notes(
                (
                    "not additive: two rows may save the same work",
                    _WHATIF_NOTE[metric],
                )
            ),
        ]
    )


_WHATIF_NOTE = {
    "instructions": "instructions, not time: 10 GiB mapped by one process, 8 GiB reclaimed",
    "time": "10 GiB mapped by one process, 8 GiB reclaimed; intervals: of guesses and costs, not "
    "of the model's form",
}


def time_costs(costs: timing.TimeFit) -> str:
    """Return costs in time with their verdicts, and how they fit what was observed."""
    rank, occurring = costs.rank
    head = f"{'term':<23}{'prior':>15}{'times alone':>13}{'both':>24}{'prior has':>11}  verdict"
    rows = [
        f"{row.term:<23}{_ends(row.prior_low, row.prior_high):>15}"
        f"{_ends(row.data_low, row.data_high):>13}"
        f"{two_digits(row.best) + ' (' + _ends(row.low, row.high) + ')':>24}"
        f"{row.from_prior:>11.0%}  {row.verdict}"
        for row in costs.table().itertuples()
    ]
    seen = [
        f"{row.what:<35}{'' if pd.isna(row.order) else row.order:>6}{row.n:>4}{row.ns:>9.0f}"
        f"{row.predicted:>11.0f}{row.error:>+8.1%}"
        for row in costs.observations().itertuples()
    ]
    return "\n".join(
        [
            f"{costs.machine.name}, {costs.machine.arch}: ns an event (prices: ns an instruction)"
            f", id {costs.id}",
            "",
            head,
            *rows,
            "",
            f"{'observed':<35}{'order':>6}{'n':>4}{'ns/page':>9}{'predicted':>11}{'error':>8}",
            *seen,
            *_notes(
                (
                    *costs.machine.notes,
                    f"{rank} of {occurring} costs are told apart by these times alone; ranges: 95%",
                    "prior has: share of the information that comes from the prior",
                )
            ),
        ]
    )


def _ends(low: float, high: float) -> str:
    return f"{two_digits(low)} to {two_digits(high) if np.isfinite(high) else 'any'}"


def folio_sizes_of_server() -> str:
    """Return what the published times say of the folio sizes: a sentence and a table."""
    head = f"{'size':<10}{'beforehand':>11}{'share':>8}{'95%':>14}{'that large or larger':>32}"
    rows = [
        f"{folio_size(int(row.order)):<10}{row.prior:>11.0%}{row.share:>8.1%}"
        f"{f'{row.low:.0%} to {row.high:.0%}':>14}"
        f"{f'{row.at_least:.0%} ({row.at_least_low:.0%} to {row.at_least_high:.0%})':>32}"
        f"{row.alone:>10.1%}"
        for row in folio_sizes.posterior().itertuples()
    ]
    sentence = textwrap.fill(folio_sizes.order_sentence(), WIDTH)
    told = "alone: likelihood that all folios have this size, the likeliest being 100%"
    return "\n".join([sentence, "", f"{head}{'alone':>10}", *rows, *_notes((told,))])


def attribution(value: Attribution) -> str:
    """Return the parts of a difference, in the unit's own digits."""
    scale, unit = (1.0, "s") if value.unit == "s" else (1e-6, "million instructions")
    if value.unit == "s" and max(value.before_value, value.after_value) < 0.1:
        scale, unit = 1e3, "ms"
    rows = []
    for row in value.parts.itertuples():
        ends = "" if pd.isna(row.low) else f"({row.low * scale:.3f} to {row.high * scale:.3f})"
        rows.append(f"{row.part:<31}{row.value * scale:>10.3f}  {ends}".rstrip())
    return "\n".join(
        [
            f"{value.arch}, order {value.order}: {value.before} to {value.after}, {unit}, "
            f"{value.basis}, id {value.id}",
            "",
            f"{value.before:<31}{value.before_value * scale:>10.3f}",
            f"{value.after:<31}{value.after_value * scale:>10.3f}",
            f"{'difference':<31}{value.difference * scale:>10.3f}",
            "",
            *rows,
            *_notes((*value.notes, f"{NOT_EXPLAINED}: measured less what the parts add up to")),
        ]
    )


def prediction(value: predict.Prediction) -> str:
    """Return a prediction, what was measured or published of the same, and the assumptions."""
    lines = [
        f"{value.arch}, order {value.order}: {value.before} to {value.after}, {value.metric}"
        f"{', blind' if value.blind else ''}, id {value.id}",
        f"elapsed reduction  {value.elapsed_reduction.percent(1)}",
        f"speedup            {value.speedup.times()}",
    ]
    if value.measured is not None:
        how = "instructions, under emulation" if value.metric == "instructions" else "in the table"
        lines.append(f"measured           {value.measured + 0:.1%} ({how})")
    if claim := predict.published_claim(value.arch, value.before, value.after):
        lines.append(
            f"published          {claim['elapsed_reduction']} ({claim['source']}); not an input"
        )
    return "\n".join([*lines, *_notes(value.assumptions)])


def _mean_abs(errors: pd.Series) -> float:
    return float(errors.abs().mean())


def _notes(notes) -> list[str]:
    return ["", *(textwrap.fill(f"- {note}", WIDTH, subsequent_indent="  ") for note in notes)]
