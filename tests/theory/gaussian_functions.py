"""Functions of one Gaussian variable, and references for what becomes of them, by closed forms and by QUADPACK."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

Array = NDArray[np.float64]


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def waves(x: Array) -> Array:
    return np.cos(5 * x)


def recurred(k: int) -> Callable[[Array], Array]:
    """The orthonormal He_k by its recurrence: unlike the sum of powers right to rounding at any degree."""

    def he(x: Array) -> Array:
        before, this = np.zeros_like(x), np.ones_like(x)
        for j in range(k):
            before, this = this, (x * this - math.sqrt(j) * before) / math.sqrt(j + 1)
        return this

    return he


def relu_stability(rho: Array) -> Array:
    return (np.sqrt(1 - rho**2) + rho * (math.pi - np.arccos(rho))) / (2 * math.pi)


def density(x: float) -> float:
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def mean(f: Callable[[float], float], *breaks: float) -> float:
    """E[f(Z)], Z ~ N(0, 1), by QUADPACK told where f breaks."""
    ends = [-20.0, *sorted(breaks), 20.0]
    total = 0.0
    for low, high in itertools.pairwise(ends):
        cuts = [low, *(float(c) for c in range(-18, 19, 3) if low < c < high), high]
        for left, right in itertools.pairwise(cuts):
            total += quad(lambda z: f(z) * density(z), left, right, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
    return total
