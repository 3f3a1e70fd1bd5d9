# SPDX-License-Identifier: GPL-2.0-only
"""Variants that no capture here has: what perf, ftrace and others are known to print."""

import json

import pytest
from test_ingest_captures import CAPTURES

from analysis import ingest
from analysis.ingest import IngestError, read, read_text
from analysis.ingest.counters import difference
from analysis.ingest.symbols import normal


def rows(text, form=None):
    frame = read_text(text, form=form).frame
    return list(zip(frame["metric"], frame["unit"], frame["value"], strict=True))


def parts(text):
    frame = read_text(text).frame
    return dict(zip(frame["part"].fillna(""), frame["value"], strict=True))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("[k] drop_buffers.constprop.0", "drop_buffers"),
        ("finish_task_switch.isra.0", "finish_task_switch"),
        ("a.isra.0.constprop.1", "a"),
        ("a.part.0.cold", "a"),
        ("foo.llvm.1234567890", "foo"),
        ("vfs_write_[k]", "vfs_write"),
        ("vfs_write+0x1f", "vfs_write"),
        ("[.] operator new", "operator new"),
        ("[unknown]", "[unknown]"),
        ("std::vector<int>::push_back", "std::vector<int>::push_back"),
        (".cold", ".cold"),
    ],
)
def test_symbols_are_the_same_across_builds(raw, name):
    assert normal(raw) == name


# perf stat


def test_perf_stat_of_linux_4_names_the_unit_behind_the_event():
    text = (
        " Performance counter stats for 'true':\n\n"
        "          1.189523      task-clock (msec)         #    0.674 CPUs utilized          \n"
        "                 0      context-switches          #    0.000 K/sec                  \n"
        "           1234567      cycles                    #    1.038 GHz                    \n\n"
        "       0.001764901 seconds time elapsed\n\n"
    )
    assert rows(text)[0] == ("task-clock", "s", 0.001189523)
    assert ("cycles # GHz", "1", 1.038) in rows(text)


def test_perf_stat_multiplexed_counters_are_marked():
    text = (
        " Performance counter stats for 'true':\n\n"
        "         1,234,567      cycles                    #    1.038 GHz       (33.40%)\n"
        "           900,000      instructions              #    0.73  insn per cycle  (66.60%)\n"
        "     <not counted>      branches                                          (0.00%)\n\n"
        "       0.001764901 seconds time elapsed\n\n"
    )
    frame = read_text(text).frame
    assert frame["mark"].iloc[0] == "multiplexed: counted 33.40% of the time"
    assert ("instructions", "instructions", 900000.0) in rows(text)
    assert "branches: not counted (line 5)" in read_text(text).notes


def test_perf_stat_per_thread_socket_and_cgroup():
    text = (
        " Performance counter stats for 'system wide':\n\n"
        "S0        2             10,615      page-faults               #   55.207 K/sec\n"
        "  my prog-1234              12      page-faults\n"
        "                            15      page-faults               user.slice\n\n"
        "       1.000000000 seconds time elapsed\n\n"
    )
    found = parts(text)
    assert found["place=S0 of 2"] == 55207.0
    assert found["place=my prog-1234"] == 12.0
    assert found["cgroup=user.slice"] == 15.0


def test_perf_stat_table_of_runs():
    text = (
        " Performance counter stats for 'a' (2 runs):\n\n"
        "               382      page-faults      ( +-  0.13% )\n\n"
        "     # Table of individual measurements:\n"
        "     0.12398 (+0.01648) ###\n"
        "     0.09102 (-0.01648) #\n\n"
        "     # Final result:\n"
        "           0.10750 +- 0.01648 seconds time elapsed  ( +- 15.33% )\n\n"
    )
    assert ("time elapsed, of one run", "s", 0.12398) in rows(text)
    assert list(read_text(text).frame["run"])[1:3] == [0, 1]


