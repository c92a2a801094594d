"""Resources of a job: minutes and memory, for a cluster's scheduler.

Operations are counted, and what one job does of them per second is a setting (`config.sections.Cluster`). Memory
follows the jobs measured in docs/performance.md. Nothing here changes a number of any run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nsbench.config.sections import Cluster, Evaluation
from nsbench.config.shape import Shape
from nsbench.workflow.grid import Cell

START_MINUTES = 10.0
"""For starting Python and Snakemake on a node, reading and writing, on a file system that many share."""
MARGIN = 1.25
"""On minutes and memory, beyond what was measured."""
SNAKEMAKE_MB = 500
"""Snakemake itself, which starts in each job once more."""
TRAIN_MB, EVALUATE_MB = 415, 445
"""What a process that trains or evaluates a tiny model takes."""
CUDA_MB = 3000
"""What CUDA's libraries take of the host's memory besides, and more: 15 processes took 15 GB together."""
PASS_COPIES = 2.0
"""A pass's activations are held so many times over: values, and gradients or temporaries."""
OUTPUT_COPIES = 6.0
"""An evaluation holds the outputs of its inputs so many times over."""
ANALYSE_MB, ROW_BYTES = 300, 500
"""What a process takes that makes tables, and more for each row of the histories."""
FLOAT, DOUBLE, WORD = 4, 8, 8
"""Bytes of a weight or a pixel, of a measure's number, of an id."""
MB = 2**20


def forward_flops(cell: Cell) -> float:
    """Operations (multiplications and additions of matrix products) of one sequence's way through the model."""
    return float(2 * cell.settings.model.multiplications(cell.settings.data.shape()))


def train_flops(cell: Cell) -> float:
    """Operations of a run's training; a backward pass costs two forward ones."""
    passes = cell.arm_settings.passes(cell.settings.noise.n_draws)
    training = cell.settings.training
    return training.steps * training.batch_size * passes * 3 * forward_flops(cell)


def evaluate_flops(cell: Cell, evaluation: Evaluation, checkpoints: int) -> float:
    """Operations of a run's evaluation on so many checkpoints."""
    length, n_test = cell.settings.data.sequence_length(), cell.settings.data.n_test
    copies = 2 + len(evaluation.rho) * evaluation.n_draws + length
    passes = min(evaluation.n_inputs, n_test) * copies + n_test
    if "token_sensitivity" in evaluation.measures:
        chosen = evaluation.sensitivity
        changed = chosen.n_draws * len(chosen.perturbations) * (length + len(chosen.kept))
        passes += 2 * chosen.n_inputs * changed  # of training and of test inputs
    return checkpoints * passes * forward_flops(cell)


def minutes(flops: float, device: str, cluster: Cluster, attempt: int) -> int:
    """What a job of so many operations needs; twice as much at each further attempt."""
    rate = cluster.gflops.cpu if device == "cpu" else cluster.gflops.cuda
    return math.ceil((START_MINUTES + MARGIN * flops / (rate * 1e9) / 60) * 2 ** (attempt - 1))


def pack_minutes(train: float, evaluate: float, device: str, cluster: Cluster, attempt: int) -> tuple[int, int]:
    """Time limits of a pack's training and of its evaluation, of so many operations; one job does both.

    Together they are never more than the cluster allows. A training that is stopped by its limit goes on where it was
    at its next attempt. On a GPU too an evaluation is at the pace of a CPU, which looks at the outputs.
    """
    for_evaluation = min(minutes(evaluate, "cpu", cluster, attempt), cluster.max_minutes // 2)
    return min(minutes(train, device, cluster, attempt), cluster.max_minutes - for_evaluation), for_evaluation


def train_mb(cell: Cell, n_runs: int, device: str) -> int:
    """Memory of a job that trains a pack of so many runs, in MiB; on a CPU it trains one after the other."""
    settings = cell.settings
    data, shape = settings.data, settings.data.shape()
    passes = math.ceil(cell.arm_settings.passes(settings.noise.n_draws))
    kept = settings.model.activations(settings.training.batch_size, shape) * FLOAT / MB
    tokens = n_runs * (data.n_train + data.n_val + data.n_test) * _token_bytes(shape) / MB
    return _asked(TRAIN_MB + tokens + PASS_COPIES * passes * kept, device)


def evaluate_mb(cell: Cell, evaluation: Evaluation, device: str) -> int:
    """Memory of a job that evaluates a pack, in MiB."""
    settings = cell.settings
    shape = settings.data.shape()
    rows = shape.length if settings.model.positions else 1
    outputs = min(evaluation.n_inputs, settings.data.n_test) * rows * shape.n_classes * DOUBLE / MB
    tokens = evaluation.n_inputs * evaluation.n_draws * _token_bytes(shape) / MB
    return _asked(EVALUATE_MB + OUTPUT_COPIES * outputs + tokens, device)


def analyse_mb(cells: Iterable[Cell]) -> int:
    """Memory of a job that reads the histories of all runs, in MiB."""
    rows = 0
    for cell in cells:
        training = cell.settings.training
        rows += len(cell.seeds) * (training.steps // training.eval_every_steps + 1)
    return _asked(ANALYSE_MB + rows * ROW_BYTES / MB, "cpu")


def _token_bytes(shape: Shape) -> int:
    """Of an example's tokens."""
    return shape.length * (shape.token_width * FLOAT or WORD)


def _asked(mb: float, device: str) -> int:
    """What to ask for where that much is used: with a margin, in steps of 100."""
    return 100 * math.ceil((SNAKEMAKE_MB + MARGIN * mb + CUDA_MB * (device != "cpu")) / 100)
