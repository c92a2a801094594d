"""Kernels of wide networks against quadrature, the whole kernel matrix, longer arithmetic and random networks."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf

from nsbench.theory import boolean
from nsbench.theory.gaussian import gaussian_noise_stability
from nsbench.theory.kernels import (
    ACTIVATIONS,
    conjugate_kernel,
    cube_spectrum,
    krawtchouk,
    overlaps,
    random_sensitivity,
    random_stability,
    tangent_kernel,
)

Array = NDArray[np.float64]
ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)
PHI = {"relu": lambda x: np.maximum(x, 0.0), "erf": erf}
SLOPE = {"relu": lambda x: (x > 0) * 1.0, "erf": lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2))}


def points(d: int) -> Array:
    """All x (2^d, d) in the order of truth tables."""
    return 1.0 - 2.0 * ((np.arange(2**d)[:, None] >> np.arange(d)) & 1)


def kernel_matrix(values: Array) -> Array:
    """K (2^d, 2^d) from Psi at the overlaps."""
    xs = points(len(values) - 1)
    return values[np.rint((len(values) - 1 - xs @ xs.T) / 2).astype(int)]


def near(values: Array, exact: Array | float, standard_errors: float = 4.5) -> None:
    """A Monte Carlo mean over the first axis is within so many standard errors, and rounding, of what it should be."""
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    assert (np.abs(values.mean(0) - exact) <= standard_errors * error + 1e-11).all(), (values.mean(0), exact, error)


@ACTIVATION
def test_kernels_are_iterated_gaussian_expectations(activation: str) -> None:
    for t in (-0.6, 0.0, 0.35, 1.0):
        k, k_self = 2 * t, 2.0
        theta = k
        for depth in (1, 2, 3):
            scale = math.sqrt(k_self)
            of = [lambda x, f=f, scale=scale: f(scale * x) for f in (PHI[activation], SLOPE[activation])]
            moment, slope = (float(gaussian_noise_stability(f, k / k_self)) for f in of)
            k, k_self = 2 * moment, 2 * float(gaussian_noise_stability(of[0], 1.0))
            theta = k + 2 * slope * theta
            assert conjugate_kernel(t, depth, activation) == pytest.approx(k, rel=1e-9)
            assert tangent_kernel(t, depth, activation) == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("tangent", [False, True])
@ACTIVATION
def test_kernels_are_those_of_wide_random_networks(activation: str, tangent: bool) -> None:
    d, depth, width = 6, 2, 512
    x = torch.ones(2, d, dtype=torch.float64)
    x[1, :1] = -1
    generator, found = torch.Generator().manual_seed(3), []
    for _ in range(24):
        sizes = [d, *[width] * depth, 1]
        weights = [torch.randn(o, i, generator=generator, dtype=x.dtype) for i, o in itertools.pairwise(sizes)]
        parameters = [p.requires_grad_() for p in weights]
        h = x
        for layer, weight in enumerate(weights):
            if layer:
                h = h.relu() if activation == "relu" else torch.erf(h)
            if layer == depth and not tangent:  # the mean over the readout, which is exact
                found.append(2 * (h[0] @ h[1]).item() / width)
            h = math.sqrt(2 / h.shape[-1]) * h @ weight.T
        if tangent:
            grads = [torch.autograd.grad(out, parameters, retain_graph=True) for out in h[:, 0]]
            found.append(sum((p * q).sum().item() for p, q in zip(*grads, strict=True)))
    kernel = (tangent_kernel if tangent else conjugate_kernel)(2 / 3, depth, activation)
    assert np.std(found, ddof=1) / math.sqrt(len(found)) < 0.03 * kernel
    near(np.array(found), kernel)


def test_krawtchouk_numbers_are_sums_of_parities() -> None:
    xs = points(5)
    for k in range(6):
        parities = xs[:, :k].prod(1)
        sums = [parities[(xs < 0).sum(1) == r].sum() for r in range(6)]
        assert krawtchouk(5)[k].tolist() == sums


@ACTIVATION
def test_the_spectrum_is_that_of_the_kernel_matrix(activation: str) -> None:
    d = 6
    values = tangent_kernel(overlaps(d), 2, activation)
    matrix, spectrum = kernel_matrix(values) / 2**d, cube_spectrum(values)
    by_degree = np.repeat(spectrum.eigenvalues, spectrum.multiplicities.astype(int))
    assert np.linalg.eigvalsh(matrix) == pytest.approx(np.sort(by_degree), abs=1e-14)
    for k in range(d + 1):
        parity = boolean.parity(d, range(k))
        assert matrix @ parity == pytest.approx(spectrum.eigenvalues[k] * parity, abs=1e-14)
    assert (spectrum.mass * values[0]).sum() == pytest.approx(values[0])
    assert spectrum.mass * values[0] == pytest.approx(spectrum.eigenvalues * spectrum.multiplicities)


def in_longer_arithmetic(d: int, depth: int, activation: str, tangent: bool) -> list[mpmath.mpf]:
    """The kernel at `overlaps(d)`, to 60 digits."""
    values = []
    for r in range(d + 1):
        k, k_self = 2 * (1 - mpmath.mpf(2 * r) / d), mpmath.mpf(2)
        theta = k
        for _ in range(depth):
            (moment, slope), (moment_self, _) = (dual(activation, c, k_self) for c in (k, k_self))
            k, k_self = 2 * moment, 2 * moment_self
            theta = k + (2 * slope * theta if tangent else 0)
        values.append(theta)
    return values


def dual(activation: str, k: mpmath.mpf, k_self: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]."""
    if activation == "erf":
        sine = 2 * k / (1 + 2 * k_self)
        return 2 / mpmath.pi * mpmath.asin(sine), 4 / mpmath.pi / ((1 + 2 * k_self) * mpmath.sqrt(1 - sine**2))
    rho = k / k_self
    slope = (mpmath.pi - mpmath.acos(rho)) / (2 * mpmath.pi)
    return k_self * (mpmath.sqrt(1 - rho**2) / (2 * mpmath.pi) + rho * slope), slope


