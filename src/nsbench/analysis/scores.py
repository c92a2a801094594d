"""What runs score and measure, and what an arm changes in it: pure functions of DataFrames.

The grid is handed in as `cells` (see `nsbench.analysis.statistics`); rows come out in its order, their columns `text`
and `leaks` empty: `tables.analyse` fills them. A run that diverged scores worse than any other: accuracy -inf, loss
+inf in medians, which are NaN where they would not be finite; differences leave its pair out and say so. A run that
`training.stop` ended early has no scores (NaN), as its curve does not show how it would have ended: medians and
differences leave it out and say so. A run whose record has no measures that fit the grid (`no_evaluation` of
`schemas.training.COLLECTED_RUNS`) has no test scores, and is left out of theirs alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.intervals import shared_notes, typical_difference
from nsbench.analysis.statistics.times import (
    CELL_KEYS,
    RUN_KEYS,
    RunKey,
    Trail,
    arm_columns,
    run_name,
)
from nsbench.config.cells import by_variant
from nsbench.schemas.analysis import MEASURE, SCORE, SCORE_EFFECT
from nsbench.schemas.metrics import METRICS, TARGETS, TEST_SCORES
from nsbench.storage.parquet import RecordError

FINAL_EVALUATIONS = 3
"""A run's final score is its mean over this many last evaluations."""

_MEASURE_KEYS = ["measure", "reduction", "rho"]
_RUN_VALUES = ["final_val_accuracy", "final_val_loss", "best_val_loss", *TEST_SCORES]
_FLOORS = {
    **{f"{name}_{what}": (name, what) for name in ("commonest", "bigram") for what in ("accuracy", "loss")},
    **{"n_targets": ("commonest", "n_targets"), "lookup_accuracy": ("lookup", "accuracy"), "seen": ("lookup", "seen")},
}
"""Column of SCORE -> the predictor without a model and its column of `schemas.training.FLOORS`."""


def baseline_of(group: list[dict[str, Any]]) -> dict[str, Any]:
    """The first cell of kind baseline among those of a variant. Raises RecordError where there is none."""
    for cell in group:
        if cell["arm_settings"]["kind"] == "baseline":
            return cell
    raise RecordError(
        f"{group[0]['task']} / {group[0]['variant']}: no arm of kind baseline to pair with; add one to the grid"
    )


def final_score(trail: Trail, column: str) -> float:
    """Mean of a column of `schemas.training.HISTORY` over the run's last evaluations.

    Of a diverged run it is the worst, of one that was stopped early NaN.
    """
    if trail.status == "diverged":
        return np.inf if METRICS[column].is_loss else -np.inf
    if trail.status == "stopped":
        return np.nan
    return float(trail.rows[column].to_numpy(float)[-FINAL_EVALUATIONS:].mean())


def curves_on_test(evaluation: pd.DataFrame) -> dict[tuple[str, str, str, int, str, str], pd.Series]:
    """Test scores by step, for every (task, variant, arm, seed, targets, measure) of `schemas.training.EVALUATION`."""
    rows = evaluation[evaluation["measure"].isin(TEST_SCORES)].sort_values("step")
    return dict(iter(rows.set_index("step").groupby([*RUN_KEYS, "reduction", "measure"], sort=False)["value"]))


