# SPDX-License-Identifier: GPL-2.0-only
"""What a notebook hands over: numbers and a conclusion as JSON, figures, tables and texts.

results/NAME.json names everything else that the notebook wrote, and is written last: who reads it
finds all that it names.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import figures
from analysis.files import write_whole
from analysis.params import NOTEBOOKS, Params, inputs, notebook_of
from sim.ident import short_id


class ResultsError(Exception):
    """Results that cannot be written; says which file and why."""


def save(
    asked: Params,
    conclusion: str,
    *,
    numbers: Mapping[str, object],
    assumptions: Sequence[str] = (),
    drawn: Mapping[str, Figure] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    texts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the results of one notebook below `asked.out` and return the paths, JSON last.

    Args:
        asked: the checked parameters; with an empty `out` nothing is written.
        conclusion: one sentence, formatted from the numbers.
        numbers: what the notebook found; JSON, numpy scalars, intervals (as low, best, high) and
            mappings or sequences of them. Not a number becomes null.
        assumptions: what must hold for the conclusion.
        drawn: figures of `analysis.figures` by name, to figures/NAME.svg and .png.
        tables: frames by name, to tables/NAME.csv; the index is not written.
        texts: text by file name.

    Raises:
        ResultsError: the folder cannot be written.
        TypeError: a number is not one of those above.
    """
    drawn, tables, texts = drawn or {}, tables or {}, texts or {}
    result = _heading(notebook_of(asked)) | {
        "inputs": inputs(asked),
        "numbers": _plain(numbers),
        "conclusion": conclusion,
        "assumptions": list(assumptions),
    }
    result["id"] = short_id(result)
    result["figures"] = [
        {"name": name, "title": figures.finding(figure)} for name, figure in drawn.items()
    ]
    result |= {"tables": list(tables), "texts": list(texts)}
    return _write(Path(asked.out), result, drawn, tables, texts) if asked.out else []


def read(out: Path) -> dict[str, dict]:
    """Return the saved results below `out` by notebook, in order of their names.

    A file that is not a result is left out: it is not ours.
    """
    found = {}
    for path in sorted((out / "results").glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(result, dict) and result.get("notebook") == path.stem:
            found[path.stem] = result
    return found


def remove(out: Path, notebook: str, result: Mapping) -> None:
    """Remove what one saved result names, itself included, and nothing else.

    Raises:
        ResultsError: a file cannot be removed.
    """
    names = [Path("results", f"{notebook}.json")]
    names += [Path("notebooks", f"{notebook}.{suffix}") for suffix in ("ipynb", "html")]
    for figure in result.get("figures", ()):
        names += [Path("figures", f"{figure['name']}.{suffix}") for suffix in ("svg", "png")]
    names += [Path("tables", f"{table}.csv") for table in result.get("tables", ())]
    names += [Path(Path(text).name) for text in result.get("texts", ())]
    for name in names:
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"{out / name}: {error.strerror}; remove it by hand") from None


def _write(out: Path, result: dict, drawn, tables, texts) -> list[Path]:
    written: list[Path] = []
    try:
        for name, figure in drawn.items():
            written += figures.save(figure, out / "figures" / name)
        for name, table in tables.items():
            content = table.to_csv(index=False, lineterminator="\n").encode()
            written.append(write_whole(out / "tables" / f"{name}.csv", content))
        for name, text in texts.items():
            written.append(write_whole(out / name, text.encode()))
        content = json.dumps(result, indent=2, allow_nan=False).encode() + b"\n"
        written.append(write_whole(out / "results" / f"{result['notebook']}.json", content))
    except OSError as error:
        raise ResultsError(
            f"{error.filename or out}: {error.strerror}; `out` must name a folder that can be "
            "written, with room in it"
        ) from None
    return written


# Title and question stand in the first cell of the notebook, and nowhere else.
def _heading(notebook: str) -> dict[str, str]:
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    title, _, question = "".join(cells[0]["source"]).partition("\n")
    return {
        "notebook": notebook,
        "title": title.removeprefix("#").strip(),
        "question": " ".join(question.split()),
    }


def _plain(value):
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} {value!r}: expected a number, text, list or mapping")
