# SPDX-License-Identifier: GPL-2.0-only
import json
from collections import Counter
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from test_ingest_captures import CAPTURES

from analysis import cli, profiles
from analysis.compare import CompareError
from analysis.ingest import read, read_text
from analysis.samples import Samples


def script(counts):
    sample = "a 1 12.000001: 100 cpu-clock: \n\tffff {}+0x1 (x)\n\t10 main+0x2 (x)\n\n"
    return read_text("".join(sample.format(name) * count for name, count in counts.items()))


def folded(counts):
    columns = {"metric": "cycles samples", "unit": "count", "run": 0, "source": "f:1"}
    return Samples.from_rows(
        columns | {"value": float(count), "part": stack, "symbol": stack.split(";")[-1]}
        for stack, count in counts.items()
    )


def test_functions_that_moved_come_first_with_intervals_that_hold_the_difference():
    found = profiles.moved(script({"f": 50, "g.isra.0": 50}), script({"f": 10, "g": 90}))
    assert {one.symbol for one in found} == {"f", "g"}
    assert [round(one.difference, 2) for one in found] == [-0.4, 0.4]
    for one in found:
        assert one.low < one.difference < one.high
        assert one.low * one.high > 0
        assert one.p < 0.001


def test_intervals_cover_and_the_same_profile_is_not_found_to_move():
    choose, covered, hits = np.random.default_rng(0), [], []
    for _ in range(200):
        before, after = (
            script({"f": int(count), "g": 200 - int(count)})
            for count in choose.binomial(200, 0.3, 2)
        )
        found = profiles.moved(before, after)
        covered += [one.low <= 0 <= one.high for one in found]
        hits.append(min(one.p for one in found) < 0.05)
    assert np.mean(covered) > 0.9
    assert np.mean(hits) < 0.1


def test_a_profile_without_all_its_samples_is_refused():
    whole = read(CAPTURES / "convert.json.xz")
    for name in ("report_sym.txt", "folded.txt", "stat_csv.txt"):
        with pytest.raises(CompareError, match="all its samples"):
            profiles.moved(whole, read(CAPTURES / name))


def test_speedscope_has_every_sample():
    whole = read(CAPTURES / "convert.json.xz")
    document = json.loads(json.dumps(profiles.speedscope(whole, whole)))
    names = [one["name"] for one in document["shared"]["frames"]]
    first = document["profiles"][0]
    assert sum(first["weights"]) == first["endValue"] == 1639
    leaves = Counter()
    for chain, weight in zip(first["samples"], first["weights"], strict=True):
        leaves[names[chain[-1]]] += weight
    assert leaves["main"] == 171


def test_the_flame_graph_is_an_svg_that_escapes_names(tmp_path, capsys):
    svg = profiles.flame_graph(script({"f": 50, "g": 50}), script({"f": 10, "a<b>": 90}))
    shapes = ET.fromstring(svg)
    titles = [one.text for one in shapes.iter("{http://www.w3.org/2000/svg}title")]
    assert "f: 50.00% to 10.00%" in titles
    assert "a<b>: 0.00% to 90.00%" in titles
    path = str(CAPTURES / "convert.json.xz")
    target = tmp_path / "moved.svg"
    assert cli.main(["compare", "--profiles", path, path, "--svg", str(target)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 75
    assert "n = 1639 and 1639 samples" in text
    assert ET.fromstring(target.read_text()).tag.endswith("svg")


@pytest.mark.parametrize("name", ["a\x01b", "a\x0bb", "\ud800x", "\u202egnp.exe", "]]><script>"])
def test_a_name_that_xml_cannot_hold_is_told_all_the_same(name):
    svg = profiles.flame_graph(folded({name: 5, "g": 5}), folded({name: 9, "g": 5}))
    titles = [one.text for one in ET.fromstring(svg.encode()).iter() if one.tag.endswith("title")]
    assert len(titles) == 3
    assert all(title.isprintable() for title in titles)


def test_stacks_deeper_than_python_recurses_are_drawn():
    deep = folded({";".join(f"f{place}" for place in range(3000)): 5})
    assert "f2999: 100.00% to 100.00%" in profiles.flame_graph(deep, deep)


def test_a_profile_of_no_samples_is_refused():
    with pytest.raises(CompareError, match="0 samples"):
        profiles.moved(folded({"f": 0}), folded({"f": 3}))


def test_wide_intervals_stay_in_75_columns():
    found = profiles.moved(folded({"f" * 40: 5, "g": 25}), folded({"f" * 40: 25, "g": 5}))
    text = profiles.to_text(found)
    assert "+66.7 (+42.8 to +79.9)" in text
    assert max(map(len, text.splitlines())) <= 75
