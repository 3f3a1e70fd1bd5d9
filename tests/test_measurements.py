# SPDX-License-Identifier: GPL-2.0-only
import hashlib
import io
import re
import shutil

import pandas as pd
import pytest

from analysis import measurements
from analysis.measurements import CELL, MeasurementError
from sim import FILE_SERIES

FACTS = {"sha256", "what", "how", "where", "kernel", "n"}
FILES = sorted(measurements.manifest())
CHECKOUT = measurements.DATA


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Point the loader at a copy of data/ that a test may spoil."""
    copy = tmp_path / "data"
    shutil.copytree(CHECKOUT, copy)
    monkeypatch.setattr(measurements, "DATA", copy)
    measurements.manifest.cache_clear()
    yield copy
    measurements.manifest.cache_clear()


def test_manifest_lists_every_file_and_nothing_else():
    there = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.rglob("*") if path.is_file()} - {
        "manifest.toml"
    }
    assert there == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_its_facts_and_digest(name):
    entry = measurements.manifest()[name]
    assert set(entry) == FACTS
    assert all(isinstance(fact, str) and fact.strip() for fact in entry.values())
    assert re.fullmatch("[0-9a-f]{64}", entry["sha256"])
    assert hashlib.sha256((CHECKOUT / name).read_bytes()).hexdigest() == entry["sha256"]
    assert len(measurements.load(name)) > 0


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_an_error_that_names_the_file(shipped, name):
    content = bytearray((shipped / name).read_bytes())
    content[-2] ^= 1
    (shipped / name).write_bytes(content)
    with pytest.raises(MeasurementError, match="changed after it was measured") as caught:
        measurements.load(name)
    assert str(shipped / name) in str(caught.value)
    for other in set(FILES) - {name}:
        measurements.load(other)


@pytest.mark.parametrize("spoil", [lambda text: text + b"\n", lambda text: text[:-1]])
def test_a_byte_more_or_less_is_a_change_too(shipped, spoil):
    path = shipped / "published/reclaim.csv"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(MeasurementError, match=re.escape(str(path))):
        measurements.published()


def test_a_missing_file_is_named(shipped):
    (shipped / "host/order_sweep.csv").unlink()
    with pytest.raises(MeasurementError, match=r"host/order_sweep\.csv: No such file"):
        measurements.host_sweep()


@pytest.mark.parametrize("content", [None, b"[", b"a = \n", b"\xff\xfe", b'["a"]\nn = 1\nn = 2\n'])
def test_a_manifest_that_cannot_be_read_says_what_to_do(shipped, content):
    manifest = shipped / "manifest.toml"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_bytes(content)
    with pytest.raises(MeasurementError, match="take the file back from git") as caught:
        measurements.load("published/reclaim.csv")
    assert str(manifest) in str(caught.value)


def test_a_manifest_entry_without_a_digest_is_an_error_of_that_file(shipped):
    (shipped / "manifest.toml").write_text('["published/reclaim.csv"]\nwhat = "x"\n')
    with pytest.raises(MeasurementError, match=r"reclaim\.csv: sha256 is .* says nothing"):
        measurements.load("published/reclaim.csv")


@pytest.mark.parametrize(
    "name", ["", "reclaim.csv", "published/RECLAIM.csv", "manifest.toml", "../pyproject.toml"]
)
def test_only_what_the_manifest_knows_is_loaded(name):
    with pytest.raises(MeasurementError, match=r"not in .*manifest\.toml"):
        measurements.load(name)


def runs(*of_a_cell):
    cell = "arm64,classic,off,1,1,268435456,214748364"
    header = ",".join([*CELL[:-2], "order,kernel,rep,instructions,pgscan,pgsteal"])
    rows = [f"{cell},{row}" for row in of_a_cell]
    return pd.read_csv(io.StringIO("\n".join([header, *rows])))


def estimates(monkeypatch, *of_a_cell):
    monkeypatch.setattr(measurements, "load", lambda _: runs(*of_a_cell))
    return measurements.instructions.__wrapped__().set_index(["order", "kernel"])


def test_the_least_of_the_repeats_stands_and_the_row_is_that_runs(monkeypatch):
    cells = estimates(
        monkeypatch, "4,base,0,110,7,8", "4,base,1,100,5,6", "4,base,2,105,9,9", "4,unmap,0,50,1,1"
    )
    row = cells.loc[(4, "base")]
    assert (row["instructions"], row["pgscan"], row["pgsteal"], row["n"]) == (100, 5, 6, 3)
    assert row["spread"] == pytest.approx(0.1)


def test_one_run_has_no_spread_rather_than_none(monkeypatch):
    row = estimates(monkeypatch, "4,base,0,110,7,8").loc[(4, "base")]
    assert row["n"] == 1
    assert pd.isna(row["spread"])


def test_two_runs_alike_have_a_spread_of_0(monkeypatch):
    row = estimates(monkeypatch, "4,base,0,110,7,8", "4,base,1,110,7,8").loc[(4, "base")]
    assert (row["n"], row["spread"]) == (2, 0.0)


def test_every_run_shipped_belongs_to_one_cell():
    cells = measurements.instructions()
    shipped = measurements.load("emulated/instructions.csv")
    assert not cells.duplicated(CELL).any()
    assert cells["n"].sum() == len(shipped)
    assert set(cells["instructions"]) <= set(shipped["instructions"])


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
@pytest.mark.parametrize("order", [0, 1, 2, 4, 5, 7, 8, 9])
def test_the_plain_world_was_run_once_a_kernel(arch, order):
    cells = measurements.plain_cells(arch, order)
    assert sorted(cells.index) == sorted(FILE_SERIES)
    alike = {"arch": arch, "order": order, "lru": "classic", "stats_worker": "off"}
    alike |= {"cpus": 1, "mapped_by": 1, "map_bytes": 256 << 20, "reclaim_bytes": 214_748_364}
    for column, value in alike.items():
        assert set(cells[column]) == {value}


@pytest.mark.parametrize(("arch", "order"), [("arm64", 3), ("arm64", 6), ("riscv", 4)])
def test_what_was_not_run_has_no_plain_cells(arch, order):
    assert measurements.plain_cells(arch, order).empty


def test_shares_of_a_profile_lie_beneath_their_functions(monkeypatch):
    cell = dict(zip(CELL, ("arm64", "classic", "off", 1, 1, 256, 200, 4, "base"), strict=True))
    beneath = {"init": 1000, "folio_referenced": 400, "try_to_unmap": 250, "shrink_node": 990}
    rows = [cell | {"function": name, "beneath": count} for name, count in beneath.items()]
    monkeypatch.setattr(measurements, "load", lambda _: pd.DataFrame(rows))
    found = measurements.shares.__wrapped__()
    assert found[["check", "unmap", "rest"]].to_numpy().tolist() == [[0.4, 0.25, 0.35]]
    assert found[CELL].to_dict("records") == [cell]


def test_shipped_profiles_are_of_cells_before_the_last_patch():
    found = measurements.shares()
    assert not found.duplicated(CELL).any()
    assert set(found["kernel"]) == {"base", "references"}
    assert set(found["order"]) == {0, 1, 2, 4, 5, 7, 8}
    assert len(found) == 2 * 2 * 2 * 7
    assert found[["check", "unmap", "rest"]].sum(axis=1).to_numpy() == pytest.approx(1)
    # Without a batch the larger a folio, the more of its reclaim is the walk of its PTEs.
    base = found[(found["kernel"] == "base") & (found["lru"] == "classic")]
    for _, cells in base.groupby("arch"):
        assert cells.sort_values("order")["rest"].is_monotonic_decreasing
