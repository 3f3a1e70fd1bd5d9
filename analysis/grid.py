# SPDX-License-Identifier: GPL-2.0-only
"""The points of a sweep: what `-p order=0:9 -p arch=arm64,x86_64` asks of a notebook.

A parameter's values stand between commas; `a:b` is each whole number from a to b where the
parameter takes a whole number. A value that holds a comma is quoted, as in CSV. For a notebook of
the workbook each point is checked as its parameters say; of another notebook, papermill says what
its parameters cell holds.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache
from itertools import product
from pathlib import Path

from analysis.params import NOTEBOOKS, PARAMETERS, read

# More would take days, and is a slip of the finger.
MOST_POINTS = 100_000
_RANGE = re.compile(r"(-?\d+):(-?\d+)", re.ASCII)
# What a notebook without a kernel of its own is run by.
ANY_PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}
_WHOLE = re.compile(r"-?\d+", re.ASCII)
_NAME = re.compile(r"[^\W\d]\w*")
_WORDS = {"true": True, "false": False, "none": None}


class GridError(ValueError):
    """A grid that cannot be read; says which parameter, what was found and what is expected."""


def points(notebook: Path, asked: Sequence[str]) -> list[dict[str, object]]:
    """Return the parameters of each point, the last of the parameters asked for turning fastest.

    Args:
        notebook: the notebook's path; a name of `PARAMETERS` has its parameters.
        asked: NAME=VALUES, one a parameter.

    Returns:
        Of a notebook of the workbook every parameter but `out`; of another what is asked for.

    Raises:
        GridError: not NAME=VALUES, a name or a value twice, no values, or too many points.
        ParamsError: a name or a value that the notebook does not take.
    """
    known = notebook.stem if notebook.stem in PARAMETERS else None
    values = {}
    for text in asked:
        name, listed = _split(text)
        if name in values:
            raise GridError(f"{text}: {name} is given twice; put its values into one -p")
        if name == "out":
            raise GridError(f"{text}: a sweep gives each point its own `out`; use --out DIR")
        values[name] = _values(text, listed, _reader(known, name))
    if (nr := math.prod(map(len, values.values()))) > MOST_POINTS:
        raise GridError(f"{nr:,} points: expected at most {MOST_POINTS:,}")
    grid = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    if known is None:
        _check_names(notebook, values)
        return grid
    return [_without_out(asdict(read(known, point))) for point in grid]


def find(notebook: str) -> Path:
    """Return the path of a notebook given by path, or by its name in the workbook.

    Raises:
        GridError: there is none.
    """
    path = Path(notebook).expanduser()
    if path.is_file():
        return path.resolve()
    own = NOTEBOOKS / f"{path.name.removesuffix('.ipynb')}.ipynb"
    if path.name == str(path) and own.is_file():
        return own
    raise GridError(f"{notebook}: no such notebook; there are {', '.join(PARAMETERS)}")


def swept(grid: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the names of the parameters that differ between points."""
    names = list(dict.fromkeys(name for point in grid for name in point))
    return [name for name in names if len({json.dumps(point.get(name)) for point in grid}) > 1]


def label(point: Mapping[str, object], names: Sequence[str]) -> str:
    """Return a point as people write it: order=4 arch=arm64."""
    return " ".join(f"{name}={point[name]}" for name in names if name in point)


def takes_out(notebook: Path) -> bool:
    """Return whether a notebook has a parameter `out`, a folder that it saves results in."""
    return notebook.stem in PARAMETERS or "out" in _inferred(notebook)


def _split(text: str) -> tuple[str, str]:
    name, equals, listed = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise GridError(f"{text!r}: expected NAME=VALUES, such as order=0:9 or arch=arm64,x86_64")
    return name, listed


def _values(text: str, listed: str, read_one: Callable[[str], list]) -> list:
    try:
        items = [item.strip() for item in next(csv.reader([listed], strict=True), [])]
    except csv.Error as error:
        raise GridError(f"{text}: {error}; quote a value with commas as in CSV") from None
    if not all(items) or not items:
        raise GridError(f"{text}: a value is empty; expected values with commas between them")
    found = [value for item in items for value in read_one(item)]
    seen = set()
    for value in found:
        if (key := json.dumps(value)) in seen:
            raise GridError(f"{text}: {value} is there twice")
        seen.add(key)
    return found


def _reader(known: str | None, name: str) -> Callable[[str], list]:
    if known is None:
        return _whole_numbers_or(_guessed)
    types = {each.name: each.type for each in fields(PARAMETERS[known])}
    if types.get(name) is int:
        return _whole_numbers_or(lambda item: int(item) if _WHOLE.fullmatch(item) else item)
    if types.get(name) is float:
        return lambda item: [_number(item)]
    return lambda item: [item]


def _whole_numbers_or(read_one: Callable[[str], object]) -> Callable[[str], list]:
    def read_item(item: str) -> list:
        match = _RANGE.fullmatch(item)
        if not match:
            return [read_one(item)]
        first, last = map(int, match.groups())
        if last < first:
            raise GridError(f"{item}: holds no number; write the smaller one first")
        if last - first >= MOST_POINTS:
            nr_values = last - first + 1
            raise GridError(f"{item}: {nr_values:,} values; expected at most {MOST_POINTS:,}")
        return list(range(first, last + 1))

    return read_item


def _number(item: str) -> object:
    try:
        return float(item)
    except ValueError:
        return item  # refused by the notebook's parameters, with what they take


# As papermill's -p reads text.
def _guessed(item: str) -> object:
    if item.lower() in _WORDS:
        return _WORDS[item.lower()]
    for kind in (int, float):
        try:
            value = kind(item)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return item


@cache
def _inferred(notebook: Path) -> list[str]:
    import nbformat  # noqa: PLC0415 - a second, for foreign notebooks only
    from papermill import inspect_notebook  # noqa: PLC0415

    try:
        found = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        raise GridError(f"{notebook}: no notebook: {error}") from None
    spec = found.metadata.setdefault("kernelspec", dict(ANY_PYTHON))
    if (language := spec.setdefault("language", "python")) != "python":
        raise GridError(f"{notebook}: written in {language}; expected Python")
    return list(inspect_notebook(found))


def _check_names(notebook: Path, names: Mapping[str, object]) -> None:
    takes = _inferred(notebook)
    if unknown := [name for name in names if name not in takes]:
        told = ", ".join(takes) or "none: it has no cell tagged `parameters`"
        raise GridError(f"{notebook.name}: no parameter {', '.join(unknown)}; there are {told}")


def _without_out(point: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in point.items() if name != "out"}
