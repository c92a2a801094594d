"""Time of a training step of models stacked, against the same models one after the other.

    python benchmarks/stack_time.py [--rounds 5] [--stacks 1 5 10 20] [--device cuda]

Prints a table: milliseconds per step and model (median over rounds, and their range), and ratios to
a stack of one. The contenders take turns within each round, so that a machine's drift hits all. On
a CPU the time is the process's own (user and system), which neighbours on the machine disturb least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nsbench.config.base import parse
from nsbench.config.shape import Shape
from nsbench.data.datasets import Dataset
from nsbench.training.models.transformer import Transformer
from nsbench.training.run import TrainSpec
from nsbench.training.step import TrainingStep

ROUND_SECONDS = 0.5
EXAMPLES = 2000
SPEC = {
    **{"task": "modular_addition", "variant": "benchmark", "arm": "benchmark", "target": None},
    **{"optimizer": {}, "noise": {}, "checkpoint_count": 1, "checkpoint_dtype": "float32"},
}


@dataclass(frozen=True)
class Case:
    """Shapes of a task's training step."""

    model: Transformer
    length: int
    batch: int
    vocabulary: int
    classes: int


def next_token(pooling: str, mask: str, batch: int = 200) -> Case:
    model = Transformer(n_layers=4, d_model=30, n_heads=6, pooling=pooling, mask=mask)
    return Case(model, length=20, batch=batch, vocabulary=500, classes=500)


CASES = {
    "next token, one target": next_token("mean", "none"),
    "next token, every position": next_token("none", "causal"),
    "the same, 10 examples a batch": next_token("none", "causal", batch=10),
    "modular addition": Case(Transformer(), length=4, batch=256, vocabulary=118, classes=113),
}


def training_step(
    case: Case, n_runs: int, regularised: bool, device: torch.device, precision: str = "float32"
) -> TrainingStep:
    labels_of_one = (EXAMPLES, case.length) if case.model.pooling == "none" else (EXAMPLES,)
    tensors = {
        "train_tokens": torch.randint(case.classes, (EXAMPLES, case.length)),
        "train_labels": torch.randint(case.classes, labels_of_one),
        "symbols": torch.arange(case.classes),
    }
    data, seeds = Dataset(tensors, case.vocabulary, case.classes, ""), list(range(n_runs))
    arm = {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75} if regularised else {"kind": "baseline"}
    training = {"batch_size": case.batch, "precision": precision}
    spec = parse(TrainSpec, {**SPEC, "arm_settings": arm, "model": case.model, "training": training, "seeds": seeds})
    stack = case.model.build(Shape(case.length, case.vocabulary, case.classes), seeds).to(device)
    return TrainingStep(stack, [spec] * n_runs, seeds, [data] * n_runs)


def seconds(step: Callable[[int], None], count: int, device: torch.device) -> float:
    """Seconds that `count` steps take."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    for number in range(count):
        step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stacks", type=int, nargs="+", default=[1, 5, 10, 20])
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {device}, one thread")
    print(f"{'case':<30} {'arm':<12} {'stack':>5} {'ms per step and model':>22} {'range':>16} {'ratio':>6}")
    for name, case in CASES.items():
        for regularised in (False, True):
            steps = {n_runs: training_step(case, n_runs, regularised, device) for n_runs in options.stacks}
            counts, times = {}, {n_runs: [] for n_runs in steps}
            for n_runs, step in steps.items():
                seconds(step, 2, device)
                counts[n_runs] = max(1, round(ROUND_SECONDS / seconds(step, 1, device)))
            for _ in range(options.rounds):
                for n_runs, step in steps.items():
                    spent = seconds(step, counts[n_runs], device)
                    times[n_runs].append(1000 * spent / counts[n_runs] / n_runs)
            base = statistics.median(times[options.stacks[0]])
            for n_runs, values in times.items():
                middle, span = statistics.median(values), f"{min(values):.1f} - {max(values):.1f}"
                arm = "regularised" if regularised else "baseline"
                print(f"{name:<30} {arm:<12} {n_runs:>5} {middle:>22.2f} {span:>16} {middle / base:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
