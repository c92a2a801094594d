"""Gradients by hooks against finite differences and plain backward passes; hooks and memory are given back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbench.measures.gradients import gradients, module_inputs, submodules
from nsbench.measures.readouts import mean_top_logit, top_logit_last

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


def layers_of(model: Tiny) -> dict[str, nn.Module]:
    return submodules(model, [f"layers.{depth}" for depth in range(DEPTH)])


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


def test_one_backward_pass_gives_what_one_for_each_layer_gives(device: torch.device) -> None:
    """Of torch's own transformer, post-norm, whose first layer gets the embeddings themselves."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, dtype=torch.float64)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).to(device).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 4)
    x = torch.randn(5, LENGTH, 8, dtype=torch.float64, device=device)
    names = [f"layers.{depth}" for depth in range(3)]
    found = gradients(lambda x: model(x)[:, -1, 0], x, layers=submodules(model, names))
    for depth, name in enumerate(names):
        for index in range(len(x)):
            hidden = x[index : index + 1]
            with torch.no_grad():
                for before in model.layers[:depth]:
                    hidden = before(hidden)
            hidden = last = hidden.clone().requires_grad_()
            for after in model.layers[depth:]:
                last = after(last)
            last[0, -1, 0].backward()
            assert hidden.grad.abs().amin() > 1e-6
            torch.testing.assert_close(found.layers[name][index], hidden.grad[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.inputs_NTC, found.layers["layers.0"], rtol=0, atol=0)


def test_every_layer_costs_one_backward_pass_and_parameters_get_no_gradient(model: Tiny, inputs: Tensor) -> None:
    calls = {"forward": 0, "backward": 0}

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            calls["forward"] += 1
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            calls["backward"] += 1
            return gradient

    model.requires_grad_(True)
    gradients(lambda x: top_logit_last(model(Counted.apply(x))), inputs, layers=layers_of(model), heads=heads_of(model))
    assert calls == {"forward": 1, "backward": 1}
    assert all(weight.grad is None for weight in model.parameters())
    assert not inputs.requires_grad
    assert inputs.grad is None


def test_gradients_are_found_where_grad_mode_is_off(model: Tiny, inputs: Tensor) -> None:
    with torch.no_grad():
        found = gradients(lambda x: top_logit_last(model(x)), inputs, layers=layers_of(model))
    assert not found.inputs_NTC.requires_grad
    assert found.layers["layers.1"].abs().sum() > 0


def test_what_the_readout_does_not_use_has_gradient_zero(model: Tiny, inputs: Tensor) -> None:
    """The readout is taken before the last layer, which is run all the same."""

    def f(x: Tensor) -> Tensor:
        hidden = model.layers[0](x)
        model.layers[1](hidden)
        return hidden.sum((1, 2))

    layers = submodules(model, ["layers.0", "layers.1"])
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


# --- what is given back --------------------------------------------------------------------------------


def test_hooks_are_removed_and_nothing_is_kept(model: Tiny, inputs: Tensor) -> None:
    alive: list[weakref.ref] = []
    during: list[int] = []

    def note(_module: nn.Module, args: tuple) -> None:
        alive.append(weakref.ref(args[0]))
        during.append(hooks_on(model))

    with model.layers[1].projection.register_forward_pre_hook(note):
        gradients(lambda x: top_logit_last(model(x)), inputs, layers=layers_of(model), heads=heads_of(model))
    assert during == [1 + 2 * DEPTH]
    assert hooks_on(model) == 0
    gc.collect()
    assert [reference() for reference in alive] == [None]


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


def test_hooks_are_removed_where_one_cannot_be_set(model: Tiny) -> None:
    modules = {"layer": model.layers[0], "broken": None}
    with pytest.raises(AttributeError), module_inputs(modules):
        pass
    assert hooks_on(model) == 0


def test_inputs_are_seen_within_the_context_and_let_go_after(model: Tiny, inputs: Tensor) -> None:
    with module_inputs({"second": model.layers[1]}) as seen:
        model(inputs.clone().requires_grad_())
        (tensor, _version) = seen["second"]
        assert tensor.shape == inputs.shape
    assert seen == {}
    assert hooks_on(model) == 0


# --- what is refused -----------------------------------------------------------------------------------


def test_misuse_is_told_and_leaves_no_hook(model: Tiny, inputs: Tensor) -> None:
    layers = layers_of(model)
    first, table = model.layers[0], nn.Embedding(3, WIDTH, dtype=torch.float64, device=inputs.device)
    unused = nn.Linear(WIDTH, WIDTH)
    tokens = torch.zeros(2, LENGTH, dtype=torch.long, device=inputs.device)

    def in_place(x: Tensor) -> Tensor:
        hidden = x * 2
        answer = first(hidden).sum((1, 2))
        hidden += 1
        return answer

    cases = [
        (lambda x: model(x), {"layers": layers}, r"f gives shape \(2, 4, 5\) for 2 inputs"),
        (lambda x: torch.ones(2), {}, "f does not depend on its inputs"),
        (lambda x: table(tokens).sum((1, 2)), {}, "f does not depend on its inputs"),
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


def test_a_module_of_unknown_name_is_told_with_the_nearest(model: Tiny) -> None:
    with pytest.raises(ValueError, match=r"no module 'layer\.0'.* layers\.0"):
        submodules(model, ["layers.1", "layer.0"])
    assert submodules(model, ["layers.1.projection"]) == {"layers.1.projection": model.layers[1].projection}
