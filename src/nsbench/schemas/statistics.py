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
    return estimate_fields(name, unit, meaning, "beyond the budget or no run reached")


COPIED = ["arm_kind", "rho", "gamma", "orientation", "metric", "threshold", "hold_evaluations", "hold_steps"]
COPIED += ["budget_steps", "text"]
"""Columns of `schemas.training.TIME_TO_TARGET` that are the same for all runs of a cell."""

PAIRED_EFFECT = pa.schema(
    [
        *CELL,
        BASELINE,
        *(TIME_TO_TARGET.field(name) for name in COPIED),
        label("role", "primary (decides about its task), secondary, curve (pooled, not judged alone) or chosen"),
        count("n_pairs", "pairs", "pairs judged: of role primary and secondary those of the last look"),
        count("n_waiting", "pairs", "further pairs, which wait for the next look"),
        count("next_look", "pairs", "pairs of the next look; 0: there is none"),
        count("n_both_reached", "pairs", "pairs in which both runs reached the target"),
        count("n_baseline_reached", "pairs", "pairs in which the baseline reached it"),
        count("n_arm_reached", "pairs", "pairs in which the arm reached it"),
        count("n_baseline_sooner", "pairs", "pairs in which the baseline reached it in fewer steps"),
        count("n_arm_sooner", "pairs", "pairs in which the arm reached it in fewer steps"),
        *_ratio("steps_ratio", "1", "typical ratio of steps to target, arm / baseline"),
        *_ratio("fewer_steps_percent", "%", "100 (1 - steps_ratio)"),
        *_ratio("faster_by_percent", "%", "100 (1 / steps_ratio - 1)"),
        *_ratio("flops_ratio", "1", "typical ratio of FLOPs to target, arm / baseline"),
        *_ratio("seconds_ratio", "1", "typical ratio of seconds to target, arm / baseline"),
        number("restricted_mean_ratio", "1", "of mean steps within the budget; NaN if none", nullable=True),
        CONFIDENCE,
        number("p_value", "1", "signed-rank test of steps_ratio = 1, two-sided; NaN if none", nullable=True),
        number("q_value", "1", "p_value of a secondary one, for false discoveries; NaN if none", nullable=True),
        number("margin", "1", "largest effect that counts as none, as a share"),
        label("outcome", "what is settled of the steps: fewer, more, no effect larger than the margin, or open"),
        label("flops_outcome", "the same of the FLOPs: less or more work"),
        label("note", "what to know before reading the ratios", "text"),
    ]
)

POWER = pa.schema(
    [
        *CELL,
        BASELINE,
        TIME_TO_TARGET.field("text"),
        number("effect_percent", "%", "effect asked about: fewer steps, 100 (1 - arm / baseline)"),
        count("look", "pairs", "pairs of the look by which the effect is to be settled"),
        *estimate_fields("power", "1", "chance that fewer steps are settled by then; ends: of the spread", "unknown"),
        count("n_pairs", "pairs", "seeds that both arms have"),
        *estimate_fields("spread", "1", "sd over pairs of log(arm / baseline) of restricted steps; chi-square"),
        number("censored_share", "1", "share of the pairs' runs that did not reach the target"),
        number("confidence", "1", "confidence of the spread's interval"),
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
        count("n_lost", "runs", "runs that reached the target and missed it again in a later evaluation"),
        count("most_lost", "evaluations", "most evaluations that one of them missed it in"),
        number("reached_share_low", "1", "lower end of Wilson's interval for the share that reaches"),
        number("reached_share_high", "1", "upper end of Wilson's interval for the share that reaches"),
        number("confidence", "1", "confidence of that interval"),
        number("median_step", "optimiser steps", "median time to target; NaN if censored", nullable=True),
        number("q25_step", "optimiser steps", "lower quartile; NaN if censored", nullable=True),
        number("q75_step", "optimiser steps", "upper quartile; NaN if censored", nullable=True),
        number("restricted_mean_steps", "optimiser steps", "mean of min(time to target, budget)"),
        number("min_step", "optimiser steps", "earliest time reached; NaN if none", nullable=True),
        number("max_step", "optimiser steps", "latest time reached; NaN if none", nullable=True),
        number(
            "median_gap_steps",
            "optimiser steps",
            "median of time to target less train_step; NaN if undefined",
            nullable=True,
        ),
        number("median_flops", "FLOP", "median cost to target; NaN if censored", nullable=True),
        number("median_seconds", "s", "median seconds to target; NaN if censored", nullable=True),
    ]
)
