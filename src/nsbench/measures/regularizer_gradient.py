"""How large the regulariser's gradient is beside that of the cross entropy, at a checkpoint (docs/effect_size.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.variant import Noise
from nsbench.measures.base import Estimate
from nsbench.measures.stability import NoisyCopy
from nsbench.regularizer.stability import stability_term
from nsbench.training.models.stack import Stack


def regularizer_gradient(
    stack: Stack,
    tokens_NT: Tensor,
    labels_N: Tensor,
    rhos: Iterable[float],
    noisy_copy: NoisyCopy,
    generator: torch.Generator,
    noise: Noise,
    *,
    n_draws: int = 1,
) -> Iterator[Estimate]:
    """The gradients by all weights of R (Definition 6.1, S = 1), averaged over draws, and of the mean cross entropy, of
    one batch without dropout, for each rho. Reductions:

    norm_ratio: |grad R| / |grad CE|. The regulariser's share of the gradient is gamma times it.
    cosine: of the two, above 0 where the regulariser pulls as the cross entropy does; with S = 0 its negative.

    stack: one model. tokens_NT, labels_N (N, or N, T): the batch, on the stack's device. Standard errors are those of
    the draws for this batch, by leaving one out; NaN with one. noise: its `gradient` and `output` count.
    noisy_copy: as in `measures.stability`.
    """
    term, weights = stability_term(1.0, gradient=noise.gradient, output=noise.output), list(stack.parameters())
    drawn_NT = tokens_NT.to(generator.device)

    def gradient(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, weights, materialize_grads=True)
        return torch.cat([part.double().flatten() for part in found])

    with torch.enable_grad():
        loss_P = gradient(F.cross_entropy(stack(tokens_NT[None])[0].flatten(0, -2), labels_N.flatten()))
        for rho in rhos:
            draws = []
            for _ in range(n_draws):
                noisy_NT = noisy_copy(drawn_NT, rho, generator)
                logits = [stack(tokens[None])[0] for tokens in (tokens_NT, noisy_NT.to(tokens_NT.device))]
                draws.append(gradient(term.strength * term.penalty(*logits, labels_N).mean()))
            yield from _compared(rho, loss_P, torch.stack(draws), len(tokens_NT))


def _compared(rho: float, loss_P: Tensor, draws_DP: Tensor, n_inputs: int) -> Iterator[Estimate]:
    n_draws, norm = len(draws_DP), loss_P.norm()
    products_DD, along_D = draws_DP @ draws_DP.T, draws_DP @ loss_P / norm

    def values(kept: list[int]) -> Tensor:
        """The ratio of norms and the cosine, of the mean gradient of some draws."""
        size, along = products_DD[kept][:, kept].mean().sqrt(), along_D[kept].mean()
        return torch.stack([size / norm, along / size])

    found = values(list(range(n_draws)))
    error = torch.full((2,), math.nan)
    if n_draws > 1:
        left_out = torch.stack([values([one for one in range(n_draws) if one != out]) for out in range(n_draws)])
        error = ((n_draws - 1) * left_out.var(0, correction=0)).sqrt()
    for reduction, value, of_draws in zip(("norm_ratio", "cosine"), found.tolist(), error.tolist(), strict=True):
        yield Estimate("regularizer_gradient", reduction, rho, value, of_draws, n_inputs, n_draws)
