"""Numbers that are computed on the spot, from formulas and plain arithmetic: the measure, and statements of numbers.

Nothing here is measured in a model, so scale and configuration do not matter. Entries are those of docs/errata.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

import nsbench.theory.boolean as boolean
from nsbench.claims.evidence import Evidence, Finding, Quantity
from nsbench.config.base import Closed
from nsbench.theory.concentration import spectral_concentration_degree
from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients
from nsbench.theory.resampling import resampling_correlation


class NoParameters(Closed):
    """A quantity that is asked for nothing."""


def printed_form(setting: str, printed: float, truth: float) -> list[Finding]:
    """The true number, and the printed form's as an extra."""
    return [Finding(setting, float(truth), extras={"printed": float(printed)}, note=f"as printed: {printed:.4g}")]


def unscaled(measure: Callable[..., list[Finding]], parameters: type[Closed] = NoParameters, *extras: str) -> Quantity:
    """A quantity that no configuration changes."""
    return Quantity(measure, parameters, extras, source="")


class Degree(Closed):
    rho: float
    """Correlation."""
    delta: float
    """1 - Stab / E[f^2]."""
    epsilon: float
    """Share of the mass that may lie above the degree."""


def _lemma_1(_: Evidence, of: Degree) -> list[Finding]:
    """Lemma 1's degree as printed beside the least one that holds (entry 1)."""
    printed = math.log(1 - of.delta / of.epsilon) / math.log(1 / of.rho)
    setting = f"rho = {of.rho:g}, delta = {of.delta:g}, epsilon = {of.epsilon:g}"
    return printed_form(setting, printed, spectral_concentration_degree(of.rho, of.delta, of.epsilon))


class Cases(Closed):
    n_cases: int
    """Random cases."""
    seed: int = 0
    """Of their generator."""


def _lemma_6(_: Evidence, of: Cases) -> list[Finding]:
    """Largest tail share beyond epsilon at Lemma 6's degree, over random spectra of degrees 0 to 40."""
    generator, worst = np.random.default_rng(of.seed), -math.inf
    for _case in range(of.n_cases):
        weights = generator.dirichlet(np.full(41, generator.uniform(0.02, 1.0)))
        rho = generator.uniform(0.05, 0.95)
        delta = 1 - float(weights @ rho ** np.arange(41))
        if not 1e-9 < delta < 1 - 1e-9:
            continue
        epsilon = generator.uniform(delta, 1.0)
        degree = math.ceil(float(spectral_concentration_degree(rho, delta, epsilon)))
        worst = max(worst, float(weights[degree:].sum()) - epsilon)
    return [Finding("random spectra, degrees 0 to 40", worst, n=of.n_cases, n_unit="spectra")]


def _equation_3(_: Evidence, of: NoParameters) -> list[Finding]:
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
    return [Finding(", ".join(functions), worst, n=len(functions) * len(rhos), n_unit="points")]


def _mixed_gaussians(_: Evidence, of: NoParameters) -> list[Finding]:
    """Stability of x^2 at rho = 1/2: C.4's sum with the physicists' coefficients beside the truth (entry 2)."""
    # Under variance 1/2, x^2 = H_0 / 2 + H_2 / 4, and |H_k|^2 = 2^k k!.
    printed = sum(0.5**k * 2**k * math.factorial(k) * c**2 for k, c in ((0, 0.5), (2, 0.25)))
    return printed_form("f = x^2, rho = 0.5", printed, float(gaussian_noise_stability(lambda x: x**2, 0.5)))


def _mehler_kernel(_: Evidence, of: NoParameters) -> list[Finding]:
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


def _ou_operator(_: Evidence, of: NoParameters) -> list[Finding]:
    """Definition C.3's operator on H_2 at x = 0.3, beside 2 H_2, which Theorem C.4 asks for (entry 5)."""
    x = 0.3
    first, second, value = 8 * x, 8.0, 4 * x**2 - 2  # of H_2 = 4 x^2 - 2
    return printed_form("H_2 at 0.3", -first / 2 + x * second, 2 * value)


class Noise(Closed):
    rho: float
    """Parameter of Definition 6.1."""
    n_symbols: int = 2
    """Symbols of a token."""


def _correlation(_: Evidence, of: Noise) -> list[Finding]:
    """Definition 6.1's rho beside the correlation that its noise has, by the formula (entry 24)."""
    setting = f"rho = {of.rho:g}, {of.n_symbols} symbols"
    return printed_form(setting, of.rho, float(resampling_correlation(of.rho, of.n_symbols)))


class LearntParity(Closed):
    rho: float
    """Parameter of Definition 6.1."""
    k: int
    """Secret bits."""


