"""Kernels of infinitely wide networks on the cube {-1, 1}^d: spectra, and how sensitive a random network is.

A kernel that depends on x and y through t = <x, y> / d alone, K(x, y) = Psi(t), has the parities as eigenfunctions.
The eigenvalue of those of k variables is mu_k = E_x[Psi(mean x) x_1 ... x_k] = 2^-d (1 - T)^k (1 + T)^(d - k) Psi(1)
with T Psi(t) = Psi(t - 2/d); there are C(d, k) of them, and the mass C(d, k) mu_k is the expected Fourier weight of
level k of a random function with covariance K (Yang and Salman 2019, arXiv 1907.10599). They show that
mu_0 >= mu_2 >= ... and mu_1 >= mu_3 >= ..., the weak order; mu_0 >= mu_1 >= ... is the full order.

Networks are fully connected, with `depth` hidden layers, a linear readout, weights N(0, weight_variance / fan-in) and
biases N(0, bias_variance) in all layers. Arguments outside their domain raise ValueError naming them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import AT_LEAST_0, CORRELATION, COUNT, POSITIVE, checked, one_of, real, whole
from nsbench.theory.relu import relu_stability

Array = NDArray[np.float64]
ACTIVATIONS = ("relu", "erf")
MAX_DIMENSION = 256
_ULPS = 8 * np.finfo(np.float64).eps
"""Relative error that a kernel's values are taken to have."""
_SERIES_ERROR = 1e-11
"""Relative error of sums of a power series, whose terms all are positive."""


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel on the cube by degree; all arrays have shape (d + 1,)."""

    eigenvalues: Array
    """mu_k under the uniform law: the sum of C(d, k) mu_k is Psi(1)."""
    multiplicities: Array
    """C(d, k)."""
    errors: Array
    """How far an eigenvalue may be off, by rounding."""

    @property
    def mass(self) -> Array:
        """Share of Psi(1) in each degree: C(d, k) mu_k over their sum."""
        weights = self.multiplicities * self.eigenvalues
        return weights / weights.sum()

    def broken(self, step: int) -> NDArray[np.int64]:
        """The k at which mu_(k + step) > mu_k by more than rounding; step: 2 for the weak order, 1 for the full one."""
        gap, leeway = self._gaps(step)
        return np.flatnonzero(gap > leeway)

    def unresolved(self, step: int) -> NDArray[np.int64]:
        """The k at which rounding leaves open which of mu_k and mu_(k + step) is larger."""
        gap, leeway = self._gaps(step)
        return np.flatnonzero((np.abs(gap) <= leeway) & (leeway > 0))

    def _gaps(self, step: int) -> tuple[Array, Array]:
        step = whole("step", step, 1, 2)
        return self.eigenvalues[step:] - self.eigenvalues[:-step], self.errors[step:] + self.errors[:-step]


def overlaps(d: int) -> Array:
    """1 - 2 r / d, the t of two points of the cube that differ in r = 0 ... d coordinates: (d + 1,)."""
    d = whole("d", d, 1, MAX_DIMENSION)
    return 1.0 - 2.0 * np.arange(d + 1) / d


def krawtchouk(d: int) -> NDArray[np.object_]:
    """The sum of chi_S over all points with r entries -1, for a set S of k variables: exact ints (d + 1, d + 1).

    Rows are k, columns r; row k has the coefficients of (1 - z)^k (1 + z)^(d - k).
    """
    d = whole("d", d, 1, MAX_DIMENSION)
    row = [math.comb(d, r) for r in range(d + 1)]
    rows = [row]
    for _ in range(d):  # times (1 - z) / (1 + z)
        quotient = [0]
        for coefficient in row:
            quotient.append(coefficient - quotient[-1])
        row = [one - before for one, before in zip(quotient[1:], quotient[:-1], strict=True)]
        rows.append(row)
    return np.array(rows, dtype=object)


def cube_spectrum(values: ArrayLike) -> Spectrum:
    """The spectrum of Psi from its values at `overlaps(d)`, shape (d + 1,): mu_k = 2^-d sum_r Psi(1 - 2 r / d) K_k(r).

    The sum is exact, in whole numbers, so that only the rounding of the values is left: mu_k is off by at most about
    e / sqrt(C(d, k)) with e = 2e-15 max |Psi| (`errors`), whatever the method: Psi in float64 says no more. The mass of
    a degree is off by e sqrt(C(d, k)): 1e-12 at d = 20 and 3e-6 at d = 64, k = 32. But an eigenvalue near k = d is off
    by e as it is near k = 0, and far smaller: of networks with 1 to 8 layers at d = 20 all are known to 5 digits, at
    d = 64 those below k = 23 (erf) to 51 (ReLU, tangent) to one. `network_spectrum` knows all of them.
    """
    values = real("values", values)
    if values.ndim != 1 or not 2 <= len(values) <= MAX_DIMENSION + 1:
        raise ValueError(f"values has shape {values.shape}; allowed: (d + 1,) with d from 1 to {MAX_DIMENSION}")
    d, exact = len(values) - 1, [Fraction(value) for value in values.tolist()]
    sums = [sum((int(c) * value for c, value in zip(row, exact, strict=True)), Fraction(0)) for row in krawtchouk(d)]
    multiplicities = _multiplicities(d)
    errors = _ULPS * np.abs(values).max() / np.sqrt(multiplicities)
    return Spectrum(np.array([float(total / 2**d) for total in sums]), multiplicities, errors)


@checked(t=CORRELATION, depth=COUNT, weight_variance=POSITIVE, bias_variance=AT_LEAST_0)
def conjugate_kernel(
    t: ArrayLike, depth: int, activation: str, weight_variance: ArrayLike = 2.0, bias_variance: ArrayLike = 0.0
) -> np.float64 | Array:
    """Covariance of a random network's output at two inputs with <x, y> / d = t and |x|^2 = |y|^2 = d, any shape of t.

    Layer by layer K <- bias_variance + weight_variance E[phi(u) phi(v)], (u, v) normal with the covariances before, and
    K = bias_variance + weight_variance t for the first. activation: `relu` or `erf`.
    Source: Cho and Saul 2009 (ReLU), Williams 1998 (erf).
    """
    return _network(t, depth, activation, weight_variance, bias_variance)[0][()]


@checked(t=CORRELATION, depth=COUNT, weight_variance=POSITIVE, bias_variance=AT_LEAST_0)
def tangent_kernel(
    t: ArrayLike, depth: int, activation: str, weight_variance: ArrayLike = 2.0, bias_variance: ArrayLike = 0.0
) -> np.float64 | Array:
    """Neural tangent kernel of that network, all weights (scaled by the root of their variance) and biases trained.

    Theta <- K + weight_variance E[phi'(u) phi'(v)] Theta, from Theta = K in the first layer. Arguments as of
    `conjugate_kernel`. Source: Jacot et al. 2018.
    """
    return _network(t, depth, activation, weight_variance, bias_variance)[1][()]


def dual(activation: str, k_xy: Array, k_xx: Array, k_yy: Array) -> tuple[Array, Array]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for (u, v) normal with mean 0 and these covariances, which broadcast."""
    if one_of("activation", activation, ACTIVATIONS) == "erf":
        scale = np.sqrt((1 + 2 * k_xx) * (1 + 2 * k_yy))
        sine = 2 * k_xy / scale
        return 2 / np.pi * np.arcsin(sine), 4 / np.pi / (scale * np.sqrt((1 - sine) * (1 + sine)))
    scale = np.sqrt(k_xx * k_yy)
    rho = np.clip(k_xy / scale, -1.0, 1.0)
    slope = (np.pi - np.arccos(rho)) / (2 * np.pi)  # Theorem 5.1, in which owens_t would take most of the time
    return scale * (np.sqrt((1 - rho) * (1 + rho)) / (2 * np.pi) + rho * slope), slope


