# SPDX-License-Identifier: GPL-2.0-only
import csv
import json

import pytest

from analysis import cli
from lab import compare, emulate
from lab.check import SHIPPED
from lab.console import Run
from lab.emulate import Measured
from lab.errors import LabError
from lab.plan import Plan

COMMAND = (
    "reclaim lab compare --git '/home/a b/linux' --before v7.2 --after my-branch --out measured"
)


def measured(arch, *ns, tree="v7.2", reps=1, **plan):
    runs = [
        Run("classic", "unmap", order, rep, value + rep, 1, 1, 1, 1, 0, 0, 1)
        for order, value in enumerate(ns)
        for rep in range(reps)
    ]
    image = {
        "release": "7.2.13", "source": tree, "source_id": "7e0aa0bfd087",
        "switches": ["one", "two"],
        "config_sha256": "ed99a8e9b149" + 52 * "0", "compiler": "gcc (Debian) 12.2.0",
    }  # fmt: skip
    about = {"qemu": "QEMU emulator version 7.2.22 (Debian)", "kernel": image, "commands": {}}
    made = Plan(kernels=("unmap",), orders=tuple(range(len(ns))), lrus=("classic",), **plan)
    return Measured(arch, made, runs, notes=("1 of 2 requests were not met",), about=about)


def both(after="my-branch", **plan):
    return compare.sides(
        [measured("x86_64", 341_894_000, 200, **plan), measured("arm64", 100, 300, **plan)],
        [measured("x86_64", 341_894_001, 100, tree=after, **plan),
         measured("arm64", 150, 300, tree=after, **plan)],
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    emulate.write(both(), tmp_path, COMMAND)
    return tmp_path


def told(folder, **changed):
    asked = {"kernels": ("references", "unmap"), "arches": ("arm64", "x86_64"),
             "orders": range(10), **changed}  # fmt: skip
    return compare.to_text(compare.of_folder(folder, **asked))


def test_two_trees_as_a_table(folder):
    text = told(folder)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "4 KiB            100         150 +50.0% 341,894,000 341,894,001     0%" in text
    assert "8 KiB            300         300     0%         200         100 -50.0%" in text
    assert "0% (8 KiB) to +50.0% (4 KiB) on arm64, -50.0% (8 KiB) to 0%" in text.replace("\n", " ")


def test_the_text_says_where_the_numbers_come_from(folder):
    text = " ".join(told(folder).split())
    assert "before: v7.2, after: my-branch" in text
    assert "QEMU emulator version 7.2.22, one virtual nanosecond an instruction), one run" in text
    assert (
        "arm64, after: Linux 7.2.13, my-branch, source 7e0aa0bfd087, switches one, two, minimal "
        "configuration ed99a8e9b149, gcc (Debian) 12.2.0." in text
    )
    assert "x86_64, before: Linux 7.2.13, v7.2" in text
    assert "Note: arm64: 1 of 2 requests were not met." in text
    assert "reclaim lab compare --git '/home/a b/linux' --before v7.2 \\ --after my-branch" in text


def test_what_is_printed_at_once_is_what_is_written(folder):
    rows = [
        {name: str(value) for name, value in row.items()} for row in emulate.instructions(both())
    ]
    now = compare.to_text(compare.Compared(rows, emulate.provenance(both(), COMMAND)))
    later = told(folder, arches=("x86_64", "arm64"))
    assert later.startswith(now)
    assert later.removeprefix(now).startswith("\nIds:\ninstructions.csv ")


def test_repeats_tell_how_far_they_differ(tmp_path):
    sides = compare.sides([measured("arm64", 100, reps=3)], [measured("arm64", 90)])
    emulate.write(sides, tmp_path, "reclaim")
    text = " ".join(told(tmp_path).split())
    assert "the least of 3 runs a cell, which differ by 2.00% at most" in text
    assert "4 KiB 100 90 -10.0%" in text


def test_kernels_of_one_tree_go_by_their_names(tmp_path):
    emulate.write([measured("arm64", 100)], tmp_path, "reclaim")
    assert "before: unmap, after: unmap" in " ".join(
        told(tmp_path, kernels=("unmap", "unmap")).split()
    )
    with pytest.raises(LabError, match="has the kernels unmap; expected before and after, or base"):
        told(tmp_path, kernels=("base", "unmap"))


def test_other_trees_names_are_ascii(tmp_path):
    emulate.write(both(after="v7.2 with caf\u00e9"), tmp_path, COMMAND)
    assert "v7.2 with caf\\xe9" in " ".join(told(tmp_path).split())


def test_a_cover_letter_has_titles(folder, capsys):
    assert cli.main(["message", "--lab", str(folder), "--style", "cover"]) == 0
    text = capsys.readouterr().out
    assert "By folio size\n=============\n" in text
    assert text.isascii()


def test_message_shows_what_was_asked_for(folder, capsys):
    assert cli.main(["message", "--lab", str(folder), "--arch", "x86_64", "--orders", "1"]) == 0
    text = capsys.readouterr().out
    assert "8 KiB            200         100 -50.0%" in text
    assert "4 KiB" not in text
    assert "arm64" not in text


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--style", "blocks"], "--style blocks: tells times"),
        (["--machine", "a.csv"], "leave --machine, --map and --reclaim out"),
        (["--map", "1G"], "leave --machine, --map and --reclaim out"),
        (["--orders", "7"], "no architecture and order was measured with before and after both"),
    ],
)
def test_what_does_not_go_with_it_is_refused(folder, capsys, words, what):
    assert cli.main(["message", "--lab", str(folder), *words]) == 2
    assert what in capsys.readouterr().err


def test_a_folder_without_tables_is_refused(tmp_path, folder):
    with pytest.raises(
        LabError, match=r"no/instructions\.csv: No such file or directory; expected"
    ):
        told(tmp_path / "no")
    for name, content in (
        ("provenance.json", "{"),
        ("provenance.json", json.dumps({"guests": {}})),
        ("instructions.csv", "arch,order\nx86_64,4\n"),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        with pytest.raises(
            LabError, match=r"expected (a folder that reclaim lab|before and after)"
        ):
            told(folder)
        (folder / name).write_text(before)


def test_rows_of_several_requests_are_refused(folder):
    path = folder / "instructions.csv"
    with path.open(newline="") as table:
        rows = list(csv.DictReader(table))
    rows[0]["cpus"] = "2"
    with path.open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(LabError, match="the table has 2 kinds of requests"):
        told(folder)


def test_both_sides_go_into_one_table():
    rows = compare.sides([measured("arm64", 1)], [measured("arm64", 2)])
    assert [(one.runs[0].kernel, one.runs[0].ns) for one in rows] == [("before", 1), ("after", 2)]


def test_the_shipped_table_by_kernel():
    cells = compare.of_file("", "references", "unmap", "classic")
    assert cells["arm64", 8] == (50_672_000, 12_625_000)
    assert len(cells) == 16
    saved, where = compare.most_saved(cells)
    assert where == ("arm64", "1 MiB")
    assert saved == pytest.approx(1 - 12_625_000 / 50_672_000)


def test_kernels_that_a_table_lacks_are_told():
    with pytest.raises(LabError, match="has no cells of mine and unmap both"):
        compare.of_file(str(SHIPPED / "instructions.csv"), "mine", "unmap", "classic")
