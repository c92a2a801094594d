"""Estimates with their standard errors: of a mean, and of how values go together with those under noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nsbench.measures.base import Estimate

LEAST_INPUTS = 8
"""Inputs from which on a mean and a variance are taken from them."""
ROUNDING = 1e-12
"""Values whose standard deviation is smaller, relative to the largest of them, vary by rounding alone."""


@dataclass(frozen=True)
class ByInput(Estimate):
    """A mean over inputs, with what it is the mean of."""

    per_input_N: Tensor = field(kw_only=True, compare=False, repr=False)


def estimate(measure: str, reduction: str, rho: float, per_input_N: Tensor, n_draws: int = 1) -> Estimate:
    """Mean and standard error of one number per input; n_draws: those of one input that were averaged before."""
    values = per_input_N.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(measure, reduction, rho, values.mean().item(), error, len(values), n_draws)


def correlations(measure: str, rho: float, clean_N: Tensor, noisy_DN: Tensor) -> list[Estimate]:
    """How f(X) and f(Y) go together over N inputs X, with D noisy copies Y of each. Reductions:

    product: E[f(X) f(Y)], Equation 2.
    normalised: E[f(X) f(Y)] / E[f(X)^2]; NaN where f is 0.
    pearson: the correlation of f(X) and f(Y), each with its own mean and variance; NaN where one of them is constant,
        and below LEAST_INPUTS inputs, where those are noise (of two inputs it would always be 1 or -1).
    half_square (a ByInput): E[(f(X) - f(Y))^2] / 2. Where X and Y are of one law it is E[f(X)^2] - E[f(X) f(Y)], the
        noise sensitivity, without the noise of a difference of two large numbers.

    Standard errors are over inputs, the draws of one averaged before; of normalised and pearson by the delta method.
    Both arguments are in float64.
    """
    product_N = clean_N * noisy_DN.mean(0)
    product, norm2 = product_N.mean(), clean_N.square().mean()
    normalised = product / norm2
    u_N, v_DN = _standard(clean_N), _standard(noisy_DN)
    # Rounding may take the correlation of a function with itself above 1.
    pearson = (u_N * v_DN).mean().clamp(-1.0, 1.0)
    if len(clean_N) < LEAST_INPUTS:
        pearson = torch.full_like(pearson, math.nan)
    half_square_N = (clean_N - noisy_DN).square().mean(0) / 2
    half_square = half_square_N.mean()
    # Each with the deviations of inputs from it to first order.
    found = {
        "product": (product, product_N - product),
        "normalised": (normalised, (product_N - normalised * clean_N.square()) / norm2),
        "pearson": (pearson, (u_N * v_DN - pearson * (u_N.square() + v_DN.square()) / 2).mean(0)),
        "half_square": (half_square, half_square_N - half_square),
    }
    estimates = [
        Estimate(measure, reduction, rho, value.item(), _error(off_N)) for reduction, (value, off_N) in found.items()
    ]
    return [*estimates[:-1], ByInput(**vars(estimates[-1]), per_input_N=half_square_N)]


def _standard(values: Tensor) -> Tensor:
    """Values of mean 0 and variance 1; NaN where they vary by no more than rounding."""
    centred = values - values.mean()
    std = centred.square().mean().sqrt()
    return centred / torch.where(std > ROUNDING * values.abs().max(), std, math.nan)


def _error(off_N: Tensor) -> float:
    """The standard error of a value that inputs are `off_N` off, in the mean 0."""
    n_inputs = len(off_N)
    return math.sqrt(off_N.square().sum().item() / (n_inputs - 1) / n_inputs) if n_inputs > 1 else math.nan
