"""Counter-based random numbers: every number of a run is a function of its key, a step, a stream and a place.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), makes a block of four words of 32
bits from a counter of four and a key of two. Nothing is carried from one call to the next, so the runs of a stack are
filled by one kernel, and a CPU and a GPU make the same numbers. Shape suffixes: R run, W word of 32 bits, N number.
"""

from __future__ import annotations

import functools
import logging
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from nsbench.storage.seeding import stream_key

logger = logging.getLogger(__name__)

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
BLOCK_BYTES = 16


class Stream(IntEnum):
    """What a run draws numbers for: at most 256 streams."""

    DROPOUT = 0
    NOISY_DROPOUT = 1
    NOISE = 2


def run_keys(seeds: list[int], device: torch.device | str = "cpu") -> Tensor:
    """The 64-bit key of each run, (R) int64: a function of its seed alone."""
    return torch.from_numpy(np.array([stream_key(seed) for seed in seeds], np.uint64).view(np.int64)).to(device)


def fill_bits(out_RN: Tensor, keys_R: Tensor, step: int | Tensor, stream: Stream, draw: int = 0) -> None:
    """Fill a contiguous tensor of integers with uniform random bits, in place; a row is one run's.

    keys_R: of `run_keys`, on the device of `out_RN`. step: below 2^32; on a GPU also an int64 tensor without axes
    there, so that a CUDA graph can move it on. draw: below 2^24. Block b of a run has the counter (b, step, stream |
    draw << 8, 0), and its word w stands w/4 down the row: kernels then write four contiguous streams.

    Raises ValueError for rows that are no multiple of 16 bytes.
    """
    row_bytes = out_RN.shape[1] * out_RN.element_size()
    if row_bytes % BLOCK_BYTES:
        raise ValueError(f"rows of {row_bytes} bytes; a multiple of {BLOCK_BYTES} is allowed")
    if not out_RN.numel() or out_RN.is_meta:
        return
    words_RW, purpose = out_RN.view(torch.int32), stream | draw << 8
    if out_RN.device.type == "cuda":
        from nsbench.storage.philox_triton import fill_on_gpu

        fill_on_gpu(words_RW, keys_R, torch.as_tensor(step, device=out_RN.device), purpose)
        return
    words, keys = words_RW.numpy().view(np.uint32), keys_R.numpy().view(np.uint64)
    if has_numba():
        from nsbench.storage.philox_numba import fill

        fill(words, keys, np.uint32(step), np.uint32(purpose))
        return
    for run_words, key in zip(words, keys, strict=True):
        counter = [np.arange(run_words.size // 4, dtype=np.uint32), int(step), purpose, 0]
        run_words[:] = np.concatenate(philox(counter, (key & 0xFFFFFFFF, key >> 32)))


@functools.cache
def has_numba() -> bool:
    """Whether kernels for a CPU can be compiled. Without them other code does the same, slower, which is told once."""
    try:
        import nsbench.storage.philox_numba  # noqa: F401
    except (ImportError, RuntimeError) as error:
        # A RuntimeError: there is no folder to keep what is compiled, neither beside the source nor at home.
        logger.warning("numba cannot be used (%s): training on a CPU takes about twice as long", error)
        return False
    return True


def random_words(keys_R: Tensor, n_words: int, step: int | Tensor, stream: Stream, draw: int = 0) -> Tensor:
    """Words uniform over 0 ... 2^32 - 1, (R, n_words) int64, as `fill_bits` makes them."""
    n_filled = -(-n_words // 4) * 4
    words_RW = torch.empty(len(keys_R), n_filled, dtype=torch.int32, device=keys_R.device)
    fill_bits(words_RW, keys_R, step, stream, draw)
    return words_RW[:, :n_words].long() & 0xFFFFFFFF


def philox(counter: list, key: tuple) -> list[np.ndarray]:
    """The four words of each block, in numpy: the definition that the kernels are tested by.

    counter: four, key: two words, numbers or arrays of them.
    """
    x = [np.asarray(word, np.uint64) for word in counter]
    k = [np.asarray(word, np.uint64) for word in key]
    for number in range(ROUNDS):
        now = [(start + np.uint64(number * by)) & 0xFFFFFFFF for start, by in zip(k, KEY_STEPS, strict=True)]
        first, second = (x[place] * np.uint64(by) for place, by in zip((0, 2), MULTIPLIERS, strict=True))
        x = [(second >> 32) ^ x[1] ^ now[0], second & 0xFFFFFFFF, (first >> 32) ^ x[3] ^ now[1], first & 0xFFFFFFFF]
    return [word.astype(np.uint32) for word in np.broadcast_arrays(*x)]
