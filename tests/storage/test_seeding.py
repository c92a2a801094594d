"""Named streams: a function of seed and name alone, different for different names, uniform."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from nsbench.storage.seeding import stream, stream_key, torch_stream

PINNED = [
    ((0, "init"), 10356376711116929272),
    ((0, "batches", 3), 5263076678541305409),
    ((7, "data"), 6794152029310103204),
]
"""Keys as they have been since the first results: a change of them changes every number."""


@pytest.mark.parametrize(("name", "key"), PINNED)
def test_keys_are_what_they_always_were(name: tuple[int | str, ...], key: int) -> None:
    assert stream_key(*name) == key


def test_numbers_are_what_they_always_were() -> None:
    assert stream(0, "data").integers(0, 1000, 5).tolist() == [539, 463, 673, 921, 948]
    assert torch.randint(0, 1000, (5,), generator=torch_stream(0, "noise", 2)).tolist() == [218, 361, 16, 984, 185]


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    first = stream(3, "data").random(8)
    stream(3, "batches", 0).random(100)
    np.random.default_rng(0).random(3)
    torch.rand(5)
    assert np.array_equal(stream(3, "data").random(8), first)
    a = torch.rand(8, generator=torch_stream(3, "noise", 1))
    torch.rand(8, generator=torch_stream(3, "noise", 2))
    assert torch.equal(torch.rand(8, generator=torch_stream(3, "noise", 1)), a)


def test_a_stream_leaves_the_global_generators_alone() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(4, generator=torch_stream(1, "x"))
    stream(1, "x").random(4)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


NAMES = [
    *((seed, "init") for seed in range(20)),
    *((seed, "batches", epoch) for seed in range(20) for epoch in range(20)),
    (1, "batches", "2"),
    (1, "batches2"),
    (12, "batches"),
    (1, "2", "batches"),
    (1,),
    (1, ""),
    (1, "", ""),
    (1, 'a","b'),
    (1, "a", "b"),
]


def test_distinct_names_have_distinct_streams() -> None:
    assert len({stream_key(*name) for name in NAMES}) == len(NAMES)
    assert len({stream(*name).random() for name in NAMES}) == len(NAMES)
    assert len({torch_stream(*name).initial_seed() for name in NAMES}) == len(NAMES)


def test_streams_of_neighbouring_names_are_uncorrelated() -> None:
    drawn = np.stack([stream(seed, "batches", epoch).normal(size=10_000) for seed in range(3) for epoch in range(3)])
    for a, b in itertools.combinations(drawn, 2):
        assert abs(np.mean(a * b)) < 5 / np.sqrt(10_000)
