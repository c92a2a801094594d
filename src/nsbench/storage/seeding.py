"""Named random streams: every random number of a run is a function of its seed and a name.

`stream(seed, "batches", epoch)` always gives the same numbers, whatever was drawn before, in which
process, and in which order. Streams keyed by step make an interrupted run resume exactly. The arm
is never part of a name, so arms that share a seed share data, initial weights and batch order.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from nsbench.config.canonical import canonical_json


def one_thread() -> None:
    """Let torch compute on one thread: how sums round differs with the number of threads, and so with that of cores."""
    torch.set_num_threads(1)


def stream_key(seed: int, *name: str | int) -> int:
    """The 64-bit key of a named stream."""
    text = canonical_json([seed, *name])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """A numpy generator for a named stream."""
    return np.random.Generator(np.random.SFC64(stream_key(seed, *name)))


def torch_stream(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for a named stream."""
    return torch.Generator(device=device).manual_seed(stream_key(seed, *name) >> 1)


def fill_bits(out: torch.Tensor, seed: int, *name: str | int) -> None:
    """Fill a contiguous int16 tensor with uniform random bits of a named stream, in place.

    On the CPU numpy's SFC64 makes them, several times faster than torch's generator; on another
    device torch's generator of that device does, so the bits differ between kinds of device.
    """
    if out.device.type != "cpu":
        out.random_(-(2**15), 2**15, generator=torch_stream(seed, *name, device=out.device))
        return
    words = -(-out.numel() // 4)
    bits = stream(seed, *name).bit_generator.random_raw(words).view(np.int16)
    out.copy_(torch.from_numpy(bits[: out.numel()]).view(out.shape))
