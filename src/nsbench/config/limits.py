"""Reject configurations that no machine holds: products of settings that are each allowed alone.

Limits are a hundred times and more what config.yaml and the paper have, and beyond the memory of a
large GPU: nothing that could run is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

MOST_WEIGHTS = 20_000_000_000
"""Of one model: with gradients and AdamW's two moments 320 GB. A pack may have more, for it is halved where it must."""
MOST_ACTIVATIONS = 50_000_000_000
"""Numbers that one forward pass of one run keeps for its gradient, roughly: 200 GB."""
MOST_TOKENS = 2_000_000_000
"""Of one seed's data set: 16 GB."""


def check_weights(n_weights: int, sizes: Mapping[str, int | list[int]]) -> None:
    """Refuse a model of so many weights. Raises ValueError naming its sizes."""
    if n_weights > MOST_WEIGHTS:
        raise ValueError(f"{_listed(sizes)} make {n_weights:.3g} parameters; at most {MOST_WEIGHTS:.0e} are allowed")


def check_activations(n_activations: int, batch: int, length: int, sizes: Mapping[str, int | list[int]]) -> None:
    """Refuse a step that keeps so many numbers. Raises ValueError naming the settings."""
    if n_activations > MOST_ACTIVATIONS:
        listed = _listed({f"model.{name}": value for name, value in sizes.items()})
        raise ValueError(
            f"training.batch_size = {batch} with sequences of {length} tokens and {listed} keeps {n_activations:.3g} "
            f"numbers a step; at most {MOST_ACTIVATIONS:.0e} are allowed"
        )


def check_tokens(n_examples: int, length: int) -> None:
    """Refuse data of so many tokens. Raises ValueError naming the settings."""
    tokens = n_examples * length
    if tokens > MOST_TOKENS:
        raise ValueError(
            f"data.n_train + n_val + n_test = {n_examples} examples of {length} tokens are {tokens:.3g} tokens; "
            f"at most {MOST_TOKENS:.0e} are allowed"
        )


def _listed(sizes: Mapping[str, int | list[int]]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sizes.items())
