# SPDX-License-Identifier: GPL-2.0-only
"""Captures as accidents leave them: read as they were, or refused; no traceback, no new number.

"Never a wrong number" is held like this: what a damaged capture gives, the whole one gives too.
"""

import bz2
import gzip
import io
import lzma
import random
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest

from analysis import ingest
from analysis.ingest import IngestError, fold
from analysis.ingest.book import Book
from analysis.ingest.source import LINE_LIMIT, lines, opened

CAPTURES = Path(__file__).parent / "captures"
READ = sorted(
    path.name
    for path in CAPTURES.iterdir()
    if path.suffix != ".xz" and not path.name.startswith(("zone", "pagetype", "perf_trace"))
)
WHOLE = ["stat_default.txt", "stat_csv.txt", "stat_r5_json.txt", "report_sym.txt", "time_gnu_v.txt",
         "script_default.txt", "bpftrace_hist.txt", "vmstat_after.txt", "folded.txt",
         "loc_de_DE_stat.txt", "hyperfine.json", "time_bash_default.txt"]  # fmt: skip


def values(content, form=None):
    stream = io.BytesIO(content)
    stream.name = "capture"
    frame = ingest.read(stream, form).frame
    columns = ["metric", "unit", "value", "part", "run"]
    return [tuple(row) for row in frame[columns].astype(object).fillna("").values.tolist()]


