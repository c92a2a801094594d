"""Bounds on noise stability that pass through a small transformer, layer by layer (section 5.3, appendix I).

Lemma 12 bounds the second moments of one attention layer's outputs by those of its inputs. Lemma 11
cannot follow it: for a ReLU it needs the exact Gaussian law of the pre-activations and the
probability with which noise keeps each, and Lemma 12 gives neither. The step through the ReLU is
therefore our own, from ranges, means and second moments (`nsbench.theory.bounds`).

A layer is A = softmax_rows(X W_Q W_K^T X^T) X W_V, then H = ReLU(A W_phi) token by token. Inputs have
entries X_ij iid uniform on [0, 1]; Y_ij = X_ij with probability rho, else a fresh draw.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nsbench.theory import bounds
from nsbench.theory.bounds import Array, Bounds
from nsbench.theory.domain import AT_LEAST_0, COUNT, COUNT_FROM_0, SHARE, checked, one_of, real

METHODS = ("lemma", "range", "sharp")
PARTS = ("attention", "MLP")
MLP_SPREAD = 1.0
"""Standard deviation of W_phi's entries, in units of their mean."""


class Layer(NamedTuple):
    """Weights (D, D) of one layer: attention's, then those of its ReLU."""

    query: Array
    key: Array
    value: Array
    mlp: Array


class LayerInterval(NamedTuple):
    """Bounds after one part of one layer, on second moments E[H_ij(X) H_i'j'(Y)].

    lower, upper: of all entry pairs (i, j), (i', j'): below the smallest, above the largest.
    mean_lower, mean_upper: of the mean over entries, i = i' and j = j': the stability per output entry.
    NaN where the method has no bound.
    """

    layer: int
    part: str
    lower: float
    upper: float
    mean_lower: float
    mean_upper: float


@checked(n_layers=COUNT, d_model=COUNT, logit_scale=AT_LEAST_0, seed=COUNT_FROM_0)
def random_network(n_layers: int, d_model: int, logit_scale: float, seed: int) -> list[Layer]:
    """Layers with random weights; those of one seed differ by the logit scale alone.

    W_Q, W_K: entries logit_scale N(0, 1). W_V: entries uniform on [0, 1], then columns divided by their
    sums, so that values stay positive, as Lemma 12 needs. W_phi: entries N(1, MLP_SPREAD^2) / d_model:
    signed, with columns that sum to about 1, so that the signal neither dies nor grows.
    """
    generator = np.random.default_rng(seed)  # no stream of nsbench.storage.seeding, which needs torch
    layers = []
    for _ in range(n_layers):
        query, key, mlp = generator.standard_normal((3, d_model, d_model))
        value = generator.random((d_model, d_model))
        layers.append(
            Layer(logit_scale * query, logit_scale * key, value / value.sum(0), (1 + MLP_SPREAD * mlp) / d_model)
        )
    return layers


@checked(n_tokens=COUNT, rho=SHARE, method=functools.partial(one_of, allowed=METHODS))
def network_intervals(network: Sequence[Layer], n_tokens: int, rho: float, method: str) -> list[LayerInterval]:
    """Bounds on second moments after attention and after the ReLU of each layer, in order.

    network: layers of d x d weights, as of `random_network`. rho in [0, 1]: probability with which noise
    keeps an entry of the input. method:

    range   attention's outputs are convex combinations of values, so almost sure ranges pass from layer
            to layer; moments lie between products of their ends. Nothing of the correlation is used.
    lemma   Lemma 12 with one lower and one upper bound for all moments and entries, then `relu_moments`.
            Where a lower bound of 0 takes the lemma's positivity away, 0 stays the lower bound: the
            values' sign gives it, and the upper bound's proof needs no positivity. Once values may change
            sign there is no bound: NaN from there on.
    sharp   second moments about a centre, of (X, Y) and of (X, X), with bounds on softmax weights from the
            ranges of the logits, each result within those of the other two methods where they hold.

    Raises ValueError where an argument is outside its domain.
    """
    layers = [Layer(*_square_weights(**layer._asdict())) for layer in network]
    if not layers or len({layer.value.shape for layer in layers}) > 1:
        raise ValueError("network is not allowed; allowed: at least one layer, all of one size")
    kept = float(rho)
    state = _inputs(len(layers[0].value), n_tokens, kept)
    found = []
    for number, layer in enumerate(layers, start=1):
        for part, state in zip(PARTS, _through(state, layer, n_tokens, kept, method), strict=True):  # noqa: B020
            low, high = state.moments
            means = (float(end[0].diagonal().mean()) for end in (low, high))
            found.append(LayerInterval(number, part, float(low.min()), float(high.max()), *means))
    return found


