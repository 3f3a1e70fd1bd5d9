# SPDX-License-Identifier: GPL-2.0-only
"""What several files of tests share."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import cli, measurements


def forget():
    """Empty each cache of `analysis` and of the tests: any may hold what a file said."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("analysis.", "test_")):
            for value in vars(module).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


@pytest.fixture
def shipped(monkeypatch):
    """Return a function that changes one shipped file as it is read, and forgets what was."""
    loaded = measurements.load

    def change(name, edit):
        monkeypatch.setattr(
            measurements, "load", lambda n: edit(loaded(n)) if n == name else loaded(n)
        )
        forget()

    yield change
    forget()


@pytest.fixture
def run(capsys):
    """Return a function that runs one command line: status, stdout, stderr."""

    def command(*words):
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as ended:  # argparse's own way out
            status = ended.code
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def out(run):
    """Return a function that runs a command line that has to succeed: stdout."""

    def command(*words):
        status, stdout, stderr = run(*words)
        assert (status, stderr) == (0, "")
        return stdout

    return command


@pytest.fixture
def spawn():
    """Return a function that runs the installed command in a process of its own."""
    reclaim = Path(sys.executable).with_name("reclaim")

    def command(*words, **options):
        asked = [reclaim, *words]
        return subprocess.run(asked, capture_output=True, text=True, check=False, **options)

    return command
