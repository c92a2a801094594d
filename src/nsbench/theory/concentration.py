"""Bounds on how much of a function's mass lies in high degrees, from its noise stability or its influence.

The weight of degree j, W_j, is the sum of squared coefficients of degree j: of the orthonormal
Hermite polynomials He_j / sqrt(j!) under N(0, 1), or of the parities of j coordinates under uniform
+-1 inputs. In both cases E[f^2] = sum_j W_j and Stab_rho(f) = sum_j rho^j W_j (Equation 3).
Arrays broadcast. Each function raises ValueError naming arguments outside their domain, or shapes that do not
broadcast. Bounds are not clipped: above 1 they say nothing. docs/errata.md, entries 1, 22, 26 and 35.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import AT_LEAST_0, POSITIVE, checked, real

ROUNDING = 1e-12
"""How far, relative to E[f^2], a stability may lie outside [0, E[f^2]]: it is then taken as the end."""
_INNER = functools.partial(real, low=0.0, high=1.0, open_low=True, open_high=True)
_BELOW_1 = functools.partial(real, low=0.0, high=1.0, open_high=True)


@checked(rho=_INNER, delta=POSITIVE, epsilon=_INNER)
def spectral_concentration_degree(
    rho: ArrayLike, delta: ArrayLike, epsilon: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """The degree from which on at most a share epsilon of E[f^2] lies, if Stab_rho(f) >= (1 - delta) E[f^2].

    log(1 - delta / epsilon) / log(rho): a positive real number, and every whole T at least as large
    will do. Lemma 6; Lemma 1 prints its negative. It is the least that holds for all f: mass 1 - p at
    degree 0 and p at degree T reaches it. rho: in (0, 1). delta: in (0, epsilon). epsilon: in (0, 1).
    """
    delta = real("delta", delta, 0.0, epsilon, open_low=True, open_high=True)
    return (np.log1p(-delta / epsilon) / np.log(rho))[()]


@checked(stability=real, norm2=POSITIVE, rho=_BELOW_1, degree=POSITIVE)
def tail_mass_bound_from_stability(
    stability: ArrayLike, norm2: ArrayLike, rho: ArrayLike, degree: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """Upper bound on the share of E[f^2] in degrees >= `degree`: (1 - stability / norm2) / (1 - rho^degree).

    It follows from Equation 3, as in the proof of Lemma 6. stability: Stab_rho(f) = E[f(X) f(Y)], between 0 and norm2
    (1e-12 norm2 outside counts as rounding). norm2: E[f^2], above 0; not the variance. rho: in [0, 1). degree: any
    positive real.
    """
    stability = real("stability", stability, -ROUNDING * norm2, (1 + ROUNDING) * norm2)
    lost = np.clip((norm2 - stability) / norm2, 0.0, 1.0)
    with np.errstate(divide="ignore"):  # rho = 0
        return (lost / -np.expm1(degree * np.log(rho)))[()]


@checked(total_influence=AT_LEAST_0, norm2=POSITIVE, degree=POSITIVE)
def tail_mass_bound_from_influence(
    total_influence: ArrayLike, norm2: ArrayLike, degree: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """Upper bound on the share of E[f^2] in degrees >= `degree`: total_influence / (degree norm2).

    It is Markov's inequality for I[f] = sum_j j W_j. Section 3 leaves out norm2, which is right only where
    E[f^2] = 1. total_influence: I[f] with each influence E[((f(x) - f(x with coordinate i flipped)) / 2)^2]
    (Equation 1), at least 0. norm2: E[f^2], above 0. degree: any positive real.
    """
    return (total_influence / (degree * norm2))[()]
