"""The measures that every run has, and others of ours, registered as a user's own are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nsbench.config.variant import Noise
from nsbench.measures.base import Estimate, MeasureSettings, Model
from nsbench.measures.registry import measure
from nsbench.schemas.metrics import TARGETS

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nsbench.data.datasets import Dataset
    from nsbench.measures.stability import NoisyCopy


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
        _noisy_copy(data, settings.noise),
        generator,
        n_draws=settings.n_draws,
    )
    return (replace(one, correlation=_correlation(one.rho, data, settings.noise)) for one in found)


@measure("average_sensitivity")
def average_sensitivity(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.sensitivity` of the task's symbols, whatever the variant's noise; nothing for patches."""
    import nsbench.measures.sensitivity as sensitivity
    from nsbench.perturbations.tokens import resample_tokens

    if data.shape.token_width:
        return iter(())

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


@measure("fourier_weight")
def fourier_weight(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.fourier` of the probabilities, of two classes their difference, on uniform symbols of the task.

    Nothing for patches, a target at each position, or a task whose symbols and other tokens have no fixed places.
    """
    import torch

    if data.shape.token_width:
        return

    import nsbench.measures.fourier as fourier
    from nsbench.theory.resampling import resampling_correlation

    symbols, test_NT = data["symbols"], data["test_tokens"]
    is_symbol_NT = torch.isin(test_NT, symbols)
    places = is_symbol_NT[0].nonzero().squeeze(1)
    same = (test_NT == test_NT[0]) | is_symbol_NT[0]
    if data["test_labels"].ndim > 1 or not (same & (is_symbol_NT == is_symbol_NT[0])).all():
        return

    def f(chosen_Nn: torch.Tensor) -> NDArray[np.float64]:
        tokens_NT = test_NT[:1].repeat(len(chosen_Nn), 1)
        tokens_NT[:, places] = symbols[chosen_Nn]
        p_NC = model(tokens_NT).double().softmax(-1)
        return (p_NC[:, :1] - p_NC[:, 1:] if p_NC.shape[1] == 2 else p_NC).numpy()

    same_symbol = settings.noise.same_symbol
    kappas = {rho: float(resampling_correlation(rho, len(symbols), same_symbol)) for rho in settings.rho}
    inside = {rho: kappa for rho, kappa in kappas.items() if 0 <= kappa < 1}
    yield from fourier.fourier_weight(f, len(places), len(symbols), inside, generator)


PAPER_RHO = (0.05, 0.25)
"""Of its tasks, in the order of parity and addition."""


@measure("regularizer_gradient")
def regularizer_gradient(
    model: Any, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.regularizer_gradient` on the first training examples, for the paper's rho and those asked for.

    A checkpoint does not know its arm: the norm ratio is for gamma = 1, and times gamma that of any arm with this rho.
    """
    import nsbench.measures.regularizer_gradient as regularizer_gradient

    tokens_NT, labels_N = (data[f"train_{name}"][: settings.n_inputs].to(model.device) for name in ("tokens", "labels"))
    found = regularizer_gradient.regularizer_gradient(
        model.stack,
        tokens_NT,
        labels_N,
        sorted({*PAPER_RHO, *settings.rho}),
        _noisy_copy(data, settings.noise),
        generator,
        settings.noise,
        n_draws=settings.n_draws,
    )
    return (replace(one, correlation=_correlation(one.rho, data, settings.noise)) for one in found)


@measure("token_sensitivity")
def token_sensitivity(
    model: Any, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.token_sensitivity`; nothing for a task with a target at each position."""
    import nsbench.measures.token_sensitivity as flips

    if data["test_labels"].ndim == 1:
        yield from flips.token_sensitivity(model, data, settings.sensitivity, generator)


@measure("swapped_accuracy")
def swapped_accuracy(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> torch.Tensor | tuple[()]:
    """Whether each of a task's swapped examples is answered as their frequent tokens say (`token_mixture`)."""
    if "swapped_tokens" not in data.tensors:
        return ()
    return (model(data["swapped_tokens"]).argmax(-1) == data["swapped_labels"]).double()


@measure("weight_noise")
def weight_noise(
    model: Any, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.weight_noise` on the first training examples; nothing with a target at each position."""
    import nsbench.measures.weight_noise as sharpness

    if data["train_labels"].ndim > 1:
        return
    n = settings.sensitivity.n_inputs
    given = data["train_tokens"][:n], data["train_labels"][:n], generator, settings.sensitivity.n_draws
    yield from sharpness.weight_noise(model, model.stack, *given)


@measure("corruptions")
def corruptions(
    model: Model, data: Dataset, generator: torch.Generator, settings: MeasureSettings
) -> Iterator[Estimate]:
    """`nsbench.measures.corruptions` of the first test images; nothing for a task of ids."""
    import nsbench.measures.corruptions as images

    if data.shape.token_width:
        n = settings.n_inputs
        yield from images.corruptions(model, data["test_tokens"][:n], data["test_labels"][:n], data.shape, generator)


def _noisy_copy(data: Dataset, noise: Noise) -> NoisyCopy:
    return lambda tokens, rho, generator: data.noisy_copy(tokens, rho, noise, generator)


def _correlation(rho: float, data: Dataset, noise: Noise) -> float:
    """The correlation of a symbol and its noisy copy.

    NaN for noise of patches, and for noise that leaves the domain of the task's function: it puts something else than a
    symbol of the task on a position, or replaces a token that is none.
    """
    import torch

    from nsbench.theory.resampling import resampling_correlation

    if noise.law != "resample":
        return math.nan
    symbols = data.noise_symbols(noise)
    only_symbols = noise.positions == "task" or torch.isin(data["test_tokens"], data["symbols"]).all()
    if len(symbols) != len(data["symbols"]) or not only_symbols:
        return math.nan
    return float(resampling_correlation(rho, len(symbols), noise.same_symbol))
