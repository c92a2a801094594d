"""A stack of small transformers (section J.1).

Shape suffixes: R run, B batch (example), T position, D d_model, F feed-forward width, H head, K width of a head,
V vocabulary, C class; X stands for B x T.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbench.config.shape import Shape
from nsbench.storage.philox import has_numba
from nsbench.training.models.stack import DropoutMasks, Stack

if TYPE_CHECKING:
    from nsbench.training.models.fused import FusedTransformer

LINEAR_STD = 0.02


class _Attention(torch.autograd.Function):
    """softmax(Q^T K / sqrt(width), masked) with dropout, applied to V; N stands for run x example x head.

    Heads of these models are narrow (five wide), and the matrix kernels of a CPU are slow where
    a product's last axis is short. So queries, keys, values and their gradients lie as (N, K, T), the
    long axis last, which autograd's own gradients of a product would not keep.
    """

    @staticmethod
    def forward(ctx: Any, qkv_3NKT: Tensor, future_TT: Tensor | None, mask_NTT: Tensor | None) -> Tensor:
        """(N, K, T). future_TT: added to scores; mask_NTT: dropout, a factor on the attention weights."""
        q_NKT, k_NKT, v_NKT = qkv_3NKT
        scores_NTT = (q_NKT / math.sqrt(q_NKT.shape[1])).transpose(1, 2) @ k_NKT
        if future_TT is not None:
            scores_NTT += future_TT
        # With a lower precision of products the softmax is of float32 still.
        kept_NTT = weights_NTT = _full(scores_NTT).softmax(-1)
        if mask_NTT is not None:
            kept_NTT = weights_NTT * mask_NTT
        kept_NTT = kept_NTT.to(v_NKT.dtype)
        ctx.save_for_backward(qkv_3NKT, weights_NTT, kept_NTT, mask_NTT)
        return v_NKT @ kept_NTT.transpose(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NKT: Tensor) -> tuple[Tensor, None, None]:
        qkv_3NKT, weights_NTT, kept_NTT, mask_NTT = ctx.saved_tensors
        q_NKT, k_NKT, v_NKT = qkv_3NKT
        grads_3NKT = torch.empty_like(qkv_3NKT)
        torch.bmm(grad_NKT, kept_NTT, out=grads_3NKT[2])
        grad_NTT = _full(grad_NKT.transpose(1, 2) @ v_NKT)
        if mask_NTT is not None:
            grad_NTT *= mask_NTT
        grad_NTT = torch._softmax_backward_data(grad_NTT, weights_NTT, -1, grad_NTT.dtype)
        grad_NTT /= math.sqrt(q_NKT.shape[1])
        grad_NTT = grad_NTT.to(grad_NKT.dtype)
        torch.bmm(k_NKT, grad_NTT.transpose(1, 2), out=grads_3NKT[0])
        torch.bmm(q_NKT, grad_NTT, out=grads_3NKT[1])
        return grads_3NKT, None, None


def _full(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Fixed positional encodings (length, d_model): sines and cosines of geometric wavelengths."""
    position_T1 = torch.arange(length, dtype=torch.float32)[:, None]
    pairs = torch.arange(0, d_model, 2, dtype=torch.float32)
    angles = position_T1 * torch.exp(-math.log(10_000.0) / d_model * pairs)
    encodings_TD = torch.zeros(length, d_model)
    encodings_TD[:, 0::2] = angles.sin()
    encodings_TD[:, 1::2] = angles.cos()[:, : d_model // 2]
    return encodings_TD


class TransformerStack(Stack):
    """R transformers of one shape: ids (R, B, T), or patches (R, B, T, P), to logits (R, B, C), or (R, B, T, C) without
    pooling.

    settings: a `Transformer`. Initial weights: linear ones N(0, 0.02^2), biases 0, norms 1 and 0, all else (embeddings,
    those of patches, and query, key and value weights if `qkv_init` is "xavier") Xavier uniform.
    """

    def __init__(self, settings: Any, shape: Shape, seeds: list[int]) -> None:
        d, width = settings.d_model, settings.hidden_width
        shapes: dict[str, tuple[int, ...]] = {"embedding": (shape.vocabulary, d)}
        if shape.token_width:
            shapes = {"patch.weight": (shape.token_width, d), "patch.bias": (d,)}
        for layer in range(settings.n_layers):
            for part in ("attention_norm", "ffn_norm"):
                shapes |= {f"{layer}.{part}.weight": (d,), f"{layer}.{part}.bias": (d,)}
            for part, n_in, n_out in (
                ("qkv", d, 3 * d),
                ("attention_out", d, d),
                ("ffn_in", d, width),
                ("ffn_out", width, d),
            ):
                shapes |= {f"{layer}.{part}.weight": (n_in, n_out), f"{layer}.{part}.bias": (n_out,)}
        if settings.norm == "pre":
            shapes |= {"final_norm.weight": (d,), "final_norm.bias": (d,)}
        shapes |= {"head.weight": (d, shape.n_classes), "head.bias": (shape.n_classes,)}
        super().__init__(settings, shapes, seeds)
        positions_TD = sinusoidal_positions(settings.max_length, d)
        if settings.position_encoding == "none":
            positions_TD = torch.zeros_like(positions_TD)
        self.register_buffer("positions_TD", positions_TD, persistent=False)

    def initial(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        weight = torch.zeros(shape)
        if name in ("embedding", "patch.weight"):
            nn.init.xavier_uniform_(weight, generator=generator)
        elif name.endswith("qkv.weight") and self.settings.qkv_init == "xavier":
            for third in weight.chunk(3, dim=1):
                nn.init.xavier_uniform_(third, generator=generator)
        elif name.endswith("norm.weight"):
            weight.fill_(1.0)
        elif name.endswith(".weight"):
            weight.normal_(0.0, LINEAR_STD, generator=generator)
        return weight

    def forward(self, tokens_RBT: Tensor, dropout: DropoutMasks | None = None) -> Tensor:
        given = tokens_RBT.is_floating_point() and ("embedding" in self.weights or tokens_RBT.requires_grad)
        if not given and self.gradient_path == "fused" and not torch.is_autocast_enabled("cpu"):
            weights = {name: self.weights[key] for key, name in self._names.items() if not name.startswith("head.")}
            wanted = {torch.is_grad_enabled() and weight.requires_grad for weight in weights.values()}
            if len(wanted) == 1:
                return self.logits(self._fused.hidden(weights, tokens_RBT[0], dropout, wanted.pop())[None])
        return self.logits(self.hidden(self.embed(tokens_RBT), dropout))

    @property
    def gradient_path(self) -> str:
        weight = self.weight("head.weight")
        fits = self.n_runs == 1 and weight.device.type == "cpu" and weight.dtype == torch.float32
        return "fused" if fits and has_numba() else "autograd"

    @functools.cached_property
    def _fused(self) -> FusedTransformer:
        from nsbench.training.models.fused import FusedTransformer

        return FusedTransformer(self.settings, self.positions_TD)

    def embed(self, tokens_RBT: Tensor) -> Tensor:
        """The tokens' embeddings (R, B, T, D), as the weights give them: not scaled, without positions.

        In the place of ids it takes such embeddings too, which stay as they are.
        """
        if tokens_RBT.is_floating_point():
            if "embedding" in self.weights:
                return tokens_RBT
            return self.linear("patch", tokens_RBT.flatten(1, 2)).view(*tokens_RBT.shape[:3], -1)
        return self.lookup("embedding", tokens_RBT)

    def hidden(self, x_RBTD: Tensor, dropout: DropoutMasks | None = None) -> Tensor:
        """What embeddings (R, B, T, D) have become after the last layer and its norm, of the same shape."""
        settings = self.settings
        shape = x_RBTD.shape
        _, batch, length, _ = shape
        if settings.embedding_scale == "sqrt_d":
            x_RBTD = x_RBTD * math.sqrt(settings.d_model)
        x_RXD = (x_RBTD + self.positions_TD[:length]).flatten(1, 2)
        for layer in range(settings.n_layers):
            sublayers = (
                ("attention_norm", lambda x, i=layer: self._attention(i, x, batch, length, dropout)),
                ("ffn_norm", lambda x, i=layer: self._feed_forward(i, x, dropout)),
            )
            for norm, sublayer in sublayers:
                if settings.norm == "pre":
                    x_RXD = x_RXD + sublayer(self._norm(f"{layer}.{norm}", x_RXD))
                else:
                    x_RXD = self._norm(f"{layer}.{norm}", x_RXD + sublayer(x_RXD))
        if settings.norm == "pre":
            x_RXD = self._norm("final_norm", x_RXD)
        return x_RXD.view(shape)

    def logits(self, hidden_RBTD: Tensor) -> Tensor:
        """Logits (R, B, C) of what the pooling makes of the positions, or (R, B, T, C) of each without it."""
        if self.settings.pooling == "none":
            return self.linear("head", hidden_RBTD.flatten(1, 2)).view(*hidden_RBTD.shape[:3], -1)
        pooled_RBD = hidden_RBTD.mean(2) if self.settings.pooling == "mean" else hidden_RBTD[:, :, -1]
        return self.linear("head", pooled_RBD)

    def _norm(self, name: str, x_RXD: Tensor) -> Tensor:
        weight_R1D, bias_R1D = self.weight(f"{name}.weight")[:, None], self.weight(f"{name}.bias")[:, None]
        if self.n_runs == 1:
            return F.layer_norm(x_RXD, x_RXD.shape[-1:], weight_R1D[0, 0], bias_R1D[0, 0])
        return torch.addcmul(bias_R1D, F.layer_norm(x_RXD, x_RXD.shape[-1:]), weight_R1D)

    def _attention(self, layer: int, x_RXD: Tensor, batch: int, length: int, masks: DropoutMasks | None) -> Tensor:
        n_runs, heads = self.n_runs, self.settings.n_heads
        qkv_RBT3HK = self.linear(f"{layer}.qkv", x_RXD).view(n_runs, batch, length, 3, heads, -1)
        qkv_3RBHKT = qkv_RBT3HK.permute(3, 0, 1, 4, 5, 2)
        width = qkv_3RBHKT.shape[-2]
        qkv_3NKT = qkv_3RBHKT.reshape(3, -1, width, length)
        mask_NTT = None
        if masks is not None:
            mask_NTT = masks.next(torch.Size((n_runs, batch, heads, length, length))).flatten(0, 2)
        future_TT = None
        if self.settings.causal:
            future_TT = torch.full((length, length), -torch.inf, device=x_RXD.device).triu(1)
        out_NKT = _Attention.apply(qkv_3NKT, future_TT, mask_NTT)
        out_RXD = out_NKT.view(n_runs, batch, -1, length).transpose(2, 3).reshape(x_RXD.shape)
        return _drop(self.linear(f"{layer}.attention_out", out_RXD), masks)

    def _feed_forward(self, layer: int, x_RXD: Tensor, masks: DropoutMasks | None) -> Tensor:
        # Dropped first, both in place: one buffer, and no finite number changes with the order.
        hidden_RXF = _drop(self.linear(f"{layer}.ffn_in", x_RXD), masks).relu_()
        return self.linear(f"{layer}.ffn_out", hidden_RXF)


def _drop(x: Tensor, masks: DropoutMasks | None) -> Tensor:
    return x if masks is None else x.mul_(masks.next(x.shape))
