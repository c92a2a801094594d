"""Lemma 12: bounds on the second moments of one attention layer's outputs, with the condition it needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.bounds import Array, Bounds, linear
from nsbench.theory.domain import POSITIVE, checked, real


class AttentionInterval(NamedTuple):
    """Lemma 12's bounds on every E[A(X)_ij A(Y)_i'j'], and log E, by which they are apart."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    log_expansion: np.float64


@checked(moment_low=POSITIVE, moment_high=real)
def attention_interval(
    moment_low: ArrayLike,
    moment_high: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    entry_low: float,
    entry_high: float,
) -> AttentionInterval:
    """R_l / E <= E[A(X)_ij A(Y)_i'j'] <= R_r E, Lemma 12, for A(X) = softmax_rows(X W_Q W_K^T X^T) X W_V.

    moment_low, moment_high: bounds on every E[X_kl Y_k'l']; arrays broadcast. query, key, value: W_Q,
    W_K, W_V (d, d). entry_low, entry_high: every entry of X and Y lies between them almost surely; the
    lemma's B is the larger of their sizes. The norm is the largest row sum of |W|: with the largest
    entry, as the same sign may mean, the lemma fails. log_expansion is log E = 4 d^2 B^2 |W_K| |W_Q|;
    bounds that leave float64 are inf and 0.

    As printed the lemma is false: its proof multiplies an interval by (X W_V)_kj (Y W_V)_k'j', which may
    change sign. It holds where that product is never negative, so this is required here and read off
    entry_low and entry_high. docs/errata.md, entry 20.

    Raises ValueError where an argument is outside its domain: not 0 < moment_low <= moment_high, moments
    that such entries cannot have, weights not of one square shape, columns of X W_V that may be negative
    and positive, or R_l <= 0.
    """
    ends = real("entry_low", entry_low), real("entry_high", entry_high)
    if ends[0].ndim or ends[1].ndim or ends[0] > ends[1]:
        raise ValueError(f"entry_low = {entry_low} and entry_high = {entry_high} are not the ends of a range")
    largest = max(abs(float(end)) for end in ends)
    real("moment_low", moment_low, high=np.minimum(moment_high, largest**2))
    query_DD, key_DD, value_DD = square_weights(query=query, key=key, value=value)
    if not one_sign(value_DD, *map(float, ends)):
        raise ValueError("value is not allowed; allowed: columns of X W_V that are almost surely all of one sign")
    least = _least(moment_low, moment_high, value_DD)
    if (least <= 0).any():
        raise ValueError(f"value is not allowed: Lemma 12 needs R_l above 0, and it is {least.min():g}")
    return interval_of_moments(moment_low, moment_high, query_DD, key_DD, value_DD, largest)


def interval_of_moments(
    low: ArrayLike, high: ArrayLike, query: Array, key: Array, value: Array, largest: float
) -> AttentionInterval:
    """The lemma's formula; without its positivity, R_l <= 0 gives a lower bound that is not positive."""
    least, most = _least(low, high, value), np.asarray(high) * _signed_sums(value)[0].max()
    norms = np.abs(query).sum(1).max() * np.abs(key).sum(1).max()
    log_expansion = np.float64(4 * len(value) ** 2 * largest**2 * norms)
    # In logarithms: E alone may overflow where its product with a small R_r does not.
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        lower = np.where(least > 0, np.exp(np.log(np.abs(least)) - log_expansion), np.minimum(least, 0))
        upper = np.where(most > 0, np.exp(np.log(most) + log_expansion), 0.0)
    return AttentionInterval(lower[()], upper[()], log_expansion)


def _least(low: ArrayLike, high: ArrayLike, value: Array) -> Array:
    """R_l: the least of low S+ + high S- over pairs of columns."""
    positive, negative = _signed_sums(value)
    low, high = np.asarray(low)[..., None, None], np.asarray(high)[..., None, None]
    return (low * positive + high * negative).min((-2, -1))


def _signed_sums(value: Array) -> tuple[Array, Array]:
    """S+ and S- (d, d) of every two columns of W_V."""
    plus, minus = np.maximum(value, 0).sum(0), np.maximum(-value, 0).sum(0)
    outer = np.multiply.outer
    return outer(plus, plus) + outer(minus, minus), -outer(plus, minus) - outer(minus, plus)


def one_sign(value: Array, smallest: float, largest: float) -> bool:
    """Whether the columns of X W_V are all of one sign for entries in [smallest, largest]."""
    low, high = linear(Bounds(np.full(len(value), smallest), np.full(len(value), largest)), value)
    return bool((low >= 0).all() or (high <= 0).all())


def square_weights(**weights: ArrayLike) -> list[Array]:
    """Weights as (d, d) arrays, all of one size."""
    arrays = {name: real(name, matrix) for name, matrix in weights.items()}
    size = next(iter(arrays.values())).shape
    for name, matrix in arrays.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size or matrix.shape != size:
            raise ValueError(f"{name} has shape {matrix.shape}; allowed: square, the same for all weights")
    return list(arrays.values())
