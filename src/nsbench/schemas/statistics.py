"""Schemas of the tables on times to target: cells, paired effects, power, survival."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import CELL, TIME_TO_TARGET, field

N_STOPPED = field("n_stopped", pa.int64(), "1", "runs or pairs left out because a run was stopped early")
"""Which runs stop depends on their outcome: where this is not 0, what is left is selected by it and settles nothing."""
CONFIDENCE = field("confidence", pa.float64(), "1", "confidence of the intervals")
BASELINE = field("baseline", pa.string(), "name", "the arm compared with")


def estimate_fields(name: str, unit: str, meaning: str, unless: str = "undefined") -> list[pa.Field]:
    """Three fields of a schema: an estimate and the two ends of its interval, NaN where undefined."""
    return [
        field(name, pa.float64(), unit, f"{meaning}; NaN if {unless}", True),
        field(f"{name}_low", pa.float64(), unit, "lower end of the interval; NaN if there is none", True),
        field(f"{name}_high", pa.float64(), unit, "upper end of the interval; NaN if there is none", True),
    ]


def _ratio(name: str, unit: str, meaning: str) -> list[pa.Field]:
    return estimate_fields(name, unit, meaning, "no run reached")


COPIED = ["arm_kind", "rho", "gamma", "orientation", "metric", "threshold", "hold_evaluations", "hold_steps"]
COPIED += ["budget_steps", "text"]
"""Columns of `schemas.training.TIME_TO_TARGET` that are the same for all runs of a cell."""


PAIRED_EFFECT = pa.schema(
    [
        *CELL,
        BASELINE,
        *(TIME_TO_TARGET.field(name) for name in COPIED),
        field("n_pairs", pa.int64(), "pairs", "seeds that both arms have"),
        field("n_both_reached", pa.int64(), "pairs", "pairs in which both runs reached the target"),
        field("n_baseline_reached", pa.int64(), "pairs", "pairs in which the baseline reached it"),
        field("n_arm_reached", pa.int64(), "pairs", "pairs in which the arm reached it"),
        field("n_baseline_sooner", pa.int64(), "pairs", "pairs in which the baseline reached it in fewer steps"),
        field("n_arm_sooner", pa.int64(), "pairs", "pairs in which the arm reached it in fewer steps"),
        *_ratio("steps_ratio", "1", "restricted mean steps, arm / baseline"),
        *_ratio("fewer_steps_percent", "%", "100 (1 - steps_ratio)"),
        *_ratio("faster_by_percent", "%", "100 (1 / steps_ratio - 1)"),
        *_ratio("flops_ratio", "1", "restricted mean FLOPs, arm / baseline"),
        *_ratio("seconds_ratio", "1", "restricted mean seconds, arm / baseline"),
        CONFIDENCE,
        field("p_value", pa.float64(), "1", "paired permutation test of steps_ratio = 1, two-sided; NaN if none", True),
        field("p_holm", pa.float64(), "1", "p_value with Holm's correction over the family; NaN if none", True),
        field("p_logrank", pa.float64(), "1", "logrank test of arm against baseline, unpaired; NaN if none", True),
        field("family", pa.string(), "name", "the comparisons that p_holm corrects for; empty if not tested"),
        field("n_family", pa.int64(), "1", "comparisons of the family that have a p_value"),
        field("note", pa.string(), "text", "what to know before reading the ratios"),
    ]
)


POWER = pa.schema(
    [
        *CELL,
        BASELINE,
        TIME_TO_TARGET.field("text"),
        field("effect_percent", pa.float64(), "%", "effect asked about: fewer steps, 100 (1 - arm / baseline)"),
        field("n_pairs", pa.int64(), "pairs", "seeds that both arms have"),
        *estimate_fields("spread", "1", "sd over pairs of log(arm / baseline) of restricted steps; chi-square"),
        *estimate_fields("n_seeds", "pairs", "fewest pairs with power_wanted; ends: of the spread", "unknown"),
        field("power_now", pa.float64(), "1", "power with n_pairs pairs; NaN if unknown", True),
        field("power_wanted", pa.float64(), "1", "power that n_seeds has at least"),
        field("censored_share", pa.float64(), "1", "share of the pairs' runs that did not reach the target"),
        field(
            "confidence", pa.float64(), "1", "1 - alpha of the two-sided test, and confidence of the spread's interval"
        ),
        field("note", pa.string(), "text", "what to know before reading the numbers"),
    ]
)


KAPLAN_MEIER = pa.schema(
    [
        *CELL,
        TIME_TO_TARGET.field("text"),
        field("step", pa.float64(), "optimiser steps", "0, a time at which runs reached the target, or the budget"),
        field("not_reached", pa.float64(), "1", "share of runs that have not reached the target by then"),
        field("low", pa.float64(), "1", "lower end of its log-log interval; NaN where the share is 0 or 1", True),
        field("high", pa.float64(), "1", "upper end of its log-log interval; NaN where the share is 0 or 1", True),
        field("at_risk", pa.int64(), "runs", "runs that have not reached the target before"),
        field("events", pa.int64(), "runs", "runs that reach it at this step"),
        field("censored", pa.int64(), "runs", "runs that have not reached it by the budget, in the budget's row"),
        field("confidence", pa.float64(), "1", "confidence of the intervals, each step by itself"),
        field("note", pa.string(), "text", "what to know before reading the cell's curve"),
    ]
)


CELL_SUMMARY = pa.schema(
    [
        *CELL,
        *(TIME_TO_TARGET.field(name) for name in COPIED),
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
