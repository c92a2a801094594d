"""Philox4x32-10 on a GPU, in Triton, whose own `philox` it is."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCKS = 512


def fill_on_gpu(words_RW: Tensor, keys_R: Tensor, step: Tensor, purpose: int) -> None:
    """Write the words of all blocks; arguments as in `nsbench.storage.philox.fill_bits`, step an int64 tensor."""
    n_runs, n_blocks = len(words_RW), words_RW.shape[1] // 4
    _fill[triton.cdiv(n_blocks, BLOCKS), n_runs](words_RW, keys_R, step, purpose, n_blocks, BLOCKS)


@triton.jit
def _fill(words_RW, keys_R, step, purpose, n_blocks, BLOCKS: tl.constexpr):
    run = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    zero = tl.zeros_like(block)
    step_word, purpose_word = (zero + tl.load(step)).to(tl.int32), (zero + purpose).to(tl.int32)
    words = tl.philox(tl.load(keys_R + run), block, step_word, purpose_word, zero)
    for place in tl.static_range(4):
        where = words_RW + (4 * run + place) * n_blocks + block
        tl.store(where, words[place].to(tl.int32, bitcast=True), mask=block < n_blocks)
