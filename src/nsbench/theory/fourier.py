"""Fourier weight by degree of functions of n tokens with U symbols each, for uniform inputs.

The degree-j part of f is its projection on functions that depend on j tokens and have mean 0 over each; W_j is the mean
of its square, summed over outputs. With U = 2 these are the weights of `nsbench.theory.boolean`; with the discrete
Fourier transform over Z_U^n, those of frequencies of which j are not 0. E[f^2] is the sum of W_j, and noise that keeps
a token with probability kappa and else redraws it uniformly has the stability sum_j kappa^j W_j. Source: section 2.1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import COUNT, COUNT_FROM_0, checked, real, whole


@checked(n_tokens=COUNT_FROM_0)
def weights_by_degree(values: ArrayLike, n_tokens: int) -> NDArray[np.float64]:
    """W_0 ... W_n, (n_tokens + 1), exactly.

    values: f at every input, (U, ..., U, ...): an axis for each token, then any axes of outputs. Raises ValueError
    naming values where there are fewer axes, or token axes of other lengths.
    """
    table = real("values", values)
    shape = table.shape[:n_tokens]
    if len(shape) < n_tokens or len(set(shape)) > 1:
        raise ValueError(f"values has shape {table.shape}; allowed: {n_tokens} axes of one length, then outputs")
    squares = np.abs(np.fft.fftn(table, axes=range(n_tokens)) / math.prod(shape)) ** 2 if n_tokens else table**2
    degrees = np.zeros(shape, dtype=np.int64)
    for axis in range(n_tokens):
        degrees += (np.arange(shape[axis]) > 0).reshape(-1, *[1] * (n_tokens - axis - 1))
    return np.bincount(degrees.ravel(), squares.reshape(*shape, -1).sum(-1).ravel(), n_tokens + 1)


@checked(n_tokens=COUNT, degree=COUNT_FROM_0)
def degree_kernel(n_tokens: int, n_symbols: int, degree: int) -> NDArray[np.float64]:
    """K(a) for a = 0 ... n_tokens, (n_tokens + 1): the degree-j part of f at x is E_y[f(y) K(a)], a the number of
    tokens in which x and a uniform y agree.

    The sum over sets of j tokens of the product of U - 1 where they agree and -1 elsewhere, a Krawtchouk polynomial. So
    W_j = E[<f(x), f(y)> K(a)] for independent x and y. n_symbols: U, at least 2.
    """
    n_symbols = whole("n_symbols", n_symbols, 2)

    def at(agree: int) -> int:
        terms = range(max(0, degree - n_tokens + agree), min(agree, degree) + 1)
        return sum(
            math.comb(agree, m) * (n_symbols - 1) ** m * math.comb(n_tokens - agree, degree - m) * (-1) ** (degree - m)
            for m in terms
        )

    return np.array([at(agree) for agree in range(n_tokens + 1)], dtype=np.float64)
