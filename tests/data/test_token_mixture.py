"""A mixture of frequent and sparse tokens: the law of its examples, its two rules, and the swap at test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsbench.config.base import ConfigError, parse
from nsbench.data.datasets import read_dataset
from nsbench.data.tasks.token_mixture import TokenMixture
from nsbench.schemas.training import FLOORS
from nsbench.storage.parquet import read_table
from tests.conftest import write_datasets

SPLITS = ("train", "val", "test", "swapped")
SMALL = {
    "length": 9,
    "n_frequent": 5,
    "n_agreeing": 4,
    "n_sparse": 2,
    "frequent_symbols": 2,
    "sparse_symbols": 3,
    "other_symbols": 4,
    "n_train": 400,
    "n_val": 300,
    "n_test": 200,
}
FREQUENT, SPARSE = ({0: {0, 1}, 1: {2, 3}}, {0: {4, 5, 6}, 1: {7, 8, 9}})
"""Class -> its symbols, with the sizes of SMALL; 10 ... 13 are of no class."""


def count(row: list[int], symbols: set[int]) -> int:
    return sum(token in symbols for token in row)


@pytest.mark.parametrize("seed", [0, 7])
def test_every_example_has_its_tokens_of_each_kind(seed: int) -> None:
    task = TokenMixture(**SMALL)
    made, vocabulary, n_classes = task.make(seed)
    assert (vocabulary, n_classes) == (14, 2) == (task.symbol_count(), task.class_count())
    assert made["symbols"].tolist() == list(range(14))
    for split in SPLITS:
        tokens, labels = made[f"{split}_tokens"].tolist(), made[f"{split}_labels"].tolist()
        assert len(tokens) == len(labels) == (200 if split == "swapped" else SMALL[f"n_{split}"])
        for row, label in zip(tokens, labels, strict=True):
            of_sparse = 1 - label if split == "swapped" else label
            found = [count(row, symbols) for symbols in (FREQUENT[label], FREQUENT[1 - label], SPARSE[of_sparse])]
            assert found == [4, 1, 2]
            assert count(row, {10, 11, 12, 13}) == 2
            assert len(row) == 9 == task.sequence_length()


def test_positions_symbols_and_labels_are_uniform_and_seeds_differ() -> None:
    task = TokenMixture(**SMALL | {"n_train": 20_000})
    tokens, labels = (task.make(1)[0][f"train_{kind}"] for kind in ("tokens", "labels"))
    n, error = len(labels), 4.5

    def is_share(found: Any, share: float) -> bool:
        return bool((np.abs(np.asarray(found) - share) < error * np.sqrt(share * (1 - share) / n)).all())

    assert is_share(labels.mean(), 0.5)
    # 4 of 9 positions for symbols 0 and 1 or 2 and 3 of the own class, 1 for the other, 2 for sparse, 2 for others.
    for label in (0, 1):
        rows = tokens[labels == label]
        for symbols, share in (
            (FREQUENT[label], 4 / 2),
            (FREQUENT[1 - label], 1 / 2),
            (SPARSE[label], 2 / 3),
            (SPARSE[1 - label], 0.0),
            ({10, 11, 12, 13}, 2 / 4),
        ):
            for symbol in symbols:
                shares = (rows == symbol).mean(0)
                wanted = share / 9
                assert np.abs(shares - wanted).max() <= error * np.sqrt(wanted * (1 - wanted) / len(rows))
    # Positions of the two sparse tokens are as those of any two.
    both = (np.isin(tokens[:, 0], range(4, 10)) & np.isin(tokens[:, 5], range(4, 10))).mean()
    assert is_share(both, 2 / 9 * 1 / 8)
    again, other = TokenMixture(**SMALL).make(3)[0], TokenMixture(**SMALL).make(4)[0]
    made = TokenMixture(**SMALL).make(3)[0]
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert not any(np.array_equal(made[f"{split}_tokens"], other[f"{split}_tokens"]) for split in SPLITS)


def test_both_rules_are_right_but_on_swapped_examples_where_they_disagree() -> None:
    task = TokenMixture(**SMALL)
    made, *_ = task.make(0)
    for split in SPLITS:
        tokens, labels = made[f"{split}_tokens"], made[f"{split}_labels"]
        for rule, symbols in (("frequent", FREQUENT), ("sparse", SPARSE)):
            votes = task.votes(tokens, rule)
            assert votes.tolist() == [count(row, symbols[1]) - count(row, symbols[0]) for row in tokens.tolist()]
            assert abs(votes).min() == abs(votes).max() == {"frequent": 3, "sparse": 2}[rule]
            assert ((votes > 0) == labels).all() == (rule == "frequent" or split != "swapped")
            assert ((votes > 0) != labels).all() == (rule == "sparse" and split == "swapped")


@pytest.mark.parametrize(
    ("n_frequent", "n_agreeing", "least"), [(5, 5, 3), (5, 4, 1), (6, 4, 0), (5, 3, -1)], ids=["5", "3", "2", "1"]
)
def test_one_redrawn_token_changes_the_frequent_rule_only_where_its_majority_is_small(
    n_frequent: int, n_agreeing: int, least: int
) -> None:
    """By all replacements: the least majority that one of them leaves, below 0 where it is reversed."""
    task = TokenMixture(**SMALL | {"n_frequent": n_frequent, "n_agreeing": n_agreeing})
    made, *_ = task.make(0)
    tokens, signs = made["test_tokens"], 2 * made["test_labels"] - 1
    changed = np.repeat(tokens[:, None], 9 * 14, axis=1)
    for place in range(9):
        changed[:, place * 14 : (place + 1) * 14, place] = np.arange(14)
    assert (task.votes(changed, "frequent") * signs[:, None]).min() == least
    assert (task.votes(changed, "sparse") * signs[:, None] >= 0).all()  # two tokens: one redrawn can only tie
    single = TokenMixture(**SMALL | {"n_sparse": 1})
    made, *_ = single.make(0)
    row, label = made["test_tokens"][0].copy(), made["test_labels"][0]
    row[np.isin(row, range(4, 10))] = min(SPARSE[1 - label])
    assert (single.votes(row[None], "sparse") > 0) != label


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"n_sparse": 5}, "n_frequent + n_sparse = 10 is more than length = 9; at most 9 is allowed"),
        ({"n_agreeing": 6}, "n_agreeing = 6 is no majority of n_frequent = 5 positions; 3 ... 5 are allowed"),
        ({"n_agreeing": 2, "n_frequent": 4}, "n_agreeing = 2 is no majority of n_frequent = 4 positions; 3 ... 4 are"),
    ],
)
def test_settings_without_such_a_law_are_told(changed: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TokenMixture, SMALL | changed)
    assert told in str(caught.value)
    parse(TokenMixture, SMALL | {"length": 7, "n_agreeing": 3})


def test_the_file_has_swapped_examples_and_what_both_rules_score(tmp_path: Path) -> None:
    write_datasets("token_mixture", SMALL, [2], tmp_path / "d")
    made, *_ = TokenMixture(**SMALL).make(2)
    data = read_dataset(tmp_path / "d", 2, "token_mixture")
    assert (data.vocabulary, data.n_classes, data.text) == (14, 2, "")
    assert data["swapped_tokens"].tolist() == made["swapped_tokens"].tolist()
    assert data["swapped_labels"].tolist() == made["swapped_labels"].tolist()
    floors = read_table(tmp_path / "d.floors.parquet", FLOORS)
    assert set(floors["predictor"]) == {"frequent", "sparse"}
    assert (floors["accuracy"] == 1).all()
