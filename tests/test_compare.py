# SPDX-License-Identifier: GPL-2.0-only
import json
import math

import numpy as np
import pandas as pd
import pytest

from analysis import cli, compare_text
from analysis.compare import CompareError, compare
from analysis.difference import LEAST
from analysis.ingest import read
from analysis.samples import Samples


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


def test_run_numbers_tell_the_order():
    before, after = noisy(10, 4), noisy(10, 5)
    evens, odds = list(range(0, 20, 2)), list(range(1, 20, 2))
    (one,) = compare(samples(before, evens), samples(after, odds))
    assert one.design == "alternating"
    (one,) = compare(samples(before), samples(after), interleaved=True)
    assert one.design == "alternating"
    (one,) = compare(samples(before), samples(after))
    assert one.design == "sequence"
    assert any("pairs in random order" in note for note in one.notes)


def test_too_few_runs_have_an_infinite_interval_and_say_how_many_do():
    (one,) = compare(samples([1.0, 1.1]), samples([0.5, 0.6]))
    assert (one.low, one.high, one.p) == (0.0, math.inf, 1.0)
    assert f"2 runs a side tell nothing: it takes {LEAST}" in one.notes[0]
    text = compare_text.to_text([one])
    assert "0.000 to inf" in text
    assert "these runs could show no effect at all" in text
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
    assert one.low < 1 < one.high


def test_nothing_in_common_is_refused():
    with pytest.raises(
        CompareError, match="real, in s: only before has it; user, in s: only after"
    ):
        compare(samples([1.0]), samples([1.0], metric="user"))
    with pytest.raises(CompareError, match="a value of 0 has no ratio"):
        compare(samples([0.0] * 5), samples([1.0] * 5))


def test_what_one_side_alone_has_is_told():
    both = pd.concat([samples(noisy(5)).frame, samples(noisy(5), metric="user").frame])
    size = {"metric": "size", "unit": "bytes"}
    extra = Samples(pd.concat([both, samples(noisy(5), **size).frame]))
    other = Samples(pd.concat([both, samples(noisy(5), **size | {"unit": "pages"}).frame]))
    found = compare(extra, other)
    assert [one.metric for one in found] == ["real", "user"]
    assert "size, in bytes: only before has it" in found[0].notes
    assert "size, in pages: only after has it" in found[0].notes


def test_holm_does_not_count_what_could_not_be_tested():
    sides = [
        Samples(pd.concat([samples(runs).frame, samples([0.1] * 8, metric="user").frame]))
        for runs in (noisy(8, 1), 2 * noisy(8, 2))
    ]
    real, user = compare(*sides)
    assert (real.tested, user.tested) == (True, False)
    assert real.p_holm == real.p
    assert "Holm" not in compare_text.to_text([real, user])


def test_runs_out_of_order_are_put_in_order_before_they_alternate():
    before, after = np.exp(np.linspace(0, 0.5, 8)), np.exp(np.linspace(0, 0.5, 8) + 0.1)
    turned = samples(before[::-1], runs=list(range(7, -1, -1)))
    (one,) = compare(turned, samples(after), interleaved=True)
    assert one.ratio == pytest.approx(math.exp(0.1 - 0.5 / 14), rel=1e-3)


@pytest.mark.parametrize("metric", ["m" * 90, "a|b<script>*x*", "naive\u00ef\n\x1b[31m"])
def test_hostile_names_and_wide_cells_stay_in_75_columns(metric):
    found = compare(
        samples(1e-7 * noisy(1200), metric=metric, unit="1"),
        samples(1.2345e-4 * noisy(1200), metric=metric, unit="1"),
    )
    text = compare_text.to_text(found)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "\x1b" not in text
    row = compare_text.to_markdown(found).splitlines()[2]
    assert "<" not in row.replace("<0.001", "")
    assert row.replace("\\|", "").count("|") == 8


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
