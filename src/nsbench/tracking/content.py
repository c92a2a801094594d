"""What MLflow gets of a run: parameters, curves, final values and tags, read from Parquet files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nsbench.schemas.metrics import METRICS
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, HISTORY, TIME_TO_TARGET
from nsbench.storage.parquet import read_stamp, read_table

KEY = ["task", "variant", "arm", "seed"]
CURVES = [name for name in HISTORY.names if name not in (*KEY, "step", "epoch")]
FINAL = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "stability"]
PARAMETER_LENGTH = 6000  # MLflow's limit


class Point(NamedTuple):
    metric: str
    value: float
    step: int
    seconds: float
    """Training time so far."""


@dataclass(frozen=True)
class Content:
    """All that MLflow gets of one run."""

    key: str
    name: str
    completed: bool
    """Whether it ended as it was to: at its budget, or by `training.stop` at its target."""
    seconds: float
    parameters: dict[str, str]
    points: list[Point]
    tags: dict[str, str]
    origin: dict[str, str]
    """Provenance of the collected file: no part of the digest, as collecting again changes no run."""

    @property
    def digest(self) -> str:
        content = [self.key, self.completed, self.parameters, self.points, self.tags]
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def read_contents(collected: Path, tables: Path, cells: list[dict[str, Any]]) -> tuple[list[Content], tuple[str, ...]]:
    """The content of every collected run of `cells`, and the names of those not collected."""
    evaluation = read_table(collected / "evaluation.parquet", EVALUATION)
    evaluation["metric"] = _evaluation_metrics(evaluation)
    tables_by_run = [
        dict(iter(table.groupby(KEY, sort=False)))
        for table in (
            read_table(collected / "history.parquet", HISTORY).sort_values("step", kind="stable"),
            evaluation.sort_values(["metric", "step"], kind="stable"),
            read_table(tables / "time_to_target.parquet", TIME_TO_TARGET),
        )
    ]
    runs = {
        tuple(run[name] for name in KEY): run
        for run in read_table(collected / "runs.parquet", COLLECTED_RUNS).to_dict("records")
    }
    origin = {k: v for k, v in read_stamp(collected / "runs.parquet").items() if k not in ("spec", "device")}
    wanted = [(cell, (cell["task"], cell["variant"], cell["arm"], seed)) for cell in cells for seed in cell["seeds"]]
    contents = [
        _content(cell, runs[key], *(table.get(key) for table in tables_by_run), origin)
        for cell, key in wanted
        if key in runs
    ]
    return contents, tuple(_name(*key) for _, key in wanted if key not in runs)


def _name(task: str, variant: str, arm: str, seed: int) -> str:
    return f"{task}/{variant}/{arm}/seed-{seed}"


def _evaluation_metrics(evaluation: pd.DataFrame) -> pd.Series:
    """Metric names like `noise_stability/decision/rho_0.5`: MLflow groups charts by what precedes the last slash."""
    rho = evaluation["rho"].map(lambda rho: "" if math.isnan(rho) else f"/rho_{rho:g}")
    return evaluation["measure"] + "/" + evaluation["reduction"] + rho


def _content(
    cell: dict[str, Any],
    run: dict[str, Any],
    history: pd.DataFrame | None,
    evaluation: pd.DataFrame | None,
    target: pd.DataFrame | None,
    origin: dict[str, str],
) -> Content:
    last, values, seconds_at = run["steps"], [], {}
    if history is not None:
        steps = history["step"].tolist()
        seconds_at = dict(zip(steps, history["seconds"].tolist(), strict=True))
        for name in _curves(history, diverged=run["status"] == "diverged"):
            values += zip([name] * len(steps), history[name].tolist(), steps, strict=True)
        # Empty, not diverged: no batch precedes step 0, and where all decisions are the same none agree beyond chance.
        values = [v for v in values if not (math.isnan(v[1]) and _may_be_empty(v[0], v[2]))]
    if evaluation is not None:
        values += zip(*(evaluation[name].tolist() for name in ("metric", "value", "step")), strict=True)
    first_nonfinite: dict[str, str] = {}
    for name, value, step in values:
        if not math.isfinite(value):
            first_nonfinite.setdefault(name, f"{name} is {value} at step {step}")
    if history is not None:
        values += [(f"final/{name}", history[name].iloc[-1], last) for name in FINAL]
    values += [(f"final/{name}", run[name], last) for name in ("steps", "seconds", "flops")]
    if target is not None:
        reached = ("reached", "step", "flops", "seconds")
        values += [(f"time_to_target/{name}", target[name].iloc[0], last) for name in reached]
    facts = {name: run[name] for name in (*KEY, "n_parameters")}
    if run["secret"] is not None:
        facts["secret"] = [int(position) for position in run["secret"]]
    settings = {"arm": cell["arm_settings"], **cell["settings"], **{n: cell[n] for n in ("target", "budget_steps")}}
    told = {
        "text": run["text"],
        "leak": "; ".join(cell["leaks"]),
        "runs_of": cell.get("shares"),
        "no_evaluation": run["no_evaluation"],
        "nonfinite": "; ".join(first_nonfinite.values()),
    }
    tags = {name: run[name] for name in ("status", "device", "run_key", "history_sha256", "data_sha256")}
    tags |= {name: value for name, value in told.items() if value}
    key = _name(*(run[name] for name in KEY))
    return Content(
        key=key,
        name=key.removeprefix(f"{run['task']}/"),
        completed=run["status"] in ("completed", "stopped"),
        seconds=run["seconds"],
        parameters=dict(_flat(facts)) | dict(_flat(settings)),
        points=[Point(n, float(v), s, seconds_at.get(s, run["seconds"])) for n, v, s in values if math.isfinite(v)],
        tags=tags,
        origin=origin,
    )


def _may_be_empty(name: str, step: int) -> bool:
    """Whether a column of a sound run's history may be NaN at a step."""
    return name == "decision_agreement_corrected" or (step == 0 and name.startswith("train_"))


def _curves(history: pd.DataFrame, diverged: bool) -> list[str]:
    """The curves worth showing: scores without padding or unknown words where they differ from all.

    A sound run lacks what is NaN throughout: its record is of older code, or a variant of other noise shares it.
    """

    def told_before(name: str) -> bool:
        plain = METRICS[name]._replace(targets="all").name if name in METRICS else name
        return name != plain and history[name].equals(history[plain])

    lacks = [] if diverged else [name for name in CURVES if history[name].isna().all()]
    return [name for name in CURVES if name not in lacks and not told_before(name)]


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and texts; what is no text is written as JSON."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield prefix + name, text if len(text) <= PARAMETER_LENGTH else text[: PARAMETER_LENGTH - 3] + "..."
