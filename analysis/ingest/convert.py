# SPDX-License-Identifier: GPL-2.0-only
"""perf data convert --to-json: the profile with the best account of where it was taken.

perf writes one key a line, indented by tabs; samples are taken apart one by one, so a document of
any length will do. One that another tool has reformatted is read whole. There are no periods in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from analysis.ingest.book import Book, shown
from analysis.ingest.document import load, loads
from analysis.ingest.setting import perf_arch
from analysis.ingest.source import TextLine
from analysis.ingest.stacks import Stacks, frame

ADVICE = "Capture it with: perf data convert --to-json FILE."
SAMPLE_LINES = 50_000
HEADER_LINES = 10_000
_SHAPE_ERRORS = (KeyError, TypeError, AttributeError, ValueError, RecursionError)


def recognised(text: str) -> bool:
    """Tell whether a line has the key that perf's document starts with."""
    return '"linux-perf-json-version"' in text


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read the samples into the book; IngestError where the document is broken or cut."""
    stacks = Stacks(book.name)
    first: list[TextLine] = []
    for line in lines:
        first.append(line)
        if line.text == '\t"samples": [':
            _streamed(first, lines, book, stacks)
            break
        if len(first) > HEADER_LINES or (line.text.strip() and line.text[0] not in "\t{}]"):
            _whole(_chained(first, lines), book, stacks)
            break
    else:
        _whole(iter(first), book, stacks)
    stacks.write(book)


def _chained(first: list[TextLine], lines: Iterator[TextLine]) -> Iterator[TextLine]:
    yield from first
    yield from lines


def _whole(lines: Iterator[TextLine], book: Book, stacks: Stacks) -> None:
    found = load(lines, book)
    if found is None:
        return
    try:
        _headers(found["headers"], book)
        for sample in found["samples"]:
            _sample(sample, 1, stacks)
    except _SHAPE_ERRORS as cause:
        book.fail(1, f"a document of another shape ({cause!r})", "perf's")


def _streamed(first: list[TextLine], lines: Iterator[TextLine], book: Book, stacks: Stacks) -> None:
    for line in first:
        book.header(line)
    try:
        text = "\n".join(line.text for line in first)
        _headers(loads(f"{text}]}}")["headers"], book)
    except _SHAPE_ERRORS as cause:
        book.fail(first[-1].number, f"a broken header ({cause})", "perf's")
    sample: list[str] = []
    ended, last = False, first[-1]
    for line in lines:
        last = line
        ended = _line(line, sample, ended, book, stacks)
    if not ended or sample:
        book.fail(last.number, "a document that is cut", "its closing brackets")


# Takes one line; tells whether the list of samples has ended.
def _line(line: TextLine, sample: list[str], ended: bool, book: Book, stacks: Stacks) -> bool:
    text = line.text
    if ended or (text == "\t]" and not sample):
        kind = book.header if text in ("\t]", "}") else book.comment
        if text.strip() and text not in ("\t]", "}"):
            book.error(line, shown(text), "nothing behind the samples")
        else:
            kind(line)
        return True
    sample.append(text)
    if text not in ("\t\t}", "\t\t},"):
        if len(sample) > SAMPLE_LINES:
            book.error(line, f"a sample of more than {SAMPLE_LINES} lines", "an end of it")
            sample.clear()
        else:
            book.measured(line)
        return False
    try:
        _sample(loads("\n".join(sample).removesuffix(",")), line.number, stacks)
    except _SHAPE_ERRORS as cause:
        book.error(line, f"a broken sample ({cause})", "a sample as perf writes it")
    else:
        book.measured(line)
    sample.clear()
    return False


def _headers(headers: dict, book: Book) -> None:
    if headers.get("arch"):
        perf_arch(str(headers["arch"]), book)
    for key, name in (("os-release", "kernel"), ("cpu-desc", "machine"), ("cmdline", "workload")):
        value = headers.get(key)
        value = " ".join(value) if isinstance(value, list) else value
        if isinstance(value, str) and value.strip():
            book.setting[name] = value


def _sample(sample: dict, number: int, stacks: Stacks) -> None:
    chain = [
        frame(one.get("symbol", "[unknown]"), one.get("dso", "[unknown]"))
        for one in sample["callchain"]
    ]
    comm = str(sample["comm"]).replace(" ", "_")
    stacks.add(number, str(sample.get("event", "perf")), ";".join([comm, *chain[::-1]]), 0, 1, None)
