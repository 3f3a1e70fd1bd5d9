# SPDX-License-Identifier: GPL-2.0-only
"""What a build leaves behind when it is interrupted: nothing that still runs."""

import subprocess
import time

import pytest

from lab import build, cache

MAKEFILE = "slow:\n\t@echo begun\n\t@sleep 60; touch $(MARK)\n"


def lines_of_running(word):
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if word in line]


def test_an_interrupted_build_ends_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "compiler", lambda _: "gcc")
    mark = tmp_path / "mark"
    (cache.folder("source") / "Makefile").write_text(MAKEFILE)

    def interrupt(line):
        if line == "begun\n":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build._make("x86_64", ["slow"], interrupt, MARK=str(mark))
    end = time.monotonic() + 20
    while lines_of_running(str(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not lines_of_running(str(mark))
    assert not mark.exists()
