# SPDX-License-Identifier: GPL-2.0-only
import base64
import io
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.ingest import IngestError, read, read_text

MAILS = Path(__file__).parent / "mails"
KEYS = ("real", "user", "sys")


def block(label, *values, gap="\t"):
    rows = [f"{KEYS[place % 3]}{gap}{value}" for place, value in enumerate(values)]
    return "\n".join([label, *rows]) + "\n"


BEFORE = block("W/o patch:", "0m1.018s", "0m0.000s", "0m1.018s")
AFTER = block("W/ patch:", "0m0.249s", "0m0.000s", "0m0.249s")
ROWS = block("", "0m1s 0m2s", "0m0s 0m0s", "0m1s 0m2s").lstrip()
COLUMNS = f"W/o patch:  W/ patch:\n{ROWS}"
PAIR = f"{BEFORE}\n{AFTER}"
EXPECTED = {
    "before": [("real", 1.018), ("user", 0.0), ("sys", 1.018)],
    "after": [("real", 0.249), ("user", 0.0), ("sys", 0.249)],
}


def told(samples):
    sides = {}
    for row in samples.frame.itertuples():
        sides.setdefault(row.kernel, []).append((row.metric, row.value))
    return sides


def quoted(text, mark):
    return "".join(f"{mark}{line}\n" for line in text.splitlines())


# Whole captures.


def test_a_thread_that_quotes_its_pair_again_and_again_has_one_pair():
    samples = read(MAILS / "thread.txt")
    assert told(samples) == EXPECTED
    frame = samples.frame
    assert set(frame["arch"]) == {"arm64"}
    assert set(frame["machine"]) == {"Arm64 32-core server"}
    assert set(frame["workload"]) == {
        "Allocate 10G of clean file folios with mmap() in a memory cgroup, then reclaim 8G of "
        "them through memory.reclaim."
    }
    assert frame["order"].isna().all()
    assert list(frame["source"].str.rpartition(":")[2]) == ["11", "12", "13", "16", "17", "18"]
    assert "the same pair is quoted 2 more times (lines 31, 43): counted once" in samples.notes
    assert "line 57: one side of a pair quoted again, not counted" in samples.notes


def test_two_machines_in_two_columns_with_three_runs():
    frame = read(MAILS / "two_columns.txt").frame
    x86 = frame[(frame["arch"] == "x86_64") & (frame["metric"] == "sys")]
    assert set(x86["machine"]) == {"Intel Xeon 8380 machine"}
    assert list(x86["run"]) == [0, 1, 2, 0, 1, 2]
    assert list(x86["value"]) == [3661.5, 3661.6, 3661.7, 58.0, 58.001, 58.002]
    arm = frame[(frame["arch"] == "arm64") & (frame["metric"] == "real")]
    assert list(arm["value"]) == [1.518, 1.018]
    assert list(frame[frame["value"] == 62.347]["source"].str[-3:]) == [":21"]


def test_a_mailbox_in_quoted_printable_and_base64():
    samples = read(MAILS / "mailbox.mbox")
    assert told(samples) == {
        "before": [("real", 2.0), ("user", 0.0), ("sys", 1.9)],
        "after": [("real", 1.0), ("user", 0.0), ("sys", 0.9)],
    }
    assert set(samples.frame["arch"]) == {"arm64"}
    # the lines of the file, across the soft breaks
    lines = (MAILS / "mailbox.mbox").read_text().splitlines()
    shown = [lines[int(at.rpartition(":")[2]) - 1] for at in samples.frame["source"]]
    assert [line.partition("=")[0] for line in shown] == [*KEYS, *KEYS]
    assert any("1 more time (line 31)" in note for note in samples.notes)
    assert "9.0" not in samples.to_text()  # the HTML copy of a mail that has plain text


def test_a_saved_page_keeps_its_line_numbers():
    samples = read(MAILS / "page.html")
    assert set(samples.frame["arch"]) == {"x86_64"}
    assert set(samples.frame["workload"]) == {"Reclaim 2G & time it on my x86 machine."}
    lines = (MAILS / "page.html").read_text().splitlines()
    shown = [lines[int(at.rpartition(":")[2]) - 1] for at in samples.frame["source"]]
    assert [re.search("real|user|sys", line).group() for line in shown] == [*KEYS, *KEYS]


def test_scripts_in_a_page_are_not_text():
    with pytest.raises(IngestError, match="no measurement"):
        read_text(f"<html><body><script>\n{PAIR}</script></body></html>")


def test_an_html_mail_in_quoted_printable():
    page = "<html><body><pre>" + PAIR.replace("\t", "=09") + "</pre></body></html>\n"
    head = "From: a@b.c\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
    samples = read_text(head + page)
    assert told(samples) == EXPECTED
    assert samples.frame["source"].iloc[0] == "<pasted>:6"


# Dialects.


