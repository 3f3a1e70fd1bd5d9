# SPDX-License-Identifier: GPL-2.0-only
"""Lines that git commit, git am and the kernel's checkpatch.pl take as they are."""

import re
import textwrap
from collections.abc import Iterable

WIDTH = 75  # columns, as Documentation/process/submitting-patches.rst asks for
NAME_CHARS = 40  # a longer name is cut
# What git takes for a comment, a patch or a header at the start of a line.
EATEN = ("#", "---", "diff -", "Index: ", "From ", ">From ", "From:", "Subject:", "Date:", "-- ")
TIE = "\0"  # a blank at which no line may end


def filled(text: str) -> str:
    """Return text wrapped into lines; a number and its unit stay together, words stay whole.

    A line that would be eaten starts with a blank, for which one column is kept.
    """
    tied = re.sub(r"(\d) (KiB|MiB|GiB|s|ns)\b", rf"\1{TIE}\2", text)
    wrapped = textwrap.fill(tied, WIDTH - 1, break_long_words=False, break_on_hyphens=False)
    lines = wrapped.replace(TIE, " ").split("\n")
    return "\n".join(f" {line}" if line.startswith(EATEN) else line for line in lines)


def name(text: str) -> str:
    """Return a name that came from a file: ASCII on one line, cut where it is long."""
    told = " ".join(text.split()).encode("unicode_escape").decode("ascii")
    return told if len(told) <= NAME_CHARS else told[: NAME_CHARS - 3] + "..."


def quoted(text: str) -> str:
    """Return such a name in quotation marks, for `filled`, which starts no line within it."""
    return f'"{name(text)}"'.replace(" ", TIE)


def command(first: str, options: Iterable[str]) -> str:
    """Return a shell command, indented, options on further lines where they must be."""
    lines = [f"    {first}"]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(" " * 7)
        lines[-1] += f" {option}"
    return "\n".join(lines)
