"""Gaussian noise stability against closed forms, and its standard errors against repetition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nsbench.measures.estimate import Estimate, correlations
from nsbench.measures.gaussian_stability import (
    Standardisation,
    gaussian_noise_stabilities,
    gaussian_noise_stability,
    standardisation,
)
from nsbench.measures.influence import geometric_influence
from nsbench.theory import gaussian_noise_stability as exact_stability
from nsbench.theory import relu_stability

RHOS = [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]
SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""
MEASURE = "noise_stability"


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(
    f: Callable[..., Tensor], x: Tensor, rhos: list[float], *others: Tensor, seed: int = 1, **keywords: int
) -> dict[tuple[str, float], Estimate]:
    generator = torch.Generator(device=x.device).manual_seed(seed)
    found = gaussian_noise_stability(f, x, rhos, generator, *others, **keywords)
    assert {estimate.measure for estimate in found} == {MEASURE}
    assert len(found) == 4 * len(rhos)
    return {(estimate.reduction, estimate.rho): estimate for estimate in found}


def assert_near(found: Estimate, exact: float, largest_error: float = 0.05) -> None:
    assert abs(found.value - exact) <= SURE * found.standard_error + 1e-12
    assert found.standard_error <= largest_error


WEIGHTS = draw(2, 3, seed=2) / 2

CASES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float], float]] = {
    "linear": (
        lambda x: (WEIGHTS.to(x) * x).sum((1, 2)),
        lambda rho: rho * WEIGHTS.square().sum().item(),
        0.0,
    ),
    "product": (lambda x: x[:, 0, 0] * x[:, 1, 2], lambda rho: rho**2, 0.0),
    "relu": (lambda x: x[:, 1, 0].relu(), relu_stability, 1 / math.sqrt(2 * math.pi)),
    "step": (
        lambda x: (x[:, 0, 1] > 1).double(),
        lambda rho: exact_stability(lambda x: x > 1, rho),
        0.15865525393145707,
    ),
    "wave": (
        lambda x: (2 * x[:, 0, 1] + 1).cos(),
        lambda rho: exact_stability(lambda x: np.cos(2 * x + 1), rho),
        math.cos(1) * math.exp(-2),
    ),
}
"""Name -> f, E[f(X) f(Y)], E[f(X)], for standard Gaussian X and Y."""


@pytest.mark.parametrize("name", CASES)
def test_stability_of_known_functions_is_their_closed_form(name: str, device: torch.device) -> None:
    f, exact, mean = CASES[name]
    found = measured(f, draw(20_000, 2, 3, seed=0).to(device), RHOS)
    norm2 = exact(1.0)
    for rho in RHOS:
        assert_near(found["product", rho], exact(rho))
        assert_near(found["normalised", rho], exact(rho) / norm2)
        assert_near(found["pearson", rho], (exact(rho) - mean**2) / (norm2 - mean**2))
        assert_near(found["half_square", rho], norm2 - exact(rho))
    assert found["normalised", 1.0].value == pytest.approx(1.0)
    assert found["pearson", 1.0].value == pytest.approx(1.0)
    assert found["normalised", 1.0].standard_error < 1e-12
    assert found["pearson", 1.0].standard_error < 1e-9


@pytest.mark.parametrize("together", [tuple, lambda values: torch.stack(values, 1)])
def test_readouts_measured_together_have_the_stabilities_that_each_has_alone(
    together: Callable[..., Tensor | tuple[Tensor, ...]], device: torch.device
) -> None:
    x, scale, calls = draw(300, 2, 3, seed=0).to(device), torch.linspace(1, 2, 300, device=device), []

    def f(x: Tensor, scale: Tensor) -> Tensor | tuple[Tensor, ...]:
        calls.append(len(x))
        return together([f(x) * scale for f, _, _ in CASES.values()])

    generator = torch.Generator(device=device).manual_seed(1)
    found = gaussian_noise_stabilities(f, x, [0.3, 0.9], generator, scale, n_draws=2, batch_size=200)
    # Clean, and for each draw both rho.
    assert calls == [200, 100] + [200, 200, 100, 100] * 2
    assert len(found) == len(CASES)
    for estimates, (one, _, _) in zip(found, CASES.values(), strict=True):
        alone = measured(lambda x, scale, one=one: one(x) * scale, x, [0.3, 0.9], scale, n_draws=2, batch_size=200)
        assert len(estimates) == 8
        for estimate in estimates:
            other = alone[estimate.reduction, estimate.rho]
            assert estimate.value == pytest.approx(other.value, rel=1e-12)
            assert estimate.standard_error == pytest.approx(other.standard_error, rel=1e-12)


def test_correlations_by_hand() -> None:
    clean = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    noisy = torch.tensor([[2.0, 3.0, 0.0], [0.0, 1.0, -2.0]], dtype=torch.float64)
    product, normalised, pearson, half_square = correlations("any", 0.5, clean, noisy)
    # The draws' means are the inputs themselves: products 1, 4, 1.
    assert product == Estimate("any", "product", 0.5, 2.0, pytest.approx(1.0))
    assert normalised == Estimate("any", "normalised", 0.5, pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))
    # Of three inputs no correlation is worth a number.
    assert math.isnan(pearson.value)
    assert math.isnan(pearson.standard_error)
    # Every draw is 1 away: half of 1.
    assert half_square == Estimate("any", "half_square", 0.5, pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))


def test_the_correlation_is_that_of_numpy_from_eight_inputs_on() -> None:
    clean, noisy = (draw(8, seed=seed).double() for seed in (0, 1))
    exact = np.corrcoef(clean.numpy(), noisy.numpy())[0, 1]
    assert correlations("any", 0.5, clean, noisy[None])[2].value == pytest.approx(exact)
    assert math.isnan(correlations("any", 0.5, clean[:7], noisy[None, :7])[2].value)


@pytest.mark.parametrize("n_draws", [1, 4])
def test_standard_errors_are_the_spread_of_repetitions(n_draws: int) -> None:
    """Inputs of mean 1, so that the reductions differ, and draws of one input depend on each other."""
    repetitions = [
        measured(
            lambda x: x[:, 0] + x[:, 0] * x[:, 1] / 2,
            1 + draw(150, 2, seed=seed),
            [0.6],
            seed=1000 + seed,
            n_draws=n_draws,
        )
        for seed in range(400)
    ]
    for reduction in ("product", "normalised", "pearson", "half_square"):
        found = [repetition[reduction, 0.6] for repetition in repetitions]
        spread = np.std([estimate.value for estimate in found], ddof=1)
        # The spread of 400 is known to 1 / sqrt(800), 4%; the delta method is of first order.
        assert np.mean([estimate.standard_error for estimate in found]) == pytest.approx(spread, rel=0.12)


def test_more_draws_of_each_input_make_a_smaller_error() -> None:
    x = draw(500, 1, seed=0)
    one, many = (measured(lambda x: x[:, 0].sin(), x, [0.1], n_draws=n)["product", 0.1] for n in (1, 25))
    assert many.standard_error < one.standard_error / 3


def test_inputs_that_are_not_centred_keep_their_own_means() -> None:
    """X ~ N(5, 1): Y has mean 5 rho. Its covariance with X is rho, and E[X Y] = 26 rho."""
    found = measured(lambda x: x[:, 0], 5 + draw(20_000, 1, seed=0), [0.5])
    assert_near(found["product", 0.5], 13.0, 0.1)
    assert_near(found["normalised", 0.5], 0.5)
    assert_near(found["pearson", 0.5], 0.5)


def test_every_rho_has_the_same_noise_and_every_draw_its_own() -> None:
    x, seen = draw(5, 2, 3, seed=0), []
    measured(lambda x: seen.append(x) or x[:, 0, 0], x, [0.6, 0.0, -0.8], n_draws=2)
    assert torch.equal(seen[0], x)
    first, second = seen[1:4], seen[4:]
    for calls in (first, second):
        noise = [(y - rho * x) / math.sqrt(1 - rho**2) for y, rho in zip(calls, (0.6, 0.0, -0.8), strict=True)]
        torch.testing.assert_close(noise[0], noise[1])
        torch.testing.assert_close(noise[0], noise[2])
        # No two inputs or coordinates share a number.
        assert len(noise[1].unique()) == noise[1].numel()
    assert not torch.isclose(first[1], second[1]).any()


@pytest.mark.parametrize("bound", [{"batch_size": 1}, {"batch_size": 4}, {"max_values": 42}])
def test_results_do_not_depend_on_the_batches(bound: dict[str, int], device: torch.device) -> None:
    x, signs = draw(10, 2, 3, seed=0).to(device), torch.tensor([1.0, -1.0] * 5, device=device)
    sizes: list[int] = []

    def f(x: Tensor, signs: Tensor) -> Tensor:
        sizes.append(len(x))
        return signs * x[:, 0].exp().sum(1)

    found = measured(f, x, [0.2, 0.7], signs, n_draws=3, **bound)
    assert set(sizes) == {1: {1}, 4: {4, 2}}.get(bound.get("batch_size", 0), {7, 3})
    whole = measured(f, x, [0.2, 0.7], signs, n_draws=3, batch_size=10)
    assert found.keys() == whole.keys()
    for key in whole:
        assert found[key].value == pytest.approx(whole[key].value, rel=1e-12)
        assert found[key].standard_error == pytest.approx(whole[key].standard_error, rel=1e-12)


def test_what_is_not_defined_is_nan() -> None:
    x = draw(3, 2, seed=0)
    # The mean of three 0.1 is not 0.1: rounding is not taken for variance.
    constant = measured(lambda x: torch.full((len(x),), 0.1, dtype=torch.float64), x, [0.5])
    assert constant["normalised", 0.5].value == pytest.approx(1.0)
    assert math.isnan(constant["pearson", 0.5].value)
    zero = measured(lambda x: torch.zeros(len(x)), x, [0.5])
    assert zero["product", 0.5].value == 0.0
    assert math.isnan(zero["normalised", 0.5].value)
    one = measured(lambda x: x[:, 0], x[:1], [0.5])
    assert math.isnan(one["product", 0.5].standard_error)


def test_no_gradient_is_recorded() -> None:
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    modes: list[bool] = []
    measured(lambda x: (modes.append(torch.is_grad_enabled()), (x * weight).sum(1))[1], draw(4, 2, seed=0), [0.5])
    assert modes == [False, False]


def test_misuse_is_told() -> None:
    x, generator = draw(4, 2, seed=0), torch.Generator()
    with pytest.raises(ValueError, match=r"rhos = 1\.5 is not allowed"):
        gaussian_noise_stability(lambda x: x[:, 0], x, [0.5, 1.5], generator)
    with pytest.raises(ValueError, match="n_draws = 0 is not allowed"):
        gaussian_noise_stability(lambda x: x[:, 0], x, [0.5], generator, n_draws=0)
    with pytest.raises(ValueError, match=r"f gives shape \(4, 2\) for 4 inputs"):
        gaussian_noise_stability(lambda x: x, x, [0.5], generator)


# --- standard units ------------------------------------------------------------------------------------


def sample(device: torch.device | str = "cpu") -> Tensor:
    """Embeddings (50, 4, 3) of means 1, 2, 3 and standard deviations about 1, 2, 4."""
    scale, mean = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])
    return (draw(50, 4, 3, seed=0) * scale + mean).to(device)


def test_each_coordinate_gets_mean_0_and_variance_1_over_inputs_and_positions(device: torch.device) -> None:
    x = sample(device)
    z = standardisation(x, "per_coordinate").to_standard(x).flatten(0, 1)
    torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]))
    torch.testing.assert_close(z.square().mean(0), torch.ones_like(z[0]))


def test_one_scale_keeps_the_proportions_of_the_coordinates() -> None:
    x = sample()
    z = standardisation(x, "one_scale").to_standard(x).flatten(0, 1)
    torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]))
    variance, before = z.square().mean(0), x.flatten(0, 1).var(0, correction=0)
    torch.testing.assert_close(variance.mean(), torch.ones_like(variance[0]))
    torch.testing.assert_close(variance / variance[0], before / before[0])


@pytest.mark.parametrize("how", ["per_coordinate", "one_scale"])
def test_standard_units_go_back_to_embeddings_of_their_dtype(how: str) -> None:
    x = sample().float()
    units = standardisation(x, how)
    z = units.to_standard(x)
    assert z.dtype == units.from_standard(z).dtype == torch.float32
    torch.testing.assert_close(units.from_standard(z), x)
    f = units.of_standard(lambda x, factor: factor * x.sum((1, 2)))
    torch.testing.assert_close(f(z, torch.tensor(2.0)), 2 * x.sum((1, 2)))


def test_influences_in_standard_units_are_slopes_times_standard_deviations() -> None:
    x = sample()
    units = standardisation(x, "per_coordinate")
    f = units.of_standard(lambda x: x[:, 0].sum(1))
    found = geometric_influence(f, units.to_standard(x)).inputs
    torch.testing.assert_close(found.coordinates.value[0], x.flatten(0, 1).std(0, correction=0))


def test_what_does_not_vary_is_refused() -> None:
    x = sample()
    x[..., 1] = 0.1
    with pytest.raises(ValueError, match="does not vary in coordinate 1"):
        standardisation(x, "per_coordinate")
    assert isinstance(standardisation(x, "one_scale"), Standardisation)
    with pytest.raises(ValueError, match="does not vary in coordinate 0"):
        standardisation(torch.full((5, 2, 3), 0.1), "one_scale")
    with pytest.raises(ValueError, match="how = 'per_position' is not allowed"):
        standardisation(x, "per_position")
