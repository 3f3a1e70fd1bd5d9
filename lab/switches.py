# SPDX-License-Identifier: GPL-2.0-only
"""Switches: lines of our own, put at named functions of a kernel tree, so that one image is many.

Each is a parameter of the module reclaim_lab, set in /sys/module/reclaim_lab/parameters/ between
two measurements. Nothing of the kernel's is kept here: a function is found by its name, a line in
it by a pattern, and a tree that lacks one is refused. Which function does what was read in Linux
7.2; the anchors are also those of earlier trees as far as they have the function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.errors import AnchorError

INCLUDE = "#include <linux/reclaim_lab.h>"


@dataclass(frozen=True)
class Insertion:
    """One line put into one function: at its start, or before the first line that `before` fits.

    Attributes:
        path: file in the kernel tree.
        function: name of the function, defined at the start of a line.
        text: the line put in, without indentation; or, of a condition, what it also asks for.
        before: pattern of a line of the function's body (re.search), or "" for its start.
        condition: whether that line is an `if`, and the text goes to the end of its condition.
    """

    path: str
    function: str
    text: str
    before: str = ""
    condition: bool = False


@dataclass(frozen=True)
class Switch:
    """One parameter of reclaim_lab.

    Attributes:
        name: of the parameter.
        declaration: its C type, and value until it is set.
        what: one clause for people: what it does.
        insertions: where it acts.
    """

    name: str
    ctype: str
    initial: str
    what: str
    insertions: tuple[Insertion, ...]


SWITCHES = {
    switch.name: switch
    for switch in (
        Switch(
            "no_reference_batch",
            "bool",
            "false",
            "check references one PTE at a time",
            # Asked last, so that folios of one page do not ask. What asking costs is a few
            # instructions a PTE: READ_ONCE here, as the kernels of data/emulated seem to have had.
            (
                Insertion(
                    "mm/rmap.c",
                    "folio_referenced_one",
                    " && !READ_ONCE(reclaim_lab_no_reference_batch)",
                    r"^\s*if \(pvmw\.pte && folio_test_large\(folio\)\) \{$",
                    condition=True,
                ),
            ),
        ),
        Switch(
            "no_unmap_batch",
            "bool",
            "false",
            "unmap one PTE at a time, folios of any kind",
            (
                Insertion(
                    "mm/rmap.c",
                    "folio_unmap_pte_batch",
                    "if (READ_ONCE(reclaim_lab_no_unmap_batch)) return 1;",
                    r"^\s*(if \(!?folio_test_anon|return folio_pte_batch\w*)\(",
                ),
            ),
        ),
        Switch(
            "folio_order",
            "int",
            "-1",
            "give a file that ext4 opens folios of one order only",
            (
                Insertion(
                    "fs/ext4/file.c",
                    "ext4_file_open",
                    "reclaim_lab_set_order(inode);",
                    r"^\tif \(",
                ),
            ),
        ),
        Switch(
            "no_stats_worker",
            "bool",
            "false",
            "let the two-second statistics worker, and its late flush, do nothing",
            (
                Insertion(
                    "mm/memcontrol.c",
                    "flush_memcg_stats_dwork",
                    "if (!reclaim_lab_no_stats_worker)",
                    r"^\s*\w*flush_stats\(.*\);$",
                ),
                Insertion(
                    "mm/memcontrol.c",
                    "mem_cgroup_flush_stats_ratelimited",
                    "if (reclaim_lab_no_stats_worker) return;",
                ),
            ),
        ),
    )
}


def edits(names: Iterable[str]) -> dict[str, Callable[[str], str]]:
    """Return, by path in the tree, the function that puts these switches into that file's text."""
    chosen = [SWITCHES[name] for name in names]
    places: dict[str, list[tuple[Switch, Insertion]]] = {}
    for switch in chosen:
        for insertion in switch.insertions:
            places.setdefault(insertion.path, []).append((switch, insertion))
    found = {path: _editor(path, listed) for path, listed in places.items()}
    if chosen:
        found["mm/Makefile"] = lambda text: f"{text.rstrip()}\nobj-y += reclaim_lab.o\n"
    return found


def new_files(names: Iterable[str]) -> dict[str, str]:
    """Return the files that these switches add to a tree, by path."""
    chosen = [SWITCHES[name] for name in names]
    if not chosen:
        return {}
    return {"include/linux/reclaim_lab.h": _header(chosen), "mm/reclaim_lab.c": _source(chosen)}


def told(names: Iterable[str]) -> str:
    """Return all that is put in by these switches, as text: what a cached image depends on."""
    return repr([SWITCHES[name] for name in names])


