# SPDX-License-Identifier: GPL-2.0-only
import subprocess

import pytest

from lab import switches, tree
from lab.errors import LabError

FILES = {
    "Makefile": "all:\n",
    "mm/vmscan.c": "#include <linux/mm.h>\n",
    "mm/Makefile": "obj-y := vmscan.o\n",
    "fs/ext4/file.c": "#include <linux/fs.h>\nint ext4_file_open(int a)\n{\n\tif (a)\n\t\t;\n}\n",
    "scripts/run.sh": "#!/bin/sh\n",
}


def fill(folder, files=FILES):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "scripts/run.sh").chmod(0o755)
    (folder / "link").symlink_to("mm/vmscan.c")


def git(folder, *words):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *words],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "linux").mkdir()
    fill(tmp_path / "linux")
    return tmp_path / "linux"


@pytest.fixture
def repository(folder):
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def listing(where):
    return {
        str(path.relative_to(where)): path.read_text()
        for path in where.rglob("*")
        if path.is_file() and ".git/" not in str(path)
    }


def test_a_folder_is_copied_without_what_a_build_left(folder, tmp_path):
    for path in ("mm/vmscan.o", "mm/.vmscan.o.cmd", ".config", "include/generated/a.h", "vmlinux"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("built")
    to = tmp_path / "copy"
    tree.copy(tree.of(str(folder)), to, {}, {})
    assert listing(to) == FILES | {"link": FILES["mm/vmscan.c"]}
    assert (to / "link").is_symlink()
    assert (to / "scripts/run.sh").stat().st_mode & 0o100


def test_a_revision_is_copied_whatever_the_folder_holds_now(repository, tmp_path):
    (repository / "mm/vmscan.c").write_text("changed\n")
    to = tmp_path / "copy"
    tree.copy(tree.of("HEAD", str(repository)), to, {}, {})
    assert (to / "mm/vmscan.c").read_text() == FILES["mm/vmscan.c"]
    tree.copy(tree.of(str(repository)), to, {}, {})
    assert (to / "mm/vmscan.c").read_text() == "changed\n"


def test_a_tree_is_only_read(repository, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    for what in ("HEAD", str(repository)):
        found = tree.of(what, str(repository))
        tree.copy(found, tmp_path / "copy", switches.edits(["folio_order"]), {})
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


def test_only_what_differs_is_written(folder, tmp_path):
    to = tmp_path / "copy"
    tree.copy(tree.of(str(folder)), to, {}, {"mm/new.c": "1\n"})
    old = {path: path.stat().st_mtime_ns for path in to.rglob("*.*")}
    (folder / "mm/vmscan.c").write_text("changed\n")
    (folder / "mm/Makefile").unlink()
    tree.copy(tree.of(str(folder)), to, {}, {"mm/new.c": "1\n"})
    changed = {path.name for path, at in old.items() if path.lstat().st_mtime_ns != at}
    assert changed == {"vmscan.c"}
    assert not (to / "mm/Makefile").exists()


def test_the_id_tells_trees_apart(folder):
    first = tree.of(str(folder)).id
    assert tree.of(str(folder)).id == first
    (folder / "Makefile").write_text("all: x\n")
    assert tree.of(str(folder)).id != first


def test_switches_go_into_the_copy(folder, tmp_path):
    to, names = tmp_path / "copy", ["folio_order"]
    found = tree.of(str(folder))
    tree.copy(found, to, switches.edits(names), switches.new_files(names))
    assert "reclaim_lab_set_order(inode);" in (to / "fs/ext4/file.c").read_text()
    assert "reclaim_lab.o" in (to / "mm/Makefile").read_text()
    assert (to / "mm/reclaim_lab.c").exists()
    assert "reclaim_lab" not in (folder / "fs/ext4/file.c").read_text()


def test_a_tree_without_a_file_to_edit_is_refused(folder, tmp_path):
    (folder / "fs/ext4/file.c").unlink()
    with pytest.raises(LabError, match=r"found no fs/ext4/file\.c"):
        tree.copy(tree.of(str(folder)), tmp_path / "copy", switches.edits(["folio_order"]), {})


@pytest.mark.parametrize(
    ("what", "told"),
    [("nothing", "found neither a folder nor a revision"), ("--help", "found neither a folder")],
)
def test_what_is_no_tree_is_refused(repository, what, told):
    with pytest.raises(LabError, match=told):
        tree.of(what, str(repository))


def test_a_folder_or_revision_that_is_no_kernel_is_refused(tmp_path, repository):
    with pytest.raises(LabError, match=r"found no mm/vmscan\.c; expected a kernel tree"):
        tree.of(str(tmp_path))
    git(repository, "rm", "-q", "mm/vmscan.c")
    git(repository, "commit", "-qm", "two")
    with pytest.raises(LabError, match=r"HEAD: found no mm/vmscan\.c in it"):
        tree.of("HEAD", str(repository))
