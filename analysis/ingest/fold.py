# SPDX-License-Identifier: GPL-2.0-only
"""perf script's samples folded into stacks at the speed of a copy, for captures of gigabytes.

The text is cut at blank lines into samples, by bytes. The callers of a sample are the same text in
many others, so their lines are looked up whole and taken apart once; the leaf, whose offset
differs, is looked up alone. Memory holds the stacks, the lookups (bounded) and one chunk. One
core, one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from analysis.ingest.capture import IngestError
from analysis.ingest.perf_script import ADVICE, EXPECTED
from analysis.ingest.source import chunks
from analysis.ingest.stacks import frame, plain

CHUNK_BYTES = 256 << 10  # what a core's own cache holds
SAMPLE_LIMIT = 16 << 20  # bytes of one sample
LOOKUP_LIMIT = 48 << 20  # bytes of the texts kept to be looked up
STACK_LIMIT = 1_000_000
_TIME = re.compile(rb"[0-9]+\.[0-9]{6}(?:[0-9]{3})?")
_HEAD = re.compile(
    rb"(\S.*?) +-?[0-9]+(?:/ *-?[0-9]+)? +(?:\[[0-9]{3,}\] +)?[0-9]+\.[0-9]{6}(?:[0-9]{3})?: +"
    rb"(?:([0-9]{1,20}) +)?([A-Za-z_]\S*?|cpu\S*/.*?/[a-zA-Z]*): *"
)
_FRAME = re.compile(
    rb"[ \t]+([0-9a-f]+) (\S.*?)(?:\+0x[0-9a-f]+)?(?: \(([^()]*(?:\([^()]*\))?[^()]*)\))? *"
)
_SHIFT = 32  # a stack is one number: its callers above, its leaf below


def fold(stream: IO[bytes], name: str) -> dict[str, dict[str, int]]:
    """Return the sum of periods by event and stack ("comm;root;...;leaf"), as stackcollapse has.

    Blanks in a command become underscores, offsets go, an unknown symbol is its object's name; a
    sample without a period counts 1. Raises IngestError with the line of what is no sample, also
    where the last sample is not ended by a blank line.
    """
    folder = _Folder(name)
    for samples in _samples(stream, name, folder):
        folder.add(samples)
    return folder.folded()


def text(stacks: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a folded file, sorted by bytes."""
    for stack in sorted(stacks, key=str.encode):
        yield f"{stack} {stacks[stack]}\n"


# Lists of samples, each without the blank line that ends it.
def _samples(stream: IO[bytes], name: str, folder: _Folder) -> Iterator[list[bytes]]:
    rest = b""
    for chunk in chunks(stream, name, CHUNK_BYTES):
        rest += chunk
        if b"\r" in rest:
            if rest.endswith(b"\r"):
                continue  # its line feed is in the next chunk
            rest = rest.replace(b"\r\n", b"\n")
        end = rest.rfind(b"\n\n")
        if end >= 0:
            whole = rest[:end]
            yield whole.split(b"\n\n")
            folder.number += whole.count(b"\n") + 2
            rest = rest[end + 2 :]
        elif len(rest) > SAMPLE_LIMIT:
            raise folder.refusal([rest], 0, 0, f"a sample of more than {SAMPLE_LIMIT} bytes")
    if rest.strip():
        folder.ended = False
        folder.forget()
        yield [rest.removesuffix(b"\n")]


