"""Select on validation, report on test, for a sweep of arms: pure functions of DataFrames.

The best of many arms looks good by luck on the records that chose it. So the arm is chosen on
validation records and compared with the baseline on test records (`all_seeds`); and, so that no
seed has a voice in choosing the arm that it is then scored with, each seed's arm is chosen on the
other seeds (`leave_one_out`). Tuning helps a baseline too: where the grid has it with other settings of its
optimiser, it is tuned in the same way (`equal_tuning`). The grid is handed in as `cells` (see
`nsbench.analysis.statistics`). A run that `training.stop` ended early has its time on validation data; where it has
none on test data, that is unknown, and so are its best scores; all of this is unknown of a run without measures:
comparisons leave its pair out and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
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
from nsbench.analysis.statistics.times import RUN_KEYS, RunKey, crossing, run_name
from nsbench.config.cells import by_variant, swept
from nsbench.config.sections import Analysis
from nsbench.config.target import first_held
from nsbench.schemas.analysis import SELECTION
from nsbench.schemas.metrics import METRICS, TEST_SCORES
from nsbench.storage.parquet import RecordError

PROCEDURES = ("all_seeds", "leave_one_out", "equal_tuning")
CRITERION = (
    "fewest mean steps to the target on validation data, runs that do not reach it counted at the budget; "
    "ties: lowest mean best validation loss, over seeds with no run stopped early"
)
HOLD_CHECKPOINTS = 2
"""Checkpoints in a row that must reach the target on test data."""


Name = tuple[str, str]
"""Variant and arm of a cell."""


class _Sweep(NamedTuple):
    """A variant's arms to choose from, its baseline with the settings of its optimiser to choose from, the variant's
    own first, and the seeds that all of them have.

    `steps` (restricted steps to target) and `losses` (best validation loss, NaN of runs that were stopped
    early) are seeds x cells, to choose by; the other tables are by (variant, arm, seed), to compare.
    """

    baselines: list[Name]
    arms: list[Name]
    seeds: list[int]
    steps: pd.DataFrame
    losses: pd.DataFrame
    times: pd.DataFrame
    test_times: pd.DataFrame
    scored: pd.DataFrame


def tuned_baselines(group: list[dict[str, Any]], cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The baseline of a variant's cells, and those of variants that differ from it in the optimiser's settings alone.

    Raises RecordError for a variant without an arm of kind baseline.
    """
    own = baseline_of(group)
    rest = {**own["settings"], "optimizer": None}
    alike = [cell for cell in cells if cell["task"] == own["task"] and cell["arm_settings"] == own["arm_settings"]]
    others = [cell for cell in alike if cell["settings"] != own["settings"]]
    return [own, *(cell for cell in others if {**cell["settings"], "optimizer": None} == rest)]


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
    """A row for each of PROCEDURES per variant with two or more arms of orientation 1: columns of SELECTION, `text`
    empty. `equal_tuning` is there where the grid has two or more `tuned_baselines`.

    Takes `schemas.training.TIME_TO_TARGET` (validation), what `scores.run_scores` returns, and EVALUATION. All
    comparisons are paired by seed over the seeds that the baseline and every arm have. The steps ratio on
    test data is the typical one of `paired_effects`, without pairs in which such a time is not known; differences are
    typical ones of the pairs' test scores at each run's checkpoint of lowest validation loss, without pairs in which a
    run diverged, was stopped early or has no measures. All are with the choice as it was made, which the pairs share:
    their intervals describe, and test nothing.

    Raises RecordError naming a run that has, for no reason, no test scores, or a variant without an arm of kind
    baseline.
    """
    every, rows = (times, scored[scored["targets"] == "all"], evaluation), []
    for (task, variant), group in by_variant(cells).items():
        if len(swept(group)) < 2:
            continue
        baselines, tables = tuned_baselines(group, cells), [table[table["task"] == task] for table in every]
        for procedure in PROCEDURES if len(baselines) > 1 else PROCEDURES[:2]:
            sweep = _sweep(group, baselines if procedure == "equal_tuning" else baselines[:1], *tables)
            row = {"task": task, "variant": variant, "procedure": procedure, "baseline": baselines[0]["arm"]}
            row |= {"n_arms": len(sweep.arms), "criterion": CRITERION}
            row |= {"n_pairs": len(sweep.seeds), "n_compared": 0, "n_stopped": 0, "confidence": confidence}
            rows.append(row | _compare(sweep, procedure, confidence))
    return pd.DataFrame(rows, columns=SELECTION.names)