@pytest.mark.parametrize(
    "line",
    [
        "1234,,cpu/event=0x11,name=x/,5,100.00,,",
        "     1.000000001,S0-D0-C1,1,1234,,cycles,5,100.00,1.5,insn per cycle",
        "           summary,1234,,cycles,5,100.00,,",
        "1234,,cycles,user.slice,5,100.00,,",
        "1234,,cycles,0.50%,5,100.00,,",
        "my prog-77,1234,,cycles,5,100.00,,",
        "1234,,cycles,5,100.00",
    ],
)
def test_perf_stat_csv_layouts(line):
    assert rows(f"{line}\n", "perf-stat-csv")[0][2] == 1234.0


def test_intervals_of_a_second_capture_in_the_file_are_further_runs():
    csv = (
        "# started on Mon\n\n     1.000000001,12,,x,5,100.00,,\n     2.000000001,13,,x,5,100.00,,\n"
    )
    value = '{"interval" : %s, "counter-value" : "12", "event" : "x"}\n'
    for text in (csv, "# started on Mon\n\n" + value % "1.000000001" + value % "2.000000001"):
        assert list(read_text(text * 2).frame["run"]) == [0, 1, 2, 3]


def test_a_further_metric_belongs_to_the_counter_above():
    text = "1234,,cycles,5,100.00,1.5,GHz\n,,,,,0.25,stalled cycles per insn\n"
    assert rows(text)[-1] == ("cycles # stalled cycles per insn", "1", 0.25)


def test_other_output_behind_the_rows_may_have_torn_one():
    with pytest.raises(IngestError, match=r":2: .*torn"):
        read_text("1234,,cycles,5,100.00,,\nother output\n")


# counters


def test_counters_grow_and_gauges_stand():
    before, after = (read(CAPTURES / f"vmstat_{side}.txt") for side in ("before", "after"))
    frame = difference(before, after).frame
    grown = frame[frame["part"] == "kind=counter"].set_index("metric")["value"]
    assert grown["numa_hit"] == 82877693 - 82835610
    free = frame[frame["metric"] == "nr_free_pages"]
    assert list(free["value"]) == [1337456.0, 1355830.0]
    with pytest.raises(IngestError, match=r"fell from .*Give the earlier snapshot first"):
        difference(after, before)


def test_memory_stat_of_cgroup_v2():
    text = "anon 4096\nfile 8192\nkernel 12\npgscan_direct 5\nworkingset_nodes 3\nthp_swpout 1\n"
    text += "pswpout 7\n"
    kinds = dict(zip(*read_text(text).frame[["metric", "part"]].T.values, strict=True))
    assert kinds["pgscan_direct"] == kinds["thp_swpout"] == kinds["pswpout"] == "kind=counter"
    assert kinds["anon"] == kinds["workingset_nodes"] == "kind=gauge"
    assert (
        dict(zip(*read_text(text).frame[["metric", "unit"]].T.values, strict=True))["file"]
        == "bytes"
    )


# benchmarks


def test_a_command_that_a_signal_ended_has_no_exit_status():
    text = '{"results": [{"command": "x", "times": [1.5, 2.5, 3.5], "exit_codes": [0, null, 1]}]}'
    marks = ["", "no exit status: ended by a signal", "exit status 1"]
    assert list(read_text(text).frame["mark"].fillna("")) == marks


def test_hyperfine_csv_has_the_means_of_its_json():
    told = read(CAPTURES / "hyperfine.csv").frame
    runs = read(CAPTURES / "hyperfine.json").frame
    means = runs[runs["metric"] == "real"].groupby("part")["value"].mean()
    real = told[told["metric"] == "real"].set_index("part")["value"]
    assert dict(real) == pytest.approx(dict(means[real.index]))
    text = (CAPTURES / "hyperfine.csv").read_text()
    head, row, *_ = text.splitlines(keepends=True)
    for damaged in (row.replace(",", ",,", 1), row.replace(",", ',"', 1), "x,1.0\n"):
        with pytest.raises(IngestError, match=r":2: found .*--export-json"):
            read_text(head + damaged)


