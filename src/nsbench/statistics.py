"""Time to target, its censoring, and effects paired by seed: pure functions of DataFrames.

The grid is handed in as `cells`, a list of plain dicts with `task`, `variant`, `arm`,
`arm_settings`, `seeds`, `target` and `budget_steps`: denominators come from it, never from the
files found. A run that does not hold the target within its budget, or that diverges, is censored
at the budget: medians count it as later than every reached time, means count it at the budget.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from nsbench.records import CELL, TIME_TO_TARGET, RecordError, field

CELL_KEYS = ["task", "variant", "arm"]
RUN_KEYS = [*CELL_KEYS, "seed"]
COSTS = ("steps", "flops", "seconds")

_COPIED = ["arm_kind", "rho", "gamma", "orientation", "metric", "threshold", "hold_evaluations", "budget_steps", "text"]

CELL_SUMMARY = pa.schema(
    [
        *CELL,
        *(TIME_TO_TARGET.field(name) for name in _COPIED),
        field("n_seeds", pa.int64(), "runs", "runs of the cell in the grid"),
        field("n_reached", pa.int64(), "runs", "runs that reached and held the target"),
        field("n_diverged", pa.int64(), "runs", "runs that diverged; they count as not reached"),
        field("reached_share_low", pa.float64(), "1", "lower end of Wilson's interval for the share that reaches"),
        field("reached_share_high", pa.float64(), "1", "upper end of Wilson's interval for the share that reaches"),
        field("confidence", pa.float64(), "1", "confidence of that interval"),
        field("median_step", pa.float64(), "optimiser steps", "median time to target; NaN if censored", True),
        field("q25_step", pa.float64(), "optimiser steps", "lower quartile; NaN if censored", True),
        field("q75_step", pa.float64(), "optimiser steps", "upper quartile; NaN if censored", True),
        field("restricted_mean_steps", pa.float64(), "optimiser steps", "mean of min(time to target, budget)"),
        field("min_step", pa.float64(), "optimiser steps", "earliest time reached; NaN if none", True),
        field("max_step", pa.float64(), "optimiser steps", "latest time reached; NaN if none", True),
        field("median_flops", pa.float64(), "FLOP", "median cost to target; NaN if censored", True),
        field("median_seconds", pa.float64(), "s", "median seconds to target; NaN if censored", True),
    ]
)


def _interval(name: str, unit: str, meaning: str) -> list[pa.Field]:
    """Three fields: an estimate and the two ends of its interval."""
    return [
        field(name, pa.float64(), unit, f"{meaning}; NaN if no run reached", True),
        field(f"{name}_low", pa.float64(), unit, "lower end of the interval; NaN if there is none", True),
        field(f"{name}_high", pa.float64(), unit, "upper end of the interval; NaN if there is none", True),
    ]


PAIRED_EFFECT = pa.schema(
    [
        *CELL,
        field("baseline", pa.string(), "name", "the arm compared with"),
        *(TIME_TO_TARGET.field(name) for name in _COPIED),
        field("n_pairs", pa.int64(), "pairs", "seeds that both arms have"),
        field("n_both_reached", pa.int64(), "pairs", "pairs in which both runs reached the target"),
        field("n_baseline_reached", pa.int64(), "pairs", "pairs in which the baseline reached it"),
        field("n_arm_reached", pa.int64(), "pairs", "pairs in which the arm reached it"),
        field("n_baseline_sooner", pa.int64(), "pairs", "pairs in which the baseline reached it in fewer steps"),
        field("n_arm_sooner", pa.int64(), "pairs", "pairs in which the arm reached it in fewer steps"),
        *_interval("steps_ratio", "1", "restricted mean steps, arm / baseline"),
        *_interval("fewer_steps_percent", "%", "100 (1 - steps_ratio)"),
        *_interval("faster_by_percent", "%", "100 (1 / steps_ratio - 1)"),
        *_interval("flops_ratio", "1", "restricted mean FLOPs, arm / baseline"),
        *_interval("seconds_ratio", "1", "restricted mean seconds, arm / baseline"),
        field("confidence", pa.float64(), "1", "confidence of the intervals"),
        field("note", pa.string(), "text", "what to know before reading the ratios"),
    ]
)


def run_name(task: str, variant: str, arm: str, seed: int) -> str:
    """How a run is called in messages."""
    return f"{task} / {variant} / {arm} / seed {seed}"


def grid_runs(cells: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, int]]:
    """The (task, variant, arm, seed) of every run, in grid order."""
    for cell in cells:
        for seed in cell["seeds"]:
            yield cell["task"], cell["variant"], cell["arm"], seed


def first_held(values: np.ndarray, target: dict[str, Any]) -> int | None:
    """Index of the first evaluation that reaches the target and holds it, or None.

    `values` (evaluations,) of the target's metric: accuracy must be >= the threshold, loss <= it;
    NaN never reaches. The value itself and the `hold_evaluations - 1` after it must all reach, so
    a stretch that the end of the run cuts short is not held.
    """
    threshold, hold = target["threshold"], target["hold_evaluations"]
    reaches = values <= threshold if target["metric"].startswith("val_loss") else values >= threshold
    if len(reaches) < hold:
        return None
    held = np.lib.stride_tricks.sliding_window_view(reaches, hold).all(axis=1)
    return int(held.argmax()) if held.any() else None


def time_to_target(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """First evaluated step that reaches and holds the target, for every run of the grid.

    Takes `records.HISTORY` and `records.RUNS` and returns the columns of `records.TIME_TO_TARGET`
    in grid order; rows of runs outside the grid, and evaluations past the budget, are ignored.
    Raises RecordError naming a run of the grid that has no history or no single row in `runs`.
    """
    histories = dict(iter(history.groupby(RUN_KEYS, sort=False)))
    status = runs.groupby(RUN_KEYS, sort=False)["status"].agg(list).to_dict()
    texts = dict(zip(runs[RUN_KEYS].itertuples(index=False, name=None), runs["text"], strict=True))
    rows = []
    for cell in cells:
        target, arm = cell["target"], cell["arm_settings"]
        for key in grid_runs([cell]):
            if key not in histories or len(status.get(key, [])) != 1:
                what = "history" if key not in histories else f"single row in runs ({len(status.get(key, []))} found)"
                raise RecordError(f"{run_name(*key)}: this run of the grid has no {what}; train and collect it again")
            trail = histories[key].sort_values("step")
            trail = trail[trail["step"] <= cell["budget_steps"]]
            (state,) = status[key]
            found = None if state == "diverged" else first_held(trail[target["metric"]].to_numpy(), target)
            cost = dict.fromkeys(("step", "flops", "seconds"), np.nan)
            if found is not None:
                cost = trail.iloc[found][list(cost)].astype(float).to_dict()
            rows.append(
                {
                    **dict(zip(RUN_KEYS, key, strict=True)),
                    "arm_kind": arm["kind"],
                    **{name: float(arm.get(name, np.nan)) for name in ("rho", "gamma", "orientation")},
                    **target,
                    "threshold": float(target["threshold"]),
                    "budget_steps": cell["budget_steps"],
                    "status": state,
                    "reached": found is not None,
                    **cost,
                    "text": texts[key],
                }
            )
    return pd.DataFrame(rows, columns=TIME_TO_TARGET.names)


def quantile(times: pd.Series, q: float) -> float:
    """The q-quantile of times with NaN counted as +inf; NaN where it is not finite.

    An even number of times has a median only if both middle ones were reached.
    """
    values = times.fillna(np.inf).to_numpy(dtype=float)
    if np.isinf(np.quantile(values, q, method="higher")):
        return np.nan
    return float(np.quantile(np.minimum(values, values[np.isfinite(values)].max()), q))


def summarise_cells(times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """One row per cell, in the order of `times` (`records.TIME_TO_TARGET`): columns of CELL_SUMMARY.

    Medians and quartiles are over all seeds, censored ones counting as later than any reached
    time; restricted means count them at the budget (optimiser steps, FLOP, seconds).
    """
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    rows = []
    for key, group in times.groupby(CELL_KEYS, sort=False):
        n_reached = int(group["reached"].sum())
        share = stats.binomtest(n_reached, len(group)).proportion_ci(confidence, method="wilson")
        rows.append(
            {
                **dict(zip(CELL_KEYS, key, strict=True)),
                **group.iloc[0][_COPIED].to_dict(),
                "n_seeds": len(group),
                "n_reached": n_reached,
                "n_diverged": int((group["status"] == "diverged").sum()),
                "reached_share_low": float(share.low),
                "reached_share_high": float(share.high),
                "confidence": confidence,
                "median_step": quantile(group["step"], 0.5),
                "q25_step": quantile(group["step"], 0.25),
                "q75_step": quantile(group["step"], 0.75),
                "restricted_mean_steps": float(group["step"].fillna(group["budget_steps"]).mean()),
                "min_step": group["step"].min(),
                "max_step": group["step"].max(),
                "median_flops": quantile(group["flops"], 0.5),
                "median_seconds": quantile(group["seconds"], 0.5),
            }
        )
    return pd.DataFrame(rows, columns=CELL_SUMMARY.names)


def coverage_of_range(n_pairs: int) -> float:
    """Probability that the range of `n_pairs` independent values covers their median: 1 - 2^(1 - n).

    No interval from resampling pairs is wider than their range, so below a confidence asked for,
    here with fewer than six pairs for 95%, that confidence cannot be had.
    """
    return 1 - 2.0 ** (1 - n_pairs)


def paired_effects(
    times: pd.DataFrame, runs: pd.DataFrame, confidence: float, n_resamples: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Each arm against its variant's baseline, paired by seed: columns of PAIRED_EFFECT.

    The effect is a ratio of restricted means, arm / baseline, in steps, FLOPs and seconds;
    `runs` (`records.RUNS`) gives a censored run's FLOPs and seconds, scaled linearly from the steps
    it did to the budget. Intervals are percentile intervals of a bootstrap of the pairs: unlike
    BCa it is defined with ties and censoring, and it carries over exactly to both conventions.
    Every comparison and cost starts from the same state of the generator, so that more cells in
    the grid change no interval.

    Raises RecordError for a variant without an arm of kind baseline.
    """
    entropy = int(generator.integers(2**63))
    rows = []
    for (task, variant), group in _restricted(times, runs).groupby(["task", "variant"], sort=False):
        is_baseline = group["arm_kind"] == "baseline"
        if not is_baseline.any():
            raise RecordError(f"{task} / {variant}: no arm of kind baseline to pair with; add one to the grid")
        baseline = group.loc[is_baseline, "arm"].iloc[0]
        reference = group[group["arm"] == baseline].set_index("seed")
        for arm, treated in group[~is_baseline].groupby("arm", sort=False):
            effect = _effect(reference, treated.set_index("seed"), confidence, n_resamples, entropy)
            names = {"task": task, "variant": variant, "arm": arm, "baseline": baseline}
            rows.append({**names, **treated.iloc[0][_COPIED].to_dict(), **effect, "confidence": confidence})
    return pd.DataFrame(rows, columns=PAIRED_EFFECT.names)


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
    baseline: pd.DataFrame, arm: pd.DataFrame, confidence: float, n_resamples: int, entropy: int
) -> dict[str, Any]:
    """The comparison of two arms, both indexed by seed."""
    seeds = baseline.index.intersection(arm.index)
    baseline, arm = baseline.loc[seeds], arm.loc[seeds]
    n, n_baseline, n_arm = len(seeds), int(baseline["reached"].sum()), int(arm["reached"].sum())
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
        column = f"restricted_{cost}"
        ratio, low, high, problem = _ratio(
            baseline[column].to_numpy(), arm[column].to_numpy(), confidence, n_resamples, np.random.default_rng(entropy)
        )
        found |= {f"{cost}_ratio": ratio, f"{cost}_ratio_low": low, f"{cost}_ratio_high": high}
        if problem and cost == "steps":
            notes.append(problem)
    widest = coverage_of_range(n)
    if np.isfinite(found["steps_ratio_low"]) and widest < confidence:
        notes.append(f"only {n} pairs: even their full range has {widest:.0%} coverage, not {confidence:.0%}")
    for end, from_end in (("", ""), ("_low", "_high"), ("_high", "_low")):
        ratio = np.float64(found[f"steps_ratio{from_end}"])
        with np.errstate(divide="ignore"):
            found |= {f"fewer_steps_percent{end}": 100 * (1 - ratio), f"faster_by_percent{end}": 100 * (1 / ratio - 1)}
    return {**found, "note": "; ".join(notes)}


