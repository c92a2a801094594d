"""Softmax probabilities held against the clean ones, compiled for one core of a CPU.

Shape suffixes: N clean input, B changed input, T position, C class, L lane of a vector.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

ZERO, HALF = np.float32(0), np.float32(0.5)
LN_2, LOG2_E, LEAST_EXPONENT = np.float32(math.log(2)), np.float32(1 / math.log(2)), np.float32(-87)
TAYLOR = tuple(np.float32(1 / math.factorial(power)) for power in range(7, -1, -1))
LANES = 16
kernel = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@kernel
def exp(x):
    """e to the x for x <= 0, or NaN, of operations that become vectors: 2 to the n times a Taylor polynomial."""
    x = LEAST_EXPONENT if x < LEAST_EXPONENT else x
    n = np.floor(x * LOG2_E + HALF)
    r, total = x - n * LN_2, ZERO
    for factor in TAYLOR:
        total = total * r + factor
    return total * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@kernel
def largest(x_C, largest_L):
    """The largest number, by vectors' maxima."""
    largest_L[:] = -np.float32(np.inf)
    whole = len(x_C) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            largest_L[lane] = max(largest_L[lane], x_C[start + lane])
    found = largest_L.max()
    for place in range(whole, len(x_C)):
        found = max(found, x_C[place])
    return found


@kernel
def compare(logits_BTC, first, clean_NTC, rows_B, found_3BT):
    """Write <p, q>, |q|^2 and |p - q|^2 for clean probabilities p, and q of the logits at positions from `first` on."""
    batch, length, classes = logits_BTC.shape
    q_C, largest_L = np.empty(classes, np.float32), np.empty(LANES, np.float32)
    for b in range(batch):
        for t in range(first, length):
            logits_C, p_C = logits_BTC[b, t], clean_NTC[rows_B[b], t]
            most, total, dot, square, distance = largest(logits_C, largest_L), ZERO, ZERO, ZERO, ZERO
            for c in range(classes):
                q_C[c] = exp(logits_C[c] - most)
                total += q_C[c]
            for c in range(classes):
                q = q_C[c] / total
                dot += p_C[c] * q
                square += q * q
                distance += (p_C[c] - q) * (p_C[c] - q)
            found_3BT[0, b, t - first], found_3BT[1, b, t - first], found_3BT[2, b, t - first] = dot, square, distance
