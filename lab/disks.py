# SPDX-License-Identifier: GPL-2.0-only
"""Disks of the guest: small ext4 images, made by mke2fs, whose files are sparse and never written.

A file of 10 GiB with no block of its own needs only its inode. No journal: no thread of it runs.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from lab.errors import LabError, MissingError

SIZE_BYTES = 64 << 20
BLOCK_BYTES = (4096, 8192, 16384, 32768, 65536)


def make(folder: Path, *, of_each_block_size: bool = False) -> list[Path]:
    """Make one image of 4 KiB blocks, or one of each size to 64 KiB, and return their paths.

    Raises:
        MissingError: mke2fs is not installed.
        LabError: mke2fs failed.
    """
    sizes = BLOCK_BYTES if of_each_block_size else BLOCK_BYTES[:1]
    return [_image(folder / f"ext4-{size}.img", size) for size in sizes]


def swap(folder: Path, size_bytes: int) -> Path:
    """Make a sparse swap area of at least this size and return its path.

    The header is that of include/linux/swap.h, union swap_header: version, last page, bad pages.
    """
    pages = size_bytes // 4096 + 256
    path = folder / "swap.img"
    with path.open("wb") as image:
        image.truncate(pages * 4096)
        image.seek(1024)
        image.write(struct.pack("<3I", 1, pages - 1, 0))
        image.seek(4096 - 10)
        image.write(b"SWAPSPACE2")
    return path


def _image(path: Path, block_bytes: int) -> Path:
    with path.open("wb") as image:
        image.truncate(SIZE_BYTES)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", str(block_bytes)]
    # fixed, so that each boot meets the same bytes
    command += ["-U", "00000000-0000-0000-0000-000000000001", "-E", "lazy_itable_init=0"]
    for program in ("mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"):
        try:
            ran = subprocess.run(
                [program, *command[1:], str(path)],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except FileNotFoundError:
            continue
        if ran.returncode:
            raise LabError(f"mke2fs, blocks of {block_bytes} bytes: {ran.stderr.strip()}")
        return path
    raise MissingError("mke2fs: no such program; install it: apt-get install e2fsprogs")
