# SPDX-License-Identifier: GPL-2.0-only
import pytest

from lab.console import Console
from lab.errors import GuestError

RUN = (
    "@lab run lru=classic kernel=unmap order=4 rep=0 ns=42732000 pgscan=117968 pgsteal=52432 "
    "before=268435456 after=53673984 error=0 wrong=0 seen=13104"
)


def heard(*lines):
    console = Console()
    for line in lines:
        console.read(line)
    return console


def test_a_run_is_read_with_the_hits_before_it():
    console = heard(
        "SeaBIOS", "@lab start", "@lab cell lru=classic kernel=unmap order=4 rep=0",
        "@lab fn 0 try_to_unmap 3277", "@lab fn 1 try_to_unmap 1",
        "@lab fn 0 set_tlb_ubc_flush_pending.cons 5", RUN, "@lab end",
    )  # fmt: skip
    run = console.runs[0]
    assert (run.lru, run.kernel, run.order, run.rep) == ("classic", "unmap", 4, 0)
    assert (run.ns, run.pgscan, run.pgsteal) == (42732000, 117968, 52432)
    assert (run.before, run.after, run.error) == (268435456, 53673984, 0)
    assert run.hits == {
        0: {"try_to_unmap": 3277, "set_tlb_ubc_flush_pending.cons": 5},
        1: {"try_to_unmap": 1},
    }
    assert console.started
    assert console.ended
    assert not console.failure


def test_hits_do_not_leak_into_the_next_cell():
    console = heard("@lab fn 0 a 1", RUN, "@lab cell x", "@lab fn 0 b 2", RUN)
    assert [run.hits for run in console.runs] == [{0: {"a": 1}}, {0: {"b": 2}}]


def test_functions_whose_cut_names_are_one_are_added():
    assert heard("@lab fn 0 a 1", "@lab fn 0 a 2", RUN).runs[0].hits == {0: {"a": 3}}


def test_serial_line_ends_and_escapes_do_not_matter():
    assert len(heard(f"\x1b[2J\x1bc{RUN}\r").runs) == 1


@pytest.mark.parametrize(
    "line",
    [
        RUN.replace(" ns=42732000", ""),
        RUN.replace("ns=42732000", "ns=4273[    1.2] printk"),
        RUN.replace("ns=42732000", "ns=many"),
        RUN + " more=1",
        RUN.replace("pgscan=117968 pgsteal=52432", "pgsteal=52432 pgscan=117968"),
        "@lab fn 0 try_to_unmap",
        "@lab fn try_to_unmap 3",
        "@lab something",
    ],
)
def test_a_line_of_inits_that_cannot_be_read_is_refused(line):
    with pytest.raises(GuestError, match="expected start, cell, fn, run, end or error"):
        heard(line)


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        (
            "[    1.5] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
        ),
        (
            "[    9.1] Out of memory: Killed process 41 (init) total-vm:264564kB",
            "Out of memory: Killed process 41 (init) total-vm:264564kB",
        ),
        ("[    2.0] BUG: kernel NULL pointer dereference", "BUG: kernel NULL pointer dereference"),
        ("@lab error mounting ext4: No device", "the guest's init: mounting ext4: No device"),
    ],
)
def test_what_ends_a_guest_is_told(line, failure):
    console = heard("@lab start", line, "Rebooting in 1 seconds..")
    assert console.failure == failure
    assert line.removeprefix("@lab ") in console.last_lines()


def test_the_first_failure_is_kept():
    console = heard("Out of memory: Killed process 7 (init)", "Kernel panic - not syncing: x")
    assert console.failure.startswith("Out of memory")


def test_last_lines_are_few_short_and_printable():
    text = heard(*(f"line {n} \x07\u00e9{'x' * 300}" for n in range(100))).last_lines()
    assert len(text.splitlines()) == 12
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 170
    assert "line 99" in text
    assert "line 80" not in text