@pytest.mark.parametrize("mark", ["", "> ", ">", ">>> ", "> > > ", "> >> ", "  > "])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_quotes_line_ends_and_byte_order_marks(tmp_path, mark, ending, start):
    path = tmp_path / "mail.txt"
    path.write_bytes((start + quoted(PAIR, mark).replace("\n", ending)).encode())
    samples = read(path)
    assert told(samples) == EXPECTED
    assert samples.frame["source"].iloc[0] == f"{path}:2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("W/o patch:", "W/ patch:"),
        ("w/o PATCH", "w/ PATCH"),
        ("W/o patchset:", "W/ patchset:"),
        ("Without patch:", "With patch:"),
        ("Without the patch", "With the patch"),
        ("without this series:", "with this series:"),
        ("before:", "after:"),
        ("BEFORE", "AFTER"),
        ("Before the patch :", "After the patch :"),
    ],
)
def test_labels(before, after):
    stacked = PAIR.replace("W/o patch:", before).replace("W/ patch:", after)
    assert told(read_text(stacked)) == EXPECTED
    columns = block(f"{before}     {after}", "0m1.018s 0m0.249s", "0m0.000s 0m0.000s")
    assert told(read_text(f"{columns}sys 0m1.018s 0m0.249s\n")) == EXPECTED


def test_the_patched_side_may_come_first():
    assert told(read_text(f"{AFTER}\n{BEFORE}")) == EXPECTED


def test_a_command_may_stand_between_label_and_rows():
    text = PAIR.replace(":\nreal", ":\n$ time echo 8G > memory.reclaim\n\nreal")
    assert told(read_text(text)) == EXPECTED


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("1m2.345s", 62.345), ("61m1.5s", 3661.5), ("0m1,018s", 1.018), ("0m0s", 0.0),
     ("0m0.000001s", 1e-06), ("0m59.999s", 59.999)],
)  # fmt: skip
def test_numbers(word, seconds):
    frame = read_text(PAIR.replace("0m0.249s", word)).frame
    assert list(frame["value"])[3::2] == [seconds, seconds]


def test_text_that_speaks_of_real_user_and_sys_is_not_a_row():
    text = f"real numbers would help\nuser space\nsys-time, sys calls\n{PAIR}real workloads\n"
    text += "\nsys 0m1.018s is a lot.\n"
    assert told(read_text(text)) == EXPECTED


def test_a_reply_inside_a_quoted_block_does_not_tear_it():
    text = quoted(PAIR, "> ").replace("> user", "Nice!\n\n> user")
    assert told(read_text(text)) == EXPECTED


# What the text around says.


@pytest.mark.parametrize(
    ("text", "arch", "machine"),
    [
        ("On my Arm64 32-core server.", "arm64", "Arm64 32-core server"),
        ("a 64-core aarch64 machine", "arm64", "64-core aarch64 machine"),
        ("X86 machine:", "x86_64", "X86 machine"),
        ("Measured with an AMD EPYC 7742 server.", "x86_64", "AMD EPYC 7742 server"),
        ("Intel, otherwise idle", "x86_64", None),
        ("Arm64 server, and 10% on my X86 machine", None, None),
        ("I have not tried an x86 machine.", None, None),
        ("Cc: someone@intel.com, see arch/arm64/mm and non-x86", None, None),
        ("My laptop.", None, None),
    ],
)
def test_architecture_and_machine_are_told_or_missing(text, arch, machine):
    row = read_text(f"{text}\n\n{PAIR}").frame.iloc[0]
    assert (None if pd.isna(row["arch"]) else row["arch"]) == arch
    assert (None if pd.isna(row["machine"]) else row["machine"]) == machine


def test_an_ambiguous_architecture_is_noted():
    samples = read_text(f"Arm64 server, and 10% on my X86 machine\n\n{PAIR}")
    assert any("architecture left open" in note for note in samples.notes)


def test_a_reply_about_another_machine_does_not_change_the_architecture():
    text = quoted("On my Arm64 server.\n", "> ") + "\nI used an x86 machine.\n\n"
    assert set(read_text(text + quoted(PAIR, "> ")).frame["arch"]) == {"arm64"}


def test_equal_times_on_two_architectures_are_two_measurements():
    samples = read_text(f"Arm64:\n\n{PAIR}\nX86:\n\n{PAIR}")
    assert list(samples.frame["arch"].unique()) == ["arm64", "x86_64"]
    assert len(samples.frame) == 12


def test_the_nearest_paragraph_speaks_and_never_for_the_next_pair():
    other = PAIR.replace("0m1.018s", "0m2.000s")
    frame = read_text(f"An x86 machine.\n\nArm64 server.\n\n{PAIR}\n{other}").frame
    assert set(frame["arch"][:6]) == {"arm64"}
    assert frame["arch"][6:].isna().all()


def test_a_pair_only_quoted_counts_once():
    samples = read_text(quoted(PAIR, ">>> ") + "Why?\n" + quoted(PAIR, "> "))
    assert len(samples.frame) == 6
    assert samples.frame["source"].iloc[0] == "<pasted>:12"  # the least quoted copy


def test_time_output_without_a_label_is_noted():
    samples = read_text(f"{PAIR}\nMine:\nreal\t0m7.000s\nuser\t0m0.000s\nsys\t0m7.000s\n")
    assert told(samples) == EXPECTED
    assert "not counted: lines 12, 13, 14" in samples.notes[-1]


