# SPDX-License-Identifier: GPL-2.0-only
"""Subcommands of `reclaim` about time: what costs are known, what they leave open, what to run."""

import argparse
import json
from pathlib import Path

import sim

_MACHINE_OPTIONS = "only with --machine"


def machine_arguments(command: argparse.ArgumentParser, size) -> None:
    """Add what says which machine; `size` is the argparse type of a size in bytes."""
    add = command.add_argument
    add("--machine", metavar="FILE", help="its times, as `reclaim ingest --csv` prints them")
    add("--map", type=size, metavar="SIZE", default=None, help="mapped in those runs (10G)")
    add("--reclaim", type=size, metavar="SIZE", default=None, help="reclaimed in them (8G)")


def machine(arguments):
    """Return the machine that the arguments name; WorldError if they contradict each other."""
    from analysis import machines

    if not arguments.machine:
        return machines.reference(measured_arch(arguments))
    return machines.captured(
        Path(arguments.machine),
        arch=arguments.arch or "",
        before=arguments.before,
        after=arguments.after,
        map_bytes=arguments.map or machines.MAP_BYTES,
        reclaim_bytes=arguments.reclaim or machines.RECLAIM_BYTES,
    )


def measured_arch(arguments, default: str = "x86_64") -> str:
    """Return the architecture asked for; WorldError if only a machine's table could tell."""
    for name in ("map", "reclaim"):
        if getattr(arguments, name) is not None:
            raise sim.WorldError(f"--{name}: {_MACHINE_OPTIONS}, whose request it describes")
    arch = arguments.arch or default
    if arch not in sim.MEASURED_ARCHES:
        raise sim.WorldError(
            f"arch {arch}: {_MACHINE_OPTIONS}; without, one of {', '.join(sim.MEASURED_ARCHES)}"
        )
    return arch


def _show(arguments, table, told: str) -> None:
    # As text, or as one JSON list of the table's rows, what is missing or without bound as null.
    if not arguments.json:
        print(told)
        return
    finite = table.astype(object).where(~table.isin([float("inf")]) & table.notna(), None)
    print(json.dumps(finite.to_dict("records"), indent=2, allow_nan=False))


def _question(arguments, name: str) -> str:
    from analysis.units import folio_size

    return (
        f"{name}: elapsed reduction, {arguments.before} to {arguments.after}, order "
        f"{arguments.order} ({folio_size(arguments.order)})"
    )


def fit(arguments) -> None:
    """Print the costs in time of each architecture, or how well their intervals cover."""
    from analysis import coverage, machines, text, timing

    if arguments.coverage:
        print(coverage.to_text(coverage.coverage()))
        return
    costs = [timing.time_fit(machines.reference(arch)) for arch in arguments.arch]
    print("\n\n".join(map(text.time_costs, costs)))


def advise(arguments) -> None:
    """Print which runs to make next."""
    from analysis import advise as advice
    from analysis import timing

    asked = machine(arguments)
    costs = timing.time_fit(asked)
    table = advice.advise(
        costs,
        arguments.order,
        before=arguments.before,
        after=arguments.after,
        unpatched=arguments.unpatched,
    )
    _show(arguments, table, advice.to_text(table, _question(arguments, asked.name)))


def assumptions(arguments) -> None:
    """Print how far each assumption moves a prediction."""
    from analysis import sensitivity, timing

    asked = machine(arguments)
    table = sensitivity.tornado(
        timing.time_fit(asked), arguments.order, before=arguments.before, after=arguments.after
    )
    _show(arguments, table, sensitivity.to_text(table, _question(arguments, asked.name)))


def ablations(arguments) -> None:
    """Print what a step saves with one thing about it changed."""
    from analysis import ablations as changed
    from analysis import timing
    from analysis.units import folio_size

    asked = machine(arguments)
    table = changed.ablations(timing.time_fit(asked), arguments.order)
    order = f"order {arguments.order} ({folio_size(arguments.order)})"
    heading = f"{asked.name}, {order}: base to unmap, unless it says another"
    _show(arguments, table, changed.to_text(table, heading))


def sizes(arguments) -> None:
    """Print what the published times say of the folio sizes."""
    from analysis import folio_sizes, text

    _show(arguments, folio_sizes.posterior(), text.folio_sizes_of_server())


def claims(arguments) -> None:
    """Print published claims beside predictions."""
    from analysis import claims as published

    table = published.score()
    _show(arguments, table, published.to_text(table))


__all__ = [
    "ablations",
    "advise",
    "assumptions",
    "claims",
    "fit",
    "machine",
    "machine_arguments",
    "measured_arch",
    "sizes",
]
