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

import nsbench.training.models.fused_kernels as kernels
from nsbench.training.models.stack import DropoutMasks
from nsbench.training.operations import count

Named = dict[str, Tensor]
SHAPES = 4
"""Of how many shapes to keep buffers: last batches may have any size."""


class Masks(NamedTuple):
    """Dropout of one place: units (examples first) stay where bits reach the threshold, and grow by the factor."""

    bits: np.ndarray
    threshold: np.int16
    factor: np.float32
    """0: no dropout."""


NO_MASKS = Masks(np.empty((0, 0), np.int16), np.int16(0), np.float32(0))


class Buffer:
    """A tensor, and arrays of the same memory, which kernels take."""

    def __init__(self, *shape: int, batch: int = 1) -> None:
        self.tensor = torch.zeros(shape)
        self.array = self.tensor.numpy()
        self.by_batch = self.array.reshape(-1, batch)


class Scratch:
    """Positions, and buffers that hold nothing from one pass to the next."""

    def __init__(self, settings: Any, batch: int, length: int, kept: bool, positions_TD: Tensor) -> None:
        rows, d = batch * length, settings.d_model
        self.positions = Buffer(rows, d)
        self.positions.tensor.view(length, batch, d)[:] = positions_TD[:length, None]
        self.y = Buffer(rows, d)
        if not kept:
            return
        self.grad, self.grad_y, self.grad_out = (Buffer(rows, d) for _ in range(3))
        self.grad_hidden = Buffer(rows, settings.hidden_width)
        self.grad_qkv, self.grad_heads = Buffer(3 * d, rows, batch=batch), Buffer(d, rows, batch=batch)


class Pass:
    """What the backward pass needs of a forward pass. Norm n comes after sublayer n - 1, norm 0 after the embedding.

    kept: for a gradient. Otherwise layers share their buffers, and every second norm does.
    """

    def __init__(self, settings: Any, batch: int, length: int, kept: bool, scratch: Scratch) -> None:
        rows, d, heads = batch * length, settings.d_model, settings.n_heads
        pairs = length * (length + 1) // 2 if settings.causal else length**2
        layers, norms = settings.n_layers, 2 * settings.n_layers + 1

        def buffers(number: int, apart: int, *shape: int, batch: int = 1) -> list[Buffer]:
            made = [Buffer(*shape, batch=batch) for _ in range(number if kept else apart)]
            return [made[place % len(made)] for place in range(number)]

        self.qkv = buffers(layers, 1, 3 * d, rows, batch=batch)
        self.attention = buffers(layers, 1, heads, pairs, batch, batch=batch)
        self.heads = buffers(layers, 1, d, rows, batch=batch)
        self.hidden = buffers(layers, 1, rows, settings.hidden_width)
        # A norm writes one while it reads the one before.
        self.sums, self.outs = (buffers(norms, 2, rows, d) for _ in range(2))
        self.moments = [(np.zeros(rows, np.float32), np.zeros(rows, np.float32)) for _ in range(norms)]
        self.batch, self.scratch = batch, scratch
        self.attention_sizes = heads, d // heads, length

    def begin(self, weights: Named, tokens_BT: Tensor, masks: list[Masks]) -> None:
        """tokens: ids (B, T) or patches (B, T, P).

        masks: three a layer, as they are drawn: of the attention weights, its output, the hidden layer.
        """
        self.weights, self.arrays = weights, {name: weight.numpy() for name, weight in weights.items()}
        self.arrays[""] = np.zeros(self.sums[0].array.shape[1], np.float32)
        self.masks, self.patches_XP = masks, None
        if tokens_BT.is_floating_point():
            self.patches_XP = tokens_BT.transpose(0, 1).flatten(0, 1).contiguous()
        else:
            self.tokens_BT = tokens_BT.contiguous().numpy()
            if self.tokens_BT.max() >= len(weights["embedding"]):
                raise IndexError(f"token {self.tokens_BT.max()} is none of {len(weights['embedding'])}")
        # A graph that still has the buffer from before must not take it for its own.
        torch.autograd.graph.increment_version(self.outs[-1].tensor)


