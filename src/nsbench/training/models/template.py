"""An MLP as a model. Change it to yours; `nsbench.training.models.base` documents all that a model may say.

A stack holds one model for each seed of a pack, and trains them side by side: each weight has a leading axis of runs.
Shapes: R run, B batch, T position, V vocabulary, W width, C class.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nsbench import Model, Real, Shape, model


@model("my_kind")
class MyKindModel(Model):
    """A network with one hidden layer over the one-hot tokens of all positions, side by side."""

    width: Annotated[int, Field(ge=1, le=65536)] = 128
    """A setting, with its range and its default; config.yaml sets it."""
    dropout: Annotated[Real, Field(ge=0.0, le=0.99)] = 0.1
    """The rate of dropout; a model without dropout leaves this field and `dropout_size` out."""
    max_length: Annotated[int, Field(ge=1, le=65536)] = 128
    """Longest sequence."""

    def build(self, shape: Shape, seeds: list[int]) -> Any:
        """The stack: planning reads this file too and should stay fast, so what needs torch is imported here."""
        import torch

        from nsbench import Stack

        class MLP(Stack):
            def forward(self, tokens_RBT: torch.Tensor, dropout: Any = None) -> torch.Tensor:
                """Logits (R, B, C); (R, B, T, C) where `positions` is true."""
                place_T = torch.arange(tokens_RBT.shape[-1], device=tokens_RBT.device)
                rows_RBTW = self.lookup("first.weight", tokens_RBT + place_T * shape.vocabulary)
                hidden_RBW = (rows_RBTW.sum(2) + self.weight("first.bias")[:, None]).relu()
                return self.linear("head", hidden_RBW if dropout is None else dropout(hidden_RBW))

        shapes = {
            "first.weight": (self.max_length * shape.vocabulary, self.width),
            "first.bias": (self.width,),
            "head.weight": (self.width, shape.n_classes),
            "head.bias": (shape.n_classes,),
        }
        return MLP(self, shapes, seeds)

    def dropout_size(self, batch: int, length: int) -> int:
        """How many random numbers the masks of one pass of one model take."""
        return batch * self.width if self.dropout else 0

    def n_weights(self, shape: Shape) -> int:
        """How many weights one model has, roughly, for limits of memory and time."""
        return self.width * (self.max_length * shape.vocabulary + shape.n_classes)

    def activations(self, batch: int, shape: Shape) -> int:
        """How many numbers a forward pass keeps for its gradient, roughly, for limits of memory."""
        return batch * (self.width * (shape.length + 2) + shape.n_classes)
