"""How many inputs are measured at a time."""

from __future__ import annotations

from collections.abc import Iterator

from nsbench.theory.domain import whole

MAX_VALUES = 2**20
"""Numbers that the inputs of one batch hold where nothing is said: 7 of 256 positions x 576 coordinates."""


def batches(
    n_inputs: int, values_per_input: int, batch_size: int | None = None, max_values: int = MAX_VALUES
) -> Iterator[slice]:
    """Slices that cover the inputs in order, each of `batch_size` of them, the last of what is left.

    Where `batch_size` is None, a batch has as many inputs as hold at most `max_values` numbers together. A model
    needs many times their memory: for each layer, and for its logits, which at 256 positions and 50,000 words
    are 50 MB of float32 an input. Raises ValueError naming batch_size below 1, or max_values that are fewer than
    one input's.
    """
    if batch_size is None:
        if max_values < values_per_input:
            raise ValueError(f"max_values = {max_values} is too small; one input takes {values_per_input} values")
        batch_size = max_values // max(1, values_per_input)
    size = whole("batch_size", batch_size, 1)
    return (slice(start, min(start + size, n_inputs)) for start in range(0, n_inputs, size))
