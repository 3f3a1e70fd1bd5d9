# SPDX-License-Identifier: GPL-2.0-only
"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name beside it, to the disk, then rename; return its path.

    Missing folders are made. OSError if that cannot be done; then the old file is untouched, and
    no temporary file stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a name that outlives a crash of the machine has its content
        os.replace(temporary, path)  # noqa: PTH105 - the name that says it is atomic
    finally:
        temporary.unlink(missing_ok=True)
    return path
