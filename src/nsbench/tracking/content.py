"""What MLflow gets of a run: parameters, curves, final values and tags, read from Parquet files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nsbench.arms.colours import arm_colour
from nsbench.config.base import ConfigError
from nsbench.schemas.metrics import METRICS, VALIDATION_METRICS
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, HISTORY, TIME_TO_TARGET
from nsbench.storage.parquet import read_stamp, read_table
from nsbench.tracking.descriptions import SETTINGS, metric_words, run_name, run_note, settings_text, title
from nsbench.tracking.picture import CURVES as PICTURE
from nsbench.tracking.picture import Panel, draw

KEY = ["task", "variant", "arm", "seed"]
SHOWN = ("val_accuracy", "val_loss")
"""What the picture of a cell shows."""
OUTPUTS = ("stability", "stability_cosine", "decision_agreement", "decision_agreement_corrected", "output_entropy")
"""Curves of a history that compare outputs, clean and noisy."""
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
    artifacts: dict[str, str]
    """Texts of files by name: no part of the digest either, as a cell's picture has its other seeds too."""

    @property
    def digest(self) -> str:
        content = [self.key, self.name, self.completed, self.parameters, self.points, self.tags]
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
    pictures: dict[tuple[str, str, str], str] = {}
    contents = []
    for cell, key in wanted:
        if key not in runs:
            continue
        if key[:3] not in pictures:
            pictures[key[:3]] = _picture(cell, {seed: tables_by_run[0].get((*key[:3], seed)) for seed in cell["seeds"]})
        content = _content(cell, runs[key], *(table.get(key) for table in tables_by_run), origin)
        files = {SETTINGS: settings_text(cell, runs[key]), PICTURE: pictures[key[:3]]}
        contents.append(replace(content, artifacts=files))
    return contents, tuple(_name(*key) for _, key in wanted if key not in runs)


def _name(task: str, variant: str, arm: str, seed: int) -> str:
    return f"{task}/{variant}/{arm}/seed-{seed}"


def _evaluation_metrics(evaluation: pd.DataFrame) -> pd.Series:
    """Names like `measures/noise_stability/decision/rho_0.5`: see `_chart`."""
    rho = evaluation["rho"].map(lambda rho: "" if math.isnan(rho) else f"/rho_{rho:g}")
    return "measures/" + evaluation["measure"] + "/" + evaluation["reduction"] + rho


def _chart(column: str) -> str:
    """The name of a curve of a history.

    MLflow makes a section of what precedes the last slash, and sorts sections and the charts in them by name. So
    validation accuracy is the first of all, and curves precede what has one value: `result`, `target`.
    """
    section = "eval" if column in VALIDATION_METRICS else "eval/outputs" if column in OUTPUTS else "fit"
    return f"{section}/{column}"


def _rank(value: tuple[str, float, int]) -> tuple[int, str]:
    """Where a value comes in a run: validation accuracy, then other scores, then what has one value, then the rest."""
    name, section = value[0], value[0].partition("/")[0]
    return 0 if name.startswith("eval/val_") else 1 if section in ("result", "target") else 2, name


def _picture(cell: dict[str, Any], histories: dict[int, pd.DataFrame | None]) -> str:
    """The curves of all seeds of a cell that there are."""
    target, found = cell["target"], {seed: history for seed, history in histories.items() if history is not None}
    panels = [
        Panel(
            metric_words(name),
            {seed: (history["step"].tolist(), history[name].tolist()) for seed, history in found.items()},
            target["threshold"] if target["metric"] == name else None,
        )
        for name in SHOWN
    ]
    return draw(f"{title(cell['task'])}: {cell['arm']} ({cell['variant']})", panels)


def _content(
    cell: dict[str, Any],
    run: dict[str, Any],
    history: pd.DataFrame | None,
    evaluation: pd.DataFrame | None,
    target: pd.DataFrame | None,
    origin: dict[str, str],
) -> Content:
    values, seconds_at = [], {}
    if history is not None:
        steps = history["step"].tolist()
        seconds_at = dict(zip(steps, history["seconds"].tolist(), strict=True))
        for name in _curves(history, diverged=run["status"] == "diverged"):
            # Empty, not diverged: no batch precedes step 0, and where all decisions are the same none agree beyond
            # chance.
            values += [
                (_chart(name), value, step)
                for value, step in zip(history[name].tolist(), steps, strict=True)
                if not (math.isnan(value) and _may_be_empty(name, step))
            ]
    if evaluation is not None:
        values += zip(*(evaluation[name].tolist() for name in ("metric", "value", "step")), strict=True)
    first_nonfinite: dict[str, str] = {}
    for name, value, step in values:
        if not math.isfinite(value):
            plain = name if name.startswith("measures/") else name.rpartition("/")[2]
            first_nonfinite.setdefault(name, f"{plain} is {value} at step {step}")
    # At step 0: what has a later step MLflow draws as a curve, and a bar is to be seen.
    last = None if history is None else history.iloc[-1].to_dict()
    if last is not None:
        values += [(f"result/{name}", last[name], 0) for name in FINAL]
    values += [(f"result/{name}", run[name], 0) for name in ("steps", "seconds", "flops")]
    reached = None if target is None else target.iloc[0].to_dict()
    if reached is not None:
        values += [(f"target/{name}", reached[name], 0) for name in ("reached", "step", "flops", "seconds")]
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
    tags["mlflow.note.content"] = run_note(cell, run, last, reached)
    with contextlib.suppress(ConfigError):  # a kind of arm that this process has not loaded
        tags["mlflow.runColor"] = arm_colour(cell["arm_settings"])
    key = _name(*(run[name] for name in KEY))
    return Content(
        key=key,
        name=run_name(run),
        completed=run["status"] in ("completed", "stopped"),
        seconds=run["seconds"],
        parameters=dict(_flat(facts)) | dict(_flat(settings)),
        # A run's page lists them in this order.
        points=[
            Point(n, float(v), s, seconds_at.get(s, run["seconds"]))
            for n, v, s in sorted(values, key=_rank)
            if math.isfinite(v)
        ],
        tags=tags,
        origin=origin,
        artifacts={},
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
