# SPDX-License-Identifier: GPL-2.0-only
"""ftrace and trace-cmd: calls are paired with their ends, by task; what is cut or lost is said."""

import io

import pytest
from test_ingest_captures import CAPTURES

from analysis.ingest import IngestError, read, read_text

SWITCH = " ----------\n 0)  {:>10} =>  {:<10}\n ----------\n\n"


def durations(text):
    frame = read_text(text).frame
    found = frame[frame["metric"] == "duration"]
    return dict(zip(found["symbol"], found["value"], strict=True))


def rows(text):
    frame = read_text(text).frame
    return list(zip(frame["metric"], frame["unit"], frame["value"], strict=True))


def test_function_graph_pairs_calls_on_each_cpu():
    text = (
        "# tracer: function_graph\n#\n"
        " 0)               |  shrink_folio_list() {\n"
        " 1)   1.500 us    |  lru_add();\n"
        " ------------------------------------------\n"
        " 0)    cat-123    =>   dog-456   \n"
        " ------------------------------------------\n\n"
        " 0)   0.250 us    |    folio_referenced();\n"
        " 0)               |    /* mm_vmscan_x: order=4 */\n"
        " 0) ! 120.500 us  |  } /* shrink_folio_list */\n"
        " 0) + 10.000 us   |  }\n"
    )
    samples = read_text(text)
    frame = samples.frame[samples.frame["metric"] == "duration"].set_index("symbol")
    assert dict(frame["value"]) == {
        "lru_add": 1500.0, "folio_referenced": 250.0, "shrink_folio_list": 120500.0
    }  # fmt: skip
    # cat's open call, and the last end: dog's, which began before the trace did
    assert "2 calls whose start or duration is not in the trace" in samples.notes


def test_function_profiler_table():
    text = (
        "  Function                               Hit    Time            Avg             s^2\n"
        "  --------                               ---    ----            ---             ---\n"
        "  try_to_unmap_one.isra.0              22943    1994458.706 us     86.931 us   65.5 us\n"
    )
    assert rows(text) == [
        ("hits", "count", 22943.0), ("time in function", "ns", 1994458706.0)
    ]  # fmt: skip
    assert set(read_text(text).frame["symbol"]) == {"try_to_unmap_one"}


def test_trace_file_and_trace_cmd_count_events_by_folio_order():
    text = (
        "cpus=2\n"
        "  kworker/0:1-17    [000] d..1.   12.123456: mm_filemap_add_to_page_cache: dev 1 order=4\n"
        "           <...>-17   [001]   12.123457: function:             lru_add <-- folio_add\n"
        "             cat-17   [001] ....   12.123458: lru_add <-folio_add_lru\n"
        "CPU:1 [LOST 12 EVENTS]\n"
    )
    samples = read_text(text)
    assert samples.frame["order"].iloc[0] == 4
    assert "lru_add()" in set(samples.frame["metric"])
    assert any("lost 12 events" in note for note in samples.notes)


def test_a_call_waits_while_another_task_runs():
    text = (
        "# tracer: function_graph\n"
        " 0)               |  shrink_folio_list() {\n"
        + SWITCH.format("cat-123", "dog-456")
        + " 0)   9.000 us    |  }\n"  # of a call that began before the trace did
        " 0)               |  lru_add() {\n"
        + SWITCH.format("dog-456", "cat-123")
        + " 0)   2.000 us    |  }\n"
        + SWITCH.format("cat-123", "dog-456")
        + " 0)   3.000 us    |  }\n"
    )
    assert durations(text) == {"shrink_folio_list": 2000.0, "lru_add": 3000.0}
    assert "1 calls whose start or duration is not in the trace" in read_text(text).notes


def test_each_cpu_has_an_idle_task():
    text = "".join(
        f" {cpu})   <idle>-0    |               |  {name}() {{\n"
        for cpu, name in enumerate(("a", "b"))
    ) + "".join(f" {cpu})   <idle>-0    |   {cpu + 1}.000 us    |  }}\n" for cpu in (0, 1))
    assert durations(text) == {"a": 1000.0, "b": 2000.0}


