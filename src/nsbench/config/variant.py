"""What a variant of a task sets besides its data and its model: optimiser, budget, noise and target."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from nsbench.config.base import Closed, Real
from nsbench.config.shape import Shape
from nsbench.perturbations import Law, PatchLaw
from nsbench.schemas.metrics import METRICS, VALIDATION_METRICS

MOST_STEPS = 10_000_000
MOST_EVALUATIONS = 100_000
"""Of a run: its history has a row each."""


class Optimizer(Closed):
    """AdamW and its scheduler (Table 2)."""

    learning_rate: Annotated[Real, Field(gt=0.0, le=1e38)] = 1e-3
    """Beyond the largest float32 no step can be taken; far below it runs diverge, which is a result."""
    weight_decay: Annotated[Real, Field(ge=0.0, le=1000.0)] = 1e-3
    """lambda, read by `weight_decay_convention`."""
    weight_decay_convention: Literal["times_lr", "per_step", "l2"] = "times_lr"
    """A step multiplies weights by 1 - lr x lambda (torch's AdamW), by 1 - lambda, or adds
    lambda x weight to the gradient."""
    scheduler: Literal["none", "plateau"] = "none"
    """`plateau` multiplies the learning rate by `scheduler_factor` after `scheduler_patience`
    units without a better `scheduler_metric`."""
    scheduler_metric: Literal["val_loss", "train_loss"] = "val_loss"
    scheduler_unit: Literal["epoch", "evaluation"] = "epoch"
    scheduler_patience: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 10
    scheduler_factor: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.8

    @model_validator(mode="after")
    def _fits(self) -> Optimizer:
        if self.weight_decay_convention == "per_step" and self.weight_decay >= 1.0:
            raise ValueError(
                f"weight_decay = {self.weight_decay:g} per step would erase the weights; below 1 is allowed"
            )
        return self


class Noise(Closed):
    """What Definition 6.1 leaves open; shared by all arms and by the measures."""

    law: Law = "resample"
    """What noise makes of a token: of an id another one (Equation 7), of a patch as `perturbations.patches` says."""
    sigma: Annotated[Real, Field(gt=0.0, le=1e6)] = 1.0
    """Of `patch_gaussian` and `ornstein_uhlenbeck`."""
    symbols: Literal["task", "vocabulary"] = "task"
    """[U]: redraw from the task's symbols, or from the whole vocabulary."""
    positions: Literal["all", "task"] = "all"
    """Redraw at every position, or only where a task symbol stands."""
    same_symbol: bool = True
    """Whether a redraw may return the symbol that was there."""
    gradient: Literal["both", "clean", "noisy"] = "both"
    """Branch that the regulariser's gradient flows through: M(X) and M(Y), or one of them."""
    output: Literal["probabilities", "logits"] = "probabilities"
    """M in Equation 6."""
    n_draws: Annotated[int, Field(ge=1, le=1024)] = 1
    """Draws of Y per step; each costs a forward pass."""
    dropout_masks: Literal["independent", "shared"] = "independent"
    """Whether M(Y) uses dropout masks of its own or those of M(X)."""

    def check(self, shape: Shape) -> None:
        """Refuse a law for other tokens than a task's. Raises ValueError naming the law and what is allowed."""
        if bool(shape.token_width) == (self.law == "resample"):
            tokens, laws = ("patches", get_args(PatchLaw)) if shape.token_width else ("ids", ("resample",))
            raise ValueError(
                f"noise.law = '{self.law}' does not fit the task's tokens, which are {tokens}; "
                f"allowed: {', '.join(laws)}"
            )


class Training(Closed):
    """Budget and rhythm of a run, in optimiser steps."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 10_000
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    eval_every_steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of matrix products in training; weights, softmax, norms and losses are float32 always, and so is validation.
    `tf32` is float32 on a CPU."""
    stop: Literal["never", "after_target"] = "never"
    """`after_target` ends a run early: once its target has been held, and `margin_evaluations` later."""
    margin_evaluations: Annotated[int, Field(ge=0, le=MOST_EVALUATIONS)] = 10
    """Evaluations after the hold that a run with `stop: after_target` still makes."""

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.eval_every_steps > self.steps:
            raise ValueError(
                f"eval_every_steps = {self.eval_every_steps} is more than steps = {self.steps}; at most that is allowed"
            )
        if self.steps // self.eval_every_steps > MOST_EVALUATIONS:
            raise ValueError(
                f"steps = {self.steps} with eval_every_steps = {self.eval_every_steps} are more than "
                f"{MOST_EVALUATIONS:,} evaluations, each a row of the history; at least "
                f"{-(-self.steps // MOST_EVALUATIONS)} is allowed for eval_every_steps"
            )
        return self


class Target(Closed):
    """What counts as solved; fixed before anything runs."""

    metric: Literal[VALIDATION_METRICS] = "val_accuracy"
    """`_unpadded`: padding is no target; `_known`: neither padding nor the unknown word is one."""
    threshold: Annotated[Real, Field(ge=0.0, le=1000.0)] = 0.95
    hold_evaluations: Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)] = 3
    """Evaluations in a row, the first included, that must reach the threshold."""
    hold_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 0
    """Optimiser steps that must pass while they do: evaluations that lie close together prove less."""

    @model_validator(mode="after")
    def _fits(self) -> Target:
        if not METRICS[self.metric].is_loss and not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold = {self.threshold:g} of metric = {self.metric!r}; above 0 and at most 1 is allowed, as "
                "every run reaches 0 and none more than 1"
            )
        return self
