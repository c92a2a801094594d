"""Noisy sparse parity (section 6): the parity of k secret positions of n random bits.

Tokens 0 and 1 are the bits; 2 is CLS, where the layout has one. Training labels are flipped with
probability `label_noise`; validation and test labels are clean.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from nsbench.config.base import Real
from nsbench.data.tasks.base import Arrays, Examples, Task, split
from nsbench.data.tasks.registry import task

CLS = 2
LEAST_SHARE = 0.1
"""Smallest share of validation inputs seen in training that counts as a leak."""


@task("sparse_parity")
class SparseParity(Task):
    """Random bit strings labelled by the parity of a secret set of positions (section 6)."""

    title = "noisy sparse parity"

    n: Annotated[int, Field(ge=1, le=4096)] = 20
    """Length of the bit string."""
    k: Annotated[int, Field(ge=1, le=4096)] = 2
    """Size of the secret set, drawn from the seed."""
    label_noise: Annotated[Real, Field(ge=0.0, lt=0.5)] = 0.1
    """eta: probability that a training label is flipped; validation and test labels are clean."""
    layout: Literal["bits", "bits_cls"] = "bits"
    """The tokens of an example: the bits, or the bits and a closing CLS token."""
    split: Literal["independent", "apart"] = "independent"
    """`independent`: strings are drawn with replacement, so that for small n validation shares most of its own with
    training; `apart`: no string occurs twice."""
    n_train: Examples = 5000
    n_val: Examples = 1000
    n_test: Examples = 1000

    @model_validator(mode="after")
    def _fits(self) -> SparseParity:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} is more than n = {self.n}; k may be 1 ... n")
        wanted = self.n_train + self.n_val + self.n_test
        if self.split == "apart" and self.n < 63 and wanted > 2**self.n:
            raise ValueError(
                f"n_train + n_val + n_test = {wanted} is more than the {2**self.n} strings of n = {self.n} bits, and "
                f"split = 'apart' uses each once; at most {2**self.n} is allowed"
            )
        return self

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Uniform bit strings, the secret set and the labels, all drawn from the seed."""
        from nsbench.storage.seeding import stream

        random = stream(seed, "data")
        secret = np.sort(random.permutation(self.n)[: self.k])
        bits = self._strings(random)
        labels = bits[:, secret].sum(1) % 2
        labels[: self.n_train] ^= random.random(self.n_train) < self.label_noise
        if self.layout == "bits_cls":
            bits = np.pad(bits, ((0, 0), (0, 1)), constant_values=CLS)
        made = split({"train": self.n_train, "val": self.n_val, "test": self.n_test}, bits, labels)
        made |= {"symbols": np.arange(2), "secret": secret}
        return made, 3 if self.layout == "bits_cls" else 2, 2

    def sequence_length(self) -> int:
        return self.n + (self.layout == "bits_cls")

    def symbol_count(self) -> int:
        return 2

    def target_value(self, measure: str, reduction: str, correlation: float) -> float:
        """A measure of the parity itself on uniform bits, where the noise has correlation kappa.

        Noise stability: E[chi(X) chi(Y)] = kappa^k for +-1 decisions (O'Donnell, 2014); one-hot
        probabilities agree where the parities do, so their dot product and cosine have the mean
        (1 + kappa^k) / 2. Average sensitivity: each of the k secret positions counts fully.
        """
        if measure == "average_sensitivity":
            return float(self.k)
        if measure != "noise_stability":
            return math.nan
        product = correlation**self.k
        return product if reduction == "decision" else (1 + product) / 2

    def leaks(self, model: Any) -> list[str]:
        """The expected share of validation strings that are in training too, where it is large."""
        # 1 - (1 - 2^-n)^n_train
        share = -math.expm1(self.n_train * math.log1p(-(2.0**-self.n))) if self.split == "independent" else 0.0
        return [f"about {share:.0%} of validation strings are in training too"] if share >= LEAST_SHARE else []

    def _strings(self, random: np.random.Generator) -> np.ndarray:
        """Bit strings (examples, n): independent ones, or none of them twice."""
        n_examples = self.n_train + self.n_val + self.n_test
        if self.split == "independent":
            return random.integers(0, 2, size=(n_examples, self.n))
        if self.n < 20:
            numbers = random.permutation(2**self.n)[:n_examples]
            return numbers[:, None] >> np.arange(self.n) & 1
        strings = np.empty((0, self.n), dtype=np.int64)
        while len(strings) < n_examples:
            strings = np.concatenate([strings, random.integers(0, 2, size=(n_examples, self.n))])
            _, first = np.unique(strings, axis=0, return_index=True)
            strings = strings[np.sort(first)]
        return strings[:n_examples]
