"""What a history says of outputs under noise, against enumeration of every validation example and class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.training.models import Transformer
from nsbench.training.models.stack import Stack
from nsbench.training.validation import Validation
from tests.conftest import DATA, MODEL, make_dataset

SEEDS = [3, 4]


def stack_of(task: str, data: Dataset, scale: float = 20.0) -> Stack:
    """Two random models of a task whose decisions differ between examples."""
    settings = Transformer(d_model=8, n_heads=2, **MODEL.get(task, {}))
    stack = settings.build(data.shape, SEEDS)
    with torch.no_grad():
        stack.weights["head_weight"] *= scale
        # Centred, so that no class wins everywhere.
        logits = stack(data["val_tokens"].expand(len(SEEDS), *data["val_tokens"].shape))
        stack.weights["head_bias"] -= logits.flatten(1, -2).mean(1)
    return stack


def scores(validation: Validation, stack: Any) -> list[dict[str, float]]:
    """What a validation says of each run."""
    columns = {name: column_R.tolist() for name, column_R in validation(stack).items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def enumerated(stack: Stack, run: int, validation: Validation, output: str) -> dict[str, float]:
    """The columns of one run by plain loops over targets and classes."""
    clean, noisy = (
        stack(tokens)[run].detach().double().reshape(-1, stack.weight("head.bias").shape[-1]).tolist()
        for tokens in (validation.tokens_RNT, validation.noisy_RNT)
    )
    dots, cosines, entropies, decisions = [], [], [], []
    for pair in zip(clean, noisy, strict=True):
        shares = []
        for logits in pair:
            weights = [math.exp(value - max(logits)) for value in logits]
            shares.append([weight / sum(weights) for weight in weights])
        first, second = shares if output == "probabilities" else pair
        dots.append(sum(a * b for a, b in zip(first, second, strict=True)))
        cosines.append(dots[-1] / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second)))
        entropies.append(-sum(p * math.log(p) for p in shares[0] if p > 0))
        decisions.append(tuple(logits.index(max(logits)) for logits in pair))
    n = len(decisions)
    agreement = sum(a == b for a, b in decisions) / n
    by_chance = sum(
        sum(a == c for a, _ in decisions) * sum(b == c for _, b in decisions) / n**2 for c in range(len(clean[0]))
    )
    squares = sum(float(value) ** 2 for weight in stack.run_weights(run).values() for value in weight.flatten())
    return {
        "stability": sum(dots) / n,
        "stability_cosine": sum(cosines) / n,
        "decision_agreement": agreement,
        "decision_agreement_corrected": (agreement - by_chance) / (1 - by_chance),
        "output_entropy": sum(entropies) / n,
        "weight_norm": math.sqrt(squares),
    }


@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("task", sorted(DATA))
def test_columns_under_noise_equal_an_enumeration(task: str, output: str, tmp_path: Path) -> None:
    path = make_dataset(tmp_path, task)
    datasets = [read_dataset(path, seed) for seed in SEEDS]
    stack = stack_of(task, datasets[0])
    validation = Validation(datasets, SEEDS, Noise(output=output), chunk=7, device=torch.device("cpu"))
    for run, found in enumerate(scores(validation, stack)):
        expected = enumerated(stack, run, validation, output)
        assert 0 < expected["decision_agreement"] < 1
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_two_classes_in_balance_correct_for_chance_as_signs_do() -> None:
    """Kappa is then the mean product of +-1 decisions, which for a parity falls to correlation^k."""
    tokens = torch.cartesian_prod(*[torch.arange(2)] * 4)
    tensors = {"val_tokens": tokens, "val_labels": tokens.sum(1) % 2, "symbols": torch.arange(2)}
    data = Dataset(tensors, 2, 2, "")
    validation = Validation([data], [0], Noise(), chunk=5, device=torch.device("cpu"))
    validation.noisy_RNT = tokens.flip(1)[None]  # every parity stays, so every decision of the truth does

    class Parity(torch.nn.Module):
        def forward(self, tokens_RBT: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(tokens_RBT.sum(-1) % 2, 2) * 9.0

    model = Parity()
    model.weight = torch.nn.Parameter(torch.full((1, 4), 2.0))
    (found,) = scores(validation, model)
    assert (found["decision_agreement"], found["decision_agreement_corrected"], found["weight_norm"]) == (1.0, 1.0, 4.0)
    validation.noisy_RNT = torch.cat([1 - tokens[:, :1], tokens[:, 1:]], 1)[None]  # every parity turns
    (found,) = scores(validation, model)
    assert (found["decision_agreement"], found["decision_agreement_corrected"]) == (0.0, -1.0)


def test_a_constant_output_agrees_always_and_beyond_chance_not_at_all(tmp_path: Path) -> None:
    data = read_dataset(make_dataset(tmp_path), 3)
    stack = stack_of("modular_addition", data, scale=0.0)
    with torch.no_grad():
        stack.weights["head_bias"][:, 1] += 1.0
    validation = Validation([data, data], SEEDS, Noise(), chunk=100, device=torch.device("cpu"))
    for found in scores(validation, stack):
        assert found["decision_agreement"] == 1.0
        assert found["stability_cosine"] == pytest.approx(1.0)
        assert math.isnan(found["decision_agreement_corrected"])
        assert math.copysign(1, found["decision_agreement_corrected"]) == 1
