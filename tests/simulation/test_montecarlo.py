"""What all simulations share: Gaussian pairs, standard errors, seeds and devices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from nsbench.config.base import ConfigError, parse
from nsbench.config.theory import EXPERIMENTS, Theory
from nsbench.simulation import montecarlo
from nsbench.simulation.montecarlo import BLOCK, MonteCarlo, correlate, point
from nsbench.storage.seeding import torch_stream
from tests.simulation.simulated import CPU, simulated

SMALL = parse(
    Theory,
    {
        "attention": {"n_tokens": 6, "d_model": 20, "rho": [0.3, 1.0], "ranks": [2, 30], "n_draws": 3, "n_pairs": 17},
        "patterns": {"n_tokens": [4, 6], "d_model": 20, "rho": [0.3, 1.0], "n_draws": 3, "n_pairs": 17},
        "feed_forward": {"width": 30, "depth": 3, "rho": [0.0, 0.5], "n_draws": 3, "n_pairs": 70},
        "recurrence": {"width": 30, "depth": 3, "rho": [0.0, 0.5, 1.0], "n_draws": 3, "n_pairs": 70},
        "relu": {"rho": [-1.0, 0.2], "means": [0.0, 0.5], "n_draws": 3, "n_pairs": 2_500},
        "transformer": {"n_tokens": 6, "d_model": 20, "depth": 3, "n_draws": 3, "n_pairs": 17},
        "intervals": {"depth": 2, "logit_scales": [0.1], "n_draws": 3, "n_pairs": 100},
        "kernels": {"n_variables": 6, "width": 30, "depth": 3, "n_draws": 3, "n_pairs": 70},
    },
)
"""Small settings of each experiment."""
EACH = pytest.mark.parametrize("experiment", EXPERIMENTS)


def gaussians(name: str, *shape: int, device: torch.device) -> torch.Tensor:
    return montecarlo.gaussians(torch_stream(1, name, device=device), *shape)


def column(points: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in points])


def test_a_points_standard_error_is_that_of_a_mean_of_draws() -> None:
    found = point("r", "s", 2, [1.0, 2.0, 6.0], n_pairs=5)
    assert found == {
        "reading": "r",
        "series": "s",
        "x": 2.0,
        "value": 3.0,
        "standard_error": pytest.approx(math.sqrt(7.0 / 3.0)),
        "n_draws": 3,
        "n_pairs": 5,
    }


def test_points_are_means_over_the_pairs_of_each_draw() -> None:
    settings = SMALL.relu.model_copy(update={"n_draws": 2, "n_pairs": 3})
    run = MonteCarlo("relu", settings, 0, CPU)
    run.record("r", "whole", 0.5, torch.tensor([7.0, 4.0]))
    for draw, values in ((0, [1.0, 2.0]), (0, [6.0]), (1, [5.0, 5.0, 5.0])):
        run.add(draw, "r", "s", 0.5, torch.tensor(values))
    whole, found = run.points()
    assert (found["value"], found["standard_error"], found["n_pairs"]) == (4.0, pytest.approx(1.0), 3)
    assert (whole["value"], whole["standard_error"], whole["n_pairs"]) == (5.5, pytest.approx(1.5), 3)


def test_gaussians_do_not_depend_on_how_many_are_taken(device: torch.device) -> None:
    whole = gaussians("name", 5 * BLOCK + 3, device=device)
    for size in (1, BLOCK - 4, BLOCK, 2 * BLOCK + 700):
        assert torch.equal(gaussians("name", size, device=device), whole[:size])
    assert torch.equal(gaussians("name", 7, 100, device=device), whole[:700].view(7, 100))
    assert len(whole.unique()) > 0.99 * len(whole)


def test_gaussians_are_standard_and_their_streams_apart(device: torch.device) -> None:
    x, y = (gaussians(name, 100, 1000, device=device).double() for name in "XZ")
    for moment, exact, spread in ((x, 0, 1), (x**2, 1, 2), (x**3, 0, 15), (x**4, 3, 96), (x * y, 0, 1)):
        assert moment.mean().item() == pytest.approx(exact, abs=5 * math.sqrt(spread / 1e5))


@pytest.mark.parametrize("rho", [-1.0, -0.4, 0.9])
def test_correlated_numbers_have_their_correlation_and_variance(rho: float, device: torch.device) -> None:
    x, z = (gaussians(name, 200, 500, device=device) for name in "XZ")
    y = correlate(x, z, rho)
    assert (x * y).mean().item() == pytest.approx(rho, abs=5 * math.sqrt((1 + rho**2) / 1e5))
    assert (y * y).mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 1e5))
    if abs(rho) == 1.0:
        assert torch.equal(y, rho * x)


@EACH
def test_a_seed_gives_its_numbers_again_and_another_seed_gives_others(experiment: str, device: torch.device) -> None:
    first, again, other = (simulated(getattr(SMALL, experiment), seed, device=device) for seed in (0, 0, 1))
    assert first == again
    points = first[0]
    assert {(row["n_draws"], row["n_pairs"]) for row in points} == {(3, getattr(SMALL, experiment).n_pairs)}
    assert len({(row["reading"], row["series"], row["x"]) for row in points}) == len(points)
    random = column(first[0], "standard_error") > 1e-9
    assert random.mean() >= 0.5
    assert (column(first[0], "value") != column(other[0], "value"))[random].mean() > 0.9


@pytest.mark.parametrize("experiment", ["attention", "recurrence", "relu"])
def test_standard_errors_are_the_spread_of_means_over_seeds(experiment: str) -> None:
    """40 seeds of 3 draws: the variance of the means is the mean of the squared standard errors.

    Of a ratio with 39 and 80 degrees of freedom, [0.35, 2.3] leaves out less than 2 in 1000.
    """
    runs = [simulated(getattr(SMALL, experiment), seed)[0] for seed in range(40)]
    values = np.array([column(points, "value") for points in runs])
    errors = np.array([column(points, "standard_error") for points in runs])
    random = errors.mean(0) > 1e-9
    assert 0.35 < np.median(values.var(0, ddof=1)[random] / (errors**2).mean(0)[random]) < 2.3


@pytest.mark.parametrize(
    ("experiment", "values"),
    [("recurrence", {"rho": [0.5, 0.1, 0.5000000001]}), ("relu", {"means": [0.5, 0.1, 0.5]})],
)
def test_values_that_would_share_a_series_are_refused(experiment: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"0\.5 is listed twice"):
        parse(Theory, {experiment: values})
