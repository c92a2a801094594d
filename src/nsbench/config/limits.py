"""What no machine holds, refused before a job starts: products of settings that are each allowed alone.

Limits are a hundred times and more what config.yaml and the paper have, and beyond the memory of a
large GPU: nothing that could run is refused.
"""

from __future__ import annotations

from typing import Any

MOST_PARAMETERS = 20_000_000_000
"""Of one model: with gradients and AdamW's two moments 320 GB. A pack may have more, for it is halved where it must."""
MOST_ACTIVATIONS = 50_000_000_000
"""Numbers that one forward pass of one run keeps for its gradient, roughly: 200 GB."""
MOST_TOKENS = 2_000_000_000
"""Of one seed's data set: 16 GB."""


def parameters(model: Any, vocabulary: int) -> int:
    """Weights of a model (`nsbench.config.variant.Model`), but for biases and norms."""
    width = 4 * model.d_model if model.ffn_width is None else model.ffn_width
    return model.n_layers * model.d_model * (4 * model.d_model + 2 * width) + 2 * vocabulary * model.d_model


def activations(model: Any, batch: int, length: int, vocabulary: int) -> int:
    """Numbers that a forward pass keeps: of each position and layer its sublayers and attention weights; logits."""
    width = 4 * model.d_model if model.ffn_width is None else model.ffn_width
    layer = 8 * model.d_model + 2 * width + 2 * model.n_heads * length
    logits = vocabulary * (length if model.pooling == "none" else 1)
    return batch * (length * model.n_layers * layer + logits)


def check_model(model: Any) -> None:
    """Refuse a model that no machine trains. Raises ValueError naming the settings."""
    weights = parameters(model, 0)
    if weights > MOST_PARAMETERS:
        raise ValueError(
            f"d_model = {model.d_model}, n_layers = {model.n_layers} and ffn_width = "
            f"{'null' if model.ffn_width is None else model.ffn_width} make {weights:.3g} parameters; at most "
            f"{MOST_PARAMETERS:.0e} are allowed"
        )


def check(model: Any, batch: int, length: int, vocabulary: int, n_examples: int) -> None:
    """Refuse a variant's batch or data that no machine holds. Raises ValueError naming the settings."""
    kept = activations(model, batch, length, vocabulary)
    if kept > MOST_ACTIVATIONS:
        raise ValueError(
            f"training.batch_size = {batch} with sequences of {length} tokens and model.d_model = {model.d_model}, "
            f"n_layers = {model.n_layers}, n_heads = {model.n_heads} keeps {kept:.3g} numbers a step; at most "
            f"{MOST_ACTIVATIONS:.0e} are allowed"
        )
    tokens = n_examples * length
    if tokens > MOST_TOKENS:
        raise ValueError(
            f"data.n_train + n_val + n_test = {n_examples} examples of {length} tokens are {tokens:.3g} tokens; "
            f"at most {MOST_TOKENS:.0e} are allowed"
        )
