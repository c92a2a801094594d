"""Select on validation, report on test, for a sweep of arms: pure functions of DataFrames.

The best of many arms looks good by luck on the records that chose it. So the arm is chosen on
validation records and compared with the baseline on test records (`all_seeds`); and, so that no
seed has a voice in choosing the arm that it is then scored with, each seed's arm is chosen on the
other seeds (`leave_one_out`). The grid is handed in as `cells` (see `nsbench.analysis.statistics`). A run that
`training.stop` ended early has its time on validation data; where it has none on test data, that is
unknown, and so are its best scores; all of this is unknown of a run without measures: comparisons leave its pair out
and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.scores import baseline_of, curves_on_test
from nsbench.analysis.statistics import paired_effects
from nsbench.analysis.statistics.intervals import (
    STOPPED,
    UNMEASURED,
    Interval,
    left_out_pairs,
    shared_notes,
    typical_difference,
)
from nsbench.analysis.statistics.times import RUN_KEYS, RunKey, by_variant, crossing, run_name
from nsbench.config.sections import Analysis
from nsbench.config.target import first_held
from nsbench.schemas.analysis import SELECTION
from nsbench.schemas.metrics import METRICS, TEST_SCORES
from nsbench.storage.parquet import RecordError

PROCEDURES = ("all_seeds", "leave_one_out")
CRITERION = (
    "fewest mean steps to the target on validation data, runs that do not reach it counted at the budget; "
    "ties: lowest mean best validation loss, over seeds with no run stopped early"
)
HOLD_CHECKPOINTS = 2
"""Checkpoints in a row that must reach the target on test data."""


class _Sweep(NamedTuple):
    """A variant's arms to choose from, its baseline and the seeds that all of them have.

    `steps` (restricted steps to target) and `losses` (best validation loss, NaN of runs that were stopped
    early) are seeds x arms, to choose by; the other tables are by (arm, seed), to compare.
    """

    baseline: str
    arms: list[str]
    seeds: list[int]
    steps: pd.DataFrame
    losses: pd.DataFrame
    times: pd.DataFrame
    test_times: pd.DataFrame
    scored: pd.DataFrame


def candidates(group: list[dict[str, Any]]) -> list[str]:
    """Names of the arms among a variant's cells that reward stability (orientation 1), in grid order."""
    of_paper = [cell for cell in group if cell["arm_settings"]["kind"] == "noise_stability"]
    return [cell["arm"] for cell in of_paper if cell["arm_settings"].get("orientation") == 1]


def times_on_test(times: pd.DataFrame, evaluation: pd.DataFrame, lacking: Container[RunKey] = ()) -> pd.DataFrame:
    """`times` (`schemas.training.TIME_TO_TARGET`) with `reached` and `step` read from test scores instead.

    The time is the first checkpoint that reaches the target's threshold and whose next one reaches it
    too; over the targets that the metric names. It is known to the spacing of checkpoints: a further
    column `resolution_steps` has the widest, NaN for a diverged run, which has not reached the target.
    A further column `known` is false for a run that was stopped early before its checkpoints could show the
    target reached: it is not censored at the budget; and for one of `lacking`, the runs without measures, for
    which `measured` is false too. `flops` and `seconds` are NaN. Raises RecordError naming another run that did
    not diverge and has no test scores.
    """
    on_test, found = curves_on_test(evaluation), []
    for row in times.to_dict("records"):
        key, metric = tuple(row[name] for name in RUN_KEYS), METRICS[row["metric"]]
        diverged, one = row["status"] == "diverged", {"step": np.nan, "resolution_steps": np.nan}
        one["measured"] = diverged or key not in lacking
        if one["measured"] and not diverged:
            curve = on_test.get((*key, metric.targets, f"test_{metric.quantity}"))
            if curve is None:
                why = f"this run has no test scores over {metric.targets} targets; evaluate it again"
                raise RecordError(f"{run_name(*key)}: {why}")
            curve = curve[curve.index <= row["budget_steps"]]
            hold = {**row, "hold_evaluations": HOLD_CHECKPOINTS, "hold_steps": 0}
            held = first_held(curve.to_numpy(float), curve.index.tolist(), hold)
            if held is not None:
                one["step"] = float(crossing(curve.index.to_numpy(float)[:, None], held)[0])
            one["resolution_steps"] = float(np.diff(curve.index).max(initial=0))
        found.append(one)
    columns = pd.DataFrame(found, index=times.index, columns=["step", "resolution_steps", "measured"])
    reached, measured = columns["step"].notna(), columns["measured"].astype(bool)
    known = measured & (reached | (times["status"] != "stopped"))
    return times.assign(**columns, reached=reached, known=known, flops=np.nan, seconds=np.nan)


