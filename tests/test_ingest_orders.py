# SPDX-License-Identifier: GPL-2.0-only
"""The folio orders of a run: measured by pages, by bytes or by tracepoints, or refused."""

import lzma

import pytest
from test_ingest_captures import CAPTURES

from analysis.ingest import IngestError, orders, read, read_text


def test_the_order_of_a_run_is_what_its_tracepoints_say():
    timed = read(CAPTURES / "time_bash_default.txt")
    told = read(CAPTURES / "script_tracepoints.txt")
    joined = orders.join(timed, told)
    assert set(joined.frame["order"]) == {8}
    assert any("order 8: 100.0%" in note for note in joined.notes)


def test_mixed_orders_are_no_order():
    timed = read(CAPTURES / "time_bash_default.txt")
    joined = orders.join(timed, read(CAPTURES / "tp_folio_orders.txt"))
    assert joined.frame["order"].isna().all()
    assert any("order 9: 25.0%" in note and "mixed" in note for note in joined.notes)


def test_a_label_that_the_tracepoints_deny_is_refused():
    timed = read(CAPTURES / "time_bash_default.txt")
    claimed = type(timed)(timed.frame.assign(order=4).astype(timed.frame.dtypes))
    with pytest.raises(IngestError, match="order 4, where the folios were of order 8"):
        orders.join(claimed, read(CAPTURES / "script_tracepoints.txt"))


def folios(path_or_text, part="kind=file"):
    """Return folios by order; pages of folios in part are under -1."""
    one = read(path_or_text) if hasattr(path_or_text, "open") else read_text(path_or_text)
    frame = one.frame[one.frame["part"] == part]
    return dict(zip(frame["order"].fillna(-1).astype(int), frame["value"], strict=True))


HEAD = "voffset\toffset\tlen\tflags\n"
NONE = "_" * 43


def row(place, pfn, pages, flags, columns=4):
    """Return a row of page-types --raw --list; flags: letters, each at its own place."""
    text = list(NONE)
    for letter in flags:
        text["LERUDlASWIBMasbHTGuXnxtozig".index(letter)] = letter
    cells = [f"{place:x}", f"{pfn:x}", f"{pages:x}", "".join(text)]
    return "\t".join(cells[4 - columns :]) + "\n"


def test_heads_and_tails_are_folios():
    text = HEAD + row(0x100, 0x40, 1, "UlMHt") + row(0x101, 0x41, 15, "UlMTt")
    text += row(0x110, 0x90, 3, "UlM") + row(0x113, 0x10, 1, "UlMHt") + row(0x114, 0x11, 1, "UlMTt")
    text += row(0x115, 0x20, 1, "UlMabHt") + row(0x116, 0x21, 3, "UlMabTt") + row(0x119, 9, 1, "Mg")
    assert folios(text) == {4: 1.0, 0: 3.0, 1: 1.0}
    assert folios(text, "kind=anon") == {2: 1.0}
    assert read_text(text).notes[0].startswith("1 pages of no user memory")


@pytest.mark.parametrize(
    ("pfn", "pages", "found"),
    [
        (0x40, 8, {-1: 8.0}),  # aligned to 16 pages: it may be half of a larger folio
        (0x48, 8, {3: 1.0}),  # not aligned to 16 pages
        (0x48, 7, {-1: 7.0}),
    ],
)
def test_a_folio_whose_end_is_not_listed_is_of_no_order_unless_its_place_tells(pfn, pages, found):
    text = row(0x100, pfn, 1, "UlMHt") + row(0x101, pfn + 1, pages - 1, "UlMTt")
    assert folios(HEAD + text) == found
    behind = row(0x200, 0x900, 1, "UlM")  # listed next, but not the next page of the process
    assert folios(HEAD + text + behind) == found | {0: 1.0}


