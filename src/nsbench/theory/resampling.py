"""A token and its noisy copy under Definition 6.1: their correlation (docs/errata.md, entry 24), how often Y = X."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import CORRELATION, COUNT_FROM_0, checked, whole


@checked(rho=CORRELATION)
def resampling_correlation(
    rho: ArrayLike, n_symbols: int, include_same: bool = True
) -> np.float64 | NDArray[np.float64]:
    """E[chi(X) chi(Y)] / E[chi(X)^2] for every chi of one token with E[chi(X)] = 0, X uniform over symbols.

    Definition 6.1 keeps the token, Y = X, with probability p = (1 + rho) / 2 and redraws it otherwise. A uniform
    redraw that may return X (`include_same`) gives p whatever the number of symbols; a redraw among the others gives
    p - (1 - p) / (n_symbols - 1). The latter with two symbols, a flip, is the only case where the correlation is rho.

    rho: in [-1, 1], any shape. n_symbols: at least 2, or 1 where a redraw may return X (p is then a convention).
    Raises ValueError naming the argument that is outside its domain.
    """
    n_symbols = whole("n_symbols", n_symbols, 1 if include_same else 2)
    keep = (1 + rho) / 2
    return (keep if include_same else keep - (1 - keep) * (1 / (n_symbols - 1)))[()]


@checked(rho=CORRELATION, n_tokens=COUNT_FROM_0)
def unchanged_probability(
    rho: ArrayLike, n_tokens: int, n_symbols: int, include_same: bool = True
) -> np.float64 | NDArray[np.float64]:
    """The probability that Y = X under Definition 6.1: that none of n_tokens tokens changes.

    ((1 + rho) / 2)^n_tokens that all are kept, and the redraws that return the token that was there (`include_same`):
    (p + (1 - p) / n_symbols)^n_tokens, p = (1 + rho) / 2. Arguments otherwise as of `resampling_correlation`.
    """
    n_symbols = whole("n_symbols", n_symbols, 1 if include_same else 2)
    keep = (1 + rho) / 2
    return ((keep + (1 - keep) / n_symbols if include_same else keep) ** n_tokens)[()]
