"""The networks that transformers are compared with, of torch.nn's layers: from tokens (B, T), or patches (B, T, P).

Shape suffixes: B batch, T position, P pixels of a patch, D width, H and W sides of an image; C channel or class.
Normalisation is over groups of channels, which needs no statistics of other examples.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nsbench.config.shape import Shape

MOST_GROUPS, LEAST_CHANNELS = 8, 4


def norm(channels: int, kind: str) -> nn.Module:
    """GroupNorm of as many groups, 8 at most, as divide the channels into four or more; or nothing.

    Of groups of one channel the mean over places would be the same for all images.
    """
    if kind == "none":
        return nn.Identity()
    most = max(1, min(MOST_GROUPS, channels // LEAST_CHANNELS))
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if channels % n == 0), channels)


class Embedding(nn.Module):
    """A vector for each token: of an id from a table, of a patch by a linear map. In the place of ids vectors stay."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(shape.token_width, width) if shape.token_width else nn.Embedding(shape.vocabulary, width)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        embedded = isinstance(self.map, nn.Embedding) and tokens_BT.is_floating_point()
        return tokens_BT if embedded else self.map(tokens_BT)


class ToImage(nn.Module):
    """`fold` as a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, patches_BTP: Tensor) -> Tensor:
        return fold(patches_BTP, self.shape)


def fold(patches_BTP: Tensor, shape: Shape) -> Tensor:
    """Patches (B, T, P) as images (B, C, H, W). Raises ValueError where they make no square image."""
    grid, side, channels = shape.image
    parts = patches_BTP.view(-1, grid, grid, side, side, channels)
    return parts.permute(0, 5, 1, 3, 2, 4).contiguous().view(-1, channels, grid * side, grid * side)


def mlp(shape: Shape, embedding_width: int | None, widths: list[int]) -> nn.Module:
    """ReLU layers over all tokens side by side: their pixels, or embeddings that all positions share."""
    layers: list[nn.Module] = [Embedding(shape, embedding_width)] if embedding_width else []
    sizes = [shape.length * (embedding_width or shape.token_width), *widths]
    layers.append(nn.Flatten())
    for n_in, n_out in zip(sizes, widths, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], shape.n_classes))


def cnn(shape: Shape, width: int, pooling: str, norm_kind: str) -> nn.Module:
    """Three 3 x 3 convolutions of `width` and twice it, each with norm and ReLU, the first two with max pooling."""
    grid, side, channels = shape.image
    layers: list[nn.Module] = [ToImage(shape)]
    sizes = [channels, width, 2 * width, 2 * width]
    for place, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), norm(n_out, norm_kind), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place < 2 else []
    left = grid * side // 4
    layers += [nn.AdaptiveAvgPool2d(1)] if pooling == "mean" else []
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(sizes[-1] * (1 if pooling == "mean" else left**2), shape.n_classes)
    )


class Residual(nn.Module):
    """x + f(x), or g(x) + f(x) where the two have other shapes."""

    def __init__(self, f: nn.Module, g: nn.Module | None = None) -> None:
        super().__init__()
        self.f, self.g = f, g or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.g(x) + self.f(x)


class ToGrid(nn.Module):
    """Vectors (B, T, D) of the patches of a square image as its channels (B, D, H, W)."""

    def forward(self, x_BTD: Tensor) -> Tensor:
        side = round(x_BTD.shape[1] ** 0.5)
        # Contiguous, as vmap asks of what GroupNorm takes.
        return x_BTD.transpose(1, 2).contiguous().view(len(x_BTD), -1, side, side)


def convmixer(shape: Shape, width: int, depth: int, kernel: int, norm_kind: str) -> nn.Module:
    """ConvMixer (arXiv 2201.09792): patches embedded, then `depth` times a depthwise convolution, which is residual,
    and a pointwise one, each with GELU and norm; the mean over places is classified."""

    def block(convolution: nn.Module) -> nn.Module:
        return nn.Sequential(convolution, nn.GELU(), norm(width, norm_kind))

    layers: list[nn.Module] = [Embedding(shape, width), ToGrid(), nn.GELU(), norm(width, norm_kind)]
    for _ in range(depth):
        depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        layers += [Residual(block(depthwise)), block(nn.Conv2d(width, width, 1))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, shape.n_classes))


def resnet(shape: Shape, width: int, blocks: list[int], norm_kind: str) -> nn.Module:
    """A residual network for small images (arXiv 1512.03385): stages of basic blocks, of twice the width and half the
    side of those before. Width 64 and blocks [2, 2, 2, 2] are ResNet-18, its first layer 3 x 3 without pooling."""

    def conv(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Module:
        convolution = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
        return nn.Sequential(convolution, norm(n_out, norm_kind))

    layers: list[nn.Module] = [ToImage(shape), conv(shape.image[2], width, 3, 1), nn.ReLU()]
    n_in = width
    for stage, count in enumerate(blocks):
        for place in range(count):
            n_out, stride = width * 2**stage, 2 if stage and not place else 1
            f = nn.Sequential(conv(n_in, n_out, 3, stride), nn.ReLU(), conv(n_out, n_out, 3, 1))
            layers += [Residual(f, conv(n_in, n_out, 1, stride) if (n_in, stride) != (n_out, 1) else None), nn.ReLU()]
            n_in = n_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, shape.n_classes))


class Recurrent(nn.Module):
    """Layers of LSTM over the tokens in their order; the last state, or the mean of all, is classified."""

    def __init__(self, shape: Shape, width: int, depth: int, readout: str) -> None:
        super().__init__()
        self.embedding = Embedding(shape, width)
        self.layers = nn.LSTM(width, width, depth, batch_first=True)
        self.head = nn.Linear(width, shape.n_classes)
        self.readout = readout

    def forward(self, tokens_BT: Tensor) -> Tensor:
        states_BTD, _ = self.layers(self.embedding(tokens_BT))
        return self.head(states_BTD.mean(1) if self.readout == "mean" else states_BTD[:, -1])
