"""Modular addition (section 6, Table 2): from a and b, find (a + b) mod K.

Tokens 0 ... K-1 are the residues; K ... K+4 are PAD, BOS, EOS, + and =, which makes the vocabulary
K + 5 of Table 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsbench.config.base import ConfigError
from nsbench.config.variant import ModularAdditionData
from nsbench.data.baselines import lookup_rows
from nsbench.data.datasets import split
from nsbench.storage.seeding import stream

PAD, BOS, EOS, PLUS, EQUALS = range(5)
TOKENS = ("train_tokens", "val_tokens", "test_tokens")


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
    # Sorting moves the summands to the front: + and = have larger ids.
    return lookup_rows({**tensors, **{name: tensors[name].sort().values for name in TOKENS}})


def _mirrored_together(shuffled: np.ndarray, modulus: int, sizes: dict[str, int]) -> np.ndarray:
    """The pairs in an order in which splits of the given sizes separate no pair from its mirror image.

    Unordered pairs are taken in the order of their first members. Two that do not fit into what is left of a split
    wait for the next. A split of odd size needs a pair (a, a), so enough of these are kept for the odd splits to come.
    """
    n_odd, n_equal = sum(size % 2 for size in sizes.values()), modulus
    if n_odd > n_equal:
        raise ConfigError(
            f"data.split = 'unordered_pairs': each split of odd size needs a pair (a, a), and modulus {modulus} has "
            f"{n_equal} for {n_odd} of them; at most {n_equal} odd sizes are allowed"
        )
    mirrored = shuffled % modulus * modulus + shuffled // modulus
    unordered = np.minimum(shuffled, mirrored)
    _, first = np.unique(unordered, return_index=True)
    waiting = unordered[np.sort(first)].tolist()
    order: list[int] = []
    for size in sizes.values():
        n_odd -= size % 2
        left, later = size, []
        for pair in waiting:
            twin = pair % modulus * modulus + pair // modulus
            if pair != twin and left >= 2:
                order += [pair, twin]
                left -= 2
            elif pair == twin and left >= 1 and n_equal > n_odd + (left - 1) % 2:
                order.append(pair)
                left, n_equal = left - 1, n_equal - 1
            else:
                later.append(pair)
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
