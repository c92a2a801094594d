"""Noise stability of one ReLU under Gaussian inputs: exact, quadratic, and under Bonami-Beckner noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, owens_t

from nsbench.theory.domain import broadcast, real

FAR = 100.0
"""Standard deviations beyond which a Gaussian's density and tail are 0 in float64."""


def relu_stability(rho: ArrayLike, mean: ArrayLike = 0.0, std: ArrayLike = 1.0) -> np.float64 | NDArray[np.float64]:
    """E[ReLU(U) ReLU(V)] for jointly Gaussian U and V, each N(mean, std^2), with correlation rho.

    Theorem 5.1 where mean = 0 and std = 1: (sqrt(1 - rho^2) + rho (pi - arccos rho)) / (2 pi). In
    general, with a = mean / std, t = a sqrt((1 - rho) / (1 + rho)), phi and Phi the density and the
    distribution function of N(0, 1), and L = P(U > 0, V > 0) = Phi(a) - 2 T(a, t / a) by Owen's T:

        (mean^2 + rho std^2) L + 2 mean std phi(a) Phi(t) + std^2 sqrt(1 - rho^2) phi(a) phi(t)

    rho: in [-1, 1], both ends included. mean: any. std: above 0, a standard deviation. Arrays
    broadcast. The error is about 1e-15 (mean^2 + std^2); the result is never negative, and inf where
    it is beyond float64. Raises ValueError naming the argument that is outside its domain, or the
    arguments whose shapes do not broadcast.
    """
    rho = real("rho", rho, -1.0, 1.0)
    mean = real("mean", mean)
    std = real("std", std, 0.0, open_low=True)
    rho, mean, std = broadcast(rho=rho, mean=mean, std=std)
    a, mean, std, exponent = _scaled(mean, std)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sqrt((1 - rho) / (1 + rho))
        t = np.where(a == 0, 0.0, a * slope)
    both_positive = ndtr(a) - 2 * owens_t(a, slope)
    density = _density(a)
    value = (
        (mean**2 + rho * std**2) * both_positive
        + 2 * mean * std * density * ndtr(t)
        + std**2 * np.sqrt((1 - rho) * (1 + rho)) * density * _density(t)
    )
    return _times_power_of_two(np.maximum(value, 0.0), 2 * exponent)[()]


def relu_stability_quadratic(rho: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """1 / (2 pi) + rho / 4 + rho^2 / (4 pi): Equation 4, the quadratic for `relu_stability(rho)` around 0.

    rho: array in [-1, 1]. The next term is rho^4 / (48 pi). The error is largest at both ends,
    1/4 - 3 / (4 pi) = 0.0113 too little; at rho = -1 the quadratic is negative. Raises ValueError for
    rho outside [-1, 1].
    """
    rho = real("rho", rho, -1.0, 1.0)
    return (1 / (2 * np.pi) + rho / 4 + rho**2 / (4 * np.pi))[()]


def bonami_beckner_relu(
    mu: ArrayLike, sigma: ArrayLike, rho: ArrayLike, alpha: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """E[ReLU(X) ReLU(Y)] for X ~ N(mu, sigma^2) and Y = alpha X with probability rho, else a fresh N(mu, sigma^2).

    Lemma 11: rho alpha E[ReLU(X)^2] + (1 - rho) E[ReLU(X)]^2, as its proof has it; the statement's E_1
    and E_2 change places. Here rho is a probability, neither Definition 4.1's correlation nor Definition
    6.1's parameter: at alpha = 1 it is the correlation of X and Y.

    mu: any. sigma: above 0, a standard deviation. rho: in [0, 1]. alpha: above 0. Arrays broadcast.
    The result is inf where it is beyond float64. Raises ValueError naming the argument that is outside
    its domain, or the arguments whose shapes do not broadcast.
    """
    mu = real("mu", mu)
    sigma = real("sigma", sigma, 0.0, open_low=True)
    rho = real("rho", rho, 0.0, 1.0)
    alpha = real("alpha", alpha, 0.0, open_low=True)
    mu, sigma, rho, alpha = broadcast(mu=mu, sigma=sigma, rho=rho, alpha=alpha)
    a, mu, sigma, exponent = _scaled(mu, sigma)
    first = np.maximum(mu * ndtr(a) + sigma * _density(a), 0.0)
    second = np.maximum((mu**2 + sigma**2) * ndtr(a) + mu * sigma * _density(a), 0.0)
    alpha, alpha_exponent = np.frexp(alpha)
    kept = _times_power_of_two(rho * alpha * second, 2 * exponent + alpha_exponent)
    fresh = _times_power_of_two((1 - rho) * first**2, 2 * exponent)
    with np.errstate(over="ignore"):
        return (kept + fresh)[()]


def _scaled(
    mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intc]]:
    """mean / std within FAR, then mean and std over 2^exponent, the larger of them in [1/2, 1), and the exponent.

    Squares of the scaled ones stay in float64; a power of two changes no digit.
    """
    with np.errstate(over="ignore"):
        a = np.clip(mean / std, -FAR, FAR)
    _, exponent = np.frexp(np.maximum(np.abs(mean), std))
    return a, np.ldexp(mean, -exponent), np.ldexp(std, -exponent), exponent


def _times_power_of_two(values: NDArray[np.float64], exponent: NDArray[np.intc]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.ldexp(values, exponent)


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density of N(0, 1)."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
