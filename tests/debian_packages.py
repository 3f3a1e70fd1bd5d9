# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages that a test needs and pip cannot bring: installed where that is possible."""

import os
import shutil
import subprocess

import pytest


def need(*packages):
    """Install packages where root and apt are there to do it; skip the test elsewhere.

    It is skipped too where apt reaches no mirror, with what apt said.
    """
    if not packages:
        return
    named = " ".join(packages)
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip(f"needs {named}, and root and apt to install it")
    if _install(packages).returncode:
        _apt("update")
        ran = _install(packages)
        if ran.returncode:
            pytest.skip(f"apt could not install {named}: {ran.stderr[-200:]}")


def _install(packages):
    return _apt("install", "--no-install-recommends", *packages)


def _apt(*words):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        ["apt-get", "-q", "-y", *words], env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
