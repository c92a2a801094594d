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

from nsbench.arms import Arm
from nsbench.arms.noise import resample_tokens
from nsbench.config.base import ConfigError
from nsbench.config.variant import Noise, Optimizer
from nsbench.data.datasets import Dataset
from nsbench.storage.device import out_of_memory
from nsbench.storage.seeding import fill_bits, torch_stream
from nsbench.training.models import Model
from nsbench.training.models.stack import DropoutMasks, Stack
from nsbench.training.optimizers import Optimizers

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 3


class TrainingStep:
    """The training step of a stack.

    loss_sum_R and correct_sum_R (float64) add up, over all steps, the mean cross entropy of each
    batch in nats and its share of right answers; `data` is any one data set of the stack (they share
    shapes, vocabulary and symbols); `model` has the settings that the arm leaves of the variant's;
    `flops` is the number of matrix-product operations of a step of one run, without (False) and with
    (True) what the arm adds to the loss, each known after the first such step.

    Raises ConfigError for logits or an arm's penalty that have another shape than the labels ask for.
    """

    def __init__(
        self,
        stack: Stack,
        seeds: list[int],
        arm: Arm,
        model: Model,
        optimizer: Optimizer,
        noise: Noise,
        data: Dataset,
        batch_size: int,
    ) -> None:
        self.stack, self.seeds = stack, seeds
        self.arm, self.noise = arm, noise
        self.term = arm.loss_term(noise)
        self.symbols, self.fixed_ids = data.noise_symbols(noise), data.fixed_ids(noise)
        self.model, optimizer = arm.replaced(model, optimizer)
        self.dropout_rate = self.model.dropout_rate
        self.device = next(stack.parameters()).device
        self.flops: dict[bool, float] = {}

        length = data["train_tokens"].shape[1]
        labels_shape = data["train_labels"].shape[1:]
        n_runs, n_draws = len(seeds), noise.n_draws if self.term and arm.draws_noise else 0
        # What the arm adds to the loss is of so many examples.
        self.rows = self.term.rows(batch_size) if self.term else 0
        n_noisy = self.rows if n_draws else 0
        self.tokens_RBT = torch.zeros(n_runs, batch_size, length, dtype=torch.int64, device=self.device)
        # Labels are (R, B), or (R, B, T) where there is a target at each position.
        self.labels_RB = torch.zeros(n_runs, batch_size, *labels_shape, dtype=torch.int64, device=self.device)
        self.noisy_NRBT = torch.zeros(n_draws, n_runs, n_noisy, length, dtype=torch.int64, device=self.device)
        n_bits, n_noisy_bits = (self.model.dropout_size(size, length) for size in (batch_size, n_noisy))
        self.bits_RN = torch.zeros(n_runs, n_bits, dtype=torch.int16, device=self.device)
        own_masks = noise.dropout_masks == "independent"
        self.noisy_bits_NRN = torch.zeros(
            n_draws if own_masks else 0, n_runs, n_noisy_bits, dtype=torch.int16, device=self.device
        )
        self.loss_sum_R = torch.zeros(n_runs, dtype=torch.float64, device=self.device)
        self.correct_sum_R = torch.zeros(n_runs, dtype=torch.float64, device=self.device)

        self._check_logits(data.n_classes)
        self.optimizers = Optimizers(stack, optimizer)
        self.filter = arm.gradient_filter(list(stack.parameters()))
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        if self.device.type == "cuda":
            self._capture()

    def __call__(self, tokens_RBT: Tensor, labels_RB: Tensor, step: int) -> None:
        """Do step number `step` (from 0) on a batch held on the CPU."""
        self.tokens_RBT.copy_(tokens_RBT)
        self.labels_RB.copy_(labels_RB)
        regularised = self._regularised(step)
        for run, seed in enumerate(self.seeds):
            fill_bits(self.bits_RN[run], seed, "dropout", step)
            if not (regularised and len(self.noisy_NRBT)):
                continue
            generator = torch_stream(seed, "noise", step)
            for noisy_RBT in self.noisy_NRBT:
                noisy_RBT[run].copy_(self.resample(tokens_RBT[run, : self.rows], generator))
            for draw, bits_RN in enumerate(self.noisy_bits_NRN):
                fill_bits(bits_RN[run], seed, "noisy_dropout", step, draw)
        if self.filter is not None:
            self.filter.begin(step)
        if self._graphs:
            self._graphs[regularised].replay()
        elif regularised not in self.flops:
            self._counted_run(regularised)
        else:
            self._run(regularised)

    @torch.no_grad()
    def _check_logits(self, n_classes: int) -> None:
        shape, wanted = tuple(self.stack(self.tokens_RBT).shape), (*self.labels_RB.shape, n_classes)
        if shape != wanted:
            raise ConfigError(
                f"model: the logits of kind '{self.model.kind}' have the shape {shape}; {wanted} is allowed, (run, "
                "example, class) or (run, example, position, class)"
            )

    def resample(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of Y for `tokens`, with the arm's rho and the variant's noise."""
        return resample_tokens(
            tokens,
            self.arm.rho,
            self.symbols,
            generator,
            same_symbol=self.noise.same_symbol,
            fixed_ids=self.fixed_ids,
        )

    def flops_after(self, steps: int) -> float:
        """Matrix-product operations of the first `steps` steps of a run."""
        n_regularised = self.term.steps_due(steps) if self.term else 0
        counts = {True: n_regularised, False: steps - n_regularised}
        return float(sum(count * self.flops[kind] for kind, count in counts.items() if count))

    def state(self, run: int) -> dict[str, Tensor]:
        """Everything of a run that the next step depends on, weights apart, on the CPU."""
        state = self.optimizers.state(run)
        state |= {"loss_sum": self.loss_sum_R[run], "correct_sum": self.correct_sum_R[run]}
        state |= {f"filter.{index}": slow[run] for index, slow in enumerate(self._filter_state())}
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set what `state` returned, in place."""
        self.optimizers.load_state(run, state)
        self.loss_sum_R[run] = state["loss_sum"]
        self.correct_sum_R[run] = state["correct_sum"]
        for index, slow in enumerate(self._filter_state()):
            slow[run] = state[f"filter.{index}"]

    def _filter_state(self) -> list[Tensor]:
        return self.filter.state if self.filter else []

    def _regularised(self, step: int) -> bool:
        """Whether a step has what the arm adds to the loss."""
        return self.term is not None and self.term.is_due(step)

    def _masks(self, bits_RN: Tensor, rows: int | None = None) -> DropoutMasks | None:
        """A pass's masks; of the first `rows` examples, where the bits are those of a whole batch."""
        if self.dropout_rate == 0:
            return None
        return DropoutMasks(bits_RN, self.dropout_rate, examples=(rows, self.tokens_RBT.shape[1]) if rows else None)

    def _losses(self, regularised: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, share right and what the arm adds for the buffered batch, each (R).

        With a target at each position all three are means over examples and positions.
        """
        logits_RBC = self.stack(self.tokens_RBT, self._masks(self.bits_RN))
        loss_RX = F.cross_entropy(logits_RBC.flatten(0, -2), self.labels_RB.flatten(), reduction="none")
        loss_R = loss_RX.view(len(self.seeds), -1).mean(1)
        correct_R = (logits_RBC.detach().argmax(-1) == self.labels_RB).double().flatten(1).mean(1)
        penalty_R = torch.zeros_like(loss_R)
        if regularised and self.term is not None:
            penalty_R = penalty_R + self._penalty(logits_RBC)
        return loss_R, correct_R, penalty_R

    def _penalty(self, logits_RBC: Tensor) -> Tensor:
        """What the arm adds to the loss (R)."""
        term, rows = self.term, self.rows
        whole = rows == logits_RBC.shape[1]
        clean_RBC, labels_RB = (x if whole else x[:, :rows] for x in (logits_RBC, self.labels_RB))
        if term.gradient == "noisy":
            clean_RBC = clean_RBC.detach()
        if not self.arm.draws_noise:
            return self._mean(term.penalty(clean_RBC, None, labels_RB))
        terms = []
        for draw, noisy_RBT in enumerate(self.noisy_NRBT):
            own = len(self.noisy_bits_NRN) > 0
            masks = self._masks(self.noisy_bits_NRN[draw]) if own else self._masks(self.bits_RN, rows)
            with torch.set_grad_enabled(term.gradient != "clean"):
                noisy_RBC = self.stack(noisy_RBT, masks)
            terms.append(self._mean(term.penalty(clean_RBC, noisy_RBC, labels_RB)) / len(self.noisy_NRBT))
        return sum(terms[1:], terms[0])

    def _mean(self, penalty_RX: Tensor) -> Tensor:
        """The mean (R) of what an arm's penalty gives for each example, (R, B) or (R, B, T)."""
        wanted = (len(self.seeds), self.rows, *self.labels_RB.shape[2:])
        if penalty_RX.shape != wanted:
            raise ConfigError(
                f"arm: the penalty of kind '{self.arm.kind}' has the shape {tuple(penalty_RX.shape)}; {wanted}, that "
                "of the labels, is allowed"
            )
        return penalty_RX.flatten(1).mean(1)

    def _run(self, regularised: bool) -> None:
        for weight in self.stack.parameters():
            weight.grad.zero_()
        loss_R, correct_R, penalty_R = self._losses(regularised)
        (loss_R + penalty_R).sum().backward()
        self.loss_sum_R += loss_R.detach()
        self.correct_sum_R += correct_R
        if self.filter is not None:
            self.filter()
        self.optimizers.step()

    def _counted_run(self, regularised: bool) -> None:
        with FlopCounterMode(display=False) as counter:
            self._run(regularised)
        self.flops[regularised] = counter.get_total_flops() / len(self.seeds)

    def _capture(self) -> None:
        """Warm up on a side stream, undo what that changed, and capture `_run` as graphs: one of the
        steps with what the arm adds to the loss, one of those without, as far as there are such."""
        kinds = sorted({self._regularised(0), self._regularised(1)}, reverse=True)
        weights_before = [weight.detach().clone() for weight in self.stack.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for kind in kinds:
                self._counted_run(kind)
                for _ in range(WARM_UP_STEPS - 1):
                    self._run(kind)
        torch.cuda.current_stream().wait_stream(side)
        self._reset(weights_before)
        graphs = {kind: torch.cuda.CUDAGraph() for kind in kinds}
        try:
            for kind, graph in graphs.items():
                with torch.cuda.graph(graph):
                    self._run(kind)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            logger.warning("the step could not be captured (%s): falling back to launching it eagerly", error)
        else:
            self._graphs = graphs
        self._reset(weights_before)

    @torch.no_grad()
    def _reset(self, weights_before: list[Tensor]) -> None:
        for weight, before in zip(self.stack.parameters(), weights_before, strict=True):
            weight.copy_(before)
        self.optimizers.reset()
        for slow in self._filter_state():
            slow.zero_()
        self.loss_sum_R.zero_()
        self.correct_sum_R.zero_()
