"""How large the regulariser's gradient is beside that of the cross entropy: docs/effect_size.md has the derivation.

Two classes, or one example of many: what an optimiser sees follows by the chain rule. Arrays broadcast. Functions raise
ValueError naming an argument outside its domain.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import AT_LEAST_0, CORRELATION, COUNT, COUNT_FROM_0, SHARE, checked, real, whole
from nsbench.theory.resampling import resampling_correlation, unchanged_probability

Values = np.float64 | NDArray[np.float64]
_INNER = functools.partial(real, low=-1.0, high=1.0, open_low=True, open_high=True)
_ABOVE_0 = functools.partial(real, low=0.0, high=1.0, open_low=True)


@checked(coefficient=_INNER, degree=COUNT_FROM_0, rho=CORRELATION, gamma=AT_LEAST_0, label_noise=SHARE)
def parity_gradients(
    coefficient: ArrayLike, degree: int, rho: ArrayLike, gamma: ArrayLike, label_noise: ArrayLike = 0.0
) -> tuple[Values, Values]:
    """Derivatives by c, for f = c chi_S, of the mean cross entropy (nats) and of gamma R.

    f(x) = P(class +1) - P(class -1) is a model of two classes, chi_S the parity of `degree` uniform bits, and labels
    are chi_S, flipped with probability eta = `label_noise`. With kappa = (1 + rho) / 2 they are

        -(1 - 2 eta - c) / (1 - c^2)   and   -gamma kappa^degree c,

    the latter exact for the coefficient c of any f. R is Definition 6.1's with S = 1, a redraw that may return the bit
    that was there, and the gradient through both branches; through one it is half.
    """
    kappa = resampling_correlation(rho, 2)
    cross_entropy = -(1 - 2 * label_noise - coefficient) / (1 - coefficient**2)
    return cross_entropy[()], (-gamma * kappa**degree * coefficient)[()]


@checked(probability=_ABOVE_0, rho=CORRELATION, gamma=AT_LEAST_0, n_tokens=COUNT)
def confidence_gradients(
    probability: ArrayLike, n_classes: int, rho: ArrayLike, gamma: ArrayLike, n_tokens: int, n_symbols: int
) -> tuple[Values, Values]:
    """Derivatives by q, the label's probability, of one example's cross entropy and of gamma R where Y = X.

    The other classes share 1 - q evenly. With P the chance that Y = X (`unchanged_probability`), they are

        -1 / q   and   -2 gamma P (q - (1 - q) / (n_classes - 1)):

    of one sign once q is above chance. n_classes, n_symbols: at least 2. What Y other than X add is left out.
    """
    n_classes = whole("n_classes", n_classes, 2)
    chance = unchanged_probability(rho, n_tokens, n_symbols)
    confidence = probability - (1 - probability) / (n_classes - 1)
    return (-1 / probability)[()], (-2 * gamma * chance * confidence)[()]
