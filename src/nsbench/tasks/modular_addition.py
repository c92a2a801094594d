"""Modular addition (section 6, Table 2): from a and b, find (a + b) mod K.

Tokens 0 ... K-1 are the residues; K ... K+4 are PAD, BOS, EOS, + and =, which makes the vocabulary
K + 5 of Table 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.datasets import split
from nsbench.seeding import stream
from nsbench.settings import ModularAdditionData

PAD, BOS, EOS, PLUS, EQUALS = range(5)


def make(data: ModularAdditionData, seed: int) -> tuple[dict[str, Tensor], int, int]:
    """Ordered pairs (a, b), shuffled and cut into train, validation and test without overlap."""
    modulus = data.modulus
    chosen = stream(seed, "data").permutation(modulus**2)[: data.n_train + data.n_val + data.n_test]
    pairs = torch.from_numpy(chosen)
    a, b = pairs // modulus, pairs % modulus
    columns = [a, b]
    if data.layout == "a_plus_b_eq":
        columns = [a, torch.full_like(a, modulus + PLUS), b, torch.full_like(a, modulus + EQUALS)]
    sizes = {"train": data.n_train, "val": data.n_val, "test": data.n_test}
    made = split(sizes, torch.stack(columns, dim=1), (a + b) % modulus)
    made["symbols"] = torch.arange(modulus)
    return made, modulus + 5, modulus


def target_value(data: ModularAdditionData, measure: str, reduction: str, correlation: float) -> float:
    """A measure of the sum itself on uniform pairs, where the noise has correlation kappa.

    Noise stability of one-hot probabilities (dot product and cosine): the chance of the same sum,
    (1 + (K - 1) kappa^2) / K, since every character of the sum but the trivial one keeps kappa for
    each summand. Average sensitivity: a change of either summand changes the sum, so 2.
    """
    if measure == "average_sensitivity":
        return 2.0
    return (1 + (data.modulus - 1) * correlation**2) / data.modulus
