"""What the evidence for docs/errata.md is computed with: printed polynomials, means by quadrature, simulated layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.polynomial import hermite
from numpy.typing import NDArray

Array = NDArray[np.float64]
N_STANDARD_ERRORS = 5
"""How far a simulated mean may lie from what it is held against."""


def physicists(n: int, x: Array | float) -> Array:
    """H_n(x)."""
    return hermite.hermval(x, [0] * n + [1])


def normalised(n: int, x: Array | float) -> Array:
    """H_n(x) / sqrt(2^n n!): orthonormal under the Gaussian of variance 1/2."""
    return physicists(n, x) / math.sqrt(2**n * math.factorial(n))


def half_mean(f: Callable[[Array], Array]) -> float:
    """E[f(X)], X Gaussian of variance 1/2; exact for polynomials up to degree 59."""
    x, weights = hermite.hermgauss(30)
    return float(weights @ f(x)) / math.sqrt(math.pi)


def standard_mean(f: Callable[[Array], Array]) -> float:
    """E[f(X)], X ~ N(0, 1)."""
    return half_mean(lambda x: f(math.sqrt(2) * x))


def standard_stability(f: Callable[[Array], Array], rho: float) -> float:
    """E[f(X) f(Y)] of Definition 4.1 by quadrature over X and Z."""

    def smoothed(x: float) -> float:
        return standard_mean(lambda z: f(rho * x + math.sqrt(1 - rho**2) * z))

    return standard_mean(lambda x: f(x) * np.array([smoothed(a) for a in x]))


def close(values: Array | Sequence[float], expected: float) -> bool:
    """Whether the mean of independent values lies within N_STANDARD_ERRORS of `expected`."""
    values = np.asarray(values, dtype=np.float64)
    return abs(values.mean() - expected) <= N_STANDARD_ERRORS * values.std(ddof=1) / math.sqrt(values.size)


def pairs(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> tuple[Array, Array]:
    """Standard Gaussians with correlation rho, entry by entry, in float32."""
    x = rng.standard_normal(shape, dtype=np.float32)
    return x, np.float32(rho) * x + np.float32(math.sqrt(1 - rho**2)) * rng.standard_normal(shape, dtype=np.float32)


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attention_stability(
    n: int, d: int, rho: float, weights: Callable[[np.random.Generator], Array] | None, divisor: float = 1.0
) -> Array:
    """E[f(X)_ij f(Y)_ij] with W_V = I and logits X W X^T / divisor: one mean for each of 20 draws of W.

    weights: draws the left factor U of W = U right, or (None) W = I; 20 pairs of inputs for each.
    """
    rng, means = np.random.default_rng(n * d), []
    for _ in range(20):
        w = None if weights is None else weights(rng).astype(np.float32)
        outputs = []
        for x in pairs(rng, (20, n, d), rho):
            logits = (x if w is None else x @ w) @ x.swapaxes(1, 2)
            outputs.append(softmax(logits / divisor) @ x)
        means.append(np.mean(outputs[0] * outputs[1], dtype=np.float64))
    return np.array(means)


def square_gaussian(d: int, std: float = 1.0) -> Callable[[np.random.Generator], Array]:
    return lambda rng: std * rng.standard_normal((d, d), dtype=np.float32)


def parity(bits: Sequence[int]) -> int:
    return 1 - 2 * (sum(bits) % 2)


def transformer_moments(d: int, depth: int, gamma: float, rotate: bool, attend: bool = True) -> Array:
    """E[a(X) a(Y)] after each layer with W_Q W_K^T = I, W_V = gamma I or gamma times a random rotation, rho = 0.5."""
    rng, n, means = np.random.default_rng(19), 8, []
    for _ in range(6):
        x, y = pairs(rng, (8, n, d), 0.5)
        of_layers = []
        for _ in range(depth):
            w = np.linalg.qr(rng.standard_normal((d, d), dtype=np.float32))[0] if rotate else np.eye(d, dtype="f4")
            x, y = (
                np.maximum((softmax(a @ a.swapaxes(1, 2)) @ a if attend else a) @ (np.float32(gamma) * w), 0)
                for a in (x, y)
            )
            of_layers.append(np.mean(x * y, dtype=np.float64))
        means.append(of_layers)
    return np.mean(means, axis=0)