def run_scores(every: dict[RunKey, Trail], runs: pd.DataFrame, evaluation: pd.DataFrame) -> pd.DataFrame:
    """A row per run of `statistics.times.trails` and kind of targets (TARGETS): what the run scored.

    Columns: task, variant, arm, seed, targets, status, final_val_accuracy, final_val_loss,
    best_val_loss, best_val_loss_step, test_accuracy, test_loss (losses in nats), no_evaluation. Test scores
    are those at the checkpoint whose validation loss over the same targets is lowest, the first of
    several; NaN where there are no such targets, and of a run without measures. A diverged run has the worst
    of everything (accuracy -inf, loss +inf, step NaN), one that was stopped early NaN.

    Raises RecordError naming a run that completed without test scores and without a reason for it.
    """
    on_test = {key: curve.to_dict() for key, curve in curves_on_test(evaluation).items()}
    why, rows = runs.set_index(RUN_KEYS)["no_evaluation"].to_dict(), []
    for key, trail in every.items():
        steps = trail.rows["step"].to_numpy()
        for kind, suffix in TARGETS.items():
            row = {**dict(zip(RUN_KEYS, key, strict=True)), "targets": kind, "status": trail.status}
            row |= {f"final_{name}": final_score(trail, name + suffix) for name in ("val_accuracy", "val_loss")}
            row["no_evaluation"] = why[key]
            if trail.status == "diverged":
                row |= {"best_val_loss": np.inf, "test_accuracy": -np.inf, "test_loss": np.inf}
            elif trail.status == "completed":
                loss = trail.rows["val_loss" + suffix].to_numpy(float)
                losses = {step: value for step, value in zip(steps, loss, strict=True) if not np.isnan(value)}
                curves = {name: on_test.get((*key, kind, name), {}) for name in TEST_SCORES}
                tested = [step for step in losses if all(step in curve for curve in curves.values())]
                if kind == "all" and not tested and not why[key]:
                    raise RecordError(
                        f"{run_name(*key)}: this run has no test scores at checkpoints; evaluate it again"
                    )
                row["best_val_loss_step"] = min(losses, key=losses.__getitem__, default=np.nan)
                row["best_val_loss"] = losses.get(row["best_val_loss_step"], np.nan)
                if tested:
                    best = min(tested, key=losses.__getitem__)
                    row |= {name: curve[best] for name, curve in curves.items()}
            rows.append(row)
    names = [*RUN_KEYS, "targets", "status", *_RUN_VALUES, "best_val_loss_step", "no_evaluation"]
    table = pd.DataFrame(rows, columns=names)
    return table.astype(dict.fromkeys([*_RUN_VALUES, "best_val_loss_step"], float))


