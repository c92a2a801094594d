"""What measures of a function give, by enumeration of all inputs and of all outcomes of the noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

Function = Callable[[tuple[int, ...]], int]


def agreement_by_enumeration(function: Function, length: int, n_symbols: int, rho: float, same_symbol: bool) -> float:
    """P(f(X) = f(Y)) with the noise of Definition 6.1."""
    keep, every = (1 + rho) / 2, range(n_symbols)
    chances = [
        [keep * (x == y) + (1 - keep) * (1 / n_symbols if same_symbol else (x != y) / (n_symbols - 1)) for y in every]
        for x in every
    ]
    total = 0.0
    for x, y in itertools.product(itertools.product(every, repeat=length), repeat=2):
        if function(x) == function(y):
            total += math.prod(chances[a][b] for a, b in zip(x, y, strict=True))
    return total / n_symbols**length


def sensitivity_by_enumeration(function: Function, length: int, n_symbols: int) -> float:
    """Sum over positions of the chance that another symbol there changes f."""
    total = 0
    for x in itertools.product(range(n_symbols), repeat=length):
        for place, symbol in itertools.product(range(length), range(n_symbols)):
            total += function(x) != function((*x[:place], symbol, *x[place + 1 :]))
    return total / n_symbols**length / (n_symbols - 1)
