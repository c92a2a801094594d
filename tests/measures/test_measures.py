"""Measures against closed forms: known parities and sums, enumeration, and hand-made models."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.measures.scores import scores
from nsbench.measures.sensitivity import average_sensitivity
from nsbench.measures.stability import agreements, noise_stability
from nsbench.theory import resampling_correlation

SURE = 50.0
"""Logit of a certain answer: its probability is 1 in float64."""


def parity(secret: list[int]) -> object:
    return lambda tokens: SURE * F.one_hot(tokens[:, secret].sum(1) % 2, 2).double()


def modular_sum(modulus: int) -> object:
    return lambda tokens: SURE * F.one_hot(tokens.sum(1) % modulus, modulus).double()


def all_inputs(symbols: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


@pytest.mark.parametrize("same_symbol", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_stability_of_a_known_parity_is_its_closed_form(k: int, same_symbol: bool) -> None:
    data = SparseParity(n=6, k=k)
    tokens = all_inputs(2, 6)
    rhos = [-1.0, -0.5, 0.0, 0.5, 0.9, 1.0]
    found = noise_stability(
        parity(list(range(k))),
        tokens,
        rhos,
        2,
        torch.Generator().manual_seed(1),
        n_draws=400,
        same_symbol=same_symbol,
    )
    seen = 0
    for estimate in found:
        kappa = resampling_correlation(estimate.rho, 2, same_symbol)
        exact = data.target_value("noise_stability", estimate.reduction, kappa)
        # The bound on a mean of 64 x 400 numbers in [-1, 1], whatever the estimated error says.
        assert estimate.value == pytest.approx(exact, abs=4 / math.sqrt(len(tokens) * 400) + 1e-12)
        seen += 1
    assert seen == 3 * len(rhos)


@pytest.mark.parametrize("same_symbol", [True, False])
def test_stability_of_a_known_sum_is_its_closed_form(same_symbol: bool) -> None:
    data = ModularAddition(modulus=5, n_train=1, n_val=1, n_test=1)
    for estimate in noise_stability(
        modular_sum(5),
        all_inputs(5, 2),
        [-1.0, 0.0, 0.6],
        5,
        torch.Generator().manual_seed(2),
        n_draws=1000,
        same_symbol=same_symbol,
    ):
        kappa = resampling_correlation(estimate.rho, 5, same_symbol)
        exact = data.target_value("noise_stability", estimate.reduction, kappa)
        assert estimate.value == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(25_000))


def test_standard_error_is_that_of_inputs() -> None:
    """Half the inputs agree always, half never: the error is that of a fair coin per input."""
    n = 400

    def model(tokens: Tensor) -> Tensor:
        settled = tokens[:, 0] == 2
        answer = torch.where(settled, 0, tokens[:, 1] % 2)
        return SURE * F.one_hot(answer, 2).double()

    tokens = torch.tensor([[2, 0]] * (n // 2) + [[3, 0]] * (n // 2))
    estimate = next(
        e
        for e in noise_stability(
            model, tokens, [-1.0], torch.tensor([1]), torch.Generator(), fixed_ids=torch.tensor([2, 3])
        )
        if e.reduction == "decision"
    )
    assert estimate.value == 0.0
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(n - 1))


def test_reductions_are_dot_cosine_and_decision() -> None:
    clean, noisy = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    p, q = clean.double().softmax(-1), noisy.double().softmax(-1)
    found = agreements(p, q)
    assert found["probability_dot"].item() == pytest.approx((p * q).sum().item())
    assert found["probability_cosine"].item() == pytest.approx((p * q).sum().item() / (p.norm() * q.norm()).item())
    assert found["decision"].item() == -1.0
    assert "decision" not in agreements(torch.rand(2, 3), torch.rand(2, 3))


def each_position(tokens_NT: Tensor) -> Tensor:
    """Sure, at each position, of the token that stands there."""
    return SURE * F.one_hot(tokens_NT, 2).double()


@pytest.mark.parametrize(
    ("model", "symbols", "length", "exact"),
    [
        (parity([0]), 2, 5, 1.0),
        (parity([0, 1, 2]), 2, 5, 3.0),
        (lambda tokens: torch.zeros(len(tokens), 2), 2, 3, 0.0),
        (modular_sum(5), 5, 2, 2.0),
        # AND of two bits: each bit decides where the other is 1, so each has influence 1/2.
        (lambda tokens: SURE * F.one_hot(tokens.prod(1), 2).double(), 2, 2, 1.0),
        # A token decides its own position of four and no other: 4 positions x 1/4.
        (each_position, 2, 4, 1.0),
    ],
)
def test_average_sensitivity_by_enumeration(model: Any, symbols: int, length: int, exact: float) -> None:
    found = average_sensitivity(model, all_inputs(symbols, length), symbols, torch.Generator())
    assert {e.reduction: e.value for e in found} == {
        "decision": pytest.approx(exact),
        "probability_distance": pytest.approx(exact),
    }


# --- outputs at every position, and scores -----------------------------------------------------------------


def test_stability_of_outputs_at_every_position_is_the_mean_over_positions() -> None:
    """Each position agrees where its token stays: with probability (1 + kappa) / 2 = 0.875 at rho = 1/2."""
    tokens = all_inputs(2, 4).repeat(200, 1)
    found = {e.reduction: e for e in noise_stability(each_position, tokens, [0.5], 2, torch.Generator().manual_seed(0))}
    assert found["probability_dot"].value == pytest.approx(0.875, abs=0.01)
    assert found["decision"].value == pytest.approx(0.75, abs=0.02)
    # Four independent positions an input: its mean has a quarter of the variance of one.
    assert found["probability_dot"].standard_error == pytest.approx(
        math.sqrt(0.875 * 0.125 / 4 / len(tokens)), rel=0.05
    )


def test_scores_by_hand() -> None:
    """Three examples of two targets, answered by a model that is always 80% sure of class 1 of two."""
    logits = torch.tensor([math.log(0.2), math.log(0.8)])
    labels = torch.tensor([[1, 1], [1, 0], [0, 0]])
    counted = {"all": torch.ones(3, 2, dtype=torch.bool), "known": torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()}
    counted["unpadded"] = torch.zeros(3, 2, dtype=torch.bool)
    found = {
        (e.measure, e.reduction): e
        for e in scores(lambda tokens: logits.expand(*tokens.shape, 2), torch.zeros(3, 2).long(), labels, counted)
    }
    assert found["test_accuracy", "all"].value == pytest.approx(0.5)
    assert found["test_accuracy", "known"].value == 1.0
    assert found["test_loss", "all"].value == pytest.approx(-(math.log(0.2) + math.log(0.8)) / 2)
    assert found["test_loss", "known"].value == pytest.approx(-math.log(0.8))
    assert math.isnan(found["test_accuracy", "unpadded"].value)
    # Examples score 1, 1/2 and 0: the standard error of their mean.
    assert found["test_accuracy", "all"].standard_error == pytest.approx(0.5 / math.sqrt(3))
    assert found["test_accuracy", "known"].standard_error == 0.0


def test_scores_of_one_target_an_example_have_the_binomial_error() -> None:
    labels = torch.tensor([0] * 30 + [1] * 70)
    answer = torch.tensor([0.0, SURE]).double()
    every = {"all": torch.ones(100, dtype=torch.bool)}
    found = next(iter(scores(lambda tokens: answer.expand(len(tokens), 2), torch.zeros(100, 3).long(), labels, every)))
    assert (found.value, found.standard_error) == pytest.approx((0.7, math.sqrt(0.7 * 0.3 / 99)))
