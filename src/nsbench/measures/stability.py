"""Noise stability of a model under the token noise of Definition 6.1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from nsbench.arms.noise import resample_tokens
from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate


def probabilities(logits_NC: Tensor) -> Tensor:
    """Softmax over the classes, in float64."""
    return logits_NC.softmax(-1, dtype=torch.float64)


def agreements(clean_NC: Tensor, noisy_NC: Tensor) -> dict[str, Tensor]:
    """How much two outputs' probabilities agree, for each input: reduction -> (N), or (N, T) for outputs (N, T, C).

    probability_dot: <p, q>, Equation 6 without its sign. probability_cosine: <p, q> / (|p| |q|).
    decision: for two classes, the product of the +-1 decisions.
    """
    dot_N = torch.linalg.vecdot(clean_NC, noisy_NC)
    lengths_N = torch.linalg.vecdot(clean_NC, clean_NC) * torch.linalg.vecdot(noisy_NC, noisy_NC)
    found = {"probability_dot": dot_N, "probability_cosine": dot_N / lengths_N.sqrt()}
    if clean_NC.shape[-1] == 2:
        same_N = clean_NC.argmax(-1) == noisy_NC.argmax(-1)
        found["decision"] = 2.0 * same_N - 1.0
    return found


def noise_stability(
    model: Callable[[Tensor], Tensor],
    tokens_NT: Tensor,
    rhos: Iterable[float],
    symbols: int | Tensor,
    generator: torch.Generator,
    *,
    n_draws: int = 1,
    same_symbol: bool = True,
    fixed_ids: Tensor | None = None,
) -> Iterator[Estimate]:
    """E <M(X), M(Y)> over inputs and noise, for each rho and each reduction of `agreements`.

    model: tokens (N, T) to logits (N, C), or (N, T, C): then Definition 6.1 is applied at each
    position and an input's value is the mean over them. n_draws: noisy copies of each input, averaged first.
    generator, symbols, same_symbol and fixed_ids as in `nsbench.arms.noise.resample_tokens`.
    """
    clean_NC = probabilities(model(tokens_NT))
    for rho in rhos:
        sums: dict[str, Tensor] = {}
        for _ in range(n_draws):
            noisy_NT = resample_tokens(tokens_NT, rho, symbols, generator, same_symbol=same_symbol, fixed_ids=fixed_ids)
            for reduction, value_N in agreements(clean_NC, probabilities(model(noisy_NT))).items():
                per_input_N = value_N.reshape(len(tokens_NT), -1).mean(1)
                sums[reduction] = sums.get(reduction, 0.0) + per_input_N / n_draws
        for reduction, value_N in sums.items():
            yield estimate("noise_stability", reduction, rho, value_N, n_draws)
