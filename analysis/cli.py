# SPDX-License-Identifier: GPL-2.0-only
"""The `reclaim` command: one subcommand for each thing the workbook does.

Bad input ends in one message on stderr and status 2. Modules are imported by the subcommand that
needs them: `reclaim simulate` must not wait for pandas and matplotlib.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import sim
from analysis import time_cli
from analysis.units import UnitError, parse_orders, parse_size

# A subcommand that prices events knows the architectures that were measured.
ARCHES = sim.MEASURED_ARCHES

# `reclaim simulate` options beyond the common ones: World field, metavar, help.
_WORLD_OPTIONS = (
    ("mapped_by", "N", "processes that map the memory"),
    ("mappings", "N", "mappings of the file in each process"),
    ("cpus", "N", "2: the mapping processes run elsewhere"),
    ("lru_add_batch", "N", "order-0 folios in that batch"),
    ("vma_shift", "PAGES", "mappings start so far behind the start of a page table"),
    ("vma_cut", "PAGES", "so much at either end of the file is not mapped"),
    ("mlocked", "N", "processes whose mappings are VM_LOCKED"),
    ("young", "SHARE", "entries that are young"),
    ("dirty", "SHARE", "entries that are dirty"),
    ("writable", "SHARE", "entries that are writable"),
    ("soft_dirty", "SHARE", "entries that are soft-dirty"),
    ("uffd_wp", "SHARE", "entries write-protected by userfaultfd"),
    ("partly_mapped", "SHARE", "large folios whose second half is no longer mapped"),
    ("hwpoison", "SHARE", "folios with a memory error"),
    ("dirty_folios", "SHARE", "folios that are dirty"),
    ("pinned", "SHARE", "folios that somebody else holds"),
    ("seed", "N", "of what the shares hit"),
)


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
        "analysis.compare": "CompareError",
        "analysis.conformance": "ConformanceError",
        "analysis.fit": "FitError",
        "analysis.ingest": "IngestError",
        "analysis.machines": "MachineError",
        "analysis.measurements": "MeasurementError",
        "analysis.page": "PageError",
        "analysis.params": "ParamsError",
        "analysis.report": "ReportError",
        "analysis.results": "ResultsError",
        "analysis.samples": "SamplesError",
        "analysis.score": "ScoreError",
    }
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    return (sim.WorldError, UnitError, *(getattr(loaded[name], names[name]) for name in loaded))


def _simulate(arguments) -> None:
    options = {name: getattr(arguments, name) for name, _, _ in _WORLD_OPTIONS}
    world = sim.World(
        map_bytes=arguments.map,
        reclaim_bytes=arguments.reclaim,
        order=arguments.order,
        folios=arguments.folios,
        workload=arguments.workload,
        request=arguments.request,
        access=arguments.access,
        stats_flush=arguments.stats_flush,
        **{name: value for name, value in options.items() if value is not None},
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
    from pathlib import Path

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
    from analysis import text, whatif

    found = whatif.whatif(arguments.arch, arguments.order)
    if arguments.json:
        rows = found.assign(saved=[saved._asdict() for saved in found["saved"]])
        _print_json(rows.to_dict(orient="records"))
    else:
        print(text.whatifs(arguments.arch, arguments.order, found))


def _message(arguments) -> None:
    from analysis import report

    print(
        report.commit_message(
            arguments.orders, arguments.arch, before=arguments.before, after=arguments.after
        ),
        end="",
    )


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


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reclaim", description="What a change to the Linux reclaim path buys, and why."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, add_arguments, what in (
        ("simulate", _simulate, _simulate_arguments, "count what one reclaim request does"),
        (
            "conformance",
            _conformance,
            _conformance_arguments,
            "compare the simulator's counts with the kernel's",
        ),
        ("ingest", _ingest, _ingest_arguments, "read measurements from a saved capture"),
        ("compare", _compare, _compare_arguments, "tell whether two sets of runs differ"),
        ("fit", _fit, _fit_arguments, "print costs per event and how well they predict"),
        ("explain", _explain, _explain_arguments, "attribute a difference to kernel functions"),
        ("predict", _predict, _predict_arguments, "predict what a kernel saves over another"),
        ("score", _score, _score_arguments, "predict blind, write it down, then score it"),
        ("whatif", _whatif, _whatif_arguments, "rank what a further change could still save"),
        ("advise", time_cli.advise, _advise_arguments, "name the run that would tell most"),
        ("assumptions", time_cli.assumptions, _question_arguments, "rank what a time rests on"),
        ("ablations", time_cli.ablations, _question_arguments, "change one thing at a time"),
        ("sizes", time_cli.sizes, _json_argument, "infer the published folio sizes"),
        ("claims", time_cli.claims, _json_argument, "compare published claims with predictions"),
        ("message", _message, _message_arguments, "print a block for a commit message"),
        ("safety", _safety, _safety_arguments, "reclaim random worlds with and without each batch"),
        ("build", _build, _build_arguments, "run all notebooks and write index.html"),
    ):
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def _read_by(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return an argparse type that says what `parse` says of bad text."""

    def read(text: str) -> object:
        try:
            return parse(text)
        except UnitError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _at_least(low: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, at least {low}")
        return int(text)

    return read


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = list(dict.fromkeys(text.split(",")))
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))!r}: expected some of {', '.join(allowed)}"
            )
        return names

    return read


