"""Loss and accuracy of a model on labelled inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor

from nsbench.measures.base import Estimate


def scores(
    model: Callable[[Tensor], Tensor], tokens_NT: Tensor, labels_N: Tensor, counted: Mapping[str, Tensor]
) -> Iterator[Estimate]:
    """Measures `test_accuracy` (share right) and `test_loss` (mean cross entropy, nats).

    model: tokens (N, T) to logits (N, C), or (N, T, C) with labels (N, T). counted: reduction ->
    which labels count, bool, of the labels' shape. The standard error is that of independent
    inputs, whose targets may depend on each other; value and error are NaN where nothing counts.
    """
    logits_NC = model(tokens_NT)
    right_N = (logits_NC.argmax(-1) == labels_N).double()
    loss_N = F.cross_entropy(logits_NC.flatten(0, -2), labels_N.flatten(), reduction="none").view(labels_N.shape)
    for measure, values_N in (("test_accuracy", right_N), ("test_loss", loss_N.double())):
        for reduction, counted_N in counted.items():
            yield _ratio(measure, reduction, values_N, counted_N)


def _ratio(measure: str, reduction: str, values_N: Tensor, counted_N: Tensor) -> Estimate:
    """Mean of the counted values, and its standard error as a ratio of sums over inputs."""
    n_inputs, n_targets = len(values_N), int(counted_N.sum())
    if not n_targets:
        return Estimate(measure, reduction, math.nan, math.nan, math.nan, n_inputs)
    value = (values_N[counted_N].sum() / n_targets).item()
    # Inputs count as often as they have targets: the error of a ratio, by the delta method.
    off_N = ((values_N - value) * counted_N).reshape(n_inputs, -1).sum(1)
    error = math.sqrt(off_N.square().sum().item() * n_inputs / max(1, n_inputs - 1)) / n_targets
    return Estimate(measure, reduction, math.nan, value, error if n_inputs > 1 else math.nan, n_inputs)
