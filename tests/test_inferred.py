# SPDX-License-Identifier: GPL-2.0-only
"""What is drawn is what was given: artists' values, not pictures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from analysis import (
    ablations,
    coverage,
    figures,
    folio_sizes,
    inferred,
    machines,
    sensitivity,
    timing,
)


@pytest.fixture(scope="module")
def host():
    return timing.time_fit(machines.host())


def points(axes):
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return [np.column_stack(bar[0].get_data()) for bar in bars]


def test_costs_are_drawn_a_marker_a_verdict(host):
    table = host.table()
    axes = inferred.time_costs(table, "x86_64", "host", "n").axes[0]
    for drawn, verdict in zip(points(axes), timing.VERDICTS, strict=True):
        own = table[table["verdict"] == verdict]
        assert drawn[:, 0].astype(float) == pytest.approx(own["best"].to_numpy())
        assert np.rint(drawn[:, 1].astype(float)).tolist() == own.index.tolist()


def test_the_title_counts_the_verdicts(host):
    count = host.table()["verdict"].value_counts()
    found = figures.finding(inferred.time_costs(host.table(), "x86_64", "host", "n"))
    assert f"{count['measured']} measured" in found


def test_predictions_stand_over_what_was_measured(host):
    seen = host.observations()
    figure = inferred.fitted_times(seen, "x86_64", "host")
    drawn = np.vstack(points(figure.axes[0]))
    assert sorted(drawn[:, 0]) == pytest.approx(sorted(seen["ns"]))
    assert sorted(drawn[:, 1]) == pytest.approx(sorted(seen["predicted"]))
    line = next(line for line in figure.axes[0].lines if line.get_label() == "1:1")
    assert np.array_equal(line.get_xdata(), line.get_ydata())
    (errors,) = points(figure.axes[1])
    assert errors[:, 0] == pytest.approx(seen["error"].to_numpy())


def test_coverage_and_its_band():
    table = pd.DataFrame({"quantity": ["a", "b"], "covered": [0.94, 0.90], "n": [500, 500]})
    figure = inferred.interval_coverage(table)
    (drawn,) = points(figure.axes[0])
    assert drawn[:, 0].tolist() == [0.94, 0.90]
    band = figure.axes[0].patches[0]
    assert band.get_x() == coverage.LOW
    assert band.get_width() == pytest.approx(coverage.HIGH - coverage.LOW)
    assert figures.finding(figure).startswith("1 of 2 intervals")


def test_a_tornado_has_a_bar_from_end_to_end(host):
    table = sensitivity.tornado(host, 6)
    figure = inferred.assumptions_tornado(table, "x86_64", "what?")
    bars = figure.axes[0].patches
    ends = np.array([[bar.get_x(), bar.get_x() + bar.get_width()] for bar in bars])
    assert ends == pytest.approx(np.sort(table[["low", "high"]].to_numpy(), axis=1))
    assert table["assumption"].iloc[0] in figures.finding(figure)


def test_folio_sizes_likelihood_share_and_how_much_is_larger():
    table = folio_sizes.posterior()
    figure = inferred.folio_size_posterior(table, "found")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([*table["alone"], *table["share"]])
    (drawn,) = points(figure.axes[1])
    assert drawn[:, 1] == pytest.approx(table["at_least"].to_numpy())
    assert figures.finding(figure) == "Found"


def test_ablations_in_time_and_in_instructions(host):
    table = ablations.ablations(host, 4)
    axes = inferred.ablation_steps(table, "x86_64", 4).axes[0]
    (drawn,) = points(axes)
    assert drawn[:, 0] == pytest.approx(table["best"].dropna().to_numpy())
    counted = next(line for line in axes.lines if "instructions" in str(line.get_label()))
    assert counted.get_xdata() == pytest.approx(table["instructions"].to_numpy(), nan_ok=True)


@pytest.mark.parametrize(
    "draw",
    [
        lambda none: inferred.time_costs(none, "arm64", "", ""),
        lambda none: inferred.fitted_times(none, "arm64", ""),
        inferred.interval_coverage,
        lambda none: inferred.assumptions_tornado(none, "arm64", ""),
        lambda none: inferred.folio_size_posterior(none, ""),
        lambda none: inferred.ablation_steps(none, "arm64", 4),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(ValueError, match="pass at least one"):
        draw(pd.DataFrame())
