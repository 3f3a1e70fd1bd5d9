# SPDX-License-Identifier: GPL-2.0-only
"""The `reclaim` command: one subcommand for each thing the workbook does.

Bad input ends in one message on stderr and status 2. Modules are imported by the subcommand that
needs them: `reclaim simulate` must not wait for pandas and matplotlib.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sim
from analysis import options, time_cli
from analysis.units import UnitError
from lab import cli as lab_cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit status: 0, 1 if a notebook failed, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        if sys.stdout:  # None where a shell closed it
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` say, has seen enough. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"reclaim {arguments.command}: {error.strerror}, output not written", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("reclaim: interrupted", file=sys.stderr)
        return 130
    except _input_errors() as error:
        print(f"reclaim {arguments.command}: {error}", file=sys.stderr)
        return 2
    return status or 0


def _input_errors() -> tuple[type[Exception], ...]:
    # Each module names its own error; one that is not loaded cannot have raised.
    names = {
        "analysis.batch": "BatchError",
        "analysis.calibration": "CalibrationError",
        "analysis.cluster": "ClusterError",
        "analysis.compare": "CompareError",
        "analysis.conformance": "ConformanceError",
        "analysis.fit": "FitError",
        "analysis.grid": "GridError",
        "analysis.ingest": "IngestError",
        "analysis.machines": "MachineError",
        "analysis.measurements": "MeasurementError",
        "analysis.page": "PageError",
        "analysis.params": "ParamsError",
        "analysis.report": "ReportError",
        "analysis.results": "ResultsError",
        "analysis.samples": "SamplesError",
        "analysis.score": "ScoreError",
        "analysis.stores": "StoreError",
        "analysis.swept": "SweptError",
        "lab.errors": "LabError",
    }
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    return (sim.WorldError, UnitError, *(getattr(loaded[name], names[name]) for name in loaded))


def _simulate(arguments) -> None:
    given = {name: getattr(arguments, name) for name, _, _ in options.WORLD_OPTIONS}
    world = sim.World(
        map_bytes=arguments.map,
        reclaim_bytes=arguments.reclaim,
        order=arguments.order,
        folios=arguments.folios,
        workload=arguments.workload,
        request=arguments.request,
        access=arguments.access,
        stats_flush=arguments.stats_flush,
        **{name: value for name, value in given.items() if value is not None},
    )
    events = sim.reclaim(world, arguments.arch, arguments.kernel, arguments.lru)
    if arguments.json:
        _print_json(events.to_dict())
    else:
        print(_events_text(events))


def _events_text(events: sim.Events) -> str:
    inputs = ", ".join(f"{name} {value}" for name, value in events.inputs.items())
    counts = events.to_dict()
    rows = {"pgscan": counts["pgscan"], "pgsteal": counts["pgsteal"], **counts["events"]}
    table = [f"{name:<31}{hits:>14,}" for name, hits in rows.items()]
    notes = [f"note: {warning}" for warning in events.warnings]
    return "\n".join([inputs, "", f"{'function':<31}{'hits':>14}", *table, "", *notes, events.id])


def _ingest(arguments) -> int | None:
    from analysis.ingest import output

    return output.run(arguments)


def _compare(arguments) -> None:
    from analysis import compare, compare_text, ingest

    sides = [ingest.read_many([path]) for path in (arguments.before, arguments.after)]
    if arguments.profiles:
        _profiles(arguments, *sides)
        return
    found = compare.compare(*sides, interleaved=arguments.interleaved)
    if arguments.json:
        _print_json(compare_text.to_dict(found))
    else:
        written = compare_text.to_markdown if arguments.markdown else compare_text.to_text
        print(written(found), end="")


def _profiles(arguments, before, after) -> None:

    from analysis import profiles
    from analysis.files import write_whole

    found = profiles.moved(before, after)
    if arguments.svg:
        write_whole(Path(arguments.svg), profiles.flame_graph(before, after).encode())
    if arguments.speedscope:
        document = json.dumps(profiles.speedscope(before, after))
        write_whole(Path(arguments.speedscope), document.encode())
    if arguments.json:
        _print_json([vars(one) for one in found])
    else:
        print(profiles.to_text(found), end="")


def _conformance(arguments) -> None:
    from analysis import conformance

    path = arguments.counters
    verdicts = conformance.compare(conformance.read_counters(path) if path else None)
    if arguments.json:
        _print_json(conformance.to_dict(verdicts))
    else:
        print(conformance.to_text(verdicts))


def _fit(arguments) -> None:
    if arguments.metric == "time":
        time_cli.fit(arguments)
        return
    if arguments.coverage:
        raise sim.WorldError("--coverage: of costs in time; say --metric time")
    from analysis import text

    print("\n\n".join(text.cost_model(arch) for arch in arguments.arch))


def _explain(arguments) -> None:
    from analysis import explain, text

    attribution = explain.explain(
        arguments.arch,
        arguments.order,
        before=arguments.before,
        after=arguments.after,
        metric=arguments.metric,
    )
    print(text.attribution(attribution))


def _predict(arguments) -> None:
    from analysis import predict, text

    step = {"before": arguments.before, "after": arguments.after}
    if arguments.machine:
        if arguments.metric != "time" or arguments.blind:
            raise sim.WorldError("--machine: tells times; leave --metric and --blind out")
        prediction = predict.predict_on(time_cli.machine(arguments), arguments.order, **step)
    else:
        order = 4 if arguments.order is None else arguments.order
        arch = time_cli.measured_arch(arguments)
        rest = {"metric": arguments.metric, "blind": arguments.blind}
        prediction = predict.predict(arch, order, **step, **rest)
    if arguments.json:
        _print_json(prediction.to_dict())
    else:
        print(text.prediction(prediction))


def _score(arguments) -> None:
    from analysis import score, text

    for arch in arguments.arch:
        path = arguments.out / f"blind-{arch}.json"
        predicted, notes = score.predictions(arch)
        ident = score.write(arch, predicted, path)
        found = score.scored(path)
        if arguments.json:
            _print_json(score.to_dict(arch, ident, found, notes))
        else:
            print(text.scores(arch, ident, path, found, notes))


def _whatif(arguments) -> None:
    from analysis import machines, text, timing, whatif

    if arguments.metric == "time":
        costs = timing.time_fit(machines.reference(arguments.arch))
        found, asked = whatif.in_time(costs, arguments.order), costs.machine.name
    else:
        found, asked = whatif.whatif(arguments.arch, arguments.order), arguments.arch
    if arguments.json:
        rows = found.assign(saved=[saved._asdict() for saved in found["saved"]])
        _print_json(rows.to_dict(orient="records"))
    else:
        print(text.whatifs(asked, arguments.order, found, arguments.metric))


def _message(arguments) -> None:
    if arguments.lab is not None:
        print(lab_cli.message(arguments), end="")
        return
    from analysis import report

    # One architecture alone may be what a machine's table does not say.
    alone = arguments.arch[0] if len(arguments.arch) == 1 else ""
    own = time_cli.machine(argparse.Namespace(**vars(arguments) | {"arch": alone}))
    text = report.commit_message(
        arguments.orders,
        arguments.arch,
        before=arguments.before,
        after=arguments.after,
        style=arguments.style,
        machine=own if arguments.machine else None,
        source=Path(arguments.machine or "").name,
    )
    print(text, end="")


def _safety(arguments) -> None:
    from analysis import safety

    verdicts = safety.judge_all(arguments.worlds, arguments.seed)
    if arguments.json:
        _print_json(safety.table(verdicts).to_dict("records"))
    else:
        print(safety.to_text(verdicts))


def _build(arguments) -> int:
    from analysis import batch

    return batch.build(arguments.out)


def _sweep(arguments) -> int:
    from analysis import cluster, grid, stores, sweep

    notebook = grid.find(arguments.notebook)
    points = sweep.plan(notebook, arguments.parameters)
    jobs = arguments.jobs or os.cpu_count() or 1
    run = cluster.runner(arguments.dask) if arguments.dask else sweep.local(jobs)
    store = stores.at(arguments.out)
    with store.alone():
        found = sweep.sweep(notebook, points, store, run, retry_failed=arguments.retry_failed)
        return sweep.report(store, notebook.stem, points, found, arguments.number)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reclaim", description="What a change to the Linux reclaim path buys, and why."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, add_arguments, what in (
        ("simulate", _simulate, options.simulate, "count what one reclaim request does"),
        (
            "conformance",
            _conformance,
            options.conformance,
            "compare the simulator's counts with the kernel's",
        ),
        ("ingest", _ingest, options.ingest, "read measurements from a saved capture"),
        ("compare", _compare, options.compare, "tell whether two sets of runs differ"),
        ("fit", _fit, options.fit, "print costs per event and how well they predict"),
        ("explain", _explain, options.explain, "attribute a difference to kernel functions"),
        ("predict", _predict, options.predict, "predict what a kernel saves over another"),
        ("score", _score, options.score, "predict blind, write it down, then score it"),
        ("whatif", _whatif, options.whatif, "rank what a further change could still save"),
        ("advise", time_cli.advise, options.advise, "name the run that would tell most"),
        ("assumptions", time_cli.assumptions, options.question, "rank what a time rests on"),
        ("ablations", time_cli.ablations, options.question, "change one thing at a time"),
        ("sizes", time_cli.sizes, options.json_alone, "infer the published folio sizes"),
        (
            "claims",
            time_cli.claims,
            options.json_alone,
            "compare published claims with predictions",
        ),
        ("message", _message, options.message, "print text for a commit message or cover letter"),
        ("safety", _safety, options.safety, "reclaim random worlds with and without each batch"),
        ("lab", lab_cli.run, lab_cli.arguments, "measure real kernels, emulated or here"),
        ("build", _build, options.build, "run all notebooks and write index.html"),
        ("sweep", _sweep, options.sweep, "run a notebook over a grid of parameters"),
    ):
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        add_arguments(command)
        command.set_defaults(run=run)
    return parser
