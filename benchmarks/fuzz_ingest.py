# SPDX-License-Identifier: GPL-2.0-only
r"""Fuzz ingest, guided by coverage: whatever the bytes, Samples or an IngestError comes out.

    .venv/bin/python -m pip install atheris
    .venv/bin/python benchmarks/fuzz_ingest.py build/corpus tests/captures tests/mails \
        -max_total_time=600 -max_len=4096 -timeout=20

New inputs go to build/corpus (make the folder first), the captures are where it starts. A crash is
written to crash-*; its bytes belong into `tests/test_ingest_mutations.py`. The first byte of an
input chooses what is done: most often the format is told, sometimes it is forced; sometimes each
line's account is held to be whole, or the samples are folded.
"""

import io
import sys

import atheris

with atheris.instrument_imports(include=["analysis.ingest"]):
    from analysis import ingest
    from analysis.ingest import fold


def one(raw: bytes) -> None:
    """Read one input; anything but an IngestError ends the run."""
    choice = raw[0] if raw else 0
    names = (None,) * 20 + ingest.NAMES
    try:
        if choice % 8 == 7:
            fold.fold(io.BytesIO(raw), "fuzz")
        elif choice % 8 == 6:
            _explained(raw, names[choice // 8 % len(names)])
        else:
            ingest.read(io.BytesIO(raw), names[choice % len(names)])
    except ingest.IngestError as problem:
        if "; expected " not in str(problem):
            raise AssertionError(
                f"an error that does not say what was expected: {problem}"
            ) from None


def _explained(raw: bytes, form: str | None) -> None:
    heard = []
    try:
        ingest.read(io.BytesIO(raw), form, lambda *told: heard.append(told))
    finally:
        numbers = [number for number, _, _ in heard]
        assert numbers == sorted(set(numbers)), "a line was heard twice"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
