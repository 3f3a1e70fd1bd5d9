# SPDX-License-Identifier: GPL-2.0-only
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import cli, compare_text
from analysis.compare import CompareError, compare, difference, rejected
from analysis.ingest import read
from analysis.measurements import DATA
from analysis.samples import Samples

AA = pd.read_csv(DATA / "host" / "aa_runs.csv")


def samples(values, runs=None, **columns):
    rows = [
        {"metric": "real", "unit": "s", "value": float(value), "run": run, "source": f"f:{run + 1}"}
        | columns
        for run, value in zip(runs or range(len(values)), values, strict=True)
    ]
    return Samples.from_rows(rows)


def noisy(count, seed=0, r=0.5):
    choose = np.random.default_rng(seed)
    noise = choose.standard_normal(count)
    for place in range(1, count):
        noise[place] += r * noise[place - 1]
    return np.exp(0.02 * noise)


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_identical_runs_in_sequence_differ_in_at_most_6_percent(column):
    assert rejected(AA[column], "sequence") <= 0.06


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_welch_and_mann_whitney_find_differences_that_are_not_there(column):
    logs = np.log(AA[column].to_numpy())
    windows = [logs[start : start + 20] for start in range(481)]
    welch = [stats.ttest_ind(w[:10], w[10:], equal_var=False).pvalue < 0.05 for w in windows]
    ranks = [stats.mannwhitneyu(w[:10], w[10:]).pvalue < 0.05 for w in windows]
    assert np.mean(welch) > 0.12
    assert np.mean(ranks) > 0.22


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_runs_in_pairs_have_the_nominal_rate_and_the_power(column):
    assert 0.04 <= rejected(AA[column], "paired") <= 0.06
    assert rejected(AA[column], "paired", effect=0.05) >= 0.9


@pytest.mark.parametrize("column", ["cpu_s", "wall_s"])
def test_alternating_runs_have_the_rate_and_the_power(column):
    assert rejected(AA[column], "alternating") <= 0.06
    assert rejected(AA[column], "alternating", effect=0.05) >= 0.9


@pytest.mark.parametrize("design", ["sequence", "alternating", "paired"])
@pytest.mark.parametrize("r", [0.0, 0.5])
def test_simulated_runs_keep_the_rate(design, r):
    assert rejected(noisy(2000, 1, r), design) <= 0.07


@pytest.mark.parametrize("per_side", [6, 15, 30])
def test_other_numbers_of_runs_keep_the_rate(per_side):
    for design in ("sequence", "alternating"):
        assert rejected(noisy(1500, 2, 0.3), design, per_side) <= 0.08


def test_the_interval_covers_the_ratio_and_agrees_with_p():
    hits = []
    for seed in range(200):
        values = np.log(noisy(20, seed))
        labels = np.arange(20) % 2 == 1
        best, half, p, smallest, design = difference(values + labels * math.log(1.05), labels)
        assert design == "alternating"
        assert (abs(best) > half) == (p < 0.05)
        assert smallest > half
        hits.append(abs(best - math.log(1.05)) <= half)
    assert np.mean(hits) > 0.9


def test_a_paired_interval_holds_what_the_test_does_not_reject():
    values = noisy(20, 3)
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 0] * 2, dtype=bool)
    best, half, p, _, design = difference(np.log(values) + labels * 0.1, labels)
    assert design == "paired"
    assert p < 0.05
    assert best - half > 0
    assert abs(best - 0.1) < half


def test_run_numbers_tell_the_order():
    before, after = noisy(10, 4), noisy(10, 5)
    evens, odds = list(range(0, 20, 2)), list(range(1, 20, 2))
    (one,) = compare(samples(before, evens), samples(after, odds))
    assert one.design == "alternating"
    (one,) = compare(samples(before), samples(after), interleaved=True)
    assert one.design == "alternating"
    (one,) = compare(samples(before), samples(after))
    assert one.design == "sequence"
    assert any("alternate" in note for note in one.notes)


def test_too_few_runs_have_an_infinite_interval_and_say_how_many_do():
    (one,) = compare(samples([1.0, 1.1]), samples([0.5, 0.6]))
    assert (one.low, one.high, one.p) == (0.0, math.inf, 1.0)
    assert "2 runs a side tell nothing: sequence needs 4" in one.notes[0]
    text = compare_text.to_text([one])
    assert "0.000 to inf" in text
    assert "these runs could have shown no effect" in text
    assert json.loads(json.dumps(compare_text.to_dict([one]), allow_nan=False))[0]["high"] is None


def test_equal_times_are_a_coarse_clock_not_a_certainty():
    (one,) = compare(samples([0.1] * 10), samples([0.2] * 10))
    assert (one.p, one.high) == (1.0, math.inf)
    assert "too coarse" in one.notes[0]


def test_exact_counts_are_compared_as_they_are():
    exact = {"metric": "instructions", "unit": "instructions"}
    (one,) = compare(samples([1000, 1000], **exact), samples([900, 900], **exact))
    assert (one.design, one.ratio, one.low, one.high) == ("exact", 0.9, 0.9, 0.9)
    (one,) = compare(samples([1000, 1001], **exact), samples([900, 900], **exact))
    assert one.design == "sequence"


def test_holm_corrects_for_all_that_was_tested():
    sides = []
    for effect in (1.0, 1.05):
        frames = [
            samples(effect * noisy(10, seed), range(effect > 1, 20, 2), order=seed).frame
            for seed in range(3)
        ]
        sides.append(Samples(pd.concat(frames)))
    found = compare(*sides)
    least = min(found, key=lambda one: one.p)
    assert least.p_holm == pytest.approx(min(1, 3 * least.p))
    assert all(one.p_holm >= one.p for one in found)
    assert "corrected for 3 comparisons" in compare_text.to_text(found)


def test_hyperfine_runs_of_two_commands_are_compared(tmp_path):
    paths = []
    for name in ("old", "new"):
        path = tmp_path / name
        times = [float(value) for value in noisy(8)]
        path.write_text(json.dumps({"results": [{"command": f"./{name}", "times": times}]}))
        paths.append(path)
    (one,) = compare(*map(read, paths))
    assert (one.nr_before, one.nr_after, one.design) == (8, 8, "sequence")
    assert one.ratio == 1.0


def test_nothing_in_common_is_refused():
    with pytest.raises(CompareError, match="no metric that both have"):
        compare(samples([1.0]), samples([1.0], metric="user"))
    with pytest.raises(CompareError, match="a value of 0 has no ratio"):
        compare(samples([0.0] * 5), samples([1.0] * 5))


def test_text_is_ascii_of_75_columns_and_the_same_each_time(tmp_path, capsys):
    for name, scale in (("a", 1.0), ("b", 0.25)):
        runs = [f"real {scale * value:.3f}\nuser 0.10\nsys {value:.3f}\n" for value in noisy(10)]
        (tmp_path / name).write_text("\n".join(runs))
    outputs = []
    for form in ([], [], ["--markdown"], ["--json"]):
        arguments = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--interleaved", *form]
        assert cli.main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].isascii()
    assert max(map(len, outputs[0].splitlines())) <= 75
    assert outputs[2].startswith("| metric | before |")
    assert {row["metric"] for row in json.loads(outputs[3])} == {"real", "user", "sys"}
