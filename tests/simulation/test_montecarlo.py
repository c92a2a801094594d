"""What all simulations share: Gaussian pairs, chunks, standard errors, memory, seeds and devices."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch

from nsbench.config.base import Closed, ConfigError, parse
from nsbench.config.theory import (
    TENTHS,
    AttentionExperiment,
    FeedForwardExperiment,
    PatternsExperiment,
    RecurrenceExperiment,
    ReluExperiment,
    Theory,
    TransformerExperiment,
)
from nsbench.simulation.montecarlo import (
    BLOCK,
    Simulated,
    Tally,
    chunks,
    correlate,
    gaussians,
    point,
)
from tests.simulated import Live

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
"""Settings of each experiment whose pairs take several chunks of 4000 numbers."""
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
    tally.add_mean(0, "r", "mean", 0.5, 7.0)
    tally.add_mean(1, "r", "mean", 0.5, 4.0)
    for draw, values in ((0, [1.0, 2.0]), (0, [6.0]), (1, [5.0, 5.0, 5.0])):
        tally.add(draw, "r", "s", 0.5, torch.tensor(values))
    by_mean, found = tally.points()
    assert (found["value"], found["standard_error"], found["n_pairs"]) == (4.0, pytest.approx(1.0), 3)
    assert (by_mean["value"], by_mean["standard_error"], by_mean["n_pairs"]) == (5.5, pytest.approx(1.5), 3)


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
def test_correlated_numbers_have_their_correlation_and_variance(rho: float, device: torch.device) -> None:
    x, z = (gaussians(1, name, device=device).take(200, 500) for name in "XZ")
    y = correlate(x, z, rho)
    assert (x * y).mean().item() == pytest.approx(rho, abs=5 * math.sqrt((1 + rho**2) / 1e5))
    assert (y * y).mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 1e5))
    if abs(rho) == 1.0:
        assert torch.equal(y, rho * x)


@pytest.mark.parametrize(("n_pairs", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2]), (3, [3])])
def test_chunks_are_as_large_as_fit_and_leave_no_pair_out(n_pairs: int, sizes: list[int]) -> None:
    assert list(chunks(n_pairs, 10, 39)) == sizes


def test_a_pair_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="max_values = 9 is too small"):
        chunks(5, 10, 9)


def test_what_is_there_at_once_is_counted_whole_and_once() -> None:
    with Live() as live:
        first = torch.zeros(10)
        first[2:].mul_(2.0)
        second = first.double()[:3]
        del first
        torch.ones(8)
        torch.ones(4).add_(1.0)
    assert (live.largest, live.most) == (10, 20)
    del second


def counted(experiment: str, max_values: int, **settings: Any) -> tuple[Live, int]:
    """The arrays of a simulation of two draws, and the numbers that lie outside of the bound."""
    section = getattr(Theory(), experiment).model_copy(update={"n_draws": 2, **settings})
    module = importlib.import_module(f"nsbench.simulation.{experiment}")
    with Live() as live:
        points = module.simulate(section, 0, max_values, CPU).points
    n_streams = 3 if experiment == "intervals" else 2
    return live, n_streams * BLOCK + len(points) * section.n_draws


@pytest.mark.parametrize(
    ("experiment", "settings", "kept"),
    [
        ("attention", {"n_tokens": 5, "d_model": 9, "rho": TENTHS[:4], "ranks": [2, 12], "n_pairs": 60}, 9 * (9 + 14)),
        ("attention", {"n_tokens": 9, "d_model": 3, "rho": [0.5], "ranks": [1, 2], "n_pairs": 60}, 3 * (3 + 3)),
        ("attention", {"n_tokens": 1, "d_model": 12, "rho": [0.1, 0.5], "ranks": [12], "n_pairs": 600}, 12 * 24),
        ("patterns", {"n_tokens": [6, 2], "d_model": 8, "rho": TENTHS, "n_pairs": 100}, 8 * 8),
        ("patterns", {"n_tokens": [12], "d_model": 2, "rho": [0.5], "n_pairs": 100}, 2 * 2),
        ("feed_forward", {"width": 10, "depth": 2, "rho": TENTHS, "n_pairs": 80}, 10 * 10),
        ("feed_forward", {"width": 10, "depth": 2, "rho": [0.5], "n_pairs": 300}, 10 * 10),
        ("feed_forward", {"width": 2, "depth": 2, "rho": [0.5], "n_pairs": 2_000}, 2 * 2),
        ("recurrence", {"width": 10, "depth": 2, "rho": TENTHS, "n_pairs": 120}, 10 * 10),
        ("recurrence", {"width": 10, "depth": 2, "rho": [0.5], "n_pairs": 500}, 10 * 10),
        ("recurrence", {"width": 2, "depth": 2, "rho": [0.5], "n_pairs": 2_000}, 2 * 2),
        ("relu", {"rho": TENTHS, "means": [0.0, 0.1, 0.2, 0.3, 0.4], "n_pairs": 5_000}, 0),
        ("relu", {"rho": [0.5], "means": [0.0], "n_pairs": 5_000}, 0),
        ("transformer", {"n_tokens": 5, "d_model": 8, "depth": 2, "n_pairs": 40}, 8 * 8),
        ("transformer", {"n_tokens": 12, "d_model": 3, "depth": 2, "value_norms": [1.0], "n_pairs": 60}, 3 * 3),
        ("transformer", {"n_tokens": 1, "d_model": 8, "depth": 2, "value_norms": [1.0], "n_pairs": 600}, 8 * 8),
        ("intervals", {"depth": 2, "logit_scales": [0.1, 1.0], "n_pairs": 300}, 2 * 2 * 4 * 2 * 16),
        ("intervals", {"n_tokens": 10, "d_model": 2, "depth": 1, "n_pairs": 100}, 5 * 2 * 2 * 2 * 4),
        ("intervals", {"n_tokens": 1, "d_model": 4, "depth": 1, "n_pairs": 1_000}, 5 * 2 * 2 * 16),
    ],
)
def test_all_arrays_together_hold_what_max_values_allows(experiment: str, settings: dict[str, Any], kept: int) -> None:
    """And not much less: chunks are no smaller than they must be. kept: numbers in weights, or in sums by draw."""
    live, outside = counted(experiment, 10_000, **settings)
    assert live.most <= 10_000 + 3 * kept + outside
    assert live.most >= 5_000 + kept + outside


@pytest.mark.parametrize(
    ("experiment", "settings", "kept"),
    [
        ("attention", {"n_tokens": 1, "d_model": 90, "rho": [0.5], "ranks": [90, 80]}, 90 * (90 + 90 + 80)),
        ("patterns", {"n_tokens": [2], "d_model": 90, "rho": [0.5]}, 90 * 90),
        ("feed_forward", {"width": 180, "depth": 2, "rho": [0.5]}, 180 * 180),
        ("recurrence", {"width": 180, "depth": 2, "rho": [0.5]}, 180 * 180),
        ("transformer", {"n_tokens": 1, "d_model": 120, "depth": 2, "value_norms": [1.0]}, 120 * 120),
        ("intervals", {"n_draws": 100, "depth": 1, "logit_scales": [0.1]}, 100 * 2 * 2 * 16),
    ],
)
def test_weights_and_sums_are_held_three_times_over_at_most(
    experiment: str, settings: dict[str, Any], kept: int
) -> None:
    """At the least max_values that will do, for chunks of two pairs, which take little beside the weights."""
    live, outside = counted(experiment, kept, n_pairs=2, **settings)
    assert kept <= live.most - outside <= 3 * kept + kept / 3


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        ("attention", {"n_tokens": 1, "d_model": 1, "rho": [0.5], "ranks": [1]}),
        ("patterns", {"n_tokens": [2], "d_model": 1, "rho": [0.5]}),
        ("feed_forward", {"width": 2, "depth": 1, "rho": TENTHS[:3]}),
        ("recurrence", {"width": 2, "depth": 1, "rho": TENTHS[:3]}),
        ("relu", {"rho": [0.5], "means": [0.0]}),
        ("transformer", {"n_tokens": 1, "d_model": 1, "depth": 1, "value_norms": [1.0]}),
        ("intervals", {"n_tokens": 1, "d_model": 1, "depth": 1, "logit_scales": [1.0]}),
    ],
)
def test_no_array_holds_more_than_max_values(experiment: str, settings: dict[str, Any]) -> None:
    """Not even one number a pair, or a draw, of all of them."""
    live, _ = counted(experiment, BLOCK, n_pairs=BLOCK + 1, **settings)
    assert live.largest <= BLOCK
    live, _ = counted(experiment, BLOCK + 100, n_pairs=2 * BLOCK, **settings)
    assert live.largest <= BLOCK + 100


@EXPERIMENTS
def test_max_values_changes_numbers_by_rounding_alone(experiment: str, device: torch.device) -> None:
    small, large = (simulate(experiment, max_values=size, device=device) for size in (4_000, PLENTY))
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


@EXPERIMENTS
def test_a_simulation_that_does_not_fit_says_so(experiment: str) -> None:
    with pytest.raises(ConfigError, match="max_values = 8 is too small"):
        simulate(experiment, max_values=8)


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
