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
    network_spectrum,
    overlaps,
    random_sensitivity,
    random_stability,
    tangent_kernel,
)

Array = NDArray[np.float64]
ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)
PHI = {"relu": lambda x: np.maximum(x, 0.0), "erf": erf}
SLOPE = {"relu": lambda x: (x > 0) * 1.0, "erf": lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2))}
VARIANCES = {"weight_variance": 1.7, "bias_variance": 0.3}


def points(d: int) -> Array:
    """All x (2^d, d) in the order of truth tables."""
    return 1.0 - 2.0 * ((np.arange(2**d)[:, None] >> np.arange(d)) & 1)


def kernel_matrix(values: Array) -> Array:
    """K (2^d, 2^d) from Psi at the overlaps."""
    xs = points(len(values) - 1)
    return values[np.rint((len(values) - 1 - xs @ xs.T) / 2).astype(int)]


def near(values: Array, exact: Array | float, standard_errors: float = 4.5) -> None:
    """A Monte Carlo mean over the first axis is within so many standard errors of what it should be."""
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    assert (np.abs(values.mean(0) - exact) <= standard_errors * error).all(), (values.mean(0), exact, error)


@ACTIVATION
def test_kernels_are_iterated_gaussian_expectations(activation: str) -> None:
    w, b = VARIANCES["weight_variance"], VARIANCES["bias_variance"]
    for t in (-0.6, 0.0, 0.35, 1.0):
        k, k_self = b + w * t, b + w
        theta = k
        for depth in (1, 2, 3):
            scale = math.sqrt(k_self)
            of = [lambda x, f=f, scale=scale: f(scale * x) for f in (PHI[activation], SLOPE[activation])]
            moment, slope = (float(gaussian_noise_stability(f, k / k_self)) for f in of)
            k, k_self = b + w * moment, b + w * float(gaussian_noise_stability(of[0], 1.0))
            theta = k + w * slope * theta
            assert conjugate_kernel(t, depth, activation, **VARIANCES) == pytest.approx(k, rel=1e-9)
            assert tangent_kernel(t, depth, activation, **VARIANCES) == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("tangent", [False, True])
@ACTIVATION
def test_kernels_are_those_of_wide_random_networks(activation: str, tangent: bool) -> None:
    d, depth, width = 6, 2, 512
    x = torch.ones(2, d, dtype=torch.float64)
    x[1, :2] = -1
    generator, found = torch.Generator().manual_seed(3), []
    w, b = (math.sqrt(VARIANCES[f"{name}_variance"]) for name in ("weight", "bias"))
    for _ in range(24):
        sizes = [d, *[width] * depth, 1]
        weights = [torch.randn(o, i, generator=generator, dtype=x.dtype) for i, o in itertools.pairwise(sizes)]
        biases = [torch.randn(o, generator=generator, dtype=x.dtype) for o in sizes[1:]]
        parameters = [p.requires_grad_() for p in weights + biases]
        h = x
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if layer:
                h = h.relu() if activation == "relu" else torch.erf(h)
            if layer == depth and not tangent:  # the mean over the readout, which is exact
                found.append(w**2 * (h[0] @ h[1]).item() / width + b**2)
            h = w / math.sqrt(h.shape[-1]) * h @ weight.T + b * bias
        if tangent:
            grads = [torch.autograd.grad(out, parameters, retain_graph=True) for out in h[:, 0]]
            found.append(sum((p * q).sum().item() for p, q in zip(*grads, strict=True)))
    kernel = (tangent_kernel if tangent else conjugate_kernel)(1 / 3, depth, activation, **VARIANCES)
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
    values = tangent_kernel(overlaps(d), 2, activation, **VARIANCES)
    matrix, spectrum = kernel_matrix(values) / 2**d, cube_spectrum(values)
    by_degree = np.repeat(spectrum.eigenvalues, spectrum.multiplicities.astype(int))
    assert np.linalg.eigvalsh(matrix) == pytest.approx(np.sort(by_degree), abs=1e-14)
    for k in range(d + 1):
        parity = boolean.parity(d, range(k))
        assert matrix @ parity == pytest.approx(spectrum.eigenvalues[k] * parity, abs=1e-14)
    assert (spectrum.mass * values[0]).sum() == pytest.approx(values[0])
    assert spectrum.mass * values[0] == pytest.approx(spectrum.eigenvalues * spectrum.multiplicities)


