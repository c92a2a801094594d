"""What each command does with its parsed options: it hands files and settings to a stage. Imports what it runs only."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from nsbench.closed import ConfigError, parse
from nsbench.config import Config


def text(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.text_sources import TextSpec, make_text

    spec = parse(TextSpec, _read_spec(options), "spec")
    make_text(spec, options.out, stamp(options.spec, options.digest))


def dataset(options: argparse.Namespace) -> None:
    from nsbench.generation import DatasetSpec, make_datasets
    from nsbench.provenance import stamp

    spec = parse(DatasetSpec, _read_spec(options), "spec")
    made_by = stamp(options.spec, options.digest)
    make_datasets(spec, options.out, options.floors, made_by, options.text)


def train(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.loop import TrainSpec
        from nsbench.training import train_pack

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


def evaluate(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.evaluation import EvaluateSpec, evaluate_pack

        spec = parse(EvaluateSpec, _read_spec(options), "spec")
        evaluate_pack(spec, options.digest, options.runs, options.dataset, options.run_store, options.out, device)


def collect(options: argparse.Namespace) -> None:
    from nsbench.collection import collect
    from nsbench.plan import Plan

    config, cells = _grid(options)
    plan = Plan(config)
    packs = [options.packs.joinpath(*pack) for pack in plan.packs]
    floors = [options.datasets / task / variant / f"{pack}.floors.parquet" for task, variant, pack in plan.datasets()]
    collect(cells, packs, floors, _folder(options.out), options.spec, options.digest)


def analyse(options: argparse.Namespace) -> None:
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


def figure(options: argparse.Namespace) -> None:
    from nsbench.figures import FIGURES, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    config, cells = _grid(options)
    collected, tables = _folder(options.collected), _folder(options.tables)
    render(options.name, collected, tables, cells, config.scale, options.png, options.pdf)


def simulate(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.provenance import stamp
        from nsbench.simulation.run import simulate
        from nsbench.theory_settings import ExperimentSpec

        spec = parse(ExperimentSpec, _read_spec(options), "spec")
        made_by = stamp(options.spec, options.digest, str(device))
        simulate(spec, options.max_values, options.points, options.examples, device, made_by)


def theory(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.theory_curves import compute_theory
    from nsbench.theory_settings import ExperimentSpec

    spec = parse(ExperimentSpec, _read_spec(options), "spec")
    compute_theory(spec, options.points, options.curves, options.table, stamp(options.spec, options.digest))


def theory_table(options: argparse.Namespace) -> None:
    from nsbench.provenance import stamp
    from nsbench.theory_curves import join_tables

    join_tables(options.tables, options.out, options.csv, stamp(options.spec, options.digest))


def theory_figure(options: argparse.Namespace) -> None:
    from nsbench.figures.theory import FIGURES, TheoryFigureSpec, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure of the theory is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    spec = parse(TheoryFigureSpec, _read_spec(options), "spec")
    render(options.name, spec.experiment, spec.scale, *options.tables, options.png, options.pdf)


def pretrained(options: argparse.Namespace) -> None:
    from nsbench.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.pretrained.run import measure_model
        from nsbench.pretrained_settings import MeasureSpec
        from nsbench.provenance import stamp

        spec = parse(MeasureSpec, _read_spec(options), "spec")
        made_by = stamp(options.spec, options.digest, str(device))
        measure_model(
            spec,
            options.text,
            options.out,
            device,
            made_by,
            unreachable=options.unreachable,
            max_memory_gb=options.max_memory_gb,
        )


def pretrained_tables(options: argparse.Namespace) -> None:
    from nsbench.pretrained_settings import TablesSpec
    from nsbench.pretrained_tables import join_models
    from nsbench.provenance import stamp

    spec = parse(TablesSpec, _read_spec(options), "spec")
    join_models(options.models, spec, _folder(options.out), stamp(options.spec, options.digest))


def pretrained_figure(options: argparse.Namespace) -> None:
    from nsbench.figures.pretrained import FIGURES, render
    from nsbench.pretrained_settings import PretrainedFigureSpec

    if options.name not in FIGURES:
        allowed = ", ".join(FIGURES)
        raise ConfigError(f"name: no figure of pretrained models is called {options.name!r}; allowed: {allowed}")
    spec = parse(PretrainedFigureSpec, _read_spec(options), "spec")
    render(options.name, spec, _folder(options.tables), options.png, options.pdf)


def measure(options: argparse.Namespace) -> None:
    from nsbench.pretrained.command import Request, measure_one

    names = ("rho", "n_tokens", "n_sequences", "readouts", "inputs", "seed")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.no_control:
        settings["control_seed"] = None
    measure_one(
        Request(options.model, options.text, options.out, settings, options.config),
        device=options.device,
        batch_size=options.batch_size,
        max_memory_gb=options.max_memory_gb,
    )


def claims(options: argparse.Namespace) -> None:
    from nsbench.claims import write_claims

    config, cells = _grid(options)
    write_claims(
        options.claims,
        _folder(options.tables),
        _folder(options.collected),
        cells,
        config.scale,
        _folder(options.out),
        options.spec,
        options.digest,
        options.theory,
        _folder(options.pretrained) if options.pretrained else None,
        config.analysis.confidence,
        config.analysis.n_resamples,
    )


def report(options: argparse.Namespace) -> None:
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
        _folder(options.pretrained) if options.pretrained else None,
        _folder(options.claims) if options.claims else None,
    )


def track(options: argparse.Namespace) -> None:
    from nsbench.files import write_text
    from nsbench.tracking import track
    from nsbench.tracking_uri import resolve

    config, cells = _grid(options)
    uri = resolve(config.tracking.uri, os.environ, f"sqlite:///{options.out.parent}/mlflow.db")
    summary = track(_folder(options.collected), _folder(options.tables), cells, uri, options.spec, options.digest)
    write_text(options.out, json.dumps(vars(summary)))


def _read_spec(options: argparse.Namespace) -> Any:
    try:
        return json.loads(options.spec)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--spec: not JSON ({error}); the stage's settings as one JSON object are allowed") from None


def _grid(options: argparse.Namespace) -> tuple[Config, list[dict[str, Any]]]:
    from nsbench.plan import grid_cells

    # Not `load`: the size of the grid was looked at when it was planned, by settings that a spec may lack.
    config = parse(Config, _read_spec(options))
    return config, grid_cells(config)


def _folder(paths: list[Path]) -> Path:
    """The one folder that the given files lie in."""
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        raise ConfigError(f"files: {', '.join(map(str, paths))} lie in different folders; one folder is allowed")
    return folders.pop()
