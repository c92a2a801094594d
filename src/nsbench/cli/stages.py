"""The stages of the workflow: each hands files and settings to the function that does the work, which it imports.

A stage is a function of its parsed options, and of a device if it takes one: `nsbench stage NAME ...`.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from nsbench.cli.arguments import MEMORY, Argument, given_path, option, seconds
from nsbench.cli.grid import pictures, read_grid, sources_of
from nsbench.cli.stage import STAGES, given_json, given_spec, stage, stamp_of
from nsbench.config.base import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["STAGES"]

PLUGINS = option("plugins", given_path, "files of the plug-ins that are used", nargs="+", default=[])
PROGRESS = option("progress-every", seconds, "seconds between progress files, as 60s", default=60.0)
NAME = Argument("name", {"help": "the figure's name"})
UNREACHABLE = Argument("--unreachable", {"choices": ["stop", "skip"], "default": "stop", "help": "if it is not there"})
LEFT_OUT = "what is left out, since it was made by other settings or code"
OUTDATED = Argument("--outdated", {"choices": ["theory", "pretrained"], "nargs": "+", "default": [], "help": LEFT_OUT})
TEXT_SPEC = Argument("--text-spec", {"default": "null", "help": "settings of the stage text, if a task needs one"})


# --- runs -----------------------------------------------------------------------------------------------


@stage("text", "fetch and check the text of next-token prediction", makes="out")
def text(options: argparse.Namespace) -> None:
    from nsbench.config.sections import TextSource
    from nsbench.data.text_sources import TextError, TextSpec, make_text, resolve
    from nsbench.storage.atomic import only_if

    spec = given_spec(options, TextSpec)

    def check() -> None:
        if spec.fingerprint and resolve(TextSource(source=spec.source, path=spec.path), {}) != spec:
            raise TextError(f"{spec.path}: edited since the workflow began; give the same command again")

    with only_if(check):
        make_text(spec, options.out, stamp_of(options))


@stage("dataset", "make a pack's data sets, and their n-gram baselines", PLUGINS, optional="text", makes="out floors")
def dataset(options: argparse.Namespace) -> None:
    from nsbench.data.generate import DatasetSpec, make_datasets

    make_datasets(given_spec(options, DatasetSpec), options.out, options.floors, stamp_of(options), options.text)


@stage(
    "train",
    "train the runs of a pack that are not finished",
    PROGRESS,
    PLUGINS,
    reads="dataset",
    optional="stacks",
    makes="history runs",
    folders="run-store",
    device=True,
)
def train(options: argparse.Namespace, device: torch.device) -> None:
    from nsbench.storage.device import keep_heap
    from nsbench.training.pack import train_pack
    from nsbench.training.run import TrainSpec

    keep_heap()
    files = (options.dataset, options.run_store, options.history, options.runs)
    stacks = options.stacks if device.type == "cuda" else None
    train_pack(given_spec(options, TrainSpec), options.digest, *files, device, options.progress_every, stacks)


@stage(
    "evaluate", "measure the checkpoints of a pack", PLUGINS, reads="runs dataset run-store", makes="out", device=True
)
def evaluate(options: argparse.Namespace, device: torch.device) -> None:
    from nsbench.evaluation.run import EvaluateSpec, evaluate_pack
    from nsbench.schemas.training import RUNS
    from nsbench.storage.device import keep_heap
    from nsbench.storage.parquet import RecordError, read_table
    from nsbench.workflow.run_states import same_data

    keep_heap()
    spec = given_spec(options, EvaluateSpec)
    if not same_data(options.dataset, spec.task, read_table(options.runs, RUNS)):
        raise RecordError(
            f"{options.dataset}: is not the data set that {options.runs} was trained on; delete it and run its stage "
            "again"
        )
    files = (options.runs, options.dataset, options.run_store, options.out)
    evaluate_pack(spec, options.digest, *files, device)


# --- the grid: all of it, or what the stage finished has as finished --------------------------------------


@stage(
    "finished",
    "which runs of the grid are finished, and why others are not",
    TEXT_SPEC,
    reads="results",
    makes="out missing",
)
def finished(options: argparse.Namespace) -> None:
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import Plan
    from nsbench.workflow.recorded_runs import index
    from nsbench.workflow.run_states import write_states

    config = parsed(given_json(options))
    made = (options.out, options.missing, options.spec, options.digest)
    write_states(Plan(config, index(config)), options.results, given_json(options, "text_spec"), *made)


@stage(
    "collect", "join the records of all packs of the grid", reads="packs datasets", optional="finished", folders="out"
)
def collect(options: argparse.Namespace) -> None:
    from nsbench.analysis.collect import collect

    grid = read_grid(given_json(options), options.finished)
    sources = sources_of(grid, options.packs, options.datasets)
    collect(grid.cells, sources, options.out, options.spec, options.digest, grid.partial)


@stage("analyse", "time to target and paired effects", reads="collected", optional="finished", folders="out")
def analyse(options: argparse.Namespace) -> None:
    from nsbench.analysis.tables import analyse

    grid = read_grid(given_json(options), options.finished)
    made = (options.out, options.spec, options.digest)
    analyse(options.collected, grid.cells, grid.config.analysis, *made, grid.partial)


@stage("figure", "draw a figure", NAME, PLUGINS, reads="results", makes="png pdf")
def figure(options: argparse.Namespace) -> None:
    from nsbench.config.pretrained import PretrainedFigureSpec
    from nsbench.figures import find
    from nsbench.figures.drawing import Grid, TheoryFigureSpec, render

    specs = {"theory": TheoryFigureSpec, "pretrained": PretrainedFigureSpec}
    spec = specs.get(find(options.name)[0].kind)
    settings = given_spec(options, spec) if spec else Grid(*read_grid(given_json(options))[1:3])
    render(options.name, options.results, settings, options.png, options.pdf)


@stage("figures", "draw every figure that the runs can fill", reads="results", optional="finished", folders="out")
def figures(options: argparse.Namespace) -> None:
    from nsbench.figures.drawing import render_all

    grid = read_grid(given_json(options), options.finished)
    render_all(options.results, grid.cells, grid.scale, options.out, grid.config.evaluation.measures)


@stage(
    "claims",
    "judge the paper's claims by the rules of claims.yaml",
    OUTDATED,
    reads="claims collected tables",
    optional="finished theory pretrained",
    folders="out",
)
def claims(options: argparse.Namespace) -> None:
    from nsbench.claims import Evidence, write_claims

    grid = read_grid(given_json(options), options.finished, [options.claims])
    settings = grid.config.analysis
    files = (options.tables, options.collected, grid.cells, grid.scale, options.theory, options.pretrained)
    primary = {task: f"{one.variant} / {one.arm}" for task, one in settings.primary.items()}
    how = (1 - settings.looks.alpha, settings.margin, primary, options.outdated, grid.partial)
    write_claims(options.claims, Evidence(*files, *how), options.out, options.spec, options.digest)


@stage(
    "report",
    "write the report",
    OUTDATED,
    reads="collected tables",
    lists="figures",
    optional="finished theory pretrained claims",
    makes="out",
)
def report(options: argparse.Namespace) -> None:
    from nsbench.report.page import Results, write_report

    grid = read_grid(given_json(options), options.finished)
    shown, not_drawn = pictures(options.figures, grid, bool(options.theory), bool(options.pretrained))
    given = {name: getattr(options, name) for name in ("tables", "collected", "theory", "pretrained", "claims")}
    of_grid = {"cells": grid.cells, "scale": grid.scale, "states": grid.states}
    results = Results(**given, **of_grid, figures=shown, outdated=options.outdated, not_drawn=not_drawn)
    write_report(results, options.out, options.spec, options.digest)


@stage("track", "import the runs into MLflow", reads="collected tables", makes="out")
def track(options: argparse.Namespace) -> None:
    from nsbench.config.tracking_uri import resolve
    from nsbench.storage.atomic import write_text
    from nsbench.tracking import track

    grid = read_grid(given_json(options))
    uri = resolve(grid.config.tracking.uri, os.environ, f"sqlite:///{options.out.parent}/mlflow.db")
    summary = track(options.collected, options.tables, grid.cells, uri, options.spec, options.digest)
    write_text(options.out, json.dumps(vars(summary)))


# --- theory, and pretrained models ----------------------------------------------------------------------


@stage("simulate", "simulate an experiment of the theory", makes="points examples", device=True)
def simulate(options: argparse.Namespace, device: torch.device) -> None:
    from nsbench.config.theory import ExperimentSpec
    from nsbench.simulation.run import simulate

    made = (options.points, options.examples, device, stamp_of(options, device))
    simulate(given_spec(options, ExperimentSpec), *made)


@stage("theory", "formulas as curves, and beside each simulated point", reads="theory", makes="table csv")
def theory(options: argparse.Namespace) -> None:
    from nsbench.config.theory import TheorySpec
    from nsbench.simulation.curves import compute_theory

    specs = given_spec(options, TheorySpec).experiments
    compute_theory(specs, options.theory, options.table, options.csv, stamp_of(options))


@stage(
    "pretrained",
    "measure a pretrained model and a random copy of it",
    UNREACHABLE,
    MEMORY,
    reads="text",
    folders="out",
    device=True,
)
def pretrained(options: argparse.Namespace, device: torch.device) -> None:
    from nsbench.config.pretrained import MeasureSpec
    from nsbench.pretrained.run import measure_model
    from nsbench.workflow.plan import files_of

    how = {"unreachable": options.unreachable, "max_memory_gb": options.max_memory_gb}
    spec = given_spec(options, MeasureSpec)
    if spec.files and spec.files != files_of(spec.model):
        raise ConfigError(f"{spec.model.path}: its files changed since the workflow began; give the same command again")
    measure_model(spec, options.text, options.out, device, stamp_of(options, device), **how)


@stage("pretrained-tables", "join the files of pretrained models, and Table 1", lists="models", folders="out")
def pretrained_tables(options: argparse.Namespace) -> None:
    from nsbench.analysis.pretrained_tables import join_models
    from nsbench.config.pretrained import TablesSpec

    join_models(options.models, given_spec(options, TablesSpec), options.out, stamp_of(options))
