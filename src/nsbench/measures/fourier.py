"""Fourier weight by degree of a model on uniform inputs, beside the bounds on its tail that section 4 compares.

Suffixes: N input, n token, C output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsbench.measures.base import Estimate
from nsbench.theory.concentration import tail_mass_bound_from_influence, tail_mass_bound_from_stability
from nsbench.theory.fourier import degree_kernel, weights_by_degree

Array = NDArray[np.float64]
MOST_INPUTS = 2**16
"""Of as many inputs all are computed; where there are more, SAMPLES are drawn."""
SAMPLES, ROWS, CHANGES = 4096, 256, 8
"""Inputs, those compared with all at a time, and tokens of each that are changed, one by one, for the influence."""
MOST_BOUNDED = 5
"""The last degree whose tail is given, and bounded."""
MOST_NOISE = 0.2
"""Degrees are estimated up to the last whose error, sqrt(2 C(n, j) (U - 1)^j) / SAMPLES of E[f^2] for an f without
weight there, is at most this."""


def fourier_weight(
    f: Callable[[Tensor], Array],
    n_tokens: int,
    n_symbols: int,
    correlations: dict[float, float],
    generator: torch.Generator,
) -> Iterator[Estimate]:
    """Of f on uniform inputs of n tokens with U symbols; all of it exact, with the standard error 0, for up to 2^16
    inputs, and otherwise estimated from 4,096, with that of independent inputs. Reductions, for a degree j:

    degree_j: W_j, the weight of degree j, of `nsbench.theory.fourier`.
    tail_j: the share of E[f^2] in degrees >= j, for j up to 5.
    influence_bound_j: its bound I / (j E[f^2]) from the total influence.
    stability_bound_j: its bound from the stability under noise of each correlation (Lemma 6).

    f: symbols as 0 ... U - 1, (N, n), to outputs (N, C), float64. correlations: rho of the noise -> kappa, in [0, 1).
    """
    if n_symbols**n_tokens <= MOST_INPUTS:
        yield from _exact(f, n_tokens, n_symbols, correlations)
    else:
        yield from _sampled(f, n_tokens, n_symbols, correlations, generator)


def _exact(
    f: Callable[[Tensor], Array], n_tokens: int, n_symbols: int, correlations: dict[float, float]
) -> Iterator[Estimate]:
    inputs_Nn = torch.cartesian_prod(*[torch.arange(n_symbols)] * n_tokens).view(-1, n_tokens)
    weights = weights_by_degree(f(inputs_Nn).reshape(*[n_symbols] * n_tokens, -1), n_tokens)
    norm2, degrees = weights.sum(), np.arange(n_tokens + 1)

    def given(reduction: str, value: float, rho: float = math.nan, correlation: float = math.nan) -> Estimate:
        return Estimate("fourier_weight", reduction, rho, float(value), 0.0, len(inputs_Nn), correlation=correlation)

    for j in degrees:
        yield given(f"degree_{j}", weights[j])
    for j in degrees[1 : MOST_BOUNDED + 1] if norm2 > 0 else ():
        yield given(f"tail_{j}", weights[j:].sum() / norm2)
        influence = (degrees * weights).sum()
        yield given(f"influence_bound_{j}", tail_mass_bound_from_influence(influence, norm2, j))
        for rho, kappa in correlations.items():
            bound = tail_mass_bound_from_stability((kappa**degrees * weights).sum(), norm2, kappa, j)
            yield given(f"stability_bound_{j}", bound, rho, kappa)


def _sampled(
    f: Callable[[Tensor], Array],
    n_tokens: int,
    n_symbols: int,
    correlations: dict[float, float],
    generator: torch.Generator,
) -> Iterator[Estimate]:
    shape = (SAMPLES, n_tokens)
    inputs_Nn, others_Nn = torch.randint(n_symbols, (2, *shape), generator=generator).unbind()
    f_NC = f(inputs_Nn)
    squares_N = (f_NC**2).sum(1)
    degrees = list(
        itertools.takewhile(
            lambda j: 2 * math.comb(n_tokens, j) * (n_symbols - 1) ** j <= (MOST_NOISE * SAMPLES) ** 2,
            range(n_tokens + 1),
        )
    )
    kernels = np.stack([degree_kernel(n_tokens, n_symbols, j) for j in degrees], 1)
    # Of each input: its mean over the others. The error of a mean over pairs is twice that over inputs; where f has no
    # weight it is less, by up to a root of 2.
    parts_NJ = _by_agreement(inputs_Nn.numpy(), f_NC) @ kernels

    def given(
        reduction: str, value: float, off_N: Array, rho: float = math.nan, correlation: float = math.nan
    ) -> Estimate:
        error = off_N.std(ddof=1) / math.sqrt(SAMPLES)
        return Estimate("fourier_weight", reduction, rho, float(value), float(error), SAMPLES, correlation=correlation)

    def share(values_N: Array) -> tuple[float, Array]:
        """Of E[f^2], and how far inputs are off it."""
        found = values_N.mean() / squares_N.mean()
        return found, (values_N - found * squares_N) / squares_N.mean()

    for place, j in enumerate(degrees):
        yield given(f"degree_{j}", parts_NJ[:, place].mean(), 2 * parts_NJ[:, place])
    changed_N = np.zeros(SAMPLES)
    for _ in range(CHANGES):
        position_N1 = torch.randint(n_tokens, (SAMPLES, 1), generator=generator)
        other_N1 = torch.randint(n_symbols, (SAMPLES, 1), generator=generator)
        changed_N += n_tokens * _half_square(f_NC, f(inputs_Nn.scatter(1, position_N1, other_N1))) / CHANGES
    influence, off_influence_N = share(changed_N)
    lost = {}
    for rho, kappa in correlations.items():
        kept_Nn = torch.rand(shape, generator=generator, dtype=torch.float64) < kappa
        lost[rho] = share(_half_square(f_NC, f(torch.where(kept_Nn, inputs_Nn, others_Nn))))
    for j in range(1, min(n_tokens, len(degrees), MOST_BOUNDED) + 1):
        below_N = parts_NJ[:, :j].sum(1)
        below, off_N = share(below_N)
        yield given(f"tail_{j}", 1 - below, off_N + below_N / squares_N.mean())
        bound = tail_mass_bound_from_influence(influence, 1.0, j)
        yield given(f"influence_bound_{j}", bound, off_influence_N / j)
        for rho, kappa in correlations.items():
            lost_share, off_N = lost[rho]
            bound = tail_mass_bound_from_stability(max(1 - lost_share, 0.0), 1.0, kappa, j)
            yield given(f"stability_bound_{j}", bound, off_N / (1 - kappa**j), rho, kappa)


def _by_agreement(inputs_Nn: NDArray[np.int64], f_NC: Array) -> Array:
    """(N, n + 1): the mean over the other inputs of <f(x), f(y)>, split by the number of tokens that agree."""
    n_inputs, n_tokens = inputs_Nn.shape
    found = np.zeros((n_inputs, n_tokens + 1))
    for start in range(0, n_inputs, ROWS):
        rows_Bn = inputs_Nn[start : start + ROWS]
        agree_BN = np.zeros((len(rows_Bn), n_inputs), dtype=np.int64)
        for token_B, token_N in zip(rows_Bn.T, inputs_Nn.T, strict=True):
            agree_BN += token_B[:, None] == token_N
        dots_BN = f_NC[start : start + ROWS] @ f_NC.T
        here = np.arange(len(rows_Bn))
        dots_BN[here, start + here] = 0.0  # not with itself
        agree_BN += here[:, None] * (n_tokens + 1)
        sums = np.bincount(agree_BN.ravel(), dots_BN.ravel(), len(rows_Bn) * (n_tokens + 1))
        found[start : start + ROWS] = sums.reshape(len(rows_Bn), -1)
    return found / (n_inputs - 1)


def _half_square(f_NC: Array, other_NC: Array) -> Array:
    return ((f_NC - other_NC) ** 2).sum(1) / 2
