# SPDX-License-Identifier: GPL-2.0-only
"""Perf: captures of one call in this process, with nothing of its preparation in them.

perf is attached before, counts nothing yet, and is told over a pipe when the call begins and ends
(--control, since perf of Linux 5.10).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from lab import cache
from lab.errors import LabError, MissingError

ANSWER_S = 10.0
# What `reclaim ingest` reads: rows with a separator that no locale uses, and stacks.
WORDS = {"stat": ("stat", "-x", ";"), "record": ("record", "-q", "-g")}


def capture(kind: str, call: Callable[[], None], path: Path) -> None:
    """Make one call under `perf stat` or `perf record`; write what that says to `path`.

    `path` has the rows of `perf stat -x`, or the text of `perf script`.

    Args:
        kind: a key of WORDS.

    Raises:
        MissingError: no perf here.
        LabError: perf did not do it; the call may not have been made.
    """
    if not shutil.which("perf"):
        raise MissingError("perf: no such program; install it: apt-get install linux-perf")
    raw = path.with_name(f".{path.name}.{os.getpid()}.perf")
    try:
        _attached(WORDS[kind], call, raw)
        text = raw.read_bytes() if kind == "stat" else _script(raw)
    except OSError as error:
        raise LabError(f"perf {kind}: {error}") from None
    finally:
        raw.unlink(missing_ok=True)
        raw.with_name(raw.name + ".old").unlink(missing_ok=True)
    cache.write_whole(path, text)


def _attached(words: tuple[str, ...], call: Callable[[], None], raw: Path) -> None:
    heard, control = os.pipe()
    ack, answered = os.pipe()
    try:
        process = subprocess.Popen(
            ["perf", *words, "-o", str(raw), "-D", "-1", "--control", f"fd:{heard},{answered}",
             "-p", str(os.getpid())],
            pass_fds=(heard, answered), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        try:
            _tell(process, control, ack, b"enable\n")
            call()
            _tell(process, control, ack, b"disable\n")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=ANSWER_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
    finally:
        for end in (heard, control, ack, answered):
            os.close(end)


def _tell(process: subprocess.Popen, control: int, ack: int, word: bytes) -> None:
    os.write(control, word)
    # Its output ends before it answers if it may not attach, or knows no --control.
    ready, _, _ = select.select([ack, process.stdout], [], [], ANSWER_S)
    if ack in ready or (process.poll() is None and select.select([ack], [], [], ANSWER_S)[0]):
        os.read(ack, 16)
        return
    process.kill()
    said = (process.communicate()[0] or b"").decode(errors="replace").strip().splitlines()
    raise LabError(f"perf did not answer: {' '.join(said[-2:]) or 'it said nothing'}")


def _script(raw: Path) -> bytes:
    ran = subprocess.run(
        ["perf", "script", "-i", str(raw)], capture_output=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise LabError(f"perf script: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout
