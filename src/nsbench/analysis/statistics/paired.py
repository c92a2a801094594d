"""Effects of arms on time to target, paired by seed: typical ratios, their intervals and tests; pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.signed_rank import Typical, typical_ratio
from nsbench.analysis.statistics.times import CELL_KEYS, RUN_KEYS
from nsbench.config.sections import Analysis
from nsbench.config.settled import OPEN, few, outcome
from nsbench.schemas.statistics import COPIED, PAIRED_EFFECT
from nsbench.storage.parquet import RecordError

COSTS = ("steps", "flops", "seconds")
JUDGED = {"steps": "", "flops": "flops_"}
"""Costs that have an outcome -> what its column's name begins with. Seconds are the machine's."""
PRIMARY, SECONDARY, CURVE, CHOSEN = "primary", "secondary", "curve", "chosen"
"""What a comparison is for: it decides about its task; it stands beside; it is pooled with its curve; it was chosen by
its result, so that no test of it means anything."""


def paired_effects(
    times: pd.DataFrame,
    runs: pd.DataFrame,
    settings: Analysis | None = None,
    cells: list[dict[str, Any]] | None = None,
) -> pd.DataFrame:
    """Each arm against its variant's baseline, paired by seed: columns of PAIRED_EFFECT.

    The effect is the typical ratio arm / baseline (`signed_rank.typical_ratio`) of steps, FLOPs and seconds; `runs`
    (`schemas.training.RUNS`) gives the FLOPs and seconds of a run that did not reach the target, scaled linearly from
    the steps that it did to the budget.

    Comparisons of the grid, given as `cells`, are judged at the looks of `settings` (default: `Analysis()`), on the
    first so many seeds, at the level of a look. Their interval is what the intervals of all looks so far have in common
    and their p-value the least one, so that what a look has settled stays settled. A primary one is settled by its
    interval; a secondary one needs, after Benjamini and Hochberg's correction over the secondary ones of its task, a
    `q_value` of at most the level of a look besides. Those of specification curves alone (`curve_only`) have all pairs
    and the plain confidence; so do all where there are no `cells`, without a test, as an arm chosen by its result.

    Raises RecordError for a variant without an arm of kind baseline.
    """
    settings = settings or Analysis()
    of_curve = {(cell["task"], cell["variant"]) for cell in cells or [] if cell.get("curve_only", False)}
    rows = []
    for names, baseline, arm in pairs(_with_budgets(times, runs)):
        role = CHOSEN if cells is None else _role(names, settings, of_curve)
        rows.append({**names, "role": role, **_effect(baseline, arm, role, settings)})
    return _corrected(pd.DataFrame(rows, columns=[*PAIRED_EFFECT.names, "flops_p_value"]), settings.looks.alpha)


def pairs(times: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Every arm beside its variant's baseline: its names and settings, and both's runs of the seeds that both have.

    Takes `schemas.training.TIME_TO_TARGET`. Raises RecordError for a variant without an arm of kind baseline.
    """
    for (task, variant), group in times.groupby(["task", "variant"], sort=False):
        is_baseline = group["arm_kind"] == "baseline"
        if not is_baseline.any():
            raise RecordError(f"{task} / {variant}: no arm of kind baseline to pair with; add one to the grid")
        baseline = group.loc[is_baseline, "arm"].iloc[0]
        reference = group[group["arm"] == baseline].set_index("seed")
        for arm, treated in group[~is_baseline].groupby("arm", sort=False):
            treated = treated.set_index("seed")
            seeds = [seed for seed in reference.index if seed in treated.index]
            names = {"task": task, "variant": variant, "arm": arm, "baseline": baseline}
            yield names | treated.iloc[0][COPIED].to_dict(), reference.loc[seeds], treated.loc[seeds]


def _role(names: dict[str, Any], settings: Analysis, of_curve: set[tuple[str, str]]) -> str:
    primary = settings.primary.get(names["task"])
    if primary and (names["variant"], names["arm"]) == (primary.variant, primary.arm):
        return PRIMARY
    return CURVE if (names["task"], names["variant"]) in of_curve else SECONDARY


