# SPDX-License-Identifier: GPL-2.0-only
"""Parameters of the notebooks: one frozen dataclass each, so that a wrong one is refused early.

papermill itself only warns of a name that it does not know, and takes any type. The runner checks
with `read` before a kernel starts; the first cell of each notebook after its parameters checks
again with `check`, which is what plain papermill and JupyterLab meet.
"""

import difflib
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from analysis.injected import assigned_just_before
from analysis.units import UnitError, parse_orders, parse_size
from sim import (
    ACCESSES,
    ARCHES,
    FILE_SERIES,
    KERNELS,
    LRUS,
    MEASURED_ARCHES,
    World,
    WorldError,
)

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"

# Kernels whose time was published, on arm64.
PUBLISHED = ("base", "references", "unmap")


class ParamsError(ValueError):
    """Parameters that a notebook does not take; one line a parameter, then what is allowed."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows this in place of a traceback: the reader's own line is what is wrong.
        return [f"{type(self).__name__}: {self}"]


def _one(default: str, allowed: Container[str]) -> Any:
    return _checked(default, allowed.__contains__, f"one of {', '.join(allowed)}")


def _whole(default: int, low: int, high: int) -> Any:
    return _checked(default, lambda value: low <= value <= high, f"{low} to {high}")


def _size(default: str) -> Any:
    return _checked(default, _readable_by(parse_size), "a size, such as 256M, 0.2G or 10G")


def _orders(default: str) -> Any:
    allowed = "folio orders 0 to 9, such as 0:9 or 2,4:6"
    return _checked(default, _readable_by(parse_orders), allowed)


def _arches(default: str) -> Any:
    return _checked(
        default,
        lambda text: set(_listed(text)) <= set(MEASURED_ARCHES),
        f"one or more of {', '.join(MEASURED_ARCHES)}, commas between them",
    )


def _switch(default: bool) -> Any:
    return _checked(default, lambda _: True, "true or false")


def _out() -> Any:
    return _checked("", lambda _: True, "a folder to write to; empty: write none")


def _checked(default, accepts: Callable[[Any], bool], allowed: str) -> Any:
    return field(default=default, metadata={"accepts": accepts, "allowed": allowed})


def _readable_by(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def accepts(text: str) -> bool:
        try:
            parse(text)
        except UnitError:
            return False
        return True

    return accepts


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


@dataclass(frozen=True)
class Measurements:
    """Parameters of 01_measurements."""

    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class SimulateReclaim:
    """Parameters of 02_simulate_reclaim."""

    arch: str = _one("arm64", ARCHES)
    order: int = _whole(4, 0, 9)
    kernel: str = _one("unmap", KERNELS)
    lru: str = _one("classic", LRUS)
    map_size: str = _size("256M")
    reclaim_size: str = _size("0.2G")
    access: str = _one("pread", ACCESSES)
    mapped_by: int = _whole(1, 1, 1024)
    cpus: int = _whole(1, 1, 2)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_world(self)

    @property
    def world(self) -> World:
        """The world that is asked for."""
        return _world_of(self)


@dataclass(frozen=True)
class FitCosts:
    """Parameters of 03_fit_costs."""

    coverage_sets: int = _whole(500, 20, 10000)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class ExplainSpeedup:
    """Parameters of 04_explain_speedup; only kernels with a published time."""

    arch: str = _one("arm64", MEASURED_ARCHES)
    order: int = _whole(6, 1, 8)
    before: str = _one("references", PUBLISHED)
    after: str = _one("unmap", PUBLISHED)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_step(self)


@dataclass(frozen=True)
class PredictX86:
    """Parameters of 05_predict_x86."""

    orders: str = _orders("0:9")
    order: int = _whole(4, 1, 8)
    before: str = _one("references", FILE_SERIES)
    after: str = _one("unmap", FILE_SERIES)
    blind: bool = _switch(False)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_step(self)

    @property
    def folio_orders(self) -> tuple[int, ...]:
        """The orders asked for, rising."""
        return parse_orders(self.orders)


@dataclass(frozen=True)
class CommitMessage:
    """Parameters of 06_commit_message."""

    orders: str = _orders("0:9")
    arches: str = _arches("arm64,x86_64")
    before: str = _one("references", FILE_SERIES)
    after: str = _one("unmap", FILE_SERIES)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_step(self)

    @property
    def folio_orders(self) -> tuple[int, ...]:
        """The orders asked for, rising."""
        return parse_orders(self.orders)

    @property
    def arch_names(self) -> tuple[str, ...]:
        """The architectures asked for, in the order asked."""
        return tuple(dict.fromkeys(_listed(self.arches)))


@dataclass(frozen=True)
class Lab:
    """Parameters of 07_lab."""

    table: str = _checked("", lambda _: True, "instructions.csv of reclaim lab; empty: the shipped")
    before: str = _checked("references", bool, "a kernel of that table: base, before and such")
    after: str = _checked("unmap", bool, "another kernel of that table: unmap, after and such")
    lru: str = _one("classic", LRUS)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_step(self)


@dataclass(frozen=True)
class Safety:
    """Parameters of safety."""

    worlds: int = _whole(10000, 100, 10**6)
    seed: int = _whole(0, 0, 2**31)
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class CompareAb:
    """Parameters of compare_ab."""

    runs: str = _checked("", lambda _: True, "a capture of identical runs; empty: the host's")
    metric: str = _checked("", lambda _: True, "a metric of that capture; empty: its only one")
    per_side: int = _whole(10, 4, 1000)
    effect: float = _checked(0.05, lambda value: 0 < value <= 1, "a share above 0, at most 1")
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class Explore:
    """Parameters of explore: where its controls start."""

    arch: str = _one("arm64", MEASURED_ARCHES)
    before: str = _one("references", FILE_SERIES)
    after: str = _one("unmap", FILE_SERIES)
    lru: str = _one("classic", LRUS)
    order: int = _whole(4, 0, 9)
    folios: str = _checked("", lambda _: True, "shares of memory by order, 0:0.2,4:0.8, or empty")
    map_size: str = _size("256M")
    reclaim_size: str = _size("0.2G")
    mapped_by: int = _whole(1, 1, 1024)
    capture: str = _checked("", lambda _: True, "a capture of your own; empty: none")
    out: str = _out()

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_step(self)
        _check_world(self)

    @property
    def world(self) -> World:
        """The world that is asked for."""
        return _world_of(self)


Params = (
    Measurements
    | SimulateReclaim
    | FitCosts
    | ExplainSpeedup
    | PredictX86
    | CommitMessage
    | Lab
    | Safety
    | CompareAb
    | Explore
)

PARAMETERS: dict[str, type[Params]] = {
    "01_measurements": Measurements,
    "02_simulate_reclaim": SimulateReclaim,
    "03_fit_costs": FitCosts,
    "04_explain_speedup": ExplainSpeedup,
    "05_predict_x86": PredictX86,
    "06_commit_message": CommitMessage,
    "07_lab": Lab,
    "compare_ab": CompareAb,
    "explore": Explore,
    "safety": Safety,
}


def notebook_of(asked: Params) -> str:
    """Return the name of the notebook whose parameters these are."""
    return next(name for name, kind in PARAMETERS.items() if type(asked) is kind)


def inputs(asked: Params) -> dict[str, object]:
    """Return what a result depends on: the parameters without `out`."""
    return {name: value for name, value in asdict(asked).items() if name != "out"}


def read(notebook: str, given: Mapping[str, object]) -> Params:
    """Return the parameters of a notebook; text of a number or switch is read as such.

    Args:
        notebook: a key of `PARAMETERS`.
        given: values by name, as text where they come from a shell; what is left out keeps its
            default.

    Raises:
        ParamsError: unknown notebook, or a wrong name, type or value.
    """
    kind = _kind(notebook)
    types = {each.name: each.type for each in fields(kind)}
    return _make(kind, {name: _typed(value, types.get(name)) for name, value in given.items()})


def check(notebook: str, namespace: Mapping[str, object]) -> Params:
    """Return the parameters that a notebook's global names hold; nothing is converted.

    Args:
        notebook: a key of `PARAMETERS`.
        namespace: globals() of the notebook. IPython keeps the text of the cells there, in which
            a name that papermill injected can be told from one that the reader has set since.

    Raises:
        ParamsError: as in `read`, or the parameters cell was not run.
    """
    kind = _kind(notebook)
    names = [each.name for each in fields(kind)]
    if unset := [name for name in names if name not in namespace]:
        raise _refusal(kind, [f"{name}: not set; run the parameters cell" for name in unset])
    asked = {name: namespace[name] for name in names}
    strays = assigned_just_before(namespace.get("In", []), set(names))
    return _make(kind, asked | {name: namespace.get(name) for name in strays})


def allowed(notebook: str) -> str:
    """Return one line for each parameter of a notebook: name, type, default, what it may be."""
    lines = [
        f"  {each.name}: {each.type.__name__} = {each.default!r}  ({each.metadata['allowed']})"
        for each in fields(_kind(notebook))
    ]
    return "\n".join(lines)


def _kind(notebook: str) -> type[Params]:
    if notebook not in PARAMETERS:
        near = _near(notebook, PARAMETERS)
        raise ParamsError(f"no notebook {notebook!r}{near}; there are {', '.join(PARAMETERS)}")
    return PARAMETERS[notebook]


def _make(kind: type[Params], given: Mapping[str, object]) -> Params:
    names = [each.name for each in fields(kind)]
    if unknown := [name for name in given if name not in names]:
        raise _refusal(kind, [f"{name}: no such parameter{_near(name, names)}" for name in unknown])
    return kind(**given)


def _near(name: str, names) -> str:
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def _refusal(kind: type[Params], problems: list[str]) -> ParamsError:
    notebook = next(name for name, own in PARAMETERS.items() if own is kind)
    return ParamsError(
        "\n".join([f"{notebook}: {'; '.join(problems)}", "allowed:", allowed(notebook)])
    )


def _check_fields(asked: Params) -> None:
    problems = []
    for each in fields(asked):
        value = getattr(asked, each.name)
        if type(value) is not each.type:  # isinstance() would take True for 1
            found = f"{each.name} {value!r} ({type(value).__name__})"
            hint = "; papermill -r passes text as it is" if each.type is str else ""
            problems.append(f"{found}: expected {each.type.__name__}{hint}")
        elif not each.metadata["accepts"](value):
            problems.append(f"{each.name} {value!r}: expected {each.metadata['allowed']}")
    if problems:
        raise _refusal(type(asked), problems)


def _check_step(asked) -> None:
    if asked.before == asked.after:
        problem = f"before and after are both {asked.before!r}: expected two kernels"
        raise _refusal(type(asked), [problem])


# Sizes are text; what else a world has, the parameters have under its names.
def _world_of(asked) -> World:
    shared = {one.name for one in fields(World)} & {one.name for one in fields(asked)}
    return World(
        map_bytes=parse_size(asked.map_size),
        reclaim_bytes=parse_size(asked.reclaim_size),
        **{name: getattr(asked, name) for name in shared},
    )


def _check_world(asked) -> None:
    try:
        asked.world.nr_pages(ARCHES[asked.arch])
        asked.world.nr_to_reclaim(ARCHES[asked.arch])
    except WorldError as error:
        raise _refusal(type(asked), [str(error)]) from None


# Text that stays text is refused afterwards, with the type that was expected.
def _typed(value: object, wanted: type | None) -> object:
    if not isinstance(value, str):
        return value
    if wanted is int and value.strip().removeprefix("-").isdecimal():
        return int(value)
    if wanted is bool:
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    return value
