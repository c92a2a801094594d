"""Numbers that are computed on the spot, from formulas and plain arithmetic: printed forms beside true ones.

Nothing here is measured in a model, so scale and configuration do not matter. Entries are those of docs/errata.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.special import softmax

import nsbench.theory.boolean as boolean
from nsbench.claims.evidence import Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.theory.attention import attention_pattern_stability
from nsbench.theory.concentration import spectral_concentration_degree
from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients
from nsbench.theory.recurrences import ffn_fixed_point, ffn_recurrence, transformer_recurrence
from nsbench.theory.relu import bonami_beckner_relu, relu_stability, relu_stability_quadratic
from nsbench.theory.resampling import resampling_correlation

computed = functools.partial(claim_quantity, source="")
"""Registers a quantity that no configuration changes."""


def printed_form(setting: str, printed: float, truth: float) -> list[Finding]:
    """The true number, and the printed form's as an extra."""
    return [Finding(setting, float(truth), extras={"printed": float(printed)}, note=f"as printed: {printed:.4g}")]


@computed("lemma_1_degree", "printed")
def _lemma_1(_: Evidence, rho: float, delta: float, epsilon: float) -> list[Finding]:
    """Lemma 1's degree as printed beside the least one that holds (entry 1)."""
    printed = math.log(1 - delta / epsilon) / math.log(1 / rho)
    setting = f"rho = {rho:g}, delta = {delta:g}, epsilon = {epsilon:g}"
    return printed_form(setting, printed, spectral_concentration_degree(rho, delta, epsilon))


@computed("lemma_6_excess")
def _lemma_6(_: Evidence, n_cases: int, seed: int = 0) -> list[Finding]:
    """Largest tail share beyond epsilon at Lemma 6's degree, over random spectra of degrees 0 to 40."""
    generator, worst = np.random.default_rng(seed), -math.inf
    for _case in range(n_cases):
        weights = generator.dirichlet(np.full(41, generator.uniform(0.02, 1.0)))
        rho = generator.uniform(0.05, 0.95)
        delta = 1 - float(weights @ rho ** np.arange(41))
        if not 1e-9 < delta < 1 - 1e-9:
            continue
        epsilon = generator.uniform(delta, 1.0)
        degree = math.ceil(float(spectral_concentration_degree(rho, delta, epsilon)))
        worst = max(worst, float(weights[degree:].sum()) - epsilon)
    return [Finding("random spectra, degrees 0 to 40", worst, n=n_cases, n_unit="spectra")]


@computed("spectral_sum_error")
def _equation_3(_: Evidence) -> list[Finding]:
    """Largest relative difference of the spectral sum from the stability by integration."""
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "sin 2x": lambda x: np.sin(2 * x),
        "x^2": lambda x: x**2,
        "exp(x / 2)": lambda x: np.exp(x / 2),
        "x^3 - x + 1": lambda x: x**3 - x + 1,
    }
    worst, rhos = 0.0, np.array([0.1, 0.5, 0.9])
    for f in functions.values():
        weights = hermite_coefficients(f, 60) ** 2
        spectral = np.array([weights @ rho ** np.arange(len(weights)) for rho in rhos])
        worst = max(worst, float(np.max(np.abs(spectral / gaussian_noise_stability(f, rhos) - 1))))
    # What is left is rounding, and other on another CPU.
    return [Finding(", ".join(functions), round(worst, 12), n=len(functions) * len(rhos), n_unit="points")]


@computed("mixed_gaussians", "printed")
def _mixed_gaussians(_: Evidence) -> list[Finding]:
    """Stability of x^2 at rho = 1/2: C.4's sum with the physicists' coefficients beside the truth (entry 2)."""
    # Under variance 1/2, x^2 = H_0 / 2 + H_2 / 4, and |H_k|^2 = 2^k k!.
    printed = sum(0.5**k * 2**k * math.factorial(k) * c**2 for k, c in ((0, 0.5), (2, 0.25)))
    return printed_form("f = x^2, rho = 0.5", printed, float(gaussian_noise_stability(lambda x: x**2, 0.5)))


@computed("mehler_kernel", "printed")
def _mehler_kernel(_: Evidence) -> list[Finding]:
    """Theorem C.7's kernel at x = 0.3, y = 0.7, t = 1/2, beside the series of Theorem C.6 (entry 4)."""
    x, y, r = 0.3, 0.7, math.exp(-0.5)
    printed = math.exp(-((y - r * x) ** 2) / (1 - r**2)) / math.sqrt(math.pi * (1 - r**2))
    h_x, h_y = ([1.0, math.sqrt(2) * at] for at in (x, y))
    for n in range(1, 80):
        for h, at in ((h_x, x), (h_y, y)):
            h.append(math.sqrt(2 / (n + 1)) * at * h[n] - math.sqrt(n / (n + 1)) * h[n - 1])
    return printed_form(
        "x = 0.3, y = 0.7, t = 0.5", printed, sum(r**n * a * b for n, (a, b) in enumerate(zip(h_x, h_y, strict=True)))
    )


