# SPDX-License-Identifier: GPL-2.0-only
"""The setting of a measurement as the text above it, or perf's header, tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.ingest.book import Book

_NEAR = 3  # paragraphs above a block that can speak of it
_ARCHES = {
    "arm64": r"arm64|aarch64|neoverse|graviton\d*|kunpeng|altra",
    "x86_64": r"x86(?:[-_]64)?|amd64|intel|amd|xeon|epyc|ryzen",
}
_PERF_ARCHES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64"}
_PERF_HEADER = re.compile(r"# (arch|os release|cpudesc) : (.+?)\s*")
# Not in a path, an address or after a hyphen ("arch/x86", "me@intel.com", "non-arm64").
_WORD = r"(?<![\w/.@-])(?i:{})(?![\w/@])"
# Words with a digit, a hyphen or a capital belong to a machine's name: "Arm64 32-core server".
_COUNT = r"(?:[\w.]*[\d-][\w.()-]*\s+)"
_NAME = r"(?:\s+(?:[A-Z(][\w.()-]*|[\w.()]*[\d-][\w.()-]*|based))"
_KIND = r"(?i:machine|server|box|laptop|desktop|workstation|system|host|board|VM|CPU|processor)s?"
_NEGATION = re.compile(r"\b(?:not|never|no|untested|without)\b|n't\b|\bshould\b|\bmust\b", re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z])")
_WORKLOAD = re.compile(
    r"(?:allocat|map|mmap|fault|populat|reclaim|run|read|writ|unmap|munmap|touch|fork|build|compil)"
    r"(?:e|es|ed|ing|s|p|ped|ping|ning|ting)?\b\S*\s+\S",
    re.I,
)


@dataclass(frozen=True)
class Setting:
    """What the text says of a measurement; None where it does not say, or names two."""

    machine: str | None
    arch: str | None
    workload: str | None
    remarks: tuple[str, ...] = ()


def read_setting(above: tuple[str, ...]) -> Setting:
    """The setting told by the lines above a block, the nearest telling paragraph first."""
    paragraphs = [_SENTENCE_END.split(text) for text in _paragraphs(above)[-_NEAR:]][::-1]
    machine, arch, remarks = None, None, ()
    for sentences in paragraphs:
        told = [one for one in sentences if not _NEGATION.search(one)]
        named = {arch for arch in _ARCHES for one in told if _arch_word(arch).search(one)}
        if named:
            arch = named.pop() if len(named) == 1 else None
            machine = _machine(told, arch) if arch else None
            if arch is None:
                remarks = ("the text above names arm64 and x86_64: architecture left open",)
            break
    workloads = [one for sentences in paragraphs for one in sentences if _WORKLOAD.match(one)]
    return Setting(machine, arch, workloads[0] if workloads else None, remarks)


def _paragraphs(lines: tuple[str, ...]) -> list[str]:
    joined = "\n".join(lines)
    return [" ".join(text.split()) for text in re.split(r"\n\s*\n", joined) if text.strip()]


def _arch_word(arch: str) -> re.Pattern:
    return re.compile(_WORD.format(_ARCHES[arch]))


def _machine(sentences: list[str], arch: str) -> str | None:
    phrase = re.compile(
        rf"(?<![\w.-]){_COUNT}{{0,3}}{_WORD.format(_ARCHES[arch])}{_NAME}{{0,5}}?\s+{_KIND}\b"
    )
    phrases = {match.group() for one in sentences for match in phrase.finditer(one)}
    return phrases.pop() if len(phrases) == 1 else None


def perf_header(text: str, book: Book) -> None:
    """Keep what a line of perf's header, "# os release : 7.2", says of the setting, if it does."""
    told = _PERF_HEADER.fullmatch(text)
    if told and told[1] == "arch":
        perf_arch(told[2], book)
    elif told:
        book.setting["kernel" if told[1] == "os release" else "machine"] = told[2]


def perf_arch(name: str, book: Book) -> None:
    """Keep the architecture; note one that Samples do not have."""
    if name in _PERF_ARCHES:
        book.setting["arch"] = _PERF_ARCHES[name]
    else:
        book.note(f"architecture {name}, left open")
