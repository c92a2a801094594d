"""Noise stability of a model under the token noise of Definition 6.1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate
from nsbench.measures.outputs import CleanOutputs, passes

NoisyCopy = Callable[[Tensor, float, torch.Generator], Tensor]


def noise_stability(
    model: Callable[[Tensor], Tensor],
    tokens_NT: Tensor,
    rhos: Iterable[float],
    noisy_copy: NoisyCopy,
    generator: torch.Generator,
    *,
    n_draws: int = 1,
) -> Iterator[Estimate]:
    """E <M(X), M(Y)> over inputs and noise, for each rho. Reductions, of the softmax probabilities p and q:

    probability_dot: <p, q>, Equation 6 without its sign. probability_cosine: <p, q> / (|p| |q|).
    decision: for two classes, the product of the +-1 decisions.

    model: tokens (N, T), or patches (N, T, P), to logits (N, C), or (N, T, C), on the tokens' device; of the latter
    Definition 6.1 is applied at each position and an input's value is the mean over them. n_draws: noisy copies of each
    input, averaged first. noisy_copy: (tokens, rho, generator) -> Y, on the generator's device. A copy that no token
    has changed in is not computed.
    """
    clean = CleanOutputs(model(tokens_NT))
    binary = clean.probabilities_NTC.shape[-1] == 2
    drawn_NT, n_inputs = tokens_NT.to(generator.device), len(tokens_NT)
    for rho in rhos:
        noisy_MT = torch.cat([noisy_copy(drawn_NT, rho, generator) for _ in range(n_draws)])
        changed = (noisy_MT != torch.cat([drawn_NT] * n_draws)).flatten(1).any(1).nonzero().squeeze(1)
        values_AM = clean.unchanged().repeat(1, n_draws)
        decisions_M = torch.ones_like(values_AM[0])
        for cut in passes(len(changed), tokens_NT.device):
            at, rows = changed[cut], changed[cut] % n_inputs
            logits = model(noisy_MT[at].to(tokens_NT.device))
            values_AM[:, at] = clean.agreements(logits, rows)
            if binary:
                decisions_M[at] = 1 - 2 * clean.n_changed(logits, rows) / clean.n_positions
        found = dict(zip(("probability_dot", "probability_cosine"), values_AM, strict=True))
        for reduction, value_M in {**found, **({"decision": decisions_M} if binary else {})}.items():
            yield estimate("noise_stability", reduction, rho, value_M.view(n_draws, -1).mean(0), n_draws)
