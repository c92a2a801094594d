"""Kernels of infinitely wide networks on the cube {-1, 1}^d: spectra, and how sensitive a random network is.

A kernel that depends on x and y through t = <x, y> / d alone, K(x, y) = Psi(t), has the parities as eigenfunctions.
The eigenvalue of those of k variables is mu_k = E_x[Psi(mean x) x_1 ... x_k] = 2^-d (1 - T)^k (1 + T)^(d - k) Psi(1)
with T Psi(t) = Psi(t - 2/d); there are C(d, k) of them, and the mass C(d, k) mu_k is the expected Fourier weight of
level k of a random function with covariance K (Yang and Salman 2019, arXiv 1907.10599). They show that
mu_0 >= mu_2 >= ... and mu_1 >= mu_3 >= ..., the weak order; mu_0 >= mu_1 >= ... is the full order.

Networks are fully connected, with `depth` hidden layers, a linear readout, weights N(0, 2 / fan-in) and no biases.
Arguments outside their domain raise ValueError naming them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import CORRELATION, COUNT, checked, one_of, real, whole

Array = NDArray[np.float64]
ACTIVATIONS = ("relu", "erf")
MAX_DIMENSION = 256


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel on the cube by degree; all arrays have shape (d + 1,)."""

    eigenvalues: Array
    """mu_k under the uniform law: the sum of C(d, k) mu_k is Psi(1)."""
    multiplicities: Array
    """C(d, k)."""

    @property
    def mass(self) -> Array:
        """Share of Psi(1) in each degree: C(d, k) mu_k over their sum."""
        weights = self.multiplicities * self.eigenvalues
        return weights / weights.sum()


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
    e / sqrt(C(d, k)) with e = 2e-15 max |Psi|, whatever the method: Psi in float64 says no more. The mass of a degree
    is off by e sqrt(C(d, k)): 1e-12 at d = 20, 1e-8 at d = 48 and 3e-6 at d = 64, k = 32. But an eigenvalue near k = d
    is off by e as it is near k = 0, and far smaller: of networks with 1 to 8 layers at d = 20 all are known to 5
    digits, at d = 64 those below k = 23 (erf) to 51 (ReLU, tangent) to one.
    """
    values = real("values", values)
    if values.ndim != 1 or not 2 <= len(values) <= MAX_DIMENSION + 1:
        raise ValueError(f"values has shape {values.shape}; allowed: (d + 1,) with d from 1 to {MAX_DIMENSION}")
    d, exact = len(values) - 1, [Fraction(value) for value in values.tolist()]
    sums = [sum((int(c) * value for c, value in zip(row, exact, strict=True)), Fraction(0)) for row in krawtchouk(d)]
    return Spectrum(np.array([float(total / 2**d) for total in sums]), _multiplicities(d))


@checked(t=CORRELATION, depth=COUNT)
def conjugate_kernel(t: ArrayLike, depth: int, activation: str) -> np.float64 | Array:
    """Covariance of a random network's output at two inputs with <x, y> / d = t and |x|^2 = |y|^2 = d, any shape of t.

    Layer by layer K <- 2 E[phi(u) phi(v)], (u, v) normal with the covariances before, and K = 2 t for the first.
    activation: `relu` or `erf`.
    Source: Cho and Saul 2009 (ReLU), Williams 1998 (erf).
    """
    return _network(t, depth, activation)[0][()]


@checked(t=CORRELATION, depth=COUNT)
def tangent_kernel(t: ArrayLike, depth: int, activation: str) -> np.float64 | Array:
    """Neural tangent kernel of that network, all weights (scaled by the root of their variance) trained.

    Theta <- K + 2 E[phi'(u) phi'(v)] Theta, from Theta = K in the first layer. Arguments as of
    `conjugate_kernel`. Source: Jacot et al. 2018.
    """
    return _network(t, depth, activation)[1][()]


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


def _network(t: Array, depth: int, activation: str) -> tuple[Array, Array]:
    """The conjugate and the tangent kernel at t."""
    k, k_self = 2.0 * t, 2.0
    theta = k
    for _ in range(depth):
        moment, slope = dual(activation, k, k_self, k_self)
        k, k_self = 2.0 * moment, 2.0 * _moment_self(activation, k_self)
        theta = k + 2.0 * slope * theta
    return k, theta


def _moment_self(activation: str, k_self: float) -> float:
    """E[phi(u)^2] for u of this variance."""
    return 2 / np.pi * np.arcsin(2 * k_self / (1 + 2 * k_self)) if activation == "erf" else k_self / 2


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