def _network(t: Array, depth: int, activation: str, weight: Array | float, bias: Array | float) -> tuple[Array, Array]:
    """The conjugate and the tangent kernel at t."""
    k, k_self = bias + weight * t, bias + weight
    theta = k
    for _ in range(depth):
        moment, slope = dual(activation, k, k_self, k_self)
        k, k_self = bias + weight * moment, bias + weight * _moment_self(activation, k_self)
        theta = k + weight * slope * theta
    return k, theta


def _moment_self(activation: str, k_self: Array | float) -> Array | float:
    """E[phi(u)^2] for u of this variance."""
    return 2 / np.pi * np.arcsin(2 * k_self / (1 + 2 * k_self)) if activation == "erf" else k_self / 2


def network_spectrum(
    d: int, depth: int, activation: str, weight_variance: float = 2.0, bias_variance: float = 0.0, tangent: bool = False
) -> Spectrum:
    """The spectrum of `conjugate_kernel`, or of `tangent_kernel`, to 10 digits or 2e-15 2^-d Psi(1) of an eigenvalue.

    Psi has a power series with no negative term, sum_j a_j t^j, and every E[(mean x)^j x_1 ... x_k] is positive too: no
    step cancels. What the series leaves after about 20 d terms is spread evenly over the degrees of each parity.
    d: 1 to 256. The other arguments are those of the kernels.
    """
    d, depth = whole("d", d, 1, MAX_DIMENSION), COUNT("depth", depth)
    weight, bias = (
        float(POSITIVE("weight_variance", weight_variance)),
        float(AT_LEAST_0("bias_variance", bias_variance)),
    )
    one_of("activation", activation, ACTIVATIONS)
    # (1 - 2 / d)^n, the slowest of the walk's modes but the even one, times d is below rounding.
    n_terms = math.ceil(d / 2 * (math.log(d + 1) + 40)) + 2
    coefficients = _series(n_terms, depth, activation, weight, bias)[tangent]
    ends = _network(np.array([1.0, -1.0]), depth, activation, weight, bias)[tangent]
    moment_K, sums_K, multiplicities = np.zeros(d + 1), np.zeros(d + 1), _multiplicities(d)
    moment_K[0], k = 1.0, np.arange(d + 1)
    for coefficient in coefficients:
        sums_K += coefficient * moment_K
        below, above = np.append(0.0, moment_K[:-1]), np.append(moment_K[1:], 0.0)
        moment_K = (k * below + (d - k) * above) / d
    errors = _SERIES_ERROR * sums_K
    for parity, total in enumerate(((ends[0] + ends[1]) / 2, (ends[0] - ends[1]) / 2)):
        own = coefficients[parity::2]
        if own[-4:].sum() > 1e-25 * ends[0]:
            sums_K[parity::2] += max(total - own.sum(), 0.0) * 2.0 ** (1 - d)
            errors[parity::2] += _ULPS * ends[0] * 2.0 ** (1 - d)
    return Spectrum(sums_K, multiplicities, errors)


