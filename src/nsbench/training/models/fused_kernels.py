"""What a transformer does between its matrix products, compiled for one core of a CPU.

Shape suffixes: X row, one for each position and example (t x batch + b: the examples of a position lie together); B
example; T position; P pair of a position and one that it sees; D d_model, F feed-forward width, H head, K width of a
head, N number, C column. The arrays of one loop are few: the compiler checks at run time that those written overlap no
other, and makes no vector instructions where that would take too many checks.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

EPSILON = np.float32(1e-5)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
LN_2, LOG2_E, LEAST_EXPONENT = np.float32(math.log(2)), np.float32(1 / math.log(2)), np.float32(-87)
LANES = 32
"""Examples of a vector: two registers of AVX-512, four of AVX2."""
CACHED = 2**15
"""How many numbers of a head to work on at a time, in each of several blocks."""
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
def add_norm(x_XD, y_XD, bias_D, masks, order, weights_2D, sum_XD, moments_2X, out_XD):
    """sum = x + dropout(y + bias), out = layer norm of it; moments: mean and 1 / standard deviation of each row.

    masks: bits (rows with the positions of an example together, D), threshold and factor; no dropout where factor is 0.
    order: how many examples there are, and whether `out` has the positions of an example together. weights_2D: scale
    and shift.
    """
    (bits_XD, threshold, factor), (batch, batch_first) = masks, order
    (weight_D, shift_D), (mean_X, scale_X) = weights_2D, moments_2X
    rows, d = x_XD.shape
    length = rows // batch
    share = ONE / np.float32(d)
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
            scale = ONE / math.sqrt(square * share + EPSILON)
            mean_X[row], scale_X[row] = mean, scale
            to = other if batch_first else row
            for i in range(d):
                out_XD[to, i] = (sum_XD[row, i] - mean) * scale * weight_D[i] + shift_D[i]


@kernel
def add_norm_backward(grad_out_XD, masks, order, weight_D, sum_XD, moments_2X, grad_XD, grad_y_XD, of_weights_3D):
    """Add the gradient of `sum` to `grad_XD`; write that of y, unless it is the same, and of bias, scale and shift."""
    (bits_XD, threshold, factor), (batch, batch_first) = masks, order
    (mean_X, scale_X), (bias_D, norm_D, shift_D) = moments_2X, of_weights_3D
    rows, d = sum_XD.shape
    length = rows // batch
    share = ONE / np.float32(d)
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
                    x = x_XF[row, i] + bias_F[i]
                    x_XF[row, i] = ZERO if x < ZERO or bits_XF[other, i] < threshold else x * factor
            else:
                for i in range(width):
                    x = x_XF[row, i] + bias_F[i]
                    x_XF[row, i] = ZERO if x < ZERO else x


@kernel
def relu_backward(out_XF, factor, grad_XF, bias_F):
    """The gradient of `relu`'s input in place of that of its output, and that of the bias."""
    bias_F[:] = ZERO
    for row in range(len(out_XF)):
        for i in range(out_XF.shape[1]):
            grad_XF[row, i] = grad_XF[row, i] * factor if out_XF[row, i] > ZERO else ZERO
        for i in range(out_XF.shape[1]):
            bias_F[i] += grad_XF[row, i]


@intrinsic
def sum_products(_, n, x_RL, x, x_step, y_RL, y, y_step, out_RL, out):
    """Row `out` = sum over i below n of the products of rows x + i x_step and y + i y_step, all of as many lanes.

    In LLVM's words, so that the sum of a vector stays in registers: compilers find no vectors in this order of loops.
    """

    def write(context, builder, signature, arguments):
        n, _, x, x_step, _, y, y_step, _, out = arguments
        x_RL, y_RL, out_RL = (
            context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (1, 4, 7)
        )
        lanes = builder.extract_value(out_RL.shape, 1)
        vector = ir.VectorType(ir.FloatType(), LANES)
        total = cgutils.alloca_once(builder, vector)
        with cgutils.for_range(builder, builder.udiv(lanes, ir.Constant(lanes.type, LANES))) as block:
            first = builder.mul(block.index, ir.Constant(lanes.type, LANES))

            def at(array, row):
                place = builder.gep(array.data, [builder.add(builder.mul(row, lanes), first)])
                return builder.bitcast(place, vector.as_pointer())

            builder.store(ir.Constant(vector, [0.0] * LANES), total)
            with cgutils.for_range(builder, n) as loop:
                x_L = builder.load(at(x_RL, builder.add(x, builder.mul(loop.index, x_step))), align=4)
                y_L = builder.load(at(y_RL, builder.add(y, builder.mul(loop.index, y_step))), align=4)
                product = builder.fmul(x_L, y_L, flags=["contract"])
                builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
            builder.store(builder.load(total), at(out_RL, out), align=4)

    return types.void(types.intp, x_RL, types.intp, types.intp, y_RL, types.intp, types.intp, out_RL, types.intp), write


