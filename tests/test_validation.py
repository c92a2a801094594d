"""What training evaluates: scores over each kind of target, by hand and against plain torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nsbench.datasets import Dataset
from nsbench.model import TransformerStack
from nsbench.settings import Model, Noise
from nsbench.validation import Validation

UNKNOWN, PADDING, CLASSES = 0, 4, 5
LABELS = [[1, 2, 0], [3, PADDING, PADDING]]
"""Six targets: three known words, one unknown, two of padding."""


class Certain:
    """Stands for a stack of one: probability `sure` on a given answer at each place, whatever the tokens."""

    def __init__(self, answers: list[list[int]], sure: float) -> None:
        self.logits_1NTC = torch.full((1, 2, 3, CLASSES), math.log((1 - sure) / (CLASSES - 1)))
        self.logits_1NTC.scatter_(-1, torch.tensor(answers)[None, :, :, None], math.log(sure))
        self.at = 0

    def __call__(self, tokens_RBT: torch.Tensor) -> torch.Tensor:
        # Validation asks for the clean and then the noisy copy of each chunk of one example.
        place = self.at // 2 % 2
        self.at += 1
        return self.logits_1NTC[:, place : place + 1]


def text_data(labels: list[Any] = LABELS) -> Dataset:
    tensors = {
        "val_tokens": torch.tensor([[1, 1, 2], [2, 3, PADDING]]),
        "val_labels": torch.tensor(labels),
        "symbols": torch.arange(4),
        "unknown": torch.tensor([UNKNOWN]),
        "padding": torch.tensor([PADDING]),
    }
    return Dataset(tensors, CLASSES, CLASSES, "")


def scores(data: Dataset, stack: Any, chunk: int = 1) -> dict[str, float]:
    return Validation([data], [0], Noise(positions="task"), chunk, torch.device("cpu"))(stack)[0]


def test_targets_of_each_kind_are_counted_by_hand() -> None:
    """Right at 1, wrong at 2, right at unknown; wrong at 3, right at one padding of two."""
    found = scores(text_data(), Certain([[1, 3, 0], [2, PADDING, 1]], sure=0.6))
    right, wrong = -math.log(0.6), -math.log(0.1)
    assert found["val_accuracy"] == pytest.approx(3 / 6)
    assert found["val_accuracy_unpadded"] == pytest.approx(2 / 4)
    assert found["val_accuracy_known"] == pytest.approx(1 / 3)
    assert found["val_loss"] == pytest.approx((3 * right + 3 * wrong) / 6)
    assert found["val_loss_unpadded"] == pytest.approx((2 * right + 2 * wrong) / 4)
    assert found["val_loss_known"] == pytest.approx((right + 2 * wrong) / 3)
    # A model that does not look at its input agrees with itself: sum of p^2 at every position.
    assert found["stability"] == pytest.approx(0.36 + 4 * 0.01)


def test_a_kind_without_targets_has_no_scores() -> None:
    found = scores(text_data([[PADDING] * 3, [PADDING] * 3]), Certain(LABELS, sure=0.6))
    assert found["val_accuracy"] == pytest.approx(2 / 6)
    for name in ("val_accuracy_unpadded", "val_loss_unpadded", "val_accuracy_known", "val_loss_known"):
        assert math.isnan(found[name])


def test_without_padding_and_unknown_words_the_kinds_are_one() -> None:
    tensors = {
        "val_tokens": torch.randint(7, (30, 2)),
        "val_labels": torch.randint(7, (30,)),
        "symbols": torch.arange(7),
    }
    stack = TransformerStack(Model(d_model=8), 7, 7, [3])
    found = scores(Dataset(tensors, 7, 7, ""), stack, chunk=7)
    for name in ("val_loss", "val_accuracy"):
        assert found[name] == found[f"{name}_unpadded"] == found[f"{name}_known"]
    logits = stack(tensors["val_tokens"][None])[0]
    assert found["val_loss"] == pytest.approx(F.cross_entropy(logits, tensors["val_labels"]).item(), rel=1e-6)
    assert found["val_accuracy"] == (logits.argmax(-1) == tensors["val_labels"]).double().mean().item()


def test_every_position_counts_once_and_chunks_change_nothing() -> None:
    model = Model(d_model=8, mask="causal", pooling="none")
    stack = TransformerStack(model, CLASSES, CLASSES, [3])
    data = text_data()
    whole, parts = scores(data, stack, chunk=2), scores(data, stack, chunk=1)
    assert whole == pytest.approx(parts)
    logits = stack(data["val_tokens"][None])[0]
    assert whole["val_loss"] == pytest.approx(
        F.cross_entropy(logits.flatten(0, 1), data["val_labels"].flatten()).item()
    )
    plain = Validation([data], [0], Noise(positions="task"), 2, torch.device("cpu")).losses(stack)[0]
    assert plain == pytest.approx(whole["val_loss"])


def test_padding_and_unknown_are_read_from_the_data() -> None:
    data = text_data()
    assert data.counted("all", "val").tolist() == [[True] * 3] * 2
    assert data.counted("unpadded", "val").tolist() == [[True] * 3, [True, False, False]]
    assert data.counted("known", "val").tolist() == [[True, True, False], [True, False, False]]
