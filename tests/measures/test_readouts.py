"""Readouts by hand, and their derivatives with the class held fixed."""

from __future__ import annotations

import math

import pytest
import torch

from nsbench.measures.readouts import READOUTS, cross_entropy, mean_top_logit, pooled_norm, top_logit_last
from tests.measures.test_gradients import gradients

LOGITS = torch.tensor([[[1.0, 5.0], [2.0, -1.0]], [[0.0, -3.0], [-2.0, -1.0]]])


def test_values_by_hand() -> None:
    assert top_logit_last(LOGITS).tolist() == [2.0, -1.0]
    assert top_logit_last(LOGITS[:, 0]).tolist() == [5.0, 0.0]
    assert mean_top_logit(LOGITS).tolist() == [3.5, -0.5]
    # Mean hidden states (1.5, 2) and (-1, -2).
    assert pooled_norm(LOGITS).tolist() == pytest.approx([2.5, math.sqrt(5)])
    assert [readout.__name__ for readout in READOUTS.values()] == list(READOUTS)


def test_cross_entropy_is_the_mean_over_labelled_positions() -> None:
    def loss(*margins: float) -> float:
        """-log of the share of a class whose logit is ahead of the other by this, in the mean."""
        return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)

    found = cross_entropy(LOGITS, torch.tensor([[1, 1], [-100, 0]]))
    assert found.tolist() == pytest.approx([loss(4.0, -3.0), loss(-1.0)])
    assert cross_entropy(LOGITS[:, 0], torch.tensor([0, 0])).tolist() == pytest.approx([loss(-4.0), loss(3.0)])
    with pytest.raises(ValueError, match="labels_NT has no label for input 1"):
        cross_entropy(LOGITS, torch.tensor([[1, 1], [-100, -100]]))


def test_derivatives_hold_the_class_fixed() -> None:
    tied = torch.tensor([[[3.0, 1.0], [4.0, 4.0]]])
    last = gradients(top_logit_last, tied).inputs_NTC
    assert last[0, 0].tolist() == [0.0, 0.0]
    # One of the equal logits counts in full: their class is not a mixture.
    assert sorted(last[0, 1].tolist()) == [0.0, 1.0]
    assert gradients(mean_top_logit, LOGITS).inputs_NTC[0].tolist() == [[0.0, 0.5], [0.5, 0.0]]


def test_the_derivative_of_the_pooled_norm_is_a_unit_vector_shared_by_positions() -> None:
    found = gradients(pooled_norm, LOGITS).inputs_NTC
    torch.testing.assert_close(found[0], torch.tensor([[0.3, 0.4], [0.3, 0.4]]))
