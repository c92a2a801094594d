"""Noise stability of a function of embeddings under correlated Gaussian noise (Definition 4.1).

Y = rho X + sqrt(1 - rho^2) Z, coordinate by coordinate, Z standard Gaussian. For standard Gaussian X this is the
paper's Stab_rho(f), whose spectral bounds hold. Embeddings of a text are not Gaussian, even standardised: with them
Y has the mean and variance of X (coordinates pooled as in `standardisation`) but another law, and the bounds are
not proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nsbench.measures.base import Estimate
from nsbench.measures.estimate import correlations
from nsbench.measures.gradients import Readouts, check_shapes
from nsbench.measures.outputs import batches

CONSTANT = 1e-6
"""A coordinate whose standard deviation is smaller, relative to its largest value, varies by rounding alone."""


@dataclass(frozen=True)
class Standardisation:
    """z = (x - mean) / std along the last axis: mean and std (C), float64."""

    mean_C: Tensor
    std_C: Tensor

    def to_standard(self, x: Tensor) -> Tensor:
        """Embeddings (..., C) in standard units, of their dtype."""
        return ((x - self.mean_C) / self.std_C).to(x.dtype)

    def from_standard(self, z: Tensor) -> Tensor:
        """The embeddings (..., C) that have these standard units."""
        return (z * self.std_C + self.mean_C).to(z.dtype)

    def of_standard(self, f: Readouts) -> Readouts:
        """f as a function of standard units: its gradient is that of f times the standard deviation."""
        return lambda z, *others: f(self.from_standard(z), *others)


def standardisation(embeddings_NTC: Tensor) -> Standardisation:
    """What takes a sample of embeddings (..., C) to mean 0 and mean variance 1, inputs and positions pooled.

    All coordinates have one standard deviation, the root of the mean of their variances (over n, not n - 1), which
    keeps the proportions of the embedding space; coordinates stay correlated. Raises ValueError for constant ones.
    """
    values_MC = embeddings_NTC.flatten(0, -2).double()
    mean_C = values_MC.mean(0)
    variance_C = (values_MC - mean_C).square().mean(0)
    std_C = variance_C.mean().expand_as(variance_C).sqrt()
    if std_C[0] <= CONSTANT * values_MC.abs().amax():
        raise ValueError("embeddings_NTC does not vary")
    return Standardisation(mean_C, std_C)


@torch.no_grad()
def gaussian_noise_stabilities(
    f: Readouts,
    x_NTC: Tensor,
    rhos: Sequence[float],
    generator: torch.Generator,
    *others: Tensor,
    batch_size: int,
    n_draws: int = 1,
) -> list[list[Estimate]]:
    """How f(X) and f(Y) go together at each rho, for each of f's readouts: the measure `noise_stability`.

    For each rho the three reductions of `nsbench.measures.estimate.correlations`, with standard errors over inputs.

    f: gives R tensors (N), called as f(x, *others) with the batch's entries of each. x_NTC: inputs in standard units,
    of any shape after the first axis: draws of N(0, 1), or embeddings through `Standardisation.to_standard`, f through
    its `of_standard`. rhos: in [-1, 1]. n_draws: Y's of each input, averaged before errors are taken. All rho have the
    same Z, drawn input by input on the generator's device, which is that of x_NTC: batches change results by rounding
    alone. Raises ValueError for a readout that is no (N).
    """
    cuts = list(batches(len(x_NTC), batch_size))
    clean_RN = torch.cat([_values(f, x_NTC[cut], [other[cut] for other in others]) for cut in cuts], 1)
    # Of each rho (P), readout and draw.
    noisy_PRDN = clean_RN.new_empty(len(rhos), len(clean_RN), n_draws, len(x_NTC))
    for draw in range(n_draws):
        for cut in cuts:
            x = x_NTC[cut]
            z = torch.stack([torch.randn(x.shape[1:], generator=generator, dtype=x.dtype, device=x.device) for _ in x])
            for index, rho in enumerate(rhos):
                y = rho * x + math.sqrt((1.0 - rho) * (1.0 + rho)) * z
                noisy_PRDN[index, :, draw, cut] = _values(f, y, [other[cut] for other in others])
    return [
        [
            found
            for rho, noisy_RDN in zip(rhos, noisy_PRDN, strict=True)
            for found in correlations("noise_stability", rho, clean_N, noisy_RDN[readout])
        ]
        for readout, clean_N in enumerate(clean_RN)
    ]


def _values(f: Readouts, x: Tensor, others: list[Tensor]) -> Tensor:
    """(R, N), float64."""
    values_RN = f(x, *others)
    check_shapes(values_RN, len(x))
    return torch.stack([values_N.double() for values_N in values_RN])
