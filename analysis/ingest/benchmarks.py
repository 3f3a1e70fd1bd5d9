# SPDX-License-Identifier: GPL-2.0-only
"""The JSON of hyperfine (--export-json) and of pyperf: each run's value, in run order."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.ingest.book import Book
from analysis.ingest.document import load, number
from analysis.ingest.source import TextLine

ADVICE = "Capture it with: hyperfine --export-json FILE COMMAND, or python -m pyperf ... -o FILE."
_PYPERF_UNITS = {"second": "s", "byte": "bytes", "integer": "count"}
_SHAPE_ERRORS = (KeyError, TypeError, AttributeError, ValueError)


def recognised(text: str) -> bool:
    """Tell whether a line names a key that only these two documents start with."""
    return text.strip().startswith(
        ('"results": [', '{"results"', '{"benchmarks"', '"benchmarks": [')
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read one document into the book; IngestError where it has not its tool's shape."""
    kept: list[str] = []
    found = load(_kept(lines, kept), book)
    if found is None:
        return
    places = _Places(kept)
    try:
        if isinstance(found, dict) and "results" in found:
            for result in found["results"]:
                _hyperfine(result, book, places)
        else:
            for benchmark in found["benchmarks"]:
                _pyperf(benchmark, found.get("metadata", {}), book, places)
    except _SHAPE_ERRORS as cause:
        book.fail(
            places.last, f"a document of another shape ({cause!r})", "hyperfine's or pyperf's"
        )


def _kept(lines: Iterator[TextLine], kept: list[str]) -> Iterator[TextLine]:
    for line in lines:
        kept.append(line.text)
        yield line


# Where in the file a number stands: searched onwards, for the values come in the file's order.
class _Places:
    def __init__(self, kept: list[str]):
        self.kept = kept
        self.last = 1

    def find(self, value: object) -> int:
        text = str(value)
        for place in range(self.last - 1, len(self.kept)):
            if text in self.kept[place]:
                self.last = place + 1
                break
        return self.last


def _hyperfine(result: dict, book: Book, places: _Places) -> None:
    command = str(result["command"])
    parameters = result.get("parameters") or {}
    told = {"command": command, **parameters}
    label = {"part": "; ".join(f"{key}={value}" for key, value in told.items())}
    number_at = places.find(command.split('"', maxsplit=1)[0].split("\\", maxsplit=1)[0])
    codes = result.get("exit_codes") or []
    times = result.get("times") or []
    for key, metric in (("user", "user"), ("system", "sys")):
        if result.get(key) is not None:
            mark = f"mean of {len(times)} runs" if times else "mean"
            value = number(result[key])
            book.row(number_at, metric, "s", value, mark=mark, **label)
    if not times:
        book.row(number_at, "real", "s", number(result["mean"]), mark="mean", **label)
    for run, time in enumerate(times):
        mark = _exit(codes[run]) if run < len(codes) else None
        book.row(places.find(time), "real", "s", number(time), run=run, mark=mark, **label)
    for run, size in enumerate(result.get("memory_usage_byte") or []):
        book.row(places.find(size), "maximum resident", "bytes", number(size), run=run, **label)


# hyperfine has null for a command that a signal ended.
def _exit(code: object) -> str | None:
    if code is None:
        return "no exit status: ended by a signal"
    return f"exit status {code}" if code else None


def _pyperf(benchmark: dict, common: dict, book: Book, places: _Places) -> None:
    metadata = {**common, **benchmark.get("metadata", {})}
    name, unit = str(metadata["name"]), _PYPERF_UNITS[str(metadata.get("unit", "second"))]
    run = 0
    for one in benchmark["runs"]:
        for value in one.get("values") or []:
            book.row(places.find(value), name, unit, number(value), run=run)
            run += 1
    if not run:
        book.unmeasured(places.last, name, "no values, only calibration")
