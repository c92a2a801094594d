"""Philox4x32-10 compiled for a CPU: its loop over blocks becomes vector instructions."""

from __future__ import annotations

import numpy as np
from numba import njit

ROUNDS = 10
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
K0, K1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)


@njit(cache=True)
def fill(words_RW, keys_R, step, purpose):
    """Write the words of all blocks; arguments as in `nsbench.storage.philox.fill_bits`, all unsigned."""
    for run in range(len(words_RW)):
        _fill_run(words_RW[run], np.uint32(keys_R[run]), np.uint32(keys_R[run] >> np.uint64(32)), step, purpose)


@njit(cache=True)
def _fill_run(words_W, key_0, key_1, step, purpose):
    n = len(words_W) // 4
    out_0, out_1, out_2, out_3 = words_W[:n], words_W[n : 2 * n], words_W[2 * n : 3 * n], words_W[3 * n :]
    for block in range(n):
        x0, x1, x2, x3 = np.uint32(block), step, purpose, np.uint32(0)
        k0, k1 = key_0, key_1
        for _ in range(ROUNDS):
            first, second = M0 * np.uint64(x0), M1 * np.uint64(x2)
            x0, x1 = np.uint32(np.uint32(second >> np.uint64(32)) ^ x1 ^ k0), np.uint32(second)
            x2, x3 = np.uint32(np.uint32(first >> np.uint64(32)) ^ x3 ^ k1), np.uint32(first)
            k0, k1 = np.uint32(k0 + K0), np.uint32(k1 + K1)
        out_0[block], out_1[block], out_2[block], out_3[block] = x0, x1, x2, x3
