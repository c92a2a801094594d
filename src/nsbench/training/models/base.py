"""What a model is: the settings of an architecture, and all that planning and training ask of it.

    @model("mlp")
    class MLP(Model):
        width: Annotated[int, Field(ge=1, le=65536)] = 128

        def n_weights(self, shape: Shape) -> int: ...
        def activations(self, batch: int, shape: Shape) -> int: ...
        def build(self, shape: Shape, seeds: list[int]) -> Stack: ...

Planning imports this module, so torch is imported by `build`, not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from nsbench.config import limits
from nsbench.config.base import Closed
from nsbench.config.shape import Shape

if TYPE_CHECKING:
    from nsbench.training.models.stack import Stack


class Model(Closed):
    """The settings of a model. `build`, `n_weights` and `activations` are needed, everything else has a default.

    A field `dropout` is the rate of dropout, which an arm may replace; a field `max_length` the longest sequence.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"ids"})
    """What its tokens may be: `ids`, `patches` of an image, or either."""

    kind: str
    """The name under which the class is registered."""

    def build(self, shape: Shape, seeds: list[int]) -> Stack:
        """One model for each seed, side by side, with its initial weights."""
        raise NotImplementedError

    def n_weights(self, shape: Shape) -> int:
        """How many weights one model has, roughly. Models that no machine holds are refused by it."""
        raise NotImplementedError

    @property
    def positions(self) -> bool:
        """Whether logits are (R, B, T, C), one prediction at each position, instead of (R, B, C)."""
        return False

    @property
    def causal(self) -> bool:
        """Whether what is computed at a position depends on no later token."""
        return False

    @property
    def dropout_rate(self) -> float:
        """The rate of dropout in training; 0 without a field `dropout`."""
        return getattr(self, "dropout", 0.0)

    def dropout_size(self, batch: int, length: int) -> int:
        """How many random numbers of 16 bits one pass of one model takes from `DropoutMasks`."""
        return 0

    def activations(self, batch: int, shape: Shape) -> int:
        """How many numbers a forward pass keeps for its gradient, roughly, for limits of memory."""
        raise NotImplementedError

    def multiplications(self, shape: Shape) -> int:
        """Multiplications of a forward pass for one sequence, roughly, for limits of time.

        Left out: each weight at each position, but for a table of tokens.
        """
        return shape.length * self.n_weights(replace(shape, vocabulary=0))

    def check(self, shape: Shape, every_position: bool) -> None:
        """Refuse examples or targets that the model does not serve.

        every_position: whether there is a target at each token. Raises ValueError, its message naming the setting, its
        value and what is allowed.
        """
        given = "patches" if shape.token_width else "ids"
        if given not in self.reads:
            raise ValueError(
                f"model.kind = '{self.kind}' reads {' or '.join(sorted(self.reads))}, and the task's tokens are "
                f"{given}; another kind is needed"
            )
        longest = getattr(self, "max_length", shape.length)
        if shape.length > longest:
            raise ValueError(
                f"the task's sequences have {shape.length} tokens, more than model.max_length = {longest}; "
                f"at least {shape.length} is allowed for it"
            )
        if every_position != self.positions:
            outputs, targets = ("each position", "an example") if self.positions else ("an example", "each position")
            raise ValueError(
                f"model.kind = '{self.kind}' has one output for {outputs}; with a target for {targets} another kind is "
                "needed"
            )

    def sizes(self) -> dict[str, int | list[int]]:
        """The settings that are whole numbers, or lists of them."""
        return {name: value for name, value in self if type(value) is int or isinstance(value, list)}

    @model_validator(mode="after")
    def _can_be_held(self) -> Model:
        limits.check_weights(self.n_weights(Shape()), self.sizes())
        return self
