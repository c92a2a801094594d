"""The stages of the workflow: each hands files and settings to the function that does the work, which it imports.

A stage is a function of its parsed options with a line of help and its arguments: `nsbench stage NAME ...`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nsbench.cli.arguments import (
    DEVICE,
    MEMORY,
    PROCESSES,
    Argument,
    Command,
    count,
    makes,
    makes_folder,
    option,
    reads,
    seconds,
)
from nsbench.config.base import Closed, ConfigError, parse

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nsbench.workflow.config import Config

SPEC = Argument("--spec", {"required": True, "help": "the stage's settings, as canonical JSON"})
DIGEST = Argument("--digest", {"required": True, "help": "digest of the code that the stage runs"})
STORE = "folder of run folders"
PLUGINS = reads("plugins", "files of the plug-ins that are used", nargs="+", default=[])
FINISHED = reads("finished", "file of the stage finished: only the runs that it has as finished", default=None)
PACKS = reads("packs", "folder of packs")
DATASETS = reads("datasets", "folder of data sets")
RESULTS = reads("results", "folder of results, with the tables")
COLLECTED = reads("collected", "folder of the collected records")
TABLES = reads("tables", "folder of tables")
THEORY = reads("theory", "the theory's table, if any", default=None)
PRETRAINED = reads("pretrained", "folder of the tables of pretrained models, if any", default=None)
OUTDATED = Argument(
    "--outdated",
    {
        "choices": ["theory", "pretrained"],
        "nargs": "+",
        "default": [],
        "help": "what is left out, since it was made by other settings or code",
    },
)
PICTURE = (makes("png", "the figure"), makes("pdf", "the figure"))

STAGES: dict[str, Command] = {}


def stage(name: str, help_: str, *arguments: Argument) -> Callable[[Callable[[argparse.Namespace], None]], Any]:
    """Make a function the stage `name`; `--spec` and `--digest` are arguments of every one."""

    def add(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
        STAGES[name] = Command(run, help_, (SPEC, DIGEST, *arguments))
        return run

    return add


# --- runs -----------------------------------------------------------------------------------------------


@stage("text", "fetch and check the text of next-token prediction", makes("out", "Parquet file"))
def text(options: argparse.Namespace) -> None:
    from nsbench.data.text_sources import TextSpec, make_text

    make_text(_spec(options, TextSpec), options.out, _stamp(options))


@stage(
    "dataset",
    "make the data sets of a pack's seeds, and their n-gram baselines",
    reads("text", "file of the stage text, for tasks that need one", default=None),
    makes("out", "safetensors file"),
    makes("floors", "Parquet file of the baselines"),
    PLUGINS,
)
def dataset(options: argparse.Namespace) -> None:
    from nsbench.data.generate import DatasetSpec, make_datasets
    from nsbench.workflow import plugins

    plugins.load(options.plugins)
    make_datasets(_spec(options, DatasetSpec), options.out, options.floors, _stamp(options), options.text)


@stage(
    "train",
    "train the runs of a pack that are not finished",
    reads("dataset", "file of the stage dataset"),
    makes_folder("run-store", STORE),
    makes("history", "Parquet file of evaluations"),
    makes("runs", "Parquet file of runs"),
    PLUGINS,
    option("progress-every", seconds, "seconds between progress files, as 60s", default=60.0),
    DEVICE,
    PROCESSES,
)
def train(options: argparse.Namespace) -> None:
    with _device(options) as device:
        from nsbench.training.pack import train_pack
        from nsbench.training.run import TrainSpec
        from nsbench.workflow import plugins

        plugins.load(options.plugins)
        files = (options.dataset, options.run_store, options.history, options.runs)
        train_pack(_spec(options, TrainSpec), options.digest, *files, device, options.progress_every)


@stage(
    "evaluate",
    "measure the checkpoints of a pack",
    reads("runs", "file of the stage train"),
    reads("dataset", "file of the stage dataset"),
    reads("run-store", STORE),
    makes("out", "Parquet file"),
    PLUGINS,
    DEVICE,
    PROCESSES,
)
def evaluate(options: argparse.Namespace) -> None:
    with _device(options) as device:
        from nsbench.evaluation.run import EvaluateSpec, evaluate_pack
        from nsbench.workflow import plugins

        plugins.load(options.plugins)
        files = (options.runs, options.dataset, options.run_store, options.out)
        evaluate_pack(_spec(options, EvaluateSpec), options.digest, *files, device)


# --- the grid -------------------------------------------------------------------------------------------


@stage(
    "finished",
    "list which runs of the grid are finished, and why others are not",
    reads("results", "folder of results"),
    Argument("--text-spec", {"default": "null", "help": "settings of the stage text; null: no task needs a text"}),
    makes("out", "Parquet: every run of the grid and its state"),
    makes("missing", "CSV: the runs that are not finished, and why"),
)
def finished(options: argparse.Namespace) -> None:
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import Plan
    from nsbench.workflow.recorded_runs import index
    from nsbench.workflow.run_states import write_states

    config = parsed(_json(options))
    made = (options.out, options.missing, options.spec, options.digest)
    write_states(Plan(config, index(config)), options.results, _json(options, "text_spec"), *made)


@stage(
    "collect",
    "join the records of all packs of the grid",
    FINISHED,
    PACKS,
    DATASETS,
    makes_folder("out", "folder of the collected records"),
)
def collect(options: argparse.Namespace) -> None:
    from nsbench.analysis.collect import Sources, collect
    from nsbench.workflow.plan import Plan
    from nsbench.workflow.recorded_runs import evaluation_settings_of, index

    grid = read_grid(options)
    config, cells = grid.config, grid.cells
    plan = Plan(config, index(config))
    wanted = {(cell["task"], cell["variant"], cell["arm"], seed) for cell in cells for seed in cell["seeds"]}
    packs = [pack for pack in plan.packs if any((*pack[:3], seed) in wanted for seed in plan.seeds[pack[-1]])]
    folders = [options.packs.joinpath(*pack) for pack in packs]
    of_packs = {(task, variant, pack) for task, variant, _, pack in packs}
    datasets = [dataset for dataset in plan.datasets() if dataset in of_packs]
    floors = [options.datasets / task / variant / f"{pack}.floors.parquet" for task, variant, pack in datasets]
    records = {(*key, seed): record for key, found in plan.recorded.items() for seed, record in found.items()}
    records = {key: record for key, record in records.items() if key in wanted}
    sources = Sources(folders, floors, records, evaluation_settings_of(config), plan.codes())
    collect(cells, sources, options.out, options.spec, options.digest, grid.partial)


@stage(
    "analyse",
    "time to target, per run and cell, and paired effects",
    FINISHED,
    COLLECTED,
    makes_folder("out", "folder of tables"),
)
def analyse(options: argparse.Namespace) -> None:
    from nsbench.analysis.tables import analyse

    grid = read_grid(options)
    made = (options.out, options.spec, options.digest)
    analyse(options.collected, grid.cells, grid.config.analysis, *made, grid.partial)


@stage("figure", "draw a figure", Argument("name", {"help": "the figure's name"}), RESULTS, PLUGINS, *PICTURE)
def figure(options: argparse.Namespace) -> None:
    from nsbench.config.pretrained import PretrainedFigureSpec
    from nsbench.figures import find
    from nsbench.figures.drawing import Grid, TheoryFigureSpec, render
    from nsbench.workflow import plugins

    plugins.load(options.plugins)
    specs = {"theory": TheoryFigureSpec, "pretrained": PretrainedFigureSpec}
    spec = specs.get(find(options.name)[0].kind)
    settings = _spec(options, spec) if spec else Grid(*read_grid(options)[1:3])
    render(options.name, options.results, settings, options.png, options.pdf)


@stage(
    "figures",
    "draw every figure that the runs can fill, and leave the others out",
    FINISHED,
    RESULTS,
    makes_folder("out", "folder of figures"),
)
def figures(options: argparse.Namespace) -> None:
    from nsbench.figures.drawing import render_all

    _, cells, scale, _ = read_grid(options)
    render_all(options.results, cells, scale, options.out)


@stage(
    "claims",
    "judge the paper's claims by the rules of claims.yaml",
    FINISHED,
    reads("claims", "the claims and their rules"),
    COLLECTED,
    TABLES,
    THEORY,
    PRETRAINED,
    OUTDATED,
    makes_folder("out", "folder of the ledger"),
)
def claims(options: argparse.Namespace) -> None:
    from nsbench.claims import Evidence, write_claims

    grid = read_grid(options)
    settings = grid.config.analysis
    evidence = Evidence(
        options.tables,
        options.collected,
        grid.cells,
        grid.scale,
        options.theory,
        options.pretrained,
        settings.confidence,
        settings.n_resamples,
        options.outdated,
        grid.partial,
    )
    write_claims(options.claims, evidence, options.out, options.spec, options.digest)


@stage(
    "report",
    "write the report",
    FINISHED,
    reads("figures", "folders of figures, and PNG files", nargs="+"),
    COLLECTED,
    TABLES,
    THEORY,
    PRETRAINED,
    OUTDATED,
    reads("claims", "folder of the ledger, if any", default=None),
    makes("out", "HTML file"),
)
def report(options: argparse.Namespace) -> None:
    from nsbench.report.page import Results, write_report

    _, cells, scale, states = read_grid(options)
    shown, not_drawn = pictures(options.figures, cells, bool(options.theory), bool(options.pretrained))
    results = Results(
        tables=options.tables,
        collected=options.collected,
        cells=cells,
        scale=scale,
        figures=shown,
        theory=options.theory,
        pretrained=options.pretrained,
        claims=options.claims,
        states=states,
        outdated=options.outdated,
        not_drawn=not_drawn,
    )
    write_report(results, options.out, options.spec, options.digest)


@stage("track", "import the runs into MLflow", COLLECTED, TABLES, makes("out", "JSON file: what was imported"))
def track(options: argparse.Namespace) -> None:
    from nsbench.config.tracking_uri import resolve
    from nsbench.storage.atomic import write_text
    from nsbench.tracking import track

    config, cells, _, _ = read_grid(options)
    uri = resolve(config.tracking.uri, os.environ, f"sqlite:///{options.out.parent}/mlflow.db")
    summary = track(options.collected, options.tables, cells, uri, options.spec, options.digest)
    write_text(options.out, json.dumps(vars(summary)))


# --- theory, and pretrained models ----------------------------------------------------------------------


@stage(
    "simulate",
    "simulate an experiment of the theory",
    option("max-values", count, "numbers held at once: bounds memory", default=4_000_000),
    makes("points", "Parquet file of simulated points"),
    makes("examples", "Parquet file of single draws, shown as they are"),
    DEVICE,
    PROCESSES,
)
def simulate(options: argparse.Namespace) -> None:
    with _device(options) as device:
        from nsbench.config.theory import ExperimentSpec
        from nsbench.simulation.run import simulate

        made = (options.points, options.examples, device, _stamp(options, device))
        simulate(_spec(options, ExperimentSpec), options.max_values, *made)


@stage(
    "theory",
    "an experiment's formulas as curves, and beside each simulated point",
    reads("points", "file of the stage simulate"),
    makes("curves", "Parquet file of curves"),
    makes("table", "Parquet file of points"),
)
def theory(options: argparse.Namespace) -> None:
    from nsbench.config.theory import ExperimentSpec
    from nsbench.simulation.curves import compute_theory

    spec = _spec(options, ExperimentSpec)
    compute_theory(spec, options.points, options.curves, options.table, _stamp(options))


@stage(
    "theory-table",
    "join the theory's tables",
    reads("tables", "files of the stage theory", nargs="+"),
    makes("out", "Parquet file"),
    makes("csv", "the same as CSV"),
)
def theory_table(options: argparse.Namespace) -> None:
    from nsbench.simulation.curves import join_tables

    join_tables(options.tables, options.out, options.csv, _stamp(options))


@stage(
    "pretrained",
    "measure a pretrained model and a random copy of it",
    reads("text", "file of the stage text"),
    makes_folder("out", "folder of the model's files"),
    Argument(
        "--unreachable",
        {"choices": ["stop", "skip"], "default": "stop", "help": "what to do where the model cannot be fetched"},
    ),
    MEMORY,
    DEVICE,
    PROCESSES,
)
def pretrained(options: argparse.Namespace) -> None:
    with _device(options) as device:
        from nsbench.config.pretrained import MeasureSpec
        from nsbench.pretrained.run import measure_model

        how = {"unreachable": options.unreachable, "max_memory_gb": options.max_memory_gb}
        spec = _spec(options, MeasureSpec)
        measure_model(spec, options.text, options.out, device, _stamp(options, device), **how)


@stage(
    "pretrained-tables",
    "join the files of pretrained models, and Table 1",
    reads("models", "folders of the stage pretrained", nargs="+"),
    makes_folder("out", "folder of tables"),
)
def pretrained_tables(options: argparse.Namespace) -> None:
    from nsbench.analysis.pretrained_tables import join_models
    from nsbench.config.pretrained import TablesSpec

    join_models(options.models, _spec(options, TablesSpec), options.out, _stamp(options))


# --- what stages share ----------------------------------------------------------------------------------


def _json(options: argparse.Namespace, name: str = "spec") -> Any:
    try:
        return json.loads(getattr(options, name))
    except (ValueError, RecursionError) as error:
        flag = name.replace("_", "-")
        raise ConfigError(f"--{flag}: not JSON ({error}); the stage's settings as a JSON object are allowed") from None


def _spec(options: argparse.Namespace, model: type[Closed]) -> Any:
    return parse(model, _json(options), "spec")


def _stamp(options: argparse.Namespace, device: torch.device | None = None) -> dict[str, str]:
    from nsbench.storage.provenance import stamp

    return stamp(options.spec, options.digest, *([] if device is None else [str(device)]))


def _device(options: argparse.Namespace) -> AbstractContextManager[torch.device]:
    """A device of the kind that is asked for. What imports torch comes after: it may see that device alone."""
    from nsbench.storage.device import use_device

    return use_device(options.device, options.processes_per_gpu)


class Grid(NamedTuple):
    """What a stage looks at: the grid, or the finished part of it where `--finished` names one."""

    config: Config
    cells: list[dict[str, Any]]
    scale: str
    states: pd.DataFrame | None
    """The state of every run of the grid (nsbench.schemas.run_states.RUN_STATE); None for a whole one."""

    @property
    def partial(self) -> str:
        """How much of the grid the cells are, as `812 of 2,228 runs`; empty: all of it."""
        return self.cells[0].get("partial", "") if self.cells else ""


def read_grid(options: argparse.Namespace) -> Grid:
    """The grid of a stage's spec."""
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import grid_cells

    # Not `load`: the size of the grid was looked at when it was planned, by settings that a spec may lack.
    config = parsed(_json(options))
    cells = grid_cells(config)
    if getattr(options, "finished", None) is None:
        return Grid(config, cells, config.scale, None)
    from nsbench.workflow.run_states import finished_cells, read_states

    states = read_states(options.finished, cells)
    return Grid(config, finished_cells(cells, states), config.scale, states)


def pictures(
    given: list[Path], cells: list[dict[str, Any]], theory: bool, pretrained: bool
) -> tuple[list[Path], list[str]]:
    """The pictures of a report, and the names of those that could not be drawn.

    given: PNG files, which are all shown, and folders, of which those are that the grid fills, and with `theory` and
    `pretrained` those of these.
    """
    from nsbench.figures.drawing import NOT_DRAWN, figures_for

    names = figures_for(cells, theory, pretrained)
    found, failed = [], []
    for path in given:
        if path.is_dir():
            found += [picture for name in names if (picture := path / f"{name}.png").exists()]
            if (path / NOT_DRAWN).exists():
                failed += (path / NOT_DRAWN).read_text(encoding="utf-8").split()
        else:
            found.append(path)
    return found, failed
