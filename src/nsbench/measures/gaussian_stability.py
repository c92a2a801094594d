"""Noise stability of a function of embeddings under correlated Gaussian noise (Definition 4.1).

Y = rho X + sqrt(1 - rho^2) Z, coordinate by coordinate, Z standard Gaussian. For standard Gaussian X this is the
paper's Stab_rho(f), whose spectral bounds hold. Embeddings of a text are not Gaussian, even standardised: with them
Y has the mean and variance of X (coordinates pooled as in `standardisation`) but another law, and the bounds are
not proved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nsbench.measures.batches import MAX_VALUES, batches
from nsbench.measures.estimate import Estimate
from nsbench.measures.gradients import Function
from nsbench.theory.domain import one_of, real, whole

CONSTANT = 1e-6
"""A coordinate whose standard deviation is smaller, relative to its largest value, varies by rounding alone."""
ROUNDING = 1e-12
"""The same for values of a function."""


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

    def of_standard(self, f: Function) -> Function:
        """f as a function of standard units: its gradient is that of f times the standard deviation."""
        return lambda z, *others: f(self.from_standard(z), *others)


def standardisation(embeddings_NTC: Tensor, how: str) -> Standardisation:
    """What takes a sample of embeddings (..., C) to mean 0 and variance 1, inputs and positions pooled.

    how: `per_coordinate`, the mean and standard deviation (over n, not n - 1) of each of the C coordinates over all
    inputs and positions; or `one_scale`, the same means but one standard deviation for all, the root of the mean of
    the coordinates' variances, which keeps the proportions of the embedding space. Coordinates stay correlated.
    Raises ValueError for another `how`, and where a coordinate (for one_scale: each) is constant.
    """
    one_of("how", how, ("per_coordinate", "one_scale"))
    values_MC = embeddings_NTC.flatten(0, -2).double()
    mean_C = values_MC.mean(0)
    variance_C = (values_MC - mean_C).square().mean(0)
    if how == "one_scale":
        variance_C = variance_C.mean().expand_as(variance_C)
    std_C = variance_C.sqrt()
    largest_C = values_MC.abs().amax(0)
    constant_C = std_C <= CONSTANT * (largest_C.amax() if how == "one_scale" else largest_C)
    if constant_C.any():
        raise ValueError(f"embeddings_NTC does not vary in coordinate {int(constant_C.int().argmax())}")
    return Standardisation(mean_C, std_C)


@torch.no_grad()
def gaussian_noise_stability(
    f: Function,
    x_NTC: Tensor,
    rhos: Sequence[float],
    generator: torch.Generator,
    *others: Tensor,
    n_draws: int = 1,
    batch_size: int | None = None,
    max_values: int = MAX_VALUES,
) -> list[Estimate]:
    """How f(X) and f(Y) go together at each rho, with standard errors over inputs. Reductions:

    product: E[f(X) f(Y)], Equation 2.
    normalised: E[f(X) f(Y)] / E[f(X)^2]; NaN where f is 0.
    pearson: the correlation of f(X) and f(Y), each with its own mean and variance; NaN where one of them is constant.

    Errors of the last two are by the delta method. x_NTC: inputs in standard units, of any shape after the first
    axis: draws of N(0, 1), or embeddings through `Standardisation.to_standard`, f through its `of_standard`.
    rhos: in [-1, 1]. n_draws: Y's of each input, averaged before errors are taken. All rho have the same Z. They
    are drawn input by input, on the generator's device, which is that of x_NTC: batches, as in
    `nsbench.measures.batches.batches`, change results by rounding alone. f is called as f(x, *others) with the
    batch's entries of each, and gives (N). Raises ValueError naming rhos or n_draws, for an f of another shape, and
    as `batches` does.
    """
    values_R = real("rhos", rhos, -1.0, 1.0).reshape(-1).tolist()
    whole("n_draws", n_draws, 1)
    cuts = list(batches(len(x_NTC), x_NTC[0].numel(), batch_size, max_values))
    clean_N = torch.cat([_values(f, x_NTC[cut], [other[cut] for other in others]) for cut in cuts])
    noisy_RDN = clean_N.new_empty(len(values_R), n_draws, len(x_NTC))
    for draw in range(n_draws):
        for cut in cuts:
            x = x_NTC[cut]
            z = torch.stack([torch.randn(x.shape[1:], generator=generator, dtype=x.dtype, device=x.device) for _ in x])
            for index, rho in enumerate(values_R):
                y = rho * x + math.sqrt((1.0 - rho) * (1.0 + rho)) * z
                noisy_RDN[index, draw, cut] = _values(f, y, [other[cut] for other in others])
    return [
        found for rho, noisy_DN in zip(values_R, noisy_RDN, strict=True) for found in _estimates(rho, clean_N, noisy_DN)
    ]


def _values(f: Function, x: Tensor, others: list[Tensor]) -> Tensor:
    values_N = f(x, *others)
    if values_N.shape != x.shape[:1]:
        raise ValueError(f"f gives shape {tuple(values_N.shape)} for {len(x)} inputs; allowed: one number an input")
    return values_N.double()


def _estimates(rho: float, clean_N: Tensor, noisy_DN: Tensor) -> Iterator[Estimate]:
    """The three reductions, each with the deviations of inputs from it to first order."""
    product_N = clean_N * noisy_DN.mean(0)
    product, norm2 = product_N.mean(), clean_N.square().mean()
    yield _estimate("product", rho, product, product_N - product)
    normalised = product / norm2
    yield _estimate("normalised", rho, normalised, (product_N - normalised * clean_N.square()) / norm2)
    u_N, v_DN = _standard(clean_N), _standard(noisy_DN)
    # Rounding may take the correlation of a function with itself above 1.
    pearson = (u_N * v_DN).mean().clamp(-1.0, 1.0)
    yield _estimate("pearson", rho, pearson, (u_N * v_DN - pearson * (u_N.square() + v_DN.square()) / 2).mean(0))


def _standard(values: Tensor) -> Tensor:
    """Values of mean 0 and variance 1; NaN where they vary by no more than rounding."""
    centred = values - values.mean()
    std = centred.square().mean().sqrt()
    return centred / torch.where(std > ROUNDING * values.abs().max(), std, math.nan)


def _estimate(reduction: str, rho: float, value: Tensor, off_N: Tensor) -> Estimate:
    """An estimate whose inputs are `off_N` off it, in the mean 0."""
    n_inputs = len(off_N)
    error = math.sqrt(off_N.square().sum().item() / (n_inputs - 1) / n_inputs) if n_inputs > 1 else math.nan
    return Estimate("gaussian_noise_stability", reduction, rho, value.item(), error)
