# SPDX-License-Identifier: GPL-2.0-only
"""A capture that is one JSON document, read whole: its lines count as data or as an error."""

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
        found = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
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


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def number(value: object) -> float:
    """Return a JSON number as a float; TypeError if it is none, or below 0."""
    if not isinstance(value, Decimal) or value < 0 or value > Decimal("1e300"):
        raise TypeError(f"{ascii(value)[:60]} is no number >= 0")
    return float(value)
