# SPDX-License-Identifier: GPL-2.0-only
"""The calibration of A/B tests: on runs that are known, on the host's, and on bad ones."""

import numpy as np
import pytest

from analysis import calibration, figures

HOST = calibration.identical_runs()


def shares(table, column):
    return {(row.test, row.order): getattr(row, column) for row in table.itertuples()}


def test_the_host_s_runs_are_called_different_as_the_docstring_of_difference_says():
    table = calibration.calibration(HOST)
    false = shares(table, "false_positives")
    assert max(rate for (test, _), rate in false.items() if test == "this workbook") <= 0.06
    assert false["Welch", "sequence"] == pytest.approx(0.204, abs=0.002)
    assert false["Mann-Whitney", "sequence"] == pytest.approx(0.285, abs=0.002)
    power = shares(table, "power")
    assert min(power["this workbook", order] for order in ("alternating", "paired")) >= 0.9
    text = calibration.sentence(table, len(HOST))
    assert "Of 500 identical runs" in text
    assert "3.7% to 4.6%" in text
    figure = figures.ab_calibration(table, len(HOST))
    assert "at most 4.6% different" in figure.get_suptitle().replace("\n", " ")


def test_independent_runs_satisfy_every_test():
    runs = np.exp(np.random.default_rng(1).normal(0, 0.02, 400))
    table = calibration.calibration(runs, effect=0.2)
    assert (table["false_positives"] < 0.12).all()
    assert (table["power"] > 0.95).all()


@pytest.mark.parametrize(
    ("runs", "said"),
    [(HOST[:59], "at least 60"), (np.append(HOST, 0.0), "above 0")],
)
def test_what_cannot_calibrate_is_refused(runs, said):
    with pytest.raises(calibration.CalibrationError, match=said):
        calibration.calibration(runs)


def test_runs_are_read_from_a_capture_and_a_metric_must_be_chosen(tmp_path):
    saved = tmp_path / "runs.txt"
    saved.write_text(
        "".join(f"real\t0m0.{100 + n}s\nuser\t0m0.010s\nsys\t0m0.080s\n\n" for n in range(70))
    )
    with pytest.raises(calibration.CalibrationError, match="3 metrics; expected one of real"):
        calibration.identical_runs(str(saved))
    with pytest.raises(calibration.CalibrationError, match="metric 'wall'"):
        calibration.identical_runs(str(saved), "wall")
    runs = calibration.identical_runs(str(saved), "real")
    assert runs == pytest.approx([(100 + n) / 1000 for n in range(70)])
