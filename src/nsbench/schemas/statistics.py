"""Schemas of the tables on times to target: cells, paired effects, power, survival."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import CELL, TIME_TO_TARGET, count, label, number

N_STOPPED = count("n_stopped", "1", "runs or pairs left out because a run was stopped early")
"""Which runs stop depends on their outcome: where this is not 0, what is left is selected by it and settles nothing."""
CONFIDENCE = number("confidence", "1", "confidence of the intervals")
BASELINE = label("baseline", "the arm compared with")


def estimate_fields(name: str, unit: str, meaning: str, unless: str = "undefined") -> list[pa.Field]:
    """Three fields of a schema: an estimate and the two ends of its interval, NaN where undefined."""
    return [
        number(name, unit, f"{meaning}; NaN if {unless}", nullable=True),
        number(f"{name}_low", unit, "lower end of the interval; NaN if there is none", nullable=True),
        number(f"{name}_high", unit, "upper end of the interval; NaN if there is none", nullable=True),
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
        count("n_pairs", "pairs", "seeds that both arms have"),
        count("n_both_reached", "pairs", "pairs in which both runs reached the target"),
        count("n_baseline_reached", "pairs", "pairs in which the baseline reached it"),
        count("n_arm_reached", "pairs", "pairs in which the arm reached it"),
        count("n_baseline_sooner", "pairs", "pairs in which the baseline reached it in fewer steps"),
        count("n_arm_sooner", "pairs", "pairs in which the arm reached it in fewer steps"),
        *_ratio("steps_ratio", "1", "restricted mean steps, arm / baseline"),
        *_ratio("fewer_steps_percent", "%", "100 (1 - steps_ratio)"),
        *_ratio("faster_by_percent", "%", "100 (1 / steps_ratio - 1)"),
        *_ratio("flops_ratio", "1", "restricted mean FLOPs, arm / baseline"),
        *_ratio("seconds_ratio", "1", "restricted mean seconds, arm / baseline"),
        CONFIDENCE,
        number("p_value", "1", "paired permutation test of steps_ratio = 1, two-sided; NaN if none", nullable=True),
        number("p_holm", "1", "p_value with Holm's correction over the family; NaN if none", nullable=True),
        number("p_logrank", "1", "logrank test of arm against baseline, unpaired; NaN if none", nullable=True),
        label("family", "the comparisons that p_holm corrects for; empty if not tested"),
        count("n_family", "1", "comparisons of the family that have a p_value"),
        label("note", "what to know before reading the ratios", "text"),
    ]
)

POWER = pa.schema(
    [
        *CELL,
        BASELINE,
        TIME_TO_TARGET.field("text"),
        number("effect_percent", "%", "effect asked about: fewer steps, 100 (1 - arm / baseline)"),
        count("n_pairs", "pairs", "seeds that both arms have"),
        *estimate_fields("spread", "1", "sd over pairs of log(arm / baseline) of restricted steps; chi-square"),
        *estimate_fields("n_seeds", "pairs", "fewest pairs with power_wanted; ends: of the spread", "unknown"),
        number("power_now", "1", "power with n_pairs pairs; NaN if unknown", nullable=True),
        number("power_wanted", "1", "power that n_seeds has at least"),
        number("censored_share", "1", "share of the pairs' runs that did not reach the target"),
        number("confidence", "1", "1 - alpha of the two-sided test, and confidence of the spread's interval"),
        label("note", "what to know before reading the numbers", "text"),
    ]
)

KAPLAN_MEIER = pa.schema(
    [
        *CELL,
        TIME_TO_TARGET.field("text"),
        number("step", "optimiser steps", "0, a time at which runs reached the target, or the budget"),
        number("not_reached", "1", "share of runs that have not reached the target by then"),
        number("low", "1", "lower end of Wilson's interval for that share; NaN of one run", nullable=True),
        number("high", "1", "upper end of Wilson's interval for that share; NaN of one run", nullable=True),
        count("at_risk", "runs", "runs that have not reached the target before"),
        count("events", "runs", "runs that reach it at this step"),
        count("censored", "runs", "runs that have not reached it by the budget, in the budget's row"),
        number("confidence", "1", "confidence of the intervals, each step by itself"),
        label("note", "what to know before reading the cell's curve", "text"),
    ]
)

CELL_SUMMARY = pa.schema(
    [
        *CELL,
        *(TIME_TO_TARGET.field(name) for name in COPIED),
        count("n_seeds", "runs", "runs of the cell in the grid"),
        count("n_reached", "runs", "runs that reached and held the target"),
        count("n_diverged", "runs", "runs that diverged; they count as not reached"),
        number("reached_share_low", "1", "lower end of Wilson's interval for the share that reaches"),
        number("reached_share_high", "1", "upper end of Wilson's interval for the share that reaches"),
        number("confidence", "1", "confidence of that interval"),
        number("median_step", "optimiser steps", "median time to target; NaN if censored", nullable=True),
        number("q25_step", "optimiser steps", "lower quartile; NaN if censored", nullable=True),
        number("q75_step", "optimiser steps", "upper quartile; NaN if censored", nullable=True),
        number("restricted_mean_steps", "optimiser steps", "mean of min(time to target, budget)"),
        number("min_step", "optimiser steps", "earliest time reached; NaN if none", nullable=True),
        number("max_step", "optimiser steps", "latest time reached; NaN if none", nullable=True),
        number("median_flops", "FLOP", "median cost to target; NaN if censored", nullable=True),
        number("median_seconds", "s", "median seconds to target; NaN if censored", nullable=True),
    ]
)
