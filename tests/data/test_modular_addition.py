"""Modular addition: right sums, splits that do not meet, and a target that enumeration confirms."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from nsbench.config.base import ConfigError
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.storage.seeding import stream
from nsbench.theory import resampling_correlation
from tests.data.enumeration import agreement_by_enumeration, sensitivity_by_enumeration

SPLITS = ("train", "val", "test")


def addition(modulus: int, sizes: tuple[int, int, int], **others: Any) -> ModularAddition:
    n_train, n_val, n_test = sizes
    return ModularAddition(modulus=modulus, n_train=n_train, n_val=n_val, n_test=n_test, **others)


def pairs_of(made: dict[str, np.ndarray], split: str) -> list[tuple[int, int]]:
    tokens = made[f"{split}_tokens"]
    return [tuple(row) for row in tokens[:, [0, tokens.shape[1] // 2]].tolist()]


@pytest.mark.parametrize(
    "task",
    [
        ModularAddition(),
        ModularAddition(layout="a_b"),
        addition(7, (20, 10, 19), layout="a_b"),  # all 49 pairs
        addition(2, (2, 1, 1)),
    ],
    ids=repr,
)
def test_sums_are_right_and_splits_have_their_sizes_and_share_no_pair(task: ModularAddition) -> None:
    """The draw is spelled out: published data sets were made with it."""
    made, vocabulary, n_classes = task.make(3)
    sizes = (task.n_train, task.n_val, task.n_test)
    assert (vocabulary, n_classes) == (task.modulus + 5, task.modulus)
    assert made["symbols"].tolist() == list(range(task.modulus))
    for split, size in zip(SPLITS, sizes, strict=True):
        tokens, labels = made[f"{split}_tokens"], made[f"{split}_labels"]
        assert tokens.shape == (size, task.sequence_length())
        assert labels.tolist() == [(a + b) % task.modulus for a, b in pairs_of(made, split)]
        if task.layout == "a_plus_b_eq":
            assert np.unique(tokens[:, [1, 3]], axis=0).tolist() == [[task.modulus + 3, task.modulus + 4]]
    every = [pair for split in SPLITS for pair in pairs_of(made, split)]
    chosen = stream(3, "data").permutation(task.modulus**2)[: sum(sizes)]
    assert every == [divmod(pair, task.modulus) for pair in chosen.tolist()]


@pytest.mark.parametrize("layout", ["a_b", "a_plus_b_eq"])
@pytest.mark.parametrize(
    ("modulus", "sizes"),
    [
        (113, (2001, 333, 1001)),
        (113, (6385, 3192, 3192)),  # all pairs
        (7, (20, 10, 19)),  # all pairs
        (6, (17, 5, 7)),
        (2, (1, 1, 2)),
    ],
)
def test_a_pair_and_its_mirror_image_are_in_one_split(modulus: int, sizes: tuple[int, int, int], layout: Any) -> None:
    for seed in range(1 if modulus > 100 else 20):
        made, *_ = addition(modulus, sizes, split="unordered_pairs", layout=layout).make(seed)
        found = [pairs_of(made, split) for split in SPLITS]
        for split, pairs, size in zip(SPLITS, found, sizes, strict=True):
            assert len(pairs) == size
            assert {(b, a) for a, b in pairs} == set(pairs)
            assert made[f"{split}_labels"].tolist() == [(a + b) % modulus for a, b in pairs]
        every = [pair for pairs in found for pair in pairs]
        assert len(set(every)) == len(every)


def test_every_choice_of_sizes_works_for_every_seed() -> None:
    """Each split of odd size needs a pair (a, a), whatever the order in which the seed draws them."""
    for sizes in itertools.product(range(1, 10), repeat=3):
        if sum(sizes) <= 9:
            made, *_ = addition(3, sizes, split="unordered_pairs").make(sum(sizes))
            for split, size in zip(SPLITS, sizes, strict=True):
                pairs = pairs_of(made, split)
                assert {(b, a) for a, b in pairs} == set(pairs)
                assert len(set(pairs)) == size


def test_sizes_that_no_pairs_make_are_refused() -> None:
    told = (
        r"^data\.split = 'unordered_pairs': each split of odd size needs a pair \(a, a\), and modulus 2 has 2 for 3 of "
        r"them; at most 2 odd sizes are allowed$"
    )
    with pytest.raises(ConfigError, match=told):
        addition(2, (1, 1, 1), split="unordered_pairs").make(0)
    with pytest.raises(ValueError, match="= 5 is more than the 4 pairs of modulus 2; at most 4 is allowed"):
        addition(2, (3, 1, 1))


def test_unordered_pairs_are_drawn_uniformly() -> None:
    """Of six unordered pairs of modulus 3, the one that validation has: each of (a, b) as often as the others."""
    task = addition(3, (3, 2, 2), split="unordered_pairs")
    counts = Counter(min(pairs_of(task.make(seed)[0], "val")) for seed in range(600))
    mirrored = [counts[pair] for pair in ((0, 1), (0, 2), (1, 2))]
    mean = sum(mirrored) / 3
    assert max(abs(count - mean) for count in mirrored) < 4 * math.sqrt(mean)


@pytest.mark.parametrize("modulus", [2, 3, 5])
def test_what_is_known_of_a_sum_is_what_enumeration_gives(modulus: int) -> None:
    task = addition(modulus, (1, 1, 1))

    def total(x: tuple[int, ...]) -> int:
        return sum(x) % modulus

    exact = sensitivity_by_enumeration(total, 2, modulus)
    assert task.target_value("average_sensitivity", "decision", math.nan) == exact
    for rho, same_symbol in itertools.product((-1.0, -0.4, 0.0, 0.5, 1.0), (True, False)):
        kappa = resampling_correlation(rho, modulus, same_symbol)
        exact = agreement_by_enumeration(total, 2, modulus, rho, same_symbol)
        for reduction in ("probability_dot", "probability_cosine"):
            assert task.target_value("noise_stability", reduction, kappa) == pytest.approx(exact, abs=1e-12)
    assert math.isnan(task.target_value("sharpness", "", 0.5))


@pytest.mark.parametrize(("modulus", "n_train"), [(113, 2000), (7, 20), (5, 3)])
def test_the_share_of_mirrored_pairs_is_that_of_data_sets(modulus: int, n_train: int) -> None:
    n_val, n_seeds = (1000, 10) if modulus > 100 else (5, 1000)
    task, n_seen = addition(modulus, (n_train, n_val, 1)), 0
    for seed in range(n_seeds):
        made, *_ = task.make(seed)
        train = set(pairs_of(made, "train"))
        n_seen += sum((b, a) in train for a, b in pairs_of(made, "val"))
    share = n_seen / n_seeds / n_val
    error = math.sqrt(2 * share / n_seeds / n_val)  # pairs of one mirrored pair go together
    (told,) = task.leaks(None)
    assert told.endswith("% of validation pairs stand mirrored in training")
    assert abs(float(told.split()[1].rstrip("%")) / 100 - share) < 0.005 + 4 * error


def test_small_shares_are_no_leak() -> None:
    assert ModularAddition().leaks(None) == ["about 16% of validation pairs stand mirrored in training"]
    assert addition(113, (128, 200, 200)).leaks(None) == []
    assert addition(113, (2000, 200, 200), split="unordered_pairs").leaks(None) == []
