# SPDX-License-Identifier: GPL-2.0-only
"""perf script, read line by line and folded: samples, chains, and what is neither."""

import io

import pytest

from analysis.ingest import IngestError, fold, read_text


def test_perf_script_with_comments_records_and_chains_without_samples():
    text = (
        "# ========\n# arch : aarch64\n# cpudesc : Neoverse\n# ========\n#\n"
        "swapper     0 [000] 12.000001: PERF_RECORD_LOST lost 45\n"
        "a b 12/34 [000] 12.000001: 100 cycles: \n\tffff f.isra.0+0x1 ([kernel.kallsyms])\n"
        "\t    10 main+0x2 (/bin/a (deleted))\n\n"
    )
    samples = read_text(text)
    assert samples.frame["part"].iloc[0] == "a_b;main;f.isra.0"
    assert samples.frame["symbol"].iloc[0] == "f"
    assert set(samples.frame["arch"]) == {"arm64"}
    assert "1 PERF_RECORD_LOST records, no samples" in samples.notes


def test_a_chain_the_capture_ends_in_is_marked():
    text = "a 1 12.000001: 100 cycles: \n\tffff f+0x1 (x)\n"
    assert read_text(text).frame["mark"].iloc[0].startswith("cut")
    with pytest.raises(IngestError, match="no blank line ends"):
        fold.fold(io.BytesIO(text.encode()), "x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a 1 12.000001: 100 cycles: \n\tffff f+0x1 (x)\n\nbroken\n\n", 4),
        ("a 1 12.000001: 100 cycles: \n\tffff f+0x1 (x)\n\n\na 1 12.0: 1 c: \n\tf f (x)\n\n", 5),
        ("a 1 12.000001: 100 cycles: \n\tffff f+0x1 (x)\n\tzzzz\n\n", 3),
        ("a 1 12.000001: 100 cycles: \n\tffff \xff (x)\n\n", 2),
    ],
)
def test_fold_refuses_with_the_line(text, line):
    with pytest.raises(IngestError, match=rf"^x:{line}: found"):
        fold.fold(io.BytesIO(text.encode("latin-1")), "x")


SAMPLE = "a 1 12.000001: 5 cycles: \n\tffff f+0x1 (x)\n\n"


@pytest.mark.parametrize(
    "more",
    [
        "a 1 12.000001: 5 cycles: \n\tffff f+0x1 (x) 0x1/0x2/P/-/-/0\n\n",
        "a 1 12.000001: 5 cycles: \n\t7fff ffffffff81000000 f+0x1 (x)\n\n",
        "a 1 12.000001: 5 loads: 7fff |OP LOAD|LVL L1 hit 30 ffff f (x)\n\n",
        "a 1 12.000001: 5 loads: 30 ffffffff81000000 f (x)\n\n",
        "  a 1 12.000001: \tmetric: 0.5  insn per cycle\n\n",
    ],
)
def test_other_fields_of_perf_script_are_no_symbols(more):
    with pytest.raises(IngestError, match=r":[45]: found .* -F comm,pid"):
        read_text(SAMPLE + more)
    with pytest.raises(IngestError, match=r":[45]: found"):
        fold.fold(io.BytesIO((SAMPLE + more).encode()), "x")


def test_fold_takes_comments_many_events_and_crlf():
    sample = "a 1 [000] 12.000001: {} {}: \n\tffff f+0x1 (x)\n\tfff0 [unknown] (/lib/y.so)\n\n"
    text = "# header\n#\n" + sample.format(3, "cycles") + sample.format(4, "cycles") * 2
    text += sample.format(5, "faults")
    for given in (text, text.replace("\n", "\r\n")):
        found = fold.fold(io.BytesIO(given.encode()), "x")
        assert found == {"cycles": {"a;[y.so];f": 11}, "faults": {"a;[y.so];f": 5}}


def test_an_architecture_that_is_not_ours_is_noted():
    samples = read_text("# arch : ppc64le\n# os release : 7.2\n" + SAMPLE)
    assert samples.notes == ("architecture ppc64le, left open",)
    assert set(samples.frame["kernel"]) == {"7.2"}
