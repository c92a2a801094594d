"""Which combinations of levels to run: all, one choice at a time, or a balanced fraction.

A design is a list of tuples with one level per choice, counted from 0; level 0 of every choice is the
base, and the base comes first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

POOL = 4096
"""Combinations from which a fraction is chosen, where there are more."""

Design = list[tuple[int, ...]]


def full(sizes: Sequence[int]) -> Design:
    """Every combination of choices with `sizes` levels."""
    return list(itertools.product(*(range(size) for size in sizes)))


def one_at_a_time(sizes: Sequence[int]) -> Design:
    """The base, and each other level of each choice with the rest as the base has it."""
    base = (0,) * len(sizes)
    alone = [(*base[:at], level, *base[at + 1 :]) for at, size in enumerate(sizes) for level in range(1, size)]
    return [base, *alone]


def fraction(sizes: Sequence[int], n: int, seed: int) -> Design:
    """`n` distinct combinations, the base first, that use levels and pairs of levels equally often.

    Each is the one of a pool drawn with `seed` whose pairs of levels the ones before it have used
    least, a level of a choice with L of them counting L-fold. So the first ones of a larger fraction
    are the smaller fraction. Raises ValueError for `n` above the number of combinations or POOL.

    Not `scipy.stats.qmc`: with few points its Sobol sequence sets some choices always alike, so that
    they cannot be told apart; its Latin hypercubes are as balanced but do not contain smaller ones.
    """
    import numpy as np

    count = math.prod(sizes)
    if not 1 <= n <= min(count, POOL):
        raise ValueError(f"n = {n} of {count} combinations; 1 ... {min(count, POOL)} is allowed")
    drawn = np.random.default_rng(seed).choice(count, size=min(count, POOL), replace=False)
    levels = np.stack(np.unravel_index(drawn[drawn != 0], tuple(sizes)), axis=1)
    levels = np.concatenate([np.zeros((1, len(sizes)), dtype=levels.dtype), levels])
    # Of each of the pool: the weighted pairs of levels that it shares with the chosen ones, in all.
    shared = np.zeros(len(levels), dtype=np.int64)
    chosen = [0]
    free = np.ones(len(levels), dtype=bool)
    while len(chosen) < n:
        free[chosen[-1]] = False
        agreement = ((levels == levels[chosen[-1]]) * np.array(sizes)).sum(axis=1)
        shared += agreement * agreement
        chosen.append(int(np.where(free, shared, np.iinfo(np.int64).max).argmin()))
    return [tuple(int(level) for level in levels[at]) for at in chosen]
