"""What all simulations share: Gaussian pairs, chunks, standard errors, memory, seeds and devices."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nsbench.closed import Closed, ConfigError, parse
from nsbench.simulation.montecarlo import (
    BLOCK,
    Simulated,
    Tally,
    chunks,
    correlated_pair,
    gaussians,
    point,
    weights,
)
from nsbench.theory_settings import (
    AttentionExperiment,
    FeedForwardExperiment,
    PatternsExperiment,
    RecurrenceExperiment,
    ReluExperiment,
    TransformerExperiment,
)

CPU = torch.device("cpu")
PLENTY = 4_000_000
SMALL = {
    "attention": AttentionExperiment(n_tokens=6, d_model=20, rho=[0.3, 1.0], ranks=[2, 30], n_draws=3, n_pairs=17),
    "patterns": PatternsExperiment(n_tokens=[4, 6], d_model=20, rho=[0.3, 1.0], n_draws=3, n_pairs=17),
    "feed_forward": FeedForwardExperiment(width=30, depth=3, rho=[0.0, 0.5], n_draws=3, n_pairs=70),
    "recurrence": RecurrenceExperiment(width=30, depth=3, rho=[0.0, 0.5, 1.0], n_draws=3, n_pairs=70),
    "relu": ReluExperiment(rho=[-1.0, 0.2], means=[0.0, 0.5], n_draws=3, n_pairs=2_500),
    "transformer": TransformerExperiment(n_tokens=6, d_model=20, depth=3, n_draws=3, n_pairs=17),
}
"""Settings of each experiment whose pairs take several chunks of 1000 numbers."""
EXPERIMENTS = pytest.mark.parametrize("experiment", list(SMALL))


def simulate(experiment: str, seed: int = 0, max_values: int = PLENTY, device: torch.device = CPU) -> Simulated:
    module = importlib.import_module(f"nsbench.simulation.{experiment}")
    return module.simulate(SMALL[experiment], seed, max_values, device)


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


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0], [3.0, 4.0]]])
def test_a_point_needs_two_draws(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="two or more draws"):
        point("r", "s", 0.0, values, n_pairs=1)


def test_a_tally_means_over_the_pairs_of_each_draw() -> None:
    tally = Tally(2, 3, CPU)
    for draw, values in ((0, [1.0, 2.0]), (0, [6.0]), (1, [5.0, 5.0, 5.0])):
        tally.add(draw, "r", "s", 0.5, torch.tensor(values))
    (found,) = tally.points()
    assert (found["value"], found["standard_error"], found["n_pairs"]) == (4.0, pytest.approx(1.0), 3)


def test_gaussians_do_not_depend_on_how_many_are_taken_at_a_time(device: torch.device) -> None:
    sizes = [3, BLOCK - 4, 1, 2 * BLOCK, 700, 1, 2763]
    whole = gaussians(1, "name", device=device).take(sum(sizes))
    stream = gaussians(1, "name", device=device)
    assert torch.equal(whole, torch.cat([stream.take(size) for size in sizes]))
    assert len(whole.unique()) > 0.99 * len(whole)


def test_gaussians_are_standard_and_their_streams_apart(device: torch.device) -> None:
    x, y = (gaussians(1, name, device=device).take(100, 1000).double() for name in "XZ")
    for moment, exact, spread in ((x, 0, 1), (x**2, 1, 2), (x**3, 0, 15), (x**4, 3, 96), (x * y, 0, 1)):
        assert moment.mean().item() == pytest.approx(exact, abs=5 * math.sqrt(spread / 1e5))


@pytest.mark.parametrize("rho", [-1.0, -0.4, 0.0, 0.9, 1.0])
def test_a_correlated_pair_has_its_correlation_and_variances(rho: float, device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(3)
    x, y = correlated_pair((200, 500), rho, generator)
    assert x.dtype == torch.float32
    assert y.device.type == device.type
    assert (x * y).mean().item() == pytest.approx(rho, abs=5 * math.sqrt((1 + rho**2) / 1e5))
    assert (y * y).mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 1e5))
    if abs(rho) == 1.0:
        assert torch.equal(y, rho * x)


def test_a_correlated_pair_comes_from_a_stream_too() -> None:
    x, y = correlated_pair((3, 4), 0.5, gaussians(1, "name", device=CPU, dtype=torch.float64))
    both = gaussians(1, "name", device=CPU, dtype=torch.float64).take(2, 3, 4)
    torch.testing.assert_close(x, both[0])
    torch.testing.assert_close(y, 0.5 * both[0] + math.sqrt(0.75) * both[1])


@pytest.mark.parametrize(("n_pairs", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2]), (3, [3])])
def test_chunks_are_as_large_as_fit_and_leave_no_pair_out(n_pairs: int, sizes: list[int]) -> None:
    assert list(chunks(n_pairs, 10, 39)) == sizes


@pytest.mark.parametrize(
    "make", [lambda: chunks(5, 10, 9), lambda: weights(0, "W", shape=(2, 5), max_values=9, device=CPU)]
)
def test_what_does_not_fit_is_refused_by_name(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="max_values = 9 is too small"):
        make()


class LargestArray(TorchDispatchMode):
    """Notes the most numbers that any array made while this is on holds."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for array in made if isinstance(made, list | tuple) else [made]:
            if isinstance(array, torch.Tensor):
                self.numbers = max(self.numbers, array.numel())
        return made


