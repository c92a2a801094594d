"""Lemma 12: bounds on the second moments of one attention layer's outputs, with the condition it needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory import domain
from nsbench.theory.bounds import Array, Bounds, linear

MAX_SIZE = 1e50
"""Of entries and of weights, so that no product of them leaves float64."""


class AttentionInterval(NamedTuple):
    """Lemma 12's bounds on every E[A(X)_ij A(Y)_i'j'], and log E, by which they are apart."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    log_expansion: np.float64


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
    bounds that leave float64 are inf and 0. Entries and weights are at most 1e50 in size, moments 1e100.

    As printed the lemma is false: its proof multiplies an interval by (X W_V)_kj (Y W_V)_k'j', which may
    change sign. It holds where that product is never negative, so this is required here and read off
    entry_low and entry_high. docs/errata.md, entry 20.

    Raises ValueError where an argument is outside its domain: not 0 < moment_low <= moment_high, moments
    that such entries cannot have, weights not of one square shape, columns of X W_V that may be negative
    and positive, or R_l <= 0.
    """
    smallest, largest = _entry_range(entry_low, entry_high)
    low = domain.real("moment_low", moment_low, 0.0, open_low=True)
    high = domain.real("moment_high", moment_high, high=MAX_SIZE**2)
    low, high = domain.broadcast(moment_low=low, moment_high=high)
    if (low > high).any():
        raise ValueError(f"moment_low = {low[low > high][0]:g} is above moment_high = {high[low > high][0]:g}")
    greatest = max(smallest**2, largest**2)
    if (low > greatest).any():
        raise ValueError(
            f"moment_low = {low.max():g} is above {greatest:g}, the largest product of entries between "
            f"entry_low = {smallest:g} and entry_high = {largest:g}"
        )
    query_DD, key_DD, value_DD = square_weights(query=query, key=key, value=value)
    column = mixed_signs(value_DD, smallest, largest)
    if column is not None:
        raise ValueError(column)
    positive, negative = _signed_sums(value_DD)
    least = (low[..., None, None] * positive + high[..., None, None] * negative).min((-2, -1))
    if (least <= 0).any():
        raise ValueError(
            f"value is not allowed: its smallest rho_l S+ + rho_r S- is {least.min():g}; Lemma 12 needs it positive"
        )
    return interval_of_moments(low, high, query_DD, key_DD, value_DD, max(abs(smallest), abs(largest)))


def interval_of_moments(
    low: Array, high: Array, query: Array, key: Array, value: Array, largest: float
) -> AttentionInterval:
    """The lemma's formula; without its positivity, R_l <= 0 gives a lower bound that is not positive."""
    positive, negative = _signed_sums(value)
    least = (np.asarray(low)[..., None, None] * positive + np.asarray(high)[..., None, None] * negative).min((-2, -1))
    most = np.asarray(high) * positive.max()
    norms = np.abs(query).sum(1).max() * np.abs(key).sum(1).max()
    with np.errstate(over="ignore", under="ignore"):
        log_expansion = np.float64(4 * len(value) ** 2 * largest**2 * norms)
        # In logarithms: E alone may overflow where its product with a small R_r does not.
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = np.where(least > 0, np.exp(np.log(np.abs(least)) - log_expansion), np.minimum(least, 0))
            upper = np.where(most > 0, np.exp(np.log(most) + log_expansion), 0.0)
    return AttentionInterval(lower[()], upper[()], log_expansion)


def _signed_sums(value: Array) -> tuple[Array, Array]:
    """S+ and S- (d, d) of every two columns of W_V."""
    plus, minus = np.maximum(value, 0).sum(0), np.maximum(-value, 0).sum(0)
    outer = np.multiply.outer
    return outer(plus, plus) + outer(minus, minus), -outer(plus, minus) - outer(minus, plus)


def mixed_signs(value: Array, smallest: float, largest: float) -> str | None:
    """What is wrong with W_V, if its values for entries in [smallest, largest] may differ in sign."""
    ends = np.full(len(value), smallest), np.full(len(value), largest)
    low, high = linear(Bounds(*ends), value)
    if (low >= 0).all() or (high <= 0).all():
        return None
    # A column of both signs if there is one, else the first that differs from the majority.
    both = (low < 0) & (high > 0)
    rarer = high > 0 if (high > 0).sum() < (low < 0).sum() else low < 0
    column = int(np.argmax(both if both.any() else rarer))
    return (
        f"value is not allowed: column {column} of X W_V lies in [{low[column]:g}, {high[column]:g}]; Lemma 12 holds "
        "where all columns are almost surely of one sign"
    )


def _entry_range(entry_low: float, entry_high: float) -> tuple[float, float]:
    ends = {"entry_low": entry_low, "entry_high": entry_high}
    smallest, largest = (domain.real(name, end, -MAX_SIZE, MAX_SIZE) for name, end in ends.items())
    if smallest.ndim or largest.ndim or smallest > largest:
        raise ValueError(f"entry_low = {entry_low} and entry_high = {entry_high} are not the ends of a range")
    return float(smallest), float(largest)


def square_weights(**weights: ArrayLike) -> list[Array]:
    """Weights as (d, d) arrays, all of one size, no entry larger than MAX_SIZE."""
    arrays = {name: domain.real(name, matrix, -MAX_SIZE, MAX_SIZE) for name, matrix in weights.items()}
    size = next(iter(arrays.values())).shape
    for name, matrix in arrays.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size or matrix.shape != size:
            raise ValueError(f"{name} has shape {matrix.shape}; allowed: square, the same for all weights")
    return list(arrays.values())
