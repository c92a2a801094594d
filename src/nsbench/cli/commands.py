"""What each command does with its parsed options: it hands files and settings to a stage. Imports what it runs only."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nsbench.config.base import ConfigError, parse
from nsbench.workflow.config import Config

if TYPE_CHECKING:
    import pandas as pd


def text(options: argparse.Namespace) -> None:
    from nsbench.data.text_sources import TextSpec, make_text
    from nsbench.storage.provenance import stamp

    spec = parse(TextSpec, _read_spec(options), "spec")
    make_text(spec, options.out, stamp(options.spec, options.digest))


def dataset(options: argparse.Namespace) -> None:
    from nsbench.data.generate import DatasetSpec, make_datasets
    from nsbench.storage.provenance import stamp

    spec = parse(DatasetSpec, _read_spec(options), "spec")
    made_by = stamp(options.spec, options.digest)
    make_datasets(spec, options.out, options.floors, made_by, options.text)


def train(options: argparse.Namespace) -> None:
    from nsbench.storage.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.training.loop import TrainSpec
        from nsbench.training.pack import train_pack
        from nsbench.workflow import plugins

        plugins.load(options.plugins)
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
    from nsbench.storage.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.evaluation.run import EvaluateSpec, evaluate_pack

        spec = parse(EvaluateSpec, _read_spec(options), "spec")
        evaluate_pack(spec, options.digest, options.runs, options.dataset, options.run_store, options.out, device)


def finished(options: argparse.Namespace) -> None:
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import Plan
    from nsbench.workflow.recorded_runs import index
    from nsbench.workflow.run_states import Places, write_finished

    config = parsed(_read_spec(options))
    plan = Plan(config, index(config))
    places = Places(options.packs, options.datasets, options.run_store, options.text)
    write_finished(
        plan, places, _read_spec(options, "text_spec"), options.out, options.missing, options.spec, options.digest
    )


def collect(options: argparse.Namespace) -> None:
    from nsbench.analysis.collect import Sources, collect
    from nsbench.schemas.run_states import parts
    from nsbench.workflow.plan import Plan, digest
    from nsbench.workflow.recorded_runs import evaluation_settings_of, index

    config, cells, scale, _ = _grid(options)
    plan = Plan(config, index(config))
    wanted = {(cell["task"], cell["variant"], cell["arm"], seed) for cell in cells for seed in cell["seeds"]}
    packs = [pack for pack in plan.packs if any((*pack[:3], seed) in wanted for seed in plan.seeds[pack[-1]])]
    folders = [options.packs.joinpath(*pack) for pack in packs]
    of_packs = {(task, variant, pack) for task, variant, _, pack in packs}
    datasets = [dataset for dataset in plan.datasets() if dataset in of_packs]
    floors = [options.datasets / task / variant / f"{pack}.floors.parquet" for task, variant, pack in datasets]
    records = {(*key, seed): record for key, found in plan.recorded.items() for seed, record in found.items()}
    records = {key: record for key, record in records.items() if key in wanted}
    code = {f"{stage} {task}": digest(stage, task) for task, *_ in plan.cells for stage in ("dataset", "evaluate")}
    code |= {f"train {kind}": digest("train", kind) for kind in plan.kinds()}
    sources = Sources(folders, floors, records, evaluation_settings_of(config), code)
    collect(cells, sources, _folder(options.out), options.spec, options.digest, parts(scale)[1])


def analyse(options: argparse.Namespace) -> None:
    from nsbench.analysis.tables import analyse
    from nsbench.schemas.run_states import parts

    config, cells, scale, _ = _grid(options)
    analyse(
        _folder(options.collected),
        cells,
        config.analysis,
        _folder(options.out),
        options.spec,
        options.digest,
        parts(scale)[1],
    )


def figure(options: argparse.Namespace) -> None:
    from nsbench.figures import FIGURES, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    _, cells, scale, _ = _grid(options)
    collected, tables = _folder(options.collected), _folder(options.tables)
    render(options.name, collected, tables, cells, scale, options.png, options.pdf)


def figures(options: argparse.Namespace) -> None:
    from nsbench.figures import render_all

    _, cells, scale, _ = _grid(options)
    render_all(_folder(options.collected), _folder(options.tables), cells, scale, options.out)


def simulate(options: argparse.Namespace) -> None:
    from nsbench.storage.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.config.theory import ExperimentSpec
        from nsbench.simulation.run import simulate
        from nsbench.storage.provenance import stamp

        spec = parse(ExperimentSpec, _read_spec(options), "spec")
        made_by = stamp(options.spec, options.digest, str(device))
        simulate(spec, options.max_values, options.points, options.examples, device, made_by)


def theory(options: argparse.Namespace) -> None:
    from nsbench.config.theory import ExperimentSpec
    from nsbench.simulation.curves import compute_theory
    from nsbench.storage.provenance import stamp

    spec = parse(ExperimentSpec, _read_spec(options), "spec")
    compute_theory(spec, options.points, options.curves, options.table, stamp(options.spec, options.digest))


def theory_table(options: argparse.Namespace) -> None:
    from nsbench.simulation.curves import join_tables
    from nsbench.storage.provenance import stamp

    join_tables(options.tables, options.out, options.csv, stamp(options.spec, options.digest))


def theory_figure(options: argparse.Namespace) -> None:
    from nsbench.figures.theory import FIGURES, TheoryFigureSpec, render

    if options.name not in FIGURES:
        raise ConfigError(f"name: no figure of the theory is called {options.name!r}; allowed: {', '.join(FIGURES)}")
    spec = parse(TheoryFigureSpec, _read_spec(options), "spec")
    render(options.name, spec.experiment, spec.scale, *options.tables, options.png, options.pdf)


def pretrained(options: argparse.Namespace) -> None:
    from nsbench.storage.device import use_device

    with use_device(options.device, options.processes_per_gpu) as device:
        from nsbench.config.pretrained import MeasureSpec
        from nsbench.pretrained.run import measure_model
        from nsbench.storage.provenance import stamp

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
    from nsbench.analysis.pretrained_tables import join_models
    from nsbench.config.pretrained import TablesSpec
    from nsbench.storage.provenance import stamp

    spec = parse(TablesSpec, _read_spec(options), "spec")
    join_models(options.models, spec, _folder(options.out), stamp(options.spec, options.digest))


def pretrained_figure(options: argparse.Namespace) -> None:
    from nsbench.config.pretrained import PretrainedFigureSpec
    from nsbench.figures.pretrained import FIGURES, render

    if options.name not in FIGURES:
        allowed = ", ".join(FIGURES)
        raise ConfigError(f"name: no figure of pretrained models is called {options.name!r}; allowed: {allowed}")
    spec = parse(PretrainedFigureSpec, _read_spec(options), "spec")
    render(options.name, spec, _folder(options.tables), options.png, options.pdf)


def measure(options: argparse.Namespace) -> None:
    from nsbench.cli.measure import Request, measure_one

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

    config, cells, scale, _ = _grid(options)
    write_claims(
        options.claims,
        _folder(options.tables),
        _folder(options.collected),
        cells,
        scale,
        _folder(options.out),
        options.spec,
        options.digest,
        options.theory,
        _folder(options.pretrained) if options.pretrained else None,
        config.analysis.confidence,
        config.analysis.n_resamples,
        options.outdated,
    )


def report(options: argparse.Namespace) -> None:
    from nsbench.report import write_report

    _, cells, scale, states = _grid(options)
    pictures, not_drawn = _pictures(options.figures)
    write_report(
        options.out,
        pictures,
        _folder(options.tables),
        _folder(options.collected),
        cells,
        scale,
        options.spec,
        options.digest,
        options.theory,
        _folder(options.pretrained) if options.pretrained else None,
        _folder(options.claims) if options.claims else None,
        states,
        options.outdated,
        not_drawn,
    )


def records(action: str, options: argparse.Namespace) -> None:
    from nsbench.cli import records as command

    getattr(command, action)(options)


def queue(options: argparse.Namespace) -> None:
    from nsbench.cli.queue import Queue, run, status, status_lines

    queue = Queue(options.overlays, Path(options.records))
    if options.action == "status":
        print("\n".join(status_lines(status(queue))))
    else:
        run(queue, options.cores or len(os.sched_getaffinity(0)), options.gpus, options.export_every)


def new(options: argparse.Namespace) -> None:
    from nsbench.cli import new

    print(new.new(options.what, options.name, options.out))


def track(options: argparse.Namespace) -> None:
    from nsbench.config.tracking_uri import resolve
    from nsbench.storage.atomic import write_text
    from nsbench.tracking import track

    config, cells, _, _ = _grid(options)
    uri = resolve(config.tracking.uri, os.environ, f"sqlite:///{options.out.parent}/mlflow.db")
    summary = track(_folder(options.collected), _folder(options.tables), cells, uri, options.spec, options.digest)
    write_text(options.out, json.dumps(vars(summary)))


def _read_spec(options: argparse.Namespace, option: str = "spec") -> Any:
    try:
        return json.loads(getattr(options, option))
    except (ValueError, RecursionError) as error:
        flag = option.replace("_", "-")
        raise ConfigError(
            f"--{flag}: not JSON ({error}); the stage's settings as one JSON object are allowed"
        ) from None


class _Grid(NamedTuple):
    """What a stage looks at: the grid, or the finished part of it where `--finished` names one."""

    config: Config
    cells: list[dict[str, Any]]
    scale: str
    """As results name it (nsbench.schemas.run_states.named)."""
    states: pd.DataFrame | None
    """The state of every run of the grid (nsbench.schemas.run_states.RUN_STATE); None for a whole one."""


def _grid(options: argparse.Namespace) -> _Grid:
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import grid_cells

    # Not `load`: the size of the grid was looked at when it was planned, by settings that a spec may lack.
    config = parsed(_read_spec(options))
    cells = grid_cells(config)
    if getattr(options, "finished", None) is None:
        return _Grid(config, cells, config.scale, None)
    from nsbench.schemas.run_states import FINISHED, named
    from nsbench.workflow.partial import read_states, restricted

    states = read_states(options.finished, cells)
    scale = named(config.scale, int((states["state"] == FINISHED).sum()), len(states))
    return _Grid(config, restricted(cells, states), scale, states)


def _pictures(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """Paths of pictures, each folder replaced by those of training's figures in it, and the names of what failed."""
    from nsbench.figures import FIGURES, NOT_DRAWN

    found, failed = [], []
    for path in paths:
        if path.is_dir():
            found += [picture for name in FIGURES if (picture := path / f"{name}.png").exists()]
            if (path / NOT_DRAWN).exists():
                failed += (path / NOT_DRAWN).read_text(encoding="utf-8").split()
        else:
            found.append(path)
    return found, failed


def _folder(paths: list[Path]) -> Path:
    """The one folder that the given files lie in."""
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        raise ConfigError(f"files: {', '.join(map(str, paths))} lie in different folders; one folder is allowed")
    return folders.pop()
