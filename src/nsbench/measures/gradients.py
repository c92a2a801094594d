"""Gradients of a readout with respect to a model's embeddings, layers and attention heads, in one backward pass.

f maps embeddings (N, T, C), or inputs (N, C), to one number an input (N), and may take further tensors with an entry
for each input (a mask, labels). No input's number may depend on another input: then the gradient of their sum holds
every input's own gradient. A model in training mode, with dropout or batch statistics, does not do.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Function = Callable[..., Tensor]


class Gradients(NamedTuple):
    """df/dx for each input, x being the embeddings and what enters each layer and each head."""

    inputs_NTC: Tensor
    layers: dict[str, Tensor]
    """Name -> (N, T, C), the shape of the layer's input."""
    heads: dict[str, Tensor]
    """Name -> (N, T, H, K): the output of head h of H, K wide."""


def gradients(
    f: Function,
    inputs_NTC: Tensor,
    *others: Tensor,
    layers: Mapping[str, nn.Module] | None = None,
    heads: Mapping[str, tuple[nn.Module, int]] | None = None,
) -> Gradients:
    """Gradients of f at each input, by one forward and one backward pass over all of them.

    layers: name -> a module whose input's gradient is wanted; that of its first argument, by position or keyword.
    It is the gradient with respect to this tensor by every way in which f depends on it, a residual sum beside
    the module included. heads: name -> (the module that projects the concatenated outputs of attention heads,
    number of heads). See `submodules` for modules by their names.

    Parameters need no gradient and are given none. Hooks are removed again, whatever happens. A module whose input f
    does not depend on has gradient 0. Raises ValueError where f gives no (N) numbers or does not depend on its
    inputs, or a module is not called, is called twice, gets no differentiable input, or one that is changed in place
    afterwards or does not divide into its heads.
    """
    layers, heads = layers or {}, heads or {}
    wanted = {_layer(name): module for name, module in layers.items()}
    wanted |= {_head(name): module for name, (module, _) in heads.items()}
    leaf_NTC = inputs_NTC.detach().requires_grad_()
    with torch.enable_grad(), module_inputs(wanted) as seen:
        values_N = f(leaf_NTC, *others)
        if values_N.shape != leaf_NTC.shape[:1]:
            shape = tuple(values_N.shape)
            raise ValueError(f"f gives shape {shape} for {len(leaf_NTC)} inputs; allowed: one number an input")
        at = {title: _unchanged(title, seen) for title in wanted}
        found: tuple[Tensor | None, ...] = (None,)
        if values_N.requires_grad:
            found = torch.autograd.grad(values_N.sum(), [leaf_NTC, *at.values()], allow_unused=True)
        if found[0] is None:
            raise ValueError("f does not depend on its inputs by differentiable operations")
    filled = {
        title: torch.zeros_like(tensor) if gradient is None else gradient
        for (title, tensor), gradient in zip(at.items(), found[1:], strict=True)
    }
    return Gradients(
        found[0],
        {name: filled[_layer(name)] for name in layers},
        {name: _split(name, filled[_head(name)], n_heads) for name, (_, n_heads) in heads.items()},
    )


@contextmanager
def module_inputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Within the context, the first argument of each module's call: title -> (tensor, its version at the call).

    On leaving it, by an exception too, the hooks are removed and the tensors are let go. Raises ValueError, at the
    call, where a module is called a second time or its first argument takes part in no differentiation.
    """
    seen: dict[str, tuple[Tensor, int]] = {}

    def watch(title: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor = _first_argument(module, args, kwargs)
            if title in seen:
                raise ValueError(f"{title} is called more than once; allowed: one call in a forward pass")
            if not isinstance(tensor, Tensor) or not tensor.requires_grad:
                raise ValueError(f"{title} gets an input that no differentiable operation has made")
            seen[title] = (tensor, tensor._version)

        return hook

    with ExitStack() as hooks:
        hooks.callback(seen.clear)
        for title, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(watch(title), with_kwargs=True))
        yield seen


def submodules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Modules of `model` by their dotted names, as in `model.named_modules()`.

    Raises ValueError for a name that the model has not.
    """
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or [name for name, _ in model.named_children()]
            raise ValueError(f"the model has no module {name!r}; it has, for example, {', '.join(near)}")
    return {name: known[name] for name in names}


def _layer(name: str) -> str:
    return f"layer {name!r}"


def _head(name: str) -> str:
    return f"head {name!r}"


def _first_argument(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        return args[0]
    if "hidden_states" in kwargs:
        return kwargs["hidden_states"]
    return kwargs.get(next(iter(inspect.signature(module.forward).parameters), ""))


def _unchanged(title: str, seen: Mapping[str, tuple[Tensor, int]]) -> Tensor:
    """The tensor that a module got. Changed in place since, autograd would differentiate by what it has become."""
    if title not in seen:
        raise ValueError(f"{title} is not called as a module by f")
    tensor, version = seen[title]
    if tensor._version != version:
        raise ValueError(f"{title} gets an input that is changed in place afterwards")
    return tensor


def _split(name: str, gradient_NTC: Tensor, n_heads: int) -> Tensor:
    """(N, T, H K) to (N, T, H, K)."""
    width = gradient_NTC.shape[-1]
    if n_heads < 1 or width % n_heads:
        raise ValueError(f"{_head(name)} has an input of width {width}, which does not divide into {n_heads} heads")
    return gradient_NTC.unflatten(-1, (n_heads, -1))
