"""The fused pass of a transformer against autograd's."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nsbench.config.shape import Shape
from nsbench.storage import philox
from nsbench.training.models import Transformer, transformer_stack
from nsbench.training.models.stack import DropoutMasks
from nsbench.training.models.transformer_stack import TransformerStack
from nsbench.training.operations import OperationCounter

pytest.importorskip("numba")
fused = importlib.import_module("nsbench.training.models.fused")

VOCABULARY, CLASSES, BATCH, LENGTH, WIDTH = 11, 5, 9, 6, 3
OF_IDS, OF_PATCHES = Shape(LENGTH, VOCABULARY, CLASSES), Shape(LENGTH, 0, CLASSES, WIDTH)
CHOICES = {
    "as in table 2": {},
    "post-norm, causal, last": {"norm": "post", "mask": "causal", "pooling": "last"},
    "each position": {"mask": "causal", "pooling": "none", "embedding_scale": "none", "n_layers": 3},
    "no dropout": {"dropout": 0.0},
    "post-norm, no dropout": {"dropout": 0.0, "norm": "post", "ffn_width": 7, "n_layers": 1},
    "wide heads": {"d_model": 40, "n_heads": 1},
    "patches": {"shape": OF_PATCHES},
    "patches, post-norm, no dropout": {"shape": OF_PATCHES, "norm": "post", "dropout": 0.0, "embedding_scale": "none"},
}


@pytest.fixture(params=["fused", "autograd"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, monkeypatch)
    return request.param


def use(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_stack, "has_numba", lambda: path == "fused")


def stirred(shape: Shape = OF_IDS, **choices: Any) -> TransformerStack:
    """A model with all weights moved off their initial values."""
    settings = Transformer(**{"d_model": 12, "n_heads": 3, **choices})
    stack, generator = TransformerStack(settings, shape, [0]), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in stack.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return stack


def tokens_and_bits(stack: TransformerStack, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    generator, size = torch.Generator().manual_seed(seed), stack.settings.dropout_size(BATCH, LENGTH)
    tokens_RBT = torch.randint(VOCABULARY, (1, batch, LENGTH), generator=generator)
    if "embedding" not in stack.weights:
        tokens_RBT = torch.randn(1, batch, LENGTH, WIDTH, generator=generator)
    return tokens_RBT, torch.randint(-(2**15), 2**15, (1, size), dtype=torch.int16, generator=generator)


def logits(stack: TransformerStack, tokens_RBT: Tensor, bits_RN: Tensor) -> Tensor:
    rate, rows = stack.settings.dropout, tokens_RBT.shape[1]
    return stack(tokens_RBT, DropoutMasks(bits_RN, rate, examples=(rows, BATCH)) if rate else None)


def loss_of(logits_RBC: Tensor) -> Tensor:
    return F.cross_entropy(logits_RBC.flatten(0, -2), torch.arange(logits_RBC[..., 0].numel()) % CLASSES)


def gradients(stack: TransformerStack, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(stack.parameters())))


def assert_close(some: list[Tensor], others: list[Tensor], relative: float = 2e-5) -> None:
    for one, other in zip(some, others, strict=True):
        # The gradient of a key's bias is nought but for rounding.
        assert (one - other).norm() <= relative * max(other.norm(), 1e-2)


@pytest.mark.parametrize("rows", [BATCH, 4])
@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_loss_and_gradients_are_autograds(choices: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, found = stirred(**choices), {}
    tokens_RBT, bits_RN = tokens_and_bits(stack, batch=rows)
    for path in ("fused", "autograd"):
        use(path, monkeypatch)
        assert stack.gradient_path == path
        loss = loss_of(logits(stack, tokens_RBT, bits_RN))
        found[path] = [loss.detach(), *gradients(stack, loss)]
    assert_close(found["fused"], found["autograd"])
    assert all(gradient.any() for gradient in found["fused"])


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_logits_without_gradient_are_autograds(choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stack, found = stirred(**choices), {}
    tokens_RBT, bits_RN = tokens_and_bits(stack)
    for path in ("fused", "autograd"):
        use(path, monkeypatch)
        with torch.no_grad():
            found[path] = [stack(tokens_RBT), logits(stack, tokens_RBT, bits_RN)]
        if path == "fused":
            found["with gradient"] = [stack(tokens_RBT), logits(stack, tokens_RBT, bits_RN)]
    assert_close(found["fused"], found["autograd"], 1e-5)
    for one, other in zip(found["fused"], found["with gradient"], strict=True):
        assert torch.equal(one, other)
        assert (one.grad_fn is None, other.grad_fn is None) == (True, False)


def test_passes_without_gradient_leave_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use("fused", monkeypatch)
    stack, fresh = stirred(pooling="none"), stirred(pooling="none")
    tokens_RBT, bits_RN = tokens_and_bits(stack)
    alone = gradients(fresh, loss_of(logits(fresh, tokens_RBT, bits_RN)))
    loss, found = loss_of(logits(stack, tokens_RBT, bits_RN)), {}
    for mode, shapes in ((torch.inference_mode, [2, BATCH]), (torch.no_grad, [BATCH, *range(1, BATCH + 1)])):
        with mode():
            for rows in shapes:
                given = stack(tokens_RBT[:, :rows])
                first, copy = found.setdefault(rows, (given, given.clone()))
                assert torch.equal(given, copy), "not the same again"
                assert torch.equal(first, copy), "overwritten since"
            assert torch.equal(fresh(tokens_RBT), found[BATCH][0])
    assert max(len(stack._fused.idle), len(stack._fused.scratch)) <= fused.SHAPES < BATCH
    assert all(torch.equal(one, other) for one, other in zip(gradients(stack, loss), alone, strict=True))


def test_twenty_steps_lose_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {}
    for path in ("fused", "autograd"):
        use(path, monkeypatch)
        stack, losses[path] = TransformerStack(Transformer(d_model=32), OF_IDS, [3]), 0.0
        optimizer = torch.optim.AdamW(stack.parameters(), lr=1e-3)
        for step in range(20):
            loss = loss_of(logits(stack, *tokens_and_bits(stack, seed=step)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[path] += loss.item()
    assert losses["fused"] == pytest.approx(losses["autograd"], rel=2e-6)


def test_a_second_pass_may_begin_before_the_gradient_of_the_first(path: str) -> None:
    stack = stirred()
    clean, noisy = (tokens_and_bits(stack, seed) for seed in (0, 1))
    alone = [gradients(stack, loss_of(logits(stack, *one))) for one in (clean, noisy)]
    together = gradients(stack, sum(loss_of(logits(stack, *one)) for one in (clean, noisy)))
    assert_close(together, [one + other for one, other in zip(*alone, strict=True)])
    # And after all this the first pass is what it was, to the bit.
    again = gradients(stack, loss_of(logits(stack, *clean)))
    assert all(torch.equal(one, other) for one, other in zip(again, alone[0], strict=True))


def test_a_graph_whose_buffers_are_in_use_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use("fused", monkeypatch)
    stack = stirred(pooling="none")
    loss, weights = loss_of(logits(stack, *tokens_and_bits(stack))), list(stack.parameters())
    torch.autograd.grad(loss, weights, retain_graph=True)
    with pytest.raises(RuntimeError, match="was taken before"):
        torch.autograd.grad(loss, weights, retain_graph=True)
    logits(stack, *tokens_and_bits(stack, 1))
    with pytest.raises(RuntimeError, match="modified inplace"):
        torch.autograd.grad(loss, stack.weight("head.weight"))


def test_a_fresh_model_gives_the_same_to_the_bit(path: str) -> None:
    """As after an interruption: buffers that were used before change nothing."""
    used, fresh = stirred(mask="causal"), stirred(mask="causal")
    for seed in (5, 6):
        gradients(used, loss_of(logits(used, *tokens_and_bits(used, seed))))
    found = [gradients(stack, loss_of(logits(stack, *tokens_and_bits(stack, 1)))) for stack in (used, fresh)]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("shape", [OF_IDS, OF_PATCHES], ids=["ids", "patches"])
def test_the_products_that_a_counter_sees_are_autograds(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, counted = stirred(shape, mask="causal"), {}
    for path in ("fused", "autograd"):
        use(path, monkeypatch)
        with FlopCounterMode(display=False) as torchs, OperationCounter() as ours:
            gradients(stack, loss_of(logits(stack, *tokens_and_bits(stack))))
        counted[path] = ours.total
    assert counted["fused"] == counted["autograd"] == torchs.get_total_flops() > 0
    # Torch would have wrapped it to import its compiler.
    assert not hasattr(OperationCounter.__torch_dispatch__, "__wrapped__")


def test_what_it_does_not_serve_takes_autograds_path() -> None:
    assert TransformerStack(Transformer(d_model=8), OF_IDS, [0, 1]).gradient_path == "autograd"
    assert TransformerStack(Transformer(d_model=8), OF_IDS, [0]).double().gradient_path == "autograd"
    stack = stirred()
    stack.weight("0.qkv.bias").requires_grad_(False)
    stack(tokens_and_bits(stack)[0])
    embedded, patches = stirred(), stirred(OF_PATCHES)
    embedded(embedded.embed(tokens_and_bits(embedded)[0]))
    given = tokens_and_bits(patches)[0].requires_grad_()
    assert torch.autograd.grad(patches(given).sum(), given)[0].any()
    assert not any("_fused" in vars(one) for one in (stack, embedded, patches))


def test_without_numba_it_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "nsbench.storage.philox_numba", None)
    monkeypatch.setattr(transformer_stack, "has_numba", philox.has_numba)
    philox.has_numba.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert [stirred().gradient_path for _ in range(2)] == ["autograd"] * 2
    finally:
        philox.has_numba.cache_clear()
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["numba cannot be used"]


def test_a_token_that_has_no_embedding_is_refused(path: str) -> None:
    with pytest.raises(IndexError):
        stirred()(torch.full((1, 2, LENGTH), VOCABULARY))


def test_weights_that_are_no_numbers_show_in_the_logits(path: str) -> None:
    for name in ("0.qkv.weight", "0.ffn_in.bias"):
        stack = stirred(dropout=0.0)
        with torch.no_grad():
            stack.weight(name)[0] = torch.nan
        assert stack(tokens_and_bits(stack)[0]).isnan().all()
