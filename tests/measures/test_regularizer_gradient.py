"""The regulariser's share of the gradient against a plain autograd loop, and against its closed form."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nsbench.config.variant import Noise
from nsbench.data.datasets import read_dataset
from nsbench.measures import MEASURES, Estimate, MeasureSettings
from nsbench.measures.regularizer_gradient import regularizer_gradient
from nsbench.perturbations.tokens import resample_tokens
from nsbench.theory import confidence_gradients
from tests.conftest import make_dataset, train_spec

N_INPUTS, N_DRAWS, RHO = 5, 3, 0.25


def by_autograd(stack: nn.Module, tokens: Tensor, labels: Tensor, noisy: list[Tensor], noise: Noise) -> list[float]:
    """Norm ratio and cosine: example by example and target by target, and backward() for each."""
    gradients = []
    for part in ("term", "loss"):
        stack.zero_grad()
        for example, copy in itertools.product(range(len(tokens)), noisy):
            clean, other = (stack(ids[None, None, example])[0, 0] for ids in (tokens, copy))
            p, q = clean.softmax(-1), other.softmax(-1)
            q = q.detach() if noise.gradient == "clean" else q
            right = torch.nn.functional.one_hot(labels[example], p.shape[-1])
            value = -(p * q).sum(-1) if part == "term" else -(right * clean.log_softmax(-1)).sum(-1)
            (value.mean() / len(tokens) / len(noisy)).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in stack.parameters()]))
    term, loss = gradients
    return [float(term.norm() / loss.norm()), float(torch.cosine_similarity(term, loss, 0))]


@pytest.mark.parametrize(
    ("task", "gradient"), [("modular_addition", "both"), ("sparse_parity", "clean"), ("next_token", "both")]
)
def test_it_is_what_a_plain_loop_gives(tmp_path: Path, task: str, gradient: str) -> None:
    data, spec = read_dataset(make_dataset(tmp_path, task), 3), train_spec(task)
    stack = spec.model.build(data.shape, [3])
    for weight in stack.parameters():
        weight.detach().mul_(3)
    noise = Noise(gradient=gradient, positions="task", same_symbol=False)
    rhos = [0.05, RHO, 0.5]
    settings = MeasureSettings(rho=[RHO, 0.5], n_inputs=N_INPUTS, n_draws=N_DRAWS, noise=noise)
    model = SimpleNamespace(stack=stack, device=torch.device("cpu"))
    measured = MEASURES["regularizer_gradient"](model, data, torch.Generator().manual_seed(1), settings)
    found: dict[Any, Estimate] = {(one.rho, one.reduction): one for one in measured}
    assert list(found) == list(itertools.product(rhos, ("norm_ratio", "cosine")))

    tokens, labels = data["train_tokens"][:N_INPUTS], data["train_labels"][:N_INPUTS]
    generator = torch.Generator().manual_seed(1)
    for rho in rhos:
        noisy = [
            resample_tokens(tokens, rho, data["symbols"], generator, same_symbol=False, fixed_ids=data.fixed_ids(noise))
            for _ in range(N_DRAWS)
        ]
        expected = by_autograd(stack, tokens, labels, noisy, noise)
        assert [found[rho, name].value for name in ("norm_ratio", "cosine")] == pytest.approx(expected, rel=1e-3)
        left_out = [by_autograd(stack, tokens, labels, noisy[:out] + noisy[out + 1 :], noise) for out in range(N_DRAWS)]
        for name, values in zip(("norm_ratio", "cosine"), zip(*left_out, strict=True), strict=True):
            one, mean = found[rho, name], sum(values) / N_DRAWS
            error = math.sqrt((N_DRAWS - 1) / N_DRAWS * sum((value - mean) ** 2 for value in values))
            assert one.standard_error == pytest.approx(error, rel=0.02, abs=1e-5)
            assert (one.n_inputs, one.n_draws) == (N_INPUTS, N_DRAWS)


class OneNumber(nn.Module):
    """A model whose one weight is the logit of class 0, all others being 0."""

    def __init__(self, logit: float, n_classes: int) -> None:
        super().__init__()
        self.logit, self.n_classes = nn.Parameter(torch.tensor([logit], dtype=torch.float64)), n_classes

    def forward(self, tokens: Tensor) -> Tensor:
        first = self.logit.expand(*tokens.shape[:2], 1)
        return torch.cat([first, first.new_zeros(*tokens.shape[:2], self.n_classes - 1)], -1)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_a_reward_of_confidence_has_the_share_of_the_closed_form(q: float) -> None:
    stack = OneNumber(math.log(q * 4 / (1 - q)), 5)
    tokens, labels = torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    ratio, cosine = regularizer_gradient(
        stack, tokens, labels, [1.0], lambda tokens, *_: tokens, torch.Generator(), Noise(), n_draws=1
    )
    of_loss, of_term = confidence_gradients(q, 5, 1.0, 1.0, 2, 5)
    assert ratio.value == pytest.approx(abs(of_term / of_loss))
    assert cosine.value == pytest.approx(math.copysign(1, of_term / of_loss))
    assert math.isnan(ratio.standard_error)
