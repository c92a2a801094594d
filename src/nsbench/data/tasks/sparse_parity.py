"""Noisy sparse parity (section 6): the parity of k secret positions of n random bits.

Tokens 0 and 1 are the bits; 2 is CLS, where the layout has one. Training labels are flipped with
probability `label_noise`; validation and test labels are clean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsbench.config.variant import SparseParityData
from nsbench.data.baselines import lookup_rows
from nsbench.data.datasets import split
from nsbench.storage.seeding import stream

CLS = 2


def make(data: SparseParityData, seed: int) -> tuple[dict[str, Tensor], int, int]:
    """Uniform bit strings, the secret set and the labels, all drawn from the seed."""
    random = stream(seed, "data")
    secret = torch.from_numpy(random.permutation(data.n)[: data.k]).sort().values
    n_examples = data.n_train + data.n_val + data.n_test
    bits = torch.from_numpy(_strings(data, n_examples, random))
    labels = bits[:, secret].sum(1) % 2
    flipped = torch.from_numpy(random.random(data.n_train) < data.label_noise)
    labels[: data.n_train] ^= flipped.long()
    if data.layout == "bits_cls":
        bits = torch.cat([bits, torch.full((n_examples, 1), CLS)], dim=1)
    made = split({"train": data.n_train, "val": data.n_val, "test": data.n_test}, bits, labels)
    made["symbols"] = torch.arange(2)
    made["secret"] = secret
    return made, 3 if data.layout == "bits_cls" else 2, 2


def floor_rows(tensors: dict[str, Tensor], n_classes: int) -> list[dict[str, Any]]:
    """What a table of the training strings scores."""
    return lookup_rows(tensors)


def _strings(data: SparseParityData, n_examples: int, random: np.random.Generator) -> np.ndarray:
    """Bit strings (examples, n): independent ones, or none of them twice."""
    if data.split == "independent":
        return random.integers(0, 2, size=(n_examples, data.n))
    if data.n < 20:
        numbers = random.permutation(2**data.n)[:n_examples]
        return numbers[:, None] >> np.arange(data.n) & 1
    strings = np.empty((0, data.n), dtype=np.int64)
    while len(strings) < n_examples:
        strings = np.concatenate([strings, random.integers(0, 2, size=(n_examples, data.n))])
        _, first = np.unique(strings, axis=0, return_index=True)
        strings = strings[np.sort(first)]
    return strings[:n_examples]


def target_value(data: SparseParityData, measure: str, reduction: str, correlation: float) -> float:
    """A measure of the parity itself on uniform bits, where the noise has correlation kappa.

    Noise stability: E[chi(X) chi(Y)] = kappa^k for +-1 decisions (O'Donnell, 2014); one-hot
    probabilities agree where the parities do, so their dot product and cosine have the mean
    (1 + kappa^k) / 2. Average sensitivity: each of the k secret positions counts fully.
    """
    if measure == "average_sensitivity":
        return float(data.k)
    product = correlation**data.k
    return product if reduction == "decision" else (1 + product) / 2
