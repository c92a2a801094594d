"""The command line: `nsbench <stage> ...`, one stage of the workflow each.

Argument parsing, and that one process at a time makes a stage's files; what a stage does is elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsbench.cli import commands
from nsbench.config.base import ConfigError
from nsbench.config.errors import show
from nsbench.storage.locks import locked

MEASURE = (
    "How stable a language model is, and how concentrated its dependence on its input: geometric influence of each "
    "position, noise stability, average sensitivity; beside a randomly initialised copy."
)


def main(arguments: list[str] | None = None) -> int:
    """Run a stage; problems that a user can mend end with one sentence and exit status 2."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # It tells each step of putting a font into a PDF.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    try:
        _refuse_twins(options)
        with _alone(options):
            options.run(options)
    except Exception as error:
        if not _for_users(error):
            raise
        print(f"nsbench {options.stage}: {error}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _alone(options: argparse.Namespace) -> Iterator[None]:
    """Be the only process that makes the stage's files.

    A job may outlive its workflow; the next one's job must be the last to write, for its settings may be newer.
    An import into MLflow, records and the queue have locks of their own; a new file is made at once.
    """
    of_this_job = [value for name, value in vars(options).items() if name != "run_store"]
    made = sorted(path for value in of_this_job for path in _paths(value) if isinstance(path, _Made))
    if options.stage in ("track", "records", "queue", "new") or not made or not made[0].parent.is_dir():
        yield
        return
    # The files that a job makes are its alone, so one of them stands for all.
    first = made[0]
    with locked(first.parent / ".locks" / f"{first.name}.lock", f"another process makes {first}; waiting for that"):
        yield


def _paths(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _for_users(error: Exception) -> bool:
    from nsbench.data.text_sources import TextError
    from nsbench.pretrained.inputs import InputError
    from nsbench.pretrained.sources import ModelError
    from nsbench.storage.atomic import FileError
    from nsbench.storage.device import DeviceError
    from nsbench.tracking import TrackingError

    kinds = ConfigError | FileError | DeviceError | TextError | TrackingError | ModelError | InputError
    return isinstance(error, kinds)


def _seconds(text: str) -> float:
    """Seconds, with or without their unit."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: seconds above 0, as 60s")
    return seconds


def _gigabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: gigabytes above 0, as 4")
    return size


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{show(text)} is not allowed; allowed: a whole number in 1 ... 999999999999")
    return int(text)


def _words(text: str) -> str:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{show(text)} is not allowed; allowed: a name or path")
    return text


def _given(text: str) -> Path:
    return Path(_words(text))


class _Made(type(Path())):
    """The path of what a stage makes."""


def _made(text: str) -> _Made:
    path = _placed(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{show(text)} is a folder; allowed: a file, there or not")
    return path


def _made_folder(text: str) -> _Made:
    path = _placed(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{show(text)} is a file; allowed: a folder, there or not")
    return path


def _placed(text: str) -> _Made:
    path = _Made(_words(text))
    try:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        path.exists()  # a name that is too long ends this
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{show(text)} is not allowed ({error.strerror})") from None
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{show(text)} would lie in {show(str(above))}, which is a file")
    return path


def _refuse_twins(options: argparse.Namespace) -> None:
    """Refuse to make a file in the place of one that is read, or of another that is made. Raises ConfigError."""
    seen: dict[str, tuple[str, bool]] = {}
    for name, value in vars(options).items():
        for path in _paths(value):
            if isinstance(path, Path):
                made = isinstance(path, _Made)
                first, first_made = seen.setdefault(os.path.realpath(path), (name, made))
                if first != name and (made or first_made):
                    flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in (first, name))
                    raise ConfigError(f"{flags} are both {show(str(path))}; each needs a path of its own")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nsbench", description="Stages of the nsbench workflow; snakemake runs them.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument("--spec", required=True, help="the stage's settings, as canonical JSON")
        sub.add_argument("--digest", required=True, help="digest of the code that the stage runs")
        return sub

    def add_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
        sub.add_argument("--processes-per-gpu", type=_count, default=1)

    def add_outdated(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--outdated",
            choices=["theory", "pretrained"],
            nargs="+",
            default=[],
            help="what is there of other settings or code, and left out",
        )

    def add_finished(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--finished", type=_given, help="the finished stage's file: only runs that it has as finished")

    text = stage("text", commands.text, "fetch and check the text of next-token prediction")
    text.add_argument("--out", type=_made, required=True)

    dataset = stage("dataset", commands.dataset, "make the data sets of a pack's seeds, and their floors")
    dataset.add_argument("--text", type=_given, help="the text stage's file, for tasks that need one")
    dataset.add_argument("--out", type=_made, required=True)
    dataset.add_argument("--floors", type=_made, required=True)

    train = stage("train", commands.train, "train the runs of a pack that are not finished")
    train.add_argument("--dataset", type=_given, required=True)
    train.add_argument("--run-store", type=_made_folder, required=True, help="folder of run folders")
    train.add_argument("--history", type=_made, required=True)
    train.add_argument("--runs", type=_made, required=True)
    train.add_argument("--plugins", type=_given, nargs="+", default=[], help="the file that the arm is from, if any")
    train.add_argument("--progress-every", type=_seconds, default=60.0, help="seconds between progress files, as 60s")
    add_device(train)

    evaluate = stage("evaluate", commands.evaluate, "measure the checkpoints of a pack")
    evaluate.add_argument("--runs", type=_given, required=True)
    evaluate.add_argument("--dataset", type=_given, required=True)
    evaluate.add_argument("--run-store", type=_given, required=True, help="folder of run folders")
    evaluate.add_argument("--out", type=_made, required=True)
    add_device(evaluate)

    finished = stage("finished", commands.finished, "look which runs of the grid are finished, and why others are not")
    finished.add_argument("--packs", type=_given, required=True, help="folder of the packs")
    finished.add_argument("--datasets", type=_given, required=True, help="folder of the data sets")
    finished.add_argument("--run-store", type=_given, required=True, help="folder of run folders")
    finished.add_argument("--text", type=_given, required=True, help="the text stage's file, there or not")
    finished.add_argument("--text-spec", default="null", help="the text stage's settings; null: no task needs a text")
    finished.add_argument("--out", type=_made, required=True, help="Parquet: every run of the grid and its state")
    finished.add_argument("--missing", type=_made, required=True, help="CSV: the runs that are not finished, and why")

    collect = stage("collect", commands.collect, "join the records of all packs of the grid")
    add_finished(collect)
    collect.add_argument("--packs", type=_given, required=True, help="folder of the packs")
    collect.add_argument("--datasets", type=_given, required=True, help="folder of the data sets")
    collect.add_argument("--out", type=_made, nargs="+", required=True)

    analyse = stage("analyse", commands.analyse, "time to target, per run and cell, and paired effects")
    add_finished(analyse)
    analyse.add_argument("--collected", type=_given, nargs="+", required=True)
    analyse.add_argument("--out", type=_made, nargs="+", required=True)

    figure = stage("figure", commands.figure, "draw a figure")
    add_finished(figure)
    figure.add_argument("name")
    figure.add_argument("--collected", type=_given, nargs="+", required=True)
    figure.add_argument("--tables", type=_given, nargs="+", required=True)
    figure.add_argument("--png", type=_made, required=True)
    figure.add_argument("--pdf", type=_made, required=True)

    figures = stage("figures", commands.figures, "draw every figure that the runs can fill, and leave the others out")
    add_finished(figures)
    figures.add_argument("--collected", type=_given, nargs="+", required=True)
    figures.add_argument("--tables", type=_given, nargs="+", required=True)
    figures.add_argument("--out", type=_made_folder, required=True, help="folder of the figures")

    simulate = stage("simulate", commands.simulate, "simulate an experiment of the theory")
    simulate.add_argument("--max-values", type=_count, default=4_000_000, help="numbers held at once: bounds memory")
    simulate.add_argument("--points", type=_made, required=True)
    simulate.add_argument("--examples", type=_made, required=True, help="single draws, shown as they are")
    add_device(simulate)

    theory = stage("theory", commands.theory, "an experiment's formulas as curves, and beside each simulated point")
    theory.add_argument("--points", type=_given, required=True)
    theory.add_argument("--curves", type=_made, required=True)
    theory.add_argument("--table", type=_made, required=True)

    theory_table = stage("theory-table", commands.theory_table, "join the theory's tables")
    theory_table.add_argument("--tables", type=_given, nargs="+", required=True)
    theory_table.add_argument("--out", type=_made, required=True)
    theory_table.add_argument("--csv", type=_made, required=True)

    theory_figure = stage("theory-figure", commands.theory_figure, "draw a figure of the theory")
    theory_figure.add_argument("name")
    theory_figure.add_argument("--tables", type=_given, nargs=3, required=True, help="curves, points and examples")
    theory_figure.add_argument("--png", type=_made, required=True)
    theory_figure.add_argument("--pdf", type=_made, required=True)

    pretrained = stage("pretrained", commands.pretrained, "measure a pretrained model and a random copy of it")
    pretrained.add_argument("--text", type=_given, required=True, help="the text stage's file")
    pretrained.add_argument("--out", type=_made_folder, required=True, help="folder of the model's files")
    pretrained.add_argument("--unreachable", choices=["stop", "skip"], default="stop")
    pretrained.add_argument("--max-memory-gb", type=_gigabytes, default=4.0)
    add_device(pretrained)

    pretrained_tables = stage("pretrained-tables", commands.pretrained_tables, "join the models' files, and Table 1")
    pretrained_tables.add_argument("--models", type=_given, nargs="+", required=True, help="the models' folders")
    pretrained_tables.add_argument("--out", type=_made, nargs="+", required=True)

    pretrained_figure = stage("pretrained-figure", commands.pretrained_figure, "draw a figure of pretrained models")
    pretrained_figure.add_argument("name")
    pretrained_figure.add_argument("--tables", type=_given, nargs="+", required=True)
    pretrained_figure.add_argument("--png", type=_made, required=True)
    pretrained_figure.add_argument("--pdf", type=_made, required=True)

    measure = stages.add_parser("measure", help="measure a model of your own", description=MEASURE, allow_abbrev=False)
    measure.set_defaults(run=commands.measure)
    measure.add_argument(
        "--model", type=_words, required=True, help="a name of config's, a model's folder, or a run's folder"
    )
    measure.add_argument("--text", type=_given, required=True, help="a UTF-8 text; of a run its data set's file")
    measure.add_argument("--out", type=_made_folder, required=True, help="folder for the results")
    measure.add_argument("--rho", type=float, nargs="+", default=[0.5, 0.9])
    measure.add_argument("--n-tokens", type=_count, default=256)
    measure.add_argument("--n-sequences", type=_count, default=16)
    measure.add_argument("--readouts", nargs="+")
    measure.add_argument("--inputs", nargs="+", default=["text"], help="text, uniform and gaussian")
    measure.add_argument("--no-control", action="store_true", help="leave the randomly initialised copy out")
    measure.add_argument("--seed", type=int, default=0)
    measure.add_argument(
        "--config", type=_given, default=Path("config.yaml"), help="where names of models are looked up"
    )
    measure.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    measure.add_argument("--batch-size", type=_count, help="sequences at a time; left out, as many as memory allows")
    measure.add_argument("--max-memory-gb", type=_gigabytes, default=4.0)

    claims = stage("claims", commands.claims, "judge the paper's claims by the rules of claims.yaml")
    add_finished(claims)
    claims.add_argument("--claims", type=_given, required=True, help="the claims and their rules")
    claims.add_argument("--collected", type=_given, nargs="+", required=True)
    claims.add_argument("--tables", type=_given, nargs="+", required=True)
    claims.add_argument("--theory", type=_given, help="the theory stage's table, where the theory is not left out")
    claims.add_argument("--pretrained", type=_given, nargs="+", help="tables of pretrained models, if any")
    add_outdated(claims)
    claims.add_argument("--out", type=_made, nargs="+", required=True)

    report = stage("report", commands.report, "write the report")
    add_finished(report)
    report.add_argument("--figures", type=_given, nargs="+", required=True, help="PNG files, or folders of figures")
    report.add_argument("--collected", type=_given, nargs="+", required=True)
    report.add_argument("--tables", type=_given, nargs="+", required=True)
    report.add_argument("--theory", type=_given, help="the theory stage's table, where the theory is not left out")
    report.add_argument("--pretrained", type=_given, nargs="+", help="tables of pretrained models, if any")
    add_outdated(report)
    report.add_argument("--claims", type=_given, nargs="+", help="the files of the claims stage")
    report.add_argument("--out", type=_made, required=True)

    _add_records(stages)
    _add_queue(stages)

    text = "write a file for an arm of your own, complete and ready to edit"
    new = stages.add_parser("new", help=text, description=text, allow_abbrev=False)
    new.set_defaults(run=commands.new)
    new.add_argument("what", choices=["arm"])
    new.add_argument("name", help="its name: a-z, 0-9 and '_', a letter first")
    new.add_argument("--out", type=_made, help="left out, NAME.py in this folder")

    track = stage("track", commands.track, "import the runs into MLflow")
    track.add_argument("--collected", type=_given, nargs="+", required=True)
    track.add_argument("--tables", type=_given, nargs="+", required=True)
    track.add_argument("--out", type=_made, required=True)
    return parser


def _add_records(stages: Any) -> None:
    """The commands on records of finished runs."""
    text = "records of finished runs: files of some kilobytes a run, to publish, to send and to build on"
    records = stages.add_parser("records", help=text, description=text, allow_abbrev=False)
    actions = records.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, run: str, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=lambda options: commands.records(run, options))
        sub.add_argument(
            "--configfile",
            type=_given,
            nargs="+",
            default=[Path("config.yaml")],
            help="the grid's configuration: config.yaml and what is laid over it",
        )
        return sub

    export = action("export", "export_", "add records of the finished runs of a grid to a folder of records")
    export.add_argument("--results", type=_given, default=Path("results"), help="folder of results")
    export.add_argument("--out", type=_made_folder, required=True, help="folder of records")
    action("check", "check", "whether every run of a grid has a record among those that its configuration names")
    take = action("import", "import_", "check others' records, and add those that fit the grid to a folder of records")
    take.add_argument("sources", type=_given, nargs="+", metavar="FOLDER|FILE")
    take.add_argument("--into", type=_made_folder, required=True, help="folder of records")
    verify = action("verify", "verify", "train a sample of recorded runs again, and compare")
    verify.add_argument("sources", type=_given, nargs="+", metavar="FOLDER|FILE")
    verify.add_argument("--sample", type=_count, default=3, help="runs to train again")
    verify.add_argument("--seed", type=int, default=0, help="draws the sample")
    verify.add_argument("--steps", type=_count, help="train no longer than this, and compare the beginning")


def _add_queue(stages: Any) -> None:
    """The command that works through a folder of overlays."""
    text = "run a folder of overlays one after the other in the background, and export what is finished"
    queue = stages.add_parser("queue", help=text, description=text, allow_abbrev=False)
    queue.set_defaults(run=commands.queue)
    queue.add_argument("action", choices=["run", "status"])
    queue.add_argument(
        "--overlays", type=_given, default=Path("workflow/config/queue"), help="folder of overlays, or one file"
    )
    queue.add_argument(
        "--records", type=_made_folder, default=_Made("results/published/records"), help="folder of records"
    )
    queue.add_argument("--cores", type=_count, help="processes at a time; left out, all cores")
    queue.add_argument("--gpus", type=_count, default=1, help="GPUs, if there are any")
    queue.add_argument("--export-every", type=_seconds, default=600.0, help="seconds between exports, as 600s")