def _simulate_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--arch", choices=tuple(sim.ARCHES), required=True)
    add("--kernel", choices=tuple(sim.KERNELS), default="unmap")
    add("--lru", choices=sim.LRUS, default="classic")
    folios = command.add_mutually_exclusive_group()
    folios.add_argument("--order", type=int, default=4, help="folio order, 0 to 9 (default: 4)")
    folios.add_argument("--folios", default="", metavar="O:SHARE,...", help="e.g. 0:0.2,4:0.8")
    add("--workload", choices=sim.WORKLOADS, default="file", help="what the folios are")
    add("--request", choices=sim.REQUESTS, default="", help="default: as the workload was measured")
    size = {"type": _read_by(parse_size), "metavar": "SIZE"}
    add("--map", default="10G", help="file size (default: 10G)", **size)
    add("--reclaim", default="8G", help="request (default: 8G)", **size)
    add("--access", choices=sim.ACCESSES, default="pread", help="how the file was brought in")
    for name, metavar, what in _WORLD_OPTIONS:
        kind = float if metavar == "SHARE" else int
        add(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=what)
    add("--stats-flush", default="never", metavar="WHEN", help="never, always or NODE_CALL,...")
    add("--json", action="store_true", help="one JSON object")


def _conformance_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--counters", metavar="FILE", help="another table, same columns")
    command.add_argument("--json", action="store_true", help="one JSON object")


def _ingest_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="files, directories, - for stdin")
    command.add_argument("--format", metavar="NAME", help="do not tell the format by the content")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="rows as CSV, notes on stderr")
    form.add_argument("--parquet", metavar="FILE", help="rows into a Parquet file (needs pyarrow)")
    form.add_argument("--explain", action="store_true", help="say what each line was taken for")
    form.add_argument("--folded", action="store_true", help="perf script as folded stacks, fast")
    command.add_argument("--event", metavar="NAME", help="the event to fold, of several")
    command.add_argument("--orders", metavar="FILE", help="folio orders that the runs really had")
    command.add_argument("--pair", action="store_true", help="two snapshots: what counters grew by")


def _compare_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("before", metavar="BEFORE", help="a capture, or a directory of them")
    command.add_argument("after", metavar="AFTER", help="the same of the other kernel")
    command.add_argument(
        "--interleaved", action="store_true", help="each run of BEFORE was followed by one of AFTER"
    )
    command.add_argument("--profiles", action="store_true", help="by function, of two profiles")
    command.add_argument("--svg", metavar="FILE", help="of --profiles: a flame graph of what moved")
    command.add_argument("--speedscope", metavar="FILE", help="of --profiles: both, as JSON")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON list")
    form.add_argument("--markdown", action="store_true", help="a Markdown table")


def _fit_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--arch", type=_names(ARCHES), default=ARCHES, metavar="A,...", help="default: all"
    )
    metrics = ("instructions", "time")
    command.add_argument("--metric", choices=metrics, default=metrics[0], help="costs in what")
    command.add_argument("--coverage", action="store_true", help="check the 95%% intervals of time")


def _score_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--arch", type=_names(ARCHES), default=["x86_64"], metavar="A,...", help="default: x86_64"
    )
    command.add_argument(
        "--out", type=Path, default=Path("build"), metavar="DIR", help="default: build"
    )
    command.add_argument("--json", action="store_true", help="one JSON object an architecture")


def _whatif_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arch", choices=ARCHES, default="x86_64")
    command.add_argument("--order", type=int, default=4, help="folio order, 0 to 8 (default: 4)")
    command.add_argument("--json", action="store_true", help="one JSON list")


def _step_arguments(
    command: argparse.ArgumentParser, kernels: tuple[str, ...] = sim.FILE_SERIES
) -> None:
    command.add_argument("--before", choices=kernels, default="references")
    command.add_argument("--after", choices=kernels, default="unmap")


def _explain_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arch", choices=ARCHES, default="arm64")
    command.add_argument("--order", type=int, default=6, help="folio order, 0 to 9 (default: 6)")
    _step_arguments(command, (*sim.FILE_SERIES, "lazyfree-before", "lazyfree"))
    command.add_argument("--metric", choices=("time", "instructions"), default="instructions")


def _predict_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--arch", choices=tuple(sim.ARCHES), default=None, help="default: x86_64, or the machine's")
    add("--order", type=int, default=None, help="folio order, 0 to 9 (default: 4, or the table's)")
    _step_arguments(command)
    add("--metric", choices=("time", "instructions"), default="time")
    add("--blind", action="store_true", help="use no run of a changed kernel of this architecture")
    time_cli.machine_arguments(command, _read_by(parse_size))
    add("--json", action="store_true", help="one JSON object")


def _question_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arch", choices=tuple(sim.ARCHES), default=None, help="default: x86_64")
    order = _read_by(_folio_order)
    command.add_argument("--order", type=order, default=6, help="1 to 8 (default: 6)")
    _step_arguments(command)
    time_cli.machine_arguments(command, _read_by(parse_size))
    _json_argument(command)


def _folio_order(text: str) -> int:
    if text not in tuple("12345678"):
        raise UnitError(f"order {text!r}: expected 1 to 8, where batches can matter")
    return int(text)


def _advise_arguments(command: argparse.ArgumentParser) -> None:
    _question_arguments(command)
    command.add_argument("--unpatched", action="store_true", help="only kernels before the change")


def _json_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON list")


def _message_arguments(command: argparse.ArgumentParser) -> None:
    orders = _read_by(parse_orders)
    command.add_argument("--orders", type=orders, default="0:9", help="e.g. 0:9 or 2,4,9")
    command.add_argument("--arch", type=_names(ARCHES), default=ARCHES, metavar="A,...")
    _step_arguments(command)


def _safety_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--worlds", type=_at_least(1), default=10000, metavar="N", help="default: 10000"
    )
    command.add_argument(
        "--seed", type=_at_least(0), default=0, metavar="N", help="of the random worlds"
    )
    command.add_argument("--json", action="store_true", help="one JSON list")


def _build_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", default="build", metavar="DIR", help="default: build")
