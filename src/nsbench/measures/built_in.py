"""The measures that every run has, registered as a user's own are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench.config.variant import Noise
from nsbench.measures.base import Estimate, MeasureSettings
from nsbench.measures.registry import measure
from nsbench.schemas.metrics import TARGETS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nsbench.data.datasets import Dataset

    Model = Callable[[Tensor], Tensor]


@measure("noise_stability")
def noise_stability(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.stability` under the variant's noise, and the correlation of that noise."""
    import nsbench.measures.stability as stability

    found = stability.noise_stability(
        model,
        data["test_tokens"][: settings.n_inputs],
        settings.rho,
        data.noise_symbols(settings.noise),
        generator,
        n_draws=settings.n_draws,
        same_symbol=settings.noise.same_symbol,
        fixed_ids=data.fixed_ids(settings.noise),
    )
    return (replace(one, correlation=_correlation(one.rho, data, settings.noise)) for one in found)


@measure("average_sensitivity")
def average_sensitivity(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.sensitivity` of the task's symbols, whatever the variant's noise."""
    import torch

    import nsbench.measures.sensitivity as sensitivity

    # Both measures draw from one stream, this one second, whether the first is asked for or not.
    for _ in noise_stability(lambda tokens_NT: torch.zeros(len(tokens_NT), 2), data, generator, settings):
        pass
    tokens_NT, specials = data["test_tokens"][: settings.n_inputs], data.fixed_ids(Noise(positions="task"))
    return sensitivity.average_sensitivity(model, tokens_NT, data["symbols"], generator, fixed_ids=specials)


@measure("test_scores")
def test_scores(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.scores` on all test data, for each kind of targets."""
    from nsbench.measures.scores import scores

    counted = {targets: data.counted(targets, "test") for targets in TARGETS}
    return scores(model, data["test_tokens"], data["test_labels"], counted)


def _correlation(rho: float, data: Dataset, noise: Noise) -> float:
    """The correlation of a symbol and its noisy copy.

    NaN for noise that leaves the domain of the task's function: it puts something else than a symbol of the task on a
    position, or replaces a token that is none.
    """
    import torch

    from nsbench.theory.resampling import resampling_correlation

    symbols = data.noise_symbols(noise)
    only_symbols = noise.positions == "task" or torch.isin(data["test_tokens"], data["symbols"]).all()
    if len(symbols) != len(data["symbols"]) or not only_symbols:
        return math.nan
    return float(resampling_correlation(rho, len(symbols), noise.same_symbol))
