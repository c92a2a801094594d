"""What the simulations share: Gaussian pairs, chunks that bound the memory, means and their standard errors.

A simulation makes `n_draws` independent draws (fresh weights and fresh inputs), each of `n_pairs` pairs of
correlated inputs under one and the same weights. The replicates are the draws: a standard error is the
standard deviation of their means over the root of their number.

Memory: pairs come in chunks, so that all arrays of a chunk together hold at most `max_values` numbers at any
time. What serves all chunks, weights or sums by draw, holds at most as many, up to three times over while it
is made or used. `held` of the experiment's settings counts both: an array that a simulation keeps longer than
it did must be counted there. Outside of the bound lie each point's mean from each draw and, for each stream of
inputs, a block of 512 numbers. The chunks change no number drawn: inputs are taken in order from a `Gaussians`
stream of their draw, weights from a stream of their draw and layer, so `max_values` changes results by
rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from nsbench.config.base import ConfigError
from nsbench.storage.seeding import torch_stream

BLOCK = 512
"""Numbers that `Gaussians` makes at a time; not more than the least `max_values` that settings allow."""


@dataclass
class Simulated:
    """What an experiment's simulation gives: rows of SIMULATION and of EXAMPLE, less the experiment's name."""

    points: list[dict[str, Any]]
    examples: list[dict[str, Any]] = field(default_factory=list)


def point(reading: str, series: str, x: float, values_D: Tensor | ArrayLike, n_pairs: int) -> dict[str, Any]:
    """The mean over independent draws and its standard error, std(ddof=1) / sqrt(n_draws), in float64.

    values_D: one mean over `n_pairs` pairs from each draw. Raises ValueError for fewer than two draws.
    """
    values_D = torch.as_tensor(values_D).to("cpu", torch.float64)
    if values_D.ndim != 1 or len(values_D) < 2:
        raise ValueError(f"values_D of shape {tuple(values_D.shape)} is not allowed; allowed: two or more draws")
    return {
        "reading": reading,
        "series": series,
        "x": float(x),
        "value": values_D.mean().item(),
        "standard_error": values_D.std(correction=1).item() / math.sqrt(len(values_D)),
        "n_draws": len(values_D),
        "n_pairs": n_pairs,
    }


class Tally:
    """Sums over pairs, by point and draw."""

    def __init__(self, n_draws: int, n_pairs: int, device: torch.device) -> None:
        self.n_draws, self.n_pairs, self.device = n_draws, n_pairs, device
        self._sums: dict[tuple[str, str, float], Tensor] = {}

    def add(self, draw: int, reading: str, series: str, x: float, value_P: Tensor) -> None:
        """Add pairs of one draw: their values, each a mean over units or tokens."""
        self._add(draw, reading, series, x, value_P.sum(dtype=torch.float64))

    def add_mean(self, draw: int, reading: str, series: str, x: float, mean: float) -> None:
        """Add all pairs of one draw by their mean."""
        self._add(draw, reading, series, x, mean * self.n_pairs)

    def _add(self, draw: int, reading: str, series: str, x: float, total: Tensor | float) -> None:
        key = (reading, series, float(x))
        if key not in self._sums:
            self._sums[key] = torch.zeros(self.n_draws, dtype=torch.float64, device=self.device)
        self._sums[key][draw] += total

    def points(self) -> list[dict[str, Any]]:
        """A point for each reading, series and x, in the order in which they first came."""
        return [point(*key, sums_D / self.n_pairs, self.n_pairs) for key, sums_D in self._sums.items()]


class Gaussians:
    """Independent standard Gaussian numbers in a fixed order, however many are taken at a time.

    Taking 3 and then 5 gives the numbers of taking 8; torch's own generators do not promise that.
    """

    def __init__(self, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> None:
        self._generator = generator
        self._block = torch.empty(BLOCK, dtype=dtype, device=generator.device)
        self._left = 0

    def take(self, *shape: int) -> Tensor:
        """The next numbers, in this shape."""
        out = self._block.new_empty(math.prod(shape))
        filled = 0
        while filled < len(out):
            count = min(self._left or BLOCK, len(out) - filled)
            part = out[filled : filled + count]
            if self._left == 0 and count == BLOCK:
                part.normal_(generator=self._generator)
            else:
                if self._left == 0:
                    self._block.normal_(generator=self._generator)
                    self._left = BLOCK
                start = BLOCK - self._left
                part.copy_(self._block[start : start + count])
                self._left -= count
            filled += count
        return out.view(shape)


def gaussians(seed: int, *name: str | int, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Gaussians:
    """Gaussian numbers of a named stream of the theory's experiments."""
    return Gaussians(torch_stream(seed, "theory", *name, device=device), dtype)


def weights(
    seed: int,
    *name: str | int,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A standard Gaussian matrix of a named stream of the theory's experiments, on `device`."""
    generator = torch_stream(seed, "theory", *name, device=device)
    return torch.randn(shape, generator=generator, dtype=dtype, device=device)


def correlate(x: Tensor, z: Tensor, rho: float) -> Tensor:
    """Y = rho X + sqrt(1 - rho^2) Z: correlation rho with X where X and Z are independent standard Gaussians."""
    y = rho * x
    y += math.sqrt((1.0 - rho) * (1.0 + rho)) * z
    return y


def chunks(n_pairs: int, values_per_pair: int, max_values: int) -> Iterator[int]:
    """Sizes of chunks that sum to `n_pairs`, each of at most max_values // values_per_pair pairs.

    values_per_pair: numbers held at once for one pair. Raises ConfigError naming max_values, at the call
    itself, where not even one pair fits.
    """
    most = max_values // values_per_pair
    if most == 0:
        raise ConfigError(f"max_values = {max_values} is too small; one pair of inputs takes {values_per_pair} values")
    return iter([most] * (n_pairs // most) + [n_pairs % most] * (n_pairs % most > 0))
