"""Readouts: the one number of a model's output whose influences and stability are measured.

Each maps the outputs of N inputs to N numbers, none of which depends on another input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

NO_LABEL = -100
"""Label of a position that has none."""


def top_logit_last(logits_NTC: Tensor) -> Tensor:
    """(N) from (N, T, C) or (N, C): the largest logit at the last position, or the only one.

    Which class is the largest is taken as fixed, so that the derivative is that of this class's logit; of equal
    logits one counts.
    """
    return _top(logits_NTC[:, -1] if logits_NTC.ndim == 3 else logits_NTC)


def mean_top_logit(logits_NTC: Tensor) -> Tensor:
    """(N) from (N, T, C): the mean over positions of each one's largest logit, the classes taken as fixed."""
    return _top(logits_NTC).mean(-1)


def pooled_norm(hidden_NTC: Tensor) -> Tensor:
    """(N) from (N, T, C): the Euclidean norm of the mean over positions of the hidden states."""
    return hidden_NTC.mean(1).norm(dim=-1)


def cross_entropy(logits_NTC: Tensor, labels_NT: Tensor) -> Tensor:
    """(N): the mean over an input's labelled positions of -log softmax(logits)[label], in nats.

    logits: (N, T, C) with labels (N, T), or (N, C) with labels (N). The logits of a position are held against
    the label there: for the next token, the caller moves the tokens by one. Label -100: none. Raises
    ValueError where an input has no label at all.
    """
    counts_N = (labels_NT != NO_LABEL).reshape(len(labels_NT), -1).sum(1)
    if not counts_N.all():
        raise ValueError(f"labels_NT has no label for input {int(counts_N.argmin())}; allowed: at least one an input")
    losses = F.cross_entropy(logits_NTC.flatten(0, -2), labels_NT.flatten(), ignore_index=NO_LABEL, reduction="none")
    return losses.view(len(labels_NT), -1).sum(1) / counts_N


READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "top_logit_last": top_logit_last,
    "mean_top_logit": mean_top_logit,
    "pooled_norm": pooled_norm,
}
"""The readouts that need no labels, by name. `pooled_norm` is of hidden states, the others of logits."""


def _top(logits: Tensor) -> Tensor:
    """The largest entry along the last axis, at an index that is not differentiated."""
    # Not amax: it shares the derivative among equal entries, as if the class were not settled.
    return logits.gather(-1, logits.detach().argmax(-1, keepdim=True)).squeeze(-1)
