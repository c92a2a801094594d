"""Token sensitivity and joint noise, exactly, for classifiers of short sequences: when one bounds the other.

S is the mean over the T tokens of the probability that the label changes when this token is drawn anew. Under joint
noise each token is drawn anew with probability epsilon: Pr[flip](epsilon) = epsilon T S + O(epsilon^2). If the inputs'
law is the product of the laws from which tokens are redrawn, then Pr[flip](epsilon) <= epsilon T S: change the tokens
one by one, and every input on the way has the law of the first. Off product laws S bounds nothing:
`two_constant_inputs`.

A classifier is an array of whole labels with one axis for each token, as long as its alphabet; laws are arrays of
probabilities. Arguments outside their domain raise ValueError naming them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import real

Array = NDArray[np.float64]


def product_law(tokens: Sequence[ArrayLike]) -> Array:
    """The joint law of independent tokens: one axis for each of the given vectors of probabilities."""
    return functools.reduce(np.multiply.outer, [_law("tokens", token) for token in tokens], np.array(1.0))


def two_constant_inputs(n: int) -> Array:
    """The law on {1, -1}^n that has (1, ..., 1) and (-1, ..., -1) with probability 1/2 each.

    A majority of 3 or more never changes with one token, S = 0, and changes with probability 1/2 when all are redrawn.
    """
    law = np.zeros((2,) * n)
    law[(0,) * n] = law[(1,) * n] = 0.5
    return law


def token_sensitivities(labels: ArrayLike, inputs: ArrayLike, redraw: Sequence[ArrayLike]) -> Array:
    """For each token the probability that the label changes when it alone is drawn anew: (T,), with mean S.

    labels: whole numbers, one axis for each token. inputs: their joint law, of the same shape. redraw: for each token
    the law that it is drawn anew from, whatever it was.
    """
    labels, inputs, redraw = _checked(labels, inputs, redraw)
    shares = np.eye(len(redraw))
    return np.array([_flips(labels, inputs, redraw, share) for share in shares])


def flip_probability(
    labels: ArrayLike, inputs: ArrayLike, redraw: Sequence[ArrayLike], epsilon: ArrayLike
) -> np.float64 | Array:
    """Probability that the label changes when each token is drawn anew with probability epsilon, independently.

    epsilon: in [0, 1], any shape, which the result has. The other arguments are those of `token_sensitivities`.
    """
    labels, inputs, redraw = _checked(labels, inputs, redraw)
    epsilon = real("epsilon", epsilon, 0.0, 1.0)
    found = [_flips(labels, inputs, redraw, np.full(len(redraw), one)) for one in epsilon.ravel()]
    return np.array(found).reshape(epsilon.shape)[()]


def _flips(labels: NDArray[np.int64], inputs: Array, redraw: list[Array], shares: Array) -> float:
    """Probability of a change when token i is redrawn with probability shares[i]."""
    flips = 0.0
    for label in np.unique(labels):
        kept = other = (labels != label).astype(np.float64)
        for axis, (law, share) in enumerate(zip(redraw, shares, strict=True)):
            if share:
                mean = np.expand_dims(np.tensordot(other, law, (axis, 0)), axis)
                other = (1 - share) * other + share * mean
        flips += float((inputs * (1 - kept) * other).sum())
    return flips


def _law(name: str, value: ArrayLike) -> Array:
    law = real(name, value, 0.0, 1.0)
    if abs(law.sum() - 1) > 1e-9:
        raise ValueError(f"{name} has the sum {law.sum():g}; allowed: probabilities that sum to 1")
    return law


def _checked(
    labels: ArrayLike, inputs: ArrayLike, redraw: Sequence[ArrayLike]
) -> tuple[NDArray[np.int64], Array, list[Array]]:
    labels, inputs = np.asarray(labels), _law("inputs", inputs)
    laws = [_law("redraw", law) for law in redraw]
    if labels.dtype.kind not in "iu" or not labels.ndim:
        raise ValueError("labels is not allowed; allowed: whole numbers, with one axis for each token")
    if inputs.shape != labels.shape or tuple(law.size for law in laws) != labels.shape:
        shapes = f"labels {labels.shape}, inputs {inputs.shape}, redraw {tuple(law.shape for law in laws)}"
        raise ValueError(f"shapes {shapes}; allowed: equal ones, and a vector of redraw for each token")
    return labels.astype(np.int64), inputs, laws
