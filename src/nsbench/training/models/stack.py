"""A stack of models of one architecture, and the dropout of its passes.

Every weight has a leading run axis, so that the models of a pack are trained side by side by one batched kernel each.
Shape suffixes: R run, B batch (example), T position, C class; X stands for any axes of examples and positions.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbench.storage.seeding import torch_stream

ALIGNED = 64
"""Each weight of a flat buffer begins at a multiple of so many numbers, as kernels like it."""


class DropoutMasks:
    """The dropout masks of one forward pass, cut in turn from a buffer of random bits.

    bits_RN: int16, uniform, at least `Model.dropout_size` per run. A unit is dropped where its 16 bits
    fall below rate x 2^16, so the rate is exact to 2^-16; what stays is scaled to keep the mean.
    Drawing 16 bits instead of a float, and all of a pass at once, keeps dropout cheap on a CPU.
    examples: (k, B), for a pass of the first k examples with the masks that a pass of all B has.
    """

    def __init__(
        self,
        bits_RN: Tensor,
        rate: float,
        dtype: torch.dtype = torch.float32,
        examples: tuple[int, int] | None = None,
    ) -> None:
        self._bits_RN, self._dtype = bits_RN, dtype
        self._n_here, self._n_all = examples or (1, 1)
        dropped = round(rate * 2**16)
        self.threshold, self.factor = dropped - 2**15, 2**16 / (2**16 - dropped)
        self._used = 0

    def next_bits(self, shape: torch.Size) -> Tensor:
        """The bits of the next mask, of a shape with leading axes R and B: kept is what reaches `threshold`."""
        size = math.prod(shape[1:])
        bits_RN = self._bits_RN[:, self._used : self._used + size]
        # Examples come first in every mask, so that those of the first few lie together.
        self._used += size // self._n_here * self._n_all
        return bits_RN.view(shape)

    def next(self, shape: torch.Size) -> Tensor:
        """The next mask, of a shape with leading axes R and B.

        It is made when it is needed, so that on a CPU it is still in the cache when it is used.
        """
        bits = self.next_bits(shape)
        mask = torch.empty(shape, dtype=self._dtype, device=bits.device)
        # Compared straight into floats: several times faster on a CPU than by way of booleans.
        torch.ge(bits, self.threshold, out=mask)
        return mask.mul_(self.factor)

    def __call__(self, x: Tensor) -> Tensor:
        """`x`, of leading axes R and B, with the next mask applied."""
        return x * self.next(x.shape)


class Stack(nn.Module):
    """R models of one architecture that differ in their weights alone.

    settings: the `Model` that builds it. shapes: of each weight of one model, by name. seeds: one per run; a run's
    initial weights come from its seed's stream "init" alone. On a GPU `forward` is captured as part of a CUDA graph: it
    works on tensors of fixed shapes and reads no value of them. Dropout comes from its argument, not from settings.
    """

    output_axis: ClassVar[int] = -1
    """The axis of a matrix that stands for its outputs."""

    def __init__(self, settings: Any, shapes: dict[str, tuple[int, ...]], seeds: list[int]) -> None:
        super().__init__()
        self.settings = settings
        runs = [self.initial_weights(shapes, torch_stream(seed, "init")) for seed in seeds]
        # Parameter names may hold no dots.
        self._names = {name.replace(".", "_"): name for name in runs[0]}
        self.weights = nn.ParameterDict(
            {key: nn.Parameter(torch.stack([run[name] for run in runs])) for key, name in self._names.items()}
        )
        self.register_buffer("runs_R", torch.arange(len(seeds)), persistent=False)

    def initial_weights(self, shapes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        """The initial weights of one model, by name."""
        return {name: self.initial(name, shape, generator) for name, shape in shapes.items()}

    def initial(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The initial value of one weight of one model: vectors 0, all else Xavier uniform."""
        weight = torch.zeros(shape)
        return weight if len(shape) == 1 else nn.init.xavier_uniform_(weight, generator=generator)

    def forward(self, tokens_RBT: Tensor, dropout: DropoutMasks | None = None) -> Tensor:
        """Logits (R, B, C), or (R, B, T, C) if `Model.positions`. Without `dropout` nothing is dropped.

        tokens_RBT: ids, or in their place the vectors that `embed` gives; or patches (R, B, T, P).
        """
        raise NotImplementedError

    def embed(self, tokens_RBT: Tensor) -> Tensor:
        """The vectors (R, B, T, D) that stand for ids; needed for noise on them alone."""
        raise NotImplementedError

    def weight(self, name: str) -> Tensor:
        """A weight of all models, (R, ...)."""
        return self.weights[name.replace(".", "_")]

    def linear(self, name: str, x_RXI: Tensor) -> Tensor:
        """`x_RXI` times the weight `<name>.weight` (I, O) plus `<name>.bias` (O): (R, X, O), with one axis X."""
        return torch.baddbmm(self.weight(f"{name}.bias")[:, None], x_RXI, self.weight(f"{name}.weight"))

    def lookup(self, name: str, ids_RX: Tensor) -> Tensor:
        """The rows `ids_RX` of the weight `name` (rows, D): (R, X, D), with any axes X."""
        weight_RND = self.weight(name)
        first_R = (self.runs_R * weight_RND.shape[1]).view(-1, *[1] * (ids_RX.dim() - 1))
        return F.embedding(ids_RX + first_R, weight_RND.flatten(0, 1))

    @property
    def gradient_path(self) -> str:
        """How passes are computed: `autograd`, or `fused` by kernels of the model's own."""
        return "autograd"

    @property
    def n_runs(self) -> int:
        return len(self.runs_R)

    @torch.no_grad()
    def flatten(self) -> tuple[Tensor, Tensor]:
        """Move all weights into one buffer (R, P), zeros between them, and give them gradients in another; both stay.

        The stack must be on its device. Afterwards `unflattened` takes a run's row, or a copy of it, apart.
        """
        weights, start = dict(self.weights), 0
        self._places = {}
        for key, weight in weights.items():
            self._places[key] = (slice(start, start + weight[0].numel()), weight.shape[1:])
            start += -(-weight[0].numel() // ALIGNED) * ALIGNED
        buffers = [torch.zeros(self.n_runs, start, device=self.runs_R.device) for _ in range(2)]
        for key, weight in weights.items():
            place, shape = self._places[key]
            values, gradient = (buffer_RP[:, place].view(-1, *shape) for buffer_RP in buffers)
            values.copy_(weight)
            weight.data, weight.grad = values, gradient
        return buffers[0], buffers[1]

    def unflattened(self, row_P: Tensor) -> dict[str, Tensor]:
        """The weights of one model by name, as views of a row of what `flatten` gives."""
        places = ((name, *self._places[key]) for key, name in self._names.items())
        return {name: row_P[place].view(shape) for name, place, shape in places}

    def n_parameters(self) -> int:
        """Trainable parameters of one model of the stack."""
        return sum(weight[0].numel() for weight in self.parameters())

    def run_weights(self, run: int) -> dict[str, Tensor]:
        """The weights of one model by name, as views that share the stack's storage."""
        return {name: self.weights[key].detach()[run] for key, name in self._names.items()}

    def load_run(self, run: int, weights: dict[str, Tensor]) -> None:
        """Set the weights of one model, in place."""
        for name, view in self.run_weights(run).items():
            view.copy_(weights[name])
