"""Sparse parity: right labels, noise as asked for, splits that do not meet, and targets that enumeration confirms."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from nsbench.data.tasks.sparse_parity import CLS, SparseParity
from nsbench.storage.seeding import stream
from nsbench.theory import resampling_correlation
from tests.data.enumeration import agreement_by_enumeration, sensitivity_by_enumeration

SPLITS = ("train", "val", "test")


def parity(n: int, sizes: tuple[int, int, int], **others: Any) -> SparseParity:
    n_train, n_val, n_test = sizes
    return SparseParity(n=n, n_train=n_train, n_val=n_val, n_test=n_test, **{"k": 1, **others})


def strings_of(made: dict[str, np.ndarray], split: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in made[f"{split}_tokens"].tolist()]


def clean_labels(made: dict[str, np.ndarray], split: str) -> np.ndarray:
    return made[f"{split}_tokens"][:, made["secret"]].sum(1) % 2


@pytest.mark.parametrize(
    "task",
    [
        SparseParity(),
        SparseParity(n=10, k=3, layout="bits_cls"),
        SparseParity(n=5, k=5, n_train=400, n_val=100, n_test=100),
        SparseParity(n=100, k=1, label_noise=0.0),
    ],
    ids=repr,
)
def test_independent_strings_are_one_draw_after_the_secret(task: SparseParity) -> None:
    """The draw is spelled out: published data sets were made with it."""
    made, vocabulary, n_classes = task.make(5)
    random, n_train = stream(5, "data"), task.n_train
    secret = np.sort(random.permutation(task.n)[: task.k])
    bits = random.integers(0, 2, size=(n_train + task.n_val + task.n_test, task.n))
    flipped = random.random(n_train) < task.label_noise
    labels = bits[:, secret].sum(1) % 2
    labels[:n_train] ^= flipped
    tokens = np.concatenate([made[f"{split}_tokens"] for split in SPLITS])
    assert made["secret"].tolist() == secret.tolist()
    assert tokens[:, : task.n].tolist() == bits.tolist()
    assert np.concatenate([made[f"{split}_labels"] for split in SPLITS]).tolist() == labels.tolist()
    assert (vocabulary, n_classes) == (3 if task.layout == "bits_cls" else 2, 2)
    assert tokens.shape[1] == task.sequence_length()
    assert np.unique(tokens[:, task.n :]).tolist() == [CLS] * (task.layout == "bits_cls")
    assert made["symbols"].tolist() == [0, 1]


@pytest.mark.parametrize("eta", [0.0, 0.1, 0.49])
def test_the_share_of_flipped_training_labels_is_eta(eta: float) -> None:
    n = 50_000
    made, *_ = SparseParity(label_noise=eta, n_train=n).make(2)
    flipped = made["train_labels"] != clean_labels(made, "train")
    for label in (0, 1):  # as often for odd as for even strings
        share = flipped[clean_labels(made, "train") == label].mean()
        assert abs(share - eta) <= 4 * math.sqrt(eta * (1 - eta) / (0.49 * n))
    for split in ("val", "test"):
        assert made[f"{split}_labels"].tolist() == clean_labels(made, split).tolist()
    assert np.abs(made["train_tokens"].mean(0) - 0.5).max() < 4.5 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (3, (4, 2, 2)),  # all strings
        (10, (300, 362, 362)),  # all strings
        (20, (4000, 500, 500)),  # some drawn twice
        (64, (500, 100, 100)),
    ],
)
def test_no_string_occurs_twice(n: int, sizes: tuple[int, int, int]) -> None:
    made, *_ = parity(n, sizes, split="apart").make(5)
    found = [strings_of(made, split) for split in SPLITS]
    assert tuple(map(len, found)) == sizes
    every = [string for strings in found for string in strings]
    assert len(set(every)) == len(every)
    assert {bit for string in every for bit in string} == {0, 1}
    for split in ("val", "test"):
        assert made[f"{split}_labels"].tolist() == clean_labels(made, split).tolist()


def test_long_strings_are_the_first_different_ones_of_independent_draws() -> None:
    n_examples = 6000
    made, *_ = parity(20, (5000, 500, 500), split="apart").make(2)
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
    """Of 8 strings each stands first in training, and first in validation, equally often."""
    made = [parity(3, (2, 2, 1), split="apart").make(seed)[0] for seed in range(800)]
    for split in ("train", "val"):
        counts = Counter(strings_of(one, split)[0] for one in made)
        assert len(counts) == 8
        assert max(abs(count - 100) for count in counts.values()) < 4 * math.sqrt(100)


@pytest.mark.parametrize(("n", "sizes"), [(1, (1, 1, 1)), (10, (301, 362, 362))])
def test_more_strings_than_there_are_is_told_in_one_sentence(n: int, sizes: tuple[int, int, int]) -> None:
    wanted = (
        f"n_train + n_val + n_test = {sum(sizes)} is more than the {2**n} strings of n = {n} bits, and split = 'apart' "
    )
    with pytest.raises(ValueError, match=rf"{re.escape(wanted)}uses each once; at most {2**n} is allowed"):
        parity(n, sizes, split="apart")
    parity(n, sizes)


@pytest.mark.parametrize(("n", "secret"), [(1, (0,)), (3, (0, 2)), (3, (0, 1, 2)), (4, (1,))])
def test_what_is_known_of_a_parity_is_what_enumeration_gives(n: int, secret: tuple[int, ...]) -> None:
    task = parity(n, (1, 1, 1), k=len(secret))

    def chi(x: tuple[int, ...]) -> int:
        return sum(x[place] for place in secret) % 2

    exact = sensitivity_by_enumeration(chi, n, 2)
    assert task.target_value("average_sensitivity", "probability_distance", math.nan) == exact
    for rho, same_symbol in itertools.product((-1.0, -0.4, 0.0, 0.5, 1.0), (True, False)):
        kappa = resampling_correlation(rho, 2, same_symbol)
        exact = agreement_by_enumeration(chi, n, 2, rho, same_symbol)
        for reduction, expected in (
            ("probability_dot", exact),
            ("probability_cosine", exact),
            ("decision", 2 * exact - 1),
        ):
            assert task.target_value("noise_stability", reduction, kappa) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(task.target_value("sharpness", "decision", 0.5))


@pytest.mark.parametrize(("n", "n_train"), [(10, 5000), (10, 300), (5, 10), (1, 1)])
def test_the_share_of_repeated_strings_is_that_of_a_simulation(n: int, n_train: int) -> None:
    random, n_seeds, n_val = np.random.default_rng(0), 40, 1000
    draws = [(random.integers(2**n, size=n_train), random.integers(2**n, size=n_val)) for _ in range(n_seeds)]
    shares = [np.isin(val, train).mean() for train, val in draws]
    (told,) = parity(n, (n_train, n_val, n_val)).leaks(None)
    assert told.endswith("% of validation strings are in training too")
    share = float(told.split()[1].rstrip("%")) / 100
    assert abs(share - np.mean(shares)) < 0.005 + 4 * np.std(shares) / math.sqrt(n_seeds)


def test_small_shares_are_no_leak() -> None:
    for n_train, share in ((5000, "99%"), (50_000, "100%")):
        told = [f"about {share} of validation strings are in training too"]
        assert parity(10, (n_train, 1000, 1000)).leaks(None) == told
    assert parity(20, (50_000, 1000, 1000)).leaks(None) == []  # 4.7%
    assert parity(512, (50_000, 1000, 1000)).leaks(None) == []
    assert parity(10, (300, 362, 362), split="apart").leaks(None) == []
