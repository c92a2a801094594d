"""The measures that every run has, registered as a user's own are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench.config.variant import Noise
from nsbench.measures.base import Estimate, MeasureSettings, Model
from nsbench.measures.registry import measure
from nsbench.schemas.metrics import TARGETS

if TYPE_CHECKING:
    import torch

    from nsbench.data.datasets import Dataset


@measure("noise_stability")
def noise_stability(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.stability` under the variant's noise, and the correlation of that noise."""
    import nsbench.measures.stability as stability

    found = stability.noise_stability(
        model,
        data["test_tokens"][: settings.n_inputs].to(model.device),
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
    import nsbench.measures.sensitivity as sensitivity
    from nsbench.arms.noise import resample_tokens

    tokens_NT, specials = data["test_tokens"][: settings.n_inputs], data.fixed_ids(Noise(positions="task"))
    # It shares a stream with noise stability and draws second, whether that is asked for or not.
    for rho in settings.rho * settings.n_draws:
        resample_tokens(tokens_NT, rho, data["symbols"], generator)
    return sensitivity.average_sensitivity(
        model, tokens_NT.to(model.device), data["symbols"], generator, fixed_ids=specials, causal=model.causal
    )


@measure("test_scores")
def test_scores(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.scores` on all test data, for each kind of targets."""
    from nsbench.measures.scores import scores

    tokens_NT, labels_N = data["test_tokens"].to(model.device), data["test_labels"].to(model.device)
    counted = {targets: data.counted(targets, "test").to(model.device) for targets in TARGETS}
    return scores(model, tokens_NT, labels_N, counted)


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
