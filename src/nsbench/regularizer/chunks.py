"""Equation 6 over many classes in little memory: softmax of a part of the examples at a time, and again for gradients.

Shape suffixes: N example or place, C class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_NUMBERS = 2**19
"""Numbers of a chunk, unless that made more than `MOST_CHUNKS`, which torch.compile unrolls."""
MOST_CHUNKS = 32


def chunked_agreement(clean_logits: Tensor, noisy_logits: Tensor) -> Tensor:
    """`agreement` of probabilities, (..., class) -> (...), that keeps nothing but the logits for its gradient."""
    return _Agreement.apply(clean_logits, noisy_logits)


class _Agreement(torch.autograd.Function):
    """a = <p, q> with p, q the softmax of two rows of logits; its gradients are p (q - a) and q (p - a)."""

    @staticmethod
    def forward(clean: Tensor, noisy: Tensor) -> Tensor:
        chunks = zip(_chunks(clean), _chunks(noisy), strict=True)
        found_N = torch.cat([(_softmax(clean_NC) * _softmax(noisy_NC)).sum(-1) for clean_NC, noisy_NC in chunks])
        return found_N.reshape(clean.shape[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        clean, noisy, agreement = ctx.saved_tensors
        gradients = [
            torch.empty_like(logits, memory_format=torch.contiguous_format) if needed else None
            for logits, needed in zip((clean, noisy), ctx.needs_input_grad, strict=True)
        ]
        start = 0
        for clean_NC, noisy_NC in zip(_chunks(clean), _chunks(noisy), strict=True):
            rows = slice(start, start + len(clean_NC))
            start = rows.stop
            grad_N1, agreement_N1 = (one.reshape(-1, 1)[rows] for one in (grad, agreement))
            p_NC, q_NC = _softmax(clean_NC), _softmax(noisy_NC)
            for gradient, own_NC, other_NC in ((gradients[0], p_NC, q_NC), (gradients[1], q_NC, p_NC)):
                if gradient is not None:
                    found_NC = own_NC * ((other_NC - agreement_N1) * grad_N1)
                    # Exactly 0 where nothing is asked, whatever stands at a padded place.
                    gradient.view(-1, gradient.shape[-1])[rows] = found_NC.masked_fill_(grad_N1 == 0, 0.0)
        return gradients[0], gradients[1]


def _softmax(logits: Tensor) -> Tensor:
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return logits.softmax(-1, dtype=torch.float32 if half else logits.dtype)


def _chunks(logits: Tensor) -> Iterator[Tensor]:
    flat_NC = logits.reshape(-1, logits.shape[-1])
    n_chunks = min(MOST_CHUNKS, -(-logits.numel() // CHUNK_NUMBERS))
    return iter(flat_NC.split(-(-len(flat_NC) // max(n_chunks, 1))))
