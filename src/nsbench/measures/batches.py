"""How many inputs are measured at a time."""

from __future__ import annotations

from collections.abc import Iterator


def batches(n_inputs: int, batch_size: int) -> Iterator[slice]:
    """Slices that cover the inputs in order, each of `batch_size` of them, the last of what is left."""
    return (slice(start, min(start + batch_size, n_inputs)) for start in range(0, n_inputs, batch_size))