class _Folder:
    def __init__(self, name: str):
        self.name = name
        self.number = 1  # of the first line of the samples at hand
        self.ended = True
        self.totals: dict[tuple[bytes, bytes], dict[int, int]] = {}  # (comm, event): stack: period
        self.commands: dict[bytes, bytes] = {}  # "comm tid [cpu] ": comm
        self.events: dict[bytes, bytes] = {}  # "event:": event
        self.leaves: dict[bytes, int] = {}
        self.callers: dict[bytes, int] = {}
        self.names: dict[str, int] = {"": 0}  # of leaves and of chains of callers
        self.kept = 0

    # The loop that everything waits for: what it looks up was checked when it was first met.
    def add(self, samples: list[bytes]) -> None:
        totals, commands, events = self.totals, self.commands, self.events
        leaves, callers = self.leaves, self.callers
        for place, sample in enumerate(samples):
            try:
                lines = sample.split(b"\n", 2)
                head, leaf, rest = lines if len(lines) == 3 else (*lines, b"")
                before, _, behind = head.partition(b": ")
                who, _, time = before.rpartition(b" ")
                float(time)
                period, event = behind.split()
                stacks = totals[commands[who], events[event]]
                stack = callers[rest] | (leaves.get(leaf) or self._leaf(samples, place, 1))
                stacks[stack] = stacks.get(stack, 0) + int(period)
            except (KeyError, ValueError):
                self._first(samples, place)

    # A sample that has something new in it, or is none.
    def _first(self, samples: list[bytes], place: int) -> None:
        lines = samples[place].split(b"\n")
        at = 0
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith(b"#")):
            at += 1
        if at == len(lines):
            return
        if not self.ended:
            raise self.refusal(samples, place, at, "a last sample that no blank line ends")
        match = _HEAD.fullmatch(lines[at])
        if match is None or at == len(lines) - 1:
            raise self.refusal(samples, place, at)
        if self.kept > LOOKUP_LIMIT:
            self.forget()
        stack = self._leaf(samples, place, at + 1) | self._above(samples, place, at + 2)
        self._command(lines[at], match)
        comm, period, event = match.groups()
        stacks = self.totals.setdefault((comm, event), {})
        stacks[stack] = stacks.get(stack, 0) + (int(period) if period else 1)

    def _leaf(self, samples: list[bytes], place: int, spot: int) -> int:
        line = samples[place].split(b"\n", spot + 1)[spot]
        number = self.leaves.get(line)
        if number is None:
            name = self._frame(samples, place, spot)
            number = self.names.setdefault(name, len(self.names))
            if self.kept < LOOKUP_LIMIT:
                self.leaves[line] = number
                self.kept += len(line) + 150
        return number

    def _above(self, samples: list[bytes], place: int, first: int) -> int:
        lines = samples[place].split(b"\n")
        text = b"\n".join(lines[first:])
        number = self.callers.get(text)
        if number is None:
            names = [self._frame(samples, place, spot) for spot in range(first, len(lines))]
            chain = ";".join(names[::-1])
            number = self.names.setdefault(chain, len(self.names)) << _SHIFT
            self.callers[text] = number
            self.kept += len(text) + 150
        return number

    def forget(self) -> None:
        """Drop what was looked up, so that memory stays bounded and all is checked again."""
        for lookup in (self.leaves, self.callers, self.commands, self.events):
            lookup.clear()
        self.kept = 0

    # Looked up in parts by add() where its parts are those of the whole pattern.
    def _command(self, head: bytes, match: re.Match) -> None:
        before, _, behind = head.partition(b": ")
        who, _, time = before.rpartition(b" ")
        words = behind.split()
        if _TIME.fullmatch(time) and len(words) == 2 and words[1] == match[3] + b":":
            self.kept += 0 if who in self.commands else len(who) + 150
            self.commands[who] = match[1]
            self.events[words[1]] = match[3]

    def _frame(self, samples: list[bytes], place: int, spot: int) -> str:
        line = samples[place].split(b"\n", spot + 1)[spot]
        match = _FRAME.fullmatch(line)
        if match is None:
            raise self.refusal(samples, place, spot)
        try:
            symbol = match[2].decode()
            if not plain(symbol):
                raise self.refusal(samples, place, spot)
            return frame(symbol, None if match[3] is None else match[3].decode())
        except UnicodeDecodeError as cause:
            found = f"a byte that is not UTF-8 (0x{cause.object[cause.start]:02x})"
            raise self.refusal(samples, place, spot, found) from cause

    def refusal(
        self, samples: list[bytes], place: int, spot: int, found: str | None = None
    ) -> IngestError:
        """Return the error for line `spot` of one of the samples at hand."""
        above = sum(sample.count(b"\n") for sample in samples[:place]) + 2 * place
        line = samples[place].split(b"\n", spot + 1)[spot]
        shown = ascii(line[:57].decode("utf-8", "replace"))
        found = f"{found} ({shown})" if found else shown
        return IngestError(f"{self.name}:{self.number + above + spot}", found, EXPECTED, ADVICE)

    def folded(self) -> dict[str, dict[str, int]]:
        """Return the totals by event and stack, as text."""
        names = list(self.names)
        events: dict[str, dict[str, int]] = {}
        for (comm, event), stacks in self.totals.items():
            command = comm.decode("utf-8", "backslashreplace").replace(" ", "_")
            totals = events.setdefault(event.decode("utf-8", "backslashreplace"), {})
            for number, period in stacks.items():
                parts = (command, names[number >> _SHIFT], names[number & ((1 << _SHIFT) - 1)])
                stack = ";".join(part for part in parts if part)
                totals[stack] = totals.get(stack, 0) + period
        return events
