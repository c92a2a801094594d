"""Kernels of linear attention with infinitely many heads on {-1, 1}^n, by how tokens and positions are embedded.

A layer takes the covariances kappa_ab of token a of x and token b of y to kappa_ab sum_ij kappa_ij^2 (Hron et al. 2020,
arXiv 2006.10540: logits divided by the root of their width, no softmax); the output is the mean over tokens. Such a
kernel depends on <x, y> alone, so that parities are its eigenfunctions (`nsbench.theory.kernels`), only if each
position has embeddings of its own; `parity_residuals` says how far it is from that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.boolean import fourier_transform
from nsbench.theory.domain import COUNT, one_of, real, whole
from nsbench.theory.kernels import ACTIVATIONS, Array, dual

Bits = NDArray[np.float64]

EMBEDDINGS: dict[str, Callable[[Bits, Bits], Array]] = {
    "position_symbol": lambda x, y: np.eye(x.shape[-1]) * _same(x, y),
    "signed_position": lambda x, y: np.eye(x.shape[-1]) * _product(x, y),
    "additive": lambda x, y: (np.eye(x.shape[-1]) + _same(x, y)) / 2.0,
    "scalar": lambda x, y: _product(x, y),
}
"""How x_i becomes a vector -> its covariances (..., n, n) for x and y of shape (..., n); vectors have length 1.

position_symbol: a vector of its own for each position and symbol. signed_position: x_i e_i. additive: one for the
symbol and one for the position, orthogonal to each other and equally long, added up. scalar: x_i itself, without a
position.
"""
OF_OVERLAP = ("position_symbol", "signed_position")
"""Embeddings whose kernel depends on <x, y> alone."""
MOST_ENUMERATED = 10
"""Variables of a kernel matrix on the whole cube."""


def _same(x: Bits, y: Bits) -> Array:
    return (x[..., :, None] == y[..., None, :]).astype(np.float64)


def _product(x: Bits, y: Bits) -> Array:
    return x[..., :, None] * y[..., None, :]


def linear_attention_kernel(
    x: ArrayLike, y: ArrayLike, embedding: str, depth: int = 1, activation: str | None = None
) -> np.float64 | Array:
    """Covariance of the mean-pooled output of `depth` layers of infinite-head linear attention at x and at y.

    Each layer is divided by the sum of kappa_ij^2 at x = y = (1, ..., 1), so that the kernel is 1 there for n tokens of
    which none attends to another by its embedding; without this a deep one overflows. With an activation each attention
    layer is followed by a dense layer on every token, phi then weights N(0, 2 / fan-in).

    x, y: entries -1 and 1, shapes (..., n) that broadcast; the result has their leading shape. embedding: a name of
    EMBEDDINGS. depth: at least 1. activation: none, `relu` or `erf`. No residual stream.
    """
    of, depth = EMBEDDINGS[one_of("embedding", embedding, EMBEDDINGS)], COUNT("depth", depth)
    if activation is not None:
        one_of("activation", activation, ACTIVATIONS)
    x, y = np.broadcast_arrays(_bits("x", x), _bits("y", y))
    ones = np.ones(x.shape[-1])
    pairs = [of(x, y), of(x, x), of(y, y), of(ones, ones)]
    for _ in range(depth):
        scale = (pairs[-1] ** 2).sum()
        pairs = [kappa * ((kappa**2).sum((-2, -1), keepdims=True) / scale) for kappa in pairs]
        if activation is not None:
            x_self, y_self, ones_self = (np.diagonal(kappa, axis1=-2, axis2=-1) for kappa in pairs[1:])
            selves = [(x_self, y_self), (x_self, x_self), (y_self, y_self), (ones_self, ones_self)]
            pairs = [
                2.0 * dual(activation, kappa, a[..., :, None], b[..., None, :])[0]
                for kappa, (a, b) in zip(pairs, selves, strict=True)
            ]
    return pairs[0].mean((-2, -1))[()]


def linear_attention_overlap(d: int, embedding: str, depth: int = 1, activation: str | None = None) -> Array:
    """Psi of that kernel at `kernels.overlaps(d)`, shape (d + 1,), for embeddings whose kernel depends on <x, y> alone.

    Without an activation it is ((1 + t) / 2)^((3^depth + 1) / 2) / d with a vector for each position and symbol, and
    t / d with x_i e_i. embedding: a name of OF_OVERLAP.
    """
    one_of("embedding", embedding, OF_OVERLAP)
    d = whole("d", d, 1, 256)
    y = np.where(np.arange(d) < np.arange(d + 1)[:, None], -1.0, 1.0)
    return np.array([linear_attention_kernel(np.ones(d), one, embedding, depth, activation) for one in y])


def kernel_matrix(n: int, embedding: str, depth: int = 1, activation: str | None = None) -> Array:
    """The kernel at all pairs of points of {-1, 1}^n, in the order of `nsbench.theory.boolean`: (2^n, 2^n)."""
    n = whole("n", n, 1, MOST_ENUMERATED)
    points = 1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    return np.array([linear_attention_kernel(point, points, embedding, depth, activation) for point in points])


def parity_residuals(matrix: ArrayLike) -> Array:
    """How far each parity chi_S is from an eigenfunction of a kernel on the cube, as a share of the kernel at (1, 1).

    max over x of |K chi_S - <chi_S, K chi_S> chi_S|, with (K f)(x) = E_y[K(x, y) f(y)]: 0 for all S if and only if all
    parities are eigenfunctions. matrix: (2^n, 2^n), entry (0, 0) at (1, 1); the result is (2^n,).
    """
    matrix = real("matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix has shape {matrix.shape}; allowed: (2^n, 2^n)")
    image_XS = np.array([fourier_transform(row) for row in matrix])
    parity_XS = len(matrix) * np.array([fourier_transform(row) for row in np.eye(len(matrix))])
    return np.abs(image_XS - (parity_XS * image_XS).mean(0) * parity_XS).max(0) / matrix[0, 0]


def _bits(name: str, value: ArrayLike) -> Bits:
    bits = real(name, value, -1.0, 1.0)
    if bits.ndim < 1 or not (np.abs(bits) == 1).all():
        raise ValueError(f"{name} is not allowed; allowed: an array with entries -1 and 1, the last axis being tokens")
    return bits
