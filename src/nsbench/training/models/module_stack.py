"""A stack of networks made of torch.nn's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nsbench.training.models.modules import Embedding
from nsbench.training.models.stack import DropoutMasks, Stack


class ModuleStack(Stack):
    """R networks of one architecture: tokens (R, B, T), or patches (R, B, T, P), to logits (R, B, C).

    make: builds one network, from tokens (B, T), or (B, T, P), to logits (B, C), its initial weights by torch's global
    generator, which is set from a run's seed and put back. Networks without buffers and dropout are allowed. They run
    at once by `torch.func.vmap`; one after the other with an LSTM, which it does not know, and with convolutions on a
    CPU: it makes of them one of many groups, which took 1.5 to 1.8 times as long.
    """

    output_axis = 0

    def __init__(self, settings: Any, make: Callable[[], nn.Module], seeds: list[int]) -> None:
        # Not a module of the stack: its weights are nobody's.
        self.__dict__["_make"] = make
        super().__init__(settings, {}, seeds)
        self.__dict__["_network"] = make().requires_grad_(False)
        layers = list(self._network.modules())
        self.__dict__["_recurs"] = any(isinstance(layer, nn.RNNBase) for layer in layers)
        self.__dict__["_convolves"] = any(isinstance(layer, nn.Conv2d) for layer in layers)

    def initial_weights(self, shapes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return {name: weight.detach() for name, weight in self._make().named_parameters()}

    def embed(self, tokens_RBT: Tensor) -> Tensor:
        name, layer = next(pair for pair in self._network.named_modules() if isinstance(pair[1], Embedding))
        tables = self.weight(f"{name}.map.weight").unbind(0)
        each = [
            functional_call(layer, {"map.weight": table}, (ids,)) for table, ids in zip(tables, tokens_RBT, strict=True)
        ]
        return torch.stack(each)

    def forward(self, tokens_RBT: Tensor, dropout: DropoutMasks | None = None) -> Tensor:
        weights_R = {name: self.weights[key] for key, name in self._names.items()}

        def of_one(weights: dict[str, Tensor], tokens_BT: Tensor) -> Tensor:
            return functional_call(self._network, weights, (tokens_BT,))

        one_by_one = self._recurs or (self._convolves and tokens_RBT.device.type == "cpu")
        if self.n_runs > 1 and not one_by_one:
            return vmap(of_one)(weights_R, tokens_RBT)
        rows = zip(*(weight.unbind(0) for weight in weights_R.values()), tokens_RBT.unbind(0), strict=True)
        return torch.stack([of_one(dict(zip(weights_R, row, strict=True)), tokens) for *row, tokens in rows])
