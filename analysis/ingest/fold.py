# SPDX-License-Identifier: GPL-2.0-only
"""perf script's samples folded into stacks at the speed of a copy, for captures of gigabytes.

The text is cut at blank lines into samples, by bytes. The callers of a sample are the same text in
many others, so their lines are looked up whole and taken apart once; the leaf, whose offset
differs, is looked up alone. Memory holds the stacks, the lookups (bounded) and one chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from analysis.ingest.capture import IngestError
from analysis.ingest.perf_script import ADVICE, EXPECTED
from analysis.ingest.source import chunks
from analysis.ingest.stacks import frame

CHUNK_BYTES = 2 << 20
SAMPLE_LIMIT = 16 << 20  # bytes of one sample
LOOKUP_LIMIT = 48 << 20  # bytes of the texts kept in a lookup
STACK_LIMIT = 1_000_000
_HEAD = re.compile(
    rb"(\S.*?) +-?[0-9]+(?:/ *-?[0-9]+)? +(?:\[[0-9]{3,}\] +)?[0-9]+\.[0-9]{6}(?:[0-9]{3})?: +"
    rb"(?:([0-9]+) +)?([A-Za-z_]\S*?|cpu\S*/.*?/[a-zA-Z]*): *"
)
_FRAME = re.compile(
    rb"[ \t]+([0-9a-f]+) (\S.*?)(?:\+0x[0-9a-f]+)?(?: \(([^()]*(?:\([^()]*\))?[^()]*)\))? *"
)


def fold(stream: IO[bytes], name: str) -> dict[str, dict[str, int]]:
    """Return the sum of periods by event and stack ("comm;root;...;leaf"), as stackcollapse has.

    Blanks in a command become underscores, offsets go, an unknown symbol is its object's name; a
    sample without a period counts 1. Raises IngestError with the line of what is no sample, also
    where the last sample is not ended by a blank line.
    """
    folder = _Folder(name)
    for samples in _samples(stream, name, folder):
        for sample in samples:
            folder.add(sample)
    return folder.folded()


def text(stacks: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a folded file, sorted by bytes."""
    for stack in sorted(stacks, key=str.encode):
        yield f"{stack} {stacks[stack]}\n"


# Lists of samples, each without the blank line that ends it.
def _samples(stream: IO[bytes], name: str, folder: _Folder) -> Iterator[list[bytes]]:
    rest = b""
    for chunk in chunks(stream, name, CHUNK_BYTES):
        rest += chunk.replace(b"\r\n", b"\n") if b"\r" in chunk else chunk
        if b"\r" == rest[-1:]:
            continue
        end = rest.rfind(b"\n\n")
        if end >= 0:
            yield rest[:end].split(b"\n\n")
            rest = rest[end + 2 :]
        elif len(rest) > SAMPLE_LIMIT:
            raise folder.refusal(f"a sample of more than {SAMPLE_LIMIT} bytes", rest[:60])
    if rest.strip():
        folder.last = True
        yield [rest]


class _Folder:
    def __init__(self, name: str):
        self.name = name
        self.number = 1  # of the sample's first line
        self.last = False
        self.totals: dict[tuple[bytes, bytes, str, str], int] = {}
        self.chains: dict[bytes, str] = {}
        self.leaves: dict[bytes, str] = {}
        self.kept = 0
        self.commands: dict[bytes, str] = {}

    def add(self, sample: bytes) -> None:
        first = sample.find(b"\n")
        head = _HEAD.fullmatch(sample, 0, first) if first > 0 else None
        if head is None or self.last:
            self._unusual(sample)
            return
        second = sample.find(b"\n", first + 1)
        if second < 0:
            second = len(sample)
        leaf = self.leaves.get(sample[first + 1 : second])
        callers = self.chains.get(sample[second:])
        if leaf is None or callers is None:
            leaf, callers = self._taken_apart(sample, first, second)
        comm, period, event = head.groups()
        key = (event, comm, callers, leaf)
        totals = self.totals
        totals[key] = totals.get(key, 0) + (int(period) if period else 1)
        self.number += sample.count(b"\n") + 2

    def _taken_apart(self, sample: bytes, first: int, second: int) -> tuple[str, str]:
        if self.kept > LOOKUP_LIMIT:
            self.chains.clear()
            self.leaves.clear()
            self.kept = 0
        lines = sample[second + 1 :].split(b"\n") if second < len(sample) else []
        names = [self._frame(line, place) for place, line in enumerate(lines, 2)]
        leaf = self._frame(sample[first + 1 : second], 1)
        callers = ";".join(names[::-1])
        self.leaves[sample[first + 1 : second]] = leaf
        self.chains[sample[second:]] = callers
        self.kept += len(sample) - first + 200
        if len(self.totals) > STACK_LIMIT:
            raise self.refusal(f"more than {STACK_LIMIT} different stacks", sample[:60])
        return leaf, callers

    def _frame(self, line: bytes, place: int) -> str:
        match = _FRAME.fullmatch(line)
        if match is None:
            self.number += place
            raise self.refusal(None, line)
        symbol, dso = (None if word is None else self._text(word) for word in match.groups()[1:])
        return frame(symbol, dso)

    # Comments above the first sample, samples without a chain, blank lines in a row
    def _unusual(self, sample: bytes) -> None:
        lines = sample.split(b"\n")
        while lines and (not lines[0].strip() or lines[0].startswith(b"#")):
            lines.pop(0)
            self.number += 1
        if self.last and lines:
            raise self.refusal("a last sample that no blank line ends", lines[-1] or lines[-2])
        if not lines:
            self.number += 1
        elif len(lines) == 1 or _HEAD.fullmatch(lines[0]) is None:
            raise self.refusal(None, lines[0])
        else:
            self.add(b"\n".join(lines))

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as cause:
            raise self.refusal(f"a byte that is not UTF-8 (0x{raw[cause.start]:02x})", raw) from cause

    def refusal(self, found: str | None, raw: bytes) -> IngestError:
        shown = ascii(raw[:57].decode("utf-8", "replace"))
        found = f"{found} ({shown})" if found else shown
        return IngestError(f"{self.name}:{self.number}", found, EXPECTED, ADVICE)

    def folded(self) -> dict[str, dict[str, int]]:
        events: dict[str, dict[str, int]] = {}
        for (event, comm, callers, leaf), period in self.totals.items():
            command = self._text(comm).replace(" ", "_")
            stack = ";".join(part for part in (command, callers, leaf) if part)
            stacks = events.setdefault(self._text(event), {})
            stacks[stack] = stacks.get(stack, 0) + period
        return events
