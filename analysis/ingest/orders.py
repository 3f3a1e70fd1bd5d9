# SPDX-License-Identifier: GPL-2.0-only
"""The folio orders that a run really had, joined to its timings: "order 4" measured, not claimed.

Three captures tell them: tracepoints with order=N (mm_filemap_add_to_page_cache, in perf script or
ftrace), the output of tools/mm/thpmaps (kB by size), and a count of kpageflags or of tracepoints,
"8194 order=0" a line. A tracepoint says one folio a line; thpmaps says bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

import pandas as pd

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.capture import IngestError
from analysis.ingest.source import TextLine
from analysis.samples import Samples

ADVICE = (
    "Capture the orders with: perf record -e filemap:mm_filemap_add_to_page_cache COMMAND; "
    "perf script > ORDERS."
)
EXPECTED = "a count and order=N, or a row of thpmaps"
PAGE_BYTES = 4096
_COUNT = re.compile(r" *(?P<count>[0-9]{1,20}) order=(?P<order>[0-9]{1,2})")
# thpmaps --cont: "anon-thp-pte-aligned-64kB: 1024 kB ( 3%)"
_THPMAPS = re.compile(
    r"(?P<kind>anon|file)-(?P<how>thp|cont)-(?P<level>pte|pmd)?-?(?P<fit>aligned|unaligned|partial)?"
    r"-?(?P<size>[0-9]{1,9})(?P<scale>[kMG])B: +(?P<kb>[0-9]{1,20}) kB(?: \( *[0-9]+%\))?"
)
_REST = re.compile(r"(?:anon|file)-(?:thp|cont)[\w-]*: +[0-9]+ kB(?: \( *[0-9]+%\))?")
_ADDED = ("filemap:mm_filemap_add_to_page_cache", "mm_filemap_add_to_page_cache", "folios")
SHARE = 0.99  # of the bytes that must have one order, for a run to be of that order


def recognised(text: str) -> bool:
    """Tell whether a line counts folios of one order."""
    return bool(_COUNT.fullmatch(text) or _THPMAPS.fullmatch(text))


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read counts by order into the book: metric "folios" (count) or "folio bytes" (bytes)."""
    for line in lines:
        if not line.text.strip():
            book.comment(line)
        elif not line.ended:
            book.error(line, *unended(line))
        elif match := _COUNT.fullmatch(line.text):
            book.measured(line)
            order = int(match["order"])
            book.row(line.number, "folios", "count", float(match["count"]), order=order)
        elif match := _THPMAPS.fullmatch(line.text):
            _mapped(line, match, book)
        elif _REST.fullmatch(line.text):
            book.comment(line)
        else:
            book.error(line, shown(line.text), EXPECTED)


def _mapped(line: TextLine, match: re.Match, book: Book) -> None:
    size = int(match["size"]) << {"k": 10, "M": 20, "G": 30}[match["scale"]]
    pages = size // PAGE_BYTES
    if size % PAGE_BYTES or not pages or pages & (pages - 1):
        book.error(line, shown(line.text), "a power of two of 4 KiB pages")
        return
    book.measured(line)
    value = float(Decimal(match["kb"]) * 1024)
    part = "; ".join(f"{key}={match[key]}" for key in ("kind", "how", "level", "fit") if match[key])
    order = pages.bit_length() - 1
    book.row(line.number, "folio bytes", "bytes", value, order=order, part=part)


def shares(samples: Samples) -> pd.Series:
    """Return the share of bytes by folio order, index order, sum 1; IngestError if none is told."""
    frame = samples.frame[samples.frame["order"].notna()]
    told = frame[frame["metric"].isin((*_ADDED, "folio bytes"))]
    if told.empty or not told["value"].sum():
        source = samples.frame["source"].iloc[0] if len(samples.frame) else "nothing:0"
        found = "no folio order"
        raise IngestError(source, found, "tracepoints, counts or thpmaps that tell one", ADVICE)
    sizes = told["order"].astype(int).map(lambda order: PAGE_BYTES << order)
    weight = told["value"] * sizes.where(told["metric"] != "folio bytes", 1)
    total = weight.groupby(told["order"].astype(int)).sum()
    return (total / total.sum()).rename("share")


def join(samples: Samples, told: Samples) -> Samples:
    """Return samples with the order that `told` measured, where the runs had one order.

    A row that claims another order raises IngestError with its line. Where folios are mixed (less
    than SHARE of the bytes in one order) the order stays missing and a note tells the shares.
    """
    share = shares(told)
    source = told.frame["source"].iloc[0].rpartition(":")[0]
    listed = ", ".join(f"order {order}: {part:.1%}" for order, part in share.items())
    note = f"folio orders of {source}, by bytes: {listed}"
    frame = samples.frame.copy()
    if share.max() < SHARE:
        mixed = (*samples.notes, f"{note}; mixed, so no row has an order")
        return Samples(frame.assign(order=pd.array([pd.NA] * len(frame), dtype="Int64")), mixed)
    order = int(share.idxmax())
    wrong = frame["order"].notna() & (frame["order"] != order)
    if wrong.any():
        row = frame[wrong].iloc[0]
        found = f"order {row['order']}, where the folios were of order {order}"
        raise IngestError(row["source"], found, "the order that was measured", ADVICE)
    return Samples(
        frame.assign(order=pd.array([order] * len(frame), dtype="Int64")), (*samples.notes, note)
    )
