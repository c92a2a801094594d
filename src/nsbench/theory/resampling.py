"""The correlation between a token and its noisy copy under Definition 6.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import real, whole


def resampling_correlation(
    rho: ArrayLike, n_symbols: int, include_same: bool = True
) -> np.float64 | NDArray[np.float64]:
    """E[chi(X) chi(Y)] / E[chi(X)^2] for every chi of one token with E[chi(X)] = 0, X uniform over symbols.

    Definition 6.1 keeps the token, Y = X, with probability p = (1 + rho) / 2 and redraws it
    otherwise. A uniform redraw that may return X (`include_same`) gives p whatever the number of
    symbols; a redraw among the others gives p - (1 - p) / (n_symbols - 1). The latter with two
    symbols, a flip, is the only case where the correlation is rho itself.

    rho: array in [-1, 1]. n_symbols: U, at least 2; or 1 where a redraw may return X, when there is no
    such chi and p is a convention. Raises ValueError naming the argument that is outside its domain.
    """
    rho = real("rho", rho, -1.0, 1.0)
    n_symbols = whole("n_symbols", n_symbols, 1 if include_same else 2)
    keep = (1 + rho) / 2
    # The quotient of ints is taken first: it is right for every n_symbols, in or beyond float64.
    return (keep if include_same else keep - (1 - keep) * (1 / (n_symbols - 1)))[()]
