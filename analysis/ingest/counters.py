# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own numbers: /proc/vmstat, memory.stat (cgroup v1 and v2), /proc/meminfo.

A gauge is what there is, a counter what there was so far: only of counters a difference means
something. Which is which the files do not say; the tables here are from mm/vmstat.c (the items of
`enum zone_stat_item` and `node_stat_item` are gauges but for those named) and mm/memcontrol.c,
mm/memcontrol-v1.c of Linux 6.18. The sizes of memory.stat are bytes, those of vmstat pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from analysis.ingest.book import Book, shown
from analysis.ingest.capture import IngestError
from analysis.ingest.source import TextLine
from analysis.samples import Samples

ADVICE = "Capture it with: cat /proc/vmstat > BEFORE, or cat memory.stat > BEFORE."
EXPECTED = "a name and a whole number"
_ROW = re.compile(r"(?P<key>[a-z][a-z0-9_]*) (?P<value>[0-9]{1,20})")
_MEMINFO = re.compile(r"(?P<key>[A-Z][A-Za-z0-9_()]*): +(?P<value>[0-9]{1,20})(?P<unit> kB)?")
# vmstat items named nr_* that only ever grow, and gauges that are not named so
_GROWING = re.compile(
    r"nr_(?:vmscan_write|vmscan_immediate_reclaim|dirtied|written|throttled_written"
    r"|foll_pin_acquired|foll_pin_released)"
)
# gauges of other things than pages: huge pages, nodes of the page cache's trees
_NO_PAGES = re.compile(r"nr_(?:anon_transparent_|shmem_|file_)hugepages|nr_\w+_pmdmapped|\w+_nodes")
_GAUGES = re.compile(r"nr_.*|workingset_nodes")
_MEMCG_GROWING = re.compile(
    r"(?:total_)?(?:pg[a-z_]+|workingset_(?!nodes)[a-z_]+|thp_[a-z_]+|zswp(?:in|out|wb)|swp(?:in|out)_zero"
    r"|swpin|swpout|pswpin|pswpout|numa_[a-z_]+)"
)
_VMSTAT_SIGNS = ("nr_free_pages", "pgpgin", "nr_zone_inactive_anon")
_MEMCG_SIGNS = ("cache", "anon", "file", "rss")


def recognised(text: str) -> bool:
    """Tell whether a line is one that these files start with."""
    row = _ROW.fullmatch(text)
    if row:
        return row["key"] in _VMSTAT_SIGNS or row["key"] in _MEMCG_SIGNS
    return text.startswith("MemTotal: ") and bool(_MEMINFO.fullmatch(text))


def parse(lines: Iterator[TextLine], book: Book) -> None:
    """Read one snapshot, or several that follow each other, into the book; run is its place."""
    seen: set[str] = set()
    run, memcg = 0, False
    for line in lines:
        match = _ROW.fullmatch(line.text) or _MEMINFO.fullmatch(line.text)
        if book.settled(line):
            continue
        if match is None or int(match["value"]) >= 1 << 64:
            book.error(line, shown(line.text), EXPECTED)
        else:
            book.measured(line)
            key = match["key"]
            memcg = memcg or (not seen and key in _MEMCG_SIGNS)
            run += key in seen
            seen = {key} if key in seen else seen | {key}
            _row(line, match, book, run, memcg)


def _row(line: TextLine, match: re.Match, book: Book, run: int, memcg: bool) -> None:
    key, value = match["key"], int(match["value"])
    if match.re is _MEMINFO:
        counter, unit, factor = False, "bytes" if match["unit"] else "pages", 1
        factor = 1024 if match["unit"] else 1
    elif memcg:
        counter, factor = bool(_MEMCG_GROWING.fullmatch(key)), 1
        unit = "count" if counter else "bytes"
    else:
        counter = bool(_GROWING.fullmatch(key)) or not _GAUGES.fullmatch(key)
        unit, factor = "count" if counter or _NO_PAGES.fullmatch(key) else "pages", 1
        if key == "nr_kernel_stack":  # KiB, the only one
            unit, factor = "bytes", 1024
    if key.startswith("hierarchical_") and value >= (1 << 63) - (1 << 16):
        book.unmeasured(line.number, key, "no limit")
        return
    kind = "counter" if counter else "gauge"
    if value > 1 << 53:
        book.unmeasured(line.number, key, f"{value}, more digits than a float has")
        return
    book.row(line.number, key, unit, float(value * factor), run=run, part=f"kind={kind}")


def difference(before: Samples, after: Samples) -> Samples:
    """Return what happened between two snapshots: counters as differences, gauges as they were.

    A row of a counter is its growth (part "kind=counter"), two rows of a gauge are its values,
    kernel missing, run 0 before and 1 after. Raises IngestError where a counter fell (snapshots
    swapped, a reboot between them); a counter that one side lacks is noted and left out.
    """
    first, second = (_snapshot(samples) for samples in (before, after))
    notes = [*before.notes, *after.notes]
    if missing := sorted(set(first.index) ^ set(second.index)):
        notes.append(f"only in one snapshot, left out: {', '.join(missing)}")
    rows = []
    for name in first.index.intersection(second.index):
        old, new = first.loc[name], second.loc[name]
        if old["part"] == "kind=counter":
            rows.append(_growth(name, old, new))
        else:
            rows += [_known(old) | {"run": 0}, _known(new) | {"run": 1}]
    return Samples.from_rows(rows, notes)


def _growth(name: str, old: pd.Series, new: pd.Series) -> dict:
    if new["value"] < old["value"]:
        found = f"{name} fell from {old['value']:.0f} to {new['value']:.0f}"
        advice = f"It was {old['source']} before. Give the earlier snapshot first."
        raise IngestError(new["source"], found, "a counter that only grows", advice)
    return _known(new) | {"value": new["value"] - old["value"], "run": 0}


def _snapshot(samples: Samples) -> pd.DataFrame:
    frame = samples.frame
    counted = frame["part"].isin(("kind=counter", "kind=gauge"))
    if not counted.all() or frame["run"].nunique() != 1:
        source = frame["source"].iloc[0] if len(frame) else "nothing"
        advice = "Give two files: reclaim ingest --pair BEFORE AFTER."
        raise IngestError(source, "no single snapshot of counters", "vmstat or memory.stat", advice)
    return frame.set_index("metric", drop=False)


def _known(row: pd.Series) -> dict:
    return {name: value for name, value in row.items() if not pd.isna(value)}
