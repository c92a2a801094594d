"""The optimisers of a stack and their schedulers: one per run, over views of the stack's weights and gradients.

So a run's learning rate and its state are its alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nsbench.config.variant import Optimizer
from nsbench.training.models.stack import Stack


def build_optimizer(weights: list[Tensor], settings: Optimizer, device: torch.device) -> torch.optim.Optimizer:
    """Adam with the decay of `weight_decay_convention`; `per_step` is applied by `Optimizers.step`."""
    kind = torch.optim.Adam if settings.weight_decay_convention == "l2" else torch.optim.AdamW
    on_gpu = device.type == "cuda"
    return kind(
        weights,
        # A captured graph reads the learning rate from a tensor, so that a scheduler can change it.
        lr=torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate,
        weight_decay=0.0 if settings.weight_decay_convention == "per_step" else settings.weight_decay,
        fused=True,
        capturable=on_gpu,
    )


class Optimizers:
    """Those of all runs of a stack; its gradients are set to zeros, and stay the same tensors."""

    def __init__(self, stack: Stack, settings: Optimizer) -> None:
        self.settings = settings
        for weight in stack.parameters():
            weight.grad = torch.zeros_like(weight)
        self.weights = [self._views(stack, run) for run in range(stack.n_runs)]
        device = next(stack.parameters()).device
        self.runs = [build_optimizer(weights, settings, device) for weights in self.weights]
        self.schedulers = [self._plateau(optimizer) for optimizer in self.runs]

    def step(self) -> None:
        """Update all weights by their gradients."""
        for weights, optimizer in zip(self.weights, self.runs, strict=True):
            if self.settings.weight_decay_convention == "per_step":
                torch._foreach_mul_(weights, 1.0 - self.settings.weight_decay)
            optimizer.step()

    def learning_rate(self, run: int) -> float:
        """The learning rate of a run's next step."""
        return float(self.runs[run].param_groups[0]["lr"])

    def schedule(self, losses: list[float]) -> None:
        """Let each run's scheduler see a loss."""
        for scheduler, loss in zip(self.schedulers, losses, strict=True):
            if scheduler is not None:
                scheduler.step(loss)

    def scheduler_state(self, run: int) -> dict[str, Any] | None:
        """But for a copy of the learning rate: that is in `state`, and a tensor on a GPU."""
        scheduler = self.schedulers[run]
        return scheduler and {name: value for name, value in scheduler.state_dict().items() if name != "_last_lr"}

    def state(self, run: int) -> dict[str, Tensor]:
        """The learning rate, and what the optimiser of a run keeps of each weight."""
        state = {"learning_rate": torch.tensor(self.learning_rate(run), dtype=torch.float64)}
        for index, weight in enumerate(self.weights[run]):
            for name, value in self.runs[run].state[weight].items():
                state[f"optimizer.{index}.{name}"] = value
        return state

    def load_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set what `state` returned, in place."""
        group = self.runs[run].param_groups[0]
        rate = float(state["learning_rate"])
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        for index, weight in enumerate(self.weights[run]):
            prefix, kept = f"optimizer.{index}.", self.runs[run].state[weight]
            saved = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            for name, value in saved.items():
                if name in kept:
                    kept[name].copy_(value)
                else:
                    kept[name] = value.clone()

    def reset(self) -> None:
        """Forget all steps so far."""
        for optimizer in self.runs:
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()

    @staticmethod
    def _views(stack: Stack, run: int) -> list[Tensor]:
        views = []
        for weight in stack.parameters():
            view = weight.detach()[run]
            view.grad = weight.grad[run]
            views.append(view)
        return views

    def _plateau(self, optimizer: torch.optim.Optimizer) -> Any:
        settings = self.settings
        if settings.scheduler == "none":
            return None
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=settings.scheduler_factor, patience=settings.scheduler_patience
        )
