# SPDX-License-Identifier: GPL-2.0-only
"""Ingest: captures as people save them become Samples, or an IngestError says what to do about it.

A format is a sibling module with `recognised(text)`, which tells a line that only this format has,
and `parse(lines, book)`, which accounts for every line; it is listed in FORMATS, the most telling
first. A kernel mail is what has none of these lines, or quotes them.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

import pandas as pd

from analysis.ingest import (
    benchmarks,
    bpftrace,
    convert,
    counters,
    folded,
    ftrace,
    hyperfine_csv,
    kpageflags,
    mail,
    orders,
    perf_report,
    perf_script,
    perf_stat,
    perf_stat_csv,
    perf_stat_json,
    perf_stat_metrics,
    size_table,
    times,
)
from analysis.ingest.book import Book
from analysis.ingest.capture import IngestError, IngestManyError, Line, messages
from analysis.ingest.source import TextLine, lines, opened
from analysis.samples import Samples

__all__ = ["FORMATS", "NAMES", "IngestError", "read", "read_many", "read_text", "recognise"]

FORMATS: dict[str, ModuleType] = {
    "perf-stat": perf_stat,
    "perf-stat-json": perf_stat_json,
    "perf-stat-metrics": perf_stat_metrics,
    "perf-data-json": convert,
    "benchmark-json": benchmarks,
    "benchmark-csv": hyperfine_csv,
    "perf-report": perf_report,
    "ftrace": ftrace,
    "bpftrace": bpftrace,
    "perf-script": perf_script,
    "perf-stat-csv": perf_stat_csv,
    "counters": counters,
    "folio-orders": orders,
    "page-flags": kpageflags,
    "time": times,
    "folded": folded,
}
MAIL = "mail"
NAMES = (*FORMATS, MAIL)
SCOUT_LINES = 20_000  # lines in which a format must show itself
SCOUT_BYTES = 8 << 20
MAIL_BYTES = 64 << 20
_TELLING = 2000  # characters of a line that are looked at
ADVICE = (
    "Capture it with: LC_ALL=C perf stat -x\\; -o FILE COMMAND, or LC_ALL=C bash -c 'time COMMAND' "
    f"2> FILE; or name its format: --format {'|'.join(NAMES)}."
)
EXPECTED = "output of perf, time, bpftrace, ftrace or a benchmark, or a mail that quotes it"


def read(
    source: str | Path | IO,
    form: str | None = None,
    heard: Callable[[int, str, str], None] | None = None,
) -> Samples:
    """Samples of a capture given as a path or an open stream; raises IngestError.

    form: one of NAMES, or None to tell it by the content. heard: called with the number, the kind
    (data, header, comment or error) and the text of each line; then an error does not end the
    reading, and the first of them is raised when all lines have been heard.
    """
    with opened(source) as (stream, name):
        return _read(stream, name, form, heard)


def read_text(text: str, name: str = "<pasted>", form: str | None = None) -> Samples:
    """Samples of a capture given as text, whose sources read "name:line"; raises IngestError."""
    try:
        content = text.encode()
    except UnicodeEncodeError as cause:
        raise IngestError(name, "text that has no UTF-8", "text", "Save it again.") from cause
    return _read(io.BytesIO(content), name, form, None)


def read_many(sources: list[str], form: str | None = None) -> Samples:
    """Samples of several captures in the order given; a directory stands for its files, by name.

    Hidden files are left out. Raises IngestError that tells of every capture that cannot be taken.
    """
    every, problems = [], []
    for source in files(sources):
        try:
            every.append(read(sys.stdin if source == "-" else source, form))
        except IngestError as problem:
            problems.append(problem)
    if problems:
        raise IngestManyError(problems)
    if len(every) == 1:
        return every[0]
    notes = [
        f"{samples.frame['source'].iloc[0].rpartition(':')[0]}: {note}"
        if len(samples.frame)
        else note
        for samples in every
        for note in samples.notes
    ]
    return Samples(pd.concat([samples.frame for samples in every]), tuple(notes))


def files(sources: list[str]) -> list[str]:
    """Return the files that paths stand for; IngestError for a directory that has none."""
    found = []
    for source in sources:
        if source == "-" or not Path(source).is_dir():
            found.append(source)
            continue
        inside = sorted(path for path in Path(source).rglob("[!.]*") if path.is_file())
        if not inside:
            advice = "Name a directory that holds captures."
            raise IngestError(source, "a directory without files", "captures", advice)
        found += map(str, inside)
    return found


def recognise(kept: list[TextLine]) -> str | None:
    """Return the name of the format that some lines are in, None if they are in none."""
    for line in kept:
        text = line.text
        if len(text) > _TELLING and not text.lstrip().startswith("{"):
            continue
        for name, module in FORMATS.items():
            if module is not perf_stat_csv and module.recognised(text):
                return name
        if perf_stat_csv.separator(text):
            return "perf-stat-csv"
    return None


def _read(stream: IO[bytes], name: str, form: str | None, heard: Callable | None) -> Samples:
    source = _Counted(lines(stream, name))
    kept, found = [], form
    if form is None:
        kept, found = _scouted(source)
    if found is None and source.ended:
        found = MAIL
    if found is None:
        raise IngestError(name, f"no format in {len(kept)} lines", EXPECTED, ADVICE)
    every = itertools.chain(kept, source)
    if found == MAIL:
        return _mail(every, name, heard)
    book = Book(name, heard)
    module = FORMATS[found]
    book.advice = getattr(module, "ADVICE", book.advice)
    module.parse(every, book)
    if book.errors:
        raise book.errors[0]
    return book.close(source.count)


class _Counted:
    """Lines, and how many have passed."""

    def __init__(self, source: Iterator[TextLine]):
        self._source = source
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[TextLine]:
        for line in self._source:
            self.count += 1
            yield line
        self.ended = True


def _scouted(source: _Counted) -> tuple[list[TextLine], str | None]:
    kept, size, quoted = [], 0, False
    for line in source:
        kept.append(line)
        size += len(line.text)
        quoted = quoted or mail.telling(line.text)
        found = None if quoted else recognise([line])
        if found is not None:
            return kept, found
        if (len(kept) >= SCOUT_LINES or size > SCOUT_BYTES) and not quoted:
            break
        if size > MAIL_BYTES:
            break
    return kept, None


def _mail(every: Iterator[TextLine], name: str, heard: Callable | None) -> Samples:
    kept, size = [], 0
    for line in every:
        kept.append(line.text)
        size += len(line.text)
        if size > MAIL_BYTES:
            found = f"a mail of more than {MAIL_BYTES} characters"
            raise IngestError(f"{name}:{line.number}", found, "one thread", ADVICE)
    text = "\n".join(kept) + ("\n" if kept else "")
    samples = _mail_samples(messages(text, name), name)
    if samples is None:
        for number, line in enumerate(kept if heard else (), 1):
            heard(number, "error" if line.strip() else "comment", line)
        raise IngestError(name, "no measurement", EXPECTED, ADVICE)
    if heard is not None:
        used = {int(source.rpartition(":")[2]) for source in samples.frame["source"]}
        for number, line in enumerate(kept, 1):
            heard(number, "data" if number in used else "comment", line)
    return samples


# Blocks of time and tables by folio size; a mail may have both.
def _mail_samples(found: list[list[Line]], name: str) -> Samples | None:
    tables = size_table.rows(found, name)
    blocks = mail.parse(found, name)
    if not tables:
        return blocks
    note = "folio sizes are taken for orders of 4 KiB pages"
    samples = Samples.from_rows(tables, [note])
    if blocks is None:
        return samples
    return Samples(pd.concat([blocks.frame, samples.frame]), (*blocks.notes, *samples.notes))
