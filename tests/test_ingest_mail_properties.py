# SPDX-License-Identifier: GPL-2.0-only
import io
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_ingest_mail import KEYS, MAILS, block, quoted

from analysis.ingest import IngestError, read, read_text

seconds = st.tuples(st.integers(0, 90), st.integers(0, 59_999))
runs = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(*[seconds] * 6), min_size=n, max_size=n)
)
dialects = st.fixed_dictionaries(
    {
        "mark": st.sampled_from(["", "> ", ">", "> > > ", ">>>", "> >> "]),
        "gap": st.sampled_from(["\t", "    ", " \t "]),
        "ending": st.sampled_from(["\n", "\r\n"]),
        "columns": st.booleans(),
        "around": st.booleans(),
        "comma": st.booleans(),
        "labels": st.sampled_from([("W/o patch:", "W/ patch:"), ("before:", "after:")]),
    }
)


def shown(time, dialect):
    text = f"{time[0]}m{time[1] // 1000}.{time[1] % 1000:03}s"
    return text.replace(".", ",") if dialect["comma"] else text


def printed(given_runs, dialect):
    words = [[shown(time, dialect) for time in run] for run in given_runs]
    before, after = dialect["labels"]
    gap = dialect["gap"]
    if dialect["columns"]:
        rows = [f"{run[place]}{gap}{run[place + 3]}" for run in words for place in range(3)]
        text = block(f"{before}{gap}{after}", *rows, gap=gap)
    else:
        first = [word for run in words for word in run[:3]]
        second = [word for run in words for word in run[3:]]
        text = f"{block(before, *first, gap=gap)}\n{block(after, *second, gap=gap)}"
    if dialect["around"]:
        text = f"Reclaim 8G on my Arm64 server.\n\n{text}\nreal numbers, by user and sys\n"
    return quoted(text, dialect["mark"]).replace("\n", dialect["ending"])


def values(given_runs):
    return {
        (side, run, KEYS[place]): (time[0] * 60_000 + time[1]) / 1000
        for run, times in enumerate(given_runs)
        for side, half in (("before", times[:3]), ("after", times[3:]))
        for place, time in enumerate(half)
    }


def found(samples):
    return {(row.kernel, row.run, row.metric): row.value for row in samples.frame.itertuples()}


@settings(deadline=None)
@given(runs, dialects)
def test_what_is_printed_is_read_back(given_runs, dialect):
    samples = read_text(printed(given_runs, dialect))
    assert len(samples.frame) == 6 * len(given_runs)
    assert found(samples) == values(given_runs)


@settings(deadline=None, max_examples=25)
@given(runs, dialects)
def test_a_file_cut_anywhere_gives_no_wrong_number(given_runs, dialect):
    whole = printed(given_runs, dialect).encode()
    for end in range(len(whole)):
        try:
            cut = found(read(io.BytesIO(whole[:end])))
        except IngestError:
            continue
        # Only in two columns can whole runs be missing without a trace.
        kept = len(given_runs) if not dialect["columns"] else len(cut) // 6
        assert cut == values(given_runs[:kept])


@settings(deadline=None)
@given(runs, dialects, st.data())
def test_a_flipped_bit_outside_the_digits_gives_no_wrong_number(given_runs, dialect, draw):
    whole = bytearray(printed(given_runs, dialect).encode())
    place = draw.draw(st.integers(0, len(whole) - 1))
    assume(not chr(whole[place]).isdigit())
    whole[place] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        flipped = found(read(io.BytesIO(bytes(whole))))
    except IngestError:
        return
    assert flipped == values(given_runs)


captures = st.sampled_from(sorted(MAILS.iterdir())).map(Path.read_bytes)


@settings(deadline=None, max_examples=200)
@given(captures, st.data())
def test_a_mangled_capture_is_read_or_refused_and_never_crashes(raw, draw):
    mangled = bytearray(raw[: draw.draw(st.integers(0, len(raw)))])
    for _ in range(draw.draw(st.integers(0, 5))):
        if mangled:
            mangled[draw.draw(st.integers(0, len(mangled) - 1))] = draw.draw(st.integers(0, 255))
    try:
        read(io.BytesIO(bytes(mangled)))
    except IngestError as refusal:
        assert str(refusal).startswith("<stream>")  # noqa: PT017
