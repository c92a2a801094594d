"""What training evaluates while it runs, and when."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.variant import Noise, Training
from nsbench.data.datasets import Dataset
from nsbench.regularizer.stability import outputs
from nsbench.schemas.metrics import TARGETS
from nsbench.storage.seeding import torch_stream
from nsbench.training.models.stack import Stack

STABILITY_RHO = 0.5
"""The rho at which training records the quantity of Definition 6.1 (section J.2)."""


class Validation:
    """Validation losses, accuracies and Definition 6.1's quantity at rho = 1/2, without dropout.

    The noisy copies are drawn once per run, so that the recorded stability moves with the model
    and not with the noise. With a target at each position all are means over examples and positions.
    """

    def __init__(
        self, datasets: list[Dataset], seeds: list[int], noise: Noise, chunk: int, device: torch.device
    ) -> None:
        self.chunk, self.output = chunk, noise.output
        self.tokens_RNT = torch.stack([data["val_tokens"] for data in datasets]).to(device)
        # Labels are (R, N), or (R, N, T) where there is a target at each position.
        self.labels_RN = torch.stack([data["val_labels"] for data in datasets]).to(device)
        counted = [torch.stack([data.counted(kind, "val") for data in datasets]) for kind in TARGETS]
        self.counted_KRN = torch.stack(counted).to(device)
        noisy_NT = [
            data.noisy_copy(data["val_tokens"], STABILITY_RHO, noise, torch_stream(seed, "validation_noise"))
            for seed, data in zip(seeds, datasets, strict=True)
        ]
        self.noisy_RNT = torch.stack(noisy_NT).to(device)

    @torch.no_grad()
    def __call__(self, stack: Stack) -> dict[str, Tensor]:
        """`schemas.training.HISTORY`'s columns from `val_loss` to `weight_norm`, (R) each, on the stack's device."""
        losses, rights, noise = [], [], []
        for start in range(0, self.tokens_RNT.shape[1], self.chunk):
            here = slice(start, start + self.chunk)
            logits_RNC = stack(self.tokens_RNT[:, here])
            losses.append(_losses(logits_RNC, self.labels_RN[:, here]))
            noise.append(_under_noise(logits_RNC, stack(self.noisy_RNT[:, here]), self.output))
            rights.append(noise[-1]["clean"] == self.labels_RN[:, here].flatten(1))
        loss_RX, right_RX = torch.cat(losses, 1), torch.cat(rights, 1).double()
        kept = {name: torch.cat([part[name] for part in noise], 1) for name in noise[0]}
        columns = _noise_scores(kept, logits_RNC.shape[-1])
        squares = [weight.double().square().flatten(1).sum(1) for weight in stack.parameters()]
        columns["weight_norm"] = torch.stack(squares).sum(0).sqrt()
        for suffix, counted_RN in zip(TARGETS.values(), self.counted_KRN, strict=True):
            counted_RX = counted_RN.flatten(1)
            count_R = counted_RX.sum(1)
            for name, values_RX in (("val_loss", loss_RX), ("val_accuracy", right_RX)):
                # Not 0 x value: a diverged run's losses may be infinite.
                means_R = torch.where(counted_RX, values_RX, 0.0).sum(1) / count_R
                columns[name + suffix] = torch.where(count_R > 0, means_R, math.nan)
        return columns

    @torch.no_grad()
    def losses(self, stack: Stack) -> Tensor:
        """`val_loss` of each run (R), in nats."""
        chunks = zip(self.tokens_RNT.split(self.chunk, 1), self.labels_RN.split(self.chunk, 1), strict=True)
        return torch.cat([_losses(stack(tokens), labels) for tokens, labels in chunks], 1).mean(1)


def _losses(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """Cross entropy (nats) of every target, (R, targets), float64."""
    loss_X = F.cross_entropy(logits_RNC.flatten(0, -2), labels_RN.flatten(), reduction="none")
    return loss_X.view(len(labels_RN), -1).double()


def _under_noise(clean_RNC: Tensor, noisy_RNC: Tensor, output: str) -> dict[str, Tensor]:
    """What is kept of each output and its noisy twin's: (R, targets) each."""
    clean, noisy = outputs(clean_RNC, output), outputs(noisy_RNC, output)
    probabilities = clean if output == "probabilities" else clean_RNC.softmax(-1)
    dot = (clean * noisy).sum(-1).double()
    kept = {
        "stability": dot,
        "stability_cosine": dot / (clean.norm(dim=-1).double() * noisy.norm(dim=-1).double()),
        "output_entropy": torch.special.entr(probabilities).sum(-1).double(),
        "clean": clean_RNC.argmax(-1),
        "noisy": noisy_RNC.argmax(-1),
    }
    return {name: value.flatten(1) for name, value in kept.items()}


def _noise_scores(kept: dict[str, Tensor], n_classes: int) -> dict[str, Tensor]:
    """The means over targets of what `_under_noise` keeps, and how far decisions agree: (R) each, float64."""
    clean_RX, noisy_RX = kept["clean"], kept["noisy"]
    shares = [_shares(decisions_RX, n_classes) for decisions_RX in (clean_RX, noisy_RX)]
    by_chance_R = (shares[0] * shares[1]).sum(1)
    varied_R = torch.where(by_chance_R < 1, 1 - by_chance_R, math.nan)  # not 0 / 0, whose NaN has another sign
    agreement_R = (clean_RX == noisy_RX).double().mean(1)
    means = {name: kept[name].mean(1) for name in ("stability", "stability_cosine", "output_entropy")}
    return {
        **means,
        "decision_agreement": agreement_R,
        "decision_agreement_corrected": (agreement_R - by_chance_R) / varied_R,
    }


def _shares(decisions_RX: Tensor, n_classes: int) -> Tensor:
    """The share of each class among the decisions of each run, (R, classes)."""
    counts_RC = torch.zeros(len(decisions_RX), n_classes, dtype=torch.float64, device=decisions_RX.device)
    ones_RX = torch.ones_like(decisions_RX, dtype=torch.float64)
    return counts_RC.scatter_add_(1, decisions_RX, ones_RX) / decisions_RX.shape[1]


def evaluation_steps(training: Training) -> list[int]:
    """Steps at which a run is evaluated: 0, every `eval_every_steps`, and the last."""
    steps = list(range(0, training.steps + 1, training.eval_every_steps))
    return steps if steps[-1] == training.steps else [*steps, training.steps]


def checkpoint_steps(training: Training, count: int) -> list[int]:
    """At most `count` of the evaluated steps, evenly spread, first and last included."""
    steps = evaluation_steps(training)
    return [steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(count, len(steps)))]
