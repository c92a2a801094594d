"""What the simulations share: Gaussian pairs, chunks that bound the memory, means and their standard errors.

A simulation makes `n_draws` independent draws (fresh weights and fresh inputs), each of `n_pairs` pairs of
correlated inputs under one and the same weights. The replicates are the draws: a standard error is the
standard deviation of their means over the root of their number.

Pairs come in chunks, so that all arrays of a chunk together hold at most `max_values` numbers, as `held` of the
experiment's settings counts them; weights, or sums by draw, hold at most as many, up to three times over while they
are made or used. Chunks change no number drawn: inputs are taken in order from a stream of their draw, weights from a
stream of their draw and layer. So `max_values` changes results by rounding alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from nsbench.config.theory import check_memory
from nsbench.storage.seeding import torch_stream

BLOCK = 512
"""Numbers that `Gaussians` makes at a time; not more than the least `max_values` that settings allow."""


class MonteCarlo:
    """One experiment's simulation: its random streams, the sizes of its chunks, and its points."""

    def __init__(self, experiment: str, settings: Any, seed: int, max_values: int, device: torch.device) -> None:
        """Raises ConfigError naming max_values where one pair, or what serves all chunks, takes more values."""
        check_memory(settings, max_values, experiment)
        self.experiment, self.settings, self.seed, self.device = experiment, settings, seed, device
        most, n_pairs = max_values // settings.held().per_pair, settings.n_pairs
        self.chunks = [most] * (n_pairs // most) + [n_pairs % most] * (n_pairs % most > 0)
        """Pairs of each chunk; they sum to n_pairs."""
        self._sums: dict[tuple[str, str, float], Tensor] = {}
        self._points: list[dict[str, Any]] = []

    def gaussians(self, *name: str | int, dtype: torch.dtype = torch.float32) -> Gaussians:
        """The numbers of a named stream, to be taken chunk by chunk."""
        return Gaussians(self._stream(name), dtype)

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


def correlate(x: Tensor, z: Tensor, rho: float) -> Tensor:
    """Y = rho X + sqrt(1 - rho^2) Z: correlation rho with X where X and Z are independent standard Gaussians."""
    y = rho * x
    y += math.sqrt((1.0 - rho) * (1.0 + rho)) * z
    return y
