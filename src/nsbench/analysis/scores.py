"""What runs score on validation and test data, and what an arm changes in it: pure functions of DataFrames.

The grid is handed in as `cells` (see `nsbench.analysis.statistics`), with `leaks` and `settings` beside; rows
come out in its order. A run that diverged scores worse than any other: accuracy -inf, loss +inf in
medians, which are NaN where they would not be finite; differences leave its pair out and say so. A run
that `training.stop` ended early has no scores (NaN), as its curve does not show how it would have ended:
medians and differences leave it out and say so. A run whose record has no measures that fit the grid
(`no_evaluation` of `schemas.training.COLLECTED_RUNS`) has no test scores, and is left out of theirs alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.statistics import CELL_KEYS, RUN_KEYS, grid_runs, run_name
from nsbench.analysis.statistics.intervals import mean_difference, shared_notes
from nsbench.schemas.analysis import SCORE, SCORE_EFFECT
from nsbench.schemas.training import TARGETS
from nsbench.storage.parquet import RecordError

RunKey = tuple[str, str, str, int]
"""(task, variant, arm, seed)."""

FINAL_EVALUATIONS = 3
"""A run's final score is its mean over this many last evaluations."""

_WORST = {"accuracy": -np.inf, "loss": np.inf}
_ON_TEST = ["test_accuracy", "test_loss"]
_RUN_VALUES = ["final_val_accuracy", "final_val_loss", "best_val_loss", *_ON_TEST]


class Trail(NamedTuple):
    """A run of the grid: `completed`, `stopped` or `diverged`, and its rows of `schemas.training.HISTORY` up to the
    budget."""

    status: str
    rows: pd.DataFrame


