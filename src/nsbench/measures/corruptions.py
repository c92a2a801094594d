"""Accuracy on corrupted images: eight corruptions of our own, stand-ins for those of CIFAR-10-C (arXiv 1903.12261).

They share names and intent with that collection's, not their code or strengths, so numbers are not to be compared.
Shape suffixes: N image, T patch, P pixel of a patch; C channel, H and W sides of an image in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.shape import Shape
from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate
from nsbench.training.models.modules import fold

LOW, HIGH = -1.0, 1.0
"""Of pixels."""


def gaussian_noise(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """N(0, 0.4^2) on every pixel."""
    return x_NCHW + 0.4 * torch.randn(x_NCHW.shape, generator=generator)


def impulse_noise(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """A tenth of the pixels black or white, with the same chance."""
    drawn = torch.rand(x_NCHW.shape, generator=generator)
    return torch.where(drawn < 0.05, LOW, torch.where(drawn > 0.95, HIGH, x_NCHW))


def blur(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """The mean of 3 x 3 pixels, twice."""
    for _ in range(2):
        x_NCHW = F.avg_pool2d(F.pad(x_NCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x_NCHW


def pixelate(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Half the resolution."""
    small = F.interpolate(x_NCHW, scale_factor=0.5, mode="area")
    return F.interpolate(small, size=x_NCHW.shape[-2:], mode="nearest")


def brightness(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """0.4 added to every pixel."""
    return x_NCHW + 0.4


def contrast(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Each image at 0.4 of the distance from its mean."""
    mean = x_NCHW.mean((1, 2, 3), keepdim=True)
    return mean + 0.4 * (x_NCHW - mean)


def shift(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Moved by an eighth of its side to the right and down, the border black."""
    by = max(1, x_NCHW.shape[-1] // 8)
    return F.pad(x_NCHW, (by, 0, by, 0), value=LOW)[..., : x_NCHW.shape[-2], : x_NCHW.shape[-1]]


def occlusion(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """A square of three eighths of the side, somewhere in each image, in the mean grey."""
    n, _, height, width = x_NCHW.shape
    side = max(1, 3 * width // 8)
    top_N, left_N = (torch.randint(size - side + 1, (n, 1, 1, 1), generator=generator) for size in (height, width))
    row_H1, column_W = torch.arange(height)[:, None], torch.arange(width)
    inside = (row_H1 >= top_N) & (row_H1 < top_N + side) & (column_W >= left_N) & (column_W < left_N + side)
    return torch.where(inside, (LOW + HIGH) / 2, x_NCHW)


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    function.__name__: function
    for function in (gaussian_noise, impulse_noise, blur, pixelate, brightness, contrast, shift, occlusion)
}


def corruptions(
    model: Callable[[Tensor], Tensor], x_NTP: Tensor, labels_N: Tensor, shape: Shape, generator: torch.Generator
) -> Iterator[Estimate]:
    """The share right of each corruption of the images, by its name, of all of them (`mean`), and without (`clean`)."""
    images_NCHW = fold(x_NTP, shape)

    def right(patches_NTP: Tensor) -> Tensor:
        return (model(patches_NTP).argmax(-1) == labels_N).double()

    yield estimate("corruptions", "clean", math.nan, right(x_NTP))
    found = {}
    for name, corrupt in CORRUPTIONS.items():
        found[name] = right(cut(corrupt(images_NCHW, generator).clamp(LOW, HIGH), shape))
        yield estimate("corruptions", name, math.nan, found[name])
    yield estimate("corruptions", "mean", math.nan, torch.stack([*found.values()]).mean(0))


def cut(images_NCHW: Tensor, shape: Shape) -> Tensor:
    """Images as patches (N, T, P), as data sets have them."""
    grid, side, channels = shape.image
    parts = images_NCHW.reshape(-1, channels, grid, side, grid, side).permute(0, 2, 4, 3, 5, 1)
    return parts.reshape(-1, grid * grid, side * side * channels)