def selections(
    times: pd.DataFrame,
    scored: pd.DataFrame,
    evaluation: pd.DataFrame,
    cells: list[dict[str, Any]],
    confidence: float,
) -> pd.DataFrame:
    """Two rows (PROCEDURES) per variant with two or more arms of orientation 1: columns of SELECTION, `text` empty.

    Takes `schemas.training.TIME_TO_TARGET` (validation), what `scores.run_scores` returns, and EVALUATION. All
    comparisons are paired by seed over the seeds that the baseline and every arm have. The steps ratio on
    test data is the typical one of `paired_effects`, without pairs in which such a time is not known; differences are
    typical ones of the pairs' test scores at each run's checkpoint of lowest validation loss, without pairs in which a
    run diverged, was stopped early or has no measures. All are with the choice as it was made, which the pairs share:
    their intervals describe, and test nothing.

    Raises RecordError naming a run that has, for no reason, no test scores, or a variant without an arm of kind
    baseline.
    """
    scored, rows = scored[scored["targets"] == "all"], []
    for (task, variant), group in by_variant(cells).items():
        if len(candidates(group)) < 2:
            continue
        tables = (times, scored, evaluation)
        sweep = _sweep(group, *(table[(table["task"] == task) & (table["variant"] == variant)] for table in tables))
        for procedure in PROCEDURES:
            row = {"task": task, "variant": variant, "procedure": procedure, "baseline": sweep.baseline}
            row |= {"n_arms": len(sweep.arms), "criterion": CRITERION}
            row |= {"n_pairs": len(sweep.seeds), "n_compared": 0, "n_stopped": 0, "confidence": confidence}
            rows.append(row | _compare(sweep, _choices(sweep, procedure), procedure, confidence))
    return pd.DataFrame(rows, columns=SELECTION.names)


def _sweep(group: list[dict[str, Any]], times: pd.DataFrame, scored: pd.DataFrame, evaluation: pd.DataFrame) -> _Sweep:
    lacking = set(scored.loc[scored["no_evaluation"] != "", RUN_KEYS].itertuples(index=False, name=None))
    test_times = times_on_test(times, evaluation, lacking)
    baseline, arms = baseline_of(group), candidates(group)
    have = [set(cell["seeds"]) for cell in group if cell["arm"] in arms]
    seeds = [seed for seed in baseline["seeds"] if all(seed in other for other in have)]
    times, test_times = (table.set_index(["arm", "seed"], drop=False) for table in (times, test_times))
    times, test_times = (table.rename_axis([None, None]) for table in (times, test_times))
    scored = scored.set_index(["arm", "seed"])
    best_losses = scored["best_val_loss"].fillna(np.inf).mask(scored["status"] == "stopped")
    steps, losses = (
        values.unstack(level=0).reindex(index=seeds, columns=arms) for values in (_restricted(times), best_losses)
    )
    return _Sweep(baseline["arm"], arms, seeds, steps, losses, times, test_times, scored)


def _choices(sweep: _Sweep, procedure: str) -> dict[int, str]:
    """The arm chosen for each seed; empty where there is no seed to choose on."""
    if procedure == "all_seeds":
        return dict.fromkeys(sweep.seeds, _best_arm(sweep, sweep.seeds)) if sweep.seeds else {}
    others = {seed: [other for other in sweep.seeds if other != seed] for seed in sweep.seeds}
    return {seed: _best_arm(sweep, rest) for seed, rest in others.items() if rest}


