"""Noise stability of one ReLU under Gaussian inputs: exact, quadratic, and under Bonami-Beckner noise.

docs/errata.md, entries 8, 16 and 19.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, owens_t

from nsbench.theory.domain import CORRELATION, SHARE, checked, real

_FAR = 100.0
"""Standard deviations beyond which a Gaussian's density and tail are 0 in float64."""
_MEAN = functools.partial(real, low=-1e100, high=1e100)
_SCALE = functools.partial(real, low=0.0, high=1e100, open_low=True)


@checked(rho=CORRELATION, mean=_MEAN, std=_SCALE)
def relu_stability(rho: ArrayLike, mean: ArrayLike = 0.0, std: ArrayLike = 1.0) -> np.float64 | NDArray[np.float64]:
    """E[ReLU(U) ReLU(V)] for jointly Gaussian U and V, each N(mean, std^2), with correlation rho.

    Theorem 5.1 where mean = 0 and std = 1: (sqrt(1 - rho^2) + rho (pi - arccos rho)) / (2 pi). In
    general, with a = mean / std, t = a sqrt((1 - rho) / (1 + rho)), phi and Phi the density and the
    distribution function of N(0, 1), and L = P(U > 0, V > 0) = Phi(a) - 2 T(a, t / a) by Owen's T:

        (mean^2 + rho std^2) L + 2 mean std phi(a) Phi(t) + std^2 sqrt(1 - rho^2) phi(a) phi(t)

    rho: in [-1, 1]. mean: up to 1e100 in size. std: above 0, at most 1e100. Arrays broadcast. The error is about
    1e-15 (mean^2 + std^2). Raises ValueError naming arguments outside their domain, or shapes that do not broadcast.
    """
    a = _ratio(mean, std)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sqrt((1 - rho) / (1 + rho))
        t = np.where(a == 0, 0.0, a * slope)
    value = (
        (mean**2 + rho * std**2) * (ndtr(a) - 2 * owens_t(a, slope))
        + 2 * mean * std * _density(a) * ndtr(t)
        + std**2 * np.sqrt((1 - rho) * (1 + rho)) * _density(a) * _density(t)
    )
    return np.maximum(value, 0.0)[()]


@checked(rho=CORRELATION)
def relu_stability_quadratic(rho: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """1 / (2 pi) + rho / 4 + rho^2 / (4 pi): Equation 4, the quadratic for `relu_stability(rho)` around 0.

    rho: in [-1, 1], any shape. The next term is rho^4 / (48 pi). The error is largest at both ends, 1/4 - 3 / (4 pi)
    = 0.0113 too little; at rho = -1 the quadratic is negative. Raises ValueError for rho outside [-1, 1].
    """
    return (1 / (2 * np.pi) + rho / 4 + rho**2 / (4 * np.pi))[()]


@checked(mu=_MEAN, sigma=_SCALE, rho=SHARE, alpha=_SCALE)
def bonami_beckner_relu(
    mu: ArrayLike, sigma: ArrayLike, rho: ArrayLike, alpha: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """E[ReLU(X) ReLU(Y)] for X ~ N(mu, sigma^2) and Y = alpha X with probability rho, else a fresh N(mu, sigma^2).

    Lemma 11: rho alpha E[ReLU(X)^2] + (1 - rho) E[ReLU(X)]^2, as its proof has it; the statement's E_1
    and E_2 change places. Here rho is a probability, neither Definition 4.1's correlation nor Definition
    6.1's parameter: at alpha = 1 it is the correlation of X and Y.

    mu: up to 1e100 in size. sigma, a standard deviation, and alpha: above 0, at most 1e100. rho: in [0, 1]. Arrays
    broadcast. Raises ValueError naming arguments outside their domain, or shapes that do not broadcast.
    """
    a = _ratio(mu, sigma)
    first = np.maximum(mu * ndtr(a) + sigma * _density(a), 0.0)
    second = np.maximum((mu**2 + sigma**2) * ndtr(a) + mu * sigma * _density(a), 0.0)
    return (rho * alpha * second + (1 - rho) * first**2)[()]


def _ratio(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """mean / std, within _FAR."""
    with np.errstate(over="ignore"):
        return np.clip(mean / std, -_FAR, _FAR)


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density of N(0, 1)."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
