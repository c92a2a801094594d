"""What the simulations share: Gaussian pairs, means and their standard errors.

A simulation makes `n_draws` independent draws (fresh weights and fresh inputs), each of `n_pairs` pairs of
correlated inputs under one and the same weights. The replicates are the draws: a standard error is the
standard deviation of their means over the root of their number.

All pairs of a draw are in memory at once, and one draw at a time: `n_draws` costs time alone. Inputs are of a stream
of their draw, weights of a stream of their draw and layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from nsbench.storage.seeding import torch_stream

BLOCK = 512
"""Numbers that `gaussians` makes at a time: another size would make others."""


class MonteCarlo:
    """One experiment's simulation: its random streams and its points."""

    def __init__(self, experiment: str, settings: Any, seed: int, device: torch.device) -> None:
        self.experiment, self.settings, self.seed, self.device = experiment, settings, seed, device
        self._sums: dict[tuple[str, str, float], Tensor] = {}
        self._points: list[dict[str, Any]] = []

    def inputs(self, *name: str | int, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard Gaussian numbers of a named stream, of this shape for each pair: (n_pairs, *shape)."""
        return gaussians(self._stream(name), self.settings.n_pairs, *shape, dtype=dtype)

    def weights(self, *name: str | int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """A standard Gaussian matrix of a named stream."""
        return torch.randn(shape, generator=self._stream(name), dtype=dtype, device=self.device)

    def add(self, draw: int, reading: str, series: str, x: float, value_P: Tensor | float) -> None:
        """Add pairs of one draw to a point: their values, each a mean over units or tokens; or the sum of all."""
        total = value_P.sum(dtype=torch.float64) if isinstance(value_P, Tensor) else value_P
        key = (reading, series, float(x))
        if key not in self._sums:
            self._sums[key] = torch.zeros(self.settings.n_draws, dtype=torch.float64, device=self.device)
        self._sums[key][draw] += total

    def record(self, reading: str, series: str, x: float, values_D: Tensor) -> None:
        """Add a whole point: one mean over all pairs from each draw."""
        self._points.append(point(reading, series, x, values_D, self.settings.n_pairs))

    def points(self) -> list[dict[str, Any]]:
        """Rows of SIMULATION less the experiment, in the order in which the points first came."""
        n_pairs = self.settings.n_pairs
        return self._points + [point(*key, sums_D / n_pairs, n_pairs) for key, sums_D in self._sums.items()]

    def _stream(self, name: tuple[str | int, ...]) -> torch.Generator:
        return torch_stream(self.seed, "theory", self.experiment, *name, device=self.device)


def point(reading: str, series: str, x: float, values_D: Tensor | ArrayLike, n_pairs: int) -> dict[str, Any]:
    """The mean over two or more draws and its standard error, std(ddof=1) / sqrt(n_draws), in float64.

    values_D: one mean over `n_pairs` pairs from each draw.
    """
    values_D = torch.as_tensor(values_D).to("cpu", torch.float64)
    return {
        "reading": reading,
        "series": series,
        "x": float(x),
        "value": values_D.mean().item(),
        "standard_error": values_D.std(correction=1).item() / math.sqrt(len(values_D)),
        "n_draws": len(values_D),
        "n_pairs": n_pairs,
    }


def gaussians(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Independent standard Gaussian numbers; a smaller shape gives the first of a larger one's."""
    size = math.prod(shape)
    blocks = torch.empty(math.ceil(size / BLOCK), BLOCK, dtype=dtype, device=generator.device)
    for block in blocks:
        block.normal_(generator=generator)
    return blocks.flatten()[:size].view(shape)


def correlate(x: Tensor, z: Tensor, rho: float) -> Tensor:
    """Y = rho X + sqrt(1 - rho^2) Z: correlation rho with X where X and Z are independent standard Gaussians."""
    y = rho * x
    y += math.sqrt((1.0 - rho) * (1.0 + rho)) * z
    return y