def eigenvalues(values: list[mpmath.mpf]) -> list[mpmath.mpf]:
    """Of a kernel with these values; what is 0 but for the last digits is 0."""
    d = len(values) - 1
    sums = [sum(int(c) * value for c, value in zip(row, values, strict=True)) / 2**d for row in krawtchouk(d)]
    return [value if abs(value) > mpmath.mpf(10) ** -50 else mpmath.mpf(0) for value in sums]


@pytest.mark.parametrize("tangent", [False, True])
@ACTIVATION
def test_what_floats_leave_of_a_spectrum(activation: str, tangent: bool) -> None:
    kernel = tangent_kernel if tangent else conjugate_kernel
    for d, depth, off in ((20, 1, 1e-12), (20, 8, 1e-12), (48, 2, 1e-8), (64, 2, 3e-6)):
        with mpmath.workdps(60):
            exact = eigenvalues(in_longer_arithmetic(d, depth, activation, tangent))
            shares = np.array([float(math.comb(d, k) * mu / sum(exact)) for k, mu in enumerate(exact)])
        values = kernel(overlaps(d), depth, activation)
        spectrum = cube_spectrum(values)
        errors = np.abs(spectrum.eigenvalues - np.array(exact, dtype=float)) * np.sqrt(spectrum.multiplicities)
        assert errors.max() < 8e-15 * values[0]
        assert np.abs(spectrum.mass - shares / shares.sum()).max() < off


