"""Schemas of the tables on scores, selection, onsets and specification curves, and all that `analyse` makes."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.matched import MATCHED_EFFECT, MATCHED_MEASURE, RANK_AGREEMENT
from nsbench.schemas.statistics import (
    BASELINE,
    CELL_SUMMARY,
    CONFIDENCE,
    KAPLAN_MEIER,
    N_STOPPED,
    PAIRED_EFFECT,
    POWER,
    estimate_fields,
)
from nsbench.schemas.training import CELL, EVALUATION, RUN, RUNS, TIME_TO_TARGET, count, field, label, number

_LEAKS = label("leaks", "ways in which validation answers can be seen; empty is the rule", "text")
_ARM = [TIME_TO_TARGET.field(name) for name in ("rho", "gamma", "orientation")]


def _median(name: str, unit: str, meaning: str) -> pa.Field:
    return number(name, unit, f"{meaning}, median over seeds; NaN if undefined", nullable=True)


SCORE = pa.schema(
    [
        *CELL,
        *_ARM,
        RUNS.field("text"),
        _LEAKS,
        label("targets", "all, unpadded (no padding) or known (no padding, no unknown word)"),
        count("n_seeds", "runs", "runs of the cell in the grid"),
        count("n_diverged", "runs", "runs that diverged; medians count them as worst"),
        count("n_stopped", "runs", "runs stopped early, their target held; left out of all scores"),
        count("n_unmeasured", "runs", "other runs without measures; left out of test scores"),
        _median("final_val_accuracy", "1", "mean validation accuracy of the last three evaluations"),
        number("final_val_accuracy_min", "1", "lowest of the runs to the budget", nullable=True),
        number("final_val_accuracy_max", "1", "highest of the runs to the budget", nullable=True),
        _median("final_val_loss", "nats", "mean validation loss of the last three evaluations"),
        _median("best_val_loss", "nats", "lowest validation loss of all evaluations"),
        number(
            "best_val_loss_step",
            "optimiser steps",
            "step of the lowest validation loss, median over the runs to the budget; NaN if none",
            nullable=True,
        ),
        _median("test_accuracy", "1", "test accuracy at the checkpoint of lowest validation loss"),
        _median("test_loss", "nats", "test loss at the checkpoint of lowest validation loss"),
        _median("commonest_accuracy", "1", "validation accuracy of always the commonest target"),
        _median("commonest_loss", "nats", "validation loss of the training targets' frequencies"),
        _median("bigram_accuracy", "1", "validation accuracy of a table of the last token"),
        _median("bigram_loss", "nats", "validation loss of a table of the last token"),
        _median("n_targets", "1", "validation targets counted"),
        _median("lookup_accuracy", "1", "validation accuracy of a table of training's inputs"),
        _median("seen", "1", "share of the validation targets whose input training has"),
    ]
)

SCORE_EFFECT = pa.schema(
    [
        *CELL,
        BASELINE,
        *_ARM,
        RUNS.field("text"),
        count("n_pairs", "pairs", "seeds that both arms have in the grid"),
        count("n_compared", "pairs", "pairs in which both runs went to their budget"),
        N_STOPPED,
        *estimate_fields("final_val_accuracy_difference", "1", "final accuracy, arm minus baseline, typical pair"),
        *estimate_fields("best_val_loss_difference", "nats", "lowest loss, arm minus baseline, typical pair"),
        CONFIDENCE,
        label("note", "what to know before reading the differences", "text"),
    ]
)

SELECTION = pa.schema(
    [
        *CELL[:2],
        label(
            "procedure",
            "all_seeds (one choice), leave_one_out (each seed: on the others), or equal_tuning (so too, and among the "
            "baseline's settings of its optimiser likewise)",
        ),
        BASELINE,
        RUNS.field("text"),
        count("n_arms", "1", "arms to choose from"),
        label("criterion", "how the arm is chosen", "text"),
        label("selected", "the arm chosen; unless all_seeds the arms with their counts", "text"),
        count("n_pairs", "pairs", "seeds that the baseline and all these arms have in the grid"),
        count("n_compared", "pairs", "of them, those of test_steps_ratio: both test times are known"),
        N_STOPPED,
        *estimate_fields(
            "val_steps_ratio",
            "1",
            "typical ratio of steps to target on validation data, chosen / baseline; all_seeds chose by these, so that "
            "it flatters",
        ),
        *estimate_fields("test_steps_ratio", "1", "typical ratio of steps to target on test data, chosen / baseline"),
        *estimate_fields(
            "test_accuracy_difference", "1", "test accuracy at lowest validation loss, chosen minus baseline"
        ),
        *estimate_fields("test_loss_difference", "nats", "test loss at lowest validation loss, chosen minus baseline"),
        CONFIDENCE,
        label("note", "what to know before reading the comparison", "text"),
    ]
)

MEASURE = pa.schema(
    [
        *CELL,
        RUNS.field("text"),
        *(EVALUATION.field(name) for name in ("measure", "reduction", "rho", "correlation")),
        count("n_seeds", "runs", "runs of the cell in the grid"),
        count("n_measured", "runs", "of them, those with this measure at their budget"),
        number("value", "of the measure", "median over these runs; NaN without any", nullable=True),
        number("value_min", "of the measure", "lowest of them", nullable=True),
        number("value_max", "of the measure", "highest of them", nullable=True),
        EVALUATION.field("target_value"),
    ]
)

_SHARE = number("share", "1", "a curve has begun to move once it has made this share of its change")


def _step(name: str, meaning: str) -> pa.Field:
    return number(name, "optimiser steps", meaning, nullable=True)


_SERIES = label("series", "column of the history that is asked to move before the loss")

ONSET = pa.schema(
    [
        *RUN,
        _SERIES,
        _SHARE,
        _step("series_onset_step", "first step at which the series has moved; NaN if undefined"),
        _step("loss_onset_step", "first step at which validation loss has fallen; NaN if undefined"),
        _step("lead_steps", "loss minus series onset; positive: the series moved first; NaN if undefined"),
        label("note", "why an onset is undefined", "text"),
    ]
)

LEAD_LAG = pa.schema(
    [
        *CELL,
        _SERIES,
        RUNS.field("text"),
        _SHARE,
        count("n_runs", "runs", "runs of the cell in the grid"),
        count("n_defined", "runs", "runs with both onsets"),
        N_STOPPED,
        count("n_series_first", "runs", "runs in which the series moved first"),
        count("n_together", "runs", "runs in which both moved at the same evaluation"),
        count("n_loss_first", "runs", "runs in which validation loss moved first"),
        _step(
            "median_series_onset_step",
            "median over all runs not stopped early that have the series, undefined ones as later than any; "
            "NaN if undefined",
        ),
        _step(
            "median_loss_onset_step",
            "median over all runs not stopped early, undefined ones as later than any; NaN if undefined",
        ),
        *estimate_fields("typical_lead_steps", "optimiser steps", "typical lead of the runs with both onsets"),
        CONFIDENCE,
        count("resolution_steps", "optimiser steps", "steps from one evaluation to the next"),
        label("note", "what to know before reading the lead", "text"),
    ]
)

EARLY_RANK = pa.schema(
    [
        *CELL[:2],
        label("group", "runs that are ranked: kind baseline, or all arms of the paper's kinds"),
        RUNS.field("text"),
        count("n_runs", "runs", "runs of the group in the grid"),
        count("n_seeds", "1", "seeds of the group in the grid"),
        count("n_ranked", "runs", "runs with finite values at early_step"),
        count("early_step", "optimiser steps", "evaluation at which the time to target is asked for"),
        *estimate_fields("rank_by_stability", "1", "Spearman's correlation of early stability and time to target"),
        *estimate_fields("rank_by_val_loss", "1", "Spearman's correlation of early validation loss and time to target"),
        CONFIDENCE,
        label("note", "what to know before reading the correlations", "text"),
    ]
)

_CURVE = label("curve", "the specification curve: its base variant")

SPECIFICATION = pa.schema(
    [
        CELL[0],
        _CURVE,
        *CELL[1:],
        PAIRED_EFFECT.field("baseline"),
        *map(TIME_TO_TARGET.field, ("metric", "threshold", "hold_evaluations", "hold_steps", "budget_steps")),
        RUNS.field("text"),
        _LEAKS,
        label("choices", "each choice of the curve and the level that the variant has of it", "JSON"),
        field("base", pa.bool_(), "1", "whether the variant is the curve's base"),
        *(PAIRED_EFFECT.field(name) for name in ("n_pairs", "n_baseline_reached", "n_arm_reached")),
        field("counts", pa.bool_(), "1", "whether the baseline reached the target in more than half of the pairs"),
        *(field for field in PAIRED_EFFECT if field.name.startswith(("steps_ratio", "flops_ratio"))),
        PAIRED_EFFECT.field("p_value"),
        label(
            "effect", "helps or hurts where the interval of steps_ratio lies below or above 1, else open; not counted"
        ),
        PAIRED_EFFECT.field("confidence"),
        label("note", "what to know before reading the ratios", "text"),
    ]
)


SPECIFICATION_CURVE = pa.schema(
    [
        CELL[0],
        _CURVE,
        CELL[2],
        RUNS.field("text"),
        _LEAKS,
        count("n_specifications", "specifications", "specifications in the grid"),
        count("n_counted", "specifications", "those whose baseline reached the target; they are pooled"),
        count("n_seeds", "pairs", "seeds that all of these have"),
        *estimate_fields("steps_ratio", "1", "pooled ratio of steps within the budget, arm / baseline"),
        number("new_steps_ratio_low", "1", "lower end for a new setting; NaN if there is none", nullable=True),
        number("new_steps_ratio_high", "1", "upper end for a new setting; NaN if there is none", nullable=True),
        number("sd_settings", "1", "sd of the log ratio between settings (tau); NaN if unknown", nullable=True),
        number("sd_seeds", "1", "sd of the log ratio between seeds; NaN if unknown", nullable=True),
        number("min_steps_ratio", "1", "least of a setting, mean over its seeds; NaN if none counts", nullable=True),
        number("max_steps_ratio", "1", "largest of a setting, mean over its seeds; NaN if none counts", nullable=True),
        count("n_helps", "specifications", "counted ones in which the arm needs fewer steps, by their own pairs"),
        count("n_hurts", "specifications", "counted ones in which it needs more"),
        count("n_open", "specifications", "counted ones in which that cannot be told"),
        CONFIDENCE,
        label("note", "what to know before reading the numbers", "text"),
    ]
)

SPECIFICATION_CHOICE = pa.schema(
    [
        CELL[0],
        _CURVE,
        CELL[2],
        RUNS.field("text"),
        _LEAKS,
        label("choice", "an open choice of the curve"),
        label("level", "one of its levels", "JSON"),
        count("n_specifications", "specifications", "counted ones with this level"),
        *estimate_fields("steps_ratio", "1", "their pooled ratio of steps within the budget, arm / baseline"),
        number("p_value", "1", "analysis of variance: no difference between the choice's levels", nullable=True),
        number("q_value", "1", "p_value corrected for false discoveries among the choices", nullable=True),
        CONFIDENCE,
    ]
)

_MADE = {
    "time_to_target": TIME_TO_TARGET,
    "cells": CELL_SUMMARY,
    "paired_effect": PAIRED_EFFECT,
    "kaplan_meier": KAPLAN_MEIER,
    "power": POWER,
    "score": SCORE,
    "score_effect": SCORE_EFFECT,
    "measure": MEASURE,
    "selection": SELECTION,
    "onset": ONSET,
    "lead_lag": LEAD_LAG,
    "early_rank": EARLY_RANK,
    "specification": SPECIFICATION,
    "specification_curve": SPECIFICATION_CURVE,
    "specification_choice": SPECIFICATION_CHOICE,
    "matched_measure": MATCHED_MEASURE,
    "matched_effect": MATCHED_EFFECT,
    "rank_agreement": RANK_AGREEMENT,
}
_LABELS = [RUNS.field("text"), _LEAKS]
TABLES = {
    name: pa.schema([*schema, *(label for label in _LABELS if label.name not in schema.names)])
    for name, schema in _MADE.items()
}
"""Table -> its schema: the tables that `analyse` makes, in the order in which one reads them. All say what text the
data were cut from, and how answers leak."""
