"""What training evaluates while it runs, and when."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config import Noise, Training
from nsbench.datasets import Dataset
from nsbench.model import TransformerStack
from nsbench.noise import resample_tokens
from nsbench.regularizers import agreement
from nsbench.seeding import torch_stream

STABILITY_RHO = 0.5
"""The rho at which training records the quantity of Definition 6.1 (section J.2)."""


class Validation:
    """Validation loss, accuracy and Definition 6.1's quantity at rho = 1/2, without dropout.

    The noisy copies are drawn once per run, so that the recorded stability moves with the model
    and not with the noise.
    """

    def __init__(
        self, datasets: list[Dataset], seeds: list[int], noise: Noise, chunk: int, device: torch.device
    ) -> None:
        self.chunk, self.output = chunk, noise.output
        self.tokens_RNT = torch.stack([data["val_tokens"] for data in datasets]).to(device)
        self.labels_RN = torch.stack([data["val_labels"] for data in datasets]).to(device)
        noisy_NT = [
            resample_tokens(
                data["val_tokens"],
                STABILITY_RHO,
                data.noise_symbols(noise),
                torch_stream(seed, "validation_noise"),
                same_symbol=noise.same_symbol,
                fixed_ids=data.fixed_ids(noise),
            )
            for seed, data in zip(seeds, datasets, strict=True)
        ]
        self.noisy_RNT = torch.stack(noisy_NT).to(device)

    def __call__(self, stack: TransformerStack) -> tuple[list[float], list[float], list[float]]:
        """Loss (nats), accuracy and stability of each run."""
        loss, accuracy, clean_RNC = self.losses(stack)
        stability_R = agreement(clean_RNC, self._logits(stack, self.noisy_RNT), self.output).double().mean(1)
        return loss, accuracy, stability_R.tolist()

    def losses(self, stack: TransformerStack) -> tuple[list[float], list[float], Tensor]:
        """Loss (nats) and accuracy of each run, and the logits (R, N, C)."""
        logits_RNC = self._logits(stack, self.tokens_RNT)
        loss_RN = F.cross_entropy(logits_RNC.flatten(0, 1), self.labels_RN.flatten(), reduction="none")
        loss_R = loss_RN.view(self.labels_RN.shape).double().mean(1)
        accuracy_R = (logits_RNC.argmax(-1) == self.labels_RN).double().mean(1)
        return loss_R.tolist(), accuracy_R.tolist(), logits_RNC

    @torch.no_grad()
    def _logits(self, stack: TransformerStack, tokens_RNT: Tensor) -> Tensor:
        return torch.cat([stack(chunk) for chunk in tokens_RNT.split(self.chunk, dim=1)], dim=1)


def evaluation_steps(training: Training) -> list[int]:
    """Steps at which a run is evaluated: 0, every `eval_every_steps`, and the last."""
    steps = list(range(0, training.steps + 1, training.eval_every_steps))
    return steps if steps[-1] == training.steps else [*steps, training.steps]


def checkpoint_steps(training: Training, count: int) -> list[int]:
    """At most `count` of the evaluated steps, evenly spread, first and last included."""
    steps = evaluation_steps(training)
    return [steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(count, len(steps)))]
