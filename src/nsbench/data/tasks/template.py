"""Modular multiplication as a task. Change it to yours; methods below the line may be left out.

`nsbench.Task` documents all that a task may say; the tasks in `nsbench/data/tasks` are examples.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from nsbench import Task, task


@task("my_kind")
class MyKind(Task):
    """From a and b, find a b mod `modulus`; no pair (a, b) is in two splits."""

    # The settings of a variant's `data` in config.yaml, each with its range and its default.
    modulus: Annotated[int, Field(ge=2, le=1000)] = 31
    n_train: int = 600
    n_val: int = 150
    n_test: int = 150

    def make(self, seed: int) -> tuple[dict[str, Any], int, int]:
        """The data of one seed: arrays of whole numbers, the size of the vocabulary, and the number of classes."""
        from nsbench.storage.seeding import stream

        pairs = stream(seed, "data").permutation(self.modulus**2)  # the only random numbers: all come from the seed
        a, b = np.divmod(pairs, self.modulus)
        tokens, labels = np.stack([a, b], axis=1), a * b % self.modulus
        ends = np.cumsum([self.n_train, self.n_val, self.n_test])
        parts = zip(("train", "val", "test"), (0, *ends[:2]), ends, strict=True)
        made = {"symbols": np.arange(self.modulus)}  # what noise redraws from
        for name, start, end in parts:
            made |= {f"{name}_tokens": tokens[start:end], f"{name}_labels": labels[start:end]}
        return made, self.modulus, self.modulus

    def sequence_length(self) -> int:
        """Tokens of an example."""
        return 2

    def symbol_count(self) -> int:
        """Symbols of the task, special ones left out."""
        return self.modulus

    # --- may be left out ---

    def target_value(self, measure: str, reduction: str, correlation: float) -> float:
        """What a measure gives for the true function on uniform inputs; NaN where you do not know it.

        With b kept, gcd(b, K) of the K values of a give the same product: that of `same`, on average. Stability: noise
        keeps both factors with weight kappa^2, one, or none; then the products agree as two independent ones do.
        """
        same = np.gcd(np.arange(self.modulus), self.modulus).mean() / self.modulus
        if measure == "average_sensitivity":
            return float(2 * (1 - same) * self.modulus / (self.modulus - 1))
        if measure == "noise_stability" and reduction != "decision":
            numbers = np.arange(self.modulus)
            shares = np.bincount((numbers[:, None] * numbers % self.modulus).ravel()) / self.modulus**2
            both, one = correlation**2, 2 * correlation * (1 - correlation)
            return float(both + one * same + (1 - correlation) ** 2 * (shares**2).sum())
        return math.nan
