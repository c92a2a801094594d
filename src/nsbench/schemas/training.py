"""Schemas of the Parquet files that stages hand to each other; `storage.parquet` writes and reads them.

Every column's unit and meaning stands in its field's metadata; every file carries its provenance
(`nsbench.storage.provenance.stamp`) in the schema's metadata.
"""

from __future__ import annotations

import pyarrow as pa


def field(name: str, kind: pa.DataType, unit: str, meaning: str, nullable: bool = False) -> pa.Field:
    """A column of a schema, its unit and meaning in the metadata."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


def label(name: str, meaning: str, unit: str = "name", nullable: bool = False) -> pa.Field:
    """A column of text: names, where the unit says nothing else."""
    return field(name, pa.string(), unit, meaning, nullable)


def count(name: str, unit: str, meaning: str, nullable: bool = False) -> pa.Field:
    """A column of whole numbers."""
    return field(name, pa.int64(), unit, meaning, nullable)


def number(name: str, unit: str, meaning: str, nullable: bool = False) -> pa.Field:
    """A column of numbers."""
    return field(name, pa.float64(), unit, meaning, nullable)


CELL = [
    label("task", "task"),
    label("variant", "setting of the task's open choices"),
    label("arm", "what regularises the run"),
]
RUN = [*CELL, count("seed", "1", "replicate; arms share it")]

HISTORY = pa.schema(
    [
        *RUN,
        count("step", "optimiser steps", "steps done when evaluated"),
        number("epoch", "passes over the training set", "step x batch size / training examples"),
        number(
            "train_loss",
            "nats",
            "mean cross entropy of the batches since the last row, in training mode; NaN at step 0",
        ),
        number("train_accuracy", "1", "share right in the batches since the last row; NaN at step 0"),
        number("val_loss", "nats", "mean cross entropy on validation data"),
        number("val_accuracy", "1", "share right on validation data"),
        number("val_loss_unpadded", "nats", "val_loss without targets that are padding"),
        number("val_accuracy_unpadded", "1", "val_accuracy without targets that are padding"),
        number("val_loss_known", "nats", "val_loss without padding and unknown words as targets"),
        number("val_accuracy_known", "1", "val_accuracy without padding and unknown words as targets"),
        number("stability", "1", "mean over validation data of <M(X), M(Y)> of Definition 6.1 at rho = 1/2"),
        number("stability_cosine", "1", "the same with <M(X), M(Y)> divided by both norms"),
        number("decision_agreement", "1", "share of the same outputs, clean and noisy, with equal argmax"),
        number(
            "decision_agreement_corrected",
            "1",
            "that share beyond chance (Cohen's kappa): 0 where decisions are independent; NaN where all are the same",
        ),
        number("output_entropy", "nats", "mean entropy of softmax outputs on clean validation data"),
        number("weight_norm", "1", "Euclidean norm of all trainable weights"),
        number("learning_rate", "1", "learning rate of the next step"),
        number("seconds", "s", "time in training steps so far, per run of the stack"),
        number("flops", "FLOP", "matrix-product operations in training steps so far"),
    ]
)

RUNS = pa.schema(
    [
        *RUN,
        label("status", "completed (to the budget), stopped (by training.stop, its target held) or diverged"),
        count("steps", "optimiser steps", "steps done"),
        count("n_parameters", "1", "trainable parameters of one model"),
        number("seconds", "s", "time in training steps, per run of the stack"),
        number("flops", "FLOP", "matrix-product operations in training steps"),
        label("device", "device that trained the run"),
        label("run_key", "identity: settings, seed, data and training code", "sha256"),
        label("history_sha256", "digest of the run's history without its seconds", "sha256"),
        label("data_sha256", "digest of the run's data set", "sha256"),
        label("commit", "commit of the code that trained the run", "git"),
        label("source_digest", "digest of that code", "sha256"),
        field("secret", pa.list_(pa.int64()), "positions", "sparse parity: the secret set", nullable=True),
        label("text", "the text, or other published data, that the data were cut from; empty for tasks without one"),
    ]
)

COLLECTED_RUNS = pa.schema(
    [
        *RUNS,
        label("record", "file of the record that the run came in; empty: trained in this folder", "path"),
        label("older_code", "of a record: what other code or settings made (data, training, measures)"),
        label("no_evaluation", "why the run has no measures; empty where it has", "text"),
    ]
)

FLOORS = pa.schema(
    [
        label("task", "task"),
        label("variant", "setting of the task's open choices"),
        count("seed", "1", "replicate; arms share its data"),
        label(
            "predictor",
            "commonest (always that target), bigram (a table of the last token), lookup (of training's inputs), "
            "nearest_mean (the class whose mean input is nearest) or a rule of the task",
        ),
        label("split", "val or test"),
        label("targets", "all, unpadded (no padding) or known (no padding, no unknown word)"),
        count("n_targets", "1", "targets counted"),
        number("accuracy", "1", "share right; NaN without targets", nullable=True),
        number("loss", "nats", "mean cross entropy; NaN without targets, and of lookup", nullable=True),
        number("seen", "1", "lookup: share of the targets whose input training has", nullable=True),
    ]
)

TEXT = pa.schema(
    [
        label("split", "train, val or test"),
        label("line", "a line of the text: words apart by spaces; blank lines are kept", "text"),
    ]
)
TEXT_LABELS = ("WikiText-2", "local text", "Wikipedia excerpt")
"""How the label of a text begins, in `text` of RUNS; that of other data begins otherwise. A grid has one text."""

EVALUATION = pa.schema(
    [
        *RUN,
        count("step", "optimiser steps", "checkpoint"),
        label("measure", "noise_stability, average_sensitivity, test_accuracy, test_loss or your own"),
        label(
            "reduction", "which number of the measure, as decision; of test scores the targets: all, unpadded or known"
        ),
        number("rho", "1", "Definition 6.1's rho; NaN for the other measures", nullable=True),
        number(
            "correlation",
            "1",
            "correlation of the kept symbol that rho really gives; NaN where it has no meaning",
            nullable=True,
        ),
        number("value", "1", "estimate"),
        number("standard_error", "1", "standard error over inputs"),
        number(
            "target_value", "1", "closed form for the task's target function; NaN where none is known", nullable=True
        ),
        count("n_inputs", "1", "test inputs used"),
        count("n_draws", "1", "noisy copies per input"),
    ]
)

TIME_TO_TARGET = pa.schema(
    [
        *RUN,
        label("arm_kind", "kind of the arm"),
        number("rho", "1", "the arm's rho; NaN for the baseline", nullable=True),
        number("gamma", "1", "the arm's gamma; NaN for the baseline", nullable=True),
        number("orientation", "1", "the arm's S; NaN for the baseline", nullable=True),
        label("metric", "metric of the target"),
        number("threshold", "of the metric", "target value"),
        count("hold_evaluations", "evaluations", "evaluations in a row that must reach it"),
        count("hold_steps", "optimiser steps", "steps that must pass while they do"),
        count("budget_steps", "optimiser steps", "steps after which a run is censored"),
        label("status", "completed, stopped (its target held) or diverged"),
        field("reached", pa.bool_(), "1", "whether the target was reached and held"),
        number("step", "optimiser steps", "time to target, between evaluations; NaN where censored", nullable=True),
        number("flops", "FLOP", "cost to target; NaN where censored", nullable=True),
        number("seconds", "s", "seconds to target; NaN where censored", nullable=True),
        number(
            "train_step",
            "optimiser steps",
            "step at which the same threshold is crossed by the training metric first; NaN if never",
            nullable=True,
        ),
        count("n_lost", "evaluations", "evaluations after the hold that miss the target again"),
        RUNS.field("text"),
    ]
)

# Partial work: what is known of every run of a grid, and how results name it.
FINISHED, UNFINISHED, STALE = "finished", "unfinished", "stale"
STATES = {
    FINISHED: "trained and evaluated by the current settings and code, its files whole: part of every number here",
    UNFINISHED: "not begun, in training, not evaluated, or without a finished baseline to compare it with",
    STALE: "made with other settings or code; the next full run makes it again",
}
"""What a run can be -> what that means. All but the first are left out of partial results."""

RUN_STATE = pa.schema(
    [
        *RUN,
        label("pack", "the pack that the run is trained in"),
        label("state", f"one of: {', '.join(STATES)}"),
        number("share_trained", "1", "how much of its training is done"),
        label("reason", "what is missing, stale or bad; empty for a finished run", "text"),
    ]
)
"""One row per run of the grid, in grid order."""
