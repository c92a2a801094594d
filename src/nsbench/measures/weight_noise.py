"""Sharpness: how a model answers noise on its weights (section 6 of arXiv 2403.06925)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.measures.base import Estimate, Model
from nsbench.measures.estimate import estimate
from nsbench.measures.outputs import passes
from nsbench.training.models.stack import Stack

SCALES = {"absolute": 0.05, "relative": 0.1, "filter": 0.1}
"""The noise's standard deviation: as it is, as the paper's code has it; times the root mean square of the tensor that
it is added to; or times that of the weights of each of its outputs ("filter-normalised")."""


def weight_noise(
    model: Model, stack: Stack, tokens: Tensor, labels_N: Tensor, generator: torch.Generator, n_draws: int
) -> Iterator[Estimate]:
    """Effects of N(0, scale^2) noise on all weights, means over inputs and draws, for each of SCALES. Reductions:

    <scale>-logits: mean |change of a logit|. <scale>-flips: how often the decision changes. <scale>-loss: how much the
    cross entropy grows (nats).

    stack: one model, which `model` computes with; its weights are as before afterwards. Standard errors are those of
    independent inputs, for these draws of noise.
    """
    clean_NC = model(tokens)
    loss_N = F.cross_entropy(clean_NC, labels_N, reduction="none")
    for scale, size in SCALES.items():
        effects = []
        for _ in range(n_draws):
            with disturbed(stack, scale, size, generator):
                cuts = passes(len(tokens), model.device)
                logits_NC = torch.cat([stack(tokens[None, cut].to(model.device))[0].cpu() for cut in cuts])
            flips_N = (logits_NC.argmax(-1) != clean_NC.argmax(-1)).double()
            grown_N = F.cross_entropy(logits_NC, labels_N, reduction="none") - loss_N
            effects.append(torch.stack([(logits_NC - clean_NC).abs().mean(-1), flips_N, grown_N]))
        for name, of_draws in zip(("logits", "flips", "loss"), torch.stack(effects).mean(0), strict=True):
            yield estimate("weight_noise", f"{scale}-{name}", math.nan, of_draws, n_draws)


@contextlib.contextmanager
def disturbed(stack: Stack, scale: str, size: float, generator: torch.Generator) -> Iterator[None]:
    """Inside, the one model of a stack has noise on its weights."""
    before = {name: weight.clone() for name, weight in stack.run_weights(0).items()}
    with torch.no_grad():
        axis = stack.output_axis
        noisy = {name: weight + size * _noise(weight, scale, axis, generator) for name, weight in before.items()}
        try:
            stack.load_run(0, noisy)
            yield
        finally:
            stack.load_run(0, before)


def _noise(weight: Tensor, scale: str, output_axis: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(weight.shape, generator=generator).to(weight.device)
    if scale == "absolute":
        return noise
    if scale == "relative" or weight.dim() < 2:
        return noise * weight.square().mean().sqrt()
    axes = [axis for axis in range(weight.dim()) if axis != output_axis % weight.dim()]
    return noise * weight.square().mean(axes, keepdim=True).sqrt()
