"""Adam of all runs of a stack over one flat buffer, and the plateau schedule of their learning rates.

Nothing here leaves the device, and a run's row meets no other. Shape suffixes: R run, P place in a run's buffer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.config.variant import Optimizer
from nsbench.training.models.stack import Stack

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""As torch's Adam has them by default."""
PLATEAU_THRESHOLD, SMALLEST_CUT = 1e-4, 1e-8
"""As torch's ReduceLROnPlateau: the share by which a loss is better, and the change of a rate that is made at all."""


class FlatOptimizer:
    """Adam, with the decay of `weight_decay_convention`, of a stack whose weights it moves into one buffer (R, P).

    settings: each run's; they may differ in learning rate and decay alone. learning_rate_R (float64) is that of the
    next step. `state` has all that the next step depends on but for the weights and the step's number.
    """

    def __init__(self, stack: Stack, settings: list[Optimizer]) -> None:
        self.settings = settings[0]
        self.weights_RP, self.gradients_RP = stack.flatten()
        device = self.weights_RP.device
        self.on_cpu = device.type == "cpu"

        def each(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64).to(device)

        self.mean_RP, self.square_RP = torch.zeros_like(self.weights_RP), torch.zeros_like(self.weights_RP)
        self.learning_rate_R = each([run.learning_rate for run in settings])
        self.best_R = each([torch.inf] * len(settings))
        self.bad_R = each([0.0] * len(settings))
        self.decay_R = each([run.weight_decay for run in settings])
        self._between_RP = torch.empty_like(self.weights_RP)

    @property
    def state(self) -> dict[str, Tensor]:
        """Tensors with the runs along their first axis."""
        return {
            "mean": self.mean_RP,
            "square": self.square_RP,
            "learning_rate": self.learning_rate_R,
            "best": self.best_R,
            "bad": self.bad_R,
        }

    @torch.no_grad()
    def step(self, step: Tensor) -> None:
        """Update all weights by their gradients. step: its number, from 0, a tensor without axes on the device."""
        weights, gradients, between = self.weights_RP, self.gradients_RP, self._between_RP
        if self.settings.weight_decay_convention == "per_step":
            weights.mul_(_column(1 - self.decay_R))
        if self.on_cpu:
            return self._step_on_cpu(step + 1)
        if self.settings.weight_decay_convention == "times_lr":
            weights.mul_(_column(1 - self.decay_R * self.learning_rate_R))
        elif self.settings.weight_decay_convention == "l2":
            gradients.addcmul_(weights, _column(self.decay_R))
        correction = 1 - BETA_1 ** (step + 1).double()
        root = (1 - BETA_2 ** (step + 1).double()).sqrt()
        self.mean_RP.lerp_(gradients, 1 - BETA_1)
        self.square_RP.mul_(BETA_2).addcmul_(gradients, gradients, value=1 - BETA_2)
        torch.sqrt(self.square_RP, out=between).add_(EPSILON * root)
        torch.div(self.mean_RP, between, out=between)
        weights.addcmul_(between, _column(-self.learning_rate_R * root / correction))

    def _step_on_cpu(self, count: Tensor) -> None:
        """torch's own kernel, a run at a time: it takes a third of the time there, and one rate for all its weights."""
        l2 = self.settings.weight_decay_convention == "l2"
        update = torch._fused_adam_ if l2 else torch._fused_adamw_
        buffers = (self.weights_RP, self.gradients_RP, self.mean_RP, self.square_RP)
        for run, decay in enumerate(self.decay_R.tolist()):
            rows = ([buffer_RP[run]] for buffer_RP in buffers)
            update(
                *rows,
                [],
                [count.float()],
                lr=self.learning_rate_R[run].item(),
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=0.0 if self.settings.weight_decay_convention == "per_step" else decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    @torch.no_grad()
    def schedule(self, losses_R: Tensor) -> None:
        """Let the plateau of each run see a loss (float64), as torch's ReduceLROnPlateau does."""
        if self.settings.scheduler == "none":
            return
        better_R = losses_R < self.best_R * (1 - PLATEAU_THRESHOLD)
        self.best_R.copy_(torch.where(better_R, losses_R, self.best_R))
        self.bad_R.copy_(torch.where(better_R, 0.0, self.bad_R + 1))
        cut_R = self.bad_R > self.settings.scheduler_patience
        self.bad_R.masked_fill_(cut_R, 0.0)
        lower_R = self.learning_rate_R * self.settings.scheduler_factor
        cut_R &= self.learning_rate_R - lower_R > SMALLEST_CUT
        self.learning_rate_R.copy_(torch.where(cut_R, lower_R, self.learning_rate_R))

    @torch.no_grad()
    def silence(self, run: int) -> None:
        """Set a run's weights and moments to zeros that stay so."""
        for rows in (self.weights_RP, self.mean_RP, self.square_RP, self.learning_rate_R, self.decay_R):
            rows[run].zero_()


def _column(values_R: Tensor) -> Tensor:
    return values_R.float()[:, None]
