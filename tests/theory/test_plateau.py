"""The plateau scheduler against torch's, and what it leaves of Table 2's learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nsbench.theory import plateau_rates

TABLE_2 = {"learning_rate": 1e-3, "patience": 10, "factor": 0.8}
EPOCH = math.ceil(2000 / 256)


@pytest.mark.parametrize(("patience", "factor"), [(0, 0.5), (3, 0.8)])
def test_it_is_torch_s_to_the_bit(patience: int, factor: float) -> None:
    # A loss that falls, stays, falls by next to nothing, rises, and falls again, for so long that the rate stops.
    losses = np.concatenate([[3, 2, 2, 2 - 1e-5, 2 - 1e-3], np.full(30, 2.5), [1.0, 0.5], np.full(300, 0.5)])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, factor=factor)
    expected = []
    for loss in losses:
        expected += [optimizer.param_groups[0]["lr"]] * 2
        scheduler.step(loss)
    assert plateau_rates(losses, 1e-3, patience, factor, 2).tolist() == expected
    assert expected[-1] < 5e-8


def test_table_2_s_rate_is_gone_by_step_4000_where_the_loss_stays() -> None:
    """A plateau from the first epoch on: 2,000 examples in batches of 256, 10,000 steps."""
    rates = plateau_rates(np.ones(10_000 // EPOCH), **TABLE_2, steps_per_epoch=EPOCH)
    assert rates[3999] == pytest.approx(1e-3 * 0.8**45)
    assert rates[3999] == pytest.approx(4.36e-8, rel=0.01)
    assert rates[-1] == rates[3999]  # a cut would be of less than 1e-8
    assert rates.argmin() == 3968
    # In steps at the full rate: 440, and those of the epoch that sets the best loss.
    worth = EPOCH + EPOCH * 11 / (1 - 0.8)
    assert worth == pytest.approx(448)
    assert rates[:4000].sum() / 1e-3 == pytest.approx(worth, abs=0.1)
    assert rates.sum() / 1e-3 == pytest.approx(worth, abs=0.3)
    assert rates[:1000].sum() / 1e-3 == pytest.approx(412, abs=0.5)  # most of it in the first tenth of the budget


def test_a_loss_that_falls_keeps_the_rate() -> None:
    assert plateau_rates(0.9 ** np.arange(200), **TABLE_2, steps_per_epoch=EPOCH).tolist() == [1e-3] * 1600
