"""Time of a training step: ours against a plain torch loop of the same model, side by side.

    python benchmarks/step_time.py [--device cuda] [--rounds 5] [--cases text]

Prints a table: milliseconds per step and run (least and median over rounds), and ratios to the plain loop of the same
round (least and median). The contenders take turns within each round, so that a machine's drift hits all. On a CPU the
time is the process's own, which neighbours on the machine disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from nsbench.config.base import parse
from nsbench.config.shape import Shape
from nsbench.data.datasets import Dataset
from nsbench.training.models import transformer_stack
from nsbench.training.models.transformer import Transformer
from nsbench.training.models.transformer_stack import sinusoidal_positions
from nsbench.training.run import TrainSpec
from nsbench.training.step import TrainingStep

STEPS, EXAMPLES = 10, 2000
SPEC = {
    **{"task": "modular_addition", "variant": "benchmark", "arm": "benchmark", "target": None},
    **{"optimizer": {}, "noise": {}, "checkpoint_count": 1, "checkpoint_dtype": "float32"},
}


class Case(NamedTuple):
    """Shapes of a task's training step."""

    model: Transformer
    length: int
    batch: int
    vocabulary: int
    classes: int

    def data(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and labels of n examples."""
        positions = (self.length,) if self.model.positions else ()
        return tuple(torch.randint(self.classes, shape) for shape in ((n, self.length), (n, *positions)))


PARITY = Transformer(d_model=32, n_heads=4, qkv_init="xavier", dropout=0.0)
TEXT = Transformer(d_model=30, n_layers=4, n_heads=6, mask="causal", pooling="none")
CASES = {
    "addition, 2 tokens": Case(Transformer(), 2, 256, 118, 113),
    "addition, 4 tokens": Case(Transformer(), 4, 256, 118, 113),
    "d 128, 20 tokens": Case(Transformer(), 20, 256, 118, 113),
    "parity, n = 20": Case(PARITY, 20, 256, 2, 2),
    "text": Case(TEXT, 20, 200, 500, 500),
}


class Plain(nn.Module):
    """The same transformer from torch's own layers, dropout included."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.settings, d = case.model, case.model.d_model
        self.embedding = nn.Embedding(case.vocabulary, d)
        layer = nn.TransformerEncoderLayer(
            d, self.settings.n_heads, 4 * d, self.settings.dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, self.settings.n_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, case.classes)
        self.register_buffer("positions", sinusoidal_positions(case.length, d))
        mask = nn.Transformer.generate_square_subsequent_mask(case.length) if self.settings.causal else None
        self.register_buffer("mask", mask)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) * math.sqrt(self.settings.d_model) + self.positions
        x = self.norm(self.encoder(x, mask=self.mask, is_causal=self.settings.causal))
        return self.head(x if self.settings.positions else x.mean(1))


def plain(case: Case, device: torch.device) -> Callable[[int], None]:
    model = Plain(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens, labels = (x.to(device) for x in case.data(case.batch))

    def step(_: int) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(tokens).flatten(0, -2), labels.flatten()).backward()
        optimizer.step()

    return step


def ours(case: Case, device: torch.device, n_runs: int = 1, regularised: bool = False) -> Callable[[int], None]:
    tokens, labels = case.data(EXAMPLES)
    tensors = {"train_tokens": tokens, "train_labels": labels, "symbols": torch.arange(case.classes)}
    data, seeds = Dataset(tensors, case.vocabulary, case.classes, ""), list(range(n_runs))
    arm = {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75} if regularised else {"kind": "baseline"}
    spec = {"arm_settings": arm, "model": case.model, "seeds": seeds, "training": {"batch_size": case.batch}}
    stack = case.model.build(Shape(case.length, case.vocabulary, case.classes), seeds).to(device)
    return TrainingStep(stack, [parse(TrainSpec, {**SPEC, **spec})] * n_runs, seeds, [data] * n_runs)


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Inside, a model on a CPU takes autograd's path, as where numba is missing."""
    with mock.patch.object(transformer_stack, "has_numba", return_value=False):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    device = torch.device(options.device)
    on_cpu = device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {device}, one thread\n")
    print("| case | contender | ms, least | median | ratio to plain, least | median |\n|---|---|---|---|---|---|")
    for name in options.cases:
        case = CASES[name]
        as_it_is = contextlib.nullcontext
        contenders = {
            "plain torch loop": (plain(case, device), 1, as_it_is),
            "ours": (ours(case, device), 1, as_it_is),
            "ours, regularised": (ours(case, device, regularised=True), 1, as_it_is),
        }
        if on_cpu:
            contenders["autograd's path"] = (ours(case, device), 1, without_kernels)
            contenders["autograd's path, regularised"] = (ours(case, device, regularised=True), 1, without_kernels)
        else:
            contenders["ours, a stack of 5"] = (ours(case, device, 5), 5, as_it_is)
        times: dict[str, list[float]] = {contender: [] for contender in contenders}
        for measured in [False] + [True] * options.rounds:
            for contender, (step, n_runs, way) in contenders.items():
                with way():
                    begun = clock()
                    for number in range(STEPS):
                        step(number)
                    if not on_cpu:
                        torch.cuda.synchronize()
                if measured:
                    times[contender].append(1000 * (clock() - begun) / STEPS / n_runs)
        base = times["plain torch loop"]
        for contender, values in times.items():
            ratio = statistics.median(value / other for value, other in zip(values, base, strict=True))
            least, middle = min(values), statistics.median(values)
            print(f"| {name} | {contender} | {least:.1f} | {middle:.1f} | {least / min(base):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
