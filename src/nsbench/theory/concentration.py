"""Bounds on how much of a function's mass lies in high degrees, from its noise stability or its influence.

The weight of degree j, W_j, is the sum of squared coefficients of degree j: of the orthonormal
Hermite polynomials He_j / sqrt(j!) under N(0, 1), or of the parities of j coordinates under uniform
+-1 inputs. In both cases E[f^2] = sum_j W_j and Stab_rho(f) = sum_j rho^j W_j (Equation 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import broadcast, real

ROUNDING = 1e-12
"""How far, relative to E[f^2], a stability may lie outside [0, E[f^2]]: it is then taken as the end."""


def spectral_concentration_degree(
    rho: ArrayLike, delta: ArrayLike, epsilon: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """The degree from which on at most a share epsilon of E[f^2] lies, if Stab_rho(f) >= (1 - delta) E[f^2].

    log(1 - delta / epsilon) / log(rho): a positive real number, and every whole T at least as large
    will do. Lemma 6; Lemma 1 prints its negative. It is the least that holds for all f: mass 1 - p at
    degree 0 and p at degree T reaches it.

    rho: in (0, 1). delta: in (0, epsilon). epsilon: in (0, 1). Arrays broadcast. Raises ValueError
    naming the argument that is outside its domain, or the arguments whose shapes do not broadcast.
    """
    rho = real("rho", rho, 0.0, 1.0, open_low=True, open_high=True)
    epsilon = real("epsilon", epsilon, 0.0, 1.0, open_low=True, open_high=True)
    delta = real("delta", delta, 0.0, open_low=True)
    rho, delta, epsilon = broadcast(rho=rho, delta=delta, epsilon=epsilon)
    delta = real("delta", delta, 0.0, epsilon, open_low=True, open_high=True)
    return (np.log1p(-delta / epsilon) / np.log(rho))[()]


def tail_mass_bound_from_stability(
    stability: ArrayLike, norm2: ArrayLike, rho: ArrayLike, degree: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """Upper bound on the share of E[f^2] in degrees >= `degree`: (1 - stability / norm2) / (1 - rho^degree).

    It follows from Equation 3, as in the proof of Lemma 6. Not clipped: above 1 it says nothing.

    stability: Stab_rho(f) = E[f(X) f(Y)], between 0 and norm2 (1e-12 norm2 outside counts as
    rounding). norm2: E[f^2], above 0; not the variance. rho: in [0, 1). degree: any positive real, as
    `spectral_concentration_degree` is. Arrays broadcast. The result is inf where it is beyond float64.
    Raises ValueError naming the argument that is outside its domain, or the arguments whose shapes do
    not broadcast.
    """
    stability = real("stability", stability)
    norm2 = real("norm2", norm2, 0.0, open_low=True)
    rho = real("rho", rho, 0.0, 1.0, open_high=True)
    degree = real("degree", degree, 0.0, open_low=True)
    stability, norm2, rho, degree = broadcast(stability=stability, norm2=norm2, rho=rho, degree=degree)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        stability = real("stability", stability, -ROUNDING * norm2, (1 + ROUNDING) * norm2)
        lost = np.clip((norm2 - stability) / norm2, 0.0, 1.0)
        rate = -np.log(rho)
        exponent = degree * rate
        # 1 - exp(-x) is x to the last digit below 1e-17; dividing twice spares x, which may underflow.
        return np.where(exponent < 1e-17, lost / rate / degree, lost / -np.expm1(-exponent))[()]


def tail_mass_bound_from_influence(
    total_influence: ArrayLike, norm2: ArrayLike, degree: ArrayLike
) -> np.float64 | NDArray[np.float64]:
    """Upper bound on the share of E[f^2] in degrees >= `degree`: total_influence / (degree norm2).

    It is Markov's inequality for I[f] = sum_j j W_j. Section 3 leaves out norm2, which is right only
    where E[f^2] = 1. Not clipped: above 1 it says nothing.

    total_influence: I[f] with each influence E[((f(x) - f(x with coordinate i flipped)) / 2)^2]
    (Equation 1), at least 0. norm2: E[f^2], above 0. degree: any positive real. Arrays broadcast.
    The result is inf where it is beyond float64. Raises ValueError naming the argument that is outside
    its domain, or the arguments whose shapes do not broadcast.
    """
    total_influence = real("total_influence", total_influence, 0.0)
    norm2 = real("norm2", norm2, 0.0, open_low=True)
    degree = real("degree", degree, 0.0, open_low=True)
    total_influence, norm2, degree = broadcast(total_influence=total_influence, norm2=norm2, degree=degree)
    # The digits and the powers of two apart: a product or quotient on the way may leave float64.
    (influence, up), (norm2, down), (degree, further_down) = map(np.frexp, (total_influence, norm2, degree))
    with np.errstate(over="ignore"):
        return np.ldexp(influence / (degree * norm2), up - down - further_down)[()]
