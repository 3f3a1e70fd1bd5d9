# SPDX-License-Identifier: GPL-2.0-only
"""perf script: samples with and without call chains, and tracepoints, whichever -F was given.

Chains are added up by event and stack (periods and samples), tracepoints by event, command and
folio order: the text of a tracepoint has a grammar of its own for each event, of which only an
order=N is read. `fold.py` does the same for chains alone, faster.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from analysis.ingest.book import Book, shown, unended
from analysis.ingest.setting import perf_header
from analysis.ingest.source import TextLine
from analysis.ingest.stacks import CUT, Stacks, frame, plain

EXPECTED = "a sample as perf script prints it"
FIELDS = "comm,pid,tid,time,period,event,ip,sym,dso"
ADVICE = f"Capture it with: LC_ALL=C perf script -F {FIELDS} > FILE."
CHAIN_LIMIT = 10_000  # frames; the kernel's own limit is 127 unless it was raised
KNOWN_LIMIT = 50_000  # lines to look up,
KNOWN_WIDTH = 400  # of so many characters or less: 30 MB at most
_TID = r"-?[0-9]+(?:/ *-?[0-9]+)?"
HEAD = re.compile(
    rf" *(?:(?P<comm>\S.*?) +(?P<tid>{_TID}) +(?:\[(?P<cpu>[0-9]{{3,}})\] +)?)?"
    r"(?:[a-zA-Z.]{4,6} +)?"
    r"(?:(?P<time>[0-9]+\.[0-9]{6}(?:[0-9]{3})?): +)(?:(?P<period>[0-9]{1,20}) +)?"
    r"(?:(?P<event>[A-Za-z_][^\s]*?|cpu[^ ]*/.*?/[a-zA-Z]*):(?: +(?P<rest>.*))?)? *"
)
_NO_TIME = re.compile(
    rf" *(?P<comm>\S+) +(?P<tid>{_TID}) +(?:\[(?P<cpu>[0-9]{{3,}})\] +)?(?P<time>)"
    r"(?:(?P<period>[0-9]{1,20}) +)?(?P<event>[A-Za-z_]\S*?):(?: +(?P<rest>.*))? *"
)
_BARE = re.compile(r" *(?P<time>[0-9]+\.[0-9]{6}(?:[0-9]{3})?): +(?P<rest>[0-9a-f]+ .+)")
_SYMBOL = (
    r"(?P<ip>[0-9a-f]+) (?P<symbol>\S.*?)(?:\+0x[0-9a-f]+)?"
    r"(?: \((?P<dso>[^()]*(?:\([^()]*\))?[^()]*)\))? *"
)
FRAME = re.compile(rf"[ \t]+{_SYMBOL}")
_INLINE = re.compile(rf" *{_SYMBOL}")
_INDENTED = re.compile(r"\t(?=.{15}[0-9a-f] ) *[0-9a-f]+ \S")  # an address is 16 wide
_SRCLINE = re.compile(r"\s+\S+(?::[0-9]+|\[[0-9a-f]+\])(?: \(inlined\))?")
_RECORD = re.compile(r".*\bPERF_RECORD_(?P<kind>[A-Z_0-9]+)\b(?P<rest>.*)")
_ORDER = re.compile(r"\border=([0-9]{1,2})\b")
_REFUSAL = re.compile(r"Samples for '.+' event do not have \w+ attribute set\. Cannot print .+")


def recognised(text: str) -> bool:
    """Tell whether a line starts a sample of perf script."""
    if _REFUSAL.match(text) or _BARE.fullmatch(text) or _INDENTED.match(text):
        return True
    match = HEAD.fullmatch(text) or _NO_TIME.fullmatch(text)
    return bool(match and match["comm"] and match["event"])


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read perf script's text into the book; IngestError at a line that is part of no sample."""
    state = _Script(book)
    for line in lines:
        state.take(line)
    state.close()


