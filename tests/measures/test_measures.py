"""Measures against closed forms: known parities and sums, enumeration, and hand-made models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.shape import Shape
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.measures import outputs
from nsbench.measures.outputs import CleanOutputs
from nsbench.measures.scores import scores
from nsbench.measures.sensitivity import average_sensitivity
from nsbench.measures.stability import NoisyCopy, noise_stability
from nsbench.perturbations.tokens import resample_tokens
from nsbench.theory import resampling_correlation
from nsbench.training.models.transformer import Transformer
from tests.measures.resampled_functions import all_inputs

SURE = 50.0
"""Logit of a certain answer: its probability is 1 in float64."""


def parity(secret: list[int]) -> object:
    return lambda tokens: SURE * F.one_hot(tokens[:, secret].sum(1) % 2, 2).double()


def modular_sum(modulus: int) -> object:
    return lambda tokens: SURE * F.one_hot(tokens.sum(1) % modulus, modulus).double()


def redrawn(symbols: int | Tensor, **options: Any) -> NoisyCopy:
    return lambda tokens, rho, generator: resample_tokens(tokens, rho, symbols, generator, **options)


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
        redrawn(2, same_symbol=same_symbol),
        torch.Generator().manual_seed(1),
        n_draws=400,
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
        redrawn(5, same_symbol=same_symbol),
        torch.Generator().manual_seed(2),
        n_draws=1000,
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
            model, tokens, [-1.0], redrawn(torch.tensor([1]), fixed_ids=torch.tensor([2, 3])), torch.Generator()
        )
        if e.reduction == "decision"
    )
    assert estimate.value == 0.0
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(n - 1))


def plainly(
    model: Any, tokens: Tensor, rhos: list[float], symbols: Tensor, generator: torch.Generator, n_draws: int
) -> dict[tuple[str, str, float], Tensor]:
    """Both measures by their definitions, all at once in float64: (measure, reduction, rho) -> a value an input."""
    found, n_inputs = {}, len(tokens)
    p = model(tokens).softmax(-1, dtype=torch.float64)
    for rho in rhos:
        dots, cosines = [], []
        for _ in range(n_draws):
            q = model(resample_tokens(tokens, rho, symbols, generator)).softmax(-1, dtype=torch.float64)
            dots.append((p * q).sum(-1).view(n_inputs, -1).mean(1))
            cosines.append(F.cosine_similarity(p, q, dim=-1).view(n_inputs, -1).mean(1))
        found["noise_stability", "probability_dot", rho] = torch.stack(dots).mean(0)
        found["noise_stability", "probability_cosine", rho] = torch.stack(cosines).mean(0)
    changed = resample_tokens(tokens, -1.0, symbols, generator, same_symbol=False)
    decision, distance = torch.zeros(2, n_inputs, dtype=torch.float64)
    for position in range(tokens.shape[1]):
        one = tokens.clone()
        one[:, position] = changed[:, position]
        q = model(one).softmax(-1, dtype=torch.float64)
        decision += (p.argmax(-1) != q.argmax(-1)).double().view(n_inputs, -1).mean(1)
        distance += ((p - q).square().sum(-1) / 2).view(n_inputs, -1).mean(1)
    found["average_sensitivity", "decision", math.nan] = decision
    return {**found, ("average_sensitivity", "probability_distance", math.nan): distance}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_real_models_are_measured_as_by_the_definition(
    pooling: str, compiled: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks, without copies that have not changed and without outputs before the token that was replaced."""
    monkeypatch.setattr(outputs, "has_numba", lambda: compiled)
    monkeypatch.setattr(outputs, "BLOCK_BYTES", 1000)
    for name in ("INPUTS", "GPU_INPUTS"):
        monkeypatch.setattr(outputs, name, 16)
    settings = Transformer(d_model=16, n_heads=2, mask="causal", pooling=pooling, embedding_scale="none")
    stack = settings.build(Shape(4, 7, 7), seeds=[0])
    stack.load_run(0, {name: 5 * weight for name, weight in stack.run_weights(0).items()})
    stack.to(device)
    passed = []

    @torch.no_grad()
    def model(tokens: Tensor) -> Tensor:
        passed.append(tokens)
        return stack(tokens.to(device)[None])[0].to(tokens.device)

    tokens, symbols, rhos = torch.randint(7, (50, 4)), torch.arange(7), [-0.5, 0.9, 1.0]
    exact = plainly(model, tokens, rhos, symbols, torch.Generator().manual_seed(3), 2)
    passed.clear()
    generator = torch.Generator().manual_seed(3)
    there = tokens.to(device)
    found = [*noise_stability(model, there, rhos, redrawn(symbols), generator, n_draws=2)]
    assert max(map(len, passed[1:])) == 16
    # At rho 0.9 four in five copies are as they were, at 1 all.
    assert sum(map(len, passed[1:])) < 150
    found += average_sensitivity(model, there, symbols, generator, causal=True)
    for one, (key, per_input) in zip(found, exact.items(), strict=True):
        assert (one.measure, one.reduction, str(one.rho)) == (*key[:2], str(key[2]))
        assert one.value == pytest.approx(per_input.mean().item(), rel=1e-6)
        assert one.standard_error == pytest.approx(per_input.std().item() / math.sqrt(50), rel=1e-5, abs=1e-12)


def test_compiled_comparisons_are_those_of_softmax_in_float64() -> None:
    """Of classes that fill vectors and some more, of logits far apart; NaN where one is."""
    clean, other = 30 * torch.randn(2, 6, 3, 37, generator=torch.Generator().manual_seed(0))
    other[2:5] = clean[2:5] + 0.01 * other[2:5]
    other[5, 0, 36] = math.nan
    found, exact = (
        torch.stack([*kept.agreements(logits, torch.arange(6)), kept.distances(logits, torch.arange(6), first=1)])
        for kept, logits in ((CleanOutputs(clean), other), (CleanOutputs(clean.double()), other.double()))
    )
    assert exact[:2, 5].isnan().all()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-7, equal_nan=True)


def test_outputs_are_compared_where_they_are() -> None:
    """Torch refuses what mixes devices, on the one without numbers too; rows may be named on the CPU."""
    logits, rows = torch.empty(6, 3, 5, device="meta"), torch.arange(4)
    clean = CleanOutputs(logits)
    for found in (clean.unchanged(), clean.agreements(logits[:4], rows)):
        assert found.device.type == "meta"
    assert clean.distances(logits[:4], rows, 1).device.type == "meta"
    assert clean.n_changed(logits[:4], rows, 1).device.type == "meta"


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
    found = {
        e.reduction: e
        for e in noise_stability(each_position, tokens, [0.5], redrawn(2), torch.Generator().manual_seed(0))
    }
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
