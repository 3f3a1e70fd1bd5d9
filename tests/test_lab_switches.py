# SPDX-License-Identifier: GPL-2.0-only
import re

import pytest

from lab import switches
from lab.errors import AnchorError, LabError

# Functions of our own writing that are shaped as the kernel's are.
RMAP = """\
/* of our own */
#include <linux/mm.h>
#include <linux/rmap.h>

static bool folio_referenced_one(struct folio *folio,
\t\tstruct vm_area_struct *vma, unsigned long address, void *arg);

static bool folio_referenced_one(struct folio *folio,
\t\tstruct vm_area_struct *vma, unsigned long address, void *arg)
{
\tint nr;

\twhile (walk(&pvmw)) {
\t\tnr = 1;
\t\tif (pvmw.pte && folio_test_large(folio)) {
\t\t\tnr = count(&pvmw);
\t\t}
\t}
\treturn true;
}

static inline unsigned int folio_unmap_pte_batch(struct folio *folio,
\t\tenum ttu_flags flags)
{
\tunsigned int max_nr;

\tif (flags & TTU_HWPOISON)
\t\treturn 1;
\tif (!folio_test_large(folio))
\t\treturn 1;

\treturn folio_pte_batch_flags(folio, max_nr,
\t\t\t\tFPB_RESPECT_WRITE);
}
"""
MEMCG = """\
#include <linux/memcontrol.h>

void mem_cgroup_flush_stats_ratelimited(struct mem_cgroup *memcg)
{
\tif (late())
\t\tmem_cgroup_flush_stats(memcg);
}

static void flush_memcg_stats_dwork(struct work_struct *w)
{
\t__mem_cgroup_flush_stats(root_mem_cgroup, true);
\tqueue_again();
}
"""
EXT4 = """\
#include <linux/fs.h>

static int ext4_file_open(struct inode *inode, struct file *filp)
{
\tint ret;

\tif (unlikely(forced_shutdown(inode)))
\t\treturn -EIO;
\treturn 0;
}
"""
TEXTS = {"mm/rmap.c": RMAP, "mm/memcontrol.c": MEMCG, "fs/ext4/file.c": EXT4}


def edited(path, *names):
    return switches.edits(names)[path](TEXTS[path])


def added(before, after):
    """Return the lines that only the edited text has, in order; every other line must be there."""
    old, found = iter(before.splitlines()), []
    expected = next(old, None)
    for line in after.splitlines():
        if line == expected:
            expected = next(old, None)
        else:
            found.append(line)
    assert expected is None, "an edit only ever adds lines"
    return found


def test_reference_switch_is_asked_last():
    text = edited("mm/rmap.c", "no_reference_batch")
    condition = "pvmw.pte && folio_test_large(folio)"
    switched = f"if ({condition} && !READ_ONCE(reclaim_lab_no_reference_batch)) {{"
    assert text.count(switched) == 1
    back = text.replace(switched, f"if ({condition}) {{").replace(switches.INCLUDE + "\n", "")
    assert back == RMAP


def test_unmap_switch_comes_before_the_count():
    text = edited("mm/rmap.c", "no_unmap_batch")
    line = "\tif (READ_ONCE(reclaim_lab_no_unmap_batch)) return 1;"
    assert added(RMAP, text) == [switches.INCLUDE, line]
    assert f"{line}\n\treturn folio_pte_batch_flags(" in text


def test_unmap_switch_comes_before_what_kind_of_folio_it_is():
    anon = "\tif (folio_test_anon(folio) && folio_test_swapbacked(folio))\n\t\treturn 1;\n"
    counted = "\treturn folio_pte_batch_flags("
    text = switches.edits(["no_unmap_batch"])["mm/rmap.c"](RMAP.replace(counted, anon + counted))
    line = "\tif (READ_ONCE(reclaim_lab_no_unmap_batch)) return 1;"
    assert text.count(line) == 1
    assert f"{line}\n{anon}{counted}" in text


