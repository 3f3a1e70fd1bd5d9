# SPDX-License-Identifier: GPL-2.0-only
"""A random table printed in a dialect is read back as it was, digit for digit."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.ingest import IngestError, read_text

# digit group, decimal mark, sizes of groups from the right
LOCALES = {
    "C": ("", ".", 3),
    "en_US": (",", ".", 3),
    "de_DE": (".", ",", 3),
    "fr_FR": ("\u202f", ",", 3),
    "fr_FR, old glibc": ("\u00a0", ",", 3),
    "sv_SE, ascii": (" ", ",", 3),
    "de_CH": ("\u2019", ".", 3),
    "en_IN": (",", ".", 2),
}
events = st.sampled_from(
    [
        "page-faults",
        "cycles:u",
        "vmscan:mm_vmscan_reclaim_pages",
        "L1-dcache-loads",
        "cpu/config=1/",
    ]
)
counts = st.integers(0, 10**13)
hundredths = st.integers(0, 10**9)
counters = st.lists(st.tuples(events, counts), min_size=1, max_size=5)
seconds = st.integers(0, 10**13)  # ns


def grouped(number, locale):
    mark, _, rest = LOCALES[locale]
    text = str(number)
    if not mark or len(text) <= 3:
        return text
    parts, text = [text[-3:]], text[:-3]
    while text:
        parts.insert(0, text[-rest:])
        text = text[:-rest]
    return mark.join(parts)


def decimal(number, digits, locale, group=False):
    whole, part = divmod(number, 10**digits)
    whole = grouped(whole, locale) if group else str(whole)
    return f"{whole}{LOCALES[locale][1]}{part:0{digits}}"


def text_block(table, clock, elapsed, locale, runs=None):
    head = f" Performance counter stats for 'a b'{f' ({runs} runs)' if runs else ''}:"
    spread = f"            ( +- {decimal(123, 2, locale):>5}% )" if runs else ""
    rows = [f"{decimal(clock, 2, locale, group=True):>18} msec task-clock      #"
            f"{decimal(1234, 3, locale):>9} CPUs utilized{spread}"]  # fmt: skip
    rows += [f"{grouped(count, locale):>18}      {event:<25}{spread}" for event, count in table]
    end = f"{decimal(elapsed, 9, locale):>18} seconds time elapsed"
    if runs:
        end = f"{decimal(elapsed, 5, locale):>18} +- {decimal(7, 5, locale)} seconds time elapsed"
        end += f"  ( +- {decimal(288, 2, locale)}% )"
    return "\n".join(["", head, "", *rows, "", end, "", ""])


def found(samples, metric):
    frame = samples.frame
    return list(frame[frame["metric"] == metric]["value"])


def counted(samples):
    frame = samples.frame[samples.frame["unit"].isin(("count", "instructions"))]
    return list(zip(frame["metric"], frame["value"], strict=True))


def floats(table):
    return [(event, float(count)) for event, count in table]


@settings(deadline=None, max_examples=150)
@given(counters, hundredths, seconds, st.sampled_from(sorted(LOCALES)))
def test_perf_stat_text_in_every_locale(table, clock, elapsed, locale):
    samples = read_text(text_block(table, clock, elapsed, locale))
    assert counted(samples) == floats(table)
    assert found(samples, "task-clock") == [float(Decimal(clock) / 100000)]
    assert found(samples, "real") == [float(Decimal(elapsed) / 10**9)]


@settings(deadline=None, max_examples=60)
@given(counters, hundredths, seconds, st.sampled_from(sorted(LOCALES)), st.integers(2, 9))
def test_perf_stat_text_of_repeats(table, clock, elapsed, locale, runs):
    samples = read_text(text_block(table, clock, elapsed, locale, runs))
    assert counted(samples) == floats(table)
    assert found(samples, "real") == [float(Decimal(elapsed) / 10**5)]
    marks = samples.frame[samples.frame["unit"] == "count"]["mark"]
    assert marks.str.startswith(f"mean of {runs} runs, +- 1.23%").all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(events, counts, st.integers(0, 9999)), min_size=1, max_size=5),
    st.sampled_from(sorted(LOCALES)),
)
def test_perf_stat_text_of_intervals_on_each_cpu(table, locale):
    lines = ["#           time CPU                  counts unit events"]
    for place, (event, count, part) in enumerate(table):
        time = decimal(10**9 * (place // 2 + 1) + 7, 9, locale)
        percent = decimal(part, 2, locale)
        lines.append(f"{time:>16} CPU{place % 2} {grouped(count, locale):>18}      {event:<25}"
                     f"                     ({percent}%)")  # fmt: skip
    samples = read_text("\n".join(lines) + "\n")
    assert counted(samples) == floats((event, count) for event, count, _ in table)
    assert list(samples.frame["run"]) == [place // 2 for place in range(len(table))]
    marks = [f"multiplexed: counted {part / 100:.2f}% of the time" for _, _, part in table]
    assert list(samples.frame["mark"].fillna("")) == marks


csv_rows = st.lists(
    st.tuples(events, counts, st.integers(0, 10**12), st.integers(1, 10000)), min_size=1, max_size=6
)
prefixes = st.sampled_from(["", "CPU3", "S0,2", "S0-D0-C1,1", "N0,4", "my prog-123"])


@settings(deadline=None, max_examples=150)
@given(csv_rows, prefixes, st.sampled_from(",;@|\t"), st.booleans(), st.booleans(), st.booleans())
def test_perf_stat_csv_with_every_separator(rows, prefix, sep, interval, repeats, metric):
    lines = []
    for event, count, runtime, percent in rows:
        fields = ["     1.000000001"] if interval else []
        fields += prefix.split(",") if prefix else []
        fields += [str(count), "", event]
        fields += ["1.50%"] if repeats else []
        fields += [str(runtime), f"{percent / 100:.2f}"]
        fields += ["0.241", "insn per cycle"] if metric else ["", ""]
        lines.append(sep.join(fields))
    samples = read_text("\n".join(lines) + "\n")
    assert counted(samples) == floats((event, count) for event, count, _, _ in rows)
    assert (samples.frame["unit"] == "1").sum() == (len(rows) if metric else 0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(events, hundredths, st.booleans()), min_size=1, max_size=5))
def test_perf_stat_csv_whose_decimal_commas_tear_fields_is_mended_or_refused(rows):
    lines, wanted = [], []
    for event, number, clock in rows:
        value = f"{number // 100},{number % 100:02}" if clock else str(number)
        name, unit = ("task-clock", "msec") if clock else (event, "")
        lines.append(f"{value},{unit},{name},137453581,100,00,2,K/sec")
        wanted.append(float(Decimal(number) / 100000) if clock else float(number))
    samples = read_text("\n".join(lines) + "\n")
    assert list(samples.frame["value"]) == wanted
    assert all("lost" in note for note in samples.notes)
    assert samples.notes


def json_line(event, count, version, place):
    fields = {"interval": 1.5} if place == "interval" else {}
    fields |= {"cpu": "3"} if place == "cpu" else {}
    if place == "core":
        number = {"aggregate-number": 2} if version == 6 else {"counters": 2}
        fields |= {"core": "S0-D0-C1", **number}
    fields |= {"counter-value": f"{count}.000000", "unit": "", "event": event}
    fields |= {"event-runtime": 5, "pcnt-running": 100.0}
    fields["metric-value"] = 1.5 if version == 6 else "1.500000"
    return json.dumps(fields | {"metric-unit": "insn per cycle"}, separators=(", ", " : "))


@settings(deadline=None, max_examples=80)
@given(counters, st.sampled_from([6, 7]), st.sampled_from(["", "interval", "cpu", "core"]))
def test_perf_stat_json_of_old_and_new_perf(table, version, place):
    lines = [json_line(event, count, version, place) for event, count in table]
    samples = read_text("# started on Mon Nov 23 00:43:35 2026\n\n" + "\n".join(lines) + "\n")
    assert counted(samples) == floats(table)
    assert found(samples, f"{table[0][0]} # insn per cycle")[0] == 1.5


chains = st.lists(
    st.sampled_from(["main", "vfs_write", "a.isra.0", "[unknown]"]), min_size=1, max_size=6
)
comms = st.sampled_from(["a", "order_sweep", "V8 WorkerThread", "kworker/0:1", "x 1 y"])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(comms, chains, st.integers(1, 10**9)), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_perf_script_samples(samples, cpu, pid, offset):
    lines, totals = [], {}
    for place, (comm, chain, period) in enumerate(samples):
        tid = "123/456" if pid else "456"
        lines.append(
            f"{comm} {tid} {'[001] ' if cpu else ''} 12.{place:06}:     {period} cpu-clock: "
        )
        plus = "+0x1f" if offset else ""
        lines += [f"\t{4096 + at:16x} {symbol}{plus if symbol[0] != '[' else ''} (/lib/b.so)"
                  for at, symbol in enumerate(chain)]  # fmt: skip
        lines.append("")
        names = [symbol.replace("[unknown]", "[b.so]") for symbol in chain]
        stack = ";".join([comm.replace(" ", "_"), *names[::-1]])
        totals[stack] = totals.get(stack, 0) + period
    frame = read_text("\n".join(lines) + "\n").frame
    periods = frame[frame["metric"] == "cpu-clock"]
    assert dict(zip(periods["part"], periods["value"], strict=True)) == totals
    assert set(periods["unit"]) == {"ns"}
    assert frame[frame["metric"] == "cpu-clock samples"]["value"].sum() == len(samples)


times = st.tuples(st.integers(0, 10**4), st.integers(0, 59_999), st.integers(0, 59_999))


@settings(deadline=None, max_examples=80)
@given(st.lists(times, min_size=1, max_size=4), st.sampled_from(".,"),
       st.sampled_from(["bash", "p", "gnu", "zsh", "named"]))  # fmt: skip
def test_time_of_every_shell(runs, mark, form):
    text, wanted = "", []
    for minutes, first, second in runs:
        if form == "bash":
            shown = [f"{minutes}m{first // 1000}.{first % 1000:03}s", f"0m{second / 1000:.3f}s"]
            text += f"\nreal\t{shown[0]}\nuser\t{shown[1]}\nsys\t0m0.000s\n".replace(".", mark)
            wanted.append((Decimal(first) / 1000 + 60 * minutes, Decimal(second) / 1000))
            continue
        real, user = Decimal(first // 10) / 100 + 60 * minutes, Decimal(second // 10) / 100
        clock = f"{minutes}:{first // 1000:02}.{first // 10 % 100:02}"
        text += {
            "p": f"real {real:.2f}\nuser {user:.2f}\nsys 0.00\n",
            "gnu": f"{user:.2f}user 0.00system {clock}elapsed 22%CPU (0avgtext+0avgdata "
            "2596maxresident)k\n0inputs+0outputs (2major+400minor)pagefaults 0swaps\n",
            "zsh": f"make -j  {user:.2f}s user 0.00s system 22% cpu {clock} total\n",
            "named": f"real={real:.2f} user={user:.2f} sys=0.00\n",
        }[form].replace(".", mark)
        wanted.append((real, user))
    samples = read_text(text)
    assert found(samples, "real") == [float(real) for real, _ in wanted]
    assert found(samples, "user") == [float(user) for _, user in wanted]


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 40), counts, min_size=1), st.booleans())
def test_bpftrace_histograms(buckets, as_json):
    if as_json:
        rows = [{"min": 1 << key, "max": (2 << key) - 1, "count": n} for key, n in buckets.items()]
        text = '{"type": "hist", "data": {"@h": ' + json.dumps(rows) + "}}\n"
    else:
        rows = [
            f"[{shown(1 << key)}, {shown(2 << key)})  {n:>12} |@@@   |"
            for key, n in buckets.items()
        ]
        text = "Attaching 1 probe...\nother output\n\n@h: \n" + "\n".join(rows) + "\n\n"
    assert found(read_text(text), "@h") == [float(n) for n in buckets.values()]


def bucket(key):
    return f"[{shown(1 << key)}, {shown(2 << key)})"


def shown(bound):
    for suffix, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if bound >= 1 << shift:
            return f"{bound >> shift}{suffix}"
    return str(bound)


BLOCK = " Performance counter stats for 'a':\n\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# x\n           time\n", "no measurement"),
        (BLOCK + "           196.925      page-faults\n\n", "lost"),
        (BLOCK + "           196.925      page-faults\n               1,5 msec x\n", "digit group"),
        (BLOCK + "         1,96,9288      page-faults\n\n", "no locale"),
        (BLOCK + "                12      x  # 1.5 y\n 1,5 seconds time elapsed\n", "decimal"),
        ('{"counter-value" : "1.0", "event" : "x", "event-runtime" : 3805731510100.00}\n', "lost"),
        ("23.07,msec,task-clock,23072280,100.00,0.241,CPUs utilized\n23.07,msec,task-clo", ":2"),
        ("23.07,msec,task-clock,23072280,100.00,0.241,CPUs utilized", "without a line end"),
        ("real\t0m1.000s\nuser\t0m1.000s\n", "whole run"),
        ("real 0.10\nuser 0.00\nsys 0.0", "without a line end"),
    ],
)  # fmt: skip
def test_what_may_be_a_wrong_number_is_refused(text, told):
    with pytest.raises(IngestError, match=told):
        read_text(text)
