"""How a correlation or a second moment passes through the layers of wide ReLU networks and transformers.

Inputs are standard Gaussian pairs with correlation rho per unit. s(rho) is Theorem 5.1. A
trajectory is an array (depth + 1, *shape of the arguments): its first entry is rho itself, entry l
the value after layer l. rho is in [-1, 1] and depth at least 0; functions raise ValueError naming an argument
outside its domain.

The paper's recurrences (Equations 5 and 8) put a correlation in and get an unnormalised second
moment out (s(1) = 1/2), which they then take for a correlation. The kinds `cosine` and `pearson`
stay correlations; `ffn_second_moment` follows the second moment itself. docs/errata.md, entries 15 to 18 and 36.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from nsbench.theory.domain import AT_LEAST_0, CORRELATION, COUNT_FROM_0, checked, one_of
from nsbench.theory.relu import relu_stability

Array = NDArray[np.float64]
MEAN_SQUARED = 1 / (2 * np.pi)
"""E[ReLU(X)]^2, X ~ N(0, 1)."""
SECOND_MOMENT = 0.5
"""E[ReLU(X)^2], X ~ N(0, 1)."""


# Rounding must not take a correlation out of [-1, 1], where the next layer starts: hence the clips.
FFN_KINDS: dict[str, Callable[[Array], Array]] = {
    "published": relu_stability,
    "linear": lambda rho: MEAN_SQUARED + rho / 4,
    "cosine": lambda rho: np.clip(relu_stability(rho) / SECOND_MOMENT, -1.0, 1.0),
    "pearson": lambda rho: np.clip((relu_stability(rho) - MEAN_SQUARED) / (SECOND_MOMENT - MEAN_SQUARED), -1.0, 1.0),
}
GAINS = {"lecun": 1.0, "he": 2.0}
"""Width times the variance of a weight."""
WEIGHTS = ("identity", *GAINS, "layer_norm")
TRANSFORMER_KINDS = ("published", "corrected", "identity", "random")
_FFN_KIND = functools.partial(one_of, allowed=FFN_KINDS)


@checked(rho=CORRELATION, depth=COUNT_FROM_0, kind=_FFN_KIND)
def ffn_recurrence(rho: ArrayLike, depth: int, kind: str) -> Array:
    """A correlation passed through `depth` ReLU layers: array (depth + 1, *shape of rho).

    kind:
        published: rho -> s(rho), Equation 5.
        linear: rho -> 1/(2 pi) + rho/4, the paper's linear stand-in for Equation 5.
        cosine: rho -> 2 s(rho), the cosine similarity of two outputs, E[hh'] / E[h^2].
        pearson: rho -> (s(rho) - 1/(2 pi)) / (1/2 - 1/(2 pi)), their correlation across units.
    """
    return _trajectory(rho, depth, FFN_KINDS[kind])


@checked(kind=_FFN_KIND)
def ffn_fixed_point(kind: str) -> float:
    """Where `ffn_recurrence` of this kind goes with depth.

    published: 1 / sqrt(1 + phi^2) with tan(phi) = phi, pi < phi < 3 pi/2 (0.2172; the paper gives the
    linear one). linear: 2 / (3 pi) (0.2122). cosine: 1, where 9 pi^2 / (2 depth^2) is missing at large
    depth. pearson: 0, from all rho but 1.
    """
    if kind == "published":
        phi = brentq(lambda angle: np.sin(angle) - angle * np.cos(angle), np.pi, 1.5 * np.pi, xtol=1e-15)
        return float(1 / np.hypot(1.0, phi))
    return {"linear": 2 / (3 * np.pi), "cosine": 1.0, "pearson": 0.0}[kind]


@checked(rho=CORRELATION, depth=COUNT_FROM_0, weights=functools.partial(one_of, allowed=WEIGHTS))
def ffn_second_moment(rho: ArrayLike, depth: int, weights: str) -> Array:
    """E[h_l(X) h_l(Y)] of one unit, h_l = ReLU(W_l h_(l-1)), h_0(X) = X: array (depth + 1, *shape of rho).

    X and Y are standard Gaussian with correlation rho, unit by unit; the mean is over inputs and
    weights, in the limit of infinite width d (for `identity`, at every width).

    weights:
        identity: W = I. ReLU twice is ReLU once: s(rho) from the first layer on.
        lecun: W ~ N(0, 1/d). Halves the second moment of a unit in each layer.
        he: W ~ N(0, 2/d). Keeps it.
        layer_norm: each layer's input is first brought to mean 0 and variance 1 over its units,
            without gain or bias, then W ~ N(0, 1/d).

    The settings that Figure 4a leaves open; Section 5.3.
    """
    if weights == "identity":
        return np.stack([rho, *[np.asarray(relu_stability(rho))] * depth])
    if weights == "layer_norm":
        return np.concatenate([rho[None], relu_stability(ffn_recurrence(rho, depth, "pearson")[:-1])])
    return _wide_second_moment(rho, depth, np.sqrt(GAINS[weights] / 2))


@checked(
    rho=CORRELATION,
    depth=COUNT_FROM_0,
    value_norm=AT_LEAST_0,
    kind=functools.partial(one_of, allowed=TRANSFORMER_KINDS),
)
def transformer_recurrence(rho: ArrayLike, depth: int, value_norm: ArrayLike, kind: str) -> Array:
    """Noise stability after layers of attention and ReLU: array (depth + 1, *shape of rho and value_norm).

    W_Q W_K^T = I, so that in the limit of large d attention is the identity, and the columns of W_V have
    norm gamma = `value_norm`.

    kind:
        published: rho -> s(gamma^2 rho), Equation 8.
        corrected: rho -> gamma^2 s(rho), Equation 8 with gamma in its right place.
        identity: W_V = gamma I. gamma^(2 l) s(rho) after layer l: the limit of large d.
        random: W_V ~ N(0, gamma^2/d), or gamma times a random rotation, in the limit of large d: the
            second moment of a unit, as `ffn_second_moment` with gain gamma^2.

    value_norm: at least 0, broadcast with rho. Entries beyond float64 are inf. Where the first two kinds would ask
    for s outside [-1, 1], which no value_norm up to 1 does, the ValueError names value_norm.
    """
    if kind == "identity":
        moments = _times_square(_powers(value_norm, depth, rho), relu_stability(rho))
        return np.concatenate([rho[None], moments[1:]])
    if kind == "random":
        return _wide_second_moment(rho, depth, value_norm / np.sqrt(2))
    if kind == "corrected":
        return _trajectory(rho, depth, lambda state: _times_square(value_norm, relu_stability(_correlation(state))))
    return _trajectory(rho, depth, lambda state: relu_stability(_correlation(_times_square(value_norm, state))))


def _trajectory(rho: Array, depth: int, step: Callable[[Array], Array]) -> Array:
    states = [rho]
    for _ in range(depth):
        states.append(step(states[-1]))
    return np.stack(states)


def _wide_second_moment(rho: Array, depth: int, growth: Array) -> Array:
    """Second moments under weights of variance 2 growth^2 / d: growth^(2 l) times the cosine similarity."""
    return _times_square(_powers(growth, depth, rho), ffn_recurrence(rho, depth, "cosine"))


def _times_square(factor: Array, values: Array) -> Array:
    """factor^2 values, factor >= 0: 0 where a value is 0, and inf only where the product is so."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(values == 0, 0.0, factor * (factor * values))


def _powers(base: Array, depth: int, like: Array) -> Array:
    """base^0 ... base^depth along a new first axis before those of `like`."""
    with np.errstate(over="ignore"):
        return base ** np.arange(depth + 1.0).reshape(-1, *[1] * like.ndim)


def _correlation(state: Array) -> Array:
    """`state`, if it may be a correlation."""
    if np.abs(state).max(initial=0.0) > 1:
        raise ValueError("value_norm is too large: value_norm^2 takes a correlation out of [-1, 1]")
    return state