def _ratio(
    baseline: np.ndarray, arm: np.ndarray, confidence: float, n_resamples: int, generator: np.random.Generator
) -> tuple[float, float, float, str]:
    """mean(arm) / mean(baseline) of (pairs,), its interval, and why there is none, if there is none."""
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return y.mean(axis=axis) / x.mean(axis=axis)

    nan = float("nan")
    if not baseline.mean() > 0:
        return nan, nan, nan, "the baseline's mean is 0 or unknown: no ratio"
    ratio = float(statistic(baseline, arm))
    if len(baseline) == 1 or not np.isfinite(ratio):
        return ratio, nan, nan, "one pair: no interval"
    # A resample's baseline mean, or both means, may be 0; the check below sees it.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        low, high = stats.bootstrap(
            (baseline, arm),
            statistic,
            paired=True,
            vectorized=True,
            method="percentile",
            confidence_level=confidence,
            n_resamples=n_resamples,
            rng=generator,
        ).confidence_interval
    if not (np.isfinite(low) and np.isfinite(high)):
        return ratio, nan, nan, "resamples with a baseline mean of 0: no interval"
    if np.isclose(low, high, rtol=1e-12):
        return ratio, nan, nan, "all resamples agree: no interval"
    return ratio, float(low), float(high), ""
