# SPDX-License-Identifier: GPL-2.0-only
"""What several files of tests share."""

import functools
import sys

import pytest

from analysis import measurements


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
