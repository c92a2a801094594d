"""Kernels of linear attention with infinitely many heads on {-1, 1}^n, by how tokens and positions are embedded.

A layer takes the covariances kappa_ab of token a of x and token b of y to kappa_ab sum_ij kappa_ij^2 (Hron et al. 2020,
arXiv 2006.10540: logits divided by the root of their width, no softmax); the output is the mean over tokens. Such a
kernel depends on <x, y> alone, so that parities are its eigenfunctions (`nsbench.theory.kernels`), only if each
position has embeddings of its own; `parity_quotients` says how far it is from that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
MOST_TOKENS = 64
_AT_ONCE = 500_000
"""Covariances of tokens that a kernel matrix is made from at a time."""


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
    t / d with x_i e_i. d: 1 to 64. embedding: a name of OF_OVERLAP.
    """
    one_of("embedding", embedding, OF_OVERLAP)
    d = whole("d", d, 1, MOST_TOKENS)
    y = np.where(np.arange(d) < np.arange(d + 1)[:, None], -1.0, 1.0)
    return linear_attention_kernel(np.ones(d), y, embedding, depth, activation)


def kernel_matrix(n: int, embedding: str, depth: int = 1, activation: str | None = None) -> Array:
    """The kernel at all pairs of points of {-1, 1}^n, in the order of `nsbench.theory.boolean`: (2^n, 2^n)."""
    n = whole("n", n, 1, MOST_ENUMERATED)
    points = 1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    rows = max(1, _AT_ONCE // (len(points) * n * n))
    parts = np.split(points, range(rows, len(points), rows))
    return np.vstack([linear_attention_kernel(part[:, None], points, embedding, depth, activation) for part in parts])


def parity_quotients(matrix: ArrayLike) -> tuple[Array, Array]:
    """<chi_S, K chi_S> of each parity chi_S, and how far it is from an eigenfunction of a kernel on the cube.

    The second is max over x of |K chi_S - <chi_S, K chi_S> chi_S|, with (K f)(x) = E_y[K(x, y) f(y)]. Both are
    shares of the kernel at (1, 1). All parities are eigenfunctions if and only if the second is 0 for all, and then the
    first are the eigenvalues. matrix: (2^n, 2^n), entry (0, 0) at (1, 1), n at most 10; the results are (2^n,).
    """
    matrix = real("matrix", matrix)
    size = len(matrix) if matrix.ndim else 0
    if matrix.shape != (size, size) or size & (size - 1) or not 1 <= size <= 1 << MOST_ENUMERATED:
        raise ValueError(f"matrix has shape {matrix.shape}; allowed: (2^n, 2^n) with n at most {MOST_ENUMERATED}")
    places = np.arange(size)
    parity_XS = 1.0 - 2.0 * (np.bitwise_count(places[:, None] & places) % 2)
    image_XS = matrix @ parity_XS / (size * matrix[0, 0])
    quotients = (parity_XS * image_XS).mean(0)
    return quotients, np.abs(image_XS - quotients * parity_XS).max(0)


def _bits(name: str, value: ArrayLike) -> Bits:
    bits = real(name, value, -1.0, 1.0)
    if bits.ndim < 1 or not (np.abs(bits) == 1).all():
        raise ValueError(f"{name} is not allowed; allowed: an array with entries -1 and 1, the last axis being tokens")
    return bits