def values_or_refused(content, form=None):
    try:
        return values(content, form)
    except IngestError:
        return None


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress, bz2.compress])
def test_compressed_captures_are_the_same(name, packed):
    content = (CAPTURES / name).read_bytes()
    assert values(packed(content)) == values(content)


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress, bz2.compress])
def test_compressed_captures_that_break_off_are_refused(packed):
    content = packed((CAPTURES / "vmstat_after.txt").read_bytes())
    for cut in (12, len(content) // 2, len(content) - 4):
        with pytest.raises(IngestError, match="break off"):
            values(content[:cut])
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    with pytest.raises(IngestError):
        values(bytes(damaged))


@pytest.mark.parametrize("name", WHOLE)
def test_crlf_and_byte_order_mark_change_nothing(name):
    content = (CAPTURES / name).read_bytes()
    assert values(content.replace(b"\n", b"\r\n")) == values(content)
    assert values(b"\xef\xbb\xbf" + content) == values(content)


@pytest.mark.parametrize("name", READ)
def test_a_nul_byte_is_refused_wherever_it_is(name):
    content = (CAPTURES / name).read_bytes()
    for place in (0, len(content) // 2, len(content)):
        with pytest.raises(IngestError):
            values(content[:place] + b"\0" + content[place:])


@pytest.mark.parametrize("name", WHOLE)
def test_utf16_is_refused_with_the_command_that_mends_it(name):
    with pytest.raises(IngestError, match="iconv"):
        values((CAPTURES / name).read_text().encode("utf-16"))


# A capture cut between two lines has fewer values, and the last block may lack what marks it.
@pytest.mark.parametrize("name", WHOLE)
def test_a_capture_cut_anywhere_has_no_value_that_the_whole_has_not(name):
    content = (CAPTURES / name).read_bytes()[:4000]
    if name == "hyperfine.json":
        content = (CAPTURES / name).read_bytes()
    whole = values_or_refused(content[: content.rindex(b"\n") + 1]) or []
    known = {(metric, value) for metric, _, value, *_ in whole}
    for cut in range(1, len(content), 7):
        for metric, _, value, *_ in values_or_refused(content[:cut]) or []:
            assert (
                (metric, value) in known
                or "samples" in metric
                or name.startswith(("folded", "script"))
            ), (cut, metric, value)


@pytest.mark.parametrize("name", WHOLE)
def test_a_stderr_line_in_between_is_left_alone_or_refused(name):
    content = (CAPTURES / name).read_text().splitlines(keepends=True)
    whole = values("".join(content).encode())
    for place in range(0, len(content), max(1, len(content) // 25)):
        mixed = [*content[:place], "ERROR: something went wrong\n", *content[place:]]
        found = values_or_refused("".join(mixed).encode())
        assert found is None or found == whole


@pytest.mark.parametrize("name", ["stat_csv.txt", "stat_default.txt", "stat_json.txt"])
def test_a_line_torn_by_another_writer_is_refused_or_the_same(name):
    text = (CAPTURES / name).read_text()
    whole = {tuple(row[1:3]) for row in values(text.encode())}  # names may be torn
    for place in range(1, len(text), 3):
        found = values_or_refused(f"{text[:place]}rep 0 fault\n{text[place:]}".encode())
        new = {tuple(row[1:3]) for row in found or []} - whole
        assert not new, (place, text[max(0, place - 30) : place + 10])


@pytest.mark.parametrize("name", READ)
def test_random_damage_ends_in_values_or_a_refusal(name):
    choose = random.Random(name)
    content = (CAPTURES / name).read_bytes()[:6000]
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(choose.randrange(1, 6)):
            place = choose.randrange(len(damaged) + 1)
            kind = choose.randrange(3)
            if kind == 0:
                damaged[place:place] = bytes([choose.randrange(1, 256)])
            elif kind == 1:
                del damaged[place : place + choose.randrange(1, 40)]
            else:
                start = choose.randrange(len(damaged) + 1)
                damaged[place:place] = damaged[start : start + choose.randrange(60)]
        values_or_refused(bytes(damaged))


class Endless(io.RawIOBase):
    """The same block again and again, until a limit that memory would not survive."""

    name = "endless"

    def __init__(self, block, size):
        self.block, self.left = block, size

    def readable(self):
        return True

    def readinto(self, buffer):
        nr_bytes = min(len(self.block), len(buffer), self.left)
        buffer[:nr_bytes] = self.block[:nr_bytes]
        self.left -= nr_bytes
        return nr_bytes


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_of_100_megabytes_is_refused_in_little_memory():
    def work():
        stream = io.BufferedReader(Endless(b"x" * 65536, 100 << 20))
        with pytest.raises(IngestError, match=f":1: found a line of more than {LINE_LIMIT} bytes"):
            ingest.read(stream)

    assert peak_bytes(work) < 16 << 20


def test_endless_other_output_is_refused_in_little_memory():
    def work():
        stream = io.BufferedReader(Endless(b"no measurement\n" * 4096, 1 << 40))
        with pytest.raises(IngestError, match="no format in"):
            ingest.read(stream)

    assert peak_bytes(work) < 64 << 20


def test_endless_samples_take_the_memory_of_few():
    content = (CAPTURES / "script_F_full.txt").read_bytes()
    block = content[: content.rindex(b"\n\n") + 2]

    def work():
        stream = io.BufferedReader(Endless(block, 400 * len(block)), len(block))
        stacks = fold.fold(stream, "endless")["cpu-clock"]
        assert sum(stacks.values()) == 400 * 6 * 1001001

    assert peak_bytes(work) < 24 << 20


def test_what_is_looked_up_is_bounded_and_changes_nothing(monkeypatch):
    content = (CAPTURES / "script_F_full.txt").read_bytes() * 3
    whole = values(content)
    for limit, width in ((1, 400), (50_000, 0)):
        monkeypatch.setattr("analysis.ingest.perf_script.KNOWN_LIMIT", limit)
        monkeypatch.setattr("analysis.ingest.perf_script.KNOWN_WIDTH", width)
        assert values(content) == whole


@pytest.mark.parametrize("bad", [b"\xff\n", b"a\0\n", b"x" * (LINE_LIMIT + 1) + b"\n"])
def test_a_bad_line_deep_in_a_capture_is_named(bad):
    good = b"a;b 1\n" * 300_000  # more than one chunk
    with pytest.raises(IngestError, match=r"^capture:300001: found a"):
        values(good + bad + b"a;b 1\n")
    assert values(good.replace(b"\n", b"\r\n")) == values(good)


def test_lines_are_streamed():
    stream = io.BufferedReader(Endless(b"1 2\n" * 1000, 1 << 40))
    assert [line.number for line in islice(lines(stream, "x"), 5)] == [1, 2, 3, 4, 5]


def test_more_rows_than_memory_should_hold_are_refused(monkeypatch):
    monkeypatch.setattr("analysis.ingest.book.ROW_LIMIT", 10)
    with pytest.raises(IngestError, match="more than 10 values"):
        ingest.read(CAPTURES / "stat_I100.txt")


def test_a_parser_that_loses_a_line_is_found_out():
    with pytest.raises(AssertionError, match="lost a line"):
        Book("x").close(1)


def test_what_is_opened_is_closed(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"text"))
    with opened(path) as (stream, _):
        assert stream.read() == b"text"
    assert stream.closed


CRASHES = sorted((CAPTURES.parent / "crashes").iterdir())


@pytest.mark.parametrize("path", CRASHES, ids=lambda path: path.name)
@pytest.mark.parametrize("form", [None, *ingest.NAMES])
def test_what_once_crashed_is_read_or_refused(path, form):
    values_or_refused(path.read_bytes(), form)


@pytest.mark.parametrize("nr_digits", [21, 400, 5000])
@pytest.mark.parametrize(
    "text",
    [
        "{},,page-faults,5,100.00,,",
        '{{"counter-value" : "{}", "unit" : "", "event" : "x"}}',
        "a 1 12.000001: {} cycles: \n\tffff f+0x1 (x)\n",
        "a;b {}",
        "{} order=3",
        "@x: {}",
        "nr_free_pages {}",
        "real {}\nuser 0.00\nsys 0.00",
        "# Samples: 1  of event 'x'\n# Event count (approx.): {}",
        " Performance counter stats for 'a':\n\n  {}      x\n\n  0.5 seconds time elapsed",
        '{{"type": "map", "data": {{"@x": {}}}}}',
        '{{"results": [{{"command": "x", "times": [{}]}}]}}',
    ],
)
def test_numbers_that_are_too_long_are_refused_or_read(text, nr_digits):
    found = values_or_refused(text.format("9" * nr_digits).encode() + b"\n\n")
    assert found is None or all(value < 1e22 for _, _, value, *_ in found if value)
    if text.startswith("a 1"):
        with pytest.raises(IngestError):
            fold.fold(io.BytesIO(text.format("9" * nr_digits).encode() + b"\n"), "x")


@pytest.mark.parametrize(
    "text",
    [
        "{},,page-faults,5,100.00,,\n",
        '{{"counter-value" : "{}", "unit" : "", "event" : "x"}}\n',
        "a;b {}\n",
        "@x: {}\n",
        "{} order=3\n",
    ],
)
def test_a_count_that_a_float_has_not_is_marked(text):
    for number, mark in ((1 << 53, None), ((1 << 53) + 1, "rounded from 9007199254740993")):
        stream = io.BytesIO(text.format(number).encode())
        frame = ingest.read(stream).frame
        assert list(frame["mark"].astype(object).where(frame["mark"].notna(), None)) == [mark]
