# SPDX-License-Identifier: GPL-2.0-only
"""Values as a terminal shows them."""

import textwrap

import pandas as pd

from analysis import fit, predict
from analysis.explain import NOT_EXPLAINED, Attribution

WIDTH = 100


def cost_model(arch: str) -> str:
    """Return costs, standard errors and the errors of the fit, in sample and left out."""
    model = fit.fit(arch)
    left_out = fit.leave_one_order_out(arch)
    large = left_out[left_out["order"] > 0]
    rows = [
        f"{row.group:<31}{row.instructions:>9.1f} {'+-':>3} {row.standard_error:<8.1f} {row.what}"
        for row in model.table().itertuples()
    ]
    by_order = large.groupby("order")["relative_error"]
    orders = [
        f"{order:>6} {_mean_abs(errors):>8.2%} {errors.abs().max():>8.2%} {len(errors):>6}"
        for order, errors in by_order
    ]
    return "\n".join(
        [
            f"{arch}: instructions per event, {len(model.cells)} cells, {model.dof} degrees of "
            f"freedom, id {model.id}",
            "",
            *rows,
            "",
            f"residuals: mean {_mean_abs(model.cells['relative_error']):.2%}, worst "
            f"{model.cells['relative_error'].abs().max():.2%}",
            f"left out orders 1 to 8: mean {fit.left_out_error(arch):.2%}, worst "
            f"{large['relative_error'].abs().max():.2%}",
            f"{'order':>6} {'mean':>8} {'worst':>8} {'cells':>6}",
            *orders,
            *_notes(model.warnings),
        ]
    )


def attribution(value: Attribution) -> str:
    """Return the parts of a difference, in the unit's own digits."""
    scale, unit = (1.0, "s") if value.unit == "s" else (1e-6, "million instructions")
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
        lines.append(f"measured           {value.measured + 0:.1%} (instructions, under emulation)")
    if claim := predict.published_claim(value.arch, value.before, value.after):
        lines.append(
            f"published          {claim['elapsed_reduction']} ({claim['source']}); not an input"
        )
    return "\n".join([*lines, *_notes(value.assumptions)])


def _mean_abs(errors: pd.Series) -> float:
    return float(errors.abs().mean())


def _notes(notes) -> list[str]:
    return ["", *(textwrap.fill(f"- {note}", WIDTH, subsequent_indent="  ") for note in notes)]
