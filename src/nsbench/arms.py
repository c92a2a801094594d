"""What regularises a run: the arms that may stand in `config.yaml`, and what each means.

M(X) and M(Y) are a model's outputs for an example and for its noisy copy (Definition 6.1); what that
definition leaves open is the variant's `noise`, the same for all arms.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nsbench.closed import Closed, ConfigError, Real

__all__ = [
    "Arm",
    "AugmentationArm",
    "BaselineArm",
    "CheapNoiseStabilityArm",
    "DropoutArm",
    "EntropyArm",
    "GrokfastArm",
    "NoiseStabilityArm",
    "WeightDecayArm",
    "check",
    "draws_noise",
    "forward_passes",
]

Rho = Annotated[Real, Field(ge=-1.0, le=1.0)]
Gamma = Annotated[Real, Field(ge=0.0, le=1e6)]


class BaselineArm(Closed):
    """No regularisation."""

    kind: Literal["baseline"]


class NoiseStabilityArm(Closed):
    """Definition 6.1: gamma x (-1)^orientation x <M(X), M(Y)> is added to the loss."""

    kind: Literal["noise_stability"]
    rho: Rho
    gamma: Gamma
    orientation: Annotated[int, Field(ge=0, le=1)] = 1
    """S: 1 rewards stability, 0 punishes it."""


class CheapNoiseStabilityArm(Closed):
    """Definition 6.1 at less cost, its mean strength kept. The three savings combine; with none of
    them it is `noise_stability` to the bit."""

    kind: Literal["cheap_noise_stability"]
    rho: Rho
    gamma: Gamma
    orientation: Annotated[int, Field(ge=0, le=1)] = 1
    """S: 1 rewards stability, 0 punishes it."""
    every: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    """Applied where the step (from 0) is a multiple of this, with gamma times this."""
    share: Annotated[Real, Field(gt=0.0, le=1.0)] = 1.0
    """Applied to the first ceil(share x batch) examples of the shuffled batch, and averaged over those."""
    branch: Literal["both", "clean", "noisy"] = "both"
    """`clean`: the gradient flows through M(X) alone, `noisy`: through M(Y) alone, with gamma times 2.
    Where X is uniform over all sequences, X and Y are exchangeable and both branches have the same
    gradient in the mean; elsewhere (a training set, a text) this is an approximation. `both`: as the
    variant's `noise.gradient` says, which must be `both` beside the other two."""


class AugmentationArm(Closed):
    """A control: gamma x the cross entropy of M(Y) with the label of X is added to the loss."""

    kind: Literal["augmentation"]
    rho: Rho
    gamma: Gamma


class EntropyArm(Closed):
    """A control without noise: gamma x (-1)^(orientation + 1) x the Shannon entropy (nats) of
    softmax M(X) is added to the loss."""

    kind: Literal["entropy"]
    gamma: Gamma
    orientation: Annotated[int, Field(ge=0, le=1)] = 1
    """1 punishes entropy: it favours confident outputs, as rewarding stability does; 0 rewards it."""


class GrokfastArm(Closed):
    """A control: the gradient g becomes g + lamb x mu, with mu <- alpha x mu + (1 - alpha) x g
    (Grokfast with a moving average, arXiv 2405.20233); mu starts at the first gradient."""

    kind: Literal["grokfast"]
    alpha: Annotated[Real, Field(ge=0.0, lt=1.0)]
    lamb: Annotated[Real, Field(ge=0.0, le=1e6)]


class DropoutArm(Closed):
    """A control: the variant's `model.dropout` is replaced."""

    kind: Literal["dropout"]
    rate: Annotated[Real, Field(ge=0.0, le=0.99)]


class WeightDecayArm(Closed):
    """A control: the variant's `optimizer.weight_decay` is replaced, its convention kept."""

    kind: Literal["weight_decay"]
    value: Annotated[Real, Field(ge=0.0, le=1000.0)]


Arm = Annotated[
    BaselineArm
    | NoiseStabilityArm
    | CheapNoiseStabilityArm
    | AugmentationArm
    | EntropyArm
    | GrokfastArm
    | DropoutArm
    | WeightDecayArm,
    Field(discriminator="kind"),
]


def check(arm: Arm, variant: Any, where: str = "arm") -> None:
    """Whether an arm can be trained with a variant's settings (`nsbench.settings.Variant`, or any that has
    `noise` and `optimizer`).

    Raises ConfigError, its message starting with `where`.
    """
    if arm.kind == "cheap_noise_stability" and arm.branch != "both" and variant.noise.gradient != "both":
        raise ConfigError(
            f"{where}: branch = {arm.branch!r} does not go with the variant's noise.gradient = "
            f"{variant.noise.gradient!r}; one of the two must be 'both'"
        )
    if arm.kind == "weight_decay" and variant.optimizer.weight_decay_convention == "per_step" and arm.value >= 1:
        raise ConfigError(
            f"{where}: value = {arm.value:g} per step would erase the weights; below 1 is allowed with the variant's "
            "weight_decay_convention = 'per_step'"
        )


def draws_noise(arm: Arm) -> bool:
    """Whether training with an arm looks at noisy copies, and so at the variant's `noise`."""
    return arm.kind in ("noise_stability", "cheap_noise_stability", "augmentation")


def forward_passes(arm: Arm, n_draws: int) -> float:
    """A rough cost of a step in passes (forward and backward) of the whole batch; n_draws: of the variant's noise."""
    if arm.kind in ("noise_stability", "augmentation"):
        return 1.0 + n_draws
    if arm.kind != "cheap_noise_stability":
        return 1.0
    # A pass without gradient costs about a third.
    return 1.0 + n_draws * arm.share / arm.every / (3 if arm.branch == "clean" else 1)
