"""On a device without float64, as Apple's, the draw alone asks for it, and can do without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nsbench.regularizer.module import NoiseStabilityRegularizer

BATCH = torch.randint(0, 9, (4, 5), generator=torch.Generator().manual_seed(1))


class WithoutFloat64(TorchDispatchMode):
    """Refuses, as torch does on an Apple device, to make tensors of float64; counts how often it had to."""

    refused = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.float64 in (*args, *kwargs.values()):
            self.refused += 1
            raise TypeError("the framework of this device doesn't support float64")
        made = function(*args, **kwargs)
        for one in tree_leaves(made):
            assert not isinstance(one, Tensor) or one.dtype != torch.float64, f"{function} makes float64"
        return made


@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("same_symbol", [True, False])
def test_a_step_needs_no_float64(output: str, same_symbol: bool) -> None:
    model = nn.Embedding(9, 9)
    regularizer = NoiseStabilityRegularizer(
        -1.0, 0.75, symbols=9, special_ids=[8], same_symbol=same_symbol, output=output, n_draws=2, share=0.5
    )
    mask = (BATCH != 7).long()
    with WithoutFloat64() as device:
        for n_targets in (None, mask.sum()):
            term = regularizer(model, BATCH, mask=mask, labels=BATCH, shift_labels=True, n_targets=n_targets)
            term.backward()
        drawn = regularizer.resample(BATCH, mask=mask)
        seeded = regularizer.resample(BATCH, torch.Generator().manual_seed(0))
    assert device.refused == 2 * 2 + 2
    assert model.weight.grad.any()
    for one in (drawn, seeded):
        assert torch.equal(one[BATCH == 8], BATCH[BATCH == 8])
        assert set(one.unique().tolist()) <= set(range(9))
        assert not torch.equal(one, BATCH)


def test_what_asks_for_float64_is_caught() -> None:
    with WithoutFloat64(), pytest.raises(TypeError, match="doesn't support float64"):
        BATCH.to(torch.float64)
    numbers = BATCH.double()
    with WithoutFloat64(), pytest.raises(AssertionError, match="makes float64"):
        numbers * 2
