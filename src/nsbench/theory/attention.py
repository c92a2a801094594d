"""How often unstructured attention keeps its pattern under noise: s(rho) of Theorem 5.3."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, owens_t

from nsbench.theory.domain import CORRELATION, COUNT, checked

_STEP = 0.1
"""Distance of the nodes. The integrand is entire and decays, so the trapezoidal rule converges geometrically."""
_REACH = 8.5
"""Standard deviations that the nodes cover: n times the Gaussian mass outside is below 1e-13 for n = 1024."""


@checked(rho=CORRELATION, n=COUNT)
def attention_pattern_stability(rho: ArrayLike, n: int) -> NDArray[np.float64] | np.float64:
    """s(rho) of Theorem 5.3: the probability that a row of attention picks the same token for X and for Y.

    X is n tokens of independent N(0, 1) entries, Y = rho X + sqrt(1 - rho^2) Z, and W = W_Q W_K^T has independent
    N(0, 1) entries. As d_model grows, a row's logits become n independent pairs of standard normals of correlation
    rho^2, and softmax picks the largest logit (logits are not divided by sqrt(d)); so

        s(rho) = n E[Phi_c(A, B)^(n - 1)],  c = rho^2, (A, B) standard bivariate normal of correlation c,

    with Phi_c its distribution function. s is even, rises in |rho| and falls in n; s(0) = 1/n and s(+-1) = 1.

    rho: correlation in [-1, 1], any shape, which the result has. n: tokens, at least 1. The absolute error is below
    1e-8 for n up to 1024. Raises ValueError naming rho or n outside its domain.
    Source: Theorem 5.3 and Appendix G, whose sum is over d, not n: docs/errata.md, entry 11.
    """
    return np.array([_same_argmax(abs(one), n) for one in rho.ravel().tolist()]).reshape(rho.shape)[()]


def _same_argmax(rho: float, n: int) -> float:
    """P(A_1 and B_1 are both the largest of theirs), times n, for rho in [0, 1]."""
    if n == 1 or rho == 1.0:
        return 1.0
    if rho == 0.0:
        return 1.0 / n
    # p and q are independent N(0, 1) along the sum and the difference of (A, B): both keep their scale as c -> 1.
    p_P1 = np.arange(-_REACH, _REACH + _STEP, _STEP)[:, None]
    q_Q = _STEP * (np.arange(_REACH / _STEP) + 0.5)  # the integrand is even in q
    weights_PQ = 2.0 * _STEP**2 / (2.0 * math.pi) * np.exp(-(p_P1**2 + q_Q**2) / 2.0)
    wide, narrow = math.sqrt(1.0 + rho**2), math.sqrt((1.0 - rho) * (1.0 + rho))
    below_PQ = _both_below(wide * p_P1, narrow * p_P1, wide * q_Q, narrow * q_Q)
    total = n * float((weights_PQ * below_PQ ** (n - 1)).sum())
    return min(max(total, 1.0 / n), 1.0)


def _both_below(
    wide_p: NDArray[np.float64],
    narrow_p: NDArray[np.float64],
    wide_q: NDArray[np.float64],
    narrow_q: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Phi_c(a, b) for a, b = (wide p +- narrow q) / sqrt(2), wide and narrow the roots of 1 + c and 1 - c.

    Owen's formula in these coordinates: (b - c a) / sqrt(1 - c^2) is (narrow p - wide q) / sqrt(2), without
    the cancellation of its direct form at c near 1.
    """
    a, b = (wide_p + narrow_q) + 0.0, (wide_p - narrow_q) + 0.0  # + 0.0: no negative zero
    with np.errstate(divide="ignore"):  # where a or b is 0, the slope's limit is infinite
        slope_a, slope_b = (narrow_p - wide_q) / a, (narrow_p + wide_q) / b
    a, b = a / math.sqrt(2.0), b / math.sqrt(2.0)
    half_where_signs_differ = 0.5 * ((a < 0) != (b < 0))
    value = (ndtr(a) + ndtr(b)) / 2.0 - owens_t(a, slope_a) - owens_t(b, slope_b) - half_where_signs_differ
    return np.clip(value, 0.0, 1.0)
