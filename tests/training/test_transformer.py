"""The stack against torch's own transformer layers, against its own single models, and by its counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nsbench.config.shape import Shape
from nsbench.training.models import Transformer
from nsbench.training.models.stack import DropoutMasks
from nsbench.training.models.transformer_stack import TransformerStack, _Attention, sinusoidal_positions

VOCABULARY, CLASSES, LENGTH = 11, 5, 6


def reference(stack: TransformerStack, run: int, tokens: torch.Tensor) -> torch.Tensor:
    """The same model built from torch.nn.TransformerEncoderLayer."""
    settings, weights = stack.settings, stack.run_weights(run)
    d = settings.d_model
    x = weights["embedding"][tokens] * (math.sqrt(d) if settings.embedding_scale == "sqrt_d" else 1)
    x = x + sinusoidal_positions(tokens.shape[1], d)
    mask = None
    if settings.mask == "causal":
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
    for index in range(settings.n_layers):
        layer = nn.TransformerEncoderLayer(
            d, settings.n_heads, 4 * d, dropout=0.0, batch_first=True, norm_first=settings.norm == "pre"
        )
        own = {name.removeprefix(f"{index}."): value for name, value in weights.items() if name.startswith(f"{index}.")}
        names = {
            "self_attn.in_proj_weight": own["qkv.weight"].T,
            "self_attn.in_proj_bias": own["qkv.bias"],
            "self_attn.out_proj.weight": own["attention_out.weight"].T,
            "self_attn.out_proj.bias": own["attention_out.bias"],
            "linear1.weight": own["ffn_in.weight"].T,
            "linear1.bias": own["ffn_in.bias"],
            "linear2.weight": own["ffn_out.weight"].T,
            "linear2.bias": own["ffn_out.bias"],
            "norm1.weight": own["attention_norm.weight"],
            "norm1.bias": own["attention_norm.bias"],
            "norm2.weight": own["ffn_norm.weight"],
            "norm2.bias": own["ffn_norm.bias"],
        }
        layer.load_state_dict(names)
        x = layer(x, src_mask=mask)
    if settings.norm == "pre":
        x = nn.functional.layer_norm(x, (d,), weights["final_norm.weight"], weights["final_norm.bias"])
    pooled = {"mean": x.mean(1), "last": x[:, -1], "none": x}[settings.pooling]
    return pooled @ weights["head.weight"] + weights["head.bias"]


def stirred(settings: Transformer, seeds: list[int]) -> TransformerStack:
    """A stack with all weights moved off their initial values, biases and norms included."""
    stack = TransformerStack(settings, Shape(LENGTH, VOCABULARY, CLASSES), seeds)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in stack.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return stack


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize(("pooling", "scale"), [("mean", "sqrt_d"), ("last", "none"), ("none", "sqrt_d")])
def test_agrees_with_torchs_layers(norm: str, mask: str, pooling: str, scale: str) -> None:
    settings = Transformer(d_model=12, n_heads=3, norm=norm, mask=mask, pooling=pooling, embedding_scale=scale)
    stack = stirred(settings, [0, 1, 2])
    tokens_RBT = torch.randint(VOCABULARY, (3, 4, LENGTH), generator=torch.Generator().manual_seed(1))
    logits_RBC = stack(tokens_RBT)
    for run in range(3):
        assert torch.allclose(logits_RBC[run], reference(stack, run, tokens_RBT[run]), atol=1e-5)


def test_a_run_does_not_see_its_neighbours() -> None:
    settings = Transformer(d_model=8)
    stack = stirred(settings, [0, 1])
    tokens_RBT = torch.randint(VOCABULARY, (2, 4, LENGTH))
    before = stack(tokens_RBT)[1]
    with torch.no_grad():
        for weight in stack.parameters():
            weight[0] = torch.nan
    assert torch.equal(stack(tokens_RBT)[1], before)


def test_a_causal_output_at_each_position_sees_no_later_token() -> None:
    stack = stirred(Transformer(d_model=8, mask="causal", pooling="none"), [0])
    tokens = torch.randint(VOCABULARY, (1, 3, LENGTH))
    before = stack(tokens)
    for position in range(1, LENGTH):
        changed = tokens.clone()
        changed[..., position:] = (changed[..., position:] + 1) % VOCABULARY
        same = (stack(changed) == before).all(-1).all(1)[0]
        assert same.tolist() == [place < position for place in range(LENGTH)]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_attention_s_own_gradient_is_that_of_finite_differences(mask: bool, dropout: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    future = torch.full((6, 6), -torch.inf, dtype=torch.float64).triu(1) if mask else None
    kept = torch.rand(4, 6, 6, dtype=torch.float64, generator=generator).gt(0.3).double() / 0.7 if dropout else None
    assert torch.autograd.gradcheck(lambda qkv: _Attention.apply(qkv, future, kept), qkv)


def test_initial_weights_are_the_papers_and_depend_on_the_seed_alone() -> None:
    settings = Transformer(d_model=128)
    stack = TransformerStack(settings, Shape(4, 118, 113), [5, 6])
    assert torch.equal(
        stack.run_weights(1)["embedding"],
        TransformerStack(settings, Shape(4, 118, 113), [6]).run_weights(0)["embedding"],
    )
    assert not torch.equal(stack.run_weights(0)["embedding"], stack.run_weights(1)["embedding"])
    for name, weight in stack.run_weights(0).items():
        if name.endswith("bias"):
            assert not weight.any()
        elif name.endswith("norm.weight"):
            assert (weight == 1).all()
        elif name == "embedding":
            bound = math.sqrt(6 / (118 + 128))
            assert 0.98 * bound < weight.abs().max() <= bound
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    xavier = TransformerStack(Transformer(d_model=128, qkv_init="xavier"), Shape(4, 118, 113), [5]).run_weights(0)[
        "0.qkv.weight"
    ]
    assert xavier.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.05)


def test_weights_are_counted_as_table_2_has_them() -> None:
    d, layers, vocabulary, classes = 128, 2, 118, 113
    per_layer = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    expected = vocabulary * d + layers * per_layer + 2 * d + d * classes + classes
    stack = Transformer().build(Shape(4, vocabulary, classes), [0])
    assert stack.n_parameters() == expected
    matrices = [weight for weight in stack.run_weights(0).values() if weight.dim() == 2]
    assert Transformer().n_weights(Shape(4, vocabulary, classes)) == sum(weight.numel() for weight in matrices)


def test_dropout_has_the_rate_keeps_the_mean_and_uses_each_bit_once() -> None:
    settings, batch = Transformer(d_model=16, dropout=0.1), 50
    size = settings.dropout_size(batch, LENGTH)
    bits_RN = torch.randint(-(2**15), 2**15, (2, size), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    masks = DropoutMasks(bits_RN, 0.1)
    stack = stirred(settings, [0, 1])
    tokens_RBT = torch.randint(VOCABULARY, (2, batch, LENGTH))
    dropped = stack(tokens_RBT, masks)
    assert masks._used == size
    assert not torch.allclose(dropped, stack(tokens_RBT))
    ones = DropoutMasks(bits_RN, 0.1)(torch.ones(2, size))
    share = (ones == 0).double().mean().item()
    assert share == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / ones.numel()))
    assert ones.mean().item() == pytest.approx(1.0, abs=4 * math.sqrt(0.11 / ones.numel()))


def test_positions_are_sines_and_cosines() -> None:
    encodings = sinusoidal_positions(5, 7)
    assert encodings.shape == (5, 7)
    assert encodings[3, 2].item() == pytest.approx(math.sin(3 / 10000 ** (2 / 7)), abs=1e-6)
    assert encodings[3, 3].item() == pytest.approx(math.cos(3 / 10000 ** (2 / 7)), abs=1e-6)
