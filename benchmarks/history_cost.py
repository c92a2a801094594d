"""What the columns on outputs under noise cost beside training: python benchmarks/history_cost.py [--rounds 15].

For each case the processor time of making them at one evaluation, less that of an accuracy and of Definition 6.1's dot
product, as a share of the training steps between two evaluations (forward and backward passes of a baseline;
regularised steps take twice as long, so the share of those is half). One thread; medians over rounds in which the
contenders take turns.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
import torch.nn.functional as F

from nsbench.config.shape import Shape
from nsbench.regularizer.stability import agreement
from nsbench.training.models.transformer import Transformer
from nsbench.training.models.transformer_stack import TransformerStack
from nsbench.training.validation import _noise_scores, _under_noise

NARROW = {"d_model": 32, "n_heads": 4, "dropout": 0.0}
TEXT = {"d_model": 30, "n_layers": 4, "n_heads": 6, "mask": "causal", "pooling": "none"}
CASES = {
    "addition K = 113, every 20": (Transformer(), 118, 113, 2, 256, 20),
    "addition K = 47, every 25": (Transformer(d_model=64), 52, 47, 2, 256, 25),
    "parity n = 20, every 10": (Transformer(**NARROW), 2, 2, 20, 256, 10),
    "text, every 25": (Transformer(**TEXT), 500, 500, 20, 200, 25),
    "text, every 50": (Transformer(**TEXT), 500, 500, 20, 200, 50),
}
"""Transformer, vocabulary, classes, tokens, batch, and steps between evaluations; validation has 1,000 examples."""
N_VALIDATION = 1000


def _chunks(clean: torch.Tensor, noisy: torch.Tensor, size: int) -> zip[tuple[torch.Tensor, torch.Tensor]]:
    return zip(clean.split(size, 1), noisy.split(size, 1), strict=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| case | step, ms | columns, ms | share of training |\n|---|---|---|---|")
    for name, (model, vocabulary, n_classes, length, batch, every) in CASES.items():
        stack = TransformerStack(model, Shape(length, vocabulary, n_classes), [0])
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(vocabulary, (1, N_VALIDATION, length), generator=generator)
        with torch.no_grad():
            clean, noisy = stack(tokens), stack(tokens.roll(1, 1))
        labels = torch.randint(n_classes, clean[:, :batch].shape[:-1], generator=generator)

        def step(stack: TransformerStack = stack, tokens: torch.Tensor = tokens[:, :batch], labels=labels) -> None:
            F.cross_entropy(stack(tokens).flatten(0, -2), labels.flatten()).backward()

        def columns(stack: TransformerStack = stack, clean=clean, noisy=noisy, chunk: int = batch) -> None:
            with torch.no_grad():
                kept = [_under_noise(*pair, "probabilities") for pair in _chunks(clean, noisy, chunk)]
                _noise_scores({name: torch.cat([part[name] for part in kept], 1) for name in kept[0]}, clean.shape[-1])
                torch.stack([weight.double().square().flatten(1).sum(1) for weight in stack.parameters()]).sum(0).sqrt()

        def dots(clean=clean, noisy=noisy, chunk: int = batch) -> None:
            with torch.no_grad():
                for one, other in _chunks(clean, noisy, chunk):
                    agreement(one, other).double().mean()
                    one.argmax(-1)  # an accuracy needs it too

        took = {work: [] for work in (step, columns, dots)}
        for work in (*took, *list(took) * rounds):
            begun = time.process_time()
            work()
            took[work].append(1e3 * (time.process_time() - begun))
        step_ms, columns_ms, dots_ms = (median(times[1:]) for times in took.values())
        share = (columns_ms - dots_ms) / (every * step_ms)
        print(f"| {name} | {step_ms:.1f} | {columns_ms - dots_ms:.1f} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
