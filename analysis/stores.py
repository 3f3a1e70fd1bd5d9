# SPDX-License-Identifier: GPL-2.0-only
"""Where a sweep keeps its points: a folder, or a place that papermill can write to, such as s3://.

In a folder each file is there whole or not at all, and one sweep at a time writes to it. Elsewhere
papermill's own reader and writer are used, which know text only.
"""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from analysis.batch import writable
from analysis.files import write_whole

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)


class StoreError(Exception):
    """A place that cannot be written to, or that another sweep writes to; says which and why."""


class Folder:
    """A folder on this machine, made if it was missing.

    Raises:
        BatchError: it cannot be written.
    """

    def __init__(self, out: str) -> None:
        self.root = writable(out)
        self.left_out: list[str] = []

    def __str__(self) -> str:
        return str(self.root)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other sweeps out of the folder; StoreError if there is one already."""
        # The lock goes with the process, however that ends; the file stays.
        with (self.root / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(
                    f"{self}: another sweep writes here; wait for it, or name another --out"
                ) from None
            yield

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if it is not there."""
        try:
            return (self.root / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> str:
        """Write a file and return its path; StoreError if that cannot be done."""
        try:
            return str(write_whole(self.root / name, content))
        except OSError as error:
            raise StoreError(f"{self.root / name}: {error.strerror}") from None

    def clear(self, name: str) -> None:
        """Remove what a run that was cut short has left below `name`; StoreError if it cannot."""
        try:
            shutil.rmtree(self.root / name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.root / name}: {error.strerror}; remove it by hand") from None


class Elsewhere:
    """A place named by a URL that papermill has a handler for.

    `left_out` names the files that are no text, which papermill's handlers cannot write.
    """

    def __init__(self, out: str) -> None:
        from papermill.iorw import papermill_io  # noqa: PLC0415 - a second

        self.root = out.rstrip("/")
        self._handler = papermill_io.get_handler(self.root)
        if self._handler is papermill_io.get_handler("a file"):
            raise StoreError(f"{out}: papermill does not know how to write there")
        self.left_out: list[str] = []

    def __str__(self) -> str:
        return self.root

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Write a first file, so that StoreError comes before a point is run, not after.

        Such places have no locks: who else writes there is not known.
        """
        self.write(".reclaim-sweep", b"reclaim sweep writes here\n")
        yield

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if it is not there or cannot be read."""
        # Each handler has its own exceptions for a file that is not there.
        try:
            content = self._handler.read(f"{self.root}/{name}")
        except Exception:
            return None
        return content.encode() if isinstance(content, str) else content

    def write(self, name: str, content: bytes) -> str:
        """Write a file and return its path, or why it is left out; StoreError if it cannot."""
        path = f"{self.root}/{name}"
        try:
            text = content.decode()
        except UnicodeDecodeError:
            self.left_out.append(name)
            return f"not written: {path}"
        try:
            self._handler.write(text, path)
        except Exception as error:
            raise StoreError(f"{path}: {type(error).__name__}: {error}") from None
        return path

    def clear(self, name: str) -> None:
        """Do nothing: what was cut short is overwritten."""


Store = Folder | Elsewhere


def at(out: str) -> Store:
    """Return the store that a folder, or a URL that papermill knows, names.

    Raises:
        BatchError, StoreError: it cannot be written to.
    """
    return Elsewhere(out) if _ELSEWHERE.match(out) else Folder(out)
