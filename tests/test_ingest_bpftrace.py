# SPDX-License-Identifier: GPL-2.0-only
"""bpftrace's maps: keys on several lines, values that are no numbers, damage."""

import pytest

from analysis.ingest import IngestError, read_text


def parts(text):
    frame = read_text(text).frame
    return dict(zip(frame["part"].fillna(""), frame["value"], strict=True))


def test_a_stack_is_a_key_on_several_lines():
    text = "@both[my prog, \n    f+12\n    g+3\n]: 4\n@[\n    h+1\n, x]: 5\n@both[a, ]: 6\n"
    assert parts(text) == {"key=my prog,;f+12;g+3": 4.0, "key=h+1;, x": 5.0, "key=a, ": 6.0}
    document = '{"type": "map", "data": {"@both": {"my prog,\\n    f+12\\n    g+3\\n": 4}}}\n'
    assert parts(document) == {"key=my prog,;f+12;g+3": 4.0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("@[\n    f+1\nother output\n]: 4\n", ":3: found 'other output'"),
        ("@[\n    f+1\n", ":2: found a key without its end"),
        ("@[\n    f+1\n]: -4\n", ":3: found a negative value"),
        ("@s: count 5, average 2, total 1", "without a line end"),
        ('{"type": "map", "data": {"@x": {"a": 1, "a": 2}}}\n', "the key 'a' is there twice"),
    ],
)
def test_damaged_maps_are_refused(text, told):
    with pytest.raises(IngestError, match=told):
        read_text(text)


def test_maps_of_text_are_noted():
    samples = read_text('{"type": "map", "data": {"@x": {"a": 1, "b": "z"}, "@y": "abc"}}\n')
    assert list(samples.frame["value"]) == [1.0]
    assert samples.notes == (
        "@x[b]: text, not a number (line 1)", "@y: text, not a number (line 1)"
    )  # fmt: skip