class _Script:
    def __init__(self, book: Book):
        self.book = book
        self.stacks = Stacks(book.name)
        self.points: dict[tuple[str, str, int | None], list[int]] = {}
        self.head: re.Match | None = None
        self.at = 0
        self.chain: list[str] = []
        self.known: dict[str, str] = {}  # lines that were a frame before, and that frame
        self.lost: Counter[str] = Counter()

    def take(self, line: TextLine) -> None:
        text = line.text
        if text in self.known and line.ended:
            self._frame(line, self.known[text])
        elif not text.strip():
            self.sample(None)
            self.book.comment(line)
        elif text.startswith("#"):
            self.book.header(line)
            perf_header(text, self.book)
        elif not line.ended:
            self.book.error(line, *unended(line))
        elif text[0] == "\t" and (match := _frame_of(text)):
            self._known(line, match)
        elif match := HEAD.fullmatch(text) or _NO_TIME.fullmatch(text):
            self._start(line, match)
        elif text[0] == " " and (match := _frame_of(text)) and self._below(match):
            self._frame(line, frame(match["symbol"], match["dso"]))
        elif match := _BARE.fullmatch(text):
            self.sample(None)
            self._one(line, "samples", None, match["rest"])
        elif (self.chain or self.head) and _SRCLINE.fullmatch(text):
            self.book.comment(line)
        else:
            self._other(line)

    # The address is 16 wide, behind a tab or the blanks that it was pasted as; a command is not
    def _below(self, match: re.Match) -> bool:
        return match.end("ip") >= 16 and (
            self.head is not None or bool(self.chain) or match.string[:2] == "  "
        )

    def _other(self, line: TextLine) -> None:
        if _REFUSAL.match(line.text):
            found = f"perf's own refusal ({shown(line.text)})"
            self.book.error(line, found, "samples")
        elif record := _RECORD.fullmatch(line.text):
            self.book.comment(line)
            self.lost[record["kind"]] += 1
        else:
            self.book.error(line, shown(line.text), EXPECTED)

    # Callers are the same lines in many samples: what a line was once it is again.
    def _known(self, line: TextLine, match: re.Match) -> None:
        one = frame(match["symbol"], match["dso"])
        if len(self.known) >= KNOWN_LIMIT:
            self.known.clear()
        if len(line.text) <= KNOWN_WIDTH:
            self.known[line.text] = one
        self._frame(line, one)

    def _frame(self, line: TextLine, one: str) -> None:
        self.book.measured(line)
        if len(self.chain) >= CHAIN_LIMIT:
            self.book.fail(line.number, f"a chain of more than {CHAIN_LIMIT} frames", EXPECTED)
            self.chain.clear()
        self.at = self.at or line.number
        self.chain.append(one)

    def _start(self, line: TextLine, match: re.Match) -> None:
        if record := _RECORD.fullmatch(line.text):
            self.book.comment(line)
            self.lost[record["kind"]] += 1
            return
        self.sample(None)
        event, rest = match["event"], (match["rest"] or "").strip()
        if event is None:
            self.book.error(line, shown(line.text), "an event's name behind the time")
        elif ":" in event and rest:
            self._point(line, match, rest)
        elif rest:
            self._one(line, event, match, rest)
        else:
            self.book.measured(line)
            self.head, self.at = match, line.number

    # a tracepoint: its text stands on its line; a chain may follow all the same
    def _point(self, line: TextLine, match: re.Match, rest: str) -> None:
        self.book.measured(line)
        orders = _ORDER.findall(rest)
        key = (match["event"], match["comm"] or "", int(orders[0]) if len(orders) == 1 else None)
        total = self.points.setdefault(key, [0, line.number])
        total[0] += 1
        self.head, self.at = match, line.number

    # -G: the address and symbol stand on the sample's own line
    def _one(self, line: TextLine, event: str, match: re.Match | None, rest: str) -> None:
        found = _INLINE.fullmatch(rest)
        if found is None or not plain(found["symbol"]):
            self.book.error(line, shown(rest), "an address and a symbol")
            return
        self.book.measured(line)
        self.head, self.at = match, line.number
        self.chain = [frame(found["symbol"], found["dso"])]
        self.sample(None, event)

    def sample(self, mark: str | None, event: str | None = None) -> None:
        """End the sample that is open, if one is."""
        head, chain = self.head, self.chain
        if head is not None or chain:
            name = event or (head["event"] if head else "samples")
            comm = (head["comm"] or "").strip().replace(" ", "_") if head else ""
            stack = ";".join(([comm] if comm else []) + chain[::-1])
            period = int((head["period"] if head else None) or 0)
            if chain or ":" not in name or (head and not head["rest"]):
                self.stacks.add(self.at, name, stack, period, 1, mark)
        self.head, self.chain, self.at = None, [], 0

    def close(self) -> None:
        if self.chain:
            self.book.note("the capture ends inside a sample: its chain may lack callers")
        self.sample(CUT if self.chain else None)
        for (event, comm, order), (count, number) in self.points.items():
            part = f"comm={comm}" if comm else None
            self.book.row(number, event, "count", count, part=part, order=order)
        self.stacks.write(self.book)
        for kind, count in self.lost.items():
            self.book.note(f"{count} PERF_RECORD_{kind} records, no samples")


def _frame_of(text: str) -> re.Match | None:
    match = FRAME.fullmatch(text)
    return match if match and plain(match["symbol"]) else None
