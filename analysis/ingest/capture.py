# SPDX-License-Identifier: GPL-2.0-only
"""A capture as numbered lines: bytes, HTML pages, mailboxes and mail encodings are undone here."""

from __future__ import annotations

import base64
import binascii
import email
import quopri
import re
from email.message import Message
from html.parser import HTMLParser
from itertools import pairwise
from typing import NamedTuple


class IngestError(ValueError):
    """A capture that cannot be taken: where, what was found, what was expected, what to do next."""

    def __init__(self, where: str, found: str, expected: str, advice: str):
        super().__init__(f"{where}: found {found}; expected {expected}. {advice}")


class IngestManyError(IngestError):
    """Several captures that cannot be taken: the first in full, where the others failed."""

    def __init__(self, problems: list[IngestError]):
        first, *others = map(str, problems)
        places = ", ".join(other.partition(": found ")[0] for other in others[:8])
        more = f", and {len(others) - 8} more" if len(others) > 8 else ""
        told = f" Nor can these be taken: {places}{more}." if others else ""
        ValueError.__init__(self, first + told)


class Line(NamedTuple):
    """One line of readable text and its number (from 1) in the file it came from."""

    number: int
    text: str


_HTML = re.compile(r"\s*(?:<\?xml|<!doctype html|<html|<head|<body|<pre|<!--)", re.I)
# mboxrd and git format-patch separators; prose that starts with "From " has no weekday and year.
_SEPARATOR = re.compile(r"^From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) .*[0-9]{4}[ \t]*$", re.M)
_HEADERS = re.compile(
    r"(?:(?:From|To|Cc|Date|Subject|Message-ID|MIME-Version|Received|Return-Path|Delivered-To"
    r"|(?:Content|X|List|ARC|DKIM)-[\w-]+|Authentication-Results|References|In-Reply-To|Sender"
    r"|Reply-To):.*\n(?:[ \t].*\n)*){2,}",
    re.I,
)
_BREAKING = frozenset(
    ["br", "div", "hr", "li", "p", "pre", "table", "tr", "blockquote", "h1", "h2", "h3"]
)
_SILENT = frozenset(("script", "style"))


def messages(text: str, name: str) -> list[list[Line]]:
    """The lines of each message in a text: one for a plain or HTML text, one per mail in a mailbox.

    Line numbers are those of the text as given; in a base64 body all are its first line's.
    Raises IngestError.
    """
    if not text.strip().strip("\ufeff"):
        advice = "Save it again as plain text."
        raise IngestError(name, "an empty file", "a saved mail or thread", advice)
    if "\0" in text:
        where = f"{name}:{text.count(chr(10), 0, text.index(chr(0))) + 1}"
        advice = "Save the mail as plain UTF-8 text."
        raise IngestError(where, "a NUL byte: binary or UTF-16", "UTF-8 text", advice)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    found = []
    for start, end in pairwise(starts):
        found.append(_message(text[start:end], text.count("\n", 0, start) + 1, name))
    return found


def _message(text: str, first: int, name: str) -> list[Line]:
    separator = _SEPARATOR.match(text)
    body = text[separator.end() :].removeprefix("\n") if separator else text
    first += text.count("\n") - body.count("\n")
    if not _HEADERS.match(body):
        return _lines(body, first, name, html=bool(_HTML.match(body)))
    mail = email.message_from_string(body)
    leaves = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    leaves = [part for part in leaves if not part.is_multipart()]
    plain = [part for part in leaves if part.get_content_subtype() != "html"]
    lines, place = [], 0
    for part in plain or leaves:
        payload = part.get_payload()
        # the parser hands a leaf's raw text over unchanged, so it can be found again in the file
        place = max(body.find(payload, place), place)
        lines += _part(part, payload, first + body.count("\n", 0, place), name)
    return lines


def _part(part: Message, payload: str, first: int, name: str) -> list[Line]:
    html = part.get_content_subtype() == "html"
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "base64":
        try:
            raw = base64.b64decode("".join(payload.split()), validate=True)
        except (binascii.Error, ValueError) as cause:
            advice = "Save the mail again, or save its text alone."
            found = "a damaged base64 body"
            raise IngestError(f"{name}:{first}", found, "whole base64", advice) from cause
        body = _lines(_charset(raw, part, first, name), first, name, html)
        return [Line(first, line.text) for line in body]
    if encoding != "quoted-printable":
        return _lines(payload, first, name, html)
    lines = []
    for number, text in _unfolded(payload, first):
        raw = quopri.decodestring(text.encode("utf-8", "surrogateescape"))
        lines.append(Line(number, _charset(raw, part, number, name)))
    if not html:
        return lines
    page = _lines("\n".join(line.text for line in lines), 1, name, html)
    return [Line(lines[min(line.number, len(lines)) - 1].number, line.text) for line in page]


# Soft breaks ("=" at the end of a line) joined; a joined line has its first line's number.
def _unfolded(payload: str, first: int) -> list[Line]:
    lines, number = [], first
    payload = "\n".join(line.rstrip(" \t") for line in payload.split("\n"))
    for text in re.split(r"(?<!=)\n", payload):
        lines.append(Line(number, text.replace("=\n", "")))
        number += text.count("\n") + 1
    return lines


def _charset(raw: bytes, part: Message, first: int, name: str) -> str:
    charset = part.get_content_charset("utf-8")
    charset = "utf-8" if charset == "us-ascii" else charset
    try:
        return raw.decode(charset).replace("\r\n", "\n").replace("\r", "\n")
    except (LookupError, UnicodeError) as cause:
        found = f"a body that is not {charset!a}, as its header says"
        advice = "Save the mail as plain UTF-8 text."
        raise IngestError(f"{name}:{first}", found, "text", advice) from cause


def _lines(text: str, first: int, name: str, html: bool) -> list[Line]:
    if not html:
        return [Line(number, line) for number, line in enumerate(text.split("\n"), first)]
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except AssertionError as cause:  # html.parser's answer to some broken declarations
        where = f"{name}:{first - 1 + page.getpos()[0]}"
        advice = "Save the page as plain text."
        raise IngestError(where, "broken HTML", "an HTML page", advice) from cause
    page.flush()
    return [Line(number + first - 1, line) for number, line in page.lines]


class _Page(HTMLParser):
    """The visible text of an HTML page, each line with the number of its source line."""

    def __init__(self):
        super().__init__()
        self.lines: list[Line] = []
        self.current: list[str] = []
        self.number = 1
        self.silent = False

    def handle_starttag(self, tag, _attrs):
        self.silent = tag in _SILENT
        if tag in _BREAKING:
            self.flush()
        elif tag in ("td", "th"):
            self.current.append("\t")

    def handle_endtag(self, tag):
        self.silent = False
        if tag in _BREAKING:
            self.flush()

    def handle_data(self, data):
        if self.silent:
            return
        number = self.getpos()[0]
        for offset, text in enumerate(data.split("\n")):
            if offset:
                self.flush()
            if not self.current:
                self.number = number + offset
            self.current.append(text)

    def flush(self):
        if self.current:
            self.lines.append(Line(self.number, "".join(self.current)))
        self.current = []
