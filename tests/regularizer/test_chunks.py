"""Equation 6 in chunks: gradients, and how much memory they take."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nsbench.regularizer import chunks
from nsbench.regularizer.stability import agreement


@pytest.mark.parametrize("numbers", [7, 2**22])
def test_gradients_are_right_in_any_number_of_chunks(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(chunks, "CHUNK_NUMBERS", numbers)
    clean, noisy = (torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.allclose(chunks.chunked_agreement(clean, noisy), agreement(clean, noisy))
    assert torch.autograd.gradcheck(chunks.chunked_agreement, (clean, noisy))
    assert torch.autograd.gradgradcheck(chunks.chunked_agreement, (clean, noisy))
    assert torch.autograd.gradcheck(lambda one: chunks.chunked_agreement(one, one), (clean,))
    assert torch.autograd.gradcheck(lambda one: chunks.chunked_agreement(one.mT, noisy.mT), (clean,))


class Peak(TorchDispatchMode):
    """The most bytes at one time of all tensors that are made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, Tensor):
                self.count(one.untyped_storage())
        return result

    def count(self, storage: Any) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.seen:
            return
        self.seen.add(address)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.forget, address, size)

    def forget(self, address: int, size: int) -> None:
        self.seen.discard(address)
        self.now -= size


def peak(loss: Callable[..., Tensor], n_logits: int) -> float:
    """Of the loss of so many tensors of logits, for 128 places and GPT-2's 50,257 classes, and of its gradient."""
    with Peak() as counted:
        loss(*(torch.rand(2, 64, 50_257).requires_grad_() for _ in range(n_logits))).backward()
    return counted.most


def test_it_takes_little_more_memory_than_cross_entropy() -> None:
    labels = torch.randint(50_257, (2 * 64,))
    alone = peak(lambda logits: F.cross_entropy(logits.flatten(0, 1), labels), 1)
    chunked = peak(lambda clean, noisy: chunks.chunked_agreement(clean, noisy).mean(), 2)
    whole = peak(lambda clean, noisy: agreement(clean, noisy).mean(), 2)
    assert alone > 3 * 128 * 50_257 * 4
    assert chunked < 1.15 * alone
    assert whole > 1.5 * alone
