"""The architectures that transformers are compared with: their settings, sizes and cost. `modules` has the networks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nsbench.config.shape import Shape
from nsbench.training.models.base import Model
from nsbench.training.models.registry import model

if TYPE_CHECKING:
    from torch import nn

    from nsbench.training.models.module_stack import ModuleStack

Width = Annotated[int, Field(ge=1, le=65536)]
Depth = Annotated[int, Field(ge=1, le=256)]
GroupNorm = Literal["group", "none"]
EITHER = frozenset({"ids", "patches"})
PATCHES = frozenset({"patches"})


class Network(Model):
    """Settings of a network of torch.nn's layers."""

    def network(self, shape: Shape) -> nn.Module:
        """One network, with the initial weights that its layers have."""
        raise NotImplementedError

    def build(self, shape: Shape, seeds: list[int]) -> ModuleStack:
        from nsbench.training.models.module_stack import ModuleStack

        return ModuleStack(self, lambda: self.network(shape), seeds)


def _embedding(shape: Shape, width: int) -> int:
    """Weights that embed a token."""
    return (shape.token_width + 1 if shape.token_width else shape.vocabulary) * width


@model("mlp")
class MLP(Network):
    """ReLU layers over all tokens of an example side by side."""

    reads = EITHER

    widths: Annotated[list[Width], Field(min_length=1, max_length=256)] = Field(default_factory=lambda: [160, 96])
    embedding_width: Width | None = None
    """Of an embedding that all positions share; null: the pixels themselves, which ids do not have."""

    def check(self, shape: Shape, every_position: bool) -> None:
        if not (shape.token_width or self.embedding_width):
            raise ValueError("model.embedding_width = null with a task whose tokens are ids; a number is allowed")
        super().check(shape, every_position)

    def network(self, shape: Shape) -> nn.Module:
        from nsbench.training.models.modules import mlp

        return mlp(shape, self.embedding_width, self.widths)

    def n_weights(self, shape: Shape) -> int:
        sizes = [shape.length * (self.embedding_width or shape.token_width), *self.widths, shape.n_classes]
        layers = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        return layers + _embedding(shape, self.embedding_width or 0)

    def activations(self, batch: int, shape: Shape) -> int:
        return batch * (shape.length * (self.embedding_width or shape.token_width) + 2 * sum(self.widths))

    def multiplications(self, shape: Shape) -> int:
        embedding = shape.token_width * (self.embedding_width or 0)
        return self.n_weights(shape) - _embedding(shape, self.embedding_width or 0) + shape.length * embedding


@model("cnn")
class CNN(Network):
    """Three 3 x 3 convolutions with ReLU and max pooling."""

    reads = PATCHES

    width: Width = 48
    """Channels of the first layer; the others have twice as many."""
    pooling: Literal["mean", "flatten"] = "mean"
    """What is classified: the mean over places, or all places side by side."""
    norm: GroupNorm = "group"

    def network(self, shape: Shape) -> nn.Module:
        from nsbench.training.models.modules import cnn

        return cnn(shape, self.width, self.pooling, self.norm)

    def _layers(self, shape: Shape) -> list[tuple[int, int]]:
        """Weights of each convolution, biases left out, and the pixels that it makes of each channel."""
        grid, side, channels = shape.image
        pixels = (grid * side) ** 2
        return [
            (9 * channels * self.width, pixels),
            (18 * self.width**2, pixels // 4),
            (36 * self.width**2, pixels // 16),
        ]

    def n_weights(self, shape: Shape) -> int:
        if not shape.token_width:
            return 54 * self.width**2
        layers = self._layers(shape)
        places = 1 if self.pooling == "mean" else layers[-1][1]
        return sum(weights for weights, _ in layers) + 2 * self.width * places * shape.n_classes

    def activations(self, batch: int, shape: Shape) -> int:
        pixels = [pixels for _, pixels in self._layers(shape)]
        return 4 * batch * self.width * (pixels[0] + 2 * pixels[1] + 2 * pixels[2])

    def multiplications(self, shape: Shape) -> int:
        return sum(weights * pixels for weights, pixels in self._layers(shape))


@model("convmixer")
class ConvMixer(Network):
    """ConvMixer (arXiv 2201.09792) over the grid of patches."""

    reads = PATCHES

    width: Width = 140
    depth: Depth = 6
    kernel: Literal[3, 5, 7, 9] = 3
    norm: GroupNorm = "group"

    def network(self, shape: Shape) -> nn.Module:
        from nsbench.training.models.modules import convmixer

        return convmixer(shape, self.width, self.depth, self.kernel, self.norm)

    def n_weights(self, shape: Shape) -> int:
        layer = self.width * (self.width + self.kernel**2)
        return self.depth * layer + (shape.token_width + shape.n_classes) * self.width

    def activations(self, batch: int, shape: Shape) -> int:
        return 8 * batch * shape.length * self.width * self.depth

    def multiplications(self, shape: Shape) -> int:
        return shape.length * self.n_weights(shape)


@model("resnet")
class ResNet(Network):
    """A residual network for small images (arXiv 1512.03385); the default is ResNet-18."""

    reads = PATCHES

    width: Width = 64
    """Channels of the first stage; each further one has twice as many."""
    blocks: Annotated[list[Depth], Field(min_length=1, max_length=4)] = Field(default_factory=lambda: [2, 2, 2, 2])
    """Basic blocks of each stage."""
    norm: GroupNorm = "group"

    def network(self, shape: Shape) -> nn.Module:
        from nsbench.training.models.modules import resnet

        return resnet(shape, self.width, self.blocks, self.norm)

    def _stages(self) -> list[tuple[int, int, int]]:
        """Of each stage its width, its blocks and its weights, norms left out."""
        found, before = [], self.width
        for stage, count in enumerate(self.blocks):
            width = self.width * 2**stage
            shortcut = before * width if before != width else 0
            found.append((width, count, 9 * width * (before + (2 * count - 1) * width) + shortcut))
            before = width
        return found

    def n_weights(self, shape: Shape) -> int:
        stages = self._stages()
        return sum(weights for *_, weights in stages) + 9 * 3 * self.width + stages[-1][0] * shape.n_classes

    def activations(self, batch: int, shape: Shape) -> int:
        pixels = (shape.image[0] * shape.image[1]) ** 2
        return batch * sum(6 * width * count * pixels // 4**at for at, (width, count, _) in enumerate(self._stages()))

    def multiplications(self, shape: Shape) -> int:
        pixels = (shape.image[0] * shape.image[1]) ** 2
        return sum(weights * pixels // 4**at for at, (*_, weights) in enumerate(self._stages()))


@model("lstm")
class LSTM(Network):
    """Layers of LSTM over the tokens in their order."""

    reads = EITHER

    width: Width = 96
    depth: Depth = 2
    readout: Literal["last", "mean"] = "last"
    """What is classified: the last state, or the mean of all."""

    def network(self, shape: Shape) -> nn.Module:
        from nsbench.training.models.modules import Recurrent

        return Recurrent(shape, self.width, self.depth, self.readout)

    def n_weights(self, shape: Shape) -> int:
        return (
            8 * self.width * (self.width + 1) * self.depth
            + _embedding(shape, self.width)
            + self.width * shape.n_classes
        )

    def activations(self, batch: int, shape: Shape) -> int:
        return 10 * batch * shape.length * self.width * self.depth

    def multiplications(self, shape: Shape) -> int:
        return shape.length * (8 * self.width**2 * self.depth + shape.token_width * self.width)
