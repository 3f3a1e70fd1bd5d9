# SPDX-License-Identifier: GPL-2.0-only
import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import files, packages_distributions
from importlib.util import cache_from_source
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SPDX = "# SPDX-License-Identifier: GPL-2.0-only"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PYTHONS = ("3.11.0", "3.11.7", "3.12.1", "3.13.0", "3.14.0")
CONDA_NAMES = {"matplotlib-base": "matplotlib", "jupyter_client": "jupyter-client"}


def read_lock(text):
    """Pair each requirement of a lock with its options, refusing every other kind of line."""
    logical = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    entries = [re.split(r"\s+(?=--)", line.strip()) for line in logical.splitlines() if line]
    return [(Requirement(entry[0]), entry[1:]) for entry in entries]


def requirements(*groups):
    return [Requirement(line) for line in chain.from_iterable(groups)]


RUNTIME = PROJECT["dependencies"]
TEST = PROJECT["optional-dependencies"]["test"]
DASK = PROJECT["optional-dependencies"]["dask"]
BUILD = PYPROJECT["build-system"]["requires"]


@pytest.fixture(scope="module")
def tracked():
    """List the files of the checkout, also those not yet added, without what git ignores."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of the project's own files")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_environment_yml_agrees_with_pyproject():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = requirements(line for line in lines if isinstance(line, str))
    found = {CONDA_NAMES.get(entry.name, entry.name): entry.specifier for entry in conda}
    expected = {entry.name: entry.specifier for entry in requirements(RUNTIME, TEST)}
    expected |= {
        "python": Requirement("python" + PROJECT["requires-python"]).specifier,
        "pip": Requirement("pip").specifier,
    }
    assert found == expected
    assert len(conda) == len(found)
    assert [line for line in lines if not isinstance(line, str)] == [{"pip": ["-e ."]}]


def test_build_group_is_what_the_backend_requires():
    assert PYPROJECT["dependency-groups"]["build"] == BUILD


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_one_version_within_bounds(python):
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    pins = defaultdict(list)
    for entry, _ in read_lock(LOCK):
        if entry.marker is None or entry.marker.evaluate(environment):
            pins[entry.name].append(str(entry.specifier).removeprefix("=="))
    for wanted in requirements(RUNTIME, TEST, BUILD):
        locked = pins[canonicalize_name(wanted.name)]
        assert len(locked) == 1, f"{wanted}: locked {locked}"
        assert Version(locked[0]) in wanted.specifier


def test_lock_hashes_every_entry_and_names_no_place():
    for entry, options in read_lock(LOCK):
        assert re.fullmatch(r"==[^,*]+", str(entry.specifier)), f"{entry} is not pinned"
        assert entry.url is None
        assert options, f"{entry} has no hash"
        for option in options:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option), f"{entry}: {option}"
    assert "://" not in LOCK


@pytest.mark.parametrize(
    "line",
    ["--find-links /somewhere", "-i somewhere", "-e .", "./a.whl", "https" + "://host/a.whl"],
)
def test_a_lock_line_that_is_no_requirement_is_refused(line):
    with pytest.raises(InvalidRequirement):
        read_lock(line)


def test_installed_packages_come_with_bytecode():
    # JupyterLab stands for all: a big package, and one that no test imports.
    modules = [Path(file.locate()) for file in files("jupyterlab") if file.suffix == ".py"]
    assert modules
    missing = [path for path in modules if not Path(cache_from_source(path)).exists()]
    assert not missing, "without bytecode every notebook starts slowly: install with --compile"


def test_python_files_start_with_the_licence(tracked):
    sources = [path for path in tracked if path.suffix == ".py"]
    assert Path(__file__) in sources
    assert [path for path in sources if not path.read_text().startswith(SPDX + "\n")] == []


def test_no_file_names_a_package_index(tracked):
    # Written in halves, for this file is one of those searched.
    places = ("index" + "-url", "pypi" + ".org", "python" + "hosted.org")
    named = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in tracked
        for place in places
        if place.encode() in path.read_bytes().lower()
    ]
    assert named == []


def imported(path):
    """Yield the top-level name of each module that a source file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("place", "groups"),
    [
        ("sim", [RUNTIME]),
        ("analysis", [RUNTIME, DASK]),
        ("lab", [RUNTIME]),
        ("tests", [RUNTIME, TEST]),
    ],
)
def test_what_is_imported_is_declared(place, groups):
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    own |= {path.stem for path in (ROOT / place).rglob("*.py")}
    declared = {canonicalize_name(entry.name) for entry in requirements(*groups)}
    undeclared = defaultdict(set)
    providers = packages_distributions()
    for path in (ROOT / place).rglob("*.py"):
        for name in set(imported(path)) - own - sys.stdlib_module_names:
            if not declared & {canonicalize_name(dist) for dist in providers.get(name, [])}:
                undeclared[name].add(str(path.relative_to(ROOT)))
    assert undeclared == {}
