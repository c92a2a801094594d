"""A mixture of frequent and sparse tokens that tell the same label; at test they can be made to disagree.

*Transformers Learn Low Sensitivity Functions* (ICLR 2025, section 3.1) trains on such sequences to see which of the two
a model uses. Its parameters are not known to us: the law and the sizes below are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from nsbench.data.tasks.base import SPLITS, Arrays, Examples, Task
from nsbench.data.tasks.registry import task

Count = Annotated[int, Field(ge=1, le=4096)]


@task("token_mixture")
class TokenMixture(Task):
    """Sequences whose label is told by many frequent tokens and, as surely, by few sparse ones.

    With f `frequent_symbols` and s `sparse_symbols` for each class c in {0, 1}, the ids c f ... c f + f - 1 are the
    frequent symbols of class c, 2 f + c s ... 2 f + c s + s - 1 its sparse ones, and the `other_symbols` ids after
    them are of no class. The law of an example: its label y is 0 or 1 with equal chances; positions are dealt uniformly
    at random, `n_agreeing` of them to frequent symbols of class y, `n_frequent` - `n_agreeing` to frequent symbols of
    the other class, `n_sparse` to sparse symbols of class y, and the rest to the other symbols; each position's symbol
    is uniform among those it may have, independently of the others.

    So the majority of the frequent tokens (rule `frequent`) and that of the sparse ones (rule `sparse`) are both right
    for each training, validation and test example. In a swapped example the frequent tokens are drawn for y and the
    sparse ones for 1 - y: there exactly one rule gives y, that of the frequent tokens.

    The rule `frequent` is the less sensitive one: where 2 n_agreeing - n_frequent is at least 2, no redrawn token
    reverses its majority, and at 2 it may leave a tie; the rule `sparse` hangs on `n_sparse` tokens. With 9 of 12
    positions agreeing, an attention layer, an MLP and an LSTM all followed the frequent tokens, so that the swap told
    nothing; with 11 of 20 the answers vary, between architectures and between seeds.
    """

    title = "token mixture"

    length: Count = 40
    """T: tokens of an example."""
    n_frequent: Count = 20
    """Positions with frequent symbols."""
    n_agreeing: Count = 11
    """Of these, positions with symbols of the label's class; more than half."""
    n_sparse: Count = 1
    """Positions with sparse symbols."""
    frequent_symbols: Count = 4
    """f: frequent symbols of each class."""
    sparse_symbols: Count = 4
    """s: sparse symbols of each class."""
    other_symbols: Count = 24
    """Symbols of no class."""
    n_train: Examples = 5000
    n_val: Examples = 1000
    n_test: Examples = 1000
    """Also the number of swapped examples."""

    @model_validator(mode="after")
    def _fits(self) -> TokenMixture:
        if self.n_frequent + self.n_sparse > self.length:
            raise ValueError(
                f"n_frequent + n_sparse = {self.n_frequent + self.n_sparse} is more than length = {self.length}; "
                f"at most {self.length} is allowed"
            )
        if not self.n_frequent < 2 * self.n_agreeing <= 2 * self.n_frequent:
            raise ValueError(
                f"n_agreeing = {self.n_agreeing} is no majority of n_frequent = {self.n_frequent} positions; "
                f"{self.n_frequent // 2 + 1} ... {self.n_frequent} are allowed"
            )
        return self

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Examples, all drawn independently, and `swapped_tokens` (n_test, T) with what frequent tokens tell, in
        `swapped_labels`: a model's accuracy there is the share on which it follows these; on the rest, the sparse ones.
        """
        from nsbench.storage.seeding import stream

        random, made = stream(seed, "data"), {}
        for name in (*SPLITS, "swapped"):
            n = self.n_test if name == "swapped" else getattr(self, f"n_{name}")
            labels = random.integers(0, 2, n)
            sparse = 1 - labels if name == "swapped" else labels
            made |= {f"{name}_tokens": self._drawn(random, labels, sparse), f"{name}_labels": labels}
        made["symbols"] = np.arange(self.symbol_count())
        return made, self.symbol_count(), 2

    def _drawn(self, random: np.random.Generator, frequent: np.ndarray, sparse: np.ndarray) -> np.ndarray:
        """Sequences whose frequent and whose sparse tokens are of these classes (N): (N, T)."""
        first_sparse, first_other = 2 * self.frequent_symbols, 2 * (self.frequent_symbols + self.sparse_symbols)
        kinds = [
            (frequent * self.frequent_symbols, self.frequent_symbols, self.n_agreeing),
            ((1 - frequent) * self.frequent_symbols, self.frequent_symbols, self.n_frequent - self.n_agreeing),
            (first_sparse + sparse * self.sparse_symbols, self.sparse_symbols, self.n_sparse),
            (np.full_like(frequent, first_other), self.other_symbols, self.length - self.n_frequent - self.n_sparse),
        ]
        columns = [start[:, None] + random.integers(0, n, (len(start), size)) for start, n, size in kinds]
        return random.permuted(np.concatenate(columns, axis=1), axis=1)

    def votes(self, tokens: np.ndarray, rule: str) -> np.ndarray:
        """Tokens of class 1 less those of class 0, of the symbols that a rule counts: (N), int64.

        rule: `frequent` or `sparse`. Above 0 the rule answers 1, below 0 it answers 0; at 0 it has no answer.
        """
        first, n = {
            "frequent": (0, self.frequent_symbols),
            "sparse": (2 * self.frequent_symbols, self.sparse_symbols),
        }[rule]
        of_class = (tokens - first) // n
        return (of_class == 1).sum(-1) - (of_class == 0).sum(-1)

    def sequence_length(self) -> int:
        return self.length

    def symbol_count(self) -> int:
        return 2 * (self.frequent_symbols + self.sparse_symbols) + self.other_symbols

    def class_count(self) -> int:
        return 2

    def floor_rows(self, arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
        """What each rule scores: 1, by the law of the examples."""
        from nsbench.data.baselines import rule_rows

        def answers(rule: str) -> Callable[[np.ndarray], np.ndarray]:
            return lambda tokens: (self.votes(tokens, rule) > 0).astype(np.int64)

        return [row for rule in ("frequent", "sparse") for row in rule_rows(arrays, rule, answers(rule))]
