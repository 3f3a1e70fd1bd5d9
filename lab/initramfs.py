# SPDX-License-Identifier: GPL-2.0-only
"""The guest's initramfs: a "newc" cpio archive of our own program and what init needs to speak.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. The archive depends on
nothing but its content: times are zero, so that a guest boots from the same bytes each time.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping

MAGIC = b"070701"


def archive(init: bytes, files: Mapping[str, bytes] | None = None) -> bytes:
    """Return an archive of /init, /dev/console and further files by path, for kernels of others."""
    files = dict(files or {})
    entries = [
        _entry("dev", stat.S_IFDIR | 0o755),
        _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        _entry("init", stat.S_IFREG | 0o755, init),
        *(_entry(folder, stat.S_IFDIR | 0o755) for folder in _folders(files)),
        *(_entry(path, stat.S_IFREG | 0o644, content) for path, content in files.items()),
        _entry("TRAILER!!!", 0),
    ]
    return b"".join(entries)


def _folders(files: Mapping[str, bytes]) -> Iterator[str]:
    seen: set[str] = set()
    for path in files:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in seen:
                seen.add(folder)
                yield folder


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdev*, namesize, check
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = MAGIC + b"".join(b"%08x" % number for number in numbers) + path
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
