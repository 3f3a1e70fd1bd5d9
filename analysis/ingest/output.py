# SPDX-License-Identifier: GPL-2.0-only
"""What `reclaim ingest` prints: a table, JSON, CSV, Parquet, an account of lines, folded stacks."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from analysis import ingest
from analysis.files import write_whole
from analysis.ingest import counters, fold, orders
from analysis.ingest.capture import IngestError
from analysis.ingest.source import opened
from analysis.samples import Samples


def run(arguments) -> int | None:
    """Do what the command line asks; return its exit status; IngestError for bad input."""
    if arguments.format not in (None, *ingest.NAMES):
        found = f"{arguments.format!r}"
        expected = f"one of {', '.join(ingest.NAMES)}"
        raise IngestError("--format", found, expected, "Leave it out to tell it by the content.")
    if arguments.explain:
        return _explain(arguments.paths, arguments.format)
    if arguments.folded:
        return _folded(arguments.paths, arguments.event)
    samples = _samples(arguments)
    if arguments.json:
        print(json.dumps(to_dict(samples), indent=2, allow_nan=False))
    elif arguments.csv:
        print(samples.frame.to_csv(index=False), end="")
        print("".join(f"note: {note}\n" for note in samples.notes), end="", file=sys.stderr)
    elif arguments.parquet:
        _parquet(samples, arguments.parquet)
    else:
        print(samples.to_text(), end="")
    return None


def to_dict(samples: Samples) -> dict:
    """Return samples as plain JSON has them: id, one object a row, notes."""
    frame = samples.frame
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return {"id": samples.id, "samples": rows, "notes": list(samples.notes)}


def _samples(arguments) -> Samples:
    if arguments.pair:
        if len(arguments.paths) != 2:
            found = f"{len(arguments.paths)} paths"
            raise IngestError("--pair", found, "two", "Name BEFORE and AFTER.")
        first, second = (ingest.read_many([path], "counters") for path in arguments.paths)
        return counters.difference(first, second)
    samples = ingest.read_many(arguments.paths, arguments.format)
    if arguments.orders:
        return orders.join(samples, ingest.read_many([arguments.orders]))
    return samples


def _explain(paths: list[str], form: str | None) -> int:
    status = 0
    for path in ingest.files(paths):

        def heard(number: int, kind: str, text: str, path: str = path) -> None:
            shown = text.encode("unicode_escape").decode("ascii")
            print(f"{path}:{number}: {kind:<8}{shown}")

        try:
            samples = ingest.read(sys.stdin if path == "-" else path, form, heard)
            for note in samples.notes:
                print(f"{path}: note: {note.encode('unicode_escape').decode('ascii')}")
        except IngestError as problem:
            print(f"reclaim ingest: {problem}", file=sys.stderr)
            status = 2
    return status


def _folded(paths: list[str], event: str | None) -> int:
    for path in paths:
        with opened(sys.stdin if path == "-" else path) as (stream, name):
            events = fold.fold(stream, name)
        if event is None and len(events) > 1:
            advice = f"Name one: --event {next(iter(events))}."
            found = f"several events ({', '.join(events)})"
            raise IngestError(name, found, "one, for sums of two mean nothing", advice)
        chosen = event or next(iter(events), None)
        if chosen not in events:
            found = f"no sample{f' of {event}' if event else ''}"
            raise IngestError(name, found, f"some of {', '.join(events) or 'them'}", fold.ADVICE)
        sys.stdout.writelines(fold.text(events[chosen]))
    return 0


def _parquet(samples: Samples, path: str) -> None:
    buffer = io.BytesIO()
    try:
        samples.frame.to_parquet(buffer, index=False, engine="pyarrow")
    except UnicodeEncodeError as error:
        advice = "Rename it in the capture, or the file; or take --csv."
        raise IngestError("--parquet", ascii(error.object), "text in UTF-8", advice) from None
    write_whole(Path(path), buffer.getvalue())
    print("".join(f"note: {note}\n" for note in samples.notes), end="", file=sys.stderr)