class _State(NamedTuple):
    """What is known after a part of a layer; shapes as in `nsbench.theory.bounds`."""

    entries: Bounds
    moments: Bounds
    centre: Array
    drift: Bounds
    spread: Bounds


def _inputs(d_model: int, n_tokens: int, rho: float) -> _State:
    """Uniform entries: mean 1/2, variance 1/12, covariance rho/12 of an entry with its noisy copy, else 0."""
    zero, half = np.zeros(d_model), np.full(d_model, 0.5)
    spread = np.zeros((2, min(n_tokens, 2), d_model, d_model))
    spread[:, 0] = np.array([rho, 1.0])[:, None, None] * np.eye(d_model) / 12
    exact = Bounds(spread, spread)
    still = Bounds(zero, zero)
    moments = bounds.moments_about_zero(half, still, exact)
    return _State(Bounds(zero, zero + 1), moments, half, still, exact)


def _through(state: _State, layer: Layer, n_tokens: int, rho: float, method: str) -> tuple[_State, _State]:
    """The states after attention and after the ReLU."""
    joint = layer.value @ layer.mlp
    values = bounds.linear(state.entries, layer.value)
    # A W_phi mixes tokens with the same weights as A: it is attention with values X (W_V W_phi).
    before = bounds.linear(state.entries, joint)
    entries = Bounds(np.maximum(before.low, 0), np.maximum(before.high, 0))
    if method == "range":
        return (
            state._replace(entries=values, moments=_everywhere(bounds.products(values), state)),
            state._replace(entries=entries, moments=_everywhere(bounds.products(entries), state)),
        )
    of_lemma = _lemma_step(state, layer)
    if method == "lemma":
        mixed, moved = values, (state.centre, state.drift, state.spread)
        moments, mean_before, more = of_lemma, before, None
    else:
        factors = bounds.weight_factors(state.entries, layer.query @ layer.key.T, n_tokens)
        about = (state.centre, state.drift, state.spread)
        moved = _tight(bounds.attention_spread(*about, layer.value, factors, n_tokens), values, rho)
        inner = _tight(bounds.attention_spread(*about, joint, factors, n_tokens), before, rho)
        moments = bounds.meet(
            bounds.moments_about_zero(*moved), bounds.products(values), *([of_lemma] if _known(of_lemma) else [])
        )
        mixed = bounds.meet(values, Bounds(moved[0] + moved[1].low, moved[0] + moved[1].high))
        mean_before = bounds.meet(before, Bounds(inner[0] + inner[1].low, inner[0] + inner[1].high))
        more = bounds.moments_about_zero(*inner)
    if not _known(moments):
        return (
            state._replace(entries=values, moments=moments),
            state._replace(entries=entries, moments=moments),
        )
    attended = _State(values, moments, *moved)
    moments = bounds.meet(moments, bounds.products(values))
    mixed = _means_of_moments(mixed, moments, values)
    mean_before = bounds.meet(mean_before, bounds.linear(mixed, layer.mlp))
    second = bounds.quadratic(moments, layer.mlp)
    if more is not None:
        second = bounds.meet(second, more, bounds.products(before))
    after = bounds.relu_moments(before, mean_before, second)
    if more is not None:
        moved = _tight(bounds.relu_spread(*inner, before), entries, rho)
        after = bounds.meet(after, bounds.moments_about_zero(*moved))
    return attended, _State(entries, after, *moved)


def _tight(moved: tuple[Array, Bounds, Bounds], entries: Bounds, rho: float) -> tuple[Array, Bounds, Bounds]:
    return (moved[0], *bounds.tightened(*moved, entries, rho))