class FusedTransformer:
    """The fused passes of a stack of one model: call `hidden`.

    positions_TD: the model's positional encodings. A pass is used again once its gradient was taken, or at once where
    none will be; there are several where one begins before that.
    """

    def __init__(self, settings: Any, positions_TD: Tensor) -> None:
        self.settings, self.positions_TD = settings, positions_TD
        self.embedding_scale = np.float32(math.sqrt(settings.d_model) if settings.embedding_scale == "sqrt_d" else 1)
        self.pre, self.last = settings.norm == "pre", 2 * settings.n_layers
        parts = [f"{layer}.{part}" for layer in range(settings.n_layers) for part in ("attention", "ffn")]
        norms = [f"{part}_norm" for part in parts]
        self.norms = [*norms, "final_norm"] if self.pre else ["", *norms]
        # Of the sublayer before each norm.
        self.biases = ["", *(f"{part}_out.bias" for part in parts)]
        # By shape, and whether passes are kept for a gradient.
        self.scratch: dict[tuple[int, ...], Scratch] = {}
        self.idle: dict[tuple[int, ...], list[Pass]] = defaultdict(list)

    def hidden(self, weights: Named, tokens_BT: Tensor, dropout: DropoutMasks | None, with_gradient: bool) -> Tensor:
        """The last hidden layer (B, T, D). With a gradient it is a buffer: valid until its gradient was taken.

        tokens: ids (B, T), or patches (B, T, P), which get no gradient. weights: of `TransformerStack.weights` by their
        plain names, (1, ...). Raises IndexError for an unknown token.
        """
        if with_gradient:
            return _Hidden.apply(self, tokens_BT, dropout, tuple(weights), *weights.values())
        with torch.inference_mode(False):  # Later passes write into the same buffers.
            own = {name: weight.detach()[0] for name, weight in weights.items()}
            here = self.forward(own, tokens_BT, dropout, kept=False)
            self.idle[*tokens_BT.shape[:2], False].append(here)
            return here.outs[-1].tensor.view(*tokens_BT.shape[:2], -1).clone()

    def forward(self, weights: Named, tokens_BT: Tensor, dropout: DropoutMasks | None, kept: bool) -> Pass:
        """A pass; its result is the last of `outs`, with the positions of an example together."""
        shape, layers = tuple(tokens_BT.shape[:2]), range(self.settings.n_layers)
        sort = (*shape, kept)
        if sort not in self.scratch:
            if len(self.scratch) == SHAPES:
                self.scratch.clear()
                self.idle.clear()
            self.scratch[sort] = Scratch(self.settings, *sort, self.positions_TD)
        scratch, idle = self.scratch[sort], self.idle[sort]
        here = idle.pop() if idle else Pass(self.settings, *sort, scratch)
        here.begin(weights, tokens_BT, [self._masks(dropout, *shape, place) for _ in layers for place in range(3)])
        self._embed(here)
        if self.pre:
            self._norm(0, here)
        else:
            torch.add(scratch.positions.tensor, scratch.y.tensor, out=here.outs[0].tensor)
        for layer in layers:
            self._attention(layer, here)
            self._norm(2 * layer + 1, here)
            self._feed_forward(layer, here)
            self._norm(2 * layer + 2, here)
        return here

    def backward(self, here: Pass, grad_BTD: Tensor) -> Named:
        """The gradients of all weights, by those of the result."""
        grads = {name: torch.empty_like(weight) for name, weight in here.weights.items()}
        grads[""] = torch.empty(self.settings.d_model)
        # `grad` is of what flows along the residual sums, `grad_out` of what goes through the norm at hand.
        grad, grad_out = here.scratch.grad, grad_BTD.contiguous().view(here.scratch.grad.array.shape)
        grad.tensor.zero_()
        for norm in range(self.last, -1, -1):
            if not self.pre and norm < self.last:
                grad_out += grad.tensor
                grad.tensor.zero_()
            if not self.pre and norm == 0:
                grad.tensor.copy_(grad_out)
                break
            grad_y = self._norm_backward(norm, here, grad_out, grads)
            if norm:
                back = self._attention_backward if norm % 2 else self._feed_forward_backward
                back((norm - 1) // 2, here, grad_y, grads)
                grad_out = here.scratch.grad_out.tensor
        self._embed_backward(here, grads)
        self.idle[here.batch, here.attention_sizes[2], True].append(here)
        del grads[""]
        return grads

    def _masks(self, dropout: DropoutMasks | None, batch: int, length: int, place: int) -> Masks:
        if dropout is None:
            return NO_MASKS
        settings, rows = self.settings, batch if place == 0 else batch * length
        columns = (settings.n_heads * length * length, settings.d_model, settings.hidden_width)[place]
        bits = dropout.next_bits(torch.Size((1, rows, columns)))[0].numpy()
        return Masks(bits, np.int16(dropout.threshold), np.float32(dropout.factor))

    def _embed(self, here: Pass) -> None:
        """Write the scaled embeddings to `scratch.y`."""
        y = here.scratch.y
        if here.patches_XP is None:
            kernels.embed(here.tokens_BT, here.arrays["embedding"], self.embedding_scale, y.array)
        else:
            torch.addmm(here.weights["patch.bias"], here.patches_XP, here.weights["patch.weight"], out=y.tensor)
            y.tensor.mul_(float(self.embedding_scale))

    def _embed_backward(self, here: Pass, grads: Named) -> None:
        """Write the gradients of what embeds, by that of the scaled embeddings in `scratch.grad`."""
        grad = here.scratch.grad
        if here.patches_XP is None:
            grads["embedding"].zero_()
            kernels.embed_backward(here.tokens_BT, grad.array, self.embedding_scale, grads["embedding"].numpy())
        else:
            torch.mm(here.patches_XP.t(), grad.tensor, out=grads["patch.weight"])
            torch.sum(grad.tensor, 0, out=grads["patch.bias"])
            for name in ("patch.weight", "patch.bias"):
                grads[name].mul_(float(self.embedding_scale))

    def _norm(self, norm: int, here: Pass) -> None:
        """Add `scratch.y`, which a sublayer gave without its bias, to the residual sum, and norm that."""
        before = (here.sums if self.pre else here.outs)[norm - 1] if norm else here.scratch.positions
        name, order = self.norms[norm], (here.batch, norm == self.last)
        weights = here.arrays[f"{name}.weight"], here.arrays[f"{name}.bias"]
        y, bias, out = here.scratch.y.array, here.arrays[self.biases[norm]], here.outs[norm].array
        masks = self._masks_of_sum(norm, here)
        kernels.add_norm(before.array, y, bias, masks, order, weights, here.sums[norm].array, here.moments[norm], out)

    def _norm_backward(self, norm: int, here: Pass, grad_out: Tensor, grads: Named) -> Tensor:
        """Add to `scratch.grad` what comes through the norm; returns the gradient of the sublayer's output."""
        name, order, masks = self.norms[norm], (here.batch, norm == self.last), self._masks_of_sum(norm, here)
        of_weights = tuple(grads[key].numpy() for key in (self.biases[norm], f"{name}.weight", f"{name}.bias"))
        grad, grad_y, weight = here.scratch.grad, here.scratch.grad_y, here.arrays[f"{name}.weight"]
        kept = here.sums[norm].array, here.moments[norm]
        kernels.add_norm_backward(grad_out.numpy(), masks, order, weight, *kept, grad.array, grad_y.array, of_weights)
        return grad_y.tensor if masks.factor else grad.tensor

    def _masks_of_sum(self, norm: int, here: Pass) -> Masks:
        """Attention's output is dropped from, that of the feed-forward network is not."""
        return here.masks[3 * (norm // 2) + 1] if norm % 2 else NO_MASKS

    def _attention(self, layer: int, here: Pass) -> None:
        qkv, heads, weights = here.qkv[layer], here.heads[layer], here.attention[layer].by_batch
        torch.mm(here.weights[f"{layer}.qkv.weight"].t(), here.outs[2 * layer].tensor.t(), out=qkv.tensor)
        sizes, causal, bias = here.attention_sizes, self.settings.causal, here.arrays[f"{layer}.qkv.bias"]
        kernels.attend(qkv.by_batch, bias, here.masks[3 * layer], sizes, causal, weights, heads.by_batch)
        _count_products(2, here)
        torch.mm(heads.tensor.t(), here.weights[f"{layer}.attention_out.weight"], out=here.scratch.y.tensor)

    def _attention_backward(self, layer: int, here: Pass, grad_y: Tensor, grads: Named) -> None:
        """Write the gradient of the sublayer's input to `scratch.grad_out`."""
        scratch, sizes, causal = here.scratch, here.attention_sizes, self.settings.causal
        torch.mm(here.heads[layer].tensor, grad_y, out=grads[f"{layer}.attention_out.weight"])
        torch.mm(here.weights[f"{layer}.attention_out.weight"], grad_y.t(), out=scratch.grad_heads.tensor)
        weights, qkv, factor = here.attention[layer].by_batch, here.qkv[layer].by_batch, here.masks[3 * layer].factor
        gradients = scratch.grad_heads.by_batch, scratch.grad_qkv.by_batch
        kernels.attend_backward(weights, qkv, factor or np.float32(1), sizes, causal, *gradients)
        _count_products(4, here)
        grad_qkv = scratch.grad_qkv.tensor
        torch.sum(grad_qkv, 1, out=grads[f"{layer}.qkv.bias"])
        torch.mm(here.outs[2 * layer].tensor.t(), grad_qkv.t(), out=grads[f"{layer}.qkv.weight"])
        torch.mm(grad_qkv.t(), here.weights[f"{layer}.qkv.weight"].t(), out=scratch.grad_out.tensor)

    def _feed_forward(self, layer: int, here: Pass) -> None:
        hidden, bias = here.hidden[layer], here.arrays[f"{layer}.ffn_in.bias"]
        torch.mm(here.outs[2 * layer + 1].tensor, here.weights[f"{layer}.ffn_in.weight"], out=hidden.tensor)
        kernels.relu(hidden.array, bias, here.masks[3 * layer + 2], here.batch)
        torch.mm(hidden.tensor, here.weights[f"{layer}.ffn_out.weight"], out=here.scratch.y.tensor)

    def _feed_forward_backward(self, layer: int, here: Pass, grad_y: Tensor, grads: Named) -> None:
        """Write the gradient of the sublayer's input to `scratch.grad_out`."""
        hidden, grad_hidden, factor = here.hidden[layer], here.scratch.grad_hidden, here.masks[3 * layer + 2].factor
        torch.mm(hidden.tensor.t(), grad_y, out=grads[f"{layer}.ffn_out.weight"])
        torch.mm(grad_y, here.weights[f"{layer}.ffn_out.weight"].t(), out=grad_hidden.tensor)
        bias = grads[f"{layer}.ffn_in.bias"].numpy()
        kernels.relu_backward(hidden.array, factor or np.float32(1), grad_hidden.array, bias)
        torch.mm(here.outs[2 * layer + 1].tensor.t(), grad_hidden.tensor, out=grads[f"{layer}.ffn_in.weight"])
        torch.mm(grad_hidden.tensor, here.weights[f"{layer}.ffn_in.weight"].t(), out=here.scratch.grad_out.tensor)


def _count_products(number: int, here: Pass) -> None:
    """Of attention, which kernels compute."""
    heads, width, length = here.attention_sizes
    count(number * 2 * here.batch * heads * width * length**2)


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
        own = {name: weight.detach()[0] for name, weight in zip(names, weights, strict=True)}
        ctx.fused, ctx.done = fused, fused.forward(own, tokens_BT, dropout, kept=True)
        return ctx.done.outs[-1].tensor.view(*tokens_BT.shape[:2], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.done is None:
            raise RuntimeError("the gradient of a fused pass was taken before: its buffers are in use again")
        grads, ctx.done = ctx.fused.backward(ctx.done, grad_BTD), None
        return None, None, None, None, *(grad[None] for grad in grads.values())