def _series(n: int, depth: int, activation: str, weight: float, bias: float) -> tuple[Array, Array]:
    """The first n Taylor coefficients of the conjugate and of the tangent kernel in t."""
    k = np.zeros(n)
    k[:2] = bias, weight
    k_self, theta = bias + weight, k
    for _ in range(depth):
        moment_self = float(_moment_self(activation, k_self))
        inner = k * (2 / (1 + 2 * k_self) if activation == "erf" else 1 / k_self)
        root = _inverse_root(np.convolve(inner, inner)[:n])  # (1 - inner^2)^(-1/2)
        if activation == "erf":
            moment = 2 / np.pi * _integral(root, inner, math.asin(inner[0]))
            slope = 4 / np.pi / (1 + 2 * k_self) * root
        else:
            slope = _integral(root, inner, math.pi - math.acos(inner[0])) / (2 * np.pi)
            moment = k_self * _integral(slope, inner, float(relu_stability(inner[0])))
        k, k_self = weight * moment, bias + weight * moment_self
        k[0] += bias
        theta = k + weight * np.convolve(slope, theta)[:n]
    return k, theta


def _inverse_root(w: Array) -> Array:
    """The series y of (1 - w)^(-1/2): n (1 - w_0) y_n is the sum over m = 1 ... n of (n - m / 2) w_m y_(n - m)."""
    y = np.zeros_like(w)
    y[0] = (1 - w[0]) ** -0.5
    halves = np.arange(len(w)) / 2
    for n in range(1, len(w)):
        y[n] = ((n - halves[1 : n + 1]) * w[1 : n + 1]) @ y[n - 1 :: -1] / (n * (1 - w[0]))
    return y


def _integral(outer: Array, inner: Array, start: float) -> Array:
    """The series with derivative outer(t) inner'(t) and this value at 0."""
    n = len(inner)
    derivative = np.convolve(outer, np.arange(1, n) * inner[1:])[: n - 1]
    return np.concatenate([[start], derivative / np.arange(1, n)])


def _multiplicities(d: int) -> Array:
    """C(d, k) for k = 0 ... d."""
    return np.array([float(math.comb(d, k)) for k in range(d + 1)])


def random_sensitivity(values: ArrayLike) -> float:
    """Average sensitivity of the sign of a random function with this covariance, d arccos(Psi(1 - 2/d) / Psi(1)) / pi.

    It is the expected total influence of `nsbench.theory.boolean`. values: Psi at `overlaps(d)`, shape (d + 1,).
    """
    disagreement = _disagreements(values)
    return float((len(disagreement) - 1) * disagreement[1])


def random_stability(values: ArrayLike, rho: ArrayLike) -> np.float64 | Array:
    """Noise stability E[f(x) f(y)] of that sign f, y_i = x_i with probability (1 + rho) / 2, else -x_i.

    The number of coordinates that differ is binomial. rho: in [-1, 1], any shape, which the result has.
    """
    disagreement, rho = _disagreements(values), real("rho", rho, -1.0, 1.0)[..., None]
    r = np.arange(len(disagreement))
    weights = _multiplicities(r[-1]) * ((1 - rho) / 2) ** r * ((1 + rho) / 2) ** r[::-1]
    return (weights @ (1 - 2 * disagreement))[()]


def _disagreements(values: ArrayLike) -> Array:
    """How likely two normals with covariance Psi(1 - 2 r / d) and variance Psi(1) differ in sign, for each r."""
    values = real("values", values)
    if values.ndim != 1 or len(values) < 2 or values[0] <= 0:
        raise ValueError(
            f"values = {values!r} is not allowed; allowed: Psi at overlaps(d), of shape (d + 1,), Psi(1) > 0"
        )
    return np.arccos(np.clip(values / values[0], -1.0, 1.0)) / np.pi
