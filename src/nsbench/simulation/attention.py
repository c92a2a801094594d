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

from torch import Tensor

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo, correlate


def simulate(run: MonteCarlo) -> None:
    """Points of each scaling of the logits, each kind of W and each rho."""
    units, shape = run.settings.d_model, (run.settings.n_tokens, run.settings.d_model)
    for draw in range(run.settings.n_draws):
        # U with entries N(0, 1/k)
        factors = {k: run.weights("U", k, draw, shape=(units, k)).div_(math.sqrt(k)) for k in run.settings.ranks}
        square_CC = run.weights("W", draw, shape=(units, units))
        x_PTC, z_PTC = (run.inputs(name, draw, shape=shape) for name in "XZ")
        clean = dict(_patterns(x_PTC, factors, square_CC))
        for rho in run.settings.rho:
            y_PTC = correlate(x_PTC, z_PTC, rho)
            products_PTS = x_PTC @ y_PTC.mT
            for (scaling, series), noisy_PTT in _patterns(y_PTC, factors, square_CC):
                value_P = mean_product(clean[scaling, series], noisy_PTT, products_PTS) / units
                run.add(draw, scaling, series, rho, value_P)


def mean_product(clean_PTT: Tensor, noisy_PTT: Tensor, products_PTS: Tensor) -> Tensor:
    """Mean over rows i of <(A_X X)_i, (A_Y Y)_i>, from the products <x_k, y_l> of the rows of X and Y: (P).

    Equal to forming A_X X and A_Y Y, without their n x d numbers.
    """
    return ((clean_PTT @ products_PTS) * noisy_PTT).sum(-1).mean(-1)


def _patterns(x_PTC: Tensor, factors: dict[int, Tensor], square_CC: Tensor) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Attention matrices: (reading, series), softmax_rows(X W X^T) or softmax_rows(X W X^T / sqrt(d))."""
    root = math.sqrt(x_PTC.shape[-1])
    for series, logits_PTS in _logits(x_PTC, factors, square_CC):
        for reading, scaled in labels.ATTENTION_SCALINGS.items():
            yield (reading, series), (logits_PTS / root if scaled else logits_PTS).softmax(-1)


def _logits(x_PTC: Tensor, factors: dict[int, Tensor], square_CC: Tensor) -> Iterator[tuple[str, Tensor]]:
    """X W X^T of each kind of W."""
    yield labels.IDENTITY, x_PTC @ x_PTC.mT
    for rank, factor_CK in factors.items():
        x_PTK = x_PTC @ factor_CK
        yield labels.low_rank(rank), x_PTK @ x_PTK.mT
    logits_PTS = x_PTC @ square_CC @ x_PTC.mT
    yield labels.UNSTRUCTURED, logits_PTS
    yield labels.SMALL_UNSTRUCTURED, logits_PTS / math.sqrt(x_PTC.shape[-1])