def test_the_weak_order_holds_in_all_twenty_cases_and_the_full_one_in_four() -> None:
    weak, full = set(), set()
    for case in itertools.product(ACTIVATIONS, (False, True), (1, 2, 4, 8, 32)):
        with mpmath.workdps(60):
            activation, tangent, depth = case
            found = eigenvalues(in_longer_arithmetic(16, depth, activation, tangent))
        for step, kept in ((2, weak), (1, full)):
            if all(later <= mu for mu, later in zip(found, found[step:], strict=False)):
                kept.add(case)
    assert len(weak) == 20
    assert full == {("relu", tangent, depth) for tangent in (False, True) for depth in (8, 32)}


def test_shares_of_mass_at_degree_three_and_above() -> None:
    """Of the tangent kernel at d = 16."""

    def tails(activation: str) -> list[float]:
        kernels = [tangent_kernel(overlaps(16), depth, activation) for depth in (1, 8, 32)]
        return [cube_spectrum(values).mass[3:].sum() for values in kernels]

    assert tails("relu") == pytest.approx([0.088, 0.495, 0.655], abs=5e-4)
    assert tails("erf") == pytest.approx([0.261, 0.784, 0.998], abs=5e-4)


@ACTIVATION
def test_a_random_functions_weights_sensitivity_and_stability_are_the_kernels(activation: str) -> None:
    d, depth, n = 7, 3, 400
    values = conjugate_kernel(overlaps(d), depth, activation)
    vectors = np.linalg.cholesky(kernel_matrix(values) + 1e-12 * np.eye(2**d))
    random = np.random.default_rng(5).standard_normal((n, 2**d)) @ vectors.T
    spectrum = cube_spectrum(values)
    near(np.array([boolean.weights_by_level(f) for f in random]), spectrum.eigenvalues * spectrum.multiplicities)
    signs = np.sign(random)
    near(np.array([boolean.total_influence(f) for f in signs]), random_sensitivity(values))
    rhos = np.array([-0.3, 0.25, 0.5, 0.9])
    near(np.array([boolean.noise_stability(f, rhos) for f in signs]), random_stability(values, rhos))


@ACTIVATION
def test_wide_random_networks_are_as_sensitive_and_as_stable(activation: str) -> None:
    d, width, n = 6, 300, 60
    values, random, influence, stability = (
        conjugate_kernel(overlaps(d), 2, activation),
        np.random.default_rng(7),
        [],
        [],
    )
    for _ in range(n):
        h = points(d)
        for fan_in, fan_out in ((d, width), (width, width), (width, 8)):
            h = h if fan_in == d else PHI[activation](h)
            h = h @ random.standard_normal((fan_in, fan_out)) * math.sqrt(2 / fan_in)
        influence.append(np.mean([boolean.total_influence(f) for f in np.sign(h).T]))
        stability.append(np.mean([boolean.noise_stability(f, 0.5) for f in np.sign(h).T]))
    near(np.array(influence), random_sensitivity(values))
    near(np.array(stability), float(random_stability(values, 0.5)))


def test_known_sensitivities_at_20_variables() -> None:
    """ReLU networks grow less sensitive with depth, erf networks more; a random linear function is between them."""

    def of(activation: str) -> list[float]:
        return [random_sensitivity(conjugate_kernel(overlaps(20), depth, activation)) for depth in (1, 2, 4, 8)]

    assert of("relu") == pytest.approx([2.729, 2.600, 2.378, 2.033], abs=5e-4)
    assert of("erf") == pytest.approx([3.323, 3.644, 4.207, 5.296], abs=5e-4)
    assert random_sensitivity(overlaps(20)) == pytest.approx(20 * math.acos(0.9) / math.pi)
    assert random_stability(overlaps(20), [1.0, 0.0, -1.0]) == pytest.approx([1, 0, -1], abs=1e-7)


def test_what_is_outside_a_domain_is_named() -> None:
    for call, named in (
        (lambda: overlaps(300), r"d = 300"),
        (lambda: cube_spectrum([[1.0, 0.0]]), r"values has shape \(1, 2\)"),
        (lambda: random_sensitivity([0.0, 0.0]), r"values = .* Psi"),
        (lambda: random_stability([1.0, 0.0], 1.1), r"rho = 1.1"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
