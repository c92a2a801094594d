"""The table of training inputs, `lookup`, against a dictionary: what it scores, and how many inputs it has seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nsbench.data import baselines
from nsbench.data.datasets import Dataset
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.data.tasks.next_token import NextToken
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.schemas.metrics import TARGETS
from nsbench.schemas.training import FLOORS
from tests.conftest import made_by, small_text

Key = Callable[[list[int]], tuple[int, ...]]


def arrays(made: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in made.items()}


def ids(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def examples(made: dict[str, Tensor], split: str, key: Key) -> Iterator[tuple[tuple[int, ...], int]]:
    """The input of each target of a split, and the target."""
    for tokens, labels in zip(made[f"{split}_tokens"].tolist(), made[f"{split}_labels"].tolist(), strict=True):
        if isinstance(labels, list):
            for place, label in enumerate(labels):
                yield key(tokens[: place + 1]), label
        else:
            yield key(tokens), labels


def by_dictionary(made: dict[str, Tensor], key: Key, contexts: bool = False) -> dict[tuple[str, str], list[float]]:
    """(split, targets) -> number of targets, accuracy and share seen, by loops.

    contexts: training targets are known by each number of tokens before them, up to five.
    """
    table: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for tokens, label in examples(made, "train", tuple if contexts else key):
        for width in range(1, min(5, len(tokens)) + 1) if contexts else [None]:
            table[tokens[-width:] if width else tokens][label] += 1
    common = Counter(made["train_labels"].flatten().tolist())
    dataset, found = Dataset(made, 0, 0, ""), {}
    for split in ("val", "test"):
        seen, right = [], []
        for asked, label in examples(made, split, key):
            counts = table.get(asked)
            seen.append(counts is not None)
            counts = counts or common
            right.append(min(counts, key=lambda answer, counts=counts: (-counts[answer], answer)) == label)
        for targets in TARGETS:
            counted = dataset.counted(targets, split).flatten().tolist()
            n_counted = sum(counted)
            shares = [
                sum(value for value, counts in zip(values, counted, strict=True) if counts) / n_counted
                for values in (right, seen)
            ]
            found[split, targets] = [n_counted, *shares]
    return found


def lookup(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    found = {}
    for row in rows:
        assert {*row, "task", "variant", "seed"} == set(FLOORS.names)
        if row["predictor"] == "lookup":
            assert math.isnan(row["loss"])
            found[row["split"], row["targets"]] = [row["n_targets"], row["accuracy"], row["seen"]]
        else:
            assert math.isnan(row["seen"])
    assert len(found) == 2 * len(TARGETS)
    return found


def check(made: dict[str, Tensor], rows: list[dict[str, Any]], key: Key, contexts: bool = False) -> None:
    expected = by_dictionary(made, key, contexts)
    for at, values in lookup(rows).items():
        assert values == pytest.approx(expected[at], abs=1e-12), at


@pytest.mark.parametrize("split", ["pairs", "unordered_pairs"])
@pytest.mark.parametrize("layout", ["a_b", "a_plus_b_eq"])
@pytest.mark.parametrize("modulus", [2, 31])
def test_of_addition_the_summands_in_any_order_are_looked_up(modulus: int, layout: Any, split: Any) -> None:
    sizes = {2: (2, 1, 1), 31: (400, 200, 300)}[modulus]
    n_train, n_val, n_test = sizes
    data = ModularAddition(modulus=modulus, layout=layout, split=split, n_train=n_train, n_val=n_val, n_test=n_test)
    for seed in range(3):
        made, _, n_classes = made_by(data, seed)
        rows = data.floor_rows(arrays(made), n_classes)
        check(made, rows, lambda tokens: tuple(sorted((tokens[0], tokens[len(tokens) // 2]))))
        if split == "unordered_pairs":
            assert {seen for _, _, seen in lookup(rows).values()} == {0.0}
        elif modulus == 31:
            assert 0.2 < lookup(rows)["val", "all"][2] < 0.6


@pytest.mark.parametrize(
    "data",
    [
        SparseParity(n=3, k=2, n_train=60, n_val=30, n_test=30),  # all strings seen, labels tied now and then
        SparseParity(n=6, k=2, label_noise=0.45, n_train=120, n_val=60, n_test=50),
        SparseParity(n=8, k=3, layout="bits_cls", n_train=150, n_val=80, n_test=50),
        SparseParity(n=8, k=3, split="apart", n_train=100, n_val=80, n_test=50),
        SparseParity(n=2, k=1, n_train=1, n_val=1, n_test=1),
    ],
    ids=repr,
)
def test_of_parity_whole_strings_are_looked_up(data: SparseParity) -> None:
    for seed in range(3):
        made, _, n_classes = made_by(data, seed)
        rows = data.floor_rows(arrays(made), n_classes)
        check(made, rows, tuple)
        if data.split == "apart":
            assert {seen for _, _, seen in lookup(rows).values()} == {0.0}


@pytest.mark.parametrize("length", [2, 5, 8])
@pytest.mark.parametrize(
    "protocol",
    [
        {},
        {"targets": "every"},
        {"split": "random", "targets": "every"},
        {"examples": "rows", "targets": "every"},
    ],
    ids=str,
)
def test_of_a_text_five_tokens_up_to_a_target_are_looked_up(protocol: dict[str, Any], length: int) -> None:
    """Short sequences and first positions have fewer; padding and unknown words are left out by kind."""
    data = NextToken(n_symbols=6, length=length, n_train=25, n_val=18, n_test=15, **protocol)
    for seed in range(3):
        made, _, n_classes = made_by(data, seed, small_text())
        rows = data.floor_rows(arrays(made), n_classes)
        assert {row["predictor"] for row in rows} == {"commonest", "bigram", "lookup"}
        check(made, rows, lambda tokens: tuple(tokens[-5:]), contexts=data.targets == "every")
        known, every = lookup(rows)["val", "known"], lookup(rows)["val", "all"]
        assert known[0] < every[0]


def test_a_lookup_by_hand() -> None:
    """The input (1, 2) had labels 3, 0, 3, 0: a tie, so 0. Training has no (2, 1): the commonest of all, 3."""
    made = {
        "train_tokens": ids([1, 2], [1, 2], [1, 2], [1, 2], [0, 0], [0, 1]),
        "train_labels": ids(3, 0, 3, 0, 3, 2),
        "val_tokens": ids([1, 2], [1, 2], [2, 1], [0, 1]),
        "val_labels": ids(0, 3, 3, 2),
        "test_tokens": ids([2, 2]),
        "test_labels": ids(1),
        "unknown": ids(1),
    }
    found = lookup(baselines.lookup_rows(arrays(made)))
    assert found["val", "all"] == found["val", "unpadded"] == found["val", "known"] == [4, 0.75, 0.75]
    assert found["test", "all"] == [1, 0.0, 0.0]
    n_targets, accuracy, seen = found["test", "known"]
    assert n_targets == 0
    assert math.isnan(accuracy)
    assert math.isnan(seen)
    # Of the last token alone: 2 had 3, 0, 3, 0; 0 had 3; 1 had 2.
    found = lookup(baselines.lookup_rows(arrays(made), context=1))
    assert found["val", "all"] == [4, 0.5, 1.0]
    assert found["test", "all"] == [1, 0.0, 1.0]
