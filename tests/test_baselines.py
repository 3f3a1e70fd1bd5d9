# SPDX-License-Identifier: GPL-2.0-only
"""Curves in the folio size find a curve of their own form again, and miss what the kernel does."""

import numpy as np
import pytest

from analysis import baselines, fit
from sim import MEASURED_ARCHES

fresh = baselines.leave_one_order_out.__wrapped__


@pytest.mark.parametrize(("form", "power", "log"), [("plain", 1, 0), ("extra-p", 2 / 3, 1)])
def test_a_curve_of_its_own_form_is_found_again(form, power, log, monkeypatch):
    cells, counts = fit.emulated_cells()
    n = 2.0 ** cells["order"]
    folios = cells["pgsteal"] / n
    made = cells.assign(instructions=folios * (900 + 70 * n**power * np.log2(n) ** log))
    monkeypatch.setattr(fit, "emulated_cells", lambda: (made, counts))
    # A left-out order 0 has only log2(1) = 0 to go by where the term has a logarithm.
    assert fresh("x86_64", form)["relative_error"].abs().max() < 1e-6


def test_a_plain_curve_cannot_be_a_bent_one(monkeypatch):
    cells, counts = fit.emulated_cells()
    n = 2.0 ** cells["order"]
    made = cells.assign(instructions=cells["pgsteal"] / n * (900 + 70 * n**2))
    monkeypatch.setattr(fit, "emulated_cells", lambda: (made, counts))
    assert fresh("x86_64", "plain")["relative_error"].abs().max() > 0.5


def test_what_an_order_measured_does_not_reach_its_own_prediction(monkeypatch):
    before = baselines.leave_one_order_out("arm64", "extra-p").set_index("order")["predicted"]
    cells, counts = fit.emulated_cells()
    made = cells.assign(instructions=cells["instructions"] * np.where(cells["order"] == 4, 10, 1))
    monkeypatch.setattr(fit, "emulated_cells", lambda: (made, counts))
    after = fresh("arm64", "extra-p").set_index("order")["predicted"]
    assert after.loc[4].to_numpy() == pytest.approx(before.loc[4].to_numpy())
    assert not np.allclose(after.loc[5], before.loc[5], rtol=1e-3)


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("form", baselines.FORMS)
def test_events_beat_curves_on_the_same_cells_tenfold(arch, form):
    curves, events = baselines.leave_one_order_out(arch, form), fit.leave_one_order_out(arch)
    assert sorted(curves["instructions"]) == sorted(events["instructions"])
    errors = [
        cells[cells["order"] > 0].groupby("lru")["relative_error"].agg(lambda e: e.abs().mean())
        for cells in (events, curves)
    ]
    assert (errors[1] > 10 * errors[0]).all()
    large = curves[curves["order"] > 0]["relative_error"].abs()
    assert large.max() > 0.13


def test_the_terms_are_extra_ps():
    assert len(baselines.POWERS) == 19
    assert len(baselines.FORMS["extra-p"]) == 19 * 3 - 1
