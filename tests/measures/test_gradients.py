"""Gradients by hooks against finite differences and plain backward passes; hooks and memory are given back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbench.measures.gradients import Gradients, each_gradients
from nsbench.measures.readouts import cross_entropy, mean_top_logit, top_logit_last

LENGTH, WIDTH, HEADS, DEPTH, CLASSES = 4, 6, 3, 3, 5


class Layer(nn.Module):
    """Pre-norm attention and ReLU network whose heads meet in an output projection of their own width."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * HEADS * 4)
        self.projection = nn.Linear(HEADS * 4, WIDTH)
        self.ffn_in, self.ffn_out = nn.Linear(WIDTH, 8), nn.Linear(8, WIDTH)

    def forward(self, hidden_states: Tensor, scale: float = 1.0) -> Tensor:
        qkv = self.qkv(self.norm(hidden_states)).unflatten(-1, (3, HEADS, 4))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(3 * q, k, v, is_causal=True)
        hidden_states = hidden_states + scale * self.projection(heads.transpose(1, 2).flatten(2))
        return hidden_states + self.ffn_out(self.ffn_in(hidden_states).relu())


class Tiny(nn.Module):
    """A causal transformer from embeddings to logits that calls its layers with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(Layer() for _ in range(DEPTH)), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        hidden = inputs_embeds
        for layer in self.layers:
            hidden = layer(scale=1.5, hidden_states=hidden)
        return self.head(hidden)


@pytest.fixture
def model(device: torch.device) -> Tiny:
    torch.manual_seed(0)
    return Tiny().double().to(device).eval().requires_grad_(False)


@pytest.fixture
def inputs(device: torch.device) -> Tensor:
    return torch.randn(2, LENGTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)


def gradients(f: Callable[..., Tensor], inputs: Tensor, *others: Tensor, **sites: Any) -> Gradients:
    """Of a single readout."""
    (found,) = each_gradients(lambda *given: [f(*given)], inputs, *others, **sites)
    return found


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return {f"layers.{depth}": layer for depth, layer in enumerate(model.layers)}


def heads_of(model: Tiny) -> dict[str, tuple[nn.Module, int]]:
    return {f"attention {depth}": (layer.projection, HEADS) for depth, layer in enumerate(model.layers)}


def hooks_on(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def differences(f: Callable[[], Tensor], module: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[tuple, Tensor]]:
    """Central differences of f by each entry (t, c) of what `module` gets: ((t, c), (N))."""
    step = 1e-5
    for t in range(shape[1]):
        for c in range(shape[2]):
            found = []
            for sign in (1, -1):

                def move(_module: nn.Module, args: tuple, kwargs: dict, by: float = sign * step, t=t, c=c) -> tuple:
                    moved = (args[0] if args else kwargs["hidden_states"]).clone()
                    moved[:, t, c] += by
                    return ((moved,), kwargs) if args else (args, {**kwargs, "hidden_states": moved})

                with module.register_forward_pre_hook(move, with_kwargs=True):
                    found.append(f())
            yield (t, c), (found[0] - found[1]) / (2 * step)


@pytest.mark.parametrize("readout", [top_logit_last, mean_top_logit])
def test_gradients_are_finite_differences_at_inputs_layers_and_heads(
    model: Tiny, inputs: Tensor, readout: Callable[[Tensor], Tensor]
) -> None:
    found = gradients(lambda x: readout(model(x)), inputs, layers=layers_of(model), heads=heads_of(model))
    assert found.inputs_NTC.shape == inputs.shape
    for (t, c), slope_N in differences(lambda: readout(model(inputs)), model, inputs.shape):
        torch.testing.assert_close(found.inputs_NTC[:, t, c], slope_N, rtol=1e-5, atol=1e-8)
    for depth, layer in enumerate(model.layers):
        for (t, c), slope_N in differences(lambda: readout(model(inputs)), layer, inputs.shape):
            torch.testing.assert_close(found.layers[f"layers.{depth}"][:, t, c], slope_N, rtol=1e-5, atol=1e-8)
        at_heads = found.heads[f"attention {depth}"]
        assert at_heads.shape == (2, LENGTH, HEADS, 4)
        assert at_heads[:, -1].abs().amin() > 1e-4
        for (t, c), slope_N in differences(lambda: readout(model(inputs)), layer.projection, (2, LENGTH, HEADS * 4)):
            torch.testing.assert_close(at_heads[:, t, c // 4, c % 4], slope_N, rtol=1e-5, atol=1e-8)


def watched(x: Tensor, on_backward: Callable[[], None]) -> Tensor:
    """A copy of x, with something done when a backward pass comes to it."""

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            on_backward()
            return gradient

    return Watched.apply(x)


def counted(x: Tensor, passes: list[str]) -> Tensor:
    """x, with the passes over it noted."""
    passes.append("forward")
    return watched(x, lambda: passes.append("backward"))


def test_every_layer_costs_one_backward_pass_and_parameters_get_no_gradient(model: Tiny, inputs: Tensor) -> None:
    passes: list[str] = []
    model.requires_grad_(True)
    sites = {"layers": layers_of(model), "heads": heads_of(model)}
    gradients(lambda x: top_logit_last(model(counted(x, passes))), inputs, **sites)
    assert passes == ["forward", "backward"]
    assert all(weight.grad is None for weight in model.parameters())
    assert not inputs.requires_grad
    assert inputs.grad is None


def test_what_the_readout_does_not_use_has_gradient_zero(model: Tiny, inputs: Tensor) -> None:
    """The readout is taken before the last layer, which is run all the same."""

    def f(x: Tensor) -> Tensor:
        hidden = model.layers[0](x)
        model.layers[1](hidden)
        return hidden.sum((1, 2))

    layers = {"layers.0": model.layers[0], "layers.1": model.layers[1]}
    found = gradients(f, inputs, layers=layers, heads={"last": (model.layers[1].projection, HEADS)})
    assert found.heads["last"].shape == (2, LENGTH, HEADS, 4)
    assert not found.heads["last"].any()
    # The hidden state itself is read out, beside the layer that it enters.
    assert (found.layers["layers.1"] == 1).all()


def test_a_first_argument_of_any_name_is_found() -> None:
    linear = nn.Linear(3, 1, bias=False)
    found = gradients(lambda x: linear(input=2 * x).sum((1, 2)), torch.ones(2, 4, 3), layers={"linear": linear})
    torch.testing.assert_close(found.layers["linear"], linear.weight.detach().expand(2, 4, 3))
    torch.testing.assert_close(found.inputs_NTC, 2 * found.layers["linear"])


# --- several readouts ------------------------------------------------------------------------------------


def three(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return top_logit_last(logits), mean_top_logit(logits), cross_entropy(logits, labels)


def assert_equal(found: Gradients, other: Gradients) -> None:
    torch.testing.assert_close(found.inputs_NTC, other.inputs_NTC, rtol=1e-12, atol=1e-14)
    for name in ("layers", "heads"):
        torch.testing.assert_close(getattr(found, name), getattr(other, name), rtol=1e-12, atol=1e-14)


def test_readouts_of_one_forward_pass_have_the_gradients_that_each_has_alone(model: Tiny, inputs: Tensor) -> None:
    passes: list[str] = []
    labels = torch.tensor([[0, 1, 2, 3], [4, 3, -100, 1]], device=inputs.device)
    sites = {"layers": layers_of(model), "heads": heads_of(model)}
    with torch.no_grad():
        found = list(
            each_gradients(lambda x, labels: three(model(counted(x, passes)), labels), inputs, labels, **sites)
        )
    assert passes == ["forward", "backward", "backward", "backward"]
    for index in range(3):
        alone = gradients(lambda x, labels, index=index: three(model(x), labels)[index], inputs, labels, **sites)
        assert_equal(found[index], alone)
        assert alone.inputs_NTC.abs().sum() > 0.1


def test_gradients_of_one_readout_are_let_go_before_the_next_are_computed(model: Tiny, inputs: Tensor) -> None:
    given: list[weakref.ref] = []
    alive: list[int] = []
    sites = {"layers": layers_of(model), "heads": heads_of(model)}
    labels = torch.zeros(2, LENGTH, dtype=torch.long, device=inputs.device)

    def f(x: Tensor) -> tuple[Tensor, ...]:
        return three(watched(model(x), lambda: alive.append(sum(one() is not None for one in given))), labels)

    for found in each_gradients(f, inputs, **sites):
        assert hooks_on(model) == 0
        given += [weakref.ref(found.inputs_NTC), *(weakref.ref(one) for one in found.layers.values())]
        del found
    assert alive == [0, 0, 0]
    assert len(given) == 3 * (1 + DEPTH)


def test_the_last_backward_pass_frees_the_graph(model: Tiny, inputs: Tensor) -> None:
    saved: list[weakref.ref] = []

    def pack(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        saved.append(weakref.ref(copy))
        return copy

    def alive() -> int:
        return sum(one() is not None for one in saved)

    def f(x: Tensor) -> list[Tensor]:
        logits = model(x)
        return [logits.sum((1, 2)), logits.square().sum((1, 2))]

    each = each_gradients(f, inputs)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda copy: copy):
        next(each)
        assert alive() == len(saved) > 10
        next(each)
    assert alive() == 0
    # It is not the end of the generator that does it.
    assert list(each) == []


def test_readouts_of_another_shape_and_without_slope_are_told_by_their_index(model: Tiny, inputs: Tensor) -> None:
    weight = torch.ones(2, dtype=torch.float64, device=inputs.device, requires_grad=True)
    constant = [lambda x: x.new_ones(2), lambda x: model(x).argmax(-1).double().sum(1), lambda x: 2 * weight]
    for other in constant:
        with pytest.raises(ValueError, match="readout 1 does not depend on its inputs by differentiable"):
            list(each_gradients(lambda x, other=other: (x.sum((1, 2)), other(x), x.sum((1, 2))), inputs))
    with pytest.raises(ValueError, match=r"readout 1 has shape \(2, 6\) for 2 inputs; allowed: one number an input"):
        next(each_gradients(lambda x: (x[:, 0, 0], x[:, 0]), inputs))


# --- what is given back --------------------------------------------------------------------------------


def test_hooks_are_removed_and_nothing_is_kept_after_an_exception(model: Tiny, inputs: Tensor) -> None:
    alive: list[weakref.ref] = []

    def fail(x: Tensor) -> Tensor:
        hidden = model.layers[0](hidden_states=x)
        alive.append(weakref.ref(hidden))
        model.layers[1](hidden)
        raise ArithmeticError("planned")

    with pytest.raises(ArithmeticError, match="planned"):
        gradients(fail, inputs, layers=layers_of(model), heads=heads_of(model))
    assert hooks_on(model) == 0
    gc.collect()
    assert [reference() for reference in alive] == [None]


# --- what is refused -----------------------------------------------------------------------------------


def test_misuse_is_told_and_leaves_no_hook(model: Tiny, inputs: Tensor) -> None:
    first, table = model.layers[0], nn.Embedding(3, WIDTH, dtype=torch.float64, device=inputs.device)
    unused = nn.Linear(WIDTH, WIDTH)
    tokens = torch.zeros(2, LENGTH, dtype=torch.long, device=inputs.device)

    def in_place(x: Tensor) -> Tensor:
        hidden = x * 2
        answer = first(hidden).sum((1, 2))
        hidden += 1
        return answer

    cases = [
        (lambda x: x.sum((1, 2)), {"layers": {"unused": unused}}, "layer 'unused' is not called"),
        (lambda x: first(first(x)).sum((1, 2)), {"layers": {"first": first}}, "layer 'first' is called more than once"),
        (lambda x: (x + table(tokens)).sum((1, 2)), {"layers": {"table": table}}, "layer 'table' gets an input that"),
        (in_place, {"layers": {"first": first}}, "layer 'first' gets an input that is changed in place"),
        (lambda x: top_logit_last(model(x)), {"heads": {"a": (first.projection, 5)}}, "head 'a' .* width 12.* 5 heads"),
        (lambda x: top_logit_last(model(x)), {"heads": {"a": (first.projection, 0)}}, "head 'a' .* 0 heads"),
    ]
    for f, keywords, told in cases:
        with pytest.raises(ValueError, match=told):
            gradients(f, inputs, **keywords)
        assert hooks_on(model) + hooks_on(unused) + hooks_on(table) == 0
