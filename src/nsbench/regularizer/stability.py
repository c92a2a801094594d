"""Equation 6: the term gamma x R, of the outputs for an example and for its noisy copy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nsbench.regularizer.term import Branch, LossTerm

Output = Literal["probabilities", "logits"]


def stability_term(
    gamma: float,
    orientation: Literal[0, 1] = 1,
    *,
    gradient: Branch = "both",
    output: Output = "probabilities",
    every: int = 1,
    share: float = 1.0,
    branch: Branch = "both",
) -> LossTerm:
    """gamma x R of Equation 6; arguments, and the ValueError, as of NoiseStabilityRegularizer."""
    require(gamma >= 0, f"gamma = {gamma} is negative; 0 or more is allowed")
    require(orientation in (0, 1), f"orientation = {orientation!r} is neither 0 nor 1")
    require(output in ("probabilities", "logits"), f"output = {output!r} is neither 'probabilities' nor 'logits'")
    require(branch in ("both", "clean", "noisy"), f"branch = {branch!r} is not 'both', 'clean' or 'noisy'")
    require(
        "both" in (branch, gradient),
        f"branch = {branch!r} does not go with gradient = {gradient!r}; one of the two must be 'both'",
    )
    strength = (-1) ** orientation * gamma * every * (1 if branch == "both" else 2)
    graded = gradient if branch == "both" else branch

    def penalty(clean: Tensor, noisy: Tensor, labels: Tensor | None = None) -> Tensor:
        clean = clean.detach() if graded == "noisy" else clean
        noisy = noisy.detach() if graded == "clean" else noisy
        return agreement(clean, noisy, output)

    return LossTerm(penalty, every, share, graded, strength)


def agreement(clean_logits: Tensor, noisy_logits: Tensor, output: Output = "probabilities") -> Tensor:
    """The dot product <M(X), M(Y)> of Equation 6 for each example: (..., class) -> (...)."""
    return (outputs(clean_logits, output) * outputs(noisy_logits, output)).sum(-1)


def outputs(logits: Tensor, output: Output) -> Tensor:
    """M of Equation 6: the softmax of the logits, or the logits themselves; at least float32.

    Products of two probabilities of many classes are 0 in half precision.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits if output == "logits" else logits.softmax(-1)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
