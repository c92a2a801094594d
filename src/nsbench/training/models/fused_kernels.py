"""What a transformer does between its matrix products, compiled for one core of a CPU.

Shape suffixes: X row, one for each position and example (t x batch + b: the examples of a position lie together); B
example; T position; P pair of a position and one that it sees; D d_model, F feed-forward width, H head, K width of a
head, N number, C column. The arrays of one loop are few: the compiler checks at run time that those written overlap no
other, and makes no vector instructions where that would take too many checks.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

EPSILON = np.float32(1e-5)
ZERO = np.float32(0)
kernel = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@kernel
def embed(tokens_BT, table_VD, scale, out_XD):
    """Write the scaled embeddings of the tokens."""
    batch, length = tokens_BT.shape
    for t in range(length):
        for b in range(batch):
            token, row = tokens_BT[b, t], t * batch + b
            for i in range(table_VD.shape[1]):
                out_XD[row, i] = table_VD[token, i] * scale


@kernel
def embed_backward(tokens_BT, grad_XD, scale, grad_VD):
    """Add to the gradient of the table."""
    batch, length = tokens_BT.shape
    for t in range(length):
        for b in range(batch):
            token, row = tokens_BT[b, t], t * batch + b
            for i in range(grad_VD.shape[1]):
                grad_VD[token, i] += grad_XD[row, i] * scale


@kernel
def add_norm(x_XD, y_XD, bias_D, masks, batch, batch_first, weight_D, shift_D, sum_XD, out_XD, mean_X, scale_X):
    """sum = x + dropout(y + bias), out = layer norm of it; mean and 1 / standard deviation of each row are kept.

    masks: bits (rows with the positions of an example together, D), threshold and factor; no dropout where factor is 0.
    batch_first: whether the rows of `out` have the positions of an example together.
    """
    bits_XD, threshold, factor = masks
    rows, d = x_XD.shape
    length = rows // batch
    share = np.float32(1) / np.float32(d)
    for t in range(length):
        for b in range(batch):
            row, other = t * batch + b, b * length + t
            if factor > ZERO:
                for i in range(d):
                    kept = y_XD[row, i] + bias_D[i] if bits_XD[other, i] >= threshold else ZERO
                    sum_XD[row, i] = x_XD[row, i] + kept * factor
            else:
                for i in range(d):
                    sum_XD[row, i] = x_XD[row, i] + (y_XD[row, i] + bias_D[i])
            mean, square = ZERO, ZERO
            for i in range(d):
                mean += sum_XD[row, i]
            mean *= share
            for i in range(d):
                square += (sum_XD[row, i] - mean) * (sum_XD[row, i] - mean)
            scale = np.float32(1) / math.sqrt(square * share + EPSILON)
            mean_X[row], scale_X[row] = mean, scale
            to = other if batch_first else row
            for i in range(d):
                out_XD[to, i] = (sum_XD[row, i] - mean) * scale * weight_D[i] + shift_D[i]


@kernel
def add_norm_backward(
    grad_out_XD,
    batch,
    batch_first,
    masks,
    sum_XD,
    mean_X,
    scale_X,
    weight_D,
    grad_XD,
    grad_y_XD,
    bias_D,
    norm_D,
    shift_D,
):
    """Add the gradient of `sum` to `grad_XD`; write those of y, which is the result without dropout, and of weights."""
    bits_XD, threshold, factor = masks
    rows, d = sum_XD.shape
    length = rows // batch
    share = np.float32(1) / np.float32(d)
    bias_D[:] = norm_D[:] = shift_D[:] = ZERO
    for t in range(length):
        for b in range(batch):
            row, other = t * batch + b, b * length + t
            of = other if batch_first else row
            mean, scale = mean_X[row], scale_X[row]
            first, second = ZERO, ZERO
            for i in range(d):
                grad = grad_out_XD[of, i] * weight_D[i]
                first += grad
                second += grad * (sum_XD[row, i] - mean)
            first *= share
            second *= share * scale * scale
            for i in range(d):
                norm_D[i] += grad_out_XD[of, i] * ((sum_XD[row, i] - mean) * scale)
                shift_D[i] += grad_out_XD[of, i]
            for i in range(d):
                centred = grad_out_XD[of, i] * weight_D[i] - first - (sum_XD[row, i] - mean) * second
                grad_XD[row, i] += scale * centred
            if factor > ZERO:
                for i in range(d):
                    kept = grad_XD[row, i] * factor if bits_XD[other, i] >= threshold else ZERO
                    grad_y_XD[row, i] = kept
                    bias_D[i] += kept
            else:
                for i in range(d):
                    bias_D[i] += grad_XD[row, i]


@kernel
def relu(x_XF, bias_F, masks, batch):
    """relu(dropout(x + bias)), in place."""
    bits_XF, threshold, factor = masks
    rows, width = x_XF.shape
    length = rows // batch
    for t in range(length):
        for b in range(batch):
            row, other = t * batch + b, b * length + t
            if factor > ZERO:
                for i in range(width):
                    kept = max(x_XF[row, i] + bias_F[i], ZERO) * factor
                    x_XF[row, i] = kept if bits_XF[other, i] >= threshold else ZERO
            else:
                for i in range(width):
                    x_XF[row, i] = max(x_XF[row, i] + bias_F[i], ZERO)


@kernel
def relu_backward(out_XF, factor, grad_XF, bias_F):
    """The gradient of `relu`'s input in place of that of its output, and that of the bias."""
    bias_F[:] = ZERO
    for row in range(len(out_XF)):
        for i in range(out_XF.shape[1]):
            grad_XF[row, i] = grad_XF[row, i] * factor if out_XF[row, i] > ZERO else ZERO
        for i in range(out_XF.shape[1]):
            bias_F[i] += grad_XF[row, i]


