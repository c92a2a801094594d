"""Modular addition (section 6, Table 2): from a and b, find (a + b) mod K.

Tokens 0 ... K-1 are the residues; K ... K+4 are PAD, BOS, EOS, + and =, which makes the vocabulary
K + 5 of Table 2.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from nsbench.config.base import ConfigError
from nsbench.data.tasks.base import SPLITS, Arrays, Examples, Task, split
from nsbench.data.tasks.registry import task

PLUS, EQUALS = 3, 4
LEAST_SHARE = 0.1
"""Smallest share of validation inputs seen in training that counts as a leak."""


@task("modular_addition")
class ModularAddition(Task):
    """Pairs (a, b) with label (a + b) mod `modulus` (section 6; Table 2)."""

    title = "modular addition"

    modulus: Annotated[int, Field(ge=2, le=4096)] = 113
    """K: the number of residues and of classes."""
    layout: Literal["a_plus_b_eq", "a_b"] = "a_plus_b_eq"
    """The tokens of an example: `a + b =` (four) or `a b` (two)."""
    split: Literal["pairs", "unordered_pairs"] = "pairs"
    """`pairs`: no ordered pair is in two splits, but a mirrored one, (b, a) for (a, b), may be; `unordered_pairs`: a
    pair and its mirror image are in the same split."""
    n_train: Examples = 2000
    n_val: Examples = 200
    n_test: Examples = 200

    @model_validator(mode="after")
    def _fits(self) -> ModularAddition:
        wanted, have = self.n_train + self.n_val + self.n_test, self.modulus**2
        if wanted > have:
            raise ValueError(
                f"n_train + n_val + n_test = {wanted} is more than the {have} pairs of modulus {self.modulus}; "
                f"at most {have} is allowed"
            )
        return self

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Ordered pairs (a, b), shuffled and cut into train, validation and test without overlap."""
        from nsbench.storage.seeding import stream

        modulus, sizes = self.modulus, {name: getattr(self, f"n_{name}") for name in SPLITS}
        shuffled = stream(seed, "data").permutation(modulus**2)
        if self.split == "unordered_pairs":
            shuffled = _mirrored_together(shuffled, modulus, sizes)
        a, b = np.divmod(shuffled[: sum(sizes.values())], modulus)
        columns = [a, b]
        if self.layout == "a_plus_b_eq":
            columns = [a, np.full_like(a, modulus + PLUS), b, np.full_like(a, modulus + EQUALS)]
        made = split(sizes, np.stack(columns, axis=1), (a + b) % modulus)
        made["symbols"] = np.arange(modulus)
        return made, modulus + 5, modulus

    def sequence_length(self) -> int:
        return {"a_b": 2, "a_plus_b_eq": 4}[self.layout]

    def symbol_count(self) -> int:
        return self.modulus

    def target_value(self, measure: str, reduction: str, correlation: float) -> float:
        """A measure of the sum itself on uniform pairs, where the noise has correlation kappa.

        Noise stability of one-hot probabilities (dot product and cosine): the chance of the same sum,
        (1 + (K - 1) kappa^2) / K, since every character of the sum but the trivial one keeps kappa for
        each summand. Average sensitivity: a change of either summand changes the sum, so 2.
        """
        if measure == "average_sensitivity":
            return 2.0
        return (1 + (self.modulus - 1) * correlation**2) / self.modulus if measure == "noise_stability" else math.nan

    def floor_rows(self, arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
        """What a table of the training pairs scores that knows that the summands' order does not matter."""
        # Sorting moves the summands to the front: + and = have larger ids.
        ordered = {f"{name}_tokens": np.sort(arrays[f"{name}_tokens"]) for name in SPLITS}
        return super().floor_rows({**arrays, **ordered}, n_classes)

    def leaks(self, model: Any) -> list[str]:
        """The expected share of validation pairs whose mirror image is in training, where it is large."""
        # A pair (a, b) has a mirror image with probability (K - 1) / K, one of the K^2 - 1 other pairs.
        share = self.n_train / (self.modulus * (self.modulus + 1)) if self.split == "pairs" else 0.0
        return [f"about {share:.0%} of validation pairs stand mirrored in training"] if share >= LEAST_SHARE else []


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
