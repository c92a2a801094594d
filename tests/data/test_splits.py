"""What validation and test inputs share with training: the splits that share none, and the words for those that do."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from nsbench.config.base import ConfigError
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.data.tasks.next_token import NextToken
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.storage.seeding import stream
from tests.conftest import made_by

SPLITS = ("train", "val", "test")


def addition(modulus: int, sizes: tuple[int, int, int], **others: Any) -> ModularAddition:
    n_train, n_val, n_test = sizes
    return ModularAddition(modulus=modulus, n_train=n_train, n_val=n_val, n_test=n_test, **others)


def parity(n: int, sizes: tuple[int, int, int], **others: Any) -> SparseParity:
    n_train, n_val, n_test = sizes
    return SparseParity(n=n, k=1, n_train=n_train, n_val=n_val, n_test=n_test, **others)


def pairs_of(made: dict[str, torch.Tensor], split: str) -> list[tuple[int, int]]:
    tokens = made[f"{split}_tokens"]
    return [tuple(row) for row in tokens[:, [0, tokens.shape[1] // 2]].tolist()]


def strings_of(made: dict[str, torch.Tensor], split: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in made[f"{split}_tokens"].tolist()]


# --- modular addition ----------------------------------------------------------------------------------

EVEN_AND_ODD = [
    (113, (2000, 200, 200)),
    (113, (2000, 1000, 1000)),
    (113, (2001, 333, 1001)),
    (113, (6385, 3192, 3192)),  # all pairs
    (7, (20, 10, 19)),  # all pairs
    (7, (1, 1, 1)),
    (6, (11, 12, 13)),  # all pairs
    (6, (17, 5, 7)),
    (3, (3, 3, 3)),
    (3, (4, 2, 2)),
    (3, (1, 2, 5)),
    (2, (2, 1, 1)),
    (2, (1, 1, 2)),
]


@pytest.mark.parametrize("layout", ["a_b", "a_plus_b_eq"])
@pytest.mark.parametrize(("modulus", "sizes"), EVEN_AND_ODD)
def test_a_pair_and_its_mirror_image_are_in_one_split(modulus: int, sizes: tuple[int, int, int], layout: Any) -> None:
    for seed in range(3 if modulus > 100 else 40):
        made, *_ = made_by(addition(modulus, sizes, split="unordered_pairs", layout=layout), seed)
        found = [pairs_of(made, split) for split in SPLITS]
        for split, pairs, size in zip(SPLITS, found, sizes, strict=True):
            assert len(pairs) == size
            assert {(b, a) for a, b in pairs} == set(pairs)
            assert made[f"{split}_labels"].tolist() == [(a + b) % modulus for a, b in pairs]
        every = [pair for pairs in found for pair in pairs]
        assert len(set(every)) == len(every)
        assert all(0 <= a < modulus and 0 <= b < modulus for a, b in every)


def test_every_choice_of_sizes_works_for_every_seed() -> None:
    """Each split of odd size needs a pair (a, a), whatever the order in which the seed draws them."""
    for modulus in (3, 4):
        for sizes in itertools.product(range(1, 10), repeat=3):
            if sum(sizes) <= modulus**2:
                made, *_ = made_by(addition(modulus, sizes, split="unordered_pairs"), sum(sizes))
                for split, size in zip(SPLITS, sizes, strict=True):
                    pairs = pairs_of(made, split)
                    assert {(b, a) for a, b in pairs} == set(pairs)
                    assert len(set(pairs)) == size


def test_more_odd_splits_than_pairs_of_equal_summands_are_refused() -> None:
    told = (
        r"^data\.split = 'unordered_pairs': each split of odd size needs a pair \(a, a\), and modulus 2 has 2 for 3 of "
        r"them; at most 2 odd sizes are allowed$"
    )
    with pytest.raises(ConfigError, match=told):
        made_by(addition(2, (1, 1, 1), split="unordered_pairs"), 0)
    made_by(addition(2, (1, 1, 1)), 0)


def test_unordered_pairs_are_drawn_uniformly() -> None:
    """Of six unordered pairs of modulus 3, the one that validation has: each of (a, b) as often as the others."""
    counts = Counter(
        min(pairs_of(made_by(addition(3, (3, 2, 2), split="unordered_pairs"), seed)[0], "val")) for seed in range(600)
    )
    mirrored = [counts[pair] for pair in ((0, 1), (0, 2), (1, 2))]
    mean = sum(mirrored) / 3
    assert max(abs(count - mean) for count in mirrored) < 4 * math.sqrt(mean)


@pytest.mark.parametrize("modulus", [7, 113])
def test_ordered_pairs_are_the_first_of_one_permutation(modulus: int) -> None:
    """The draw of `split: pairs`, spelled out: what is published was made with it."""
    n = 16 if modulus == 7 else 1000
    for seed in (0, 3):
        made, *_ = made_by(addition(modulus, (n, n, n)), seed)
        chosen = stream(seed, "data").permutation(modulus**2)[: 3 * n]
        every = [pair for split in SPLITS for pair in pairs_of(made, split)]
        assert every == [divmod(pair, modulus) for pair in chosen.tolist()]


# --- sparse parity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (3, (4, 2, 2)),  # all strings
        (10, (300, 362, 362)),  # all strings
        (19, (3000, 1000, 1000)),
        (20, (20_000, 2000, 2000)),  # some drawn twice
        (64, (500, 100, 100)),
    ],
)
@pytest.mark.parametrize("seed", [0, 5])
def test_no_string_occurs_twice(n: int, sizes: tuple[int, int, int], seed: int) -> None:
    made, *_ = made_by(parity(n, sizes, split="apart"), seed)
    found = [strings_of(made, split) for split in SPLITS]
    assert tuple(map(len, found)) == sizes
    every = [string for strings in found for string in strings]
    assert len(set(every)) == len(every)
    assert {bit for string in every for bit in string} == {0, 1}
    assert {len(string) for string in every} == {n}
    for split in ("val", "test"):
        assert made[f"{split}_labels"].tolist() == made[f"{split}_tokens"][:, made["secret"].item()].tolist()


def test_long_strings_are_the_first_different_ones_of_independent_draws() -> None:
    data, n_examples = parity(20, (30_000, 1000, 1000), split="apart"), 32_000
    made, *_ = made_by(data, 2)
    random = stream(2, "data")
    random.permutation(20)
    different: dict[tuple[int, ...], None] = {}
    n_draws = 0
    while len(different) < n_examples:
        different |= dict.fromkeys(map(tuple, random.integers(0, 2, size=(n_examples, 20)).tolist()))
        n_draws += 1
    assert n_draws > 1
    assert [string for split in SPLITS for string in strings_of(made, split)] == list(different)[:n_examples]


def test_strings_apart_are_uniform() -> None:
    """Of 8 strings each stands first in training, and first in validation, equally often; bits are fair coins."""
    for split in ("train", "val"):
        made = [made_by(parity(3, (2, 2, 1), split="apart"), seed)[0] for seed in range(800)]
        counts = Counter(strings_of(one, split)[0] for one in made)
        assert len(counts) == 8
        assert max(abs(count - 100) for count in counts.values()) < 4 * math.sqrt(100)
    for n in (19, 20):
        made, *_ = made_by(parity(n, (20_000, 1, 1), split="apart"), 1)
        means = made["train_tokens"].double().mean(0)
        assert (means - 0.5).abs().max().item() < 4.5 * 0.5 / math.sqrt(20_000)


@pytest.mark.parametrize(("n", "sizes"), [(1, (1, 1, 1)), (3, (6, 2, 1)), (10, (301, 362, 362)), (20, (2**20, 1, 1))])
def test_more_strings_than_there_are_is_told_in_one_sentence(n: int, sizes: tuple[int, int, int]) -> None:
    wanted = (
        f"n_train + n_val + n_test = {sum(sizes)} is more than the {2**n} strings of n = {n} bits, and split = 'apart' "
    )
    with pytest.raises(ValueError, match=rf"{re.escape(wanted)}uses each once; at most {2**n} is allowed"):
        parity(n, sizes, split="apart")
    parity(n, sizes)


@pytest.mark.parametrize("layout", ["bits", "bits_cls"])
def test_independent_strings_are_one_draw_after_the_secret(layout: Any) -> None:
    """The draw of `split: independent`, spelled out: what is published was made with it."""
    data = SparseParity(n=10, k=3, layout=layout, n_train=500, n_val=100, n_test=50)
    for seed in (0, 3):
        made, *_ = made_by(data, seed)
        random = stream(seed, "data")
        secret = np.sort(random.permutation(10)[:3])
        bits = random.integers(0, 2, size=(650, 10))
        flipped = random.random(500) < 0.1
        labels = bits[:, secret].sum(1) % 2
        labels[:500] ^= flipped
        assert made["secret"].tolist() == secret.tolist()
        assert torch.cat([made[f"{split}_tokens"][:, :10] for split in SPLITS]).tolist() == bits.tolist()
        assert torch.cat([made[f"{split}_labels"] for split in SPLITS]).tolist() == labels.tolist()


# --- what is told of them ------------------------------------------------------------------------------


def share_told(task: ModularAddition | SparseParity) -> float:
    (told,) = task.leaks(None)
    assert told.startswith("about ")
    assert told.endswith(
        ("% of validation pairs stand mirrored in training", "% of validation strings are in training too")
    )
    return float(told.split()[1].rstrip("%")) / 100


@pytest.mark.parametrize(("modulus", "n_train"), [(113, 2000), (113, 6385), (7, 20), (5, 3)])
def test_the_share_of_mirrored_pairs_is_that_of_data_sets(modulus: int, n_train: int) -> None:
    n_val = 1000 if modulus > 100 else 5
    n_seeds = 10 if modulus > 100 else 2000
    data = addition(modulus, (n_train, n_val, 1))
    n_seen = 0
    for seed in range(n_seeds):
        made, *_ = made_by(data, seed)
        train = set(pairs_of(made, "train"))
        n_seen += sum((b, a) in train for a, b in pairs_of(made, "val"))
    share = n_seen / n_seeds / n_val
    error = math.sqrt(2 * share / n_seeds / n_val)  # pairs of one mirrored pair go together
    assert abs(share_told(data) - share) < 0.005 + 4 * error


@pytest.mark.parametrize(("n", "n_train"), [(10, 5000), (10, 300), (12, 1000), (5, 10), (1, 1)])
def test_the_share_of_repeated_strings_is_that_of_a_simulation(n: int, n_train: int) -> None:
    random = np.random.default_rng(0)
    n_seeds, n_val = 40, 1000
    shares = []
    for _ in range(n_seeds):
        train, val = random.integers(2**n, size=n_train), random.integers(2**n, size=n_val)
        shares.append(np.isin(val, train).mean())
    told = share_told(parity(n, (n_train, n_val, n_val)))
    assert abs(told - np.mean(shares)) < 0.005 + 4 * np.std(shares) / math.sqrt(n_seeds)


@pytest.mark.parametrize(
    "task",
    [
        addition(113, (128, 200, 200)),  # 0.99%
        addition(113, (2000, 200, 200), split="unordered_pairs"),
        parity(20, (50_000, 1000, 1000)),  # 4.7%
        parity(512, (50_000, 1000, 1000)),
        parity(10, (300, 362, 362), split="apart"),
        NextToken(),
    ],
    ids=repr,
)
def test_nothing_is_told_of_a_setting_that_shares_less_than_a_tenth(task: Any) -> None:
    assert task.leaks(None) == []


def test_the_shares_of_shipped_settings() -> None:
    """The numbers that results/published/calibration.md has."""
    assert ModularAddition().leaks(None) == ["about 16% of validation pairs stand mirrored in training"]
    for n, n_train, share in ((10, 5000, "99%"), (10, 50_000, "100%")):
        task = parity(n, (n_train, 1000, 1000))
        assert task.leaks(None) == [f"about {share} of validation strings are in training too"]
