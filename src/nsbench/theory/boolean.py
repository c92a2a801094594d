"""Fourier analysis of functions of n variables in {-1, 1}, by their truth tables.

A truth table is a float array of length 2^n: entry m is f(x) at the x whose coordinate i (from 0) is +1 where bit i
of m, least significant first, is 0, and -1 where it is 1; of decisions, -1 stands for True. There are at most 20
variables, and values are at most 1e150 in size, so that sums of squares stay in float64. Inputs are uniform:
<f, g> = E[f(x) g(x)], under which the products of coordinates are orthonormal (docs/errata.md, entry 21). Source:
Section 2.1 and Appendix A.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import real, whole

MAX_VARIABLES = 20
MAX_VALUE = 1e150


def fourier_transform(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Fourier coefficients E[f(x) chi_S(x)], shape (2^n,), so that f = sum of coefficient times chi_S.

    Entry m belongs to the set S of the i where bit i of m is 1; chi_S is the product of the coordinates in S.
    The transform is its own inverse up to the factor 2^n: 2^n fourier_transform(coefficients) is the truth table.

    truth_table: shape (2^n,). Raises ValueError naming truth_table if its length is no power of two, it has more
    than 20 variables, or a value is not a number of at most 1e150 in size. Source: Section 2.1 and Theorem A.1,
    whose inner product has a factor 2^n too many.
    """
    table = _checked(truth_table)
    coefficients = table / len(table)
    for i in range(_n_variables(table)):
        both_halves = coefficients.reshape(-1, 2, 1 << i)
        plus, minus = both_halves[:, 0], both_halves[:, 1]  # x_i = 1 and x_i = -1
        plus += minus
        minus *= -2.0
        minus += plus
    return coefficients


def influences(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Influence of each coordinate, shape (n,): E[((f(x) - f(x with x_i flipped)) / 2)^2].

    truth_table: shape (2^n,), checked as in `fourier_transform`. Source: Equation 1.
    """
    table = _checked(truth_table)
    found = np.empty(_n_variables(table))
    for i in range(len(found)):
        both_halves = table.reshape(-1, 2, 1 << i)
        found[i] = np.mean(((both_halves[:, 0] - both_halves[:, 1]) / 2.0) ** 2)
    return found


def total_influence(truth_table: ArrayLike) -> np.float64:
    """Sum of the influences of Equation 1: the average sensitivity.

    truth_table: shape (2^n,), checked as in `fourier_transform`. Source: Section 2.1, Definition A.2.
    """
    return influences(truth_table).sum()


def weights_by_level(truth_table: ArrayLike) -> NDArray[np.float64]:
    """Fourier weight of each level, shape (n + 1,): entry k is the sum of squared coefficients of sets of size k.

    They add up to E[f(x)^2]. truth_table: shape (2^n,), checked as in `fourier_transform`. Source: Section 3.
    """
    coefficients = fourier_transform(truth_table)
    sizes = np.bitwise_count(np.arange(len(coefficients)))
    return np.bincount(sizes, weights=coefficients**2, minlength=_n_variables(coefficients) + 1)


def noise_stability(truth_table: ArrayLike, rho: ArrayLike) -> NDArray[np.float64] | np.float64:
    """E[f(x) f(y)] for uniform x and y_i = x_i with probability (1 + rho) / 2, else -x_i, independently over i.

    So E[x_i y_i] = rho, and the stability is the sum over levels k of rho^k times the weight of level k. Noise that
    draws a new symbol in place of a flip, as Definition 6.1 does, has another correlation:
    `nsbench.theory.resampling_correlation`.

    truth_table: shape (2^n,), checked as in `fourier_transform`. rho: in [-1, 1], any shape, which the result has.
    Raises ValueError naming rho outside its domain. Source: Section 4 (O'Donnell 2021, Section 2.4).
    """
    rhos = real("rho", rho, -1.0, 1.0)
    return polyval(rhos, weights_by_level(truth_table))[()]


def parity(n: int, subset: Iterable[int] | None = None) -> NDArray[np.float64]:
    """Truth table (2^n,) of the product of the coordinates in `subset` (all by default; empty: the constant 1).

    Its one Fourier coefficient is 1, at the set itself. Raises ValueError naming n (1 to 20) or subset, whose entries
    are different whole numbers from 0 to n - 1.
    """
    n = whole("n", n, 1, MAX_VARIABLES)
    try:
        members = list(range(n) if subset is None else subset)
    except TypeError:
        raise ValueError(f"subset = {subset!r} is not allowed; allowed: several whole numbers or none") from None
    chosen = [whole("subset", i, 0, n - 1) for i in members]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"subset = {chosen} is not allowed; allowed: each coordinate once")
    mask = sum(1 << i for i in chosen)
    return 1.0 - 2.0 * (np.bitwise_count(np.arange(1 << n) & mask) % 2)


def majority(n: int) -> NDArray[np.float64]:
    """Truth table (2^n,) of the sign of the sum of all coordinates. n: odd, 1 to 19; else ValueError naming n."""
    n = whole("n", n, 1, MAX_VARIABLES)
    if n % 2 == 0:
        raise ValueError(f"n = {n} is not allowed; allowed: an odd number, as an even one leaves ties")
    return np.where(2 * np.bitwise_count(np.arange(1 << n)).astype(int) < n, 1.0, -1.0)


def dictator(n: int, i: int = 0) -> NDArray[np.float64]:
    """Truth table (2^n,) of coordinate i. Raises ValueError naming n (1 to 20) or i (0 to n - 1)."""
    n = whole("n", n, 1, MAX_VARIABLES)
    return parity(n, [whole("i", i, 0, n - 1)])


def AND(n: int) -> NDArray[np.float64]:
    """Truth table (2^n,) of -1 (True) where every coordinate is -1, else 1. n: 1 to 20, else ValueError naming n."""
    return tribes(whole("n", n, 1, MAX_VARIABLES), 1)


def tribes(width: int, count: int) -> NDArray[np.float64]:
    """Truth table (2^(width count),) of -1 (True) where some tribe is unanimously -1, else 1.

    Tribe t holds the `width` neighbouring coordinates from t * width on. P(True) = 1 - (1 - 2^-width)^count.
    Raises ValueError naming width or count: whole numbers of at least 1 whose product is at most 20.
    """
    width = whole("width", width, 1, MAX_VARIABLES)
    count = whole("count", count, 1, MAX_VARIABLES // width)
    inputs, tribe = np.arange(1 << (width * count)), (1 << width) - 1
    some = np.zeros(len(inputs), dtype=bool)
    for t in range(count):
        some |= (inputs >> (t * width)) & tribe == tribe
    return np.where(some, -1.0, 1.0)


def _checked(truth_table: ArrayLike) -> NDArray[np.float64]:
    """The truth table as an array of numbers of shape (2^n,), n at most MAX_VARIABLES."""
    table = real("truth_table", truth_table, -MAX_VALUE, MAX_VALUE)
    if table.ndim != 1 or table.size == 0 or table.size & (table.size - 1):
        raise ValueError(f"truth_table has shape {table.shape}; allowed: one axis, its length a power of two")
    if _n_variables(table) > MAX_VARIABLES:
        raise ValueError(f"truth_table has {_n_variables(table)} variables; allowed: at most {MAX_VARIABLES}")
    return table


def _n_variables(table: NDArray[np.float64]) -> int:
    return len(table).bit_length() - 1
