"""A small results folder, as `nsbench stage track` finds it, and what an MLflow store has of it."""

from __future__ import annotations

import itertools
import math
import shutil
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nsbench.config.tracking_uri import sqlite_path
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, HISTORY, TIME_TO_TARGET
from nsbench.storage.parquet import write_table
from nsbench.tracking import importer, stores
from nsbench.tracking.clones import identify
from nsbench.tracking.content import read_contents
from nsbench.workflow.grid import parsed
from nsbench.workflow.plan import Plan, grid_cells

PROJECT = Path(__file__).parents[1]
LIBRARIES_WARN = [
    f"ignore::{kind}:{library}"
    for kind in ("DeprecationWarning", "FutureWarning")
    for library in (r"mlflow\.", r"alembic\.", r"sqlalchemy\.", r"google\.")
]
MLFLOW = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "alembic.command",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
)
"""What `nsbench stage track` imports of others, for a warm process."""
SCORES = ("val_loss", "val_accuracy")
TEXT = {"modular_addition": "", "sparse_parity": "", "next_token": "a made-up text"}
STAMP = {"spec": "{}", "source_digest": "0f", "commit": "c0ffee", "device": "cpu", "version_torch": "2.13.0"}
STEPS, DIVERGED = (0, 100, 200), ("modular_addition", "calibrated", "steady", 1)


@dataclass
class Results:
    """A folder with the Parquet files of a grid, and the store that its runs go to."""

    folder: Path
    cells: list[dict[str, Any]]
    uri: str = ""
    spec: str = "{}"
    val_loss: float = field(default=0.5, kw_only=True)
    """Of the first run at its last step."""

    def __post_init__(self) -> None:
        self.uri = self.uri or f"sqlite:///{self.folder}/mlflow.db"
        self.write(self.val_loss)

    @property
    def keys(self) -> list[str]:
        """The runs of the grid as MLflow names them, experiment first."""
        cells = [(f"nsbench/{c['task']}/{c['variant']}/{c['arm']}", c["seeds"]) for c in self.cells]
        return sorted(f"{cell}/seed-{seed}" for cell, seeds in cells for seed in seeds)

    def track(self, **changes: Any) -> importer.TrackSummary:
        settings = {"cells": self.cells, "uri": self.uri, "spec": "{}", "digest": "d1"} | changes
        return importer.track(self.folder / "collected", self.folder / "tables", **settings)

    def arguments(self) -> list[str]:
        """Those of the `nsbench` command; `spec` must be that of a grid with these cells."""
        collected, tables = self.folder / "collected", self.folder / "tables"
        return [
            *("stage", "track", "--spec", self.spec, "--collected", str(collected)),
            *("--tables", str(tables), "--out", str(self.folder / "tracked.json")),
        ]

    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("nsbench")), *self.arguments()]

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """What a query of the SQLite store gives."""
        database = sqlite3.connect(sqlite_path(self.uri) or "")
        try:
            with database:
                return database.execute(query).fetchall()
        finally:
            database.close()

    def runs(self) -> dict[str, str]:
        """Run ids by key, as `keys`; every row of the table, deleted or not."""
        rows = self.sql("SELECT 'nsbench/' || value, run_uuid FROM tags WHERE key = 'nsbench.run'")
        assert len(rows) == self.sql("SELECT count(*) FROM runs")[0][0]
        assert len(dict(rows)) == len(rows)
        return dict(rows)

    def size(self) -> tuple[int, ...]:
        return tuple(self.sql(f"SELECT count(*) FROM {table}")[0][0] for table in ("runs", "metrics", "params", "tags"))

    def write(self, val_loss: float = 0.5) -> None:
        """Write the Parquet files; `val_loss` is that of the first run at its last step."""
        runs = [(cell, seed) for cell in self.cells for seed in cell["seeds"]]
        history = [row for cell, seed in runs for row in _history(cell, seed)]
        history[len(STEPS) - 1]["val_loss"] = val_loss
        for row in history:
            # Padding counts 0.1 less and unknown words too, so that the three curves of text differ.
            for name, ending in itertools.product(SCORES, ("_unpadded", "_known")):
                row[name + ending] = row[name] - 0.1 * (row["task"] == "next_token")
        evaluation = [row for cell, seed in runs for row in _evaluation(cell, seed)]
        for name, rows, schema in (
            ("history", history, HISTORY),
            ("runs", [_run(cell, seed) for cell, seed in runs], COLLECTED_RUNS),
            ("evaluation", evaluation, EVALUATION),
        ):
            write_table(self.folder / "collected" / f"{name}.parquet", rows, schema, STAMP)
        target = [_target(cell, seed) for cell, seed in runs]
        write_table(self.folder / "tables" / "time_to_target.parquet", target, TIME_TO_TARGET, STAMP)