def by_variant(cells: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The cells of every (task, variant), in grid order."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["variant"]), []).append(cell)
    return groups


def baseline_of(group: list[dict[str, Any]]) -> dict[str, Any]:
    """The first cell of kind baseline among those of a variant. Raises RecordError where there is none."""
    for cell in group:
        if cell["arm_settings"]["kind"] == "baseline":
            return cell
    raise RecordError(
        f"{group[0]['task']} / {group[0]['variant']}: no arm of kind baseline to pair with; add one to the grid"
    )


def text_labels(runs: pd.DataFrame, cells: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """The text (`schemas.training.RUNS`) of every (task, variant); several are joined by "; ".

    Raises RecordError naming a run of the grid that has no single row in `runs`.
    """
    of_run = _single(runs, "text", cells)
    return {
        name: "; ".join(sorted({of_run[key] for key in grid_runs(group)})) for name, group in by_variant(cells).items()
    }


def trails(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> dict[RunKey, Trail]:
    """Every run of the grid, in grid order; evaluations past the budget are left out.

    Raises RecordError naming a run of the grid that has no history or no single row in `runs`.
    """
    histories = dict(iter(history.groupby(RUN_KEYS, sort=False)))
    status = _single(runs, "status", cells)
    found = {}
    for cell in cells:
        for key in grid_runs([cell]):
            if key not in histories:
                raise RecordError(f"{run_name(*key)}: this run of the grid has no history; train and collect it again")
            rows = histories[key].sort_values("step")
            found[key] = Trail(status[key], rows[rows["step"] <= cell["budget_steps"]])
    return found


def _single(runs: pd.DataFrame, column: str, cells: list[dict[str, Any]]) -> dict[RunKey, str]:
    """A column of `runs` by run, which every run of the grid must have once."""
    values = runs.groupby(RUN_KEYS, sort=False)[column].agg(list).to_dict()
    for key in grid_runs(cells):
        count = len(values.get(key, []))
        if count != 1:
            raise RecordError(
                f"{run_name(*key)}: this run of the grid has no single row in runs ({count} found); "
                "train and collect it again"
            )
    return {key: found[0] for key, found in values.items()}


def unmeasured(runs: pd.DataFrame, cells: list[dict[str, Any]]) -> dict[RunKey, str]:
    """The runs of the grid that have no measures, and why (`schemas.training.COLLECTED_RUNS`).

    Raises RecordError naming a run of the grid that has no single row in `runs`.
    """
    return {key: why for key, why in _single(runs, "no_evaluation", cells).items() if why}


def final_score(trail: Trail, column: str) -> float:
    """Mean of a column of `schemas.training.HISTORY` over the run's last evaluations.

    Of a diverged run it is the worst, of one that was stopped early NaN.
    """
    if trail.status == "diverged":
        return _WORST["accuracy" if "accuracy" in column else "loss"]
    if trail.status == "stopped":
        return np.nan
    return float(trail.rows[column].tail(FINAL_EVALUATIONS).mean(skipna=False))


def curves_on_test(evaluation: pd.DataFrame) -> dict[tuple[str, str, str, int, str, str], pd.Series]:
    """Test scores by step, for every (task, variant, arm, seed, targets, measure) of `schemas.training.EVALUATION`."""
    rows = evaluation[evaluation["measure"].isin(["test_accuracy", "test_loss"])].sort_values("step")
    return dict(iter(rows.set_index("step").groupby([*RUN_KEYS, "reduction", "measure"], sort=False)["value"]))


def run_scores(
    history: pd.DataFrame, runs: pd.DataFrame, evaluation: pd.DataFrame, cells: list[dict[str, Any]]
) -> pd.DataFrame:
    """A row per run of the grid and kind of targets (TARGETS): what the run scored.

    Columns: task, variant, arm, seed, targets, status, final_val_accuracy, final_val_loss,
    best_val_loss, best_val_loss_step, test_accuracy, test_loss (losses in nats), no_evaluation. Test scores
    are those at the checkpoint whose validation loss over the same targets is lowest, the first of
    several; NaN where there are no such targets, and of a run in `unmeasured`. A diverged run has the worst
    of everything (accuracy -inf, loss +inf, step NaN), one that was stopped early NaN.

    Raises RecordError naming a run of the grid that is missing, or that completed without test scores and without a
    reason for it.
    """
    on_test, lacking = curves_on_test(evaluation), unmeasured(runs, cells)
    rows = []
    for key, trail in trails(history, runs, cells).items():
        for kind, suffix in TARGETS.items():
            row = {**dict(zip(RUN_KEYS, key, strict=True)), "targets": kind, "status": trail.status}
            row |= {f"final_{name}": final_score(trail, name + suffix) for name in ("val_accuracy", "val_loss")}
            losses = trail.rows.set_index("step")["val_loss" + suffix].dropna()
            row["no_evaluation"] = lacking.get(key, "")
            rows.append(row | _best(key, kind, trail.status, losses, on_test, strict=key not in lacking))
    names = [*RUN_KEYS, "targets", "status", *_RUN_VALUES, "best_val_loss_step", "no_evaluation"]
    return pd.DataFrame(rows, columns=names)


def _best(
    key: RunKey, kind: str, status: str, losses: pd.Series, on_test: dict[tuple[Any, ...], pd.Series], strict: bool
) -> dict[str, float]:
    """The lowest of a run's validation losses, and the test scores that it would be selected by.

    strict: raise RecordError where the run has no test scores.
    """
    measures = {"test_accuracy": _WORST["accuracy"], "test_loss": _WORST["loss"]}
    if status == "diverged":
        return {"best_val_loss": _WORST["loss"], "best_val_loss_step": np.nan, **measures}
    if status == "stopped":
        return dict.fromkeys(("best_val_loss", "best_val_loss_step", *measures), np.nan)
    curves = {name: on_test.get((*key, kind, name), pd.Series(dtype=float)) for name in measures}
    tested = losses[[all(step in curve.index for curve in curves.values()) for step in losses.index]]
    if strict and kind == "all" and tested.empty:
        raise RecordError(f"{run_name(*key)}: this run has no test scores at checkpoints; evaluate it again")
    return {
        "best_val_loss": float(losses.min()),
        "best_val_loss_step": float(losses.idxmin()) if len(losses) else np.nan,
        **{name: float(curve[tested.idxmin()]) if len(tested) else np.nan for name, curve in curves.items()},
    }


def scores(
    history: pd.DataFrame,
    runs: pd.DataFrame,
    evaluation: pd.DataFrame,
    floors: pd.DataFrame,
    cells: list[dict[str, Any]],
) -> pd.DataFrame:
    """A row per cell and kind of targets, in grid order: columns of SCORE.

    Takes `schemas.training.HISTORY`, COLLECTED_RUNS, EVALUATION and FLOORS; a variant without rows in `floors` has NaN
    for them. Raises RecordError as `run_scores` does, and for a seed that its variant's floors lack.
    """
    text = text_labels(runs, cells)
    scored = run_scores(history, runs, evaluation, cells)
    groups = dict(iter(scored.groupby([*CELL_KEYS, "targets"], sort=False)))
    floor_rows = dict(iter(floors[floors["split"] == "val"].groupby(["task", "variant"], sort=False)))
    rows = []
    for cell in cells:
        key = tuple(cell[name] for name in CELL_KEYS)
        for kind in TARGETS:
            group = groups[(*key, kind)]
            counted = group[group["status"] != "stopped"]
            completed = counted[counted["status"] != "diverged"]
            lacking = completed.index[completed["no_evaluation"] != ""]
            tested = counted.drop(index=lacking)
            rows.append(
                {
                    **dict(zip(CELL_KEYS, key, strict=True)),
                    **arm_columns(cell),
                    "text": text[key[:2]],
                    "leaks": "; ".join(cell["leaks"]),
                    "targets": kind,
                    "n_seeds": len(group),
                    "n_diverged": len(counted) - len(completed),
                    "n_stopped": len(group) - len(counted),
                    "n_unmeasured": len(lacking),
                    **{name: _finite_median((tested if name in _ON_TEST else counted)[name]) for name in _RUN_VALUES},
                    "final_val_accuracy_min": completed["final_val_accuracy"].min(),
                    "final_val_accuracy_max": completed["final_val_accuracy"].max(),
                    "best_val_loss_step": completed["best_val_loss_step"].median(),
                    **_floors(floor_rows.get(key[:2]), cell, kind),
                }
            )
    return pd.DataFrame(rows, columns=SCORE.names)


def arm_columns(cell: dict[str, Any]) -> dict[str, float]:
    """rho, gamma and orientation of a cell's arm; NaN for the baseline."""
    return {name: float(cell["arm_settings"].get(name, np.nan)) for name in ("rho", "gamma", "orientation")}


def _finite_median(values: pd.Series) -> float:
    median = np.median(values.to_numpy(float)) if len(values) else np.nan
    return float(median) if np.isfinite(median) else np.nan


def _floors(found: pd.DataFrame | None, cell: dict[str, Any], kind: str) -> dict[str, float]:
    """Medians over the cell's seeds of what predictors without a model reach; NaN where none were made."""
    columns = {f"{name}_{what}": (name, what) for name in ("commonest", "bigram") for what in ("accuracy", "loss")}
    columns["n_targets"] = ("commonest", "n_targets")
    columns |= {"lookup_accuracy": ("lookup", "accuracy"), "seen": ("lookup", "seen")}
    made = set() if found is None else set(found["predictor"])
    medians = {}
    for column, (predictor, what) in columns.items():
        if predictor not in made:
            medians[column] = np.nan
            continue
        values = found[(found["predictor"] == predictor) & (found["targets"] == kind)].set_index("seed")[what]
        missing = next((seed for seed in cell["seeds"] if seed not in values.index), None)
        if missing is not None:
            raise RecordError(
                f"{cell['task']} / {cell['variant']} / seed {missing}: no floor {predictor!r} over {kind} "
                "validation targets; make and collect the floors again"
            )
        medians[column] = _finite_median(values.loc[cell["seeds"]])
    return medians


def score_effects(
    scored: pd.DataFrame,
    runs: pd.DataFrame,
    cells: list[dict[str, Any]],
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Each regularised cell against its variant's baseline, paired by seed: columns of SCORE_EFFECT.

    Takes what `run_scores` returns (its rows over all targets). An effect is the mean over pairs of
    arm minus baseline, with the expanded percentile interval of a bootstrap of the pairs; pairs with a
    run that diverged or was stopped early are left out of it and counted in the note. Every comparison
    starts from the same state of the generator. Raises RecordError for a variant without an arm of kind baseline.
    """
    entropy = int(generator.integers(2**63))
    text = text_labels(runs, cells)
    by_run = scored[scored["targets"] == "all"].set_index(RUN_KEYS)
    rows = []
    for name, group in by_variant(cells).items():
        regularised = [cell for cell in group if cell["arm_settings"]["kind"] != "baseline"]
        for cell in regularised:
            baseline = baseline_of(group)
            seeds = [seed for seed in baseline["seeds"] if seed in cell["seeds"]]
            row = {**{key: cell[key] for key in CELL_KEYS}, "baseline": baseline["arm"], **arm_columns(cell)}
            row |= {"text": text[name], "n_pairs": len(seeds), "confidence": confidence}
            found = {}
            compared = np.ones(len(seeds), dtype=bool)
            for column in ("final_val_accuracy", "best_val_loss"):
                pair = [by_run.loc[[(*name, arm["arm"], seed) for seed in seeds], column] for arm in (baseline, cell)]
                found[column] = mean_difference(*pair, confidence, n_resamples, entropy)
                row |= found[column].columns(f"{column}_difference")
                compared &= np.isfinite(np.array(pair, dtype=float)).all(0)
            row |= {"n_compared": int(compared.sum()), "n_stopped": found["best_val_loss"].n_stopped}
            rows.append({**row, "note": "; ".join(shared_notes(found))})
    return pd.DataFrame(rows, columns=SCORE_EFFECT.names)