def _best_arm(sweep: _Sweep, seeds: list[int]) -> str:
    """The arm that CRITERION chooses on the validation records of these seeds; the grid's first of equals."""
    # Seeds in which a run was stopped early have no loss of every arm; without any other the losses tie.
    steps, losses = sweep.steps.loc[seeds].mean(), sweep.losses.loc[seeds].dropna().mean().fillna(np.inf)
    return min(sweep.arms, key=lambda arm: (steps[arm], losses[arm]))


def _restricted(times: pd.DataFrame) -> pd.Series:
    """Steps to target, or the budget of a run that did not reach it."""
    return times["step"].fillna(times["budget_steps"]).astype(float)


def _compare(sweep: _Sweep, choices: dict[int, str], procedure: str, confidence: float) -> dict[str, Any]:
    """The chosen arms against the baseline, seed by seed."""
    counts = Counter(choices.values())
    selected = ", ".join(f"{arm} x {count}" for arm, count in counts.most_common())
    if procedure == "all_seeds":
        selected = next(iter(counts), "")
    if not choices:
        why = "one seed: no other seeds to choose on" if sweep.seeds else "no seed in common"
        return {"selected": selected, "note": why}
    before = [(sweep.baseline, seed) for seed in choices]
    after = [(arm, seed) for seed, arm in choices.items()]
    on_test = [sweep.test_times.loc[keys] for keys in (before, after)]
    known = [table["known"].to_numpy(bool) for table in on_test]
    without = [~table["measured"].to_numpy(bool) for table in on_test]
    stopped = [~here & ~lacks for here, lacks in zip(known, without, strict=True)]
    compared = known[0] & known[1]
    steps = _steps_ratio(*(table[compared] for table in on_test), confidence)
    notes = [*left_out_pairs(*stopped, STOPPED), *left_out_pairs(*without, UNMEASURED)]
    found = {"test_steps": steps._replace(notes=[*notes, *steps.notes])}
    for name in TEST_SCORES:
        scores = (sweep.scored.loc[keys, name] for keys in (before, after))
        found[name] = typical_difference(*scores, confidence, without)
    row = {"selected": selected, "n_compared": int(compared.sum())}
    row |= {"n_stopped": int((stopped[0] | stopped[1]).sum()), **steps.columns("test_steps_ratio")}
    for name in TEST_SCORES:
        row |= found[name].columns(f"{name}_difference")
    on_validation = [sweep.times.loc[keys] for keys in (before, after)]
    reached = any(table["reached"].any() for table in on_validation)
    means = [_restricted(table).mean() for table in on_validation]
    row["val_steps_ratio"] = means[1] / means[0] if reached and means[0] > 0 else np.nan
    notes = [] if reached else ["no run reached the target on validation data"]
    notes += [*shared_notes(found), *_resolution(sweep.test_times.loc[before + after])]
    return {**row, "note": "; ".join(notes)}


def _steps_ratio(baseline: pd.DataFrame, chosen: pd.DataFrame, confidence: float) -> Interval:
    """`analysis.statistics.paired_effects` of the chosen arms' test times, as if they were one arm."""
    if chosen.empty:
        return Interval(np.nan, np.nan, np.nan, ["no pairs to compare"])
    times = pd.concat([baseline, chosen.assign(arm="the chosen")], ignore_index=True)
    no_cost = times[RUN_KEYS].assign(steps=np.nan, flops=np.nan, seconds=np.nan)
    (row,) = paired_effects(times, no_cost, Analysis(confidence=confidence)).to_dict("records")
    ends = (row[f"steps_ratio{end}"] for end in ("", "_low", "_high"))
    return Interval(*ends, row["note"].split("; ") if row["note"] else [])


def _resolution(test_times: pd.DataFrame) -> list[str]:
    spacing = test_times["resolution_steps"].max()
    return [f"test times are known to {spacing:,.0f} steps, the spacing of checkpoints"] if spacing > 0 else []
