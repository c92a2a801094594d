"""Gradients of readouts with respect to a model's embeddings, layers and attention heads, a backward pass each.

f maps inputs (N, ...), as embeddings (N, T, C), to R readouts, tensors (N), which share one forward pass. It may take
further tensors with an entry for each input (a mask, labels). No input's number may depend on another input: then the
gradient of their sum holds every input's own gradient. A model in training mode, with dropout or batch statistics, does
not do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Readouts = Callable[..., Sequence[Tensor]]


class Gradients(NamedTuple):
    """df/dx for each input, x being the embeddings and what enters each layer and each head."""

    inputs_NTC: Tensor
    layers: dict[str, Tensor]
    """Name -> (N, T, C), the shape of the layer's input."""
    heads: dict[str, Tensor]
    """Name -> (N, T, H, K): the output of head h of H, K wide."""


def each_gradients(
    f: Readouts,
    inputs_NTC: Tensor,
    *others: Tensor,
    layers: Mapping[str, nn.Module] | None = None,
    heads: Mapping[str, tuple[nn.Module, int]] | None = None,
) -> Iterator[Gradients]:
    """Gradients of each of f's R readouts at each input: one forward pass, then one backward pass a readout.

    A backward pass is made when its gradients are asked for and keeps none of them; the last frees the graph.

    layers: name -> a module whose input's gradient is wanted; that of its first argument, by position or keyword.
    It is the gradient with respect to this tensor by every way in which f depends on it, a residual sum beside
    the module included. heads: name -> (the module that projects the concatenated outputs of attention heads,
    number of heads).

    Parameters need no gradient and are given none. Hooks are removed again after the forward pass, whatever happens.
    A module whose input a readout does not depend on has gradient 0. Raises ValueError where a readout is no (N) or
    does not depend on the inputs, and where a module is not called, is called twice, gets no differentiable input, or
    one that is changed in place afterwards or does not divide into its heads.
    """
    layers, heads = layers or {}, heads or {}
    wanted = {_layer(name): module for name, module in layers.items()}
    wanted |= {_head(name): module for name, (module, _) in heads.items()}
    leaf_NTC = inputs_NTC.detach().requires_grad_()
    with torch.enable_grad(), module_inputs(wanted) as seen:
        values_RN = list(f(leaf_NTC, *others))
        at = {title: _unchanged(title, seen) for title in wanted}
    check_shapes(values_RN, len(leaf_NTC))
    for index, values_N in enumerate(values_RN):
        if not values_N.requires_grad:
            raise ValueError(_independent(index))

    def backward(index: int) -> Gradients:
        """A frame of its own: what it has found is not held here while the next readout's is computed."""
        values_N, sites, last = values_RN[index], [leaf_NTC, *at.values()], index == len(values_RN) - 1
        ones_N = torch.ones_like(values_N)
        found = torch.autograd.grad(values_N, sites, ones_N, retain_graph=not last, allow_unused=True)
        if found[0] is None:
            raise ValueError(_independent(index))
        filled = {
            title: torch.zeros_like(tensor) if gradient is None else gradient
            for (title, tensor), gradient in zip(at.items(), found[1:], strict=True)
        }
        return Gradients(
            found[0],
            {name: filled[_layer(name)] for name in layers},
            {name: _split(name, filled[_head(name)], n_heads) for name, (_, n_heads) in heads.items()},
        )

    for index in range(len(values_RN)):
        yield backward(index)


def check_shapes(values_RN: Sequence[Tensor], n_inputs: int) -> None:
    """Raise ValueError for a readout that is not one number an input."""
    for index, values_N in enumerate(values_RN):
        if values_N.shape != (n_inputs,):
            shape = tuple(values_N.shape)
            raise ValueError(f"readout {index} has shape {shape} for {n_inputs} inputs; allowed: one number an input")


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


def _layer(name: str) -> str:
    return f"layer {name!r}"


def _head(name: str) -> str:
    return f"head {name!r}"


def _independent(index: int) -> str:
    return f"readout {index} does not depend on its inputs by differentiable operations"


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
