"""What an arm does to a training step: what it adds to the loss, and the settings that it replaces."""

from __future__ import annotations

from nsbench.arms import Arm, draws_noise
from nsbench.closed import ConfigError
from nsbench.datasets import Dataset
from nsbench.regularizers import AugmentationRegularizer, EntropyRegularizer, NoiseStabilityRegularizer
from nsbench.settings import Model, Noise, Optimizer

Regularizer = NoiseStabilityRegularizer | AugmentationRegularizer | EntropyRegularizer


def build_regularizer(arm: Arm, noise: Noise, data: Dataset) -> Regularizer | None:
    """What an arm adds to the loss; None for an arm that adds nothing.

    Raises ConfigError for a cheap arm's branch that the noise settings contradict (`arms.check`).
    """
    if arm.kind == "entropy":
        return EntropyRegularizer(arm.gamma, arm.orientation)
    if not draws_noise(arm):
        return None
    drawing = {
        "symbols": data.noise_symbols(noise),
        "same_symbol": noise.same_symbol,
        "fixed_ids": data.fixed_ids(noise),
        "n_draws": noise.n_draws,
    }
    if arm.kind == "augmentation":
        return AugmentationRegularizer(arm.rho, arm.gamma, **drawing)
    cheap = {}
    if arm.kind == "cheap_noise_stability":
        cheap = {"every": arm.every, "share": arm.share, "branch": arm.branch}
    try:
        return NoiseStabilityRegularizer(
            arm.rho, arm.gamma, arm.orientation, gradient=noise.gradient, output=noise.output, **drawing, **cheap
        )
    except ValueError as error:
        raise ConfigError(f"arm: {error}") from None


def replaced(arm: Arm, model: Model, optimizer: Optimizer) -> tuple[Model, Optimizer]:
    """The variant's settings with what the arm replaces of them: dropout, or weight decay."""
    if arm.kind == "dropout":
        model = model.model_copy(update={"dropout": arm.rate})
    if arm.kind == "weight_decay":
        optimizer = optimizer.model_copy(update={"weight_decay": arm.value})
    return model, optimizer
