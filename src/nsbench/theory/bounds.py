"""Interval rules for second moments: linear maps, softmax attention over exchangeable tokens, ReLU.

Bounds are on entries H_ij of token i and unit j of some layer, seen from two correlated inputs X and
Y of one law. Tokens are exchangeable, so that an entry's range and mean do not depend on i. Arrays

    range, mean (D)            of each unit
    moments     (T, D, D)      E[H_ij(X) H_i'j'(Y)] for i = i' (first) and i != i' (second, if n > 1)
    spread      (2, T, D, D)   the same about a known centre c: E[(H_ij - c_j)(H'_i'j' - c_j')],
                               for the pair (X, Y) and for the pair (X, X)

Every rule holds for real arithmetic; results carry the rounding of float64.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


class Bounds(NamedTuple):
    """A lower and an upper bound of each entry of an array."""

    low: Array
    high: Array


def meet(*bounds: Bounds) -> Bounds:
    """The intersection of bounds on the same numbers; ends that rounding has crossed are put in order."""
    low = functools.reduce(np.maximum, (bound.low for bound in bounds))
    high = functools.reduce(np.minimum, (bound.high for bound in bounds))
    return Bounds(np.minimum(low, high), np.maximum(low, high))


def linear(vector: Bounds, weights: Array) -> Bounds:
    """Bounds of x W for x (D) within `vector`: each weight's sign says which end counts."""
    plus, minus = np.maximum(weights, 0), np.maximum(-weights, 0)
    return Bounds(vector.low @ plus - vector.high @ minus, vector.high @ plus - vector.low @ minus)


def quadratic(matrix: Bounds, weights: Array) -> Bounds:
    """Bounds of W^T M W for M (..., D, D) within `matrix`: the sign of w_l w_l' says which end counts."""
    plus, minus = np.maximum(weights, 0), np.maximum(-weights, 0)

    def sums(same: Array, other: Array) -> Array:
        return plus.T @ same @ plus + minus.T @ same @ minus - plus.T @ other @ minus - minus.T @ other @ plus

    return Bounds(sums(matrix.low, matrix.high), sums(matrix.high, matrix.low))


def products(vector: Bounds) -> Bounds:
    """Bounds (D, D) of x_j y_j' for x and y within `vector`."""
    ends = np.stack([np.multiply.outer(first, second) for first in vector for second in vector])
    return Bounds(ends.min(0), ends.max(0))


def weight_factors(entries: Bounds, logits: Array, n_tokens: int) -> tuple[float, float]:
    """Bounds of n times any softmax weight, for logits x_i M x_k^T of tokens within `entries` (D).

    Two logits of a row differ by x_i M (x_k - x_l)^T, at most t = sum_b max|(x M)_b| (high_b - low_b),
    and a weight is 1 / sum_l exp(z_l - z_k): hence between 1 / (1 + (n-1) e^t) and 1 / (1 + (n-1) e^-t).
    """
    if n_tokens == 1:
        return 1.0, 1.0
    keys = linear(entries, logits)
    gap = np.maximum(np.abs(keys.low), np.abs(keys.high)) @ (entries.high - entries.low)
    others = np.log(n_tokens - 1)
    return n_tokens * float(special.expit(-gap - others)), n_tokens * float(special.expit(gap - others))


def attention_spread(
    centre: Array, drift: Bounds, spread: Bounds, value: Array, factors: tuple[float, float], n_tokens: int
) -> tuple[Array, Bounds, Bounds]:
    """Centre, drift (mean less centre) and spread of sum_k S_ik (X W)_kj, n S between `factors`.

    Write it as the mean over tokens plus d_j = sum_k (S_ik - 1/n)(V_kj - c_j). As weights sum to 1,
    sum_k (S_ik - 1/n)^2 <= (1-a)(b-1)/n for n S in [a, b], so by Cauchy-Schwarz
    |d_j|_2 <= e_j = s_j sqrt((1-a)(b-1)), s_j = |V_kj - c_j|_2. With t_j that of the mean over tokens,
    the spread moves by at most t_j e_j' + e_j t_j' + e_j e_j'. And sum_k S_ik (V_kj - c_j)^2 <= b s_j^2.
    """
    least, most = factors
    shares = np.array([1.0]) if spread.low.shape[1] == 1 else np.array([1.0, n_tokens - 1]) / n_tokens
    mean_over_tokens = Bounds(*(np.einsum("t,ptab->pab", shares, end) for end in spread))
    average, single = quadratic(mean_over_tokens, value), quadratic(Bounds(*(end[1, 0] for end in spread)), value)
    size = np.sqrt(np.maximum(single.high.diagonal(), 0))
    size_of_mean = np.sqrt(np.maximum(average.high[1].diagonal(), 0))
    moved = size * np.sqrt(max(0.0, (1 - least) * (most - 1)))
    error = (
        np.multiply.outer(size_of_mean, moved)
        + np.multiply.outer(moved, size_of_mean)
        + np.multiply.outer(moved, moved)
    )
    drift = linear(drift, value)
    shape = (2, len(shares), *error.shape)
    low = np.broadcast_to((average.low - error)[:, None], shape)
    high = np.broadcast_to((average.high + error)[:, None], shape).copy()
    _cap_diagonal(high, most * size**2)
    return centre @ value, Bounds(drift.low - moved, drift.high + moved), Bounds(low, high)


