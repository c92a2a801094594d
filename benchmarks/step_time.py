"""Time of a training step: ours against a plain torch loop of the same model, side by side.

    python benchmarks/step_time.py [--device cuda] [--rounds 5]

Prints a table: milliseconds per step and run (median over rounds, and their range), and ratios to
the plain loop. The contenders take turns within each round, so that a machine's drift hits all.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from nsbench.config.base import parse
from nsbench.data.datasets import Dataset
from nsbench.training.models.transformer import Transformer
from nsbench.training.models.transformer_stack import sinusoidal_positions
from nsbench.training.run import TrainSpec
from nsbench.training.step import TrainingStep

VOCABULARY, CLASSES, BATCH, STEPS, EXAMPLES = 118, 113, 256, 20, 2000
SPEC = {
    **{"task": "modular_addition", "variant": "benchmark", "arm": "benchmark", "target": None},
    **{"optimizer": {}, "training": {"batch_size": BATCH}, "noise": {}},
    **{"checkpoint_count": 1, "checkpoint_dtype": "float32"},
}


class Plain(nn.Module):
    """The same transformer from torch's own layers, dropout included."""

    def __init__(self, settings: Transformer, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, settings.d_model)
        layer = nn.TransformerEncoderLayer(
            settings.d_model,
            settings.n_heads,
            4 * settings.d_model,
            settings.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, settings.n_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(settings.d_model)
        self.head = nn.Linear(settings.d_model, CLASSES)
        self.register_buffer("positions", sinusoidal_positions(length, settings.d_model))
        self.scale = math.sqrt(settings.d_model)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.embedding(tokens) * self.scale + self.positions)
        return self.head(self.norm(x).mean(1))


def plain(settings: Transformer, length: int, device: torch.device) -> Callable[[int], None]:
    model = Plain(settings, length).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(CLASSES, (BATCH, length), device=device)
    labels = torch.randint(CLASSES, (BATCH,), device=device)

    def step(_: int) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), labels).backward()
        optimizer.step()

    return step


def ours(
    settings: Transformer, length: int, device: torch.device, n_runs: int = 1, regularised: bool = False
) -> Callable[[int], None]:
    tensors = {
        "train_tokens": torch.randint(CLASSES, (EXAMPLES, length)),
        "train_labels": torch.randint(CLASSES, (EXAMPLES,)),
        "symbols": torch.arange(CLASSES),
    }
    data, seeds = Dataset(tensors, VOCABULARY, CLASSES, ""), list(range(n_runs))
    arm = {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75} if regularised else {"kind": "baseline"}
    spec = parse(TrainSpec, {**SPEC, "arm_settings": arm, "model": settings, "seeds": seeds})
    stack = settings.build(VOCABULARY, CLASSES, seeds).to(device)
    return TrainingStep(stack, [spec] * n_runs, seeds, [data] * n_runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {device}, one thread, batch {BATCH}, d_model 128, 2 layers, 2 heads")
    print(f"{'tokens':>6} {'contender':<28} {'ms per step and run':>22} {'range':>16} {'ratio to plain':>15}")
    for length in (2, 4, 20):
        settings, still = Transformer(), Transformer(dropout=0.0)
        contenders = {
            "plain torch loop": (plain(settings, length, device), 1),
            "ours, a stack of 1": (ours(settings, length, device), 1),
            "ours, without dropout": (ours(still, length, device), 1),
            "ours, a stack of 5": (ours(settings, length, device, 5), 5),
            "ours, regularised": (ours(settings, length, device, regularised=True), 1),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for measured in [False] + [True] * options.rounds:
            for name, (step, n_runs) in contenders.items():
                begun = time.perf_counter()
                for number in range(STEPS):
                    step(number)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if measured:
                    times[name].append(1000 * (time.perf_counter() - begun) / STEPS / n_runs)
        base = statistics.median(times["plain torch loop"])
        for name, values in times.items():
            middle = statistics.median(values)
            span = f"{min(values):.1f} - {max(values):.1f}"
            print(f"{length:>6} {name:<28} {middle:>22.2f} {span:>16} {middle / base:>15.2f}")


if __name__ == "__main__":
    main()
