"""Numbers of single layers and of recurrences that are computed on the spot: printed forms beside true ones.

Entries are those of docs/errata.md.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy.special import softmax

from nsbench.claims.computed import NoParameters, printed_form, unscaled
from nsbench.claims.evidence import Evidence, Finding
from nsbench.config.base import Closed
from nsbench.theory.attention import attention_pattern_stability
from nsbench.theory.recurrences import ffn_fixed_point, transformer_recurrence
from nsbench.theory.relu import bonami_beckner_relu, relu_stability, relu_stability_quadratic


def _equation_4(_: Evidence, of: NoParameters) -> list[Finding]:
    """Largest error of Equation 4 on [-1, 1], as a share of the largest stability (entry 8)."""
    rho = np.linspace(-1, 1, 2001)
    exact = relu_stability(rho)
    error = float(np.max(np.abs(exact - relu_stability_quadratic(rho))) / np.max(exact))
    return [Finding("rho from -1 to 1", error, error, error, n=len(rho), n_unit="points")]


def _theorem_5_3_layer(_: Evidence, of: NoParameters) -> list[Finding]:
    """Theorem 5.3's value for the layer that it prints, beside that layer's own, Theorem 5.2's (entry 10)."""
    rho, n = 0.5, 8
    return printed_form(f"n = {n}, rho = {rho}", rho * float(attention_pattern_stability(rho, n)), rho)


class Tokens(Closed):
    n: int
    """Tokens."""


def _permutation(_: Evidence, of: Tokens) -> list[Finding]:
    """Probability that rows which each pick a token at random make a permutation matrix; the claim: 1 (entry 34)."""
    probability = math.factorial(of.n) / of.n**of.n
    return [Finding(f"n = {of.n}", probability, probability, probability)]


def _fixed_point(_: Evidence, of: NoParameters) -> list[Finding]:
    """Distance of the linear fixed point 2 / (3 pi) from Equation 5's own, as a share of it (entry 15)."""
    own = ffn_fixed_point("published")
    error = abs(ffn_fixed_point("linear") / own - 1)
    return [Finding("Equation 5", error, error, error, note=f"2/(3 pi) = 0.2122, Equation 5's own: {own:.6f}")]


def _identical_inputs(_: Evidence, of: NoParameters) -> list[Finding]:
    """Equation 5's correlation of two equal outputs, rho = 1, beside 1 (entry 15)."""
    return printed_form("rho = 1", float(relu_stability(1.0)), 1.0)


def _relu_dampens(_: Evidence, of: NoParameters) -> list[Finding]:
    """Share of the correlations in (0, 1) at which a ReLU's stability is below the correlation (entry 16)."""
    rho = (np.arange(10_000) + 0.5) / 10_000
    share = float(np.mean(relu_stability(rho) < rho))
    note = f"below rho = {1 - share:.4g} a ReLU raises it"
    return [Finding("rho in (0, 1)", share, share, share, n=len(rho), n_unit="points", note=note)]


def _equation_8(_: Evidence, of: NoParameters) -> list[Finding]:
    """One step of Equation 8 beside the step with gamma where it belongs (entry 17)."""
    printed, right = (float(transformer_recurrence(0.5, 1, 0.6, kind)[1]) for kind in ("published", "corrected"))
    return printed_form("rho = 0.5, gamma = 0.6", printed, right)


def _lemma_11(_: Evidence, of: NoParameters) -> list[Finding]:
    """Lemma 11's statement beside its proof's formula (entry 19)."""
    from scipy.integrate import quad

    mu, sigma, rho, alpha = 0.5, 2.0, 0.3, 0.9

    def moment(power: int) -> float:
        density = lambda x: x**power * math.exp(-(((x - mu) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))  # noqa: E731
        return float(quad(density, 0, mu + 12 * sigma)[0])

    printed = rho * alpha * moment(1) + (1 - rho) * moment(2) ** 2
    setting = f"mu = {mu}, sigma = {sigma}, rho = {rho}, alpha = {alpha}"
    return printed_form(setting, printed, float(bonami_beckner_relu(mu, sigma, rho, alpha)))


def _lemma_12(_: Evidence, of: NoParameters) -> list[Finding]:
    """How far a moment of an attention layer lies above Lemma 12's upper bound, in an exact case (entry 20).

    d = 1, two tokens, W_Q = 1/2 and W_K = W_V = 1: X = Y = +-(1, -1), or X = -Y = +-(1/2)(1, -1), so often that their
    products cancel, or X = Y = +-(1, 1), else 0; then every E[X_k Y_k'] = delta.
    """
    size, delta, weight = Fraction(1, 2), Fraction(1, 10**6), 0.5
    one = Fraction(1)
    pairs = [(size**2 / 4, (one, -one), 1), (Fraction(1, 4), (size, -size), -1), (delta / 2, (one, one), 1)]
    value = 0.0
    for probability, x, sign in pairs:
        for turn in (1, -1):
            first, second = (_attend([turn * s * float(v) for v in x], weight) for s in (1, sign))
            value += float(probability) * first * second
    bound = float(delta) * math.exp(
        4 * weight
    )  # E = exp(4 d^2 B^2 |W_Q| |W_K|), with B = d = |W_K| = 1 and R_r = delta
    return [
        Finding("d = 1, two tokens, all moments 1e-6", value - bound, note=f"moment {value:.3g}, bound {bound:.3g}")
    ]


def _attend(x: list[float], weight: float) -> float:
    values = np.array(x)
    return float(softmax(weight * values[0] * values) @ values)


QUANTITIES = {
    "equation_4_error": unscaled(_equation_4),
    "theorem_5_3_layer": unscaled(_theorem_5_3_layer, NoParameters, "printed"),
    "permutation_probability": unscaled(_permutation, Tokens),
    "fixed_point_error": unscaled(_fixed_point),
    "identical_inputs": unscaled(_identical_inputs, NoParameters, "printed"),
    "relu_dampening_share": unscaled(_relu_dampens),
    "equation_8_step": unscaled(_equation_8, NoParameters, "printed"),
    "lemma_11": unscaled(_lemma_11, NoParameters, "printed"),
    "lemma_12_excess": unscaled(_lemma_12),
}
