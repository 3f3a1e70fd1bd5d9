# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from analysis import params
from analysis.elapsed import published_seconds
from analysis.params import PARAMETERS, ParamsError

SIMULATE = "02_simulate_reclaim"


def simulate_globals(*cells, **changed):
    given = asdict(params.read(SIMULATE, {})) | changed
    return given | {"In": ["", *cells, "params.check(...)"]}


@pytest.mark.parametrize("notebook", PARAMETERS)
def test_defaults_are_allowed_and_frozen(notebook):
    asked = params.read(notebook, {})
    assert params.notebook_of(asked) == notebook
    assert params.inputs(asked).keys() == asdict(asked).keys() - {"out"}
    with pytest.raises(FrozenInstanceError):
        asked.out = "elsewhere"


def test_text_from_a_shell_is_read_by_the_declared_type():
    asked = params.read(SIMULATE, {"order": "9", "map_size": "1073741824", "kernel": "base"})
    assert (asked.order, asked.map_size, asked.kernel) == (9, "1073741824", "base")
    assert asked.world.map_bytes == 1 << 30
    assert params.read("05_predict_x86", {"blind": "true"}).blind is True
    assert params.read("05_predict_x86", {"blind": "False"}).blind is False


@pytest.mark.parametrize(
    ("notebook", "given", "said"),
    [
        (SIMULATE, {"ordr": 4}, "ordr: no such parameter (did you mean order?)"),
        (SIMULATE, {"xyzzy": 4}, "xyzzy: no such parameter"),
        (SIMULATE, {"order": 10}, "order 10: expected 0 to 9"),
        (SIMULATE, {"order": -1}, "order -1: expected 0 to 9"),
        (SIMULATE, {"order": "-1"}, "order -1: expected 0 to 9"),
        (SIMULATE, {"order": True}, "order True (bool): expected int"),
        (SIMULATE, {"order": 4.0}, "order 4.0 (float): expected int"),
        (SIMULATE, {"order": "4.0"}, "order '4.0' (str): expected int"),
        (SIMULATE, {"order": "four"}, "order 'four' (str): expected int"),
        (SIMULATE, {"order": ""}, "order '' (str): expected int"),
        (SIMULATE, {"order": None}, "order None (NoneType): expected int"),
        (SIMULATE, {"arch": "amd64"}, "arch 'amd64': expected one of arm64, "),
        (SIMULATE, {"arch": "ARM64"}, "expected one of arm64, arm64-16k, "),
        (SIMULATE, {"kernel": "7.0"}, "one of base, references, unmap, unmap-only"),
        (SIMULATE, {"lru": "fifo"}, "lru 'fifo': expected one of classic"),
        (SIMULATE, {"map_size": 1024}, "map_size 1024 (int): expected str; papermill -r"),
        (SIMULATE, {"map_size": "ten"}, "expected a size, such as 256M, 0.2G or 10G"),
        (SIMULATE, {"map_size": "0"}, "expected a size"),
        (SIMULATE, {"map_size": "-1G"}, "expected a size"),
        (SIMULATE, {"map_size": "4K", "order": 4}, "smaller than one order-4 folio"),
        (SIMULATE, {"reclaim_size": "4095"}, "less than one page"),
        (SIMULATE, {"access": "read"}, "one of pread, mmap"),
        (SIMULATE, {"mapped_by": 0}, "mapped_by 0: expected 1 to"),
        (SIMULATE, {"cpus": 3}, "cpus 3: expected 1 to 2"),
        (SIMULATE, {"out": 2026}, "out 2026 (int): expected str"),
        ("01_measurements", {"order": 4}, "order: no such parameter"),
        ("04_explain_speedup", {"order": 0}, "order 0: expected 1 to 8"),
        ("04_explain_speedup", {"order": 9}, "order 9: expected 1 to 8"),
        ("04_explain_speedup", {"after": "unmap-only"}, "one of base, references, unmap"),
        ("04_explain_speedup", {"before": "unmap"}, "both 'unmap': expected two kernels"),
        ("03_fit_costs", {"coverage_sets": 5}, "coverage_sets 5: expected 20 to 10000"),
        ("05_predict_x86", {"order": 9}, "order 9: expected 1 to 8"),
        ("05_predict_x86", {"blind": 1}, "blind 1 (int): expected bool"),
        ("05_predict_x86", {"blind": "yes"}, "blind 'yes' (str): expected bool"),
        ("05_predict_x86", {"orders": ""}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": "4-6"}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": "6:4"}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": "0:10"}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": "1,,2"}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": "²"}, "folio orders 0 to 9"),
        ("05_predict_x86", {"orders": 4}, "orders 4 (int): expected str"),
        ("06_commit_message", {"arches": "arm64,"}, "one or more of arm64, x86_64"),
        ("06_commit_message", {"arches": "riscv"}, "one or more of arm64, x86_64"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(notebook, given, said):
    with pytest.raises(ParamsError) as refusal:
        params.read(notebook, given)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith(f"{notebook}: ")
    assert str(refusal.value).endswith(params.allowed(notebook))


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(ParamsError, match=r"arch 'mips'.*; order 11"):
        params.read(SIMULATE, {"order": 11, "arch": "mips"})


def test_what_is_allowed_lists_every_parameter():
    for notebook, kind in PARAMETERS.items():
        lines = params.allowed(notebook).splitlines()
        assert [line.split(":")[0].strip() for line in lines] == [f.name for f in fields(kind)]


def test_an_unknown_notebook_is_refused_with_the_nearest():
    with pytest.raises(ParamsError, match=r"did you mean 03_fit_costs\?"):
        params.read("03_fit_cost", {})


def test_orders_and_arches_are_read_as_lists():
    asked = params.read("06_commit_message", {"orders": "9, 2,4:6,5", "arches": "x86_64, arm64"})
    assert asked.folio_orders == (2, 4, 5, 6, 9)
    assert asked.arch_names == ("x86_64", "arm64")


def test_kernels_with_a_published_time_are_those_that_the_measurements_have():
    assert tuple(published_seconds()) == params.PUBLISHED


def test_the_check_converts_nothing():
    assert params.check(SIMULATE, simulate_globals(order=7)).order == 7
    with pytest.raises(ParamsError, match=r"order '7' \(str\): expected int"):
        params.check(SIMULATE, simulate_globals(order="7"))


def test_the_check_refuses_a_name_that_papermill_injected():
    injected = '# Parameters\nkernel = "base"\nordr = 3\n'
    with pytest.raises(ParamsError, match=r"ordr: no such parameter \(did you mean order\?\)"):
        params.check(SIMULATE, simulate_globals("order: int = 4", injected, ordr=3))


def test_the_check_refuses_a_name_added_to_the_parameters_cell():
    cell = "\n".join(f"{name}: object = 0" for name in asdict(params.read(SIMULATE, {})))
    params.check(SIMULATE, simulate_globals(cell))
    with pytest.raises(ParamsError, match="ordr: no such parameter"):
        params.check(SIMULATE, simulate_globals(f"{cell}\nordr: int = 3", ordr=3))


@pytest.mark.parametrize(
    "cell",
    ["x = 3", "order = 6\nx = 3", "%timeit f()", "!ls", "x = ", "# Parameters\n%%bash", "é\0", ""],
)
def test_the_check_lets_other_cells_do_as_they_like(cell):
    assert params.check(SIMULATE, simulate_globals("injected elsewhere", cell, x=3)).order == 4


def test_an_injected_cell_counts_only_just_before_the_check():
    injected = "# Parameters\nordr = 3\n"
    params.check(SIMULATE, simulate_globals(injected, "order = 5", ordr=3))


def test_the_check_works_without_ipython_and_asks_for_the_parameters_cell():
    namespace = simulate_globals()
    del namespace["In"]
    params.check(SIMULATE, namespace)
    del namespace["order"]
    with pytest.raises(ParamsError, match="order: not set; run the parameters cell"):
        params.check(SIMULATE, namespace)
