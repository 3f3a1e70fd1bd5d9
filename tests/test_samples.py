# SPDX-License-Identifier: GPL-2.0-only
import hashlib
import json
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.samples import COLUMNS, DTYPES, WIDTH, Samples, SamplesError

ROW = {"metric": "real", "unit": "s", "value": 1.018, "run": 0, "source": "mail.txt:15"}


def samples(*changes: dict, notes=()) -> Samples:
    return Samples.from_rows([ROW | change for change in changes or ({},)], notes)


def test_columns_and_dtypes_are_exactly_those_promised():
    frame = samples().frame
    assert tuple(frame.columns) == COLUMNS
    assert {name: str(frame[name].dtype) for name in frame} == DTYPES


def test_unknown_is_missing_never_zero():
    row = samples().frame.iloc[0]
    assert all(pd.isna(row[name]) for name in ("machine", "arch", "kernel", "workload", "order"))
    assert samples({"order": 0}).frame["order"].iloc[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arch": "riscv"}, "riscv"),
        ({"unit": "ms"}, "ms"),
        ({"unit": "count"}, "for a time"),
        ({"unit": None}, "unit"),
        ({"value": float("nan")}, "a value"),
        ({"value": None}, "a value"),
        ({"value": float("inf")}, "finite"),
        ({"value": -0.001}, "finite number >= 0"),
        ({"value": "fast"}, "value"),
        ({"order": -1}, "0 or more"),
        ({"order": 1.5}, "order"),
        ({"run": None}, "run"),
        ({"run": -1}, "0 or more"),
        ({"run": 2**70}, "run"),
        ({"metric": " "}, "metric"),
        ({"machine": ""}, "missing if it is not known"),
        ({"source": "mail.txt"}, "file:line"),
        ({"source": "mail.txt:x"}, "file:line"),
        ({"speed": 3}, "speed"),
    ],
)
def test_a_row_that_is_not_a_sample_is_refused(change, told):
    with pytest.raises(SamplesError, match=re.escape(told)) as caught:
        samples({}, change)
    assert "expected" in str(caught.value)


def test_a_refusal_names_the_row_and_its_source():
    with pytest.raises(SamplesError, match=r"row 1 \(mail.txt:99\): found value.*-1.0"):
        samples({}, {"value": -1.0, "source": "mail.txt:99"})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.drop(columns="run"),
        lambda frame: frame[list(reversed(COLUMNS))],
        lambda frame: frame.assign(extra=1),
        lambda frame: frame.astype({"run": "float64"}),
        lambda frame: frame.astype({"arch": object}),
    ],
)
def test_a_frame_of_another_shape_is_refused(spoil):
    with pytest.raises(SamplesError):
        Samples(spoil(samples().frame))


def test_the_frame_given_is_copied():
    frame = samples().frame.copy()
    kept = Samples(frame)
    frame.loc[0, "value"] = 9.0
    assert kept.frame["value"].iloc[0] == 1.018


def test_id_depends_on_the_rows_and_on_nothing_else():
    first = samples(notes=("a note",))
    assert re.fullmatch("[0-9a-f]{12}", first.id)
    assert first.id == samples().id
    changed = ({"value": 1.019}, {"order": 0}, {"run": 1}, {"arch": "arm64"}, {"source": "b:15"})
    assert len({first.id, *(samples(change).id for change in changed)}) == 1 + len(changed)


def test_id_is_of_canonical_json():
    text = (
        '[{"arch":null,"kernel":null,"machine":null,"metric":"real","order":null,"run":0,'
        '"source":"mail.txt:15","unit":"s","value":1.018,"workload":null}]'
    )
    assert samples().id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_csv_round_trip_keeps_the_rows(tmp_path):
    kept = samples({}, {"arch": "arm64", "order": 4, "value": 61.345})
    kept.frame.to_csv(tmp_path / "samples.csv", index=False)
    back = pd.read_csv(tmp_path / "samples.csv", dtype=DTYPES)
    assert Samples(back).id == kept.id


def test_text_shows_each_value_and_each_note():
    text = samples({}, {"value": 0.249, "source": "mail.txt:20"}, notes=("counted once",)).to_text()
    assert "1.018" in text
    assert "0.249" in text
    assert "note: counted once" in text
    assert samples().id in samples().to_text()


def test_text_of_no_rows_is_still_a_table():
    assert "n = 0 rows" in Samples.from_rows([]).to_text()


def test_text_from_a_file_cannot_play_tricks_on_a_terminal():
    hostile = {"machine": "\x1b[2Jserver\n\u202e", "source": "a\nb:3"}
    text = samples(hostile, {}, notes=("\x1b]0;title\x07 caf\u00e9",)).to_text()
    assert text.isascii()
    assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_text_keeps_its_width_when_every_column_is_long_and_differs():
    texts = ("machine", "workload", "kernel", "metric")
    wide = [
        {name: f"{name} {sign * 60}" for name in texts}
        | {"order": 10**15 + n, "run": 10**15 + n, "value": 1e15 / 3 + n}
        | {"arch": arch, "unit": unit, "source": f"{sign * 50}:{10**n}"}
        for n, (sign, arch, unit) in enumerate([("a", "arm64", "s"), ("b", "x86_64", "count")])
    ]
    text = samples(*wide).to_text()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"workload {'b' * 60}" in text


long_text = st.text(min_size=1, max_size=120).filter(str.strip)
rows = st.fixed_dictionaries(
    {
        "machine": st.none() | long_text,
        "arch": st.sampled_from([None, "arm64", "x86_64"]),
        "workload": st.none() | long_text,
        "kernel": st.none() | long_text,
        "order": st.none() | st.integers(0, 2**62),
        "metric": long_text.filter(lambda text: text not in ("real", "user", "sys")),
        "unit": st.sampled_from(["s", "instructions"]),
        "value": st.floats(0, 1e300),
        "run": st.integers(0, 2**62),
        "source": long_text.map(lambda text: text + ":12"),
    }
)


@settings(deadline=None)
@given(st.lists(rows, max_size=4), st.lists(st.text(max_size=200), max_size=2))
def test_text_is_ascii_and_within_its_width_whatever_the_rows(given_rows, notes):
    kept = Samples.from_rows(given_rows, notes)
    text = kept.to_text()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"n = {len(given_rows)} rows, id {kept.id}" in text


def test_html_escapes_what_came_from_a_file_and_cuts_nothing():
    script = "<script>alert('&')</script>"
    page = samples(
        {"machine": script, "workload": "w" * 200, "source": f"{script}:1"}, notes=(script,)
    )._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
    assert "w" * 200 in page


def test_json_of_the_frame_is_plain_json():
    (row,) = json.loads(samples().frame.to_json(orient="records"))
    assert row["value"] == 1.018
    assert row["order"] is None