def scores(scored: pd.DataFrame, floors: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per cell and kind of targets, in grid order: columns of SCORE.

    Takes what `run_scores` returns, and `schemas.training.FLOORS`; a variant without rows in `floors` has NaN for them.
    Raises RecordError for a seed that its variant's floors lack.
    """
    groups = dict(iter(scored.groupby([*CELL_KEYS, "targets"], sort=False)))
    of_variant = dict(iter(floors[floors["split"] == "val"].groupby(["task", "variant"], sort=False)))
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
                    "targets": kind,
                    "n_seeds": len(group),
                    "n_diverged": len(counted) - len(completed),
                    "n_stopped": len(group) - len(counted),
                    "n_unmeasured": len(lacking),
                    **{
                        name: _finite_median((tested if name in TEST_SCORES else counted)[name]) for name in _RUN_VALUES
                    },
                    "final_val_accuracy_min": completed["final_val_accuracy"].min(),
                    "final_val_accuracy_max": completed["final_val_accuracy"].max(),
                    "best_val_loss_step": completed["best_val_loss_step"].median(),
                    **_floors(of_variant.get(key[:2], floors[:0]), cell, kind),
                }
            )
    return pd.DataFrame(rows, columns=SCORE.names)


def _finite_median(values: pd.Series) -> float:
    median = np.median(values.to_numpy(float)) if len(values) else np.nan
    return float(median) if np.isfinite(median) else np.nan


def _floors(floors: pd.DataFrame, cell: dict[str, Any], kind: str) -> dict[str, float]:
    """Medians over the cell's seeds of what predictors without a model reach; NaN where none were made.

    floors: of the cell's variant, on validation data.
    """
    made, here, medians = set(floors["predictor"]), floors[floors["targets"] == kind], {}
    for column, (predictor, what) in _FLOORS.items():
        medians[column] = np.nan
        if predictor in made:
            values = here[here["predictor"] == predictor].set_index("seed")[what]
            for seed in cell["seeds"]:
                if seed not in values.index:
                    raise RecordError(
                        f"{cell['task']} / {cell['variant']} / seed {seed}: no floor {predictor!r} over {kind} "
                        "validation targets; make and collect the floors again"
                    )
            medians[column] = _finite_median(values.loc[cell["seeds"]])
    return medians


def score_effects(scored: pd.DataFrame, cells: list[dict[str, Any]], confidence: float) -> pd.DataFrame:
    """Each regularised cell against its variant's baseline, paired by seed: columns of SCORE_EFFECT.

    Takes what `run_scores` returns (its rows over all targets). An effect is the typical difference over pairs, arm
    minus baseline (`statistics.signed_rank.typical_value`); pairs with a run that diverged or was stopped early are
    left out of it and counted in the note. Raises RecordError for a variant without an arm of kind baseline.
    """
    by_run = scored[scored["targets"] == "all"].set_index(RUN_KEYS)
    rows = []
    for name, group in by_variant(cells).items():
        for cell in [cell for cell in group if cell["arm_settings"]["kind"] != "baseline"]:
            baseline = baseline_of(group)
            seeds = [seed for seed in baseline["seeds"] if seed in cell["seeds"]]
            row = {**{key: cell[key] for key in CELL_KEYS}, "baseline": baseline["arm"], **arm_columns(cell)}
            row |= {"n_pairs": len(seeds), "confidence": confidence}
            pairs = [by_run.loc[[(*name, arm["arm"], seed) for seed in seeds]] for arm in (baseline, cell)]
            columns = ["final_val_accuracy", "best_val_loss"]
            found = {name: typical_difference(*(table[name] for table in pairs), confidence) for name in columns}
            for column, interval in found.items():
                row |= interval.columns(f"{column}_difference")
            compared = np.isfinite(np.hstack([table[columns].to_numpy(float) for table in pairs])).all(axis=1)
            row |= {"n_compared": int(compared.sum()), "n_stopped": found["best_val_loss"].n_stopped}
            rows.append({**row, "note": "; ".join(shared_notes(found))})
    return pd.DataFrame(rows, columns=SCORE_EFFECT.names)


def measures(evaluation: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per cell, in grid order, and number of a measure: columns of MEASURE, `text` empty.

    Takes `schemas.training.EVALUATION`. Values are of checkpoints at the budget, so that runs which
    diverged or were stopped early have none. Every cell of a variant has the numbers that one of its cells has.
    """
    budget = {tuple(cell[name] for name in CELL_KEYS): cell["budget_steps"] for cell in cells}
    at_end = evaluation["step"] == [
        budget.get(key) for key in zip(*(evaluation[name] for name in CELL_KEYS), strict=True)
    ]
    found = evaluation[at_end].groupby([*CELL_KEYS, *_MEASURE_KEYS], sort=False, dropna=False, as_index=False)
    found = found.agg(
        n_measured=("seed", "nunique"),
        value=("value", "median"),
        value_min=("value", "min"),
        value_max=("value", "max"),
        correlation=("correlation", "first"),
        target_value=("target_value", "median"),
    )
    of_cell = dict(iter(found.groupby(CELL_KEYS, sort=False)))
    rows = []
    for group in by_variant(cells).values():
        parts = [of_cell.get(tuple(cell[name] for name in CELL_KEYS), found.iloc[:0]) for cell in group]
        names = pd.concat(parts)[_MEASURE_KEYS].drop_duplicates()
        for cell, part in zip(group, parts, strict=True):
            row = {**{key: cell[key] for key in CELL_KEYS}, "n_seeds": len(cell["seeds"])}
            rows.append(names.merge(part, on=_MEASURE_KEYS, how="left").assign(**row))
    made = pd.concat(rows, ignore_index=True).reindex(columns=MEASURE.names)
    return made.assign(n_measured=made["n_measured"].fillna(0).astype(int))
