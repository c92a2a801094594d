"""Effects of arms on time to target, paired by seed: ratios, intervals and tests; pure functions of DataFrames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.intervals import percentile_interval
from nsbench.analysis.statistics.pvalues import holm, permutation_p, smallest_p
from nsbench.analysis.statistics.survival import logrank_p
from nsbench.analysis.statistics.times import RUN_KEYS
from nsbench.config.settled import few
from nsbench.schemas.statistics import COPIED, PAIRED_EFFECT
from nsbench.storage.parquet import RecordError

COSTS = ("steps", "flops", "seconds")


def paired_effects(
    times: pd.DataFrame,
    runs: pd.DataFrame,
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
    cells: list[dict[str, Any]] | None = None,
) -> pd.DataFrame:
    """Each arm against its variant's baseline, paired by seed: columns of PAIRED_EFFECT.

    The effect is a ratio of restricted means, arm / baseline, in steps, FLOPs and seconds;
    `runs` (`schemas.training.RUNS`) gives a censored run's FLOPs and seconds, scaled linearly from the steps
    it did to the budget. Intervals are expanded percentile intervals of a bootstrap of the pairs: unlike
    BCa it is defined with ties and censoring, and it carries over exactly to both conventions.
    Every comparison and cost starts from the same state of the generator, so that more cells in
    the grid change no ratio, interval or p_value.

    Tests are made only where the grid is given as `cells`, which says what the families are
    (`with_families`): without it p-values are NaN and families empty, as they must be for an arm
    that was chosen by its result.

    Raises RecordError for a variant without an arm of kind baseline.
    """
    entropy = int(generator.integers(2**63))
    rows = []
    for names, baseline, arm in pairs(_restricted(times, runs)):
        effect = _effect(baseline, arm, cells is not None, confidence, n_resamples, entropy)
        rows.append({**names, **effect, "confidence": confidence})
    effects = pd.DataFrame(rows, columns=PAIRED_EFFECT.names)
    return effects.assign(family="", n_family=0) if cells is None else with_families(effects, cells)


def with_families(effects: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """`effects` with `family`, `n_family` and `p_holm` made anew from `p_value`.

    All comparisons of one task are a family, except those of cells that are in the grid only for a
    specification curve (`curve_only`): each curve's are a family of their own. A comparison without
    a p-value (NaN) is not counted and gets none.
    """
    curves = {(cell["task"], cell["variant"]): cell["curve"] for cell in cells if cell.get("curve_only", False)}
    names = [
        f"{task} / curve {curves[task, variant]}" if (task, variant) in curves else task
        for task, variant in zip(effects["task"], effects["variant"], strict=True)
    ]
    effects = effects.assign(family=pd.Series(names, index=effects.index, dtype=object), p_holm=np.nan, n_family=0)
    for _, p in effects.groupby("family", sort=False)["p_value"]:
        effects.loc[p.index, "p_holm"] = holm(p.to_numpy(float))
        effects.loc[p.index, "n_family"] = int(p.notna().sum())
    return effects[PAIRED_EFFECT.names]


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
            seeds = reference.index.intersection(treated.index)
            names = {"task": task, "variant": variant, "arm": arm, "baseline": baseline}
            yield names | treated.iloc[0][COPIED].to_dict(), reference.loc[seeds], treated.loc[seeds]


def _restricted(times: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """`times` with `restricted_<cost>`: the cost to target, or at the budget where censored."""
    done = times[RUN_KEYS].merge(runs[[*RUN_KEYS, "steps", "flops", "seconds"]], on=RUN_KEYS, how="left")
    done.index = times.index
    scale = times["budget_steps"] / done["steps"].where(done["steps"] > 0)
    return times.assign(
        restricted_steps=times["step"].fillna(times["budget_steps"]).astype(float),
        restricted_flops=times["flops"].fillna(done["flops"] * scale),
        restricted_seconds=times["seconds"].fillna(done["seconds"] * scale),
    )


def _effect(
    baseline: pd.DataFrame, arm: pd.DataFrame, tested: bool, confidence: float, n_resamples: int, entropy: int
) -> dict[str, Any]:
    """The comparison of two arms over pairs, both indexed by seed; tested: with its p-values."""
    n, n_baseline, n_arm = len(arm), int(baseline["reached"].sum()), int(arm["reached"].sum())
    when_baseline, when_arm = baseline["step"].fillna(np.inf), arm["step"].fillna(np.inf)
    found: dict[str, Any] = {
        "n_pairs": n,
        "n_both_reached": int((baseline["reached"] & arm["reached"]).sum()),
        "n_baseline_reached": n_baseline,
        "n_arm_reached": n_arm,
        "n_baseline_sooner": int((when_baseline < when_arm).sum()),
        "n_arm_sooner": int((when_arm < when_baseline).sum()),
    }
    if n == 0 or n_baseline + n_arm == 0:
        return {**found, "note": "no run reached the target" if n else "no seed in common"}
    notes = []
    censored = 2 * n - n_baseline - n_arm
    if censored:
        budget = f"{baseline['budget_steps'].iloc[0]:,}"
        who = f"baseline {n - n_baseline}, arm {n - n_arm}"
        notes.append(f"{censored} of {2 * n} runs censored ({who}): ratio of restricted means, at most {budget} steps")
    for cost in COSTS:
        values = (table[f"restricted_{cost}"].to_numpy() for table in (baseline, arm))
        ratio, low, high, problem = ratio_of_means(*values, confidence, n_resamples, np.random.default_rng(entropy))
        found |= {f"{cost}_ratio": ratio, f"{cost}_ratio_low": low, f"{cost}_ratio_high": high}
        if problem and cost == "steps":
            notes.append(problem)
    if found["steps_ratio"] < 1 <= found["flops_ratio"]:
        notes.append(f"fewer steps but not less work: {found['flops_ratio']:.2f} times the FLOPs")
    if np.isfinite(found["steps_ratio_low"]):
        notes += few(n, "pairs", confidence)
    for end, from_end in (("", ""), ("_low", "_high"), ("_high", "_low")):
        ratio = np.float64(found[f"steps_ratio{from_end}"])
        with np.errstate(divide="ignore"):
            found |= {f"fewer_steps_percent{end}": 100 * (1 - ratio), f"faster_by_percent{end}": 100 * (1 / ratio - 1)}
    if tested and n == 1:
        notes.append("one pair: no p-value")
    elif tested:
        steps = [table["restricted_steps"].to_numpy() for table in (baseline, arm)]
        found["p_value"] = permutation_p(*steps, n_resamples, np.random.default_rng(entropy))
        found["p_logrank"] = logrank_p(baseline["step"], arm["step"], baseline["budget_steps"].iloc[0])
        n_differ = int((steps[0] != steps[1]).sum())
        if smallest_p(n_differ) > 1 - confidence:
            of_these = "" if n_differ == n else f", {n_differ} of which differ,"
            notes.append(f"{n} pairs{of_these} can give no p-value below {smallest_p(n_differ):.3g}")
        if np.isnan(found["p_logrank"]):
            notes.append("all runs reached the target at one step: no logrank test")
    return {**found, "note": "; ".join(notes)}


def ratio_of_means(
    baseline: np.ndarray, arm: np.ndarray, confidence: float, n_resamples: int, generator: np.random.Generator
) -> tuple[float, float, float, str]:
    """mean(arm) / mean(baseline) of (pairs,), its interval, and why there is none, if there is none.

    The interval is `intervals.percentile_interval` over the pairs; docs/scoring.md has how often it
    covers, as measured.
    """

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return y.mean(axis=axis) / x.mean(axis=axis)

    nan = float("nan")
    if not baseline.mean() > 0:
        return nan, nan, nan, "the baseline's mean is 0 or unknown: no ratio"
    ratio = float(statistic(baseline, arm))
    if len(baseline) == 1 or not np.isfinite(ratio):
        return ratio, nan, nan, "one pair: no interval"
    # Where a resample's baseline mean is 0, or both means, there is no interval.
    low, high = percentile_interval((baseline, arm), statistic, confidence, n_resamples, generator)
    if not (np.isfinite(low) and np.isfinite(high)):
        return ratio, nan, nan, "resamples with a baseline mean of 0: no interval"
    if np.isclose(low, high, rtol=1e-12):
        return ratio, nan, nan, "all resamples agree: no interval"
    return ratio, low, high, ""
