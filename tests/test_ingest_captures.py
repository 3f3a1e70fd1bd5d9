# SPDX-License-Identifier: GPL-2.0-only
"""Each real capture gives the frame that was checked by eye once, or is refused as it was.

Most were taken on one x86_64 virtual machine (2 vCPU AMD EPYC family 26, no hardware PMU, Linux
6.18.44, perf 6.1.187, bpftrace 0.17, hyperfine 1.15, zsh 5.9, pyperf 2.11); the workload maps a
file, touches it, and reclaims it with MADV_PAGEOUT. Some were cut by head; loc_* are of other
locales.
ftrace_*, tracecmd_* (trace-cmd 3.1.6), memcg_v2_* and vmstat_7_2 are of Debian's Linux 7.2.13 on an
emulated x86_64; ftrace_profiler_* are trace_stat/function0 after a write of 16 MiB to
memory.reclaim, of `reclaim lab`'s kernels on both architectures.
page_types_*, thpmaps_* and kpageflags* are of the tools of Linux 7.2 on 6.18.44, which reads a
copied file into folios of 64 KiB (page_types_columns: on 7.2.13); thpmaps_empty is of anonymous
memory. Of pyperf_* runs beyond the fourth and the machine's paths and names were taken out.

After a change that is meant: python tests/test_ingest_captures.py writes captures.golden anew; read
its diff.
"""

import hashlib
from pathlib import Path

import pytest

from analysis import ingest
from analysis.ingest import fold

CAPTURES = Path(__file__).parent / "captures"
GOLDEN = Path(__file__).parent / "captures.golden"
SHOWN = ("line", "metric", "unit", "value", "run", "order", "part", "symbol", "mark")
MOST = 60  # rows; of more, the first few and a digest of all


def captures():
    return sorted(CAPTURES.iterdir())


def golden(path):
    heard = []
    try:
        samples = ingest.read(path, None, lambda number, kind, _text: heard.append((number, kind)))
        rows = frame_lines(samples.frame)
        notes = [f"note: {note}" for note in samples.notes]
        setting = samples.frame[["machine", "arch", "kernel"]].drop_duplicates().dropna(how="all")
        notes += [f"setting: {','.join(map(str, row))}" for row in setting.itertuples(index=False)]
    except ingest.IngestError as problem:
        rows, notes = [], [f"refused: {str(problem).replace(str(path), path.name)}"]
    kinds = [kind for _, kind in heard]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]
    if len(rows) > MOST:
        rows = [*rows[:6], f"... {len(rows)} rows, sha256 {digest}"]
    return "\n".join([f"== {path.name}: {counts or 'unread'}", *rows, *notes]) + "\n"


def frame_lines(frame):
    lines = [source.rpartition(":")[2] for source in frame["source"]]
    shown = frame.assign(line=lines)[list(SHOWN)].astype(object)
    shown = shown.where(shown.notna(), "")
    return ["|".join(map(str, row)).rstrip("|") for row in shown.itertuples(index=False)]


def wanted():
    parts = GOLDEN.read_text().split("\n== ")
    texts = [parts[0].removeprefix("== "), *parts[1:]]
    return {text.partition(":")[0]: f"== {text.rstrip()}\n" for text in texts}


@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_a_capture_gives_its_golden_frame(path):
    assert golden(path) == wanted()[path.name]


def test_every_golden_frame_has_its_capture():
    assert set(wanted()) == {path.name for path in captures()}


@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_every_line_is_accounted_for_once(path):
    heard = []
    try:
        ingest.read(path, None, lambda number, kind, _text: heard.append((number, kind)))
    except ingest.IngestError:
        if not heard:
            return  # of no format at all
    numbers = [number for number, _ in heard]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {kind for _, kind in heard} <= {"data", "header", "comment", "error"}
    if path.suffix != ".xz":
        assert len(numbers) == len(path.read_text().splitlines())


def test_three_tools_agree_on_the_same_profile():
    told = ingest.read(CAPTURES / "convert.json.xz").frame
    leaves = told.groupby("symbol")["value"].sum()
    report = ingest.read(CAPTURES / "report_stdio_csv.txt").frame
    counted = report[report["metric"] == "cpu-clock samples"].groupby("symbol")["value"].sum()
    assert len(counted) > 50
    assert (leaves[counted.index] >= counted).all()  # the report splits one by its thread
    assert leaves["main"] == counted["main"] == 171
    folded = ingest.read(CAPTURES / "folded.txt").frame
    assert (folded["value"].sum() / 200040).round() == leaves.sum()


def test_a_folded_capture_has_the_stacks_of_stackcollapse(tmp_path):
    text = (CAPTURES / "script_F_full.txt").read_text()
    whole = text[: text.rindex("\n\n") + 2]
    path = tmp_path / "script.txt"
    path.write_text(whole)
    with path.open("rb") as stream:
        stacks = fold.fold(stream, "script.txt")["cpu-clock"]
    frame = ingest.read(path).frame
    periods = frame[frame["metric"] == "cpu-clock"]
    assert stacks == dict(zip(periods["part"], periods["value"], strict=True))


if __name__ == "__main__":
    GOLDEN.write_text("".join(golden(path) for path in captures()))