# Bad captures.


@pytest.mark.parametrize(
    "word",
    ["0m1.0.18s", "-0m1.018s", "+0m1.018s", "0m60.000s", "0m99s", "1.018", "0m1.018", "0m1.018sec",
     "0m.018s", "0m1.s", "0m1.0000000s", "1h0m1.018s", "0m1e3s", "99999999m1.0s", "0m1.018s ?",
     "0m1.018s 0m1.018s", "0m1.\u0661s", ".5s", "0m1;018s"],
)  # fmt: skip
def test_malformed_numbers_are_refused_with_their_line(word):
    with pytest.raises(IngestError, match=r"^<pasted>:2: found .*; expected .*\. \S"):
        read_text(PAIR.replace("0m1.018s", word, 1))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BEFORE, 1),
        (f"text\n{AFTER}", 2),
        (f"{BEFORE}{PAIR}", 1),
        (f"{PAIR}{AFTER}", 10),
        (PAIR.replace("W/o patch:", "Nothing here"), 6),
        (PAIR.replace("user\t0m0.000s\n", "", 1), 3),
        (PAIR.replace("sys\t0m1.018s\n", "", 1), 3),
        (PAIR.replace("sys\t0m1.018s\n", "sys time was\n", 1), 3),
        (PAIR.replace("real\t0m1.018s\n", "", 1), 2),
        (PAIR[: PAIR.rindex("sys")], 8),
        (f"{PAIR}real\t0m0.250s\nuser\t0m0.000s\nsys\t0m0.250s\n", 6),
        (block("W/o patch:  W/ patch:", "0m1.018s", "0m0.000s", "0m1.018s"), 2),
        (block("W/o patch:  W/o patch:", "0m1s 0m2s", "0m0s 0m0s", "0m1s 0m2s"), 1),
        (quoted(BEFORE, "> ") + quoted(AFTER, ">> "), 1),
        (f"{COLUMNS}!{ROWS}", 6),
    ],
)
def test_a_block_that_is_cut_or_alone_is_refused_with_its_line(text, line):
    with pytest.raises(IngestError, match=rf"^<pasted>:{line}: found .*; expected .*\. \S"):
        read_text(text)


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", b"\xef\xbb\xbf", b"Hello.\n", b"before:\nafter:\n"]
)
def test_a_file_with_nothing_to_measure_is_refused(tmp_path, content):
    path = tmp_path / "mail.txt"
    path.write_bytes(content)
    with pytest.raises(IngestError, match=re.escape(str(path))):
        read(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (PAIR.encode() + b"caf\xe9\n", "10: found a byte that is not UTF-8 (0xe9)"),
        (PAIR.encode("utf-16"), "UTF-8"),
        (b"\x7fELF\x02\x01\x00\x00", "NUL"),
        (b"\x1f\x8b\x08\x00abc", "compressed data that break off"),
    ],
)
def test_binary_and_undecodable_files_are_refused(tmp_path, content, found):
    path = tmp_path / "mail.txt"
    path.write_bytes(content)
    for source in (path, str(path), io.BytesIO(content)):
        with pytest.raises(IngestError, match=re.escape(found)):
            read(source)
    with (
        path.open(encoding="utf-8") as stream,
        pytest.raises(IngestError, match=r"UTF-8|NUL|break"),
    ):
        read(stream)


def test_missing_files_and_directories_are_refused(tmp_path):
    for source in (tmp_path / "none.txt", tmp_path, str(tmp_path), "a\0b"):
        with pytest.raises(IngestError, match="no readable file"):
            read(source)


def test_an_open_stream_is_read_and_named(tmp_path):
    path = tmp_path / "mail.txt"
    path.write_text(PAIR)
    with path.open() as stream:
        assert read(stream).frame["source"].iloc[0] == f"{path}:2"
    assert read(io.StringIO(PAIR)).frame["source"].iloc[0] == "<stream>:2"


def mail(encoding, body, kind="text/plain; charset=utf-8"):
    return (
        f"From: a@b.c\nSubject: x\nContent-Type: {kind}\n"
        f"Content-Transfer-Encoding: {encoding}\n\n{body}"
    )


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_damaged_base64_body_is_refused(cut):
    body = base64.encodebytes(PAIR.encode()).decode()
    assert told(read_text(mail("base64", body))) == EXPECTED
    with pytest.raises(IngestError):
        read_text(mail("base64", body.strip()[: -cut - 1]))
    with pytest.raises(IngestError, match="<pasted>:6: found a damaged base64 body"):
        read_text(mail("base64", body[:20] + "!" + body[20:]))


@pytest.mark.parametrize("kind", ["text/plain; charset=nonsense", "text/plain; charset=utf-32"])
def test_a_body_that_is_not_what_its_header_says_is_refused(kind):
    body = base64.encodebytes(PAIR.encode()).decode()
    with pytest.raises(IngestError, match="as its header says"):
        read_text(mail("base64", body, kind))