def _known(moments: Bounds) -> bool:
    return not np.isnan(moments.low).any()


def _everywhere(moments_DD: Bounds, state: _State) -> Bounds:
    """The same bounds for pairs of entries of one token and of two."""
    return Bounds(*(np.broadcast_to(end, state.moments.low.shape) for end in moments_DD))


def _means_of_moments(mean: Bounds, moments: Bounds, entries: Bounds) -> Bounds:
    """Means that second moments of (X, Y) allow: m^2 <= E[H(X) H(Y)] as the noise's operator is not negative,
    and, for H >= 0, m >= E[H(X) H(Y)] / max H."""
    largest = np.sqrt(np.maximum(moments.high[0].diagonal(), 0))
    positive = (entries.low >= 0) & (entries.high > 0)
    smallest = np.divide(moments.low[0].diagonal(), entries.high, out=-largest, where=positive)
    return bounds.meet(mean, Bounds(smallest, largest))


def _lemma_step(state: _State, layer: Layer) -> Bounds:
    """Lemma 12 from one lower and one upper bound for all entries; NaN where values may change sign."""
    smallest, largest = float(state.entries.low.min()), float(state.entries.high.max())
    low, high = state.moments.low.min(), state.moments.high.max()
    if np.isnan(low) or not one_sign(layer.value, smallest, largest):
        nothing = np.full(state.moments.low.shape, np.nan)
        return Bounds(nothing, nothing)
    found = interval_of_moments(low, high, layer.query, layer.key, layer.value, max(abs(smallest), abs(largest)))
    one = np.ones(state.moments.low.shape)
    return Bounds(max(0.0, found.low) * one, found.high * one)


def interval_of_moments(low: float, high: float, query: Array, key: Array, value: Array, largest: float) -> Bounds:
    """R_l / E <= E[A(X)_ij A(Y)_i'j'] <= R_r E, Lemma 12, with log E = 4 d^2 B^2 |W_K| |W_Q|.

    low, high: bounds on every E[X_kl Y_k'l']. largest: B, at least the size of every entry of X and Y. The norm is the
    largest row sum of |W|: with the largest entry, as the same sign may mean, the lemma fails. Ends that leave float64
    are inf and 0; R_l <= 0 gives a lower bound that is not positive.

    As printed the lemma is false: its proof multiplies an interval by (X W_V)_kj (Y W_V)_k'j', which may change sign.
    It holds where that product is never negative, as `one_sign` tells. docs/errata.md, entry 20.
    """
    plus, minus = np.maximum(value, 0).sum(0), np.maximum(-value, 0).sum(0)
    outer = np.multiply.outer
    positive, negative = outer(plus, plus) + outer(minus, minus), -outer(plus, minus) - outer(minus, plus)
    least, most = (low * positive + high * negative).min(), high * positive.max()
    norms = np.abs(query).sum(1).max() * np.abs(key).sum(1).max()
    # In logarithms: E alone may overflow where its product with a small R_r does not.
    with np.errstate(over="ignore", under="ignore"):
        log_expansion = 4 * len(value) ** 2 * largest**2 * norms
        lower = np.exp(np.log(least) - log_expansion) if least > 0 else least
        return Bounds(lower, np.exp(np.log(most) + log_expansion) if most > 0 else np.float64(0.0))


def one_sign(value: Array, smallest: float, largest: float) -> bool:
    """Whether the columns of X W_V are all of one sign for entries in [smallest, largest]."""
    low, high = bounds.linear(Bounds(np.full(len(value), smallest), np.full(len(value), largest)), value)
    return bool((low >= 0).all() or (high <= 0).all())


def _square_weights(**weights: ArrayLike) -> list[Array]:
    """Weights as (d, d) arrays, all of one size."""
    arrays = {name: real(name, matrix) for name, matrix in weights.items()}
    size = next(iter(arrays.values())).shape
    for name, matrix in arrays.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size or matrix.shape != size:
            raise ValueError(f"{name} has shape {matrix.shape}; allowed: square, the same for all weights")
    return list(arrays.values())
