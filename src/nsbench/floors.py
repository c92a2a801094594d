"""What a table scores on next-token prediction: floors that a trained model must beat to mean much.

Both predictors are fitted on a run's training examples alone. `commonest` answers with the
commonest training target; `bigram` with the token that most often follows the last one. They
answer as freely as a model does, whichever targets are counted: where unknown words are the
commonest target but not counted, `commonest` is never right. A loss is the mean cross entropy of
one distribution over all classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from nsbench.records import LEFT_OUT


def floor_rows(tensors: dict[str, Tensor], n_classes: int) -> list[dict[str, Any]]:
    """Rows of `records.FLOORS`, without task, variant and seed; none without `transitions`.

    `tensors` is a data set of `tasks.next_token`. Losses (nats): the commonest's from target counts
    plus one, p(b); the bigram's from (count(a, b) + p(b)) / (count(a) + 1), with counts over
    `transitions` (a, b). Ties go to the smaller id.
    """
    if "transitions" not in tensors:
        return []
    arrays = {name: value.numpy() for name, value in tensors.items()}
    target_counts = np.bincount(arrays["train_labels"].ravel(), minlength=n_classes)
    unigram = (target_counts + 1) / (target_counts.sum() + n_classes)
    commonest = int(target_counts.argmax())
    pairs = _Pairs(arrays["transitions"], n_classes)
    rows = []
    for split in ("val", "test"):
        labels = arrays[f"{split}_labels"]
        tokens = arrays[f"{split}_tokens"]
        last, labels = (tokens if labels.ndim == 2 else tokens[:, -1]).ravel(), labels.ravel()
        answers = {"commonest": np.full(len(labels), commonest), "bigram": pairs.answers(commonest)[last]}
        losses = {"commonest": -np.log(unigram[labels]), "bigram": -np.log(pairs.smoothed(last, labels, unigram))}
        for targets, names in LEFT_OUT.items():
            counted = np.ones(len(labels), dtype=bool)
            for name in names:
                counted &= ~np.isin(labels, arrays.get(name, []))
            for predictor, answer in answers.items():
                rows.append(
                    {
                        "predictor": predictor,
                        "split": split,
                        "targets": targets,
                        "n_targets": int(counted.sum()),
                        "accuracy": _mean(answer[counted] == labels[counted]),
                        "loss": _mean(losses[predictor][counted]),
                    }
                )
    return rows


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


class _Pairs:
    """How often each token follows each other one; only pairs that occur are stored."""

    def __init__(self, transitions_M2: np.ndarray, n_classes: int) -> None:
        self.n_classes = n_classes
        self.codes, self.counts = np.unique(self._code(*transitions_M2.T), return_counts=True)
        self.from_counts = np.bincount(transitions_M2[:, 0], minlength=n_classes)

    def _code(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return before * self.n_classes + after

    def answers(self, otherwise: int) -> np.ndarray:
        """For each token the commonest one after it, `otherwise` where there was none: (n_classes)."""
        before, after = np.divmod(self.codes, self.n_classes)
        order = np.lexsort((after, -self.counts, before))
        seen, first = np.unique(before[order], return_index=True)
        answers = np.full(self.n_classes, otherwise)
        answers[seen] = after[order][first]
        return answers

    def smoothed(self, before: np.ndarray, after: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """P(after | before), with the prior counted as one more observation of every token."""
        wanted = self._code(before, after)
        place = np.searchsorted(self.codes, wanted).clip(max=len(self.codes) - 1)
        counts = np.where(self.codes[place] == wanted, self.counts[place], 0)
        return (counts + prior[after]) / (self.from_counts[before] + 1)