def insert(text: str, insertion: Insertion, needed_for: str) -> str:
    """Return a file's text with one line put into it.

    Raises:
        AnchorError: the function, or the line in it, is not there.
    """
    lines = text.split("\n")
    first, last = _body(lines, insertion, needed_for)
    at = first
    if insertion.before:
        fitting = [n for n in range(first, last) if re.search(insertion.before, lines[n])]
        if not fitting:
            raise AnchorError(
                f"{insertion.path}: {insertion.function}() has no line that fits "
                f"{insertion.before!r}, where the switch {needed_for} goes; "
                + _advice(needed_for)
            )
        at = fitting[0]
    if insertion.condition:
        head, bracket, tail = lines[at].rpartition(") {")
        lines[at] = head + insertion.text + bracket + tail
    else:
        lines.insert(at, _indentation(lines[at]) + insertion.text)
    return "\n".join(lines)


# That of the line it is put before: another one would tell the compiler of a mistake.
def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip("\t"))] or "\t"


def _editor(path: str, listed: list[tuple[Switch, Insertion]]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        for switch, insertion in listed:
            text = insert(text, insertion, switch.name)
        return _included(text, path)

    return edit


# After the first #include, which every file of the kernel has.
def _included(text: str, path: str) -> str:
    found = re.search(r"^#include .*$", text, re.MULTILINE)
    if not found:
        raise AnchorError(f"{path}: no #include; expected a C file of the kernel")
    return f"{text[: found.end()]}\n{INCLUDE}{text[found.end() :]}"


# First line after the opening brace, and the line of the closing one.
def _body(lines: list[str], insertion: Insertion, needed_for: str) -> tuple[int, int]:
    head = re.compile(rf"^[A-Za-z_].*\b{re.escape(insertion.function)}\(")
    alone = re.compile(rf"^{re.escape(insertion.function)}\(")
    for start, line in enumerate(lines):
        if not (head.search(line) or alone.search(line)):
            continue
        opened = _opening(lines, start)
        if opened is not None:
            closed = next((n for n in range(opened, len(lines)) if lines[n] == "}"), len(lines))
            return opened + 1, closed
    raise AnchorError(
        f"{insertion.path}: no function {insertion.function}(), where the switch {needed_for} "
        f"goes; " + _advice(needed_for)
    )


# The line of the brace that opens a definition; a declaration ends in a semicolon before it.
def _opening(lines: list[str], start: int) -> int | None:
    for n in range(start, min(start + 12, len(lines))):
        if lines[n] == "{":
            return n
        if lines[n].endswith(";"):
            return None
    return None


def _advice(name: str) -> str:
    advice = {
        "no_reference_batch": "this tree may not batch reference checks: ask for no kernel but "
        "'unmap', which is the tree as it is",
        "no_unmap_batch": "this tree may not batch unmapping: ask for no kernel but 'unmap', "
        "which is the tree as it is",
        "folio_order": "use --unmodified, which takes orders 0 to 4 from block sizes",
        "no_stats_worker": "use --stats-worker on, which leaves it alone",
    }
    return advice[name]


def _header(chosen: list[Switch]) -> str:
    lines = [f"extern {one.ctype} reclaim_lab_{one.name};" for one in chosen]
    order = any(one.name == "folio_order" for one in chosen)
    told = "struct inode;\nvoid reclaim_lab_set_order(struct inode *inode);\n" if order else ""
    return (
        "/* SPDX-License-Identifier: GPL-2.0-only */\n#ifndef _LINUX_RECLAIM_LAB_H\n"
        "#define _LINUX_RECLAIM_LAB_H\n#include <linux/types.h>\n"
        + "\n".join(lines)
        + f"\n{told}#endif\n"
    )


def _source(chosen: list[Switch]) -> str:
    parts = [
        "/* SPDX-License-Identifier: GPL-2.0-only */",
        "#include <linux/fs.h>",
        "#include <linux/moduleparam.h>",
        "#include <linux/pagemap.h>",
        INCLUDE,
    ]
    for one in chosen:
        name = f"reclaim_lab_{one.name}"
        parts.append(f"{one.ctype} {name} = {one.initial};")
        parts.append(f"module_param_named({one.name}, {name}, {one.ctype}, 0644);")
    if any(one.name == "folio_order" for one in chosen):
        # at open, before the file has a folio: no inode that is in use changes
        parts.append(
            "void reclaim_lab_set_order(struct inode *inode)\n{\n"
            "\tint order = reclaim_lab_folio_order;\n\n"
            "\tif (order >= 0 && S_ISREG(inode->i_mode) && !inode->i_mapping->nrpages)\n"
            "\t\tmapping_set_folio_order_range(inode->i_mapping, order, order);\n}"
        )
    return "\n".join(parts) + "\n"