def _parity_change(_: Evidence, of: LearntParity) -> list[Finding]:
    """Stability of Definition 6.1 of a parity known for sure less that of two equally likely answers (entry 25)."""
    kappa = float(resampling_correlation(of.rho, 2))
    learnt = (1 + float(boolean.noise_stability(boolean.parity(of.k), kappa))) / 2
    note = f"from 1/2 to {learnt:.4g}; as +-1 decision with flips it would end at {of.rho**of.k:.4g}"
    return [Finding(f"k = {of.k}, rho = {of.rho:g}", learnt - 0.5, note=note)]


def _influence_degree(_: Evidence, of: NoParameters) -> list[Finding]:
    """Share of a small function's mass at or above the degree I / epsilon, less epsilon (entry 22)."""
    f, epsilon = 0.1 * boolean.dictator(3), 0.5
    weights = boolean.weights_by_level(f)
    degree = math.ceil(float(boolean.total_influence(f)) / epsilon)
    return [Finding("0.1 x dictator, epsilon = 0.5", float(weights[degree:].sum() / weights.sum()) - epsilon)]


class Share(Closed):
    share: float
    """Of the total influence that a variable must have."""
    n_variables: int
    """Variables there are."""


def _counting(_: Evidence, of: Share) -> list[Finding]:
    """The most variables that can have this share of the total influence (entry 23)."""
    most = min(of.n_variables, math.floor(1 / of.share + 1e-9))
    return [Finding(f"share {of.share:g}, n = {of.n_variables}", float(most))]


def _boolean_identities(_: Evidence, of: Cases) -> list[Finding]:
    """Largest violation of Lemma 2's identity and of Lemma 3, over random functions of 6 variables."""
    generator, worst = np.random.default_rng(of.seed), 0.0
    for _case in range(of.n_cases):
        f = generator.standard_normal(64)
        influence, weights = float(boolean.total_influence(f)), boolean.weights_by_level(f)
        worst = max(worst, abs(influence - float(weights @ np.arange(7))), float(np.var(f)) - influence)
    return [Finding("random functions of 6 variables", worst, n=of.n_cases, n_unit="functions")]


class Times(Closed):
    before: float
    """Iterations without the regulariser, as the paper has them."""
    after: float
    """Iterations with it."""
    convention: Literal["fewer", "faster"]
    """fewer: share of the iterations saved; faster: gain in speed."""


def _arithmetic(_: Evidence, of: Times) -> list[Finding]:
    """What two numbers of iterations make in per cent under a convention (entry 27)."""
    percent = {"fewer": 100 * (1 - of.after / of.before), "faster": 100 * (of.before / of.after - 1)}
    times = f"{of.before:,.0f} to {of.after:,.0f}"
    note = f"{times} is {percent['fewer']:.1f}% fewer, or {percent['faster']:.1f}% faster"
    return [Finding(f"{times}, as {of.convention}", percent[of.convention], note=note)]


class Epochs(Closed):
    iterations: float
    """As the text has them."""
    n_train: int
    """Examples."""
    batch_size: int
    """Of an iteration."""


def _epochs(_: Evidence, of: Epochs) -> list[Finding]:
    """Epochs that the iterations make (entry 28)."""
    steps = math.ceil(of.n_train / of.batch_size)
    return [Finding(f"{of.iterations:,.0f} iterations, {steps} to the epoch", of.iterations / steps)]


class LeftOut(Closed):
    left_out: list[str]
    """What the paper does not say and a test would need."""


def _not_stated(_: Evidence, of: LeftOut) -> list[Finding]:
    """How many things that a test would need are not stated, as `n` and `n_left_out`: no number answers the claim."""
    count = len(of.left_out)
    note = f"not stated: {'; '.join(of.left_out)}" if count else ""
    return [Finding("as printed", n=count, n_unit="unstated", extras={"n_left_out": float(count)}, note=note)]


QUANTITIES = {
    "lemma_1_degree": unscaled(_lemma_1, Degree, "printed"),
    "lemma_6_excess": unscaled(_lemma_6, Cases),
    "spectral_sum_error": unscaled(_equation_3),
    "mixed_gaussians": unscaled(_mixed_gaussians, NoParameters, "printed"),
    "mehler_kernel": unscaled(_mehler_kernel, NoParameters, "printed"),
    "ou_operator": unscaled(_ou_operator, NoParameters, "printed"),
    "effective_correlation": unscaled(_correlation, Noise, "printed"),
    "parity_change": unscaled(_parity_change, LearntParity),
    "influence_degree_excess": unscaled(_influence_degree),
    "counting_bound": unscaled(_counting, Share),
    "boolean_identities": unscaled(_boolean_identities, Cases),
    "arithmetic": unscaled(_arithmetic, Times),
    "epochs": unscaled(_epochs, Epochs),
    "not_stated": unscaled(_not_stated, LeftOut, "n_left_out"),
}