def _sweep(
    group: list[dict[str, Any]],
    baselines: list[dict[str, Any]],
    times: pd.DataFrame,
    scored: pd.DataFrame,
    evaluation: pd.DataFrame,
) -> _Sweep:
    lacking = set(scored.loc[scored["no_evaluation"] != "", RUN_KEYS].itertuples(index=False, name=None))
    arms = swept(group)
    wanted = [*baselines, *arms]
    rivals, names = ([(cell["variant"], cell["arm"]) for cell in some] for some in (baselines, arms))
    seeds = [seed for seed in baselines[0]["seeds"] if all(seed in cell["seeds"] for cell in wanted)]
    wanted_runs = {(*name, seed) for name in [*rivals, *names] for seed in seeds}
    of_run = ["variant", "arm", "seed"]

    def of_sweep(table: pd.DataFrame) -> pd.DataFrame:
        return table[np.array([key in wanted_runs for key in table[of_run].itertuples(index=False, name=None)], bool)]

    times, scored, evaluation = map(of_sweep, (times, scored, evaluation))
    test_times = times_on_test(times, evaluation, lacking)
    times, scored, test_times = (
        table.set_index(of_run, drop=False).rename_axis([None] * 3) for table in (times, scored, test_times)
    )
    best_losses = scored["best_val_loss"].fillna(np.inf).mask(scored["status"] == "stopped")
    steps, losses = (values.unstack(level=[0, 1]).reindex(index=seeds) for values in (_restricted(times), best_losses))
    return _Sweep(rivals, names, seeds, steps, losses, times, test_times, scored)


def _choices(sweep: _Sweep, of: list[Name], alike: bool) -> dict[int, Name]:
    """The cell chosen for each seed, on all or (not `alike`) on the others; empty where there is no seed to choose
    on."""
    if alike:
        return dict.fromkeys(sweep.seeds, _best(sweep, of, sweep.seeds)) if sweep.seeds else {}
    others = {seed: [other for other in sweep.seeds if other != seed] for seed in sweep.seeds}
    return {seed: _best(sweep, of, rest) for seed, rest in others.items() if rest}


def _best(sweep: _Sweep, of: list[Name], seeds: list[int]) -> Name:
    """The cell that CRITERION chooses on the validation records of these seeds; the grid's first of equals."""
    # Seeds in which a run was stopped early have no loss of every cell; without any other the losses tie.
    steps, losses = sweep.steps.loc[seeds, of].mean(), sweep.losses.loc[seeds, of].dropna().mean().fillna(np.inf)
    return min(of, key=lambda name: (steps[name], losses[name]))


def _restricted(times: pd.DataFrame) -> pd.Series:
    """Steps to target, or the budget of a run that did not reach it."""
    return times["step"].fillna(times["budget_steps"]).astype(float)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} x {count}" for name, count in Counter(names).most_common())


def _compare(sweep: _Sweep, procedure: str, confidence: float) -> dict[str, Any]:
    """The chosen arms against the baseline, seed by seed."""
    choices = _choices(sweep, sweep.arms, procedure == "all_seeds")
    baselines = _choices(sweep, sweep.baselines, False) if procedure == "equal_tuning" else {}
    selected = _counted(arm for _, arm in choices.values())
    if procedure == "all_seeds":
        selected = next((arm for _, arm in choices.values()), "")
    if not choices:
        why = "one seed: no other seeds to choose on" if sweep.seeds else "no seed in common"
        return {"selected": selected, "note": why}
    before = [(*baselines.get(seed, sweep.baselines[0]), seed) for seed in choices]
    after = [(*name, seed) for seed, name in choices.items()]
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
    on_validation = [sweep.times.loc[keys] for keys in (before, after)]
    row |= _steps_ratio(*on_validation, confidence).columns("val_steps_ratio")
    for name in TEST_SCORES:
        row |= found[name].columns(f"{name}_difference")
    tuned = _counted(variant for variant, _ in baselines.values())
    notes = [f"baselines, the best of {len(sweep.baselines)}: {tuned}"] if tuned else []
    if not any(table["reached"].any() for table in on_validation):
        notes.append("no run reached the target on validation data")
    notes += [*shared_notes(found), *_resolution(sweep.test_times.loc[before + after])]
    return {**row, "note": "; ".join(notes)}


def _steps_ratio(baseline: pd.DataFrame, chosen: pd.DataFrame, confidence: float) -> Interval:
    """`analysis.statistics.paired_effects` of the chosen arms' test times, as if they were one arm."""
    if chosen.empty:
        return Interval(np.nan, np.nan, np.nan, ["no pairs to compare"])
    # As if they were one variant's: what differs between them is what was chosen.
    variant = chosen["variant"].iloc[0]
    times = pd.concat([baseline.assign(variant=variant), chosen.assign(arm="the chosen")], ignore_index=True)
    no_cost = times[RUN_KEYS].assign(steps=np.nan, flops=np.nan, seconds=np.nan)
    (row,) = paired_effects(times, no_cost, Analysis(confidence=confidence)).to_dict("records")
    ends = (row[f"steps_ratio{end}"] for end in ("", "_low", "_high"))
    return Interval(*ends, row["note"].split("; ") if row["note"] else [])


def _resolution(test_times: pd.DataFrame) -> list[str]:
    spacing = test_times["resolution_steps"].max()
    return [f"test times are known to {spacing:,.0f} steps, the spacing of checkpoints"] if spacing > 0 else []