@pytest.mark.parametrize("tangent", [False, True])
@ACTIVATION
def test_the_series_and_the_values_give_one_spectrum(activation: str, tangent: bool) -> None:
    kernel = tangent_kernel if tangent else conjugate_kernel
    for depth, bias in ((1, 0.0), (3, 0.4), (8, 0.0)):
        for d in (1, 2, 12, 64):
            series = network_spectrum(d, depth, activation, 1.5, bias, tangent)
            summed = cube_spectrum(kernel(overlaps(d), depth, activation, 1.5, bias))
            assert (np.abs(series.eigenvalues - summed.eigenvalues) <= series.errors + summed.errors).all()
            assert (
                series.errors <= 1e-6 * series.eigenvalues + 4e-14 * 2.0**-d * kernel(1.0, depth, activation, 1.5, bias)
            ).all()


@ACTIVATION
def test_at_64_variables_the_spectrum_is_that_of_longer_arithmetic(activation: str) -> None:
    d, depth, weight = 64, 2, 2
    with mpmath.workdps(60):
        values = []
        for r in range(d + 1):
            k, k_self = weight * (1 - mpmath.mpf(2 * r) / d), mpmath.mpf(weight)
            for _ in range(depth):
                moments = [_mp_moment(activation, c, k_self) for c in (k, k_self)]
                k, k_self = (weight * moment for moment in moments)
            values.append(k)
        exact = [sum(c * v for c, v in zip(row, values, strict=True)) / 2**d for row in krawtchouk(d)]
        exact = np.array([float(value) if abs(value) > mpmath.mpf(10) ** -50 else 0.0 for value in exact])
    found, in_floats = network_spectrum(d, depth, activation, weight), cube_spectrum(np.array(values, dtype=float))
    assert found.eigenvalues == pytest.approx(exact, rel=1e-9, abs=0)
    assert (np.abs(in_floats.eigenvalues - exact) <= in_floats.errors).all()
    # What cancels: far from half of the degrees are right to a digit, all masses are to 3e-6.
    assert 10 <= (np.abs(in_floats.eigenvalues - exact) > 0.1 * np.abs(exact)).sum() <= 40
    assert np.abs(in_floats.mass - found.mass).max() < 3e-6


def _mp_moment(activation: str, k: mpmath.mpf, k_self: mpmath.mpf) -> mpmath.mpf:
    """E[phi(u) phi(v)] in longer arithmetic."""
    if activation == "erf":
        return 2 / mpmath.pi * mpmath.asin(2 * k / (1 + 2 * k_self))
    rho = k / k_self
    return k_self * (mpmath.sqrt(1 - rho**2) + rho * (mpmath.pi - mpmath.acos(rho))) / (2 * mpmath.pi)


def test_the_weak_order_holds_in_all_twenty_cases_and_the_full_one_in_four() -> None:
    full = set()
    for activation in ACTIVATIONS:
        for tangent in (False, True):
            for depth in (1, 2, 4, 8, 32):
                spectrum = network_spectrum(16, depth, activation, tangent=tangent)
                assert not spectrum.broken(2).size
                assert not spectrum.unresolved(2).size
                if not spectrum.broken(1).size:
                    full.add((activation, tangent, depth))
    assert full == {("relu", tangent, depth) for tangent in (False, True) for depth in (8, 32)}
    # Psi(t) = t - t^2 / 2 is no kernel, and has mu_2 < mu_4 = 0 and mu_0 < mu_2.
    no_kernel = cube_spectrum(overlaps(8) - overlaps(8) ** 2 / 2)
    assert no_kernel.broken(2).tolist() == [0, 2]
    assert cube_spectrum(np.ones(9)).unresolved(2).tolist() == [1, 2, 3, 4, 5, 6]


def test_shares_of_mass_at_degree_three_and_above() -> None:
    """Of the tangent kernel at d = 16."""

    def tails(activation: str) -> list[float]:
        return [network_spectrum(16, depth, activation, tangent=True).mass[3:].sum() for depth in (1, 8, 32)]

    assert tails("relu") == pytest.approx([0.088, 0.495, 0.655], abs=5e-4)
    assert tails("erf") == pytest.approx([0.261, 0.784, 0.998], abs=5e-4)


@ACTIVATION
def test_a_random_functions_weights_sensitivity_and_stability_are_the_kernels(activation: str) -> None:
    d, depth, n = 7, 3, 400
    values = conjugate_kernel(overlaps(d), depth, activation, **VARIANCES)
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
        (lambda: network_spectrum(8, 1, "erf", bias_variance=-1), r"bias_variance = -1"),
        (lambda: network_spectrum(300, 1, "erf"), r"d = 300"),
        (lambda: cube_spectrum([[1.0, 0.0]]), r"values has shape \(1, 2\)"),
        (lambda: random_sensitivity([0.0, 0.0]), r"values = .* Psi"),
        (lambda: random_stability([1.0, 0.0], 1.1), r"rho = 1.1"),
        (lambda: cube_spectrum([1.0, 0.0]).broken(3), r"step = 3"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
