"""What MLflow shows of a task and of a run in sentences, and a run's settings as a file."""

from __future__ import annotations

import math
from typing import Any

import yaml

from nsbench.arms.registry import describe
from nsbench.config.base import ConfigError
from nsbench.schemas.metrics import METRICS, TARGETS

SETTINGS = "settings.yaml"
NOTE = """\
Runs of the task `{task}`, one for each variant, arm and seed. They come from the Parquet files of a results folder, \
which stay the source; nsbench imports them again when these change.

- **Charts** (the second of the three views): `eval` has validation accuracy and loss, `eval/outputs` how outputs \
change under noise, `fit` what training noted, `measures` what was measured on checkpoints; `result` and `target` have \
one value a run: the last scores, and when the target was reached and held.
- **Compare** arms of one variant: search `params.variant = "..."`, then *Group by* `arm`. Seeds are paired: arms \
share a seed's data, initial weights and batches.
- **A run** says in its description what was trained, on what, how it ended and where its record is. Its artifacts \
are its settings, which train it again, and the curves of its cell.
- **Effects and verdicts** are in `report.html` of the results folder (tag `nsbench.folder`).

Times are those of training.
"""
SHORT = 12
"""Digits of a digest that tell it from others."""


def title(task: str) -> str:
    """A task's name for people: `Modular addition`."""
    return task.replace("_", " ").capitalize()


def run_name(run: dict[str, Any]) -> str:
    """A run's name within its task: what differs most comes first, as charts cut names."""
    return f"{run['arm']}, seed {run['seed']} ({run['variant']})"


def run_note(
    cell: dict[str, Any], run: dict[str, Any], last: dict[str, Any] | None, target: dict[str, Any] | None
) -> str:
    """A run in sentences: its result, what was trained on what, and where its record is.

    run: its row of COLLECTED_RUNS; last, target: the last row of its history and its row of TIME_TO_TARGET, if any.
    """
    settings = cell["settings"]
    model = settings["model"].get("kind", "model").replace("_", " ")
    batch = settings["training"].get("batch_size")
    trained = (
        f"{title(cell['task'])}, variant `{cell['variant']}`: a {model} of {run['n_parameters']:,} parameters, "
        f"trained for {run['steps']:,} of {cell['budget_steps']:,} steps"
        + (f" of {batch} examples" if batch else "")
        + f" on {run['device']}."
    )
    arm = f"Arm `{cell['arm']}` ({_arm(cell['arm_settings'])}), seed {run['seed']}."
    data = f"Data: {run['text']}." if run["text"] else ""
    leaks = f"**Leak:** {'; '.join(cell['leaks'])}." if cell["leaks"] else ""
    parts = [f"**Result:** {_result(run, last, target)}", f"**Trained:** {trained} {arm} {data}".strip(), leaks]
    return "\n\n".join(filter(None, [*parts, f"**Record:** {_record(run)}"]))


def settings_text(cell: dict[str, Any], run: dict[str, Any]) -> str:
    """The settings of a run as an overlay of config.yaml that trains it again, beside its baseline."""
    arms = {"baseline": {"kind": "baseline"}, cell["arm"]: cell["arm_settings"]}
    overlay = {
        "seeds": [run["seed"]],
        "theory": None,
        "pretrained": None,
        "grid": [{"task": cell["task"], "variants": [cell["variant"]], "arms": list(arms)}],
        "tasks": {
            cell["task"]: {"arms": arms, "variants": {cell["variant"]: {**cell["settings"], "target": cell["target"]}}}
        },
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    head = f"# Trains this run again, beside its baseline: make reproduce OVERLAY={SETTINGS}\n"
    head += f"# The data it saw: {run['text']}\n" if run["text"] else ""
    return head + yaml.dump(overlay, Dumper=dumper, sort_keys=False, allow_unicode=True)


def metric_words(name: str) -> str:
    """A score's name in words: `validation accuracy` for val_accuracy."""
    if name not in METRICS:
        return name.replace("_", " ")
    metric = METRICS[name]
    split = {"val": "validation", "train": "training"}[metric.split]
    targets = TARGETS[metric.targets].removeprefix("_")
    return f"{split} {metric.quantity}" + (f" on {targets} targets" if targets else "")


def _arm(settings: dict[str, Any]) -> str:
    try:
        words = describe(settings)
    except ConfigError:  # of a kind that this process has not loaded
        words = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "kind")
    return ": ".join(filter(None, [settings["kind"].replace("_", " "), words]))


def _result(run: dict[str, Any], last: dict[str, Any] | None, target: dict[str, Any] | None) -> str:
    sentences = [f"It diverged by step {run['steps']:,}."] if run["status"] == "diverged" else []
    if target is not None:
        goal = f"{metric_words(target['metric'])} {target['threshold']:g}"
        if target["reached"]:
            sentences.append(
                f"It reached {goal} at step {target['step']:,.0f} and held it, after {target['seconds']:.3g} s of "
                f"training and {target['flops']:.2e} FLOPs."
            )
        else:
            sentences.append(f"It did not reach {goal} and hold it within {target['budget_steps']:,} steps.")
        if target["reached"] and target["n_lost"]:
            sentences.append(f"Later it missed it at {target['n_lost']} evaluations.")
    scores = {name: last[name] for name in ("val_accuracy", "val_loss") if last is not None}
    if scores and all(map(math.isfinite, scores.values())):
        ends = " and ".join(f"{metric_words(name)} {value:.4g}" for name, value in scores.items())
        sentences.append(f"It ended with {ends}.")
    return " ".join(sentences)


def _record(run: dict[str, Any]) -> str:
    if run["record"]:
        return f"it came from `{run['record']}` (run key `{run['run_key'][:SHORT]}`)."
    place = "/".join(str(run[name]) for name in ("task", "variant", "arm"))
    return (
        f"`runs/{place}/seed-{run['seed']}` in the results folder (run key `{run['run_key'][:SHORT]}`); "
        "`nsbench records export` makes a file of it."
    )
