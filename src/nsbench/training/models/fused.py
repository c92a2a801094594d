"""A transformer's pass from tokens to its last hidden layer, and the gradient of that, for one core of a CPU.

It computes what `TransformerStack.embed` and `hidden` do for a single model in float32, up to rounding: matrix products
by torch into buffers that stay from step to step, everything between by the kernels of `fused_kernels`. Rows X have the
examples of a position together (t x batch + b), and queries, keys and values are transposed, (3, H, K, T, B): so
attention, narrow as its heads are, works on vectors over examples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import any_torch_dispatch_mode_on_stack

import nsbench.training.models.fused_kernels as kernels
from nsbench.training.models.stack import DropoutMasks

Named = dict[str, Tensor]


class Masks(NamedTuple):
    """Dropout of one place: units (examples first) stay where bits reach the threshold, and grow by the factor."""

    bits: np.ndarray
    threshold: np.int16
    factor: np.float32
    """0: no dropout."""


NO_MASKS = Masks(np.empty((0, 0), np.int16), np.int16(0), np.float32(0))


class Buffer:
    """A tensor, and the array of the same memory that kernels take."""

    def __init__(self, *shape: int) -> None:
        self.tensor = torch.zeros(shape)
        self.array = self.tensor.numpy()


class Pass:
    """What the backward pass needs of a forward pass. Norm n comes after sublayer n - 1, norm 0 after the embedding."""

    def __init__(self, settings: Any, batch: int, length: int) -> None:
        rows, d, heads = batch * length, settings.d_model, settings.n_heads
        pairs = length * (length + 1) // 2 if settings.causal else length**2
        layers, norms = range(settings.n_layers), range(2 * settings.n_layers + 1)
        self.qkv = [Buffer(3 * d, rows) for _ in layers]
        self.attention = [Buffer(heads, pairs, batch) for _ in layers]
        self.heads = [Buffer(d, rows) for _ in layers]
        self.hidden = [Buffer(rows, settings.hidden_width) for _ in layers]
        self.sums = [Buffer(rows, d) for _ in norms]
        self.outs = [Buffer(rows, d) for _ in norms]
        self.means = [Buffer(rows) for _ in norms]
        self.scales = [Buffer(rows) for _ in norms]
        self.tokens_BT = np.empty((0, 0), np.int64)
        self.masks: list[Masks] = []
        """Three a layer, as they are drawn: of the attention weights, its output, the hidden layer."""


class Scratch:
    """Positions, and buffers that hold nothing from one pass to the next."""

    def __init__(self, settings: Any, batch: int, length: int, positions_TD: Tensor) -> None:
        rows, d = batch * length, settings.d_model
        self.positions = Buffer(rows, d)
        self.positions.tensor.view(length, batch, d)[:] = positions_TD[:length, None]
        self.y, self.grad, self.grad_y, self.grad_out = (Buffer(rows, d) for _ in range(4))
        self.grad_hidden = Buffer(rows, settings.hidden_width)
        self.grad_qkv, self.grad_heads = Buffer(3 * d, rows), Buffer(d, rows)
        self.no_bias = Buffer(d)


class FusedTransformer:
    """The fused passes of a stack of one model: call `hidden`.

    positions_TD: the model's positional encodings. A pass is used again once its gradient was taken; there are several
    where one begins before that.
    """

    def __init__(self, settings: Any, positions_TD: Tensor) -> None:
        self.settings, self.positions_TD = settings, positions_TD
        self.embedding_scale = np.float32(math.sqrt(settings.d_model) if settings.embedding_scale == "sqrt_d" else 1)
        self.pre = settings.norm == "pre"
        self.last = 2 * settings.n_layers
        parts = [f"{layer}.{part}_norm" for layer in range(settings.n_layers) for part in ("attention", "ffn")]
        self.norms = [*parts, "final_norm"] if self.pre else ["", *parts]
        self.scratch: dict[tuple[int, ...], Scratch] = {}
        self.idle: dict[tuple[int, ...], list[Pass]] = defaultdict(list)

    def hidden(self, weights: Named, tokens_BT: Tensor, dropout: DropoutMasks | None) -> Tensor:
        """The last hidden layer (B, T, D). It is a buffer: valid until its gradient was taken.

        weights: of `TransformerStack.weights` by their plain names, (1, ...).
        """
        return _Hidden.apply(self, tokens_BT, dropout, tuple(weights), *weights.values())

    def forward(self, weights: Named, tokens_BT: Tensor, dropout: DropoutMasks | None) -> Pass:
        """A pass; its result is the last of `outs`, with the positions of an example together."""
        batch, length = shape = tuple(tokens_BT.shape)
        if shape not in self.scratch:
            self.scratch[shape] = Scratch(self.settings, batch, length, self.positions_TD)
        here = self.idle[shape].pop() if self.idle[shape] else Pass(self.settings, batch, length)
        # A graph that still has the buffer from before must not take it for its own.
        torch.autograd.graph.increment_version(here.outs[-1].tensor)
        here.tokens_BT, scratch = tokens_BT.contiguous().numpy(), self.scratch[shape]
        here.masks = [self._masks(dropout, shape, place) for _ in range(self.settings.n_layers) for place in range(3)]
        kernels.embed(here.tokens_BT, weights["embedding"].numpy(), self.embedding_scale, scratch.y.array)
        if self.pre:
            self._norm(0, here, scratch, weights)
        else:
            torch.add(scratch.positions.tensor, scratch.y.tensor, out=here.outs[0].tensor)
        for layer in range(self.settings.n_layers):
            self._attention(layer, here, scratch, weights)
            self._norm(2 * layer + 1, here, scratch, weights)
            self._feed_forward(layer, here, scratch, weights)
            self._norm(2 * layer + 2, here, scratch, weights)
        return here

    def backward(self, here: Pass, weights: Named, grad_BTD: Tensor) -> Named:
        """The gradients of all weights, by those of the result."""
        grads = {name: torch.empty_like(weight) for name, weight in weights.items()}
        grads["embedding"].zero_()
        scratch, grad = self.scratch[here.tokens_BT.shape], self.scratch[here.tokens_BT.shape].grad
        # Of what flows along the residual sums, and past them through the norm at hand.
        grad.tensor.zero_()
        grad_out = grad_BTD.contiguous().view(grad.tensor.shape)
        for norm in range(self.last, -1, -1):
            if not self.pre and norm < self.last:
                grad_out += grad.tensor
                grad.tensor.zero_()
            if not self.pre and norm == 0:
                grad.tensor.copy_(grad_out)
                break
            grad_y = self._norm_backward(norm, here, scratch, weights, grad_out, grads)
            if norm:
                back = self._attention_backward if norm % 2 else self._feed_forward_backward
                back((norm - 1) // 2, here, scratch, weights, grad_y, grads)
                grad_out = scratch.grad_out.tensor
        kernels.embed_backward(here.tokens_BT, grad.array, self.embedding_scale, grads["embedding"].numpy())
        self.idle[here.tokens_BT.shape].append(here)
        return grads

    def _masks(self, dropout: DropoutMasks | None, shape: tuple[int, ...], place: int) -> Masks:
        if dropout is None:
            return NO_MASKS
        (batch, length), settings = shape, self.settings
        columns = (settings.n_heads * length * length, settings.d_model, settings.hidden_width)[place]
        bits = dropout.next_bits(torch.Size((1, batch if place == 0 else batch * length, columns)))
        return Masks(bits[0].numpy(), np.int16(dropout.threshold), np.float32(dropout.factor))

    def _norm(self, norm: int, here: Pass, scratch: Scratch, weights: Named) -> None:
        """Add `scratch.y`, which a sublayer gave without its bias, to the residual sum, and norm that."""
        before = (here.sums if self.pre else here.outs)[norm - 1] if norm else scratch.positions
        bias, name = self._bias(norm), self.norms[norm]
        kernels.add_norm(
            before.array,
            scratch.y.array,
            weights[bias].numpy() if bias else scratch.no_bias.array,
            self._masks_of_sum(norm, here),
            len(here.tokens_BT),
            norm == self.last,
            weights[f"{name}.weight"].numpy(),
            weights[f"{name}.bias"].numpy(),
            here.sums[norm].array,
            here.outs[norm].array,
            here.means[norm].array,
            here.scales[norm].array,
        )

    def _norm_backward(
        self, norm: int, here: Pass, scratch: Scratch, weights: Named, grad_out: Tensor, grads: Named
    ) -> Tensor:
        """Add to `scratch.grad` what comes through the norm; returns the gradient of the sublayer's output."""
        bias, name, masks = self._bias(norm), self.norms[norm], self._masks_of_sum(norm, here)
        kernels.add_norm_backward(
            grad_out.numpy(),
            len(here.tokens_BT),
            norm == self.last,
            masks,
            here.sums[norm].array,
            here.means[norm].array,
            here.scales[norm].array,
            weights[f"{name}.weight"].numpy(),
            scratch.grad.array,
            scratch.grad_y.array,
            grads[bias].numpy() if bias else np.empty_like(scratch.no_bias.array),
            grads[f"{name}.weight"].numpy(),
            grads[f"{name}.bias"].numpy(),
        )
        return scratch.grad_y.tensor if masks.factor else scratch.grad.tensor

    def _attention(self, layer: int, here: Pass, scratch: Scratch, weights: Named) -> None:
        qkv, attention, heads = here.qkv[layer], here.attention[layer], here.heads[layer]
        qkv_3HKTB, heads_HKTB = self._by_heads(qkv, 3, here), self._by_heads(heads, 1, here)[0]
        torch.mm(weights[f"{layer}.qkv.weight"].t(), here.outs[2 * layer].tensor.t(), out=qkv.tensor)
        kernels.scores(qkv_3HKTB, weights[f"{layer}.qkv.bias"].numpy(), self.settings.causal, attention.array)
        attention.tensor.exp_()
        self._show_products(2, here)
        kernels.attend(attention.array, qkv_3HKTB, here.masks[3 * layer], self.settings.causal, heads_HKTB)
        torch.mm(heads.tensor.t(), weights[f"{layer}.attention_out.weight"], out=scratch.y.tensor)

    def _attention_backward(
        self, layer: int, here: Pass, scratch: Scratch, weights: Named, grad_y: Tensor, grads: Named
    ) -> None:
        """Write the gradient of the sublayer's input to `scratch.grad_out`."""
        self._show_products(4, here)
        torch.mm(here.heads[layer].tensor, grad_y, out=grads[f"{layer}.attention_out.weight"])
        torch.mm(weights[f"{layer}.attention_out.weight"], grad_y.t(), out=scratch.grad_heads.tensor)
        kernels.attend_backward(
            here.attention[layer].array,
            self._by_heads(here.qkv[layer], 3, here),
            here.masks[3 * layer].factor or np.float32(1),
            self.settings.causal,
            self._by_heads(scratch.grad_heads, 1, here)[0],
            self._by_heads(scratch.grad_qkv, 3, here),
        )
        grad_qkv = scratch.grad_qkv.tensor
        torch.sum(grad_qkv, 1, out=grads[f"{layer}.qkv.bias"])
        torch.mm(here.outs[2 * layer].tensor.t(), grad_qkv.t(), out=grads[f"{layer}.qkv.weight"])
        torch.mm(grad_qkv.t(), weights[f"{layer}.qkv.weight"].t(), out=scratch.grad_out.tensor)

    def _feed_forward(self, layer: int, here: Pass, scratch: Scratch, weights: Named) -> None:
        hidden, batch = here.hidden[layer], len(here.tokens_BT)
        torch.mm(here.outs[2 * layer + 1].tensor, weights[f"{layer}.ffn_in.weight"], out=hidden.tensor)
        kernels.relu(hidden.array, weights[f"{layer}.ffn_in.bias"].numpy(), here.masks[3 * layer + 2], batch)
        torch.mm(hidden.tensor, weights[f"{layer}.ffn_out.weight"], out=scratch.y.tensor)

    def _feed_forward_backward(
        self, layer: int, here: Pass, scratch: Scratch, weights: Named, grad_y: Tensor, grads: Named
    ) -> None:
        """Write the gradient of the sublayer's input to `scratch.grad_out`."""
        hidden, grad_hidden = here.hidden[layer], scratch.grad_hidden
        torch.mm(hidden.tensor.t(), grad_y, out=grads[f"{layer}.ffn_out.weight"])
        torch.mm(grad_y, weights[f"{layer}.ffn_out.weight"].t(), out=grad_hidden.tensor)
        factor = here.masks[3 * layer + 2].factor or np.float32(1)
        kernels.relu_backward(hidden.array, factor, grad_hidden.array, grads[f"{layer}.ffn_in.bias"].numpy())
        torch.mm(here.outs[2 * layer + 1].tensor.t(), grad_hidden.tensor, out=grads[f"{layer}.ffn_in.weight"])
        torch.mm(grad_hidden.tensor, weights[f"{layer}.ffn_in.weight"].t(), out=scratch.grad_out.tensor)

    def _bias(self, norm: int) -> str:
        """The bias of the sublayer before a norm; of embeddings none."""
        return f"{(norm - 1) // 2}.{'attention' if norm % 2 else 'ffn'}_out.bias" if norm else ""

    def _masks_of_sum(self, norm: int, here: Pass) -> Masks:
        """Attention's output is dropped from, that of the feed-forward network is not."""
        return here.masks[3 * (norm // 2) + 1] if norm % 2 else NO_MASKS

    def _show_products(self, number: int, here: Pass) -> None:
        """Let a counter of operations see the products of attention, which kernels compute."""
        if any_torch_dispatch_mode_on_stack():
            (batch, length), heads = here.tokens_BT.shape, self.settings.n_heads
            for _ in range(number):
                narrow = torch.empty(batch * heads, length, self.settings.d_model // heads, device="meta")
                torch.bmm(narrow, narrow.transpose(1, 2))

    def _by_heads(self, buffer: Buffer, parts: int, here: Pass) -> np.ndarray:
        """The array (parts x D, X) of a buffer as (parts, H, K, T, B)."""
        batch, length = here.tokens_BT.shape
        return buffer.array.reshape(parts, self.settings.n_heads, -1, length, batch)


class _Hidden(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fused: FusedTransformer,
        tokens_BT: Tensor,
        dropout: DropoutMasks | None,
        names: tuple[str, ...],
        *weights: Tensor,
    ) -> Tensor:
        ctx.fused, ctx.weights = fused, {name: w.detach()[0] for name, w in zip(names, weights, strict=True)}
        ctx.done = fused.forward(ctx.weights, tokens_BT, dropout)
        return ctx.done.outs[-1].tensor.view(*tokens_BT.shape, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.done is None:
            raise RuntimeError("the gradient of a fused pass was taken before: its buffers are in use again")
        grads, ctx.done = ctx.fused.backward(ctx.done, ctx.weights, grad_BTD), None
        # The head's weights are none of this pass.
        return None, None, None, None, *(grad[None] for grad in grads.values())
