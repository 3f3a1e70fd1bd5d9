# SPDX-License-Identifier: GPL-2.0-only
"""A capture as a stream of numbered lines: compression, BOM and CR LF undone, memory bounded.

Nothing here keeps more than one line, so an endless capture costs no more than a short one. What
cannot be text (NUL, bytes that are not UTF-8, a line of megabytes) is refused with its line; only
the words of /proc/kpageflags are taken, each as a line of 16 hexadecimal digits.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from analysis.ingest.capture import IngestError

LINE_LIMIT = 1 << 20  # bytes; perf's longest lines, call chains with C++ names, have kilobytes
_MAGIC = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\0", lzma.open), (b"BZh", bz2.open))
# Bits that no page has in /proc/kpageflags: include/uapi/linux/kernel-page-flags.h and
# include/linux/kernel-page-flags.h, 7.2, name 0 to 26 and 32 to 41
NO_PAGE_FLAGS = 0xFFFF_0000_F800_0000
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


class TextLine(NamedTuple):
    """One line without its end, its number from 1, and whether a line end followed it."""

    number: int
    text: str
    ended: bool = True


@contextmanager
def opened(source: str | Path | IO) -> Iterator[tuple[IO[bytes], str]]:
    """Open a path, or take an open stream, uncompressed: its bytes and its name; IngestError.

    gzip, xz and bzip2 are told by their first bytes, whatever the file is called. What was opened
    here is closed at the end, a stream that was given is not.
    """
    with ExitStack() as closing:
        if hasattr(source, "read"):
            name = str(getattr(source, "name", "<stream>"))
            stream = getattr(source, "buffer", source)
        else:
            name = str(source)
            try:
                stream = closing.enter_context(Path(source).open("rb"))
            except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
                raise _unreadable(name, cause) from cause
        if isinstance(stream, io.TextIOBase):
            stream = io.BytesIO(_text(stream, name))
        elif not hasattr(stream, "peek"):
            stream = io.BufferedReader(_Raw(stream), 1 << 16)
        try:
            head = stream.read(0) if isinstance(stream, io.BytesIO) else stream.peek(8)[:8]
        except (OSError, ValueError) as cause:
            raise _unreadable(name, cause) from cause
        for magic, unpacked in _MAGIC:
            if head.startswith(magic):
                stream = closing.enter_context(unpacked(stream))
        yield stream, name


def chunks(stream: IO[bytes], name: str, size: int = 1 << 20) -> Iterator[bytes]:
    """Yield the bytes of a stream, at most `size` at a time; IngestError where it breaks off."""
    while True:
        try:
            chunk = stream.read(size)
        except _BROKEN as cause:
            found = f"compressed data that break off ({cause})"
            advice = "Copy the file again."
            raise IngestError(name, found, "a whole file", advice) from cause
        except (OSError, ValueError) as cause:
            raise _unreadable(name, cause) from cause
        if not chunk:
            return
        yield chunk


def lines(stream: IO[bytes], name: str) -> Iterator[TextLine]:
    """Yield the lines of a stream of bytes; IngestError for what is no text."""
    parts = chunks(stream, name)
    first = next(parts, b"")
    if _page_flags(first):
        yield from _words(chain([first], parts), name)
        return
    number, rest = 0, b""
    for chunk in chain([first], parts):
        *whole, rest = (rest + chunk).split(b"\n")
        texts = _texts(whole) if number else None
        if texts is None:
            texts = (_decoded(raw, at, name) for at, raw in enumerate(whole, number + 1))
        for number, text in enumerate(texts, number + 1):  # noqa: B020 - goes on counting
            yield TextLine(number, text)
        if len(rest) > LINE_LIMIT:
            raise _too_long(number + 1, name)
    if rest:
        yield TextLine(number + 1, _decoded(rest, number + 1, name), ended=False)


# Lines decoded at once, for that is faster; None where one may be refused.
def _texts(whole: list[bytes]) -> list[str] | None:
    joined = b"\n".join(whole)
    if b"\0" in joined or max(map(len, whole), default=0) > LINE_LIMIT:
        return None
    try:
        texts = joined.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return [text.removesuffix("\r") for text in texts] if b"\r" in joined else texts


# Text has no NUL bytes, and UTF-16 no four characters without a bit that no page has.
def _page_flags(raw: bytes) -> bool:
    words = struct.iter_unpack("<Q", raw[: min(len(raw), 4096) & ~7])
    return len(raw) >= 8 and not any(word & NO_PAGE_FLAGS for (word,) in words)


# A binary file of page flags: one "line" a word, in hexadecimal digits.
def _words(parts: Iterator[bytes], name: str) -> Iterator[TextLine]:
    number, rest = 0, b""
    for part in parts:
        raw = rest + part
        whole = len(raw) - len(raw) % 8
        for (word,) in struct.iter_unpack("<Q", raw[:whole]):
            number += 1
            yield TextLine(number, f"{word:016x}")
        rest = raw[whole:]
    if rest:
        found, advice = f"{len(rest)} bytes behind the last word", "Copy the file again."
        raise IngestError(f"{name}:{number + 1}", found, "words of 8 bytes", advice)


def _decoded(raw: bytes, number: int, name: str) -> str:
    where = f"{name}:{number}"
    if len(raw) > LINE_LIMIT:
        raise _too_long(number, name)
    if number == 1:
        if raw.startswith(_UTF16):
            advice = "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW."
            raise IngestError(where, "UTF-16 text", "UTF-8 text", advice)
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        advice = "Save the capture's text again; for perf.data: perf script -i FILE > NEW."
        raise IngestError(where, "a NUL byte: binary or UTF-16", "UTF-8 text", advice)
    try:
        return raw.decode().removesuffix("\r")
    except UnicodeDecodeError as cause:
        found = f"a byte that is not UTF-8 (0x{raw[cause.start]:02x})"
        advice = "If the text is in another encoding, convert it: iconv -f LATIN1 -t UTF-8."
        raise IngestError(where, found, "UTF-8 text", advice) from cause


def _too_long(number: int, name: str) -> IngestError:
    advice = "Capture to a file of its own: LC_ALL=C perf stat -x\\; -o FILE COMMAND."
    found = f"a line of more than {LINE_LIMIT} bytes"
    return IngestError(f"{name}:{number}", found, "lines as perf prints them", advice)


def _unreadable(name: str, cause: Exception) -> IngestError:
    reason = getattr(cause, "strerror", None) or str(cause)
    return IngestError(name, f"no readable file ({reason})", "a text file", "Check the path.")


def _text(stream: io.TextIOBase, name: str) -> bytes:
    try:
        return stream.read().encode()
    except UnicodeDecodeError as cause:
        found = f"a byte that is not UTF-8 (0x{cause.object[cause.start]:02x})"
        raise IngestError(name, found, "UTF-8 text", "Convert it with iconv.") from cause
    except UnicodeEncodeError as cause:
        raise IngestError(name, "text that has no UTF-8", "UTF-8 text", "Save it again.") from cause
    except (OSError, ValueError) as cause:
        raise _unreadable(name, cause) from cause


class _Raw(io.RawIOBase):
    """What only has read() as a raw stream, for a BufferedReader that can peek."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        taken = self._stream.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)
