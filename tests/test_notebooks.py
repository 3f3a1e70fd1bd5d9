# SPDX-License-Identifier: GPL-2.0-only
import ast
import json
import subprocess
import sys
import tokenize
from dataclasses import fields
from io import StringIO

import nbformat
import pandas as pd
import pytest

from analysis import (
    batch,
    claims,
    explain,
    fit,
    machines,
    params,
    report,
    score,
    sensitivity,
    timing,
    whatif,
)
from analysis.params import NOTEBOOKS, PARAMETERS

# Statements that belong into a module, and numbers that belong into the parameters.
HEAVY = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.AsyncFor,
    ast.While, ast.comprehension,
)  # fmt: skip


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def test_there_is_a_dataclass_for_each_notebook():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
class TestStored:
    def test_valid_and_stripped(self, name):
        notebook = read(name)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata.kernelspec.name == "python3"
        for cell in code_cells(name):
            assert cell.outputs == []
            assert cell.execution_count is None
            assert set(cell.metadata) <= {"tags"}

    def test_cell_ids_are_names(self, name):
        ids = [cell.id for cell in read(name).cells]
        assert len(set(ids)) == len(ids)
        assert all(word.isalpha() for cell_id in ids for word in cell_id.split("-"))

    def test_starts_with_a_title_and_a_question(self, name):
        cell = read(name).cells[0]
        title, blank, question = cell.source.split("\n")
        assert cell.cell_type == "markdown"
        assert title.startswith("# ")
        assert blank == ""
        assert question.endswith("?")

    def test_thin(self, name):
        cells = code_cells(name)
        assert len(cells) <= 12
        assert all(len(cell.source.splitlines()) <= 8 for cell in cells if cell.id != "parameters")
        for cell in cells:
            nodes = list(ast.walk(ast.parse(cell.source)))  # no magics: it would not parse
            assert not [node for node in nodes if isinstance(node, HEAVY)], cell.id
            if cell.id != "parameters":
                numbers = [
                    node.value
                    for node in nodes
                    if isinstance(node, ast.Constant) and type(node.value) in (int, float, complex)
                ]
                assert numbers == [], cell.id

    def test_the_parameters_cell_and_the_dataclass_agree(self, name):
        parameters, check = code_cells(name)[:2]
        assert parameters.metadata.tags == ["parameters"]
        assert check.source.endswith(f'asked = params.check("{name}", globals())')
        lines = ast.parse(parameters.source).body
        assert all(isinstance(line, ast.AnnAssign) for line in lines)
        stored = [
            (line.target.id, line.annotation.id, ast.literal_eval(line.value)) for line in lines
        ]
        declared = [(f.name, f.type.__name__, f.default) for f in fields(PARAMETERS[name])]
        assert stored == declared
        tokens = tokenize.generate_tokens(StringIO(parameters.source).readline)
        assert len([t for t in tokens if t.type == tokenize.COMMENT]) == len(lines)

    def test_ends_in_a_conclusion_and_a_saved_result(self, name):
        *_, conclusion, save = [c for c in code_cells(name) if c.id in ("conclusion", "save")]
        assert conclusion.source.endswith("\nconclusion")
        assert save.source.startswith("results.save(\n    asked,\n    conclusion,")
        assert code_cells(name)[-1].id == "save"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    assert batch.build(out) == 0
    return out