def test_pyperf_values_in_run_order():
    document = {
        "benchmarks": [
            {"metadata": {"name": "x"}, "runs": [{"warmups": [[1, 0.5]]}, {"values": [0.1, 0.2]},
                                                 {"values": [0.3]}]}
        ],
        "metadata": {"unit": "second"}, "version": "1.0",
    }  # fmt: skip
    for text in (json.dumps(document), json.dumps(document, indent=2)):
        frame = read_text(text + "\n").frame
        assert list(frame["value"]) == [0.1, 0.2, 0.3]
        assert list(frame["run"]) == [0, 1, 2]


@pytest.mark.parametrize("text", ['{"results": [{}]}',
                                  '{"results": [{"command": "x", "times": ["1"]}]}',
                                  '{"results": [{"command": "x", "times": [NaN]}]}',
                                  '{"results": [{"command": "x", "times": [1], "times": [2]}]}',
                                  '{"results": [', '{"results": ' + "[" * 99999])  # fmt: skip
def test_benchmark_documents_of_another_shape_are_refused(text):
    with pytest.raises(IngestError):
        read_text(text)


def test_a_reformatted_perf_document_is_read_the_same():
    whole = read(CAPTURES / "convert.json.xz").frame
    with ingest.opened(CAPTURES / "convert.json.xz") as (stream, _):
        text = json.dumps(json.load(stream), indent=1)
    again = read_text(text).frame
    columns = ["metric", "value", "part", "symbol"]
    assert again[columns].equals(whole[columns])


# many captures


def test_a_directory_is_its_files(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text("real 1.00\nuser 0.00\nsys 0.00\n")
    (tmp_path / ".hidden").write_text("junk")
    frame = ingest.read_many([str(tmp_path)]).frame
    assert [source[-7:] for source in frame["source"]][::3] == ["a.txt:1", "b.txt:1"]
    (tmp_path / "c.txt").write_text("junk\n")
    (tmp_path / "d.txt").write_text("junk\n")
    with pytest.raises(IngestError) as caught:
        ingest.read_many([str(tmp_path)])
    assert str(caught.value).startswith(f"{tmp_path / 'c.txt'}: found")
    assert str(caught.value).endswith(f"Nor can these be taken: {tmp_path / 'd.txt'}.")


@pytest.mark.parametrize("form", ingest.NAMES)
def test_a_forced_format_refuses_what_is_not_its_own(form):
    with pytest.raises(IngestError):
        read_text("neither this\nnor that\n", form=form)


# tables by folio size, in mails


def test_let_us_is_no_microsecond():
    text = TABLE.replace("in seconds, less is better:", "let us see:")
    assert set(read_text(text).frame["unit"]) == {"1"}


TABLE = """From: a@b.c
Subject: x

fork() of 1 GiB on an Intel Xeon server, in seconds, less is better:

Folio Size | v6.8-rc1 |      New | Change
------------------------------------------
      4KiB | 0.014328 | 0.014035 |   - 2%
     64KiB | 0.014263 | 0.010940 |   -23%
"""


def test_a_table_by_folio_size_has_an_order_a_row():
    samples = read_text(TABLE + "\n" + TABLE.replace("\n", "\n> "))
    frame = samples.frame
    assert list(frame["order"]) == [0, 0, 4, 4]
    assert list(frame["kernel"]) == ["v6.8-rc1", "New"] * 2
    assert list(frame["value"]) == [0.014328, 0.014035, 0.014263, 0.01094]
    assert set(frame["unit"]) == {"s"}
    assert set(frame["arch"]) == {"x86_64"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("-23%", "-32%", "a change of -32%"), ("0.010940 ", "0.01O940 ", "expected a number"),
     ("| 0.010940 ", "", "3 cells")],
)  # fmt: skip
def test_a_damaged_table_is_refused(old, new, told):
    with pytest.raises(IngestError, match=f"^<pasted>:9: .*{told}"):
        read_text(TABLE.replace(old, new))


