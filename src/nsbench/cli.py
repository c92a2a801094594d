"""The command line: `nsbench <stage> ...`, one stage of the workflow each. Argument parsing only."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

from nsbench.closed import ConfigError, parse
from nsbench.config import Config
from nsbench.grid import load


def main(arguments: list[str] | None = None) -> int:
    """Run a stage; problems that a user can mend end with one sentence and exit status 2."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        options.run(options)
    except Exception as error:
        if not _for_users(error):
            raise
        print(f"nsbench {options.stage}: {error}", file=sys.stderr)
        return 2
    return 0


def _for_users(error: Exception) -> bool:
    from nsbench.device import DeviceError
    from nsbench.records import RecordError
    from nsbench.text_sources import TextError
    from nsbench.tracking import TrackingError

    return isinstance(error, ConfigError | RecordError | DeviceError | TextError | TrackingError)


def _text(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.text_sources import TextSpec, make_text

    spec = parse(TextSpec, _read_spec(options), "spec")
    make_text(spec, options.out, stamp(options.spec, options.digest))


def _dataset(options: argparse.Namespace) -> None:
    from nsbench.generation import DatasetSpec, make_datasets
    from nsbench.provenance import stamp

    spec = parse(DatasetSpec, _read_spec(options), "spec")
    made_by = stamp(options.spec, options.digest)
    make_datasets(spec, options.out, options.floors, made_by, options.text)


def _train(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.training import TrainSpec, train_pack

        spec = parse(TrainSpec, _read_spec(options), "spec")
        train_pack(
            spec,
            options.digest,
            options.dataset,
            options.run_store,
            options.history,
            options.runs,
            device,
            options.progress_every,
        )


def _evaluate(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.evaluation import EvaluateSpec, evaluate_pack

        spec = parse(EvaluateSpec, _read_spec(options), "spec")
        evaluate_pack(spec, options.digest, options.runs, options.dataset, options.run_store, options.out, device)


def _collect(options: argparse.Namespace) -> None:
    from nsbench.collection import collect
    from nsbench.plan import Plan

    config, cells = _grid(options)
    plan = Plan(config)
    packs = [options.packs.joinpath(*pack) for pack in plan.packs]
    floors = [options.datasets / task / variant / f"{pack}.floors.parquet" for task, variant, pack in plan.datasets()]
    collect(cells, packs, floors, _folder(options.out), options.spec, options.digest)


def _analyse(options: argparse.Namespace) -> None:
    from nsbench.analysis import analyse

    config, cells = _grid(options)
    analyse(
        _folder(options.collected),
        cells,
        config.analysis,
        _folder(options.out),
        options.spec,
        options.digest,
    )


def _figure(options: argparse.Namespace) -> None:
    from nsbench.figures import FIGURES, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    config, cells = _grid(options)
    collected, tables = _folder(options.collected), _folder(options.tables)
    render(options.name, collected, tables, cells, config.scale, options.png, options.pdf)


def _simulate(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.provenance import stamp
        from nsbench.simulation.run import simulate
        from nsbench.theory_settings import ExperimentSpec

        spec = parse(ExperimentSpec, _read_spec(options), "spec")
        made_by = stamp(options.spec, options.digest, str(device))
        simulate(spec, options.max_values, options.points, options.examples, device, made_by)


def _theory(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.theory_curves import compute_theory
    from nsbench.theory_settings import ExperimentSpec

    spec = parse(ExperimentSpec, _read_spec(options), "spec")
    compute_theory(spec, options.points, options.curves, options.table, stamp(options.spec, options.digest))


def _theory_table(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.theory_curves import join_tables

    join_tables(options.tables, options.out, options.csv, stamp(options.spec, options.digest))


def _theory_figure(options: argparse.Namespace) -> None:
    from nsbench.figures.theory import FIGURES, TheoryFigureSpec, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure of the theory is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    spec = parse(TheoryFigureSpec, _read_spec(options), "spec")
    render(options.name, spec.experiment, spec.scale, *options.tables, options.png, options.pdf)


def _report(options: argparse.Namespace) -> None:
    from nsbench.report import write_report

    config, cells = _grid(options)
    write_report(
        options.out,
        options.figures,
        _folder(options.tables),
        _folder(options.collected),
        cells,
        config.scale,
        options.spec,
        options.digest,
        options.theory,
    )


def _track(options: argparse.Namespace) -> None:
    from nsbench.records import write_text
    from nsbench.tracking import track

    config, cells = _grid(options)
    uri = config.tracking.uri or f"sqlite:///{options.out.parent}/mlflow.db"
    summary = track(_folder(options.collected), _folder(options.tables), cells, uri, options.spec, options.digest)
    write_text(options.out, json.dumps(vars(summary)))


def _read_spec(options: argparse.Namespace) -> Any:
    try:
        return json.loads(options.spec)
    except ValueError as error:
        raise ConfigError(f"--spec: not JSON ({error}); the stage's settings as one JSON object are allowed") from None


def _seconds(text: str) -> float:
    """Seconds, with or without their unit."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: seconds above 0, as 60s")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a whole number at least 1")
    return int(text)


def _grid(options: argparse.Namespace) -> tuple[Config, list[dict[str, Any]]]:
    from nsbench.plan import grid_cells

    config = load(_read_spec(options))
    return config, grid_cells(config)


def _folder(paths: list[Path]) -> Path:
    """The one folder that the given files lie in."""
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        raise ConfigError(f"files: {', '.join(map(str, paths))} lie in different folders; one folder is allowed")
    return folders.pop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nsbench", description="Stages of the nsbench workflow; snakemake runs them.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--spec", required=True, help="the stage's settings, as canonical JSON")
        sub.add_argument("--digest", required=True, help="digest of the code that the stage runs")
        return sub

    def add_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
        sub.add_argument("--processes-per-gpu", type=_count, default=1)

    text = stage("text", _text, "fetch and check the text of next-token prediction")
    text.add_argument("--out", type=Path, required=True)

    dataset = stage("dataset", _dataset, "make the data sets of a pack's seeds, and their floors")
    dataset.add_argument("--text", type=Path, help="the text stage's file, for tasks that need one")
    dataset.add_argument("--out", type=Path, required=True)
    dataset.add_argument("--floors", type=Path, required=True)

    train = stage("train", _train, "train the runs of a pack that are not finished")
    train.add_argument("--dataset", type=Path, required=True)
    train.add_argument("--run-store", type=Path, required=True, help="folder of run folders")
    train.add_argument("--history", type=Path, required=True)
    train.add_argument("--runs", type=Path, required=True)
    train.add_argument("--progress-every", type=_seconds, default=60.0, help="seconds between progress files, as 60s")
    add_device(train)

    evaluate = stage("evaluate", _evaluate, "measure the checkpoints of a pack")
    evaluate.add_argument("--runs", type=Path, required=True)
    evaluate.add_argument("--dataset", type=Path, required=True)
    evaluate.add_argument("--run-store", type=Path, required=True, help="folder of run folders")
    evaluate.add_argument("--out", type=Path, required=True)
    add_device(evaluate)

    collect = stage("collect", _collect, "join the records of all packs of the grid")
    collect.add_argument("--packs", type=Path, required=True, help="folder of the packs")
    collect.add_argument("--datasets", type=Path, required=True, help="folder of the data sets")
    collect.add_argument("--out", type=Path, nargs="+", required=True)

    analyse = stage("analyse", _analyse, "time to target, per run and cell, and paired effects")
    analyse.add_argument("--collected", type=Path, nargs="+", required=True)
    analyse.add_argument("--out", type=Path, nargs="+", required=True)

    figure = stage("figure", _figure, "draw a figure")
    figure.add_argument("name")
    figure.add_argument("--collected", type=Path, nargs="+", required=True)
    figure.add_argument("--tables", type=Path, nargs="+", required=True)
    figure.add_argument("--png", type=Path, required=True)
    figure.add_argument("--pdf", type=Path, required=True)

    simulate = stage("simulate", _simulate, "simulate an experiment of the theory")
    simulate.add_argument("--max-values", type=_count, default=4_000_000, help="numbers held at once: bounds memory")
    simulate.add_argument("--points", type=Path, required=True)
    simulate.add_argument("--examples", type=Path, required=True, help="single draws, shown as they are")
    add_device(simulate)

    theory = stage("theory", _theory, "an experiment's formulas as curves, and beside each simulated point")
    theory.add_argument("--points", type=Path, required=True)
    theory.add_argument("--curves", type=Path, required=True)
    theory.add_argument("--table", type=Path, required=True)

    theory_table = stage("theory-table", _theory_table, "join the theory's tables")
    theory_table.add_argument("--tables", type=Path, nargs="+", required=True)
    theory_table.add_argument("--out", type=Path, required=True)
    theory_table.add_argument("--csv", type=Path, required=True)

    theory_figure = stage("theory-figure", _theory_figure, "draw a figure of the theory")
    theory_figure.add_argument("name")
    theory_figure.add_argument("--tables", type=Path, nargs=3, required=True, help="curves, points and examples")
    theory_figure.add_argument("--png", type=Path, required=True)
    theory_figure.add_argument("--pdf", type=Path, required=True)

    report = stage("report", _report, "write the report")
    report.add_argument("--figures", type=Path, nargs="+", required=True)
    report.add_argument("--collected", type=Path, nargs="+", required=True)
    report.add_argument("--tables", type=Path, nargs="+", required=True)
    report.add_argument("--theory", type=Path, help="the theory stage's table, where the theory is not left out")
    report.add_argument("--out", type=Path, required=True)

    track = stage("track", _track, "import the runs into MLflow")
    track.add_argument("--collected", type=Path, nargs="+", required=True)
    track.add_argument("--tables", type=Path, nargs="+", required=True)
    track.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