def test_what_is_open_when_events_are_lost_has_no_end():
    text = " 0)               |  a() {\nCPU:0 [LOST 3 EVENTS]\n 0)   1.000 us    |  }\n"
    with pytest.raises(IngestError, match="no value"):
        read_text(text)
    assert durations(text + " 0)   2.000 us    |  b();\n") == {"b": 2000.0}


def test_trace_cmd_prints_the_same_calls_by_task():
    text = (
        "cpus=2\n"
        "  cat-12   [000]    18.703372: funcgraph_entry:                   |  a() {\n"
        "  dog-13   [000]    18.703424: funcgraph_entry:      + 43.925 us  |      c();\n"
        "  cat-12   [001]    18.703479: funcgraph_exit:       + 64.556 us  |  }\n"
    )
    assert durations(text) == {"a": 64556.0, "c": 43925.0}
    with pytest.raises(IngestError, match=":5: found"):
        read_text(text + "  cat-12   [000]    18.703372: funcgraph_entry: func=0xffff depth=1\n")


def test_functions_are_named_whoever_prints_them_and_with_arguments():
    text = (
        "  cat-1   [000]   1.123457: function:             lru_add <-- folio_add\n"
        "  cat-1   [000] ...1.     1.615469: lru_add(folios=0xff698d6b005ff998, n=1) <-folio_add\n"
        "  cat-1   [000] ...1.     1.615469: 0xffffffffc0a8 <-folio_add\n"
    )
    assert rows(text) == [("lru_add()", "count", 2.0), ("0xffffffffc0a8()", "count", 1.0)]


def test_a_trace_file_that_lacks_entries_is_marked():
    line = "  cat-1   [000] .....     7.727044: mm_vmscan_x: order=0\n"
    head = "# entries-in-buffer/entries-written: {}   #P:1\n"
    whole = read_text("# tracer: nop\n" + head.format("2/2") + line * 2)
    assert not whole.notes
    cut = read_text("# tracer: nop\n" + head.format("5/9") + line * 2)
    assert set(cut.frame["mark"]) == {"cut: 3 entries are missing"}
    assert any("5 of 9 entries were still in the buffer" in note for note in cut.notes)


def test_events_between_calls_are_counted():
    frame = read(CAPTURES / "ftrace_graph_events.txt").frame
    told = frame[frame["metric"] == "mm_filemap_delete_from_page_cache"]
    assert list(told["value"]) == [3.0]
    assert list(told["order"]) == [0]


@pytest.mark.parametrize("name", ["ftrace_graph_nocpu.txt", "ftrace_graph_noduration.txt"])
def test_calls_without_cpu_or_duration_are_refused_with_the_option(name):
    with pytest.raises(IngestError, match=r":5: .*echo funcgraph-duration > trace_options"):
        read(CAPTURES / name)


def test_the_graph_and_trace_cmd_tell_one_function_alike():
    told = read(CAPTURES / "tracecmd_graph.txt").frame
    assert {"shrink_folio_list", "try_to_unmap", "try_to_unmap_one"} >= set(told["symbol"])
    assert (told["metric"] == "duration").sum() == 2


def test_stack_traces_below_events_are_comments_and_said_to_be():
    heard = []
    text = (
        "# entries-in-buffer/entries-written: 2/2   #P:1\n"
        "  a-1 [000] d..1. 12.000001: kmalloc: x\n"
        "  a-1 [000] d..1. 12.000001: <stack trace>\n => foo\n => bar\n"
    )
    stream = io.BytesIO(text.encode())
    samples = read(stream, None, lambda _number, kind, _text: heard.append(kind))
    assert heard == ["header", "data", "comment", "comment", "comment"]
    assert samples.notes == ("stack traces below events are not read: perf script has all of them",)


@pytest.mark.parametrize("time", ["12.000001", "12.000001234", "12345678"])
def test_every_trace_clock_will_do(time):
    assert rows(f"  a-1 [000] d..1. {time}: kmalloc: x\n") == [("kmalloc", "count", 1.0)]


def test_the_function_profiler_without_times_has_hits():
    text = "  Function                               Hit\n  --------             ---\n  f   10\n"
    assert rows(text) == [("hits", "count", 10.0)]
