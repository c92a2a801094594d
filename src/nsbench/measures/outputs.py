"""A model's outputs for changed inputs beside those for the clean ones: what measures under token noise share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BLOCK_BYTES, GPU_BLOCK_BYTES = 2**19, 2**28
"""Of probabilities that are worked on at a time. On a CPU a block stays in the cache, which is seven times as fast."""
INPUTS, GPU_INPUTS = 200, 4000
"""Inputs in one pass of a small model: few enough for a CPU's cache, many enough for a GPU."""


def batches(n_inputs: int, batch_size: int) -> Iterator[slice]:
    """Slices that cover the inputs in order, each of `batch_size` of them, the last of what is left."""
    return (slice(start, min(start + batch_size, n_inputs)) for start in range(0, n_inputs, batch_size))


def passes(n_inputs: int, device: torch.device) -> Iterator[slice]:
    """Slices of the inputs for one pass each of a small model."""
    return batches(n_inputs, INPUTS if device.type == "cpu" else GPU_INPUTS)


class CleanOutputs:
    """What is kept of a model's outputs for N inputs, to hold outputs for changed inputs against.

    logits: (N, C), or (N, T, C). Results, in float64, are for logits (B, C) or (B, T, C) of inputs that were changed
    from the clean ones `rows_B`, and means over the T positions. first: `logits` are of the positions from this one on;
    before it they are the clean ones, as in a causal model before the first token that is changed. Probabilities are
    as precise as the clean logits, or of float32.
    """

    def __init__(self, logits: Tensor) -> None:
        logits_NTC, dtype = _positions(logits), torch.promote_types(logits.dtype, torch.float32)
        self.probabilities_NTC = torch.empty_like(logits_NTC, dtype=dtype)
        self.squares_NT = torch.empty(logits_NTC.shape[:2], dtype=torch.float64, device=logits.device)
        """|p|^2 of the probabilities p."""
        self.top_NT = logits_NTC.argmax(-1)
        """The class of the largest logit."""
        self.n_positions = self.top_NT.shape[1]
        for at in self._blocks(logits_NTC):
            p_NTC = logits_NTC[at].softmax(-1, dtype=dtype)
            self.probabilities_NTC[at] = p_NTC
            self.squares_NT[at] = _dot(p_NTC, p_NTC)

    def agreements(self, logits: Tensor, rows_B: Tensor) -> Tensor:
        """(2, B): <p, q> of the probabilities p and q, Equation 6 without its sign; and <p, q> / (|p| |q|)."""

        def compare(p_BTC: Tensor, q_BTC: Tensor, squares_BT: Tensor) -> Tensor:
            dot_BT = _dot(p_BTC, q_BTC)
            return torch.stack([dot_BT, dot_BT / (squares_BT * _dot(q_BTC, q_BTC)).sqrt()])

        return self._mean(2, compare, logits, rows_B)

    def unchanged(self) -> Tensor:
        """(2, N): `agreements` of the clean outputs with themselves."""
        return torch.stack([self.squares_NT, torch.ones_like(self.squares_NT)]).mean(-1)

    def distances(self, logits: Tensor, rows_B: Tensor, first: int = 0) -> Tensor:
        """(B): half the squared distance of the probabilities."""

        def compare(p_BTC: Tensor, q_BTC: Tensor, _: Tensor) -> Tensor:
            return (p_BTC - q_BTC).square_().sum(-1).double() / 2

        return self._mean(1, compare, logits, rows_B, first)[0]

    def n_changed(self, logits: Tensor, rows_B: Tensor, first: int = 0) -> Tensor:
        """(B): the number of positions, of `n_positions`, at which the class of the largest logit changes."""
        return (_positions(logits).argmax(-1) != self.top_NT[rows_B, first:]).double().sum(-1)

    def _mean(
        self, n_values: int, compare: Callable[..., Tensor], logits: Tensor, rows_B: Tensor, first: int = 0
    ) -> Tensor:
        logits_BTC, rows_B, dtype = _positions(logits), rows_B.to(logits.device), self.probabilities_NTC.dtype
        values_ABT = torch.empty(n_values, *logits_BTC.shape[:2], dtype=torch.float64, device=logits.device)
        for inputs, positions in self._blocks(logits_BTC):
            at = slice(first + positions.start, first + positions.stop)
            p_BTC, squares_BT = (
                kept[:, at].index_select(0, rows_B[inputs]) for kept in (self.probabilities_NTC, self.squares_NT)
            )
            q_BTC = logits_BTC[inputs, positions].softmax(-1, dtype=dtype)
            values_ABT[:, inputs, positions] = compare(p_BTC, q_BTC, squares_BT)
        return values_ABT.sum(-1) / self.n_positions

    def _blocks(self, logits_NTC: Tensor) -> Iterator[tuple[slice, slice]]:
        """Slices of inputs and positions: several inputs with all positions, or one input and some at a time."""
        n_inputs, n_positions, n_classes = logits_NTC.shape
        block = BLOCK_BYTES if logits_NTC.device.type == "cpu" else GPU_BLOCK_BYTES
        rows = max(1, block // self.probabilities_NTC.itemsize // n_classes)
        for inputs in batches(n_inputs, max(1, rows // n_positions)):
            for positions in batches(n_positions, rows):
                yield inputs, positions


def _positions(logits: Tensor) -> Tensor:
    """Logits as (N, T, C), of one position where they are (N, C)."""
    return logits if logits.ndim == 3 else logits[:, None]


def _dot(p_NTC: Tensor, q_NTC: Tensor) -> Tensor:
    return (p_NTC * q_NTC).sum(-1).double()
