"""The report's last sections: what was run, by which rules, and what everything was made by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.arms import describe
from nsbench.config.target import hold_span
from nsbench.figures import style
from nsbench.figures.curves import is_loss
from nsbench.report.tables import ARM, NONE, Column, Record, Split
from nsbench.storage.parquet import read_stamp

GRID = [
    ARM,
    Column("settings of the arm", lambda row: describe(row["arm_settings"]) or NONE, "name"),
    Column("data", lambda row: ", ".join(f"{name} {value}" for name, value in row["data"].items()) or NONE, ""),
    Column("target", lambda row: target(row["target"]), ""),
    Column("budget (steps)", "{budget_steps}"),
    Column("seeds", lambda row: ", ".join(map(str, row["seeds"])), ""),
]


def section(
    cells: list[dict[str, Any]],
    runs: pd.DataFrame,
    split: Split,
    files: dict[str, Path | None],
    stamp: dict[str, str],
) -> dict[str, Any]:
    """`grid`, `targets`, `provenance` and `files` as texts.

    files: the Parquet files that the page shows, by name, None for parts left out; stamp: the page's own provenance.
    """
    text_of = runs.groupby(["task", "variant"], sort=False)["text"].first()
    grid = [
        cell
        | {
            "data": cell["settings"].get("data", {}),
            "text": text_of.get((cell["task"], cell["variant"]), ""),
            "note": "",
        }
        for cell in cells
    ]
    keys = ("commit", "source_digest", "device")
    stamps = {name: read_stamp(path) for name, path in files.items() if path is not None}
    return {
        "grid": split(pd.DataFrame(grid), GRID),
        "targets": _targets(cells),
        "provenance": _provenance(stamp, own_runs(cells, runs), len(runs)),
        "files": [(name, *(made.get(key, "unknown") for key in keys)) for name, made in stamps.items()],
    }


def overview(
    cells: list[dict[str, Any]], runs: pd.DataFrame, n_evaluations: int, n_runs: int | None
) -> list[tuple[str, str]]:
    """The page's key numbers: (number, what it counts); n_runs: of partial work the runs of the whole grid."""
    ended = runs["status"].value_counts()
    counted = "runs in the grid" if n_runs is None else f"runs finished, of {n_runs:,} in the grid"
    found = [
        (f"{len({(cell['task'], cell['variant']) for cell in cells})}", "variants of tasks"),
        (f"{len(cells)}", "cells (task × variant × arm)"),
        (f"{sum(len(cell['seeds']) for cell in cells)}", counted),
        (f"{ended.get('diverged', 0)}", "of them diverged"),
        (f"{ended.get('stopped', '')}", "of them stopped at their target"),
        (f"{n_evaluations:,}", "evaluations"),
        (duration(own_runs(cells, runs)["seconds"].sum()), "in training steps, over all runs"),
    ]
    return [(number, what) for number, what in found if number]


def own_runs(cells: list[dict[str, Any]], runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` without those that are in the grid under a further name (`nsbench.workflow.grid.Cell.shares`)."""
    names = ["task", "variant", "arm"]
    shared = {tuple(cell[name] for name in names) for cell in cells if cell.get("shares")}
    return runs[[key not in shared for key in runs[names].itertuples(index=False, name=None)]]


def duration(seconds: float) -> str:
    """Seconds as minutes, or hours from one on."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def target(asked: Record) -> str:
    """A target as a phrase, like `validation accuracy ≥ 0.95`."""
    metric = style.metric_label(asked["metric"]).replace(" (nats)", "").replace("\n", " ")
    return f"{metric} {'≤' if is_loss(asked['metric']) else '≥'} {asked['threshold']:g}"


def hold(asked: Record, eval_every_steps: int) -> str:
    """How long a target must be held, like `held for 3 evaluations in a row (200 steps)`."""
    span = hold_span(asked, eval_every_steps)
    if not span:
        return "at one evaluation"
    return f"held for {span // eval_every_steps + 1:,} evaluations in a row ({span:,} steps)"


def _targets(cells: list[dict[str, Any]]) -> list[str]:
    """Each distinct target of the grid as a phrase, in grid order; variants with the same one together."""
    variants: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        held = hold(cell["target"], cell["settings"]["training"]["eval_every_steps"])
        variants.setdefault((cell["task"], f"{target(cell['target'])}, {held}"), []).append(cell["variant"])
    return [f"{task} / {', '.join(dict.fromkeys(names))}: {phrase}" for (task, phrase), names in variants.items()]


def _provenance(made: dict[str, str], runs: pd.DataFrame, n_named: int) -> list[tuple[str, str]]:
    """(what, value) of everything that identifies code, software and machines.

    runs: each run once; n_named: how many the grid has by name.
    """
    seconds, ended, n_shared = runs["seconds"].sum(), runs["status"].value_counts(), n_named - len(runs)
    stopped = f", {ended['stopped']} stopped at their target" if "stopped" in ended else ""
    shared = f"{n_shared}: baselines of a specification curve that differ in noise alone, trained and counted here once"
    recorded = runs[runs["record"] != ""]
    versions = [(key.removeprefix("version_"), value) for key, value in made.items() if key.startswith("version_")]
    found = [
        ("commit of this page", made["commit"]),
        ("source digest of this page", made["source_digest"]),
        ("devices of training", _counts(runs["device"])),
        ("runs", f"{len(runs)} collected, {ended.get('diverged', 0)} diverged{stopped}"),
        ("runs under a further name", shared if n_shared else ""),
        ("time in training steps", f"{seconds:,.0f} s over all runs ({duration(seconds)})"),
        ("work of training steps", f"{runs['flops'].sum():.3g} FLOPs over all runs"),
        *(_records(recorded, len(runs)) if len(recorded) else []),
        ("text", _counts(runs["text"])),
        ("python", made["python"]),
        *versions,
    ]
    return [(what, value) for what, value in found if value]


def _counts(values: pd.Series) -> str:
    """How many runs have each value that is no empty text."""
    return "; ".join(f"{name}: {n} runs" for name, n in values[values != ""].value_counts(sort=False).items())


def _records(recorded: pd.DataFrame, n_runs: int) -> list[tuple[str, str]]:
    """Where runs come from that were not trained in this folder, and what is missing of them."""
    commits = recorded.groupby(["commit", "older_code"], sort=False).size()
    trained = [
        f"{commit}: {n} runs" + f" ({older} by other code or settings than those of this page)" * bool(older)
        for (commit, older), n in commits.items()
    ]
    lacking = recorded["no_evaluation"]
    missing = lacking[lacking != ""].value_counts(sort=False)
    return [
        ("runs from records", f"{len(recorded)} of {n_runs}, from {recorded['record'].nunique()} files"),
        ("they were trained at", "; ".join(trained)),
        ("without measures", "; ".join(f"{n} runs: {reason}" for reason, n in missing.items())),
    ]
