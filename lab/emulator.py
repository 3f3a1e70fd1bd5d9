# SPDX-License-Identifier: GPL-2.0-only
"""Emulator: one QEMU process, from its start to its end, in a time that is bounded.

Whatever happens, a panic, a hang, Ctrl-C, nothing of it is left: the process is killed and waited
for, and its files lie in a folder that is removed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from lab.console import Console
from lab.errors import GuestError, MissingError

BOOT_S = 180.0  # to init's first line; kernels of distributions need most
SILENCE_S = 900.0  # between two lines, a cell of 10 GiB in folios of one page takes minutes
EXIT_S = 2.0  # from the end of its output to its own
STOPPED_S = 0.2  # until a guest that is to stop is seen to
KVM_BOOT_S = 20.0  # a /dev/kvm that boots guests does so in a second or two


@dataclass(frozen=True)
class Limits:
    """Seconds of this machine's time: to init's first line, and between any two lines later."""

    boot_s: float = BOOT_S
    silence_s: float = SILENCE_S


DEFAULT = Limits()


def run(
    command: Sequence[str],
    *,
    limits: Limits = DEFAULT,
    log: IO[str] | None = None,
    heard: Callable[[Console], None] = lambda _: None,
    package: str = "",
    stop: threading.Event | None = None,
) -> Console:
    """Run an emulator to its end and return what its guest said.

    Args:
        command: the emulator's command line.
        log: gets each line as it comes.
        heard: called after each line, for a progress bar.
        package: what to install if the program is missing.
        stop: ends the guest when it is set, from another thread; an interrupt reaches only one.

    Raises:
        GuestError: the guest panicked, hung, ran out of memory or ended before it was done; the
            text has the last lines it said.
        MissingError: the emulator is not installed.
    """
    console = Console()
    process = _start(command, package)
    try:
        over = _listen(process, console, limits, log, heard, stop or threading.Event())
        status = process.wait(timeout=EXIT_S) if not over else None
    except subprocess.TimeoutExpired:
        status = None  # it closed its output and lives on: killed below
    finally:
        _kill(process)
    _judge(console, over, status, limits)
    return console


def _start(command: Sequence[str], package: str) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it starts ends with it
        )
    except FileNotFoundError:
        advice = f"; install it: apt-get install {package}" if package else ""
        raise MissingError(f"{command[0]}: no such program{advice}") from None
    except PermissionError:
        raise MissingError(f"{command[0]}: is not a program that may be run") from None


# Reads to the end of output; returns what ran out ("" if nothing did).
def _listen(process, console: Console, limits: Limits, log, heard, stop) -> str:
    rest = b""
    end = time.monotonic() + limits.boot_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = end - time.monotonic()
            if left <= 0 or stop.is_set():
                return "hang"
            if not selector.select(min(left, STOPPED_S)):
                continue
            some = os.read(process.stdout.fileno(), 65536)
            *lines, rest = (rest + some).split(b"\n")
            if not some and rest:
                lines, rest = [rest], b""
            for line in lines:
                _hear(line.decode("utf-8", "replace"), console, log, heard)
            if console.started:
                end = time.monotonic() + limits.silence_s
            if not some:
                return ""


def _hear(line: str, console: Console, log, heard) -> None:
    if log:
        log.write(line.rstrip("\r") + "\n")
    console.read(line)
    heard(console)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()


def _judge(console: Console, over: str, status: int | None, limits: Limits) -> None:
    if console.ended and not console.failure:
        return
    where = f" in cell {console.cell}" if console.cell else ""
    if console.failure:
        what = f"the guest failed{where}: {console.failure}"
    elif over and not console.started:
        what = f"the guest did not reach its init within {limits.boot_s:g} s"
    elif over:
        what = f"the guest said nothing for {limits.silence_s:g} s{where}"
    elif not console.started:
        what = f"the emulator ended (status {status}) before the guest reached its init"
    else:
        what = f"the guest ended{where} before all cells were measured"
    raise GuestError(f"{what}; {_advice(console, over)}. Its last lines:\n{console.last_lines()}")


def _advice(console: Console, over: str) -> str:
    text = console.failure.lower()
    if "out of memory" in text or "oom" in text or "cannot allocate" in text:
        return "it needs more memory: say --memory, or less --map and --mapped-by"
    if over:
        return "give it longer with --patience, or fewer cells"
    if not console.started:
        return "a kernel of your own needs the options of lab/config/"
    return "the whole console is in the log beside the tables"