@pytest.mark.parametrize("line", [";;;;0.25;stalled", ",,,,0.25, ", ",,,,,0.25,a,b"])
def test_a_further_metric_that_perf_did_not_print_is_refused(line):
    with pytest.raises(IngestError, match=":2: found"):
        read_text(f"1234,,cycles,5,100.00,1.5,GHz\n{line}\n")


def test_a_comparison_of_two_profiles_is_no_profile():
    with pytest.raises(IngestError, match=r":2: found two counts \('a;b 3 5'\)"):
        read_text("a;b 3\na;b 3 5\n")


def test_a_counter_that_is_named_twice_is_refused():
    text = '{"counter-value" : "1.0", "event" : "x", "counter-value" : "2.0"}\n'
    with pytest.raises(IngestError, match=":1: found"):
        read_text(text)


def test_shares_beyond_the_whole_are_refused():
    text = (CAPTURES / "report_sym.txt").read_text()
    share = next(word for word in text.split() if word.endswith("%"))
    assert read_text(text).notes
    with pytest.raises(IngestError, match=r"add up to [0-9.]+%; expected 100% at most"):
        read_text(text.replace(share, "99.99%", 1))


def test_folded_call_graphs_of_a_report_are_comments():
    text = (
        "# Samples: 4  of event 'cpu-clock'\n# Event count (approx.): 4\n#\n"
        "# Children      Self  Symbol\n# ........  ........  ......\n#\n"
        "   100.00%   100.00%  [k] read\n3 read;entry;do_syscall_64\n1 read\n\n"
    )
    samples = read_text(text)
    assert samples.frame["mark"].isna().all()
    assert any("call graphs" in note for note in samples.notes)


@pytest.mark.parametrize("sep", [",", ";", "|"])
def test_perf_stat_metric_only_with_a_separator(sep):
    text = " time,socket,cpus,insn per cycle,% of all branches,\n"
    text += "     1.000000001,S0,4,0.73,2.50,\n     2.000000001,S0,4,0.74,,\n"
    samples = read_text(text.replace(",", sep))
    assert list(samples.frame["value"]) == [0.73, 2.5, 0.74]
    assert list(samples.frame["run"]) == [0, 0, 1]
    assert samples.frame["part"].iloc[0] == "time=1.000000001; socket=S0; cpus=4"
    assert "% of all branches: no metric (line 3)" in samples.notes
    with pytest.raises(IngestError, match=":3: found"):
        read_text(text.replace("S0,4,0.74,,", "S0,4,0.74,").replace(",", sep))


def test_perf_stat_metric_only_once():
    assert rows("CPUs utilized,GHz,\n0.98,1.038,\n") == [
        ("metric # CPUs utilized", "1", 0.98), ("metric # GHz", "1", 1.038)
    ]  # fmt: skip


def test_perf_stat_further_metrics_and_topdown_with_hybrid_events():
    text = (
        " Performance counter stats for 'true':\n\n"
        "         1,234,567      cpu_core/slots/      #     45.2 %  tma_backend_bound  (83.30%)\n"
        "           900,000      instructions              #    0.73  insn per cycle  (66.60%)\n"
        "                                    #    0.25  stalled cycles per insn  (66.60%)\n"
        "            25,000      branch-misses             #    2.50% of all branches  (66.60%)\n"
        "              1.50 Joules power/energy-pkg/\n\n"
        "       0.001764901 seconds time elapsed\n\n"
        "Some events weren't counted. Try disabling the NMI watchdog:\n"
        "\techo 0 > /proc/sys/kernel/nmi_watchdog\n"
        "\tperf stat ...\n"
        "\techo 1 > /proc/sys/kernel/nmi_watchdog\n"
    )
    found = rows(text)
    assert ("cpu_core/slots/ # %  tma_backend_bound", "percent", 45.2) in found
    assert ("instructions # stalled cycles per insn", "1", 0.25) in found
    assert ("branch-misses # % of all branches", "percent", 2.5) in found
    assert ("power/energy-pkg/", "J", 1.5) in found
    assert not read_text(text).notes