@computed("ou_operator", "printed")
def _ou_operator(_: Evidence) -> list[Finding]:
    """Definition C.3's operator on H_2 at x = 0.3, beside 2 H_2, which Theorem C.4 asks for (entry 5)."""
    x = 0.3
    first, second, value = 8 * x, 8.0, 4 * x**2 - 2  # of H_2 = 4 x^2 - 2
    return printed_form("H_2 at 0.3", -first / 2 + x * second, 2 * value)


@computed("effective_correlation", "printed")
def _correlation(_: Evidence, rho: float, n_symbols: int = 2) -> list[Finding]:
    """Definition 6.1's rho beside the correlation that its noise has, by the formula (entry 24)."""
    setting = f"rho = {rho:g}, {n_symbols} symbols"
    return printed_form(setting, rho, float(resampling_correlation(rho, n_symbols)))


@computed("influence_degree_excess")
def _influence_degree(_: Evidence) -> list[Finding]:
    """Share of a small function's mass at or above the degree I / epsilon, less epsilon (entry 22)."""
    f, epsilon = 0.1 * boolean.dictator(3), 0.5
    weights = boolean.weights_by_level(f)
    degree = math.ceil(float(boolean.total_influence(f)) / epsilon)
    return [Finding("0.1 x dictator, epsilon = 0.5", float(weights[degree:].sum() / weights.sum()) - epsilon)]


@computed("boolean_identities")
def _boolean_identities(_: Evidence, n_cases: int, seed: int = 0) -> list[Finding]:
    """Largest violation of Lemma 2's identity and of Lemma 3, over random functions of 6 variables."""
    generator, worst = np.random.default_rng(seed), 0.0
    for _case in range(n_cases):
        f = generator.standard_normal(64)
        influence, weights = float(boolean.total_influence(f)), boolean.weights_by_level(f)
        worst = max(worst, abs(influence - float(weights @ np.arange(7))), float(np.var(f)) - influence)
    return [Finding("random functions of 6 variables", worst, n=n_cases, n_unit="functions")]


@computed("arithmetic")
def _arithmetic(_: Evidence, before: float, after: float, convention: Literal["fewer", "faster"]) -> list[Finding]:
    """What two numbers of iterations make in per cent under a convention (entry 27)."""
    percent = {"fewer": 100 * (1 - after / before), "faster": 100 * (before / after - 1)}
    times = f"{before:,.0f} to {after:,.0f}"
    note = f"{times} is {percent['fewer']:.1f}% fewer, or {percent['faster']:.1f}% faster"
    return [Finding(f"{times}, as {convention}", percent[convention], note=note)]


@computed("not_stated", "n_left_out")
def _not_stated(_: Evidence, left_out: list[str]) -> list[Finding]:
    """How many things that a test would need are not stated, as `n` and `n_left_out`: no number answers the claim."""
    count = len(left_out)
    note = f"not stated: {'; '.join(left_out)}" if count else ""
    return [Finding("as printed", n=count, n_unit="unstated", extras={"n_left_out": float(count)}, note=note)]


@computed("equation_4_error")
def _equation_4(_: Evidence) -> list[Finding]:
    """Largest error of Equation 4 on [-1, 1], as a share of the largest stability (entry 8)."""
    rho = np.linspace(-1, 1, 2001)
    exact = relu_stability(rho)
    error = float(np.max(np.abs(exact - relu_stability_quadratic(rho))) / np.max(exact))
    return [Finding("rho from -1 to 1", error, error, error, n=len(rho), n_unit="points")]


@computed("theorem_5_3_layer", "printed")
def _theorem_5_3_layer(_: Evidence) -> list[Finding]:
    """Theorem 5.3's value for the layer that it prints, beside that layer's own, Theorem 5.2's (entry 10)."""
    rho, n = 0.5, 8
    return printed_form(f"n = {n}, rho = {rho}", rho * float(attention_pattern_stability(rho, n)), rho)


@computed("fixed_point_error")
def _fixed_point(_: Evidence) -> list[Finding]:
    """Distance of the linear fixed point 2 / (3 pi) from Equation 5's own, as a share of it (entry 15)."""
    own = ffn_fixed_point("published")
    error = abs(ffn_fixed_point("linear") / own - 1)
    return [Finding("Equation 5", error, error, error, note=f"2/(3 pi) = 0.2122, Equation 5's own: {own:.6f}")]


