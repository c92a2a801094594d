"""The transformer of section J.1: its settings, its size and its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from nsbench.config.base import Real
from nsbench.config.shape import Shape
from nsbench.training.models.base import Model
from nsbench.training.models.registry import model

if TYPE_CHECKING:
    from nsbench.training.models.transformer_stack import TransformerStack


@model("transformer")
class Transformer(Model):
    """The transformer of section J.1, with the choices that the paper leaves open; of patches a vision transformer."""

    reads = frozenset({"ids", "patches"})

    d_model: Annotated[int, Field(ge=1, le=16384)] = 128
    n_layers: Annotated[int, Field(ge=1, le=256)] = 2
    n_heads: Annotated[int, Field(ge=1, le=16384)] = 2
    ffn_width: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Hidden width of the feed-forward network; null means 4 x d_model."""
    norm: Literal["pre", "post"] = "pre"
    """Layer norm before each sublayer and once at the end, or after each residual sum."""
    mask: Literal["none", "causal"] = "none"
    pooling: Literal["mean", "last", "none"] = "mean"
    """What is classified: the mean over positions, the last position, or each position by itself."""
    position_encoding: Literal["sinusoidal", "none"] = "sinusoidal"
    """Fixed sines and cosines, or none: then the order of tokens is not seen, but for a causal mask."""
    embedding_scale: Literal["sqrt_d", "none"] = "sqrt_d"
    """Factor on token embeddings before positions are added."""
    qkv_init: Literal["normal", "xavier"] = "normal"
    """Query, key and value weights: N(0, 0.02^2) as every linear layer, or Xavier."""
    dropout: Annotated[Real, Field(ge=0.0, le=0.99)] = 0.1
    """Rate on attention weights, attention output and feed-forward hidden layer."""
    max_length: Annotated[int, Field(ge=1, le=65536)] = 512
    """Longest sequence that the fixed sinusoidal positions serve."""

    @model_validator(mode="after")
    def _divides(self) -> Transformer:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model = {self.d_model} is not divisible by n_heads = {self.n_heads}; a multiple of it is allowed"
            )
        return self

    @property
    def hidden_width(self) -> int:
        """Hidden width of the feed-forward network."""
        return 4 * self.d_model if self.ffn_width is None else self.ffn_width

    @property
    def positions(self) -> bool:
        return self.pooling == "none"

    @property
    def causal(self) -> bool:
        return self.mask == "causal"

    def build(self, shape: Shape, seeds: list[int]) -> TransformerStack:
        from nsbench.training.models.transformer_stack import TransformerStack

        return TransformerStack(self, shape, seeds)

    def dropout_size(self, batch: int, length: int) -> int:
        if self.dropout == 0:
            return 0
        per_position = self.n_heads * length + self.d_model + self.hidden_width
        return self.n_layers * batch * length * per_position

    def n_weights(self, shape: Shape) -> int:
        """Biases and norms left out."""
        layer = self.d_model * (4 * self.d_model + 2 * self.hidden_width)
        return self.n_layers * layer + (shape.vocabulary + shape.token_width + shape.n_classes) * self.d_model

    def activations(self, batch: int, shape: Shape) -> int:
        """Of each position and layer its sublayers and attention weights; logits."""
        length = shape.length
        layer = 8 * self.d_model + 2 * self.hidden_width + 2 * self.n_heads * length
        return batch * (length * self.n_layers * layer + shape.n_classes * (length if self.positions else 1))

    def multiplications(self, shape: Shape) -> int:
        """Those of matrix products; a head for one prediction a sequence is left out."""
        layer = 4 * self.d_model**2 + 2 * self.d_model * self.hidden_width + 2 * self.d_model * shape.length
        per_token = self.d_model * (shape.token_width + (shape.n_classes if self.positions else 0))
        return shape.length * (self.n_layers * layer + per_token)

    def check(self, shape: Shape, every_position: bool) -> None:
        if every_position != self.positions:
            raise ValueError(
                f"model.pooling = {self.pooling!r} does not fit the targets: with a target at every position 'none' is "
                "allowed, with one target 'mean' or 'last'"
            )
        super().check(shape, every_position)
