"""Modular addition (section 6, Table 2): from a and b, find (a + b) mod K.

Tokens 0 ... K-1 are the residues; K ... K+4 are PAD, BOS, EOS, + and =, which makes the vocabulary
K + 5 of Table 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsbench.closed import ConfigError
from nsbench.datasets import split
from nsbench.floors import lookup_rows
from nsbench.seeding import stream
from nsbench.settings import ModularAdditionData

PAD, BOS, EOS, PLUS, EQUALS = range(5)


def make(data: ModularAdditionData, seed: int) -> tuple[dict[str, Tensor], int, int]:
    """Ordered pairs (a, b), shuffled and cut into train, validation and test without overlap."""
    modulus = data.modulus
    sizes = {"train": data.n_train, "val": data.n_val, "test": data.n_test}
    shuffled = stream(seed, "data").permutation(modulus**2)
    if data.split == "unordered_pairs":
        shuffled = _mirrored_together(shuffled, modulus, sizes)
    pairs = torch.from_numpy(shuffled[: sum(sizes.values())])
    a, b = pairs // modulus, pairs % modulus
    columns = [a, b]
    if data.layout == "a_plus_b_eq":
        columns = [a, torch.full_like(a, modulus + PLUS), b, torch.full_like(a, modulus + EQUALS)]
    made = split(sizes, torch.stack(columns, dim=1), (a + b) % modulus)
    made["symbols"] = torch.arange(modulus)
    return made, modulus + 5, modulus


def floor_rows(tensors: dict[str, Tensor], n_classes: int) -> list[dict[str, Any]]:
    """What a table of the training pairs scores that knows that the summands' order does not matter."""
    n_symbols = len(tensors["symbols"])
    return lookup_rows(tensors, lambda tokens_NT: np.sort(tokens_NT[:, (tokens_NT < n_symbols).all(0)]))


def _mirrored_together(shuffled: np.ndarray, modulus: int, sizes: dict[str, int]) -> np.ndarray:
    """The pairs in an order in which no mirrored pair is cut apart by splits of the given sizes.

    Unordered pairs come in the order of their first member; one of two that does not fit into what is left of a split
    waits for the next, and where an odd number of places is left, a pair (a, a) takes one.
    """
    mirrored = shuffled % modulus * modulus + shuffled // modulus
    unordered = np.minimum(shuffled, mirrored)
    _, first = np.unique(unordered, return_index=True)
    waiting = unordered[np.sort(first)].tolist()
    order: list[int] = []
    for size in sizes.values():
        left, later = size, []
        for pair in waiting:
            twin = pair % modulus * modulus + pair // modulus
            both = [pair] if pair == twin else [pair, twin]
            if len(both) <= left:
                order += both
                left -= len(both)
            else:
                later.append(pair)
        if left:
            raise ConfigError(
                f"data.split = 'unordered_pairs': a pair and its mirror image leave a place of {size} empty, and no "
                "pair (a, a) is left for it; an even size is allowed"
            )
        waiting = later
    return np.array(order)


def target_value(data: ModularAdditionData, measure: str, reduction: str, correlation: float) -> float:
    """A measure of the sum itself on uniform pairs, where the noise has correlation kappa.

    Noise stability of one-hot probabilities (dot product and cosine): the chance of the same sum,
    (1 + (K - 1) kappa^2) / K, since every character of the sum but the trivial one keeps kappa for
    each summand. Average sensitivity: a change of either summand changes the sum, so 2.
    """
    if measure == "average_sensitivity":
        return 2.0
    return (1 + (data.modulus - 1) * correlation**2) / data.modulus