@EXPERIMENTS
def test_no_array_holds_more_than_max_values(experiment: str) -> None:
    with LargestArray() as small:
        simulate(experiment, max_values=1_000)
    with LargestArray() as large:
        simulate(experiment)
    assert 500 < small.numbers <= 1_000 < large.numbers


@EXPERIMENTS
def test_max_values_changes_numbers_by_rounding_alone(experiment: str, device: torch.device) -> None:
    small, large = (simulate(experiment, max_values=size, device=device) for size in (1_000, PLENTY))
    for name in ("value", "standard_error"):
        np.testing.assert_allclose(column(small.points, name), column(large.points, name), rtol=1e-4, atol=1e-6)
    assert small.examples == large.examples


@EXPERIMENTS
def test_a_seed_gives_its_numbers_again_and_another_seed_gives_others(experiment: str, device: torch.device) -> None:
    first, again, other = (simulate(experiment, seed, device=device) for seed in (0, 0, 1))
    assert first == again
    random = column(first.points, "standard_error") > 1e-9
    assert random.mean() >= 0.5
    assert (column(first.points, "value") != column(other.points, "value"))[random].mean() > 0.9


@EXPERIMENTS
def test_every_point_comes_once_with_its_counts_of_draws_and_pairs(experiment: str) -> None:
    points = simulate(experiment).points
    assert {row["n_draws"] for row in points} == {3}
    assert {row["n_pairs"] for row in points} == {SMALL[experiment].n_pairs}
    keys = [(row["reading"], row["series"], row["x"]) for row in points]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("experiment", "needed"), [("attention", 600), ("patterns", 400), ("feed_forward", 900), ("transformer", 400)]
)
def test_a_simulation_that_does_not_fit_says_so(experiment: str, needed: int) -> None:
    with pytest.raises(ValueError, match="max_values = 100 is too small"):
        simulate(experiment, max_values=100)
    simulate(experiment, max_values=needed)


@EXPERIMENTS
def test_standard_errors_are_the_spread_of_means_over_seeds(experiment: str) -> None:
    """40 seeds of 3 draws: the variance of the means is the mean of the squared standard errors.

    Of a ratio with 39 and 80 degrees of freedom, [0.35, 2.3] leaves out less than 2 in 1000; its median over a
    simulation's points is checked, and each point more loosely, products of Gaussians having heavier tails.
    """
    runs = [simulate(experiment, seed).points for seed in range(40)]
    values = np.array([column(points, "value") for points in runs])
    errors = np.array([column(points, "standard_error") for points in runs])
    random = errors.mean(0) > 1e-9
    ratio = values.var(0, ddof=1)[random] / (errors**2).mean(0)[random]
    assert 0.35 < np.median(ratio) < 2.3
    assert ratio.min() > 0.2
    assert ratio.max() < 4.0


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (FeedForwardExperiment, {"rho": [0.5, 0.1, 0.5]}),
        (RecurrenceExperiment, {"rho": [0.5, 0.1, 0.5000000001]}),
        (ReluExperiment, {"rho": [0.5, 0.1, 0.5]}),
        (ReluExperiment, {"means": [0.5, 0.1, 0.5]}),
        (TransformerExperiment, {"value_norms": [0.5, 0.1, 0.5]}),
    ],
)
def test_values_that_would_share_a_series_are_refused(settings: type[Closed], values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'?0\.5'? is listed twice"):
        parse(settings, values)