@njit(inline="always")
def first_pair(t, length, causal):
    """Where the pairs (t, u) of a position with those that it sees begin among all pairs."""
    return t * (t + 1) // 2 if causal else t * length


@kernel
def scores(qkv_3HKTB, bias_C, causal, out_HPB):
    """Add the bias to queries, keys and values; write q k / sqrt(K) less its largest over the keys that t sees."""
    _, heads, width, length, batch = qkv_3HKTB.shape
    scale = np.float32(1) / math.sqrt(np.float32(width))
    for part in range(3):
        for h in range(heads):
            for k in range(width):
                bias = bias_C[(part * heads + h) * width + k]
                for t in range(length):
                    for b in range(batch):
                        qkv_3HKTB[part, h, k, t, b] += bias
    largest_B = np.empty(batch, np.float32)
    for h in range(heads):
        for t in range(length):
            first, seen = first_pair(t, length, causal), t + 1 if causal else length
            largest_B[:] = -np.float32(np.inf)
            for u in range(seen):
                pair = first + u
                out_HPB[h, pair, :] = ZERO
                for k in range(width):
                    for b in range(batch):
                        out_HPB[h, pair, b] += qkv_3HKTB[0, h, k, t, b] * qkv_3HKTB[1, h, k, u, b]
                for b in range(batch):
                    out_HPB[h, pair, b] *= scale
                    largest_B[b] = max(largest_B[b], out_HPB[h, pair, b])
            for pair in range(first, first + seen):
                for b in range(batch):
                    out_HPB[h, pair, b] -= largest_B[b]


@kernel
def attend(exps_HPB, qkv_3HKTB, masks, causal, out_HKTB):
    """Attention weights in place of exponentials, negative where dropped, and the weighted values."""
    bits_BN, threshold, factor = masks
    heads, width, length, batch = out_HKTB.shape
    total_B, kept_B = np.empty(batch, np.float32), np.empty(batch, np.float32)
    bits_UB = np.empty((length, batch), np.int16)
    for h in range(heads):
        for t in range(length):
            first, seen = first_pair(t, length, causal), t + 1 if causal else length
            if factor > ZERO:
                for b in range(batch):
                    for u in range(seen):
                        bits_UB[u, b] = bits_BN[b, (h * length + t) * length + u]
            total_B[:] = ZERO
            for pair in range(first, first + seen):
                for b in range(batch):
                    total_B[b] += exps_HPB[h, pair, b]
            for b in range(batch):
                total_B[b] = np.float32(1) / total_B[b]
            for k in range(width):
                out_HKTB[h, k, t, :] = ZERO
            for u in range(seen):
                pair = first + u
                if factor > ZERO:
                    for b in range(batch):
                        weight = exps_HPB[h, pair, b] * total_B[b]
                        exps_HPB[h, pair, b] = weight if bits_UB[u, b] >= threshold else -weight
                    for b in range(batch):
                        kept_B[b] = max(exps_HPB[h, pair, b], ZERO) * factor
                else:
                    for b in range(batch):
                        exps_HPB[h, pair, b] *= total_B[b]
                        kept_B[b] = exps_HPB[h, pair, b]
                for k in range(width):
                    for b in range(batch):
                        out_HKTB[h, k, t, b] += kept_B[b] * qkv_3HKTB[2, h, k, u, b]


@kernel
def attend_backward(weights_HPB, qkv_3HKTB, factor, causal, grad_out_HKTB, grad_3HKTB):
    """Write the gradients of queries, keys and values; weights as `attend` left them, factor 1 without dropout."""
    heads, width, length, batch = grad_out_HKTB.shape
    scale = np.float32(1) / math.sqrt(np.float32(width))
    grad_UB = np.empty((length, batch), np.float32)
    total_B, kept_B = np.empty(batch, np.float32), np.empty(batch, np.float32)
    grad_3HKTB[:] = ZERO
    for h in range(heads):
        for t in range(length):
            first, seen = first_pair(t, length, causal), t + 1 if causal else length
            total_B[:] = ZERO
            for u in range(seen):
                pair = first + u
                for b in range(batch):
                    kept_B[b] = max(weights_HPB[h, pair, b], ZERO) * factor
                grad_UB[u] = ZERO
                for k in range(width):
                    for b in range(batch):
                        grad_UB[u, b] += grad_out_HKTB[h, k, t, b] * qkv_3HKTB[2, h, k, u, b]
                    for b in range(batch):
                        grad_3HKTB[2, h, k, u, b] += kept_B[b] * grad_out_HKTB[h, k, t, b]
                for b in range(batch):
                    total_B[b] += grad_UB[u, b] * kept_B[b]
            for u in range(seen):
                pair = first + u
                for b in range(batch):
                    weight = weights_HPB[h, pair, b]
                    grad = grad_UB[u, b] * factor if weight > ZERO else ZERO
                    kept_B[b] = abs(weight) * (grad - total_B[b]) * scale
                for k in range(width):
                    for b in range(batch):
                        grad_3HKTB[0, h, k, t, b] += kept_B[b] * qkv_3HKTB[1, h, k, u, b]
                    for b in range(batch):
                        grad_3HKTB[1, h, k, u, b] += kept_B[b] * qkv_3HKTB[0, h, k, t, b]
