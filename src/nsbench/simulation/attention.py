"""Figure 2: stability of one attention layer f(X) = softmax_rows(X W X^T) X with W_V = I, by the kind of W.

The value is the mean over tokens i and units j of f(X)_ij f(Y)_ij: E[f(X)_ij f(Y)_ij] of Theorems 5.2 and
5.3, where W_V has columns of norm 1. The same X, Z and W serve every rho and both readings. The two
unstructured kinds share their W too, up to its scale: N(0, 1/d) with logits as printed is N(0, 1) with
logits / sqrt(d), number by number.
"""

# Shapes: P pair, T token (rows), S token (columns), C unit, K rank.

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nsbench.config.theory import AttentionExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.montecarlo import Gaussians, Simulated, Tally, chunks, correlate, gaussians, weights


def simulate(settings: AttentionExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each scaling of the logits, each kind of W and each rho.

    Raises ConfigError naming max_values where one pair, or the weights of a draw, take more values.
    """
    units, held = settings.d_model, settings.held()
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        factors = {k: _factor(seed, draw, units, k, device) for k in settings.ranks}
        square_CC = weights(seed, "attention", "W", draw, shape=(units, units), device=device)
        xs, zs = (gaussians(seed, "attention", name, draw, device=device) for name in "XZ")
        for pairs in chunks(settings.n_pairs, held.per_pair, max_values):
            _add_chunk(settings, draw, pairs, xs, zs, factors, square_CC, tally)
    return Simulated(tally.points())


def _add_chunk(
    settings: AttentionExperiment,
    draw: int,
    pairs: int,
    xs: Gaussians,
    zs: Gaussians,
    factors: dict[int, Tensor],
    square_CC: Tensor,
    tally: Tally,
) -> None:
    shape = (pairs, settings.n_tokens, settings.d_model)
    x_PTC, z_PTC = xs.take(*shape), zs.take(*shape)
    clean = dict(_patterns(x_PTC, factors, square_CC))
    for rho in settings.rho:
        y_PTC = correlate(x_PTC, z_PTC, rho)
        products_PTS = x_PTC @ y_PTC.mT
        for (scaling, series), noisy_PTT in _patterns(y_PTC, factors, square_CC):
            value_P = mean_product(clean[scaling, series], noisy_PTT, products_PTS) / settings.d_model
            tally.add(draw, scaling, series, rho, value_P)
        del y_PTC  # The next rho's Y would be made beside it.


def mean_product(clean_PTT: Tensor, noisy_PTT: Tensor, products_PTS: Tensor) -> Tensor:
    """Mean over rows i of <(A_X X)_i, (A_Y Y)_i>, from the products <x_k, y_l> of the rows of X and Y: (P).

    Equal to forming A_X X and A_Y Y, without their n x d numbers.
    """
    return ((clean_PTT @ products_PTS) * noisy_PTT).sum(-1).mean(-1)


def _factor(seed: int, draw: int, units: int, rank: int, device: torch.device) -> Tensor:
    """U with entries N(0, 1/k)."""
    return weights(seed, "attention", "U", rank, draw, shape=(units, rank), device=device).div_(math.sqrt(rank))


def _patterns(x_PTC: Tensor, factors: dict[int, Tensor], square_CC: Tensor) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Attention matrices: (reading, series), softmax_rows(X W X^T) or softmax_rows(X W X^T / sqrt(d))."""
    root = math.sqrt(x_PTC.shape[-1])
    for series, logits_PTS in _logits(x_PTC, factors, square_CC):
        for reading, scaled in readings.ATTENTION_SCALINGS.items():
            yield (reading, series), (logits_PTS / root if scaled else logits_PTS).softmax(-1)


def _logits(x_PTC: Tensor, factors: dict[int, Tensor], square_CC: Tensor) -> Iterator[tuple[str, Tensor]]:
    """X W X^T of each kind of W."""
    yield readings.IDENTITY, x_PTC @ x_PTC.mT
    for rank, factor_CK in factors.items():
        yield readings.low_rank(rank), _gram(x_PTC @ factor_CK)
    logits_PTS = x_PTC @ square_CC @ x_PTC.mT
    yield readings.UNSTRUCTURED, logits_PTS
    yield readings.SMALL_UNSTRUCTURED, logits_PTS / math.sqrt(x_PTC.shape[-1])


def _gram(x_PTK: Tensor) -> Tensor:
    """Products of rows with rows: a function, so that what it is given is gone when it returns."""
    return x_PTK @ x_PTK.mT