@computed("linear_closed_form", "printed")
def _linear_closed_form(_: Evidence, rho: float, layers: int) -> list[Finding]:
    """The linear recurrence after some layers from an input's rho, beside its printed closed form (entry 36)."""
    fixed = ffn_fixed_point("linear")
    printed = fixed + (0.5 - fixed) / 4 ** (layers - 1)
    return printed_form(f"rho = {rho:g}, L = {layers}", printed, ffn_recurrence(rho, layers, "linear")[-1])


@computed("attention_head", "printed")
def _attention_head(_: Evidence, n: int, d: int) -> list[Finding]:
    """How many rows the output of a head has for n tokens of width d, beside section 2's product (entry 9).

    The printed softmax(Y^T W_Q^T W_K Y) has a row for each column of Y.
    """
    tokens, identity = np.ones((n, d)), np.eye(d)
    right = softmax(tokens @ identity @ identity.T @ tokens.T, axis=-1)
    return printed_form(f"n = {n}, d = {d}", (tokens.T @ tokens).shape[0], right.shape[0])


@computed("identical_inputs", "printed")
def _identical_inputs(_: Evidence) -> list[Finding]:
    """Equation 5's correlation of two equal outputs, rho = 1, beside 1 (entry 15)."""
    return printed_form("rho = 1", float(relu_stability(1.0)), 1.0)


@computed("relu_dampening_share")
def _relu_dampens(_: Evidence) -> list[Finding]:
    """Share of the correlations in (0, 1) at which a ReLU's stability is below the correlation (entry 16)."""
    rho = (np.arange(10_000) + 0.5) / 10_000
    share = float(np.mean(relu_stability(rho) < rho))
    note = f"below rho = {1 - share:.4g} a ReLU raises it"
    return [Finding("rho in (0, 1)", share, share, share, n=len(rho), n_unit="points", note=note)]


@computed("equation_8_step", "printed")
def _equation_8(_: Evidence) -> list[Finding]:
    """One step of Equation 8 beside the step with gamma where it belongs (entry 17)."""
    printed, right = (float(transformer_recurrence(0.5, 1, 0.6, kind)[1]) for kind in ("published", "corrected"))
    return printed_form("rho = 0.5, gamma = 0.6", printed, right)


@computed("lemma_11", "printed")
def _lemma_11(_: Evidence) -> list[Finding]:
    """Lemma 11's statement beside its proof's formula (entry 19)."""
    from scipy.integrate import quad

    mu, sigma, rho, alpha = 0.5, 2.0, 0.3, 0.9

    def moment(power: int) -> float:
        scale = sigma * math.sqrt(2 * math.pi)
        return float(quad(lambda x: x**power * math.exp(-(((x - mu) / sigma) ** 2) / 2) / scale, 0, mu + 12 * sigma)[0])

    printed = rho * alpha * moment(1) + (1 - rho) * moment(2) ** 2
    setting = f"mu = {mu}, sigma = {sigma}, rho = {rho}, alpha = {alpha}"
    return printed_form(setting, printed, float(bonami_beckner_relu(mu, sigma, rho, alpha)))


@computed("lemma_12_excess")
def _lemma_12(_: Evidence) -> list[Finding]:
    """How far a moment of an attention layer lies above Lemma 12's upper bound, in an exact case (entry 20).

    d = 1, two tokens, W_Q = 1/2 and W_K = W_V = 1: X = Y = +-(1, -1), or X = -Y = +-(1/2)(1, -1), so often that their
    products cancel, or X = Y = +-(1, 1), else 0; then every E[X_k Y_k'] = delta.
    """
    delta, weight, value = 1e-6, 0.5, 0.0
    for probability, x, sign in ((1 / 16, (1.0, -1.0), 1), (1 / 4, (0.5, -0.5), -1), (delta / 2, (1.0, 1.0), 1)):
        for turn in (1, -1):
            one, other = (s * turn * np.array(x) for s in (1, sign))
            first, second = (float(softmax(weight * values[0] * values) @ values) for values in (one, other))
            value += probability * first * second
    # E = exp(4 d^2 B^2 |W_Q| |W_K|), with B = d = |W_K| = 1 and R_r = delta.
    bound = delta * math.exp(4 * weight)
    note = f"moment {value:.3g}, bound {bound:.3g}"
    return [Finding("d = 1, two tokens, all moments 1e-6", value - bound, note=note)]