def relu_moments(entries: Bounds, mean: Bounds, moments: Bounds) -> Bounds:
    """Bounds of E[ReLU(u) ReLU(v)] from those of u, v, E u, E v and E[u v].

    With the chord p + s u of ReLU over u's range, t = 1 - s (p, s, t >= 0):
    above by the chords' product, as both are at least ReLU >= 0; by one chord times the other's end; by both ends.
    Below by ReLU(u) ReLU(v) >= u v - u_- v_-, u_- = max(0, -u) <= p - t u or its end; by v_max u + u_max v
    - u_max v_max, from (u_max - ReLU(u))(v_max - ReLU(v)) >= 0; by both ends. Where v lies in [a, b], a >= 0, and
    w = (v - a) / (b - a), also by E[ReLU(u) v] >= b (E[u w])_+ + a (E[u (1 - w)])_+ and by a E u.
    Of bounds that use these alone, none is tighter where E u, E v and E[u v] are known exactly.
    """
    ends = Bounds(*(np.maximum(end, 0) for end in entries))
    width = entries.high - entries.low
    slope = np.divide(ends.high - ends.low, width, out=(entries.low >= 0).astype(float), where=width > 0)
    start = np.maximum(ends.low - slope * entries.low, 0)
    rest = 1 - slope
    below_zero = np.maximum(-entries.low, 0)

    def pairs(first: Array, second: Array) -> Array:
        return np.multiply.outer(first, second) + np.multiply.outer(second, first)

    square = np.multiply.outer
    chord = slope * mean.high + start
    by_chords = square(slope, slope) * moments.high + square(start, slope * mean.high)
    by_chords = by_chords + square(slope * mean.high, start) + square(start, start)
    high = functools.reduce(
        np.minimum, [by_chords, square(chord, ends.high), square(ends.high, chord), square(ends.high, ends.high)]
    )
    # Rows are u, columns v; for the other way round, transposed below (E[u v] is symmetric in the units).
    share = np.divide(1.0, width, out=np.zeros_like(width), where=(entries.low >= 0) & (width > 0))
    at_top = np.maximum(moments.low - square(mean.high, ends.low), 0) * ends.high
    at_floor = np.maximum(square(mean.low, ends.high) - moments.high, 0) * ends.low
    one_positive = np.maximum((at_top + at_floor) * share, square(mean.low, ends.low))
    low = functools.reduce(
        np.maximum,
        [
            (1 - square(rest, rest)) * moments.low + pairs(start, rest * mean.low) - square(start, start),
            moments.low - square(below_zero, below_zero),
            pairs(mean.low, ends.high) - square(ends.high, ends.high),
            square(ends.low, ends.low),
            one_positive,
            one_positive.swapaxes(-1, -2),
        ],
    )
    return meet(Bounds(low, high))


