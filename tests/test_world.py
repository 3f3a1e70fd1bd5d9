# SPDX-License-Identifier: GPL-2.0-only
"""Worlds that cannot exist are refused with what was found and what is allowed."""

import dataclasses
import re

import pytest

import sim

pytestmark = pytest.mark.core

MIB = 1 << 20
GOOD = {"map_bytes": 8 * MIB, "reclaim_bytes": MIB}


def test_the_smallest_and_the_defaults():
    world = sim.World(**GOOD)
    assert (world.order, world.access, world.mapped_by, world.cpus) == (4, "pread", 1, 1)
    tiny = sim.World(map_bytes=4096, reclaim_bytes=4096, order=0)
    assert tiny.nr_pages(sim.ARCHES["arm64"]) == 1
    assert tiny.nr_to_reclaim(sim.ARCHES["arm64"]) == 1


@pytest.mark.parametrize("order", range(10))
def test_every_order_up_to_the_pmd(order):
    assert sim.World(**GOOD, order=order).nr_pages(sim.ARCHES["x86_64"]) == 2048


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("order", -1, "0 to 13"),
        ("order", 14, "0 to 13"),
        ("map_bytes", 0, "1 to"),
        ("map_bytes", -4096, "1 to"),
        ("map_bytes", 2**63, "1 to"),
        ("reclaim_bytes", 0, "1 to"),
        ("reclaim_bytes", -1, "1 to"),
        ("reclaim_bytes", 2**63, "1 to"),
        ("mapped_by", 0, "1 to"),
        ("mapped_by", -1, "1 to"),
        ("mapped_by", 1025, "1 to 1024"),
        ("cpus", 0, "1 to 2"),
        ("cpus", 3, "1 to 2"),
    ],
)
def test_a_number_out_of_range_is_refused(field, value, allowed):
    with pytest.raises(sim.WorldError, match=f"^{field} {value}: expected {allowed}"):
        sim.World(**GOOD | {field: value})


@pytest.mark.parametrize("field", ["order", "map_bytes", "reclaim_bytes", "mapped_by", "cpus"])
@pytest.mark.parametrize("value", [True, False, 1.0, float("nan"), "1", "256M", None, [1], 1j])
def test_what_is_not_a_whole_number_is_refused(field, value):
    told = re.escape(f"{field} {value!r}: expected a whole number")
    with pytest.raises(sim.WorldError, match=told):
        sim.World(**GOOD | {field: value})


@pytest.mark.parametrize("access", ["read", "PREAD", "", "pread ", None, 0, ["pread"]])
def test_an_unknown_access_is_refused_with_those_known(access):
    with pytest.raises(sim.WorldError, match=re.escape(f"access {access!r}")) as caught:
        sim.World(**GOOD, access=access)
    assert all(known in str(caught.value) for known in ("pread", "mmap"))


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("arch", "riscv", sim.ARCHES),
        ("arch", "x86", sim.ARCHES),
        ("arch", "ARM64", sim.ARCHES),
        ("arch", "", sim.ARCHES),
        ("arch", None, sim.ARCHES),
        ("kernel", "7.2", sim.KERNELS),
        ("kernel", "unmap_only", sim.KERNELS),
        ("kernel", "Base", sim.KERNELS),
        ("kernel", None, sim.KERNELS),
        ("lru", "lru_gen", sim.LRUS),
        ("lru", "", sim.LRUS),
        ("lru", None, sim.LRUS),
    ],
)
def test_an_unknown_name_is_refused_with_those_known(field, value, known):
    names = {"arch": "arm64", "kernel": "unmap", "lru": "classic"} | {field: value}
    with pytest.raises(sim.WorldError, match=re.escape(f"{field} {value!r}: expected")) as caught:
        sim.reclaim(sim.World(**GOOD), **names)
    assert all(name in str(caught.value) for name in known)


@pytest.mark.parametrize("order", range(10))
def test_a_file_smaller_than_a_folio_is_refused(order):
    folio_bytes = 4096 << order
    world = sim.World(map_bytes=folio_bytes - 1, reclaim_bytes=4096, order=order)
    with pytest.raises(sim.WorldError, match=f"map {folio_bytes - 1} bytes: .*{folio_bytes} bytes"):
        sim.reclaim(world, "arm64", "base")


def test_a_file_of_more_pages_than_can_be_numbered_is_refused():
    world = sim.World(map_bytes=2**63 - 1, reclaim_bytes=4096, order=9)
    with pytest.raises(sim.WorldError, match=r"pages, at most \d+"):
        sim.reclaim(world, "arm64", "base")


@pytest.mark.parametrize("reclaim_bytes", [1, 4095])
def test_a_request_under_one_page_is_refused(reclaim_bytes):
    world = sim.World(map_bytes=MIB, reclaim_bytes=reclaim_bytes)
    with pytest.raises(sim.WorldError, match=f"reclaim {reclaim_bytes} bytes: .*4096 bytes"):
        sim.reclaim(world, "x86_64", "base")


def test_a_world_error_is_a_value_error():
    assert issubclass(sim.WorldError, ValueError)


def test_positional_and_unknown_fields_are_refused():
    with pytest.raises(TypeError):
        sim.World(8 * MIB, MIB)
    with pytest.raises(TypeError, match="folio_order"):
        sim.World(**GOOD, folio_order=4)


def test_a_world_does_not_change_and_is_known_by_its_fields():
    world = sim.World(**GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        world.order = 5
    assert {world: "found"}[sim.World(**GOOD)] == "found"
    assert dataclasses.replace(world, order=5) != world
    with pytest.raises(sim.WorldError, match="order 14"):
        dataclasses.replace(world, order=14)
