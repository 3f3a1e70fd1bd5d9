# SPDX-License-Identifier: GPL-2.0-only
"""The folio orders that a run really had, joined to its timings: "order 4" measured, not claimed.

Four captures tell them: the flags of each page (`kpageflags.py`), tracepoints with order=N
(mm_filemap_add_to_page_cache, in perf script or ftrace), a count of them, "8194 order=0" a line,
and the output of tools/mm/thpmaps (kB by size; Linux 7.2). thpmaps leaves out folios below 16 kB
and has no order for those mapped in part, so it tells all of a run only beside its Rss
(--inc-smaps). Its "cont" rows are of blocks within folios of any size: they tell no order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from analysis.ingest.book import Book, shown
from analysis.ingest.capture import IngestError
from analysis.ingest.kpageflags import PARTIAL
from analysis.ingest.source import TextLine
from analysis.samples import Samples

ADVICE = (
    "Capture the orders with: page-types --raw --list --file MAPPED_FILE > ORDERS; or perf record "
    "-e filemap:mm_filemap_add_to_page_cache COMMAND; perf script > ORDERS."
)
MAPS_ADVICE = "Capture it with: thpmaps --pid PID --rollup --inc-smaps > ORDERS."
EXPECTED = "a count and order=N, or a row of thpmaps"
PAGE_BYTES = 4096
PMD_KB = 2048  # of pages of 4 KiB; another size tells of other pages, and other orders
_COUNT = re.compile(r" *(?P<count>[0-9]{1,20}) order=(?P<order>[0-9]{1,2})")
_HEADER = re.compile(r" +PID +START +END PROT +OFFSET +DEV +INODE OBJECT *")
_VMA = re.compile(r"[0-9]{10}: (?P<range>[0-9a-f]{16}-[0-9a-f]{16}) [r-][w-][x-][ps] "
                  r"[0-9a-f]{8} [0-9a-f]+:[0-9a-f]+ [0-9]+ ?.*")  # fmt: skip
_KB = r": +(?P<kb>[0-9]{1,20}) kB(?: \( *[0-9]+%\))?"
_FOLIOS = re.compile(
    r"(?P<kind>anon|file)-thp-(?P<level>pte|pmd)-(?P<fit>aligned|unaligned)-(?P<size>[0-9]{1,9})kB"
    rf"{_KB}"
)
_PARTIAL = re.compile(rf"(?P<kind>anon|file)-thp-(?P<level>pte)-partial{_KB}")
_BLOCKS = re.compile(
    rf"(?P<kind>anon|file)-cont-(?P<level>pte|pmd)-aligned-(?P<size>[0-9]{{1,9}})kB{_KB}"
)
_SMAPS = re.compile(r"(?P<key>[A-Z][A-Za-z_]*): +(?P<kb>[0-9]{1,20}) kB")
_ADDED = ("filemap:mm_filemap_add_to_page_cache", "mm_filemap_add_to_page_cache", "folios")
_BYTES = "folio bytes"
_BYTES_PARTIAL = "folio bytes in part"
SHARE = 0.99  # of the bytes that must have one order, for a run to be of that order


def recognised(text: str) -> bool:
    """Tell whether a line counts folios of one order, or is one that only thpmaps prints."""
    patterns = (_COUNT, _HEADER, _FOLIOS, _PARTIAL, _BLOCKS)
    return any(pattern.fullmatch(text) for pattern in patterns)


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read counts by order into the book: metric "folios" (count) or "folio bytes" (bytes)."""
    vma: str | None = None
    for line in lines:
        text = line.text
        if book.settled(line):
            continue
        if match := _COUNT.fullmatch(text):
            book.measured(line)
            order = int(match["order"])
            book.row(line.number, "folios", "count", int(match["count"]), order=order)
        elif match := _VMA.fullmatch(text):
            book.header(line)
            vma = match["range"]
        elif _HEADER.fullmatch(text):
            book.header(line)
        else:
            _mapped(line, vma, book)


# A row of thpmaps: of folios of one size, of those in part, of blocks, or of smaps.
def _mapped(line: TextLine, vma: str | None, book: Book) -> None:
    text, order = line.text, None
    if match := _FOLIOS.fullmatch(text):
        metric, order = _BYTES, _order(int(match["size"]))
        book.note("thpmaps' sizes are taken for orders of 4 KiB pages")
    elif match := _PARTIAL.fullmatch(text):
        metric = _BYTES_PARTIAL
    elif match := _BLOCKS.fullmatch(text):
        metric = f"contiguous bytes in blocks of {match['size']} kB"
    elif match := _SMAPS.fullmatch(text):
        metric = match["key"]
    if match and match.re is _FOLIOS and match["level"] == "pmd" and int(match["size"]) != PMD_KB:
        book.error(line, shown(text), "pages of 4 KiB", ADVICE)
        return
    if match is None or (metric == _BYTES and order is None):
        book.error(line, shown(text), EXPECTED, MAPS_ADVICE)
        return
    book.measured(line)
    told = {key: word for key, word in match.groupdict().items() if key in ("kind", "level", "fit")}
    labels = [f"vma={vma}"] * bool(vma) + [f"{key}={word}" for key, word in told.items()]
    value = int(match["kb"]) * 1024
    book.row(line.number, metric, "bytes", value, order=order, part="; ".join(labels) or None)


def _order(size_kb: int) -> int | None:
    pages = (size_kb << 10) // PAGE_BYTES
    return pages.bit_length() - 1 if pages and not pages & (pages - 1) else None


def shares(samples: Samples) -> pd.Series:
    """Return the share of all bytes by folio order, index order; IngestError if none is told.

    What the sum lacks to 1 is of folios that are not told by order.
    """
    frame = samples.frame
    told = frame[frame["order"].notna() & frame["metric"].isin((*_ADDED, _BYTES))]
    if told.empty or not told["value"].sum():
        source = frame["source"].iloc[0] if len(frame) else "nothing:0"
        found = "no folio order"
        raise IngestError(source, found, "page flags, tracepoints or counts that tell one", ADVICE)
    sizes = told["order"].astype(int).map(lambda order: PAGE_BYTES << order)
    weight = told["value"] * sizes.where(told["metric"] != _BYTES, 1)
    known = weight.groupby(told["order"].astype(int)).sum()
    return (known / _all_bytes(frame, told, float(weight.sum()))).rename("share")


# Of pages and of tracepoints every one is told; of thpmaps' bytes the rest is known by the Rss.
def _all_bytes(frame: pd.DataFrame, told: pd.DataFrame, known: float) -> float:
    partial = frame["value"][frame["metric"] == PARTIAL].sum() * PAGE_BYTES
    mapped = told[told["metric"] == _BYTES]
    if mapped.empty:
        return known + partial
    rss = frame["value"][frame["metric"] == "Rss"].sum()
    if not rss:
        found = "thpmaps without Rss: it leaves out folios below 16 kB"
        raise IngestError(told["source"].iloc[0], found, "all that was mapped", MAPS_ADVICE)
    return known + partial + max(0.0, float(rss - mapped["value"].sum()))


def join(samples: Samples, told: Samples) -> Samples:
    """Return samples with the order that `told` measured, where the runs had one order.

    A row that claims another order raises IngestError with its line. Where folios are mixed (less
    than SHARE of the bytes in one order) the order stays missing and a note tells the shares.
    """
    share = shares(told)
    source = told.frame["source"].iloc[0].rpartition(":")[0]
    listed = ", ".join(f"order {order}: {part:.1%}" for order, part in share.items())
    if share.sum() < 1 - 1e-9:
        listed += f", not known: {1 - share.sum():.1%}"
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
