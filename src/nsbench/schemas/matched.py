"""Schemas of what models measure at matched points of their training, and of comparisons there."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.statistics import CONFIDENCE, estimate_fields
from nsbench.schemas.training import CELL, RUN, RUNS, count, label, number

MATCHINGS = {
    "end": "at the end of training",
    "train_accuracy": "at training accuracy 0.95",
    "equal_test_accuracy": "at equal test accuracy",
    "equal_flops": "at the baseline's FLOPs",
}
"""Where runs are compared -> in words."""
RATIO, DIFFERENCE = "ratio", "difference"
QUANTITIES = {
    "sensitivity": RATIO,
    "sensitivity_normalised": RATIO,
    "flips": RATIO,
    "test_accuracy": DIFFERENCE,
    "clean_accuracy": DIFFERENCE,
    "corrupted_accuracy": DIFFERENCE,
    "weight_logits": RATIO,
    "weight_flips": RATIO,
    "weight_loss": DIFFERENCE,
}
"""What is compared -> how: by ratio, in logarithms, or by difference."""

_WHAT = [
    label("quantity", f"one of {', '.join(QUANTITIES)}"),
    label("law", "law by which tokens are changed, or scale of the noise on weights; empty of accuracies"),
    label("split", "inputs: train or test"),
    number("kept", "1", "of flips: chance that a token is kept (kappa); else NaN", nullable=True),
    label("matching", f"where in training: {', '.join(MATCHINGS)}"),
]

MATCHED_MEASURE = pa.schema(
    [
        *RUN,
        RUNS.field("text"),
        label("architecture", "kind of model"),
        *_WHAT,
        number("level", "of the matching", "accuracy or FLOPs that is matched; NaN of end", nullable=True),
        number("step", "optimiser steps", "where that is; NaN if nowhere", nullable=True),
        number("value", "of the quantity", "interpolated in the trail of checkpoints; NaN if none", nullable=True),
        number("half_count", "of the quantity", "what is added before a logarithm is taken: half of a flip"),
        label("note", "why there is no value", "text"),
    ]
)

MATCHED_EFFECT = pa.schema(
    [
        *CELL,
        label("reference_variant", "the variant compared with"),
        label("reference_arm", "the arm compared with"),
        RUNS.field("text"),
        *_WHAT,
        label("role", "primary (what claims are judged by) or curve (beside it, not judged alone)"),
        label("scale", "of the effect: ratio to the reference, or difference, less the reference"),
        count("n_pairs", "pairs", "seeds that both have in the grid"),
        count("n_compared", "pairs", "of them, those with both values"),
        count("n_zero", "runs", "of their values, those without any flip"),
        *estimate_fields("effect", "of the scale", "typical ratio or difference"),
        CONFIDENCE,
        number("p_value", "1", "signed-rank test of no effect, two-sided; NaN if none", nullable=True),
        number("margin", "1", "largest effect that counts as none, as a share; ratios alone"),
        label("outcome", "what the interval settles: lower, higher, no effect larger than the margin, or open"),
        label("note", "what to know before reading the effect", "text"),
    ]
)

RANK_AGREEMENT = pa.schema(
    [
        CELL[0],
        RUNS.field("text"),
        label("group", "runs that are ranked: baselines (of all variants) or all arms"),
        *_WHAT,
        label("against", "the quantity that it is ranked beside"),
        label("against_law", "law or scale of that; empty of accuracies"),
        label(
            "statistic", "tau (Kendall, over variants), rho (Spearman, over runs) or partial (rho given clean_accuracy)"
        ),
        count("n_runs", "runs", "runs that are ranked"),
        count("n_seeds", "1", "their seeds"),
        *estimate_fields("rank", "1", "the correlation; of tau the typical seed's"),
        number("rank_of_medians", "1", "of tau: that of the variants' medians over seeds", nullable=True),
        *estimate_fields("beyond", "1", "of flips: its correlation less that of sensitivity, same law and inputs"),
        CONFIDENCE,
        label("note", "what to know before reading the correlation", "text"),
    ]
)
