"""A model's outputs for changed inputs beside those for the clean ones: what measures under token noise share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nsbench.storage.philox import has_numba

BLOCK_BYTES, GPU_BLOCK_BYTES = 2**19, 2**28
"""Of probabilities that are worked on at a time. On a CPU a block stays in the cache, which is seven times as fast."""
INPUTS, GPU_INPUTS = 128, 4000
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
    from the clean ones `rows_B`, and means over the T positions. first: outputs at positions before this one are taken
    as the clean ones, as they are in a causal model before the first token that is changed. Probabilities are as
    precise as the clean logits, or of float32.
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
        dot_BT, squares_BT, _ = self._products(logits, rows_B)
        lengths_BT = (self.squares_NT[rows_B.to(logits.device)] * squares_BT).sqrt()
        return self._mean(torch.stack([dot_BT, dot_BT / lengths_BT]))

    def unchanged(self) -> Tensor:
        """(2, N): `agreements` of the clean outputs with themselves."""
        return torch.stack([self.squares_NT, torch.ones_like(self.squares_NT)]).mean(-1)

    def distances(self, logits: Tensor, rows_B: Tensor, first: int = 0) -> Tensor:
        """(B): half the squared distance of the probabilities."""
        return self._mean(self._products(logits, rows_B, first)[2]) / 2

    def n_changed(self, logits: Tensor, rows_B: Tensor, first: int = 0) -> Tensor:
        """(B): the number of positions, of `n_positions`, at which the class of the largest logit changes."""
        return (_positions(logits)[:, first:].argmax(-1) != self.top_NT[rows_B, first:]).double().sum(-1)

    def _mean(self, values: Tensor) -> Tensor:
        """The mean over all positions of values (..., T) that are 0 before the first."""
        return values.sum(-1) / self.n_positions

    def _products(self, logits: Tensor, rows_B: Tensor, first: int = 0) -> Tensor:
        """(3, B, T) from position `first` on: <p, q>, |q|^2 and |p - q|^2, of clean probabilities p and others q."""
        logits_BTC, rows_B, clean_NTC = _positions(logits), rows_B.to(logits.device), self.probabilities_NTC
        shape = (3, len(logits_BTC), self.n_positions - first)
        found_3BT = torch.empty(shape, dtype=torch.float64, device=logits.device)
        on_cpu = logits.device.type == "cpu" and logits_BTC.shape[1:] == clean_NTC.shape[1:]
        if on_cpu and logits.dtype == clean_NTC.dtype == torch.float32 and has_numba():
            from nsbench.measures.outputs_numba import compare

            given = logits_BTC.detach().contiguous().numpy(), first, clean_NTC.detach().numpy(), rows_B.numpy()
            compare(*given, found_3BT.numpy())
            return found_3BT
        for inputs, positions in self._blocks(logits_BTC[:, first:]):
            at = slice(first + positions.start, first + positions.stop)
            p_BTC = clean_NTC[:, at].index_select(0, rows_B[inputs])
            q_BTC = logits_BTC[inputs, at].softmax(-1, dtype=clean_NTC.dtype)
            products = _dot(p_BTC, q_BTC), _dot(q_BTC, q_BTC), (p_BTC - q_BTC).square_().sum(-1).double()
            found_3BT[:, inputs, positions] = torch.stack(products)
        return found_3BT

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
