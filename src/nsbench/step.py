"""One optimiser step of a stack of models: loss, gradient, update, on the CPU or as a CUDA graph.

All inputs of a step (tokens, labels, noisy tokens, dropout bits) are copied into fixed buffers
first, and what follows is a pure function of buffers, weights and optimiser state. So the same
code runs eagerly on a CPU and is captured once and replayed on a GPU, where the launches of a small
model would otherwise cost more than its arithmetic.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nsbench.config import Arm
from nsbench.datasets import Dataset
from nsbench.model import DropoutMasks, TransformerStack, dropout_size
from nsbench.regularizers import NoiseStabilityRegularizer
from nsbench.seeding import fill_bits, torch_stream
from nsbench.settings import Model, Noise, Optimizer

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 3


def build_regularizer(arm: Arm, noise: Noise, data: Dataset) -> NoiseStabilityRegularizer | None:
    """The regulariser of an arm; None for the baseline."""
    if arm.kind == "baseline":
        return None
    return NoiseStabilityRegularizer(
        arm.rho,
        arm.gamma,
        arm.orientation,
        symbols=data.noise_symbols(noise),
        same_symbol=noise.same_symbol,
        fixed_ids=data.fixed_ids(noise),
        gradient=noise.gradient,
        output=noise.output,
        n_draws=noise.n_draws,
    )


def build_optimizer(weights: list[Tensor], settings: Optimizer, device: torch.device) -> torch.optim.Optimizer:
    """Adam with the decay of `weight_decay_convention`; `per_step` is applied by the step itself."""
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


class TrainingStep:
    """The training step of a stack.

    loss_sum_R and correct_sum_R (float64) add up, over all steps, the mean cross entropy of each
    batch in nats and its share of right answers; `data` is any one data set of the stack (they share
    shapes, vocabulary and symbols); `flops` is the number of matrix-product
    operations of one step of one run (known after the first step).
    """

    def __init__(
        self,
        stack: TransformerStack,
        seeds: list[int],
        arm: Arm,
        model: Model,
        optimizer: Optimizer,
        noise: Noise,
        data: Dataset,
        batch_size: int,
    ) -> None:
        self.stack, self.seeds = stack, seeds
        self.settings, self.noise = optimizer, noise
        self.dropout_rate = model.dropout
        self.regularizer = build_regularizer(arm, noise, data)
        self.device = next(stack.parameters()).device
        self.flops = 0.0

        length = data["train_tokens"].shape[1]
        labels_shape = data["train_labels"].shape[1:]
        n_runs, n_draws = len(seeds), noise.n_draws if self.regularizer else 0
        self.tokens_RBT = torch.zeros(n_runs, batch_size, length, dtype=torch.int64, device=self.device)
        # Labels are (R, B), or (R, B, T) where there is a target at each position.
        self.labels_RB = torch.zeros(n_runs, batch_size, *labels_shape, dtype=torch.int64, device=self.device)
        self.noisy_NRBT = torch.zeros(n_draws, *self.tokens_RBT.shape, dtype=torch.int64, device=self.device)
        n_bits = dropout_size(model, batch_size, length)
        self.bits_RN = torch.zeros(n_runs, n_bits, dtype=torch.int16, device=self.device)
        own_masks = noise.dropout_masks == "independent"
        self.noisy_bits_NRN = torch.zeros(
            n_draws if own_masks else 0, n_runs, n_bits, dtype=torch.int16, device=self.device
        )
        self.loss_sum_R = torch.zeros(n_runs, dtype=torch.float64, device=self.device)
        self.correct_sum_R = torch.zeros(n_runs, dtype=torch.float64, device=self.device)

        # Each run has an optimiser of its own over views of the stack's weights and gradients, so
        # that its learning rate and its state are its alone.
        for weight in stack.parameters():
            weight.grad = torch.zeros_like(weight)
        self.run_weights = [self._views(run) for run in range(n_runs)]
        self.optimizers = [build_optimizer(weights, optimizer, self.device) for weights in self.run_weights]
        self._graph: torch.cuda.CUDAGraph | None = None
        if self.device.type == "cuda":
            self._capture()

    def __call__(self, tokens_RBT: Tensor, labels_RB: Tensor, step: int) -> None:
        """Do step number `step` (from 0) on a batch held on the CPU."""
        self.tokens_RBT.copy_(tokens_RBT)
        self.labels_RB.copy_(labels_RB)
        for run, seed in enumerate(self.seeds):
            fill_bits(self.bits_RN[run], seed, "dropout", step)
            if self.regularizer is None:
                continue
            generator = torch_stream(seed, "noise", step)
            for draw in range(self.noise.n_draws):
                self.noisy_NRBT[draw, run].copy_(self.regularizer.resample(tokens_RBT[run], generator))
            for draw, bits_RN in enumerate(self.noisy_bits_NRN):
                fill_bits(bits_RN[run], seed, "noisy_dropout", step, draw)
        if self._graph is not None:
            self._graph.replay()
        elif self.flops == 0:
            self._counted_run()
        else:
            self._run()

    def learning_rate(self, run: int) -> float:
        """The learning rate of a run's next step."""
        return float(self.optimizers[run].param_groups[0]["lr"])

    def state(self, run: int) -> dict[str, Tensor]:
        """Everything of a run that the next step depends on, weights apart, on the CPU."""
        state: dict[str, Tensor] = {
            "learning_rate": torch.tensor(self.learning_rate(run), dtype=torch.float64),
            "loss_sum": self.loss_sum_R[run],
            "correct_sum": self.correct_sum_R[run],
        }
        for index, weight in enumerate(self.run_weights[run]):
            for name, value in self.optimizers[run].state[weight].items():
                state[f"optimizer.{index}.{name}"] = value
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set what `state` returned, in place."""
        self._set_learning_rate(run, float(state["learning_rate"]))
        self.loss_sum_R[run] = state["loss_sum"]
        self.correct_sum_R[run] = state["correct_sum"]
        optimizer = self.optimizers[run]
        for index, weight in enumerate(self.run_weights[run]):
            prefix = f"optimizer.{index}."
            saved = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            for name, value in saved.items():
                if name in optimizer.state[weight]:
                    optimizer.state[weight][name].copy_(value)
                else:
                    optimizer.state[weight][name] = value.clone()

    def _views(self, run: int) -> list[Tensor]:
        views = []
        for weight in self.stack.parameters():
            view = weight.detach()[run]
            view.grad = weight.grad[run]
            views.append(view)
        return views

    def _set_learning_rate(self, run: int, value: float) -> None:
        group = self.optimizers[run].param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value

    def _losses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, share right and regulariser of the buffered batch, each (R).

        With a target at each position all three are means over examples and positions.
        """
        dropout = self.dropout_rate > 0
        logits_RBC = self.stack(self.tokens_RBT, DropoutMasks(self.bits_RN, self.dropout_rate) if dropout else None)
        loss_RX = F.cross_entropy(logits_RBC.flatten(0, -2), self.labels_RB.flatten(), reduction="none")
        loss_R = loss_RX.view(len(self.seeds), -1).mean(1)
        correct_R = (logits_RBC.detach().argmax(-1) == self.labels_RB).double().flatten(1).mean(1)
        penalty_R = torch.zeros_like(loss_R)
        for draw, noisy_RBT in enumerate(self.noisy_NRBT):
            bits_RN = self.noisy_bits_NRN[draw] if len(self.noisy_bits_NRN) else self.bits_RN
            with torch.set_grad_enabled(self.noise.gradient != "clean"):
                noisy_RBC = self.stack(noisy_RBT, DropoutMasks(bits_RN, self.dropout_rate) if dropout else None)
            penalty_RX = self.regularizer.penalty(logits_RBC, noisy_RBC).flatten(1)
            penalty_R = penalty_R + penalty_RX.mean(1) / self.noise.n_draws
        return loss_R, correct_R, penalty_R

    def _run(self) -> None:
        for weight in self.stack.parameters():
            weight.grad.zero_()
        loss_R, correct_R, penalty_R = self._losses()
        (loss_R + penalty_R).sum().backward()
        self.loss_sum_R += loss_R.detach()
        self.correct_sum_R += correct_R
        for weights, optimizer in zip(self.run_weights, self.optimizers, strict=True):
            if self.settings.weight_decay_convention == "per_step":
                torch._foreach_mul_(weights, 1.0 - self.settings.weight_decay)
            optimizer.step()

    def _counted_run(self) -> None:
        with FlopCounterMode(display=False) as counter:
            self._run()
        self.flops = counter.get_total_flops() / len(self.seeds)

    def _capture(self) -> None:
        """Warm up on a side stream, undo what that changed, and capture `_run` as a graph."""
        weights_before = [weight.detach().clone() for weight in self.stack.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._counted_run()
            for _ in range(WARM_UP_STEPS - 1):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        self._reset(weights_before)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._run()
        except RuntimeError as error:
            logger.warning("the step could not be captured (%s): falling back to launching it eagerly", error)
        else:
            self._graph = graph
        self._reset(weights_before)

    @torch.no_grad()
    def _reset(self, weights_before: list[Tensor]) -> None:
        for weight, before in zip(self.stack.parameters(), weights_before, strict=True):
            weight.copy_(before)
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()
        self.loss_sum_R.zero_()
        self.correct_sum_R.zero_()
