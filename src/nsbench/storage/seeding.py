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
