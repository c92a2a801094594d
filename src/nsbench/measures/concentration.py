"""How concentrated influences are on few positions (section 3: junta-like, first and last, all non-zero)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import real

LARGE = 0.1
"""The share of the total from which on a position is counted as influential: section 3's 0.1 I[f]."""
ROUNDING = 1e-12
"""How far below a threshold a share may lie, relative to it, and still count as having reached it."""


@dataclass(frozen=True)
class Concentration:
    """Of T influences; each field a number, or one number for each of N vectors, (N)."""

    n_large: NDArray[np.int64] | np.int64
    """Positions with at least 0.1 of the total: never more than 10."""
    n_half: NDArray[np.int64] | np.int64
    """The smallest number of positions that hold at least half of the total."""
    n_zero: NDArray[np.int64] | np.int64
    """Positions with no influence at all."""
    first_share: NDArray[np.float64] | np.float64
    last_share: NDArray[np.float64] | np.float64
    top_five_share: NDArray[np.float64] | np.float64
    """Share of the five largest; 1 where there are no more than five."""
    gini: NDArray[np.float64] | np.float64
    """Gini coefficient: 0 where all are equal, (T - 1) / T where one has all."""


def concentration(influences_NT: ArrayLike) -> Concentration:
    """How concentrated influences (T) are, or each row of (N, T).

    Shares are of the sum over positions. Counts take thresholds as reached 1e-12 below, for rounding. Of the mean over
    inputs and of each input by itself these are different questions: where each input has one large position of its
    own, the mean has none.
    Raises ValueError naming influences_NT where it is negative, not finite, all zero in a row, empty, or of another
    rank.
    """
    values = real("influences_NT", influences_NT, 0.0)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"influences_NT of shape {values.shape} is not allowed; allowed: (T) or (N, T), not empty")
    largest = values.max(-1, keepdims=True)
    if not largest.all():
        raise ValueError("influences_NT is 0 at every position; allowed: some influence to take shares of")
    # Through the largest: sums of numbers near the ends of the range of floats would overflow or lose digits.
    shares_NT = values / largest
    shares_NT /= shares_NT.sum(-1, keepdims=True)
    descending_NT = -np.sort(-shares_NT, axis=-1)
    length = shares_NT.shape[-1]
    rank_T = np.arange(1, length + 1)
    # Of equal shares the sum is 0 but for rounding, which may take it below.
    gini = np.maximum(((length + 1 - 2 * rank_T) * descending_NT).sum(-1) / length, 0.0)
    return Concentration(
        n_large=(shares_NT >= LARGE * (1 - ROUNDING)).sum(-1),
        n_half=1 + (descending_NT.cumsum(-1) < 0.5 * (1 - ROUNDING)).sum(-1),
        n_zero=(values == 0).sum(-1),
        first_share=shares_NT[..., 0][()],
        last_share=shares_NT[..., -1][()],
        top_five_share=np.minimum(descending_NT[..., :5].sum(-1), 1.0),
        gini=gini,
    )