def test_tails_without_their_head_are_in_part():
    text = HEAD + row(0x100, 0x41, 15, "UlMTt") + row(0x10F, 0x90, 1, "UlM")
    assert folios(text) == {-1: 15.0, 0: 1.0}
    share = orders.shares(read_text(text))
    assert dict(share) == {0: 1 / 16}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\tf\t", "\te\t"),  # a total that the rows do not have
        ("H______t", "_______t"),  # a THP without a head: not --raw
        ("\t1\t", "\t2\t"),
        ("___U", "__xU"),
        ("7fc158000\t", ""),
        ("7fc158000", "7fc15800g"),
    ],
)
def test_a_damaged_listing_is_refused(old, new):
    text = (CAPTURES / "page_types_pid.txt").read_text()
    assert old in text
    with pytest.raises(IngestError, match=r":[0-9]+: found"):
        read_text(text.replace(old, new, 1))
    lines = text.splitlines(keepends=True)
    with pytest.raises(IngestError, match="a total of 512 pages below rows of 497"):
        read_text("".join(lines[:4] + lines[5:]))


def test_raw_words_and_page_types_tell_the_same_folios():
    raw, listed = (CAPTURES / f"{name}.xz" for name in ("kpageflags.bin", "page_types_pfn.txt"))
    assert folios(raw) == folios(listed)
    assert folios(raw)[4] == 4.0
    assert folios(raw, "kind=anon") == folios(listed, "kind=anon")


def test_words_are_told_from_text_and_a_cut_one_is_refused(tmp_path):
    path = tmp_path / "flags"
    content = lzma.decompress((CAPTURES / "kpageflags.bin.xz").read_bytes())
    path.write_bytes(content[:-3])
    with pytest.raises(IngestError, match=r":1024: found 5 bytes behind the last word"):
        read(path)
    path.write_bytes(content[:80] + b"\xff" * 8 + content[88:])
    with pytest.raises(IngestError, match=":1: found a NUL byte"):
        read(path)


def test_the_order_of_a_run_is_what_its_pages_say():
    timed = read(CAPTURES / "time_bash_default.txt")
    joined = orders.join(timed, read(CAPTURES / "page_types_file.txt.xz"))
    assert set(joined.frame["order"]) == {4}
    part = orders.join(timed, read(CAPTURES / "page_types_anon.txt"))
    assert part.frame["order"].isna().all()
    assert any("order 9: 50.0%, not known: 50.0%" in note for note in part.notes)


def test_thpmaps_tells_bytes_by_size_and_blocks_tell_no_order():
    frame = read(CAPTURES / "thpmaps_smaps.txt").frame
    known = frame[frame["order"].notna()]
    assert list(known["metric"]) == ["folio bytes"]
    assert list(known["value"]) == [2560 * 1024.0]
    assert "contiguous bytes in blocks of 64 kB" in set(frame["metric"])


def test_thpmaps_is_all_of_a_run_only_with_its_rss():
    share = orders.shares(read(CAPTURES / "thpmaps_smaps.txt"))
    assert dict(share) == {4: 2560 / 2752}
    with pytest.raises(IngestError, match=r"leaves out folios below 16 kB.*--inc-smaps"):
        orders.shares(read(CAPTURES / "thpmaps_rollup.txt"))
    with pytest.raises(IngestError, match="no folio order"):
        orders.shares(read(CAPTURES / "stat_csv.txt"))


def test_thpmaps_of_each_mapping_says_which():
    frame = read(CAPTURES / "thpmaps_vmas_smaps.txt").frame
    mapped = frame[frame["part"].str.contains("vma=00007fc158000000-", na=False)]
    assert list(mapped[mapped["metric"] == "folio bytes"]["order"]) == [4]
    whole = read(CAPTURES / "thpmaps_smaps.txt").frame
    for metric in ("Rss", "folio bytes", "folio bytes in part"):
        assert (
            frame[frame["metric"] == metric]["value"].sum()
            == whole[whole["metric"] == metric]["value"].sum()
        )


def test_thpmaps_of_larger_pages_is_refused():
    with pytest.raises(IngestError, match=r":1: .*expected pages of 4 KiB"):
        read_text("anon-thp-pmd-aligned-524288kB:    524288 kB (100%)\nRss: 524288 kB\n")
