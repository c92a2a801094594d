"""Fourier analysis of functions of n variables in {-1, 1}, by their truth tables.

A truth table is a float array of length 2^n: entry m is f(x) at the x whose coordinate i (from 0) is +1 where bit i
of m, least significant first, is 0, and -1 where it is 1; of decisions, -1 stands for True. There are at most 20
variables. Inputs are uniform: <f, g> = E[f(x) g(x)], under which the products of coordinates are orthonormal
(docs/errata.md, entry 21). What is no truth table raises ValueError naming truth_table, and so do other arguments
outside their domain. Source: Section 2.1 and Appendix A.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import checked, real, whole

MAX_VARIABLES = 20
_N = functools.partial(whole, least=1, most=MAX_VARIABLES)


def fourier_transform(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Fourier coefficients E[f(x) chi_S(x)], shape (2^n,), so that f = sum of coefficient times chi_S.

    Entry m belongs to the set S of the i where bit i of m is 1; chi_S is the product of the coordinates in S.
    The transform is its own inverse up to the factor 2^n: 2^n fourier_transform(coefficients) is the truth table.
    Source: Section 2.1 and Theorem A.1, whose inner product has a factor 2^n too many.
    """
    table, n = _checked(truth_table)
    coefficients = table / len(table)
    for i in range(n):
        both_halves = coefficients.reshape(-1, 2, 1 << i)
        plus, minus = both_halves[:, 0], both_halves[:, 1]  # x_i = 1 and x_i = -1
        plus += minus
        minus *= -2.0
        minus += plus
    return coefficients


def influences(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Influence of each coordinate, shape (n,): E[((f(x) - f(x with x_i flipped)) / 2)^2]. Source: Equation 1."""
    table, n = _checked(truth_table)
    halves = [table.reshape(-1, 2, 1 << i) for i in range(n)]
    return np.array([np.mean(((half[:, 0] - half[:, 1]) / 2.0) ** 2) for half in halves])


def total_influence(truth_table: ArrayLike) -> np.float64:
    """Sum of the influences of Equation 1: the average sensitivity. Source: Section 2.1, Definition A.2."""
    return influences(truth_table).sum()


def weights_by_level(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Fourier weight of each level, shape (n + 1,): entry k is the sum of squared coefficients of sets of size k.

    They add up to E[f(x)^2]. Source: Section 3.
    """
    coefficients = fourier_transform(truth_table)
    sizes = np.bitwise_count(np.arange(len(coefficients)))
    return np.bincount(sizes, weights=coefficients**2)


def noise_stability(truth_table: ArrayLike, rho: ArrayLike) -> NDArray[np.float64] | np.float64:
    """E[f(x) f(y)] for uniform x and y_i = x_i with probability (1 + rho) / 2, else -x_i, independently over i.

    So E[x_i y_i] = rho, and the stability is the sum over levels k of rho^k times the weight of level k. Noise that
    draws a new symbol in place of a flip, as Definition 6.1 does, has another correlation:
    `nsbench.theory.resampling_correlation`.

    rho: in [-1, 1], any shape, which the result has. Source: Section 4 (O'Donnell 2021, Section 2.4).
    """
    return polyval(real("rho", rho, -1.0, 1.0), weights_by_level(truth_table))[()]


@checked(n=_N)
def parity(n: int, subset: Iterable[int] | None = None) -> NDArray[np.float64]:
    """Truth table (2^n,) of the product of the coordinates in `subset` (all by default; empty: the constant 1).

    Its one Fourier coefficient is 1, at the set itself. n: 1 to 20. subset: different whole numbers from 0 to n - 1.
    """
    chosen = [whole("subset", i, 0, n - 1) for i in (range(n) if subset is None else subset)]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"subset = {chosen} is not allowed; allowed: each coordinate once")
    return 1.0 - 2.0 * (np.bitwise_count(np.arange(1 << n) & sum(1 << i for i in chosen)) % 2)


@checked(n=_N)
def majority(n: int) -> NDArray[np.float64]:
    """Truth table (2^n,) of the sign of the sum of all coordinates. n: odd, 1 to 19."""
    if n % 2 == 0:
        raise ValueError(f"n = {n} is not allowed; allowed: an odd number, as an even one leaves ties")
    return np.where(2 * np.bitwise_count(np.arange(1 << n)).astype(int) < n, 1.0, -1.0)


@checked(n=_N)
def dictator(n: int, i: int = 0) -> NDArray[np.float64]:
    """Truth table (2^n,) of coordinate i. n: 1 to 20. i: 0 to n - 1."""
    return parity(n, [whole("i", i, 0, n - 1)])


def _checked(truth_table: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """The truth table as an array of shape (2^n,), and n."""
    table = real("truth_table", truth_table)
    n = table.size.bit_length() - 1
    if table.ndim != 1 or table.size != 2**n or n > MAX_VARIABLES:
        raise ValueError(f"truth_table has shape {table.shape}; allowed: one axis of length 2^n, n at most 20")
    return table, n
