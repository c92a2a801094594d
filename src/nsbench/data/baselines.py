"""What a table scores on a data set: floors that a trained model must beat to mean much.

All predictors are fitted on a run's training examples alone. `lookup` answers with the commonest target that training
has for the same input, and with the commonest of all where training has no such input; `seen` is the share of targets
for which it has one. For images there is `nearest_mean` instead: the class whose mean training image is nearest. For
next tokens there are also `commonest`, which always answers with the commonest training target, and `bigram`, which
answers with the token that most often follows the last one. They answer as freely as a model does, whichever targets
are counted: where unknown words are the commonest target but not counted, `commonest` is never right. A loss is the
mean cross entropy of one distribution over all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nsbench.schemas.metrics import LEFT_OUT

SPLITS = ("train", "val", "test")
CONTEXT = 5
"""Tokens of a text, up to a target, that `lookup` takes for its input."""
PIECE = 1024
"""Examples that are numbers of 8 bytes at once."""
Arrays = dict[str, np.ndarray]


def lookup_rows(arrays: Arrays, context: int | None = None) -> list[dict[str, Any]]:
    """The rows of `lookup` in `schemas.training.FLOORS`, without task, variant and seed.

    arrays: a data set. context: how many of the tokens up to a target are its input; None: all. With a target at each
    position, the first positions have fewer; their input is compared with as many tokens anywhere in training.
    Ties go to the smaller label.
    """
    labels = {split: arrays[f"{split}_labels"].reshape(len(arrays[f"{split}_labels"]), -1) for split in SPLITS}
    commonest = int(np.bincount(labels["train"].ravel()).argmax())
    answers = {split: np.full_like(labels[split], commonest) for split in SPLITS}
    seen = {split: np.zeros(labels[split].shape, dtype=bool) for split in SPLITS}
    n_tokens, n_targets = arrays["train_tokens"].shape[1], labels["train"].shape[1]
    longest = min(context or n_tokens, n_tokens)
    # A longer input overwrites what a shorter one gave, where there are tokens enough for it.
    for width in range(1, longest + 1) if n_targets > 1 else [longest]:
        ids, n_inputs = _input_ids(arrays, width, n_targets)
        places = slice(-ids["train"].shape[1], None)
        pairs_M2 = np.stack([ids["train"].ravel(), labels["train"][:, places].ravel()], axis=1)
        table = _Pairs(pairs_M2, max(n_inputs, pairs_M2[:, 1].max() + 1))
        for split in SPLITS:
            seen[split][:, places] = table.from_counts[ids[split]] > 0
            answers[split][:, places] = table.answers(commonest)[ids[split]]
    return [
        row
        for split in ("val", "test")
        for row in _rows(arrays, split, "lookup", answers[split].ravel(), seen=seen[split].ravel())
    ]


def ngram_rows(arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
    """The rows of `commonest` and `bigram`, as `lookup_rows`, of a data set of next tokens.

    Losses (nats): the commonest's from target counts plus one, p(b); the bigram's from (count(a, b) + p(b)) /
    (count(a) + 1), with counts over `transitions` (a, b). Ties go to the smaller id.
    """
    target_counts = np.bincount(arrays["train_labels"].ravel(), minlength=n_classes)
    unigram = (target_counts + 1) / (target_counts.sum() + n_classes)
    commonest = int(target_counts.argmax())
    pairs = _Pairs(arrays["transitions"], n_classes)
    rows: list[dict[str, Any]] = []
    for split in ("val", "test"):
        labels, tokens = arrays[f"{split}_labels"], arrays[f"{split}_tokens"]
        last, labels = (tokens if labels.ndim == 2 else tokens[:, -1]).ravel(), labels.ravel()
        losses = -np.log(unigram[labels]), -np.log(pairs.smoothed(last, labels, unigram))
        always = _rows(arrays, split, "commonest", np.full(len(labels), commonest), losses[0])
        after_last = _rows(arrays, split, "bigram", pairs.answers(commonest)[last], losses[1])
        rows += [row for both in zip(always, after_last, strict=True) for row in both]
    return rows


def nearest_mean_rows(arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
    """The rows of `nearest_mean`, as `lookup_rows`, of a data set of patches with a label for each example.

    It answers with the class whose mean training input is nearest, ties with the smaller; a class without training
    examples is no answer.
    """

    def flat(tokens: np.ndarray) -> np.ndarray:
        return tokens.reshape(len(tokens), -1)

    train, labels = flat(arrays["train_tokens"]), arrays["train_labels"]
    present = np.flatnonzero(np.bincount(labels, minlength=n_classes))
    means_CF = np.stack([train[labels == label].mean(0, dtype=np.float64) for label in present])
    offsets_C = (means_CF**2).sum(1) / 2

    def answers(tokens: np.ndarray) -> np.ndarray:
        pieces = np.array_split(flat(tokens), -(-len(tokens) // PIECE))
        nearness = np.concatenate([piece.astype(np.float64) @ means_CF.T for piece in pieces]) - offsets_C
        return present[nearness.argmax(1)]

    return rule_rows(arrays, "nearest_mean", answers)


def rule_rows(arrays: Arrays, predictor: str, answers: Callable[[np.ndarray], np.ndarray]) -> list[dict[str, Any]]:
    """The rows of a rule, as `lookup_rows`. answers: of tokens (N, ...) the labels that it gives, (N)."""
    return [
        row for split in ("val", "test") for row in _rows(arrays, split, predictor, answers(arrays[f"{split}_tokens"]))
    ]


def _rows(
    arrays: Arrays,
    split: str,
    predictor: str,
    answers: np.ndarray,
    loss: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> Iterator[dict[str, Any]]:
    """A predictor's row of each kind of `schemas.metrics.TARGETS`; all arrays: of each target, flat."""
    labels = arrays[f"{split}_labels"].ravel()
    for targets, names in LEFT_OUT.items():
        counted = ~np.isin(labels, [value for name in names for value in arrays.get(name, [])])
        values = {"accuracy": answers == labels, "loss": loss, "seen": seen}
        yield {
            "predictor": predictor,
            "split": split,
            "targets": targets,
            "n_targets": int(counted.sum()),
            **{
                name: float("nan") if value is None or not counted.any() else float(value[counted].mean())
                for name, value in values.items()
            },
        }


def _input_ids(arrays: Arrays, width: int, n_targets: int) -> tuple[Arrays, int]:
    """A number for the `width` tokens up to each of the last targets, the same for the same tokens; and how many.

    (N, targets) by split: the targets that have so many tokens before them.
    """
    windows_NPW = {
        split: sliding_window_view(arrays[f"{split}_tokens"], width, axis=1)[:, -n_targets:] for split in SPLITS
    }
    rows = np.concatenate([windows.reshape(-1, width) for windows in windows_NPW.values()])
    different, ids = np.unique(rows, axis=0, return_inverse=True)
    ends = np.cumsum([windows[..., 0].size for windows in windows_NPW.values()])[:-1]
    parts = zip(windows_NPW.items(), np.split(ids.ravel(), ends), strict=True)
    return {split: part.reshape(windows.shape[:2]) for (split, windows), part in parts}, len(different)


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
