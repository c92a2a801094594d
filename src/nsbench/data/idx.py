"""The idx format of MNIST and its kin: an array of bytes behind a header of its axes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from nsbench.config.base import ConfigError

BYTES = 0x08
"""The format's code of unsigned bytes."""


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array as an uncompressed idx file: two zeros, type, number of axes, their lengths, and the values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, BYTES, array.ndim]) + sizes + np.ascontiguousarray(array, dtype=np.uint8).tobytes()


def read_idx(content: bytes, path: Path | str) -> np.ndarray:
    """The uint8 array of an idx file, whose content may be compressed by gzip. Raises ConfigError naming the path."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path}: is no whole gzip file ({error}); get it again") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, BYTES]):
        raise ConfigError(f"{path}: is no idx file of bytes; one that starts with 00 00 08 is allowed")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ConfigError(f"{path}: has {len(content)} bytes, and its header makes {expected}; get it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
