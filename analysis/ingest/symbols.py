# SPDX-License-Identifier: GPL-2.0-only
"""One name for one function, whichever compiler and tool named it."""

from __future__ import annotations

import re
from functools import lru_cache

# What gcc and clang append to copies of a function; numbers differ from build to build.
_COPY = re.compile(
    r"(?:\.(?:isra|constprop|part|cold|lto_priv|llvm|localalias|warm|hot)(?:\.[0-9]+)*|\.[0-9]+)+$"
)
_SPACE = re.compile(r"^\[[k.gGuH]\] ")  # perf report: kernel, user, guest, hypervisor
_NOTE = re.compile(r"_\[[kwij]\]$")  # stackcollapse: kernel, woken, inlined, JIT
_OFFSET = re.compile(r"\+0x[0-9a-f]+$")


@lru_cache(maxsize=1 << 16)
def normal(raw: str) -> str:
    """Return a symbol without its address space mark, offset and compiler's suffixes.

    "[k] drop_buffers.constprop.0" and "drop_buffers_[k]" are drop_buffers. What is left is never
    empty: a name that is all suffix stays as it is.
    """
    name = _OFFSET.sub("", _NOTE.sub("", _SPACE.sub("", raw.strip())))
    return _COPY.sub("", name) or name or raw
