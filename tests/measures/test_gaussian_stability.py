"""Gaussian noise stability against closed forms, and its standard errors against repetition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nsbench.measures.estimate import Estimate, correlations
from nsbench.measures.gaussian_stability import gaussian_noise_stabilities, standardisation
from nsbench.theory import gaussian_noise_stability as exact_stability
from nsbench.theory import relu_stability

RHOS = [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]
SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""
MEASURE = "noise_stability"


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(
    f: Callable[..., Tensor],
    x: Tensor,
    rhos: list[float],
    *others: Tensor,
    seed: int = 1,
    batch_size: int = 20_000,
    n_draws: int = 1,
) -> dict[tuple[str, float], Estimate]:
    """Of a single readout."""
    generator = torch.Generator(device=x.device).manual_seed(seed)
    (found,) = gaussian_noise_stabilities(
        lambda *given: [f(*given)], x, rhos, generator, *others, batch_size=batch_size, n_draws=n_draws
    )
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


@pytest.mark.parametrize("batch_size", [1, 200, 300])
def test_readouts_measured_together_and_in_batches_have_the_stabilities_that_each_has_alone(
    batch_size: int, device: torch.device
) -> None:
    x, scale, calls = draw(300, 2, 3, seed=0).to(device), torch.linspace(1, 2, 300, device=device), []

    def f(x: Tensor, scale: Tensor) -> list[Tensor]:
        calls.append(len(x))
        return [f(x) * scale for f, _, _ in CASES.values()]

    generator = torch.Generator(device=device).manual_seed(1)
    found = gaussian_noise_stabilities(f, x, [0.3, 0.9], generator, scale, n_draws=2, batch_size=batch_size)
    # Clean, and for each draw both rho.
    sizes = {1: [1] * 300, 200: [200, 100], 300: [300]}[batch_size]
    assert calls == sizes + [size for size in sizes for _ in range(2)] * 2
    for estimates, (one, _, _) in zip(found, CASES.values(), strict=True):
        alone = measured(lambda x, scale, one=one: one(x) * scale, x, [0.3, 0.9], scale, n_draws=2)
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
    assert (half_square.reduction, half_square.value) == ("half_square", pytest.approx(0.5))
    assert half_square.standard_error == pytest.approx(0.0, abs=1e-12)
    assert half_square.per_input_N.tolist() == pytest.approx([0.5] * 3)


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


# --- standard units ------------------------------------------------------------------------------------


def test_standard_units_keep_the_proportions_of_the_coordinates_and_go_back() -> None:
    """Embeddings (50, 4, 3) of means 1, 2, 3 and standard deviations about 1, 2, 4."""
    x = (draw(50, 4, 3, seed=0) * torch.tensor([1.0, 2.0, 4.0]) + torch.tensor([1.0, 2.0, 3.0])).float()
    units = standardisation(x)
    z = units.to_standard(x)
    assert z.dtype == units.from_standard(z).dtype == torch.float32
    torch.testing.assert_close(units.from_standard(z), x)
    z_MC = units.to_standard(x.double()).flatten(0, 1)
    torch.testing.assert_close(z_MC.mean(0), torch.zeros_like(z_MC[0]))
    variance, before = z_MC.square().mean(0), x.double().flatten(0, 1).var(0, correction=0)
    torch.testing.assert_close(variance.mean(), torch.ones_like(variance[0]))
    torch.testing.assert_close(variance / variance[0], before / before[0])
    f = units.of_standard(lambda x, factor: factor * x.sum((1, 2)))
    torch.testing.assert_close(f(z, torch.tensor(2.0)), 2 * x.sum((1, 2)))
    with pytest.raises(ValueError, match="embeddings_NTC does not vary"):
        standardisation(torch.full((5, 2, 3), 0.1))