@kernel
def lanes_at_once(width, length, batch):
    """How many examples to take at a time, so that one head of theirs stays in the cache; a multiple of LANES."""
    most = LANES * max(1, CACHED // (LANES * width * length))
    blocks = -(-batch // most)
    return LANES * -(-batch // (blocks * LANES))


@kernel
def block(rows, lanes):
    """Rows of the examples that are worked on."""
    return np.zeros((rows, lanes), np.float32)


@kernel
def take(all_RB, row, start, some_RL):
    """Copy rows of some examples, from `row` and `start` on, to a block of their own."""
    here = min(some_RL.shape[1], all_RB.shape[1] - start)
    for place in range(len(some_RL)):
        from_B = all_RB[row + place, start : start + here]
        for b in range(here):
            some_RL[place, b] = from_B[b]


@kernel
def give(some_RL, row, start, all_RB):
    """Copy a block back to the rows of its examples."""
    here = min(some_RL.shape[1], all_RB.shape[1] - start)
    for place in range(len(some_RL)):
        to_B = all_RB[row + place, start : start + here]
        for b in range(here):
            to_B[b] = some_RL[place, b]


@kernel
def first_pair(t, length, causal):
    """Where the pairs (t, u) of a position with those that it sees begin among all pairs."""
    return t * (t + 1) // 2 if causal else t * length


@kernel
def exp(x):
    """e to the x for x <= 0, or NaN, of operations that become vectors: 2 to the n times a Taylor polynomial."""
    x = LEAST_EXPONENT if x < LEAST_EXPONENT else x
    n = np.floor(x * LOG2_E + HALF)
    r, total = x - n * LN_2, ONE
    for power in range(7, 0, -1):
        total = ONE + total * r / np.float32(power)
    return total * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@kernel
def attend(qkv_RB, bias_C, masks, sizes, causal, weights_RB, out_RB):
    """Add the bias to queries, keys and values (3 H K T, B); write attention weights (H P, B) and outputs (H K T, B).

    Weights that are dropped are written as negative. sizes: H, K, T.
    """
    bits_BN, threshold, factor = masks
    heads, width, length = sizes
    batch, rows, pairs = qkv_RB.shape[1], width * length, first_pair(length, length, causal)
    lanes, scale = lanes_at_once(width, length, batch), ONE / math.sqrt(np.float32(width))
    q_RL, k_RL, v_RL, out_RL = block(rows, lanes), block(rows, lanes), block(rows, lanes), block(rows, lanes)
    weights_PL, kept_TL, bits_TL = block(pairs, lanes), block(length, lanes), np.zeros((length, lanes), np.int16)
    largest_L, total_L = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    for row in range(len(qkv_RB)):
        for b in range(batch):
            qkv_RB[row, b] += bias_C[row // length]
    for h in range(heads):
        for start in range(0, batch, lanes):
            take(qkv_RB, h * rows, start, q_RL)
            take(qkv_RB, (heads + h) * rows, start, k_RL)
            take(qkv_RB, (2 * heads + h) * rows, start, v_RL)
            for t in range(length):
                first, seen = first_pair(t, length, causal), t + 1 if causal else length
                largest_L[:], total_L[:] = -np.float32(np.inf), ZERO
                for u in range(seen):
                    sum_products(width, q_RL, t, length, k_RL, u, length, kept_TL, u)
                    for b in range(lanes):
                        kept_TL[u, b] *= scale
                        largest_L[b] = max(largest_L[b], kept_TL[u, b])
                for u in range(seen):
                    for b in range(lanes):
                        kept_TL[u, b] = exp(kept_TL[u, b] - largest_L[b])
                        total_L[b] += kept_TL[u, b]
                if factor > ZERO:
                    for b in range(min(lanes, batch - start)):
                        for u in range(seen):
                            bits_TL[u, b] = bits_BN[start + b, (h * length + t) * length + u]
                for u in range(seen):
                    for b in range(lanes):
                        kept_TL[u, b] /= total_L[b]
                        weights_PL[first + u, b] = kept_TL[u, b]
                    if factor > ZERO:
                        for b in range(lanes):
                            stays = bits_TL[u, b] >= threshold
                            weights_PL[first + u, b] = kept_TL[u, b] if stays else -kept_TL[u, b]
                            kept_TL[u, b] = kept_TL[u, b] * factor if stays else ZERO
                for k in range(width):
                    sum_products(seen, kept_TL, 0, 1, v_RL, k * length, 1, out_RL, k * length + t)
            give(weights_PL, h * pairs, start, weights_RB)
            give(out_RL, h * rows, start, out_RB)


@kernel
def attend_backward(weights_RB, qkv_RB, factor, sizes, causal, grad_out_RB, grad_RB):
    """Write the gradients of queries, keys and values; weights as `attend` left them, factor 1 without dropout."""
    heads, width, length = sizes
    batch, rows, pairs = qkv_RB.shape[1], width * length, first_pair(length, length, causal)
    lanes = lanes_at_once(width, length, batch)
    scale, total_L = ONE / math.sqrt(np.float32(width)), np.empty(lanes, np.float32)
    q_RL, k_RL, v_RL = block(rows, lanes), block(rows, lanes), block(rows, lanes)
    grad_out_RL, grad_RL, weights_PL = block(rows, lanes), block(rows, lanes), block(pairs, lanes)
    # Of each (t, u), seen or not: the weight that was kept, and the gradient of the score.
    kept_RL, grads_RL = block(length**2, lanes), block(length**2, lanes)
    for h in range(heads):
        for start in range(0, batch, lanes):
            take(qkv_RB, h * rows, start, q_RL)
            take(qkv_RB, (heads + h) * rows, start, k_RL)
            take(qkv_RB, (2 * heads + h) * rows, start, v_RL)
            take(grad_out_RB, h * rows, start, grad_out_RL)
            take(weights_RB, h * pairs, start, weights_PL)
            for t in range(length):
                first, seen = first_pair(t, length, causal), t + 1 if causal else length
                total_L[:] = ZERO
                for u in range(seen):
                    place = t * length + u
                    sum_products(width, grad_out_RL, t, length, v_RL, u, length, grads_RL, place)
                    for b in range(lanes):
                        kept_RL[place, b] = max(weights_PL[first + u, b], ZERO) * factor
                    for b in range(lanes):
                        total_L[b] += grads_RL[place, b] * kept_RL[place, b]
                for u in range(seen):
                    place = t * length + u
                    for b in range(lanes):
                        weight = weights_PL[first + u, b]
                        grad = grads_RL[place, b] * factor if weight > ZERO else ZERO
                        grads_RL[place, b] = abs(weight) * (grad - total_L[b]) * scale
            for k in range(width):
                row = k * length
                for t in range(length):
                    seen = t + 1 if causal else length
                    sum_products(seen, grads_RL, t * length, 1, k_RL, row, 1, grad_RL, row + t)
            give(grad_RL, h * rows, start, grad_RB)
            for part, grads, factors in ((1, grads_RL, q_RL), (2, kept_RL, grad_out_RL)):
                for k in range(width):
                    row = k * length
                    for u in range(length):
                        # Of the positions t that see u.
                        t = u if causal else 0
                        place = t * length + u
                        sum_products(length - t, grads, place, length, factors, row + t, 1, grad_RL, row + u)
                give(grad_RL, (part * heads + h) * rows, start, grad_RB)
