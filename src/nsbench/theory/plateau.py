"""The learning rate that a plateau scheduler leaves, as Table 2's (docs/errata.md, entry 28)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import AT_LEAST_0, COUNT, COUNT_FROM_0, SHARE, checked, real

THRESHOLD, SMALLEST_CUT = 1e-4, 1e-8
"""As torch's ReduceLROnPlateau: the share by which a loss is better, and the change of a rate that is made at all."""


@checked(learning_rate=AT_LEAST_0, factor=SHARE, patience=COUNT_FROM_0, steps_per_epoch=COUNT)
def plateau_rates(
    losses: ArrayLike, learning_rate: float, patience: int, factor: float, steps_per_epoch: int
) -> NDArray[np.float64]:
    """The rate of each step, (epochs x steps_per_epoch), where a loss is seen at the end of each epoch.

    losses: one an epoch, in order, at least 0. The rate is multiplied by `factor` once more than `patience` epochs in a
    row have no loss below (1 - 1e-4) x the best so far, and counting begins again; a change of 1e-8 or less is not
    made. So a loss that never falls again costs the rate all but (patience + 1) / (1 - factor) epochs' worth.
    """
    losses, rate = real("losses", losses, 0.0), float(learning_rate)
    best, n_bad, rates = np.inf, 0, []
    for loss in losses:
        rates.append(rate)
        best, n_bad = (loss, 0) if loss < best * (1 - THRESHOLD) else (best, n_bad + 1)
        if n_bad > patience:
            lower, n_bad = rate * float(factor), 0
            rate = lower if rate - lower > SMALLEST_CUT else rate
    return np.repeat(np.array(rates), steps_per_epoch)
