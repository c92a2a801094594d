"""Schemas of the Parquet files that stages hand to each other; `storage.parquet` writes and reads them.

Every column's unit and meaning stands in its field's metadata; every file carries its provenance
(`nsbench.storage.provenance.stamp`) in the schema's metadata.
"""

from __future__ import annotations

import pyarrow as pa


def field(name: str, kind: pa.DataType, unit: str, meaning: str, nullable: bool = False) -> pa.Field:
    """A column of a schema, its unit and meaning in the metadata."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


CELL = [
    field("task", pa.string(), "name", "task"),
    field("variant", pa.string(), "name", "setting of the task's open choices"),
    field("arm", pa.string(), "name", "what regularises the run"),
]
RUN = [*CELL, field("seed", pa.int64(), "1", "replicate; arms share it")]

HISTORY = pa.schema(
    [
        *RUN,
        field("step", pa.int64(), "optimiser steps", "steps done when evaluated"),
        field("epoch", pa.float64(), "passes over the training set", "step x batch size / training examples"),
        field(
            "train_loss",
            pa.float64(),
            "nats",
            "mean cross entropy of the batches since the last row, in training mode; NaN at step 0",
        ),
        field("train_accuracy", pa.float64(), "1", "share right in the batches since the last row; NaN at step 0"),
        field("val_loss", pa.float64(), "nats", "mean cross entropy on validation data"),
        field("val_accuracy", pa.float64(), "1", "share right on validation data"),
        field("val_loss_unpadded", pa.float64(), "nats", "val_loss without targets that are padding"),
        field("val_accuracy_unpadded", pa.float64(), "1", "val_accuracy without targets that are padding"),
        field("val_loss_known", pa.float64(), "nats", "val_loss without padding and unknown words as targets"),
        field("val_accuracy_known", pa.float64(), "1", "val_accuracy without padding and unknown words as targets"),
        field(
            "stability", pa.float64(), "1", "mean over validation data of <M(X), M(Y)> of Definition 6.1 at rho = 1/2"
        ),
        field("stability_cosine", pa.float64(), "1", "the same with <M(X), M(Y)> divided by both norms"),
        field("decision_agreement", pa.float64(), "1", "share of the same outputs, clean and noisy, with equal argmax"),
        field(
            "decision_agreement_corrected",
            pa.float64(),
            "1",
            "that share beyond chance (Cohen's kappa): 0 where decisions are independent; NaN where all are the same",
        ),
        field("output_entropy", pa.float64(), "nats", "mean entropy of softmax outputs on clean validation data"),
        field("weight_norm", pa.float64(), "1", "Euclidean norm of all trainable weights"),
        field("learning_rate", pa.float64(), "1", "learning rate of the next step"),
        field("seconds", pa.float64(), "s", "time in training steps so far, per run of the stack"),
        field("flops", pa.float64(), "FLOP", "matrix-product operations in training steps so far"),
    ]
)

RUNS = pa.schema(
    [
        *RUN,
        field(
            "status",
            pa.string(),
            "name",
            "completed (to the budget), stopped (by training.stop, its target held) or diverged",
        ),
        field("steps", pa.int64(), "optimiser steps", "steps done"),
        field("n_parameters", pa.int64(), "1", "trainable parameters of one model"),
        field("seconds", pa.float64(), "s", "time in training steps, per run of the stack"),
        field("flops", pa.float64(), "FLOP", "matrix-product operations in training steps"),
        field("device", pa.string(), "name", "device that trained the run"),
        field("run_key", pa.string(), "sha256", "identity: settings, seed, data and training code"),
        field("history_sha256", pa.string(), "sha256", "digest of the run's history without its seconds"),
        field("data_sha256", pa.string(), "sha256", "digest of the run's data set"),
        field("commit", pa.string(), "git", "commit of the code that trained the run"),
        field("source_digest", pa.string(), "sha256", "digest of that code"),
        field("secret", pa.list_(pa.int64()), "positions", "sparse parity: the secret set", nullable=True),
        field("text", pa.string(), "name", "the text that the data were cut from; empty for tasks without one"),
    ]
)

COLLECTED_RUNS = pa.schema(
    [
        *RUNS,
        field("record", pa.string(), "path", "file of the record that the run came in; empty: trained in this folder"),
        field("older_code", pa.string(), "name", "of a record: what other code made (data, training, measures)"),
        field("no_evaluation", pa.string(), "text", "why the run has no measures; empty where it has"),
    ]
)

FLOORS = pa.schema(
    [
        field("task", pa.string(), "name", "task"),
        field("variant", pa.string(), "name", "setting of the task's open choices"),
        field("seed", pa.int64(), "1", "replicate; arms share its data"),
        field(
            "predictor",
            pa.string(),
            "name",
            "commonest (always that target), bigram (a table of the last token) or lookup (of training's inputs)",
        ),
        field("split", pa.string(), "name", "val or test"),
        field("targets", pa.string(), "name", "all, unpadded (no padding) or known (no padding, no unknown word)"),
        field("n_targets", pa.int64(), "1", "targets counted"),
        field("accuracy", pa.float64(), "1", "share right; NaN without targets", nullable=True),
        field("loss", pa.float64(), "nats", "mean cross entropy; NaN without targets, and of lookup", nullable=True),
        field("seen", pa.float64(), "1", "lookup: share of the targets whose input training has", nullable=True),
    ]
)

TEXT = pa.schema(
    [
        field("split", pa.string(), "name", "train, val or test"),
        field("line", pa.string(), "text", "a line of the text: words apart by spaces; blank lines are kept"),
    ]
)

EVALUATION = pa.schema(
    [
        *RUN,
        field("step", pa.int64(), "optimiser steps", "checkpoint"),
        field(
            "measure", pa.string(), "name", "noise_stability, average_sensitivity, test_accuracy, test_loss or your own"
        ),
        field(
            "reduction",
            pa.string(),
            "name",
            "which number of the measure, as decision; of test scores the targets: all, unpadded or known",
        ),
        field("rho", pa.float64(), "1", "Definition 6.1's rho; NaN for the other measures", nullable=True),
        field(
            "correlation",
            pa.float64(),
            "1",
            "correlation of the kept symbol that rho really gives; NaN where it has no meaning",
            nullable=True,
        ),
        field("value", pa.float64(), "1", "estimate"),
        field("standard_error", pa.float64(), "1", "standard error over inputs"),
        field(
            "target_value",
            pa.float64(),
            "1",
            "closed form for the task's target function; NaN where none is known",
            nullable=True,
        ),
        field("n_inputs", pa.int64(), "1", "test inputs used"),
        field("n_draws", pa.int64(), "1", "noisy copies per input"),
    ]
)

TIME_TO_TARGET = pa.schema(
    [
        *RUN,
        field("arm_kind", pa.string(), "name", "kind of the arm"),
        field("rho", pa.float64(), "1", "the arm's rho; NaN for the baseline", nullable=True),
        field("gamma", pa.float64(), "1", "the arm's gamma; NaN for the baseline", nullable=True),
        field("orientation", pa.float64(), "1", "the arm's S; NaN for the baseline", nullable=True),
        field("metric", pa.string(), "name", "metric of the target"),
        field("threshold", pa.float64(), "of the metric", "target value"),
        field("hold_evaluations", pa.int64(), "evaluations", "evaluations in a row that must reach it"),
        field("hold_steps", pa.int64(), "optimiser steps", "steps that must pass while they do"),
        field("budget_steps", pa.int64(), "optimiser steps", "steps after which a run is censored"),
        field("status", pa.string(), "name", "completed, stopped (its target held) or diverged"),
        field("reached", pa.bool_(), "1", "whether the target was reached and held"),
        field("step", pa.float64(), "optimiser steps", "time to target; NaN where censored", nullable=True),
        field("flops", pa.float64(), "FLOP", "cost to target; NaN where censored", nullable=True),
        field("seconds", pa.float64(), "s", "seconds to target; NaN where censored", nullable=True),
        field("text", pa.string(), "name", "the text that the data were cut from; empty for tasks without one"),
    ]
)
