# SPDX-License-Identifier: GPL-2.0-only
"""Ingest: captures as people save them become Samples, or an IngestError says what to do about it.

A format is a sibling module with `parse(messages, name)`, which returns None where nothing of its
kind is in the text; it is listed in `read_text`, most particular first.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from analysis.ingest import mail
from analysis.ingest.capture import IngestError, messages, read_source
from analysis.samples import Samples

__all__ = ["IngestError", "read", "read_text"]


def read(source: str | Path | IO) -> Samples:
    """Samples of a capture given as a path or an open stream; raises IngestError."""
    return read_text(*read_source(source))


def read_text(text: str, name: str = "<pasted>") -> Samples:
    """Samples of a capture given as text, whose sources read "name:line"; raises IngestError."""
    found = messages(text, name)
    for parse in (mail.parse,):
        samples = parse(found, name)
        if samples is not None:
            return samples
    raise IngestError(name, "no measurement", mail.EXPECTED, mail.ADVICE)