def test_both_switches_of_a_file_include_the_header_once():
    text = edited("mm/rmap.c", "no_reference_batch", "no_unmap_batch")
    assert text.count(switches.INCLUDE) == 1
    assert text.index(switches.INCLUDE) > text.index("#include <linux/mm.h>")


def test_order_switch_comes_before_the_first_statement():
    text = edited("fs/ext4/file.c", "folio_order")
    assert added(EXT4, text) == [switches.INCLUDE, "\treclaim_lab_set_order(inode);"]
    assert text.index("int ret;") < text.index("set_order") < text.index("if (unlikely")


def test_stats_switch_silences_worker_and_late_flush():
    text = edited("mm/memcontrol.c", "no_stats_worker")
    assert "\tif (reclaim_lab_no_stats_worker) return;\n\tif (late())" in text
    guarded = "\t__mem_cgroup_flush_stats(root_mem_cgroup, true);"
    assert f"\tif (!reclaim_lab_no_stats_worker)\n{guarded}" in text
    assert text.count("reclaim_lab_no_stats_worker") == 2


@pytest.mark.parametrize("name", switches.SWITCHES)
def test_each_switch_is_declared_defined_and_a_parameter(name):
    new = switches.new_files([name])
    ctype = switches.SWITCHES[name].ctype
    assert f"extern {ctype} reclaim_lab_{name};" in new["include/linux/reclaim_lab.h"]
    source = new["mm/reclaim_lab.c"]
    assert f"{ctype} reclaim_lab_{name} = " in source
    assert f"module_param_named({name}, reclaim_lab_{name}, {ctype}, 0644);" in source


def test_order_is_only_set_where_it_is_a_switch():
    assert "set_order" not in switches.new_files(["no_unmap_batch"])["mm/reclaim_lab.c"]
    assert "set_order" in switches.new_files(["folio_order"])["mm/reclaim_lab.c"]


def test_makefile_gets_one_line():
    edit = switches.edits(["folio_order"])["mm/Makefile"]
    assert edit("obj-y := a.o\n") == "obj-y := a.o\nobj-y += reclaim_lab.o\n"


def test_no_switch_changes_nothing():
    assert switches.edits([]) == {}
    assert switches.new_files([]) == {}


@pytest.mark.parametrize(
    ("path", "name", "function"),
    [
        (insertion.path, switch.name, insertion.function)
        for switch in switches.SWITCHES.values()
        for insertion in switch.insertions
    ],
)
def test_a_tree_without_the_function_is_refused(path, name, function):
    text = TEXTS[path].replace(function, "some_other_function")
    with pytest.raises(AnchorError, match=f"{re.escape(path)}: no function {function}") as refused:
        switches.edits([name])[path](text)
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("path", "name", "line"),
    [
        ("mm/rmap.c", "no_reference_batch", "\t\tif (pvmw.pte && folio_test_large(folio)) {"),
        ("mm/memcontrol.c", "no_stats_worker", "__mem_cgroup_flush_stats(root"),
    ],
)
def test_a_function_without_the_line_is_refused(path, name, line):
    text = TEXTS[path].replace(line, "\t\tif (other) {" if "if" in line else "other(root")
    with pytest.raises(AnchorError, match="has no line that fits"):
        switches.edits([name])[path](text)


def test_a_declaration_is_no_definition():
    text = RMAP.split("static bool folio_referenced_one")
    only_declared = text[0] + "static bool folio_referenced_one" + text[1]
    with pytest.raises(AnchorError, match="no function folio_referenced_one"):
        switches.edits(["no_reference_batch"])["mm/rmap.c"](only_declared)


def test_a_file_without_includes_is_refused():
    with pytest.raises(LabError, match="no #include"):
        switches.edits(["folio_order"])["fs/ext4/file.c"](EXT4.replace("#include <linux/fs.h>", ""))
