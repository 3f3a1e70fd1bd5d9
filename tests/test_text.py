# SPDX-License-Identifier: GPL-2.0-only
import pytest

from analysis import baselines, explain, fit, measurements, predict, text
from sim import MEASURED_ARCHES


def row_of(shown, name):
    (row,) = (line for line in shown.splitlines() if line[:31].rstrip() == name)
    return row[31:].replace("(", "").replace(")", "").split()


def cost_row(shown, name):
    (row,) = (line for line in shown.splitlines() if line[:34].rstrip() == name)
    return row[34:].split()


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_cost_model_shows_every_cost_and_its_standard_error(arch):
    shown = text.cost_model(arch)
    model = fit.fit(arch)
    for row in model.table().itertuples():
        cost, sign, error, *what = cost_row(shown, row.group)
        assert (cost, sign, error) == (
            f"{row.instructions:.1f}",
            "+-",
            f"{row.standard_error:.1f}",
        )
        assert " ".join(what) == row.what + (f" (as {row.priced_as})" if row.priced_as else "")
    assert model.id in shown
    for warning in model.warnings:
        assert warning in shown


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_a_cost_model_shows_its_errors_on_orders_left_out(arch):
    shown = text.cost_model(arch)
    own = fit.fit(arch).cells["relative_error"].abs()
    assert f"residuals: mean {own.mean():.2%}, worst {own.max():.2%}" in shown
    left_out = {
        "events": fit.leave_one_order_out(arch),
        **{f"{form} curve": baselines.leave_one_order_out(arch, form) for form in baselines.FORMS},
    }
    for lru in ("classic", "mglru"):
        for name, cells in left_out.items():
            large = cells[(cells["order"] > 0) & (cells["lru"] == lru)]
            errors = large["relative_error"].abs()
            worst = large.loc[errors.idxmax()]
            (row,) = (x for x in shown.splitlines() if x.startswith(f"{lru}: {name}, orders 1"))
            assert row[38:].split()[:3] == [
                f"{errors.mean():.2%}",
                f"{errors.max():.2%}",
                str(len(large)),
            ]
            assert f"{worst['kernel']}, order {worst['order']}, " in row
    rows = [line.split() for line in shown.splitlines()]
    errors = left_out["events"].set_index("order")["relative_error"].abs()
    for order, those in errors.groupby("order"):
        assert [str(order), f"{those.mean():.2%}", f"{those.max():.2%}", str(len(those))] in rows


def test_an_attribution_in_instructions_is_in_millions():
    shown = text.attribution(explain.explain("arm64", 4, metric="instructions"))
    cells = measurements.plain_cells("arm64", 4)["instructions"]
    before, after = cells["references"], cells["unmap"]
    assert row_of(shown, "references") == [f"{before / 1e6:.3f}"]
    assert row_of(shown, "unmap") == [f"{after / 1e6:.3f}"]
    assert row_of(shown, "difference") == [f"{(before - after) / 1e6:.3f}"]


def test_an_attribution_of_time_is_in_seconds_and_its_rows_add_up():
    attribution = explain.explain("arm64", 6, metric="time")
    shown = text.attribution(attribution)
    assert row_of(shown, "difference") == ["0.769"]
    values = [float(row_of(shown, part)[0]) for part in attribution.parts["part"]]
    assert sum(values) == pytest.approx(0.769, abs=0.0005 * (len(values) + 1))
    assert "(" in next(line for line in shown.splitlines() if line.startswith("not explained"))
    assert "order 6 is assumed" in shown
    assert attribution.id in shown


def test_a_prediction_shows_the_interval_the_claim_and_each_assumption():
    prediction = predict.predict("x86_64", 6)
    shown = text.prediction(prediction)
    assert f"elapsed reduction  {prediction.elapsed_reduction.percent(1)}" in shown
    assert f"speedup            {prediction.speedup.times()}" in shown
    assert "50%+ (Linux commit a67fe41e214f (in v7.0)); not an input" in shown
    assert "measured" not in shown.partition("\n\n")[0]
    unwrapped = " ".join(shown.split())
    for assumption in prediction.assumptions:
        assert assumption in unwrapped


def test_a_prediction_of_instructions_shows_what_was_measured():
    prediction = predict.predict("x86_64", 4, metric="instructions", blind=True)
    shown = text.prediction(prediction)
    assert f"measured           {prediction.measured:.1%} (instructions, under emulation)" in shown
    assert "instructions, blind" in shown


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
def test_text_is_ascii_without_trailing_blanks(arch):
    shown = [
        text.cost_model(arch),
        text.prediction(predict.predict(arch, 5)),
        text.prediction(predict.predict(arch, 0)),
        text.attribution(explain.explain(arch, 3, metric="instructions")),
    ]
    for line in "\n".join(shown).splitlines():
        assert line.isascii()
        assert line == line.rstrip()