def cell(task: str, arm: str, seeds: list[int]) -> dict[str, Any]:
    settings = {
        "data": {"n": 4},
        "model": {"d_model": 8, "ffn_width": None},
        "noise": {"same_symbol": True},
        "training": {"steps": 200},
    }
    return {
        "task": task,
        "variant": "calibrated",
        "arm": arm,
        "arm_settings": {"kind": "baseline"} if arm == "baseline" else {"kind": "noise_stability", "rho": 0.5},
        "settings": settings,
        "seeds": seeds,
        "target": {"metric": "val_accuracy", "threshold": 0.95},
        "budget_steps": 200,
        "leaks": ["windows overlap", "no mask"] if task == "next_token" else [],
    }


def cells() -> list[dict[str, Any]]:
    """Five runs of two tasks."""
    addition = [cell("modular_addition", arm, [0, 1]) for arm in ("baseline", "steady")]
    return [*addition, cell("sparse_parity", "baseline", [0])]


def small_grid(folder: Path, uri: str | None = None, **changes: Any) -> Results:
    """The results of tests/config/faults.yaml, with changes, as the `nsbench` command takes them."""
    values = yaml.safe_load((PROJECT / "config.yaml").read_text())
    values |= {"theory": None, "pretrained": None, "seeds": [0, 1], "tracking": {"uri": uri}} | changes
    overlay = yaml.safe_load((PROJECT / "tests/config/faults.yaml").read_text())
    values |= {name: overlay[name] for name in ("grid", "tasks", "text")}
    standard = yaml.safe_load((PROJECT / "config.yaml").read_text())["tasks"]
    for task, section in values["tasks"].items():
        section["arms"] = standard[task]["arms"]
    config = parsed(values)
    return Results(folder, grid_cells(config), uri or "", Plan(config).grid("tracking"))


def make_tables(folder: Path) -> Path:
    """A store that has MLflow's tables and nothing in them, which stands in for a new one."""
    stores.make_sqlite(folder / "mlflow.db")
    return folder / "mlflow.db"


def lend_tables(template: Path, path: Path) -> None:
    """Put a new store where there is none: making its tables takes a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        shutil.copy(template, path)


def assert_whole(client: Any, results: Results) -> None:
    """Check that the store has exactly one run for each key of the grid, with every value, among this folder's runs."""
    contents, _ = read_contents(results.folder / "collected", results.folder / "tables", results.cells)
    wanted = {f"nsbench/{content.key}": content for content in contents}
    clone, found = identify(results.folder), []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            if importer.NAME_TAG not in run.data.tags or not clone.owns(run.data.tags):
                continue
            found.append(key := f"nsbench/{run.data.tags[importer.NAME_TAG]}")
            content = wanted[key]
            assert run.info.run_name == content.name, key
            points = _points(client, results, run)
            assert points == {(point.metric, point.step): point.value for point in content.points}, key
            assert run.data.params == content.parameters, key
            assert run.data.tags.items() >= (content.tags | clone.tags).items(), key
            assert run.info.status == ("FINISHED" if content.completed else "FAILED"), key
    assert sorted(found) == sorted(wanted) == results.keys


