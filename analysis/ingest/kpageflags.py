# SPDX-License-Identifier: GPL-2.0-only
"""Folio orders from the flags of each page: /proc/kpageflags, or a listing of tools/mm/page-types.

A page with the head flag and the pages behind it with the tail flag are one folio; a page with
neither is one of order 0. Only folios of user memory count: on an LRU list, anonymous or mapped.
Bits are those of include/uapi/linux/kernel-page-flags.h, Linux 7.2; the first 23 never changed.

A folio's end is certain where the page behind it is listed and is no tail, or where a larger folio
could not start at its head, for a folio is aligned to its size. Else, as behind the last page of a
listing, the folio may be larger: its pages are counted as "pages of folios in part", no order. In a
listing of a process a folio that two adjacent mappings share looks like two; --file has no such
seams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.ingest.book import Book, shown
from analysis.ingest.source import NO_PAGE_FLAGS, TextLine

ADVICE = (
    "Capture it with: page-types --raw --list --pid PID > FILE, or --file MAPPED_FILE; or "
    "dd if=/proc/kpageflags bs=8 skip=FIRST_PFN count=NR_PAGES of=FILE."
)
PARTIAL = "pages of folios in part"
EXPECTED = "a row of page-types --list, or 16 hexadecimal digits of flags"
_HEADER = re.compile(r"(?:[vf]offset\t)?(?:cgroup\t)?(?:map-cnt\t)?offset\t(?:len\t)?flags")
_SUMMARY = re.compile(r" +flags\tpage-count +MB  symbolic-flags\t+long-symbolic-flags")
_TYPE = re.compile(r"0x[0-9a-f]{16}\t *[0-9]+ +[0-9]+  \S+\t.*")
_TOTAL = re.compile(r" +total\t *(?P<pages>[0-9]+) +[0-9]+")
_FILE = re.compile(r".*\tInode: [0-9]+\tSize: [0-9]+ \([0-9]+ pages\)|(?:Modify|Access): .*")
_WORDS = re.compile(r"(?: ?[0-9a-f]{16})+ *")
_CELLS = {
    "cgroup": re.compile("@[0-9]{1,20}"),
    "map-cnt": re.compile("[0-9]{1,20}"),
    "flags": re.compile("[A-Za-z1_]{25,64}"),
}
_HEX = re.compile("[0-9a-f]{1,16}")
# Letters of bits 0 to 22, in page-types' order; behind them a letter means one flag, wherever it is
_LETTERS = "LERUDlASWIBMasbHTGuXnxt"
_LATER = {"o": 23, "z": 24, "i": 25, "g": 26, "r": 32, "w": 62}


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


HEAD, TAIL, THP, ANON = _bits(15), _bits(16), _bits(22), _bits(12)
_USER = _bits(5, 11, 12, 18)  # LRU, mapped, anonymous, unevictable
_OTHER = _bits(7, 10, 17, 20, 23, 24, 26, 32, 62)  # slab, buddy, huge, none, ..., reserved, swap


def recognised(text: str) -> bool:
    """Tell whether a line is page-types' header, or a word of flags."""
    if _HEADER.fullmatch(text) or _SUMMARY.fullmatch(text):
        return True
    return bool(_WORDS.fullmatch(text)) and not any(
        int(w, 16) & NO_PAGE_FLAGS for w in text.split()
    )


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read pages into the book: metric "folios" by order (count); IngestError for a damaged row."""
    state = _Listing(book)
    for line in lines:
        if not book.settled(line):
            state.take(line)
    state.close()


class _Listing:
    def __init__(self, book: Book):
        self.book = book
        self.folios = _Folios()
        self.columns: list[str] = []
        self.pages = 0
        self.summary = False

    def take(self, line: TextLine) -> None:
        text = line.text
        if _HEADER.fullmatch(text):
            self.book.header(line)
            self.columns, self.summary = text.split("\t"), False
        elif _SUMMARY.fullmatch(text):
            self._types(line)
        elif self.summary and (total := _TOTAL.fullmatch(text)):
            self._total(line, int(total["pages"]))
        elif (self.summary and _TYPE.fullmatch(text)) or _FILE.fullmatch(text):
            self.book.comment(line)
        elif not self.columns and _WORDS.fullmatch(text):
            self._words(line)
        else:
            self._row(line)

    def _types(self, line: TextLine) -> None:
        self.summary = True
        if self.columns:
            self.book.header(line)
        else:
            found = "a summary without --list, which does not tell one folio from another"
            self.book.error(line, found, EXPECTED)

    # What lost a row has fewer pages than the tool counted.
    def _total(self, line: TextLine, pages: int) -> None:
        if self.columns and pages != self.pages:
            found = f"a total of {pages} pages below rows of {self.pages}"
            self.book.error(line, found, "as many pages as were listed")
        else:
            self.book.comment(line)

    def _words(self, line: TextLine) -> None:
        words = [int(word, 16) for word in line.text.split()]
        if any(word & NO_PAGE_FLAGS or _torn(word, 1) for word in words):
            self.book.error(line, shown(line.text), "flags that a page can have")
            return
        self.book.measured(line)
        for word in words:  # of a first page that nobody named: only its neighbours are known
            self.folios.take(line.number, word, 1, (self.pages, self.pages), ())
            self.pages += 1

    def _row(self, line: TextLine) -> None:
        cells = dict(zip(self.columns, line.text.split("\t"), strict=False))
        sound = bool(cells) and len(self.columns) == line.text.count("\t") + 1
        sound = sound and all(_CELLS.get(k, _HEX).fullmatch(cell) for k, cell in cells.items())
        flags = _flags(cells["flags"]) if sound else None
        pages = int(cells.get("len", "1"), 16) if sound else 0
        if flags is None or not pages or _torn(flags, pages):
            raw = flags is not None and flags & (HEAD | TAIL | THP) == THP
            found = "a large folio without head or tail: no --raw" if raw else shown(line.text)
            self.book.error(line, found, EXPECTED)
            return
        self.book.measured(line)
        pfn = int(cells["offset"], 16)
        place = int(cells.get("voffset", cells.get("foffset", cells["offset"])), 16)
        indexes = (pfn, place) if "foffset" in cells else (pfn,)
        self.folios.take(line.number, flags, pages, (pfn, place), indexes)
        self.pages += pages

    def close(self) -> None:
        self.folios.write(self.book)


class _Folios:
    """Folios by order, put together of pages that come in the order of a listing."""

    def __init__(self):
        self.counts: dict[tuple[str, int], list[int]] = {}  # kind, order: number, first line
        self.partial: dict[str, list[int]] = {}  # kind: pages of folios in part, first line
        self.others = 0  # pages
        self.head: tuple[int, str | None, tuple[int, ...]] | None = None  # line, kind, indexes
        self.pages = 0  # of the folio that is open
        self.next = (0, 0)  # where its next page would be: its pfn, and its place in the listing

    def take(
        self, number: int, flags: int, pages: int, at: tuple[int, int], indexes: tuple[int, ...]
    ) -> None:
        """Take a range of pages with the same flags, listed on line `number`.

        at: pfn and place of the first page (its offset in a file or process, or its pfn again).
        indexes: in which a folio that starts there would be aligned to its size.
        """
        behind = at[1] == self.next[1]
        if flags & TAIL and self.head is not None and at == self.next:
            self.pages += pages
        else:
            self.end(behind and not flags & TAIL)
            kind = _kind(flags)
            if flags & HEAD:
                self.head, self.pages = (number, kind, indexes), pages
            elif kind is None:
                self.others += pages
            elif flags & TAIL:
                self.partial.setdefault(kind, [0, number])[0] += pages
            else:
                self.counts.setdefault((kind, 0), [0, number])[0] += pages
        self.next = (at[0] + pages, at[1] + pages)

    def end(self, seen: bool) -> None:
        """End the folio that is open; seen: the page behind it is none of its own."""
        if self.head is None:
            return
        (number, kind, indexes), pages = self.head, self.pages
        self.head = None
        seen = seen or any(index % (2 * pages) for index in indexes)
        if kind is None:
            self.others += pages
        elif seen and pages > 1 and not pages & (pages - 1):
            order = pages.bit_length() - 1
            self.counts.setdefault((kind, order), [0, number])[0] += 1
        else:
            self.partial.setdefault(kind, [0, number])[0] += pages

    def write(self, book: Book) -> None:
        """Write a row for each kind and order, and one for what is in part."""
        self.end(seen=False)
        for (kind, order), (count, number) in sorted(self.counts.items()):
            part = f"kind={kind}"
            book.row(number, "folios", "count", count, order=order, part=part)
        for kind, (pages, number) in sorted(self.partial.items()):
            book.row(number, PARTIAL, "pages", pages, part=f"kind={kind}")
        if self.others:
            book.note(f"{self.others} pages of no user memory (free, slab and so on), not counted")


def _torn(flags: int, pages: int) -> bool:
    both = flags & HEAD and flags & TAIL
    return bool(both or (flags & HEAD and pages != 1) or flags & (HEAD | TAIL | THP) == THP)


def _kind(flags: int) -> str | None:
    if flags & _OTHER or not flags & (_USER | TAIL):
        return None
    return "anon" if flags & ANON else "file"


def _flags(text: str) -> int | None:
    flags = 0
    for bit, letter in enumerate(_LETTERS):
        if text[bit] not in ("_", letter):
            return None
        flags |= (text[bit] == letter) << bit
    return flags | sum(1 << _LATER[letter] for letter in text[len(_LETTERS) :] if letter in _LATER)
