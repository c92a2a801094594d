"""Noise-stability regularisation (Definition 6.1), the same at less cost, and parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nsbench.arms.base import Arm, Gamma, LossTerm, Orientation, Rho
from nsbench.arms.registry import arm
from nsbench.config.base import Real
from nsbench.regularizer.term import Branch

if TYPE_CHECKING:
    from torch import Tensor

    from nsbench.config.variant import Noise


class _Stability(Arm):
    draws_noise = True
    per_run = frozenset({"rho", "gamma", "orientation"})

    rho: Rho
    gamma: Gamma
    orientation: Orientation = 1
    """S: 1 rewards stability, 0 punishes it."""

    def savings(self) -> dict[str, Any]:
        """What makes it cheaper, as keywords of `regularizer.stability.stability_term`."""
        return {}

    def loss_term(self, noise: Noise) -> LossTerm:
        from nsbench.regularizer.stability import stability_term

        chosen = {"gradient": noise.gradient, "output": noise.output, **self.savings()}
        return stability_term(self.gamma, self.orientation, **chosen)


@arm("noise_stability")
class NoiseStability(_Stability):
    """Definition 6.1: gamma x (-1)^orientation x <M(X), M(Y)> is added to the loss."""

    family = "paper"


@arm("cheap_noise_stability")
class CheapNoiseStability(_Stability):
    """Definition 6.1 at less cost, its mean strength kept. The three savings combine; with none of
    them it is `noise_stability` to the bit."""

    family = "cheaper"

    every: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    """Applied where the step (from 0) is a multiple of this, with gamma times this."""
    share: Annotated[Real, Field(gt=0.0, le=1.0)] = 1.0
    """Applied to the first ceil(share x batch) examples of the shuffled batch, and averaged over those."""
    branch: Branch = "both"
    """`clean`: the gradient flows through M(X) alone, `noisy`: through M(Y) alone, with gamma times 2.
    Where X is uniform over all sequences, X and Y are exchangeable and both branches have the same
    gradient in the mean; elsewhere (a training set, a text) this is an approximation. `both`: as the
    variant's `noise.gradient` says, which must be `both` beside the other two."""

    def savings(self) -> dict[str, Any]:
        return {"every": self.every, "share": self.share, "branch": self.branch}

    def describe(self) -> str:
        parts = [f"ρ = {self.rho:g}", f"γ = {self.gamma:g}", f"S = {self.orientation}"]
        if self.every > 1:
            parts.append(f"every {_ordinal(self.every)} step")
        if self.share < 1:
            parts.append(f"{100 * self.share:g}% of the batch")
        if self.branch != "both":
            parts.append(f"gradient through M({'X' if self.branch == 'clean' else 'Y'}) alone")
        return ", ".join(parts)

    def check(self, variant: Any) -> None:
        if self.branch != "both" and variant.noise.gradient != "both":
            raise ValueError(
                f"branch = {self.branch!r} does not go with the variant's noise.gradient = "
                f"{variant.noise.gradient!r}; one of the two must be 'both'"
            )

    def passes(self, n_draws: int) -> float:
        # A pass without gradient costs about a third.
        return 1.0 + n_draws * self.share / self.every / (3 if self.branch == "clean" else 1)


@arm("noise_stability_part")
class NoiseStabilityPart(_Stability):
    """Definition 6.1 where Y equals X alone, or where it differs alone; the two parts add up to `noise_stability`.

    They are told apart by the outputs: with one dropout mask for both, or none, M(Y) is M(X) to the bit where Y is X,
    as far as the output depends on it (in a causal model, up to its position).
    """

    family = "control"
    per_run = frozenset({"rho", "gamma", "orientation"})

    part: Literal["y_equals_x", "y_differs"]

    def describe(self) -> str:
        where = "Y = X" if self.part == "y_equals_x" else "Y ≠ X"
        return f"ρ = {self.rho:g}, γ = {self.gamma:g}, S = {self.orientation}, where {where} alone"

    def check(self, variant: Any) -> None:
        if variant.model.dropout_rate and variant.noise.dropout_masks == "independent":
            raise ValueError(
                f"part = {self.part!r} does not go with dropout masks of M(Y)'s own, which hide whether Y = X; "
                "noise.dropout_masks = 'shared', or a dropout of 0, is allowed"
            )
        if variant.training.precision == "bfloat16":
            raise ValueError(
                f"part = {self.part!r} does not go with training.precision = 'bfloat16', in which outputs of other "
                "inputs may be equal; float32 and tf32 are allowed"
            )

    def loss_term(self, noise: Noise) -> LossTerm:
        from nsbench.regularizer.stability import stability_term

        whole = stability_term(self.gamma, self.orientation, gradient=noise.gradient, output=noise.output)

        def penalty(clean_logits: Tensor, noisy_logits: Tensor, labels: Tensor | None) -> Tensor:
            equal = (clean_logits == noisy_logits).all(-1)
            kept = equal if self.part == "y_equals_x" else ~equal
            return whole.penalty(clean_logits, noisy_logits, labels) * kept

        return LossTerm(penalty, whole.every, whole.share, whole.gradient, whole.strength)


def _ordinal(number: int) -> str:
    """2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
