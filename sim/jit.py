# SPDX-License-Identifier: GPL-2.0-only
"""How the walk is compiled: numba, kept on disk for the next start where a disk can be written.

numba trusts its cache as long as the file of the function is unchanged, and would run code of a
module that this file imports as it was before an edit. The cache is therefore a folder of its own
for each state of this package's sources.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numba

# Of a walk at order 0 over 10 GiB, in ms, when this was chosen: 1057 as numba would do it; 761 with
# every call inlined; 147 without reference counts on the arrays, which no function of the walk
# allocates or keeps; 72 with both. `benchmarks/simulate.py` measures today's.
# It touches no Python object, so that other threads may run meanwhile.
OPTIONS = {"_nrt": False, "forceinline": True, "error_model": "numpy", "nogil": True}


def jit_rare(function: Callable) -> Callable:
    """Compile `function` as `jit` does, but leave it to the compiler whether to inline it.

    For what most worlds never reach: inlined everywhere, it would be most of the compile time.
    """
    return _compiled(function, OPTIONS | {"forceinline": False})


def jit(function: Callable) -> Callable:
    """Compile `function` on its first call.

    The cache is a convenience: where no folder for it can be written (a read-only checkout without
    a home, say) the function is compiled anew in every session. Under NUMBA_DISABLE_JIT=1 the
    function stays plain Python.
    """
    return _compiled(function, OPTIONS)


def _compiled(function: Callable, options: dict) -> Callable:
    if CACHE is None:
        return numba.njit(**options)(function)
    others = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = others


def _bases() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    yield Path(__file__).parent / "__pycache__"
    if home := os.environ.get("HOME"):
        yield Path(os.environ.get("XDG_CACHE_HOME", f"{home}/.cache"))


def _cache() -> Path | None:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for base in _bases():
        folder = base / f"reclaim-sim-{digest.hexdigest()[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


CACHE = _cache()