def relu_spread(centre: Array, drift: Bounds, spread: Bounds, entries: Bounds) -> tuple[Array, Bounds, Bounds]:
    """Centre, drift and spread of ReLU(u) about ReLU(c).

    ReLU(u) - ReLU(c) = k (u - c) + r with r = ReLU(w): k = 1 and w = -u where c >= 0, else k = 0 and w = u.
    w lies about -|c| with E(w + |c|)^2 <= q, and never above w_max. So E r <= (t - |c|)(1 + e/t)/2,
    e = E w + |c|, from ReLU(w) <= (w + t)^2 / 4t at t = sqrt(c^2 + q); E r is below the chord's mean;
    E r^2 <= w_max E r and, as r <= (w + |c|)_+ w_max / (w_max + |c|), E r^2 <= q (w_max / (w_max + |c|))^2.
    Cross terms by Cauchy-Schwarz; ReLU is 1-Lipschitz, so E(ReLU(u) - ReLU(c))^2 <= q.
    """
    kept, distance = centre >= 0, np.abs(centre)
    most, least = np.where(kept, -entries.low, entries.high), np.where(kept, -entries.high, entries.low)
    shift = Bounds(np.where(kept, -drift.high, drift.low), np.where(kept, -drift.low, drift.high))
    q = np.maximum(spread.high[1, 0].diagonal(), 0)
    top = np.maximum(most, 0)
    root = np.sqrt(distance**2 + q)
    by_square = (root - distance) / 2 * (1 + np.divide(shift.high, root, out=np.zeros_like(root), where=root > 0))
    width = most - least
    by_chord = top * np.divide(shift.high - distance - least, width, out=np.ones_like(width), where=width > 0)
    mean_low = np.maximum(0, shift.low - distance)
    mean_high = np.where(most > 0, np.maximum(np.minimum.reduce([by_square, by_chord, top]), mean_low), 0.0)
    mean_low = np.minimum(mean_low, mean_high)
    share = np.divide(top, top + distance, out=np.zeros_like(top), where=top > 0)
    size_of_rest = np.sqrt(np.minimum(share**2 * q, top * mean_high))

    size, keep = np.sqrt(q) * kept, kept.astype(float)
    cross = np.multiply.outer(size, size_of_rest) + np.multiply.outer(size_of_rest, size)
    both = np.multiply.outer(keep, keep)
    low = both * spread.low - cross
    high = both * spread.high + cross + np.multiply.outer(size_of_rest, size_of_rest)
    _cap_diagonal(high, q)
    return (
        np.maximum(centre, 0),
        Bounds(keep * drift.low + mean_low, keep * drift.high + mean_high),
        Bounds(low, high),
    )


def tightened(centre: Array, drift: Bounds, spread: Bounds, entries: Bounds, rho: float) -> tuple[Bounds, Bounds]:
    """Drift and spread that also keep to the range, to Cauchy-Schwarz, and to the noise's spectrum.

    The noise keeps each entry of the input with probability rho, else draws it afresh: its operator on
    functions of mean 0 has eigenvalues rho^k, k >= 1. So the covariance of f(X) and g(Y) is at most
    rho sd(f) sd(g) in size, and that of f(X) and f(Y) is not negative; the pair (X, X) has rho = 1.
    """
    drift = meet(drift, Bounds(entries.low - centre, entries.high - centre))
    nearest = np.maximum(0, np.maximum(drift.low, -drift.high))
    reach = np.maximum((entries.low - centre) ** 2, (entries.high - centre) ** 2)
    square = np.minimum(np.maximum(spread.high[1, 0].diagonal(), 0), reach)
    size, deviation = np.sqrt(square), np.sqrt(np.maximum(square - nearest**2, 0))
    drift = meet(drift, Bounds(-size, size))
    means = products(drift)
    covariance = np.array([rho, 1.0])[:, None, None, None] * np.multiply.outer(deviation, deviation)
    limit = np.multiply.outer(size, size)
    low = np.maximum(np.maximum(spread.low, -limit), means.low - covariance)
    high = np.minimum(np.minimum(spread.high, limit), means.high + covariance)
    unit = np.arange(len(centre))
    low[:, 0, unit, unit] = np.maximum(low[:, 0, unit, unit], nearest**2)
    return drift, meet(Bounds(low, high))


def moments_about_zero(centre: Array, drift: Bounds, spread: Bounds) -> Bounds:
    """Bounds (T, D, D) of E[H H'] = E[(H-c)(H'-c')] + c c' + c E(H'-c') + c' E(H-c) for the pair (X, Y)."""
    plus, minus = np.maximum(centre, 0), np.maximum(-centre, 0)
    square, outer = np.multiply.outer(centre, centre), np.multiply.outer
    low = outer(plus, drift.low) - outer(minus, drift.high)
    high = outer(plus, drift.high) - outer(minus, drift.low)
    return Bounds(spread.low[0] + square + low + low.T, spread.high[0] + square + high + high.T)


def _cap_diagonal(high: Array, most: Array) -> None:
    """Lower the upper bound of E(H_ij(X) - c_j)^2 to `most`, in place."""
    unit = np.arange(len(most))
    high[1, 0, unit, unit] = np.minimum(high[1, 0, unit, unit], most)