def _points(client: Any, results: Results, run: Any) -> dict[tuple[str, int], float]:
    """All values of a run in the store, by metric and step."""
    run_id = run.info.run_id
    if client.tracking_uri == results.uri and sqlite_path(results.uri) is not None:
        rows = results.sql(f"SELECT key, step, value FROM metrics WHERE run_uuid = '{run_id}'")
        return {(name, step): value for name, step, value in rows}
    histories = [client.get_metric_history(run_id, name) for name in run.data.metrics]
    return {(point.key, point.step): point.value for history in histories for point in history}


def _identity(cell: dict[str, Any], seed: int) -> dict[str, Any]:
    return {name: cell[name] for name in ("task", "variant", "arm")} | {"seed": seed}


def _diverged(cell: dict[str, Any], seed: int) -> bool:
    return tuple(_identity(cell, seed).values()) == DIVERGED


def _history(cell: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    rows = []
    for step in STEPS:
        loss = 2.0 - step / 200
        if step and _diverged(cell, seed):
            loss = math.inf if step == 100 else math.nan
        trained = {"train_loss": loss if step else math.nan, "train_accuracy": 0.5 if step else math.nan}
        rates = {"val_accuracy": step / 200, "stability": 0.1, "learning_rate": 1e-3}
        rates |= {"stability_cosine": 0.2, "decision_agreement": 0.3, "output_entropy": 1.5, "weight_norm": 10.0}
        rates["decision_agreement_corrected"] = 0.1 if step else math.nan  # all decisions alike
        cost = {"seconds": step / 10, "flops": step * 1e9}
        run = _identity(cell, seed) | {"step": step, "epoch": step / 8}
        rows.append(run | trained | {"val_loss": loss} | rates | cost)
    return rows


def _evaluation(cell: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    rows = []
    for step in STEPS:
        common = {"step": step, "standard_error": 0.1, "target_value": math.nan, "n_inputs": 9, "n_draws": 2}
        for reduction, rho in (("decision", 0.5), ("decision", -0.5), ("probability_dot", 0.5)):
            place = {"measure": "noise_stability", "reduction": reduction, "rho": rho, "correlation": rho}
            rows.append(_identity(cell, seed) | common | place | {"value": rho * step})
        place = {"measure": "average_sensitivity", "reduction": "decision", "rho": math.nan, "correlation": math.nan}
        rows.append(_identity(cell, seed) | common | place | {"value": 3.0})
    return rows


def _run(cell: dict[str, Any], seed: int) -> dict[str, Any]:
    return _identity(cell, seed) | {
        "status": "diverged" if _diverged(cell, seed) else "completed",
        **{"steps": STEPS[-1], "n_parameters": 42, "seconds": 20.0, "flops": 2e11, "device": "cpu"},
        **{"run_key": f"key{seed}", "history_sha256": "h", "data_sha256": "d"},
        **{"commit": "c0ffee", "source_digest": "0f"},
        "secret": [1, 4] if cell["task"] == "sparse_parity" else None,
        "text": TEXT[cell["task"]],
        **{"record": "", "older_code": "", "no_evaluation": ""},
    }


def _target(cell: dict[str, Any], seed: int) -> dict[str, Any]:
    diverged = _diverged(cell, seed)
    cost = {"step": 200.0, "flops": 2e11, "seconds": 20.0}
    return _identity(cell, seed) | {
        "arm_kind": cell["arm_settings"]["kind"],
        **dict.fromkeys(("rho", "gamma", "orientation"), math.nan),
        **{"metric": "val_accuracy", "threshold": 0.95, "hold_evaluations": 1, "hold_steps": 0, "budget_steps": 200},
        "status": "diverged" if diverged else "completed",
        "reached": not diverged,
        **(dict.fromkeys(cost, math.nan) if diverged else cost),
        **{"train_step": math.nan, "n_lost": 0},
        "text": TEXT[cell["task"]],
        **{"record": "", "older_code": "", "no_evaluation": ""},
    }
