# SPDX-License-Identifier: GPL-2.0-only
"""JSON read exactly; and a capture that is one document: its lines are data or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

from analysis.ingest.book import Book
from analysis.ingest.source import TextLine

DOCUMENT_LIMIT = 64 << 20  # characters


def load(lines: Iterator[TextLine], book: Book) -> object | None:
    """Return the document that the lines are; IngestError with its line where it is broken.

    Numbers are Decimal, so that none is rounded twice. None if the book only explains.
    """
    kept, size, last = [], 0, None
    for line in lines:
        size += len(line.text)
        if size > DOCUMENT_LIMIT:
            book.error(
                line, f"a document of more than {DOCUMENT_LIMIT} characters", "a smaller one"
            )
            for rest in lines:
                book.comment(rest)
            return None
        kept.append(line)
    try:
        text = "\n".join(line.text for line in kept)
        found = loads(text)
    except json.JSONDecodeError as cause:
        last, why = cause.lineno, f"{cause.msg}, column {cause.colno}"
        found = None
    except (ValueError, ArithmeticError, RecursionError) as cause:
        last, why, found = 1, str(cause) or "a document nested too deeply", None
    for place, line in enumerate(kept, 1):
        if place == last:
            book.error(line, f"broken JSON ({why})", "one whole JSON document")
        elif line.text.strip():
            book.measured(line)
        else:
            book.comment(line)
    return found


def loads(text: str) -> object:
    """Return what a JSON text says, numbers as Decimal; ValueError where two values have one key.

    json.loads alone takes the last of them, and drops the others without a word.
    """
    return json.loads(
        text,
        parse_float=Decimal,
        parse_int=Decimal,
        parse_constant=_refuse,
        object_pairs_hook=_unique,
    )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {ascii(twice)[:60]} is there twice")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def number(value: object) -> float:
    """Return a JSON number as a float; TypeError if it is none, or below 0."""
    if not isinstance(value, Decimal) or value < 0 or value > Decimal("1e300"):
        raise TypeError(f"{ascii(value)[:60]} is no number >= 0")
    return float(value)
