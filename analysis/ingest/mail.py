# SPDX-License-Identifier: GPL-2.0-only
"""Kernel mails: "W/o patch" and "W/ patch" blocks of bash's `time`, quoted as threads quote them.

Lines of one quote depth in one message are read as one text, so that replies between quoted lines
do not tear a block apart. A pair that is quoted again counts once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from analysis.ingest.capture import IngestError, Line
from analysis.ingest.setting import Setting, read_setting
from analysis.samples import Samples

EXPECTED = "a 'W/o patch:' and a 'W/ patch:' block, each with bash's real, user and sys rows"
ADVICE = (
    "Capture each side with: LC_ALL=C bash -c 'time COMMAND', and put its label on the line above."
)
_NUMBER = "minutes and seconds as bash's time prints them, such as 0m1.018s or 1m2.345s"
_KEYS = ("real", "user", "sys")
_QUOTE = re.compile(r"(?:[ \t]*>)+")
_NOUN = r"patch(?:es|[ -]?set)?|series|change"
_THE = r"(?:(?:the|this|my)\s+)?"
_LABEL = (
    rf"(?:(?:w/o|w/|without|with)\s*{_THE}(?:{_NOUN})"
    rf"|(?:before|after)(?:\s+{_THE}(?:{_NOUN}))?)\s*:?"
)
_LABELS = re.compile(rf"({_LABEL})(?:\s+({_LABEL}))?", re.I)
_ROW = re.compile(r"(real|user|sys)\s+([-+.,]?[0-9].*)")
_TIME = re.compile(r"([0-9]{1,7})m([0-9]{1,2})(?:[.,]([0-9]{1,6}))?s")
# What may stand between a label and its rows, or between runs: a shell line, or the run's number.
_BETWEEN = re.compile(r"[$#] .*|(?:run|round)\s*#?[0-9]+\s*:?|", re.I)
# Where saved threads start a new message without a mailbox separator.
_BOUNDARY = re.compile(r"Posted by .+ ago|(?:From|Subject|Message-ID): .*", re.I)


# A line that a mail has and no tool prints: a header, a quote or a label of a block.
_TELLING = re.compile(
    rf"(?:From|Subject|Message-ID|Date|To|Cc): .+|From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) .*"
    r"|Posted by .+ ago|[ \t]*>.*|\s*(?:<!doctype|<html|<body|<pre|<\?xml).*"
    rf"|\s*{_LABEL}(?:\s+{_LABEL})?\s*",
    re.I,
)


def telling(text: str) -> bool:
    """Tell whether a line shows that the text is a mail, a thread or a page."""
    return any(_TELLING.fullmatch(line) for line in text[:2000].split("\r"))


def is_label(text: str) -> bool:
    """Tell whether a line is the label of a block, or of two: "W/o patch:", "before"."""
    return bool(_LABELS.fullmatch(" ".join(text[:2000].split())))


class _Row(NamedTuple):
    key: str
    values: tuple[float, ...]
    line: int


@dataclass(frozen=True)
class _Block:
    label: str  # lower case, single spaces, no colon
    line: int
    depth: int
    rows: tuple[tuple[float, int], ...]  # seconds and line: real, user, sys of run 0, then run 1
    above: tuple[str, ...]  # the text between the block before and this one

    @property
    def side(self) -> str:
        return "before" if self.label.startswith(("w/o", "without", "before")) else "after"

    @property
    def identity(self) -> tuple:
        return self.label, tuple(value for value, _ in self.rows)


class _Pair(NamedTuple):
    before: _Block
    after: _Block
    setting: Setting

    @property
    def line(self) -> int:
        return min(self.before.line, self.after.line)

    def repeats(self, other: _Pair) -> bool:
        archs = {self.setting.arch, other.setting.arch} - {None}
        same = self.before.identity == other.before.identity
        return same and self.after.identity == other.after.identity and len(archs) < 2


def parse(messages: Iterable[list[Line]], name: str) -> Samples | None:
    """Samples of the pairs in a thread, kernel "before" or "after"; None if no row is there.

    Raises IngestError for a block that is cut short, has a malformed number or lacks its partner.
    """
    pairs, lone, stray = [], [], []
    for message in messages:
        for depth, lines in _streams(message):
            blocks, rest = _blocks(lines, depth, name)
            more, without = _paired(blocks, name)
            pairs, lone, stray = pairs + more, lone + without, stray + rest
    kept, notes = _counted_once(pairs)
    notes += _partial_quotes(lone, kept, name)
    if not kept:
        if not stray:
            return None
        found = f"time output under no before or after label ({_shown(stray[0].text)})"
        raise IngestError(f"{name}:{stray[0].number}", found, EXPECTED, ADVICE)
    if stray:
        lines = _lines_of(line.number for line in stray)
        notes.append(f"time output under no before or after label, not counted: {lines}")
    rows = [row for pair in kept for row in _observations(pair, name)]
    return Samples.from_rows(rows, notes)


# The lines of each quote depth, stripped; where a saved thread starts a new message, all end.
def _streams(message: list[Line]) -> Iterator[tuple[int, list[Line]]]:
    streams = defaultdict(list)
    for line in message:
        mark = _QUOTE.match(line.text)
        depth = mark.group().count(">") if mark else 0
        text = line.text[mark.end() if mark else 0 :].strip()
        if not depth and _BOUNDARY.fullmatch(text):
            yield from streams.items()
            streams = defaultdict(list)
        streams[depth].append(Line(line.number, text))
    yield from streams.items()


def _blocks(lines: list[Line], depth: int, name: str) -> tuple[list[_Block], list[Line]]:
    blocks, stray, at, text_from = [], [], 0, 0
    while at < len(lines):
        labels = _LABELS.fullmatch(" ".join(lines[at].text.split()))
        if labels is None:
            if _is_stray(lines[at].text):
                stray.append(lines[at])
            at += 1
            continue
        names = [label.rstrip(": ").lower() for label in labels.groups() if label]
        rows, end = _rows(lines, at + 1, len(names), name)
        if rows:
            above = tuple(line.text for line in lines[text_from:at])
            for column, label in enumerate(names):
                values = tuple((row.values[column], row.line) for row in rows)
                blocks.append(_Block(label, lines[at].number, depth, values, above))
            text_from = end
        at = end
    if blocks:
        _check_stray(stray, name)
    return blocks, stray


# Prose may start with such a row ("sys 0m1.018s is a lot"); only times make it one.
def _is_stray(text: str) -> bool:
    words = text.split()
    times = [word for word in words if _TIME.fullmatch(word)]
    return bool(times) and words[0] in _KEYS and {*words} <= {*times, *_KEYS}


# Part of a run beside whole blocks: a damaged row tore it off, and a run would be lost.
def _check_stray(stray: list[Line], name: str) -> None:
    for place, line in enumerate(stray):
        expected = _KEYS[place % 3]
        if not line.text.startswith(expected):
            found = f"{_shown(line.text)} under no label, torn from its run"
            raise IngestError(f"{name}:{line.number}", found, f"a {expected!r} row", ADVICE)


def _rows(lines: list[Line], start: int, width: int, name: str) -> tuple[list[_Row], int]:
    rows, end = [], start
    while end < len(lines):
        line = lines[end]
        if _ROW.match(line.text):
            rows.append(_row(line, width, name))
            expected = _KEYS[(len(rows) - 1) % 3]
            if rows[-1].key != expected:
                found = f"{rows[-1].key!r} out of turn"
                raise IngestError(f"{name}:{line.number}", found, f"a {expected!r} row", ADVICE)
        elif not _BETWEEN.fullmatch(line.text):
            break
        end += 1
    if len(rows) % 3:
        found = f"a run that stops after its {rows[-1].key!r} row"
        raise IngestError(f"{name}:{rows[-1].line}", found, "real, user and sys", ADVICE)
    return rows, end


# A two-column paste may repeat the key: "real 0m1.018s   real 0m0.249s".
def _row(line: Line, width: int, name: str) -> _Row:
    key, rest = _ROW.match(line.text).groups()
    words = rest.split()
    if len(words) == 3 and words[1] == key:
        del words[1]
    values = tuple(_seconds(word, f"{name}:{line.number}") for word in words[:width])
    if len(words) != width:
        expected = f"{width} value(s), one for each label above"
        raise IngestError(f"{name}:{line.number}", _shown(line.text), expected, ADVICE)
    return _Row(key, values, line.number)


def _seconds(word: str, where: str) -> float:
    match = _TIME.fullmatch(word)
    if match is None or int(match[2]) >= 60:
        raise IngestError(where, _shown(word), _NUMBER, ADVICE)
    return float(Decimal(match[1]) * 60 + Decimal(f"{match[2]}.{match[3] or 0}"))


# Neighbours of opposite sides; what is left over comes back as the second list.
def _paired(blocks: list[_Block], name: str) -> tuple[list[_Pair], list[_Block]]:
    pairs, lone, first = [], [], None
    for block in blocks:
        if first is None:
            first = block
        elif first.side == block.side:
            lone.append(first)
            first = block
        else:
            _check_runs(first, block, name)
            before, after = sorted((first, block), key=lambda one: one.side == "after")
            pairs.append(_Pair(before, after, read_setting(first.above)))
            first = None
    return pairs, lone + ([first] if first else [])


# A file that was cut between two runs looks just like a block with fewer runs, so it is refused.
def _check_runs(first: _Block, second: _Block, name: str) -> None:
    if len(first.rows) != len(second.rows):
        found = f"{len(second.rows) // 3} run(s) under {second.label!r}"
        expected = f"{len(first.rows) // 3}, as under {first.label!r} at line {first.line}"
        advice = "Restore the missing runs, or leave out the same number on the other side."
        raise IngestError(f"{name}:{second.line}", found, expected, advice)


# The least quoted copy stands for all of them.
def _counted_once(pairs: list[_Pair]) -> tuple[list[_Pair], list[str]]:
    copies: list[list[_Pair]] = []
    for pair in sorted(pairs, key=lambda one: (one.before.depth, one.line)):
        group = next((group for group in copies if pair.repeats(group[0])), None)
        if group is None:
            copies.append([pair])
        else:
            group.append(pair)
    copies.sort(key=lambda group: group[0].line)
    notes = []
    for first, *again in copies:
        runs = len(first.before.rows) // 3
        notes.append(f"line {first.line}: {runs} run{'s' * (runs > 1)} on each side")
        if again:
            times = f"{len(again)} more time{'s' * (len(again) > 1)}"
            lines = _lines_of(pair.line for pair in again)
            notes.append(f"the same pair is quoted {times} ({lines}): counted once")
        notes += [f"line {first.line}: {remark}" for remark in first.setting.remarks]
    return [group[0] for group in copies], notes


# A reply that quotes one side of a known pair is harmless; any other block alone is not.
def _partial_quotes(lone: list[_Block], kept: list[_Pair], name: str) -> list[str]:
    notes = []
    for block in lone:
        sides = [side for pair in kept for side in pair[:2] if side.identity == block.identity]
        if not any(side.depth < block.depth for side in sides):
            other = "W/ patch:" if block.side == "before" else "W/o patch:"
            found = f"a {block.label!r} block without its partner"
            expected = f"one block for each side: {other!r} or its like next to it"
            raise IngestError(f"{name}:{block.line}", found, expected, ADVICE)
        notes.append(f"line {block.line}: one side of a pair quoted again, not counted")
    return notes


def _observations(pair: _Pair, name: str) -> Iterator[dict]:
    for block in pair[:2]:
        for place, (value, line) in enumerate(block.rows):
            yield {
                "machine": pair.setting.machine,
                "arch": pair.setting.arch,
                "kernel": block.side,
                "workload": pair.setting.workload,
                "metric": _KEYS[place % 3],
                "unit": "s",
                "value": value,
                "run": place // 3,
                "source": f"{name}:{line}",
            }


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _lines_of(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in sorted(numbers)]
    return f"line{'s' * (len(listed) > 1)} {', '.join(listed)}"