def _with_budgets(times: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """`times` with `steps` (of the target) and `<cost>_budget`: what the run costs, or would cost, up to its budget."""
    done = times[RUN_KEYS].merge(runs[[*RUN_KEYS, "steps", "flops", "seconds"]], on=RUN_KEYS, how="left")
    done.index = times.index
    budgets = {}
    for cost in ("flops", "seconds"):
        per_step = done[cost] / done["steps"].where(done["steps"] > 0)
        # A run that diverged at once would have cost what the others of its cell do.
        of_cell = per_step.groupby([times[key] for key in CELL_KEYS]).transform("median")
        budgets[f"{cost}_budget"] = per_step.fillna(of_cell) * times["budget_steps"]
    return times.assign(steps=times["step"].astype(float), steps_budget=times["budget_steps"].astype(float), **budgets)


def _effect(baseline: pd.DataFrame, arm: pd.DataFrame, role: str, settings: Analysis) -> dict[str, Any]:
    """The comparison of two arms over pairs, both indexed by seed."""
    confidence, n, looks = settings.confidence, len(arm), settings.looks.pairs if role in (PRIMARY, SECONDARY) else []
    found: dict[str, Any] = {"n_waiting": 0, "next_look": 0, "margin": settings.margin}
    found |= {f"{prefix}outcome": OPEN for prefix in JUDGED.values()}
    notes = []
    if looks:
        confidence = 1 - settings.looks.alpha
        judged = max((look for look in looks if look <= n), default=n)
        found["next_look"] = min((look for look in looks if look > judged), default=0)
        found["n_waiting"] = n - judged
        if n > judged:
            wait = f"wait for the look at {found['next_look']}" if found["next_look"] else "are beyond the last look"
            notes.append(f"{n - judged} of {n} pairs {wait}")
        n, baseline, arm = judged, baseline.iloc[:judged], arm.iloc[:judged]
    early = bool(looks) and n < looks[0]
    n_baseline, n_arm = int(baseline["reached"].sum()), int(arm["reached"].sum())
    when_baseline, when_arm = baseline["step"].fillna(np.inf), arm["step"].fillna(np.inf)
    found |= {
        "confidence": confidence,
        "n_pairs": n,
        "n_both_reached": int((baseline["reached"] & arm["reached"]).sum()),
        "n_baseline_reached": n_baseline,
        "n_arm_reached": n_arm,
        "n_baseline_sooner": int((when_baseline < when_arm).sum()),
        "n_arm_sooner": int((when_arm < when_baseline).sum()),
    }
    if n == 0 or n_baseline + n_arm == 0:
        return {**found, "note": "no run reached the target" if n else "no seed in common"}
    if censored := 2 * n - n_baseline - n_arm:
        budget = f"{baseline['budget_steps'].iloc[0]:,}"
        who = f"baseline {n - n_baseline}, arm {n - n_arm}"
        notes.append(f"{censored} of {2 * n} runs did not reach the target in {budget} steps ({who})")
    at = [look for look in looks if look <= n] or [n]
    for cost in COSTS:
        one, agree = _at_looks(baseline, arm, cost, at, confidence)
        notes += [] if agree else [f"the looks contradict each other in {cost}: the interval is the last one's"]
        found[f"{cost}_ratio"] = one.value
        found |= {} if early else {f"{cost}_ratio_low": one.low, f"{cost}_ratio_high": one.high}
        if cost in JUDGED and role != CHOSEN and not early:
            found[f"{JUDGED[cost]}p_value"] = one.p_value
    means = [table["steps"].fillna(table["steps_budget"]).mean() for table in (baseline, arm)]
    found["restricted_mean_ratio"] = means[1] / means[0] if means[0] > 0 else np.nan
    for end, from_end in (("", ""), ("_low", "_high"), ("_high", "_low")):
        ratio = np.float64(found.get(f"steps_ratio{from_end}", np.nan))
        with np.errstate(divide="ignore"):
            found |= {f"fewer_steps_percent{end}": 100 * (1 - ratio), f"faster_by_percent{end}": 100 * (1 / ratio - 1)}
    if early:
        notes.append(f"{n} pair{'s' * (n > 1)}, and the first look is at {looks[0]}: no interval yet")
    elif too_few := few(n, "pairs", confidence):
        notes += too_few
    else:
        for cost, prefix in JUDGED.items():
            ends = found[f"{cost}_ratio_low"], found[f"{cost}_ratio_high"]
            found[f"{prefix}outcome"] = outcome(*ends, settings.margin, cost)
    if found["steps_ratio"] < 1 <= found["flops_ratio"]:
        notes.append(f"fewer steps but not less work: {found['flops_ratio']:.2f} times the FLOPs")
    return {**found, "note": "; ".join(notes)}


def _at_looks(
    baseline: pd.DataFrame, arm: pd.DataFrame, cost: str, looks: list[int], confidence: float
) -> tuple[Typical, bool]:
    """The typical ratio of a cost by the looks (pairs of each, ascending), and whether their intervals meet.

    The ends are those that all intervals have in common, which each look has set at its own level.
    """
    (before, before_all), (after, after_all) = (
        (table[cost].to_numpy(float), table[f"{cost}_budget"].to_numpy(float)) for table in (baseline, arm)
    )
    found = [
        typical_ratio(before[:look], after[:look], (before_all[:look], after_all[:look]), confidence) for look in looks
    ]
    low, high = max(one.low for one in found), min(one.high for one in found)
    if low > high:
        return found[-1], False
    value = min(max(found[-1].value, low), high)
    return Typical(value, low, high, min(one.p_value for one in found)), True


def _corrected(effects: pd.DataFrame, level: float) -> pd.DataFrame:
    """`effects` with `q_value`; what does not survive it is no discovery, though it may be settled to be small."""
    from scipy import stats

    for cost, prefix in JUDGED.items():
        p_values, q = effects[f"{prefix}p_value"], pd.Series(np.nan, effects.index)
        tested = effects[(effects["role"] == SECONDARY) & p_values.notna()]
        for _, group in tested.groupby("task", sort=False):
            q[group.index] = stats.false_discovery_control(p_values[group.index].to_numpy(float))
        effects[f"{prefix}q_value"] = q
        for at, row in effects[q > level].iterrows():
            # As if the interval reached 1. A pair of bounds on both sides of 1 needs no correction.
            low, high = row[f"{cost}_ratio_low"], row[f"{cost}_ratio_high"]
            effects.loc[at, f"{prefix}outcome"] = outcome(min(low, 1.0), max(high, 1.0), row["margin"], cost)
    return effects[PAIRED_EFFECT.names]