def saved(out, name):
    return json.loads((out / "results" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_notebook_saves_what_it_names_and_prints_no_warning(built, name):
    result = saved(built, name)
    assert result["notebook"] == name
    assert result["inputs"] == params.inputs(params.read(name, {}))
    for figure in result["figures"]:
        assert (built / "figures" / f"{figure['name']}.svg").stat().st_size
        assert (built / "figures" / f"{figure['name']}.png").stat().st_size
    for table in result["tables"]:
        assert len(pd.read_csv(built / "tables" / f"{table}.csv"))
    executed = nbformat.read(built / "notebooks" / f"{name}.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert [o for o in outputs if o.get("name") == "stderr"] == []
    drawn = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
    assert len(drawn) == len(result["figures"])
    assert result["conclusion"] in str(
        [o["data"]["text/plain"] for o in outputs if "data" in o]
    ).replace("\\'", "'").replace('\\"', '"')


def test_names_of_figures_and_tables_are_unique_over_all_notebooks(built):
    results = [saved(built, name) for name in PARAMETERS]
    names = [figure["name"] for result in results for figure in result["figures"]]
    tables = [table for result in results for table in result["tables"]]
    assert len(set(names)) == len(names)
    assert len(set(tables)) == len(tables)
    assert (built / "index.html").stat().st_size


def test_the_saved_numbers_are_those_of_the_modules(built):
    assert saved(built, "01_measurements")["numbers"]["published_s"]["unmap"] == 0.249
    left_out = fit.leave_one_order_out("x86_64").query("order > 0")["relative_error"].abs().mean()
    assert saved(built, "03_fit_costs")["numbers"]["left_out_error"]["x86_64"] == left_out
    explained = saved(built, "04_explain_speedup")["numbers"]
    assert explained["difference_s"] == pytest.approx(1.018 - 0.249)
    assert tuple(explained["consistent_orders"]) == explain.consistent_orders()
    assert (built / "commit-message.txt").read_text() == report.commit_message()


def test_pmd_mapped_and_small_folios_gain_nothing_on_x86(built):
    best = saved(built, "05_predict_x86")["numbers"]["best"]
    assert [int(order) for order in best] == list(range(10))
    assert best["0"] == best["9"] == 0
    assert all(best[str(order)] > 0 for order in range(1, 9))


def test_blind_predictions_are_scored_on_runs_that_they_have_not_seen(built):
    scored = pd.read_csv(built / "tables" / "blind_score.csv")
    cells, _ = fit.select("x86_64")
    told = scored.dropna(subset="measured")
    assert set(told["order"]) == set(cells["order"]) - {0}
    assert told["error"].tolist() == pytest.approx((told["best"] - told["measured"]).tolist())
    predicted = saved(built, "05_predict_x86")
    assert predicted["inputs"]["blind"] is False
    assert predicted["numbers"]["blind"] == score.blind("x86_64")[0]


def test_what_is_said_of_time_is_what_the_modules_say(built):
    host = timing.time_fit(machines.host())
    costs = pd.read_csv(built / "tables" / "time_costs.csv").query("arch == 'x86_64'")
    assert costs["verdict"].tolist() == host.table()["verdict"].tolist()
    assert explain.order_sentence() in saved(built, "04_explain_speedup")["conclusion"]
    tornado = pd.read_csv(built / "tables" / "tornado.csv")
    assert tornado["swing"].tolist() == pytest.approx(sensitivity.tornado(host, 4)["swing"])
    held = saved(built, "05_predict_x86")["numbers"]["claims"]
    assert held == {
        row.claim: row.holds
        for row in claims.score().itertuples()
        if row.size == claims.AS_ON_ARM64
    }
    further = pd.read_csv(built / "tables" / "whatif.csv")["metric"].value_counts()
    assert further["instructions"] == further["time"] == len(whatif.whatif("x86_64", 4))


def test_coverage_can_be_tried_on_few_machines(tmp_path):
    batch.run_notebook("03_fit_costs", {"coverage_sets": 20}, tmp_path)
    assert set(pd.read_csv(tmp_path / "tables" / "coverage.csv")["n"]) == {20}


def papermill(folder, *arguments):
    notebook = NOTEBOOKS / "02_simulate_reclaim.ipynb"
    command = [sys.executable, "-m", "papermill", notebook, "out.ipynb", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_plain_papermill_works_from_any_directory(tmp_path):
    given = "-p arch x86_64 -p order 4 -p kernel unmap -p map_size 256M -p reclaim_size 0.2G"
    done = papermill(tmp_path, *given.split(), "-p", "out", "here")
    assert done.returncode == 0, done.stderr
    assert saved(tmp_path / "here", "02_simulate_reclaim")["numbers"]["inputs"]["order"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-p ordr 3", "ordr: no such parameter (did you mean order?)"),
        ("-r order 3", "order '3' (str): expected int"),
        ("-p order 12", "order 12: expected 0 to 9"),
    ],
)
def test_plain_papermill_refuses_in_the_check_cell(tmp_path, arguments, said):
    done = papermill(tmp_path, *arguments.split())
    assert done.returncode != 0
    assert f"ParamsError: 02_simulate_reclaim: {said}" in done.stderr
    assert params.allowed("02_simulate_reclaim") in done.stderr
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    counts = {cell.id: cell.execution_count for cell in executed.cells if "execution_count" in cell}
    assert counts["check"] is not None
    assert counts["imports"] is None
