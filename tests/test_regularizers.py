"""Definition 6.1 against exhaustive enumeration, and the public API in a loop of one's own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nsbench
from nsbench.regularizers import NoiseStabilityRegularizer, agreement

U, LENGTH, CLASSES = 3, 2, 4


class Table(nn.Module):
    """A model that is a table: one row of logits for each of the U^2 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(U**LENGTH, CLASSES, generator=torch.Generator().manual_seed(1)))
        self.calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return self.logits[tokens[:, 0] * U + tokens[:, 1]]


def exact(model: Table, x: tuple[int, int], rho: float, same_symbol: bool) -> float:
    """E <M(x), M(Y)> by summing over all Y with their chances."""
    keep = (1 + rho) / 2
    probabilities = model.logits.detach().double().softmax(-1)
    total = 0.0
    for y in itertools.product(range(U), repeat=LENGTH):
        chance = 1.0
        for a, b in zip(x, y, strict=True):
            if same_symbol:
                chance *= keep * (a == b) + (1 - keep) / U
            else:
                chance *= keep if a == b else (1 - keep) / (U - 1)
        total += chance * float(probabilities[x[0] * U + x[1]] @ probabilities[y[0] * U + y[1]])
    return total


@pytest.mark.parametrize("orientation", [0, 1])
@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("same_symbol", [True, False])
def test_mean_over_draws_agrees_with_enumeration(rho: float, orientation: int, same_symbol: bool) -> None:
    model, gamma, repeats = Table(), 0.75, 4000
    inputs = list(itertools.product(range(U), repeat=LENGTH))
    tokens = torch.tensor(inputs).repeat(repeats, 1)
    regularizer = NoiseStabilityRegularizer(rho, gamma, orientation, symbols=U, same_symbol=same_symbol)
    value = regularizer(model, tokens, generator=torch.Generator().manual_seed(2)).item()
    expected = sum(exact(model, x, rho, same_symbol) for x in inputs) / len(inputs)
    # A dot product of probabilities lies in [0, 1], so one draw has a standard deviation of at most 1/2.
    assert value == pytest.approx((-1) ** orientation * gamma * expected, abs=4 * gamma * 0.5 / math.sqrt(len(tokens)))
    assert value * (-1) ** orientation > 0


def test_rho_one_is_the_squared_norm() -> None:
    model, tokens = Table(), torch.tensor([[0, 1], [2, 2]])
    value = NoiseStabilityRegularizer(1.0, 1.0, symbols=U)(model, tokens)
    assert torch.allclose(value, -model(tokens).softmax(-1).square().sum(-1).mean())


def test_logits_in_hand_save_the_clean_pass() -> None:
    model, tokens = Table(), torch.tensor([[0, 1], [2, 2]])
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=U, n_draws=3)
    with_pass = regularizer(model, tokens, generator=torch.Generator().manual_seed(3))
    assert model.calls == 4
    clean = model(tokens)
    model.calls = 0
    without = regularizer(model, tokens, generator=torch.Generator().manual_seed(3), clean_logits=clean)
    assert model.calls == 3
    assert torch.equal(with_pass, without)


@pytest.mark.parametrize("gradient", ["both", "clean", "noisy"])
def test_gradient_flows_through_the_branches_asked_for(gradient: str) -> None:
    clean = torch.randn(5, CLASSES, requires_grad=True)
    noisy = torch.randn(5, CLASSES, requires_grad=True)
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=U, gradient=gradient)
    regularizer.penalty(clean, noisy).sum().backward()
    assert (clean.grad is not None and bool(clean.grad.any())) == (gradient != "noisy")
    assert (noisy.grad is not None and bool(noisy.grad.any())) == (gradient != "clean")


def test_per_position_targets_apply_equation_6_at_each_place() -> None:
    clean, noisy = torch.randn(2, 3, CLASSES), torch.randn(2, 3, CLASSES)
    found = agreement(clean, noisy)
    assert found.shape == (2, 3)
    assert torch.allclose(found[1, 2], clean[1, 2].softmax(0) @ noisy[1, 2].softmax(0))


def test_drops_into_a_loop_of_ones_own() -> None:
    """README's ten lines: a torch model of any make, trained with and without the regulariser."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(16, 5))
    regularizer = nsbench.NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    labels = tokens[:, 0]
    first = last = None
    for _ in range(200):
        logits = model(tokens)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        (loss + regularizer(model, tokens, clean_logits=logits)).backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < first / 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"rho": 1.5}, "rho = 1.5"),
        ({"gamma": -1.0}, "gamma = -1.0"),
        ({"orientation": 2}, "orientation = 2"),
        ({"gradient": "none"}, "gradient = 'none'"),
        ({"output": "odds"}, "output = 'odds'"),
        ({"n_draws": 0}, "n_draws = 0"),
    ],
)
def test_bad_settings_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        NoiseStabilityRegularizer(**{"rho": 0.25, "gamma": 0.75, "symbols": 3, **arguments})
