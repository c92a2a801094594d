"""What a table scores on a data set: floors that a trained model must beat to mean much.

All predictors are fitted on a run's training examples alone. `lookup` answers with the commonest training target of
the very input, and with the commonest of all where training has no such input; how often it has one is the data set's
overlap. For next tokens there are also `commonest`, which answers with the commonest training target, and `bigram`,
with the token that most often follows the last one. They answer as freely as a model does, whichever targets are
counted: where unknown words are the commonest target but not counted, `commonest` is never right. A loss is the mean
cross entropy of one distribution over all classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from nsbench.records import LEFT_OUT

CONTEXT = 5
"""Tokens up to a target that `lookup` takes for its input where there is a target at each position, or of a text."""


def lookup_rows(tensors: dict[str, Tensor], inputs: Callable[[np.ndarray], np.ndarray] | None = None) -> list[dict]:
    """The rows of `lookup` in `records.FLOORS`, without task, variant and seed.

    tensors: a data set. inputs: from tokens (N, T) to what the table takes for an example's input, (N, anything): the
    whole sequence unless given. With a target at each position the input is the last CONTEXT tokens up to it.
    """
    arrays = {name: value.numpy() for name, value in tensors.items()}
    labels = {split: arrays[f"{split}_labels"] for split in ("train", "val", "test")}
    commonest = int(np.bincount(labels["train"].ravel()).argmax())
    every = labels["train"].ndim == 2
    answers = {split: np.full(labels[split].shape, commonest) for split in ("val", "test")}
    seen = {split: np.zeros(labels[split].shape, dtype=bool) for split in ("val", "test")}
    for width in range(1, min(CONTEXT, arrays["train_tokens"].shape[1]) + 1) if every else [None]:
        for split in ("val", "test"):
            asked, known = arrays[f"{split}_tokens"], arrays["train_tokens"]
            places: Any = ...
            if every:
                # The tokens of a context of this width end at each position from width - 1 on; fewer stand before.
                places = (slice(None), slice(width - 1, width if width < CONTEXT else None))
                asked, known = (sliding_window_view(tokens, width, axis=1) for tokens in (asked, known))
                asked = asked[:, : 1 if width < CONTEXT else None]
                trained = labels["train"][:, width - 1 :].ravel()
            else:
                trained = labels["train"]
                asked, known = (tokens if inputs is None else inputs(tokens) for tokens in (asked, known))
            shape = labels[split][places].shape
            found, right = _looked_up(asked.reshape(-1, asked.shape[-1]), known.reshape(-1, known.shape[-1]), trained)
            seen[split][places] = found.reshape(shape)
            answers[split][places] = np.where(found, right, commonest).reshape(shape)
    rows = []
    for split in ("val", "test"):
        for targets, counted in _counted(arrays, split).items():
            rows.append(
                {
                    "predictor": "lookup",
                    "split": split,
                    "targets": targets,
                    "n_targets": int(counted.sum()),
                    "accuracy": _mean((answers[split] == labels[split]).ravel()[counted]),
                    "loss": math.nan,
                    "seen": _mean(seen[split].ravel()[counted]),
                }
            )
    return rows


def _looked_up(asked_NT: np.ndarray, known_MT: np.ndarray, labels_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row stands among the known ones, (N), and the commonest label that it has there (0 elsewhere), (N).

    Ties go to the smaller label.
    """
    _, place = np.unique(np.concatenate([known_MT, asked_NT]), axis=0, return_inverse=True)
    known, asked = np.split(place.ravel(), [len(known_MT)])
    pairs, counts = np.unique(np.stack([known, labels_M]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    rows, first = np.unique(pairs[0][order], return_index=True)
    found, answer = np.zeros(place.max() + 1, dtype=bool), np.zeros(place.max() + 1, dtype=np.int64)
    found[rows], answer[rows] = True, pairs[1][order][first]
    return found[asked], answer[asked]


def _counted(arrays: dict[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """Kind of `records.TARGETS` -> which of a split's targets it counts, (targets)."""
    labels = arrays[f"{split}_labels"].ravel()
    return {
        targets: ~np.isin(labels, [value for name in names for value in arrays.get(name, [])])
        for targets, names in LEFT_OUT.items()
    }


def floor_rows(tensors: dict[str, Tensor], n_classes: int) -> list[dict[str, Any]]:
    """The rows of `commonest` and `bigram`, as `lookup_rows`; none without `transitions`.

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
        for targets, counted in _counted(arrays, split).items():
            for predictor, answer in answers.items():
                rows.append(
                    {
                        "predictor": predictor,
                        "split": split,
                        "targets": targets,
                        "n_targets": int(counted.sum()),
                        "accuracy": _mean(answer[counted] == labels[counted]),
                        "loss": _mean(losses[predictor][counted]),
                        "seen": math.nan,
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
