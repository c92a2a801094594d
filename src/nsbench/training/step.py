"""One optimiser step of a stack of models: batch, noise, loss, gradient, update.

All of it is made on the stack's device from the data, the keys of the runs and the step's number, which are tensors
there. So the same code runs eagerly on a CPU and, some steps at a time, as a CUDA graph on a GPU, where the launches
of a small model would otherwise cost more than its arithmetic.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.arms import LossTerm
from nsbench.config.base import ConfigError
from nsbench.config.variant import Training
from nsbench.data.datasets import Dataset, stack_noise
from nsbench.storage.device import out_of_memory
from nsbench.storage.philox import Stream, fill_bits, random_words, run_keys
from nsbench.training.batches import Batches
from nsbench.training.models.stack import DropoutMasks, Stack
from nsbench.training.operations import OperationCounter
from nsbench.training.optimizer import FlatOptimizer
from nsbench.training.run import TrainSpec

logger = logging.getLogger(__name__)

ENGINE = "2"
"""In the provenance of runs. Those without have other streams of noise and dropout, and else the same numbers."""
WARM_UP_STEPS = 3
MOST_AT_ONCE = 20
"""Steps of one CUDA graph."""
BITS_PER_BLOCK = 8
"""Of 16 bits each: `fill_bits` makes whole blocks."""


class TrainingStep:
    """The training step of a stack.

    specs, seeds, datasets: those of its runs, which `may_share` a stack; data sets share shapes, vocabulary and
    symbols. sums_3R (float64) adds up, from where the loop has set it to zero, the mean cross entropy of each batch in
    nats, its share of right answers, and that cross entropy once more. `flops` is the number of matrix-product
    operations of a step of one run, without (False) and with (True) what the arm adds to the loss, each known after the
    first such step. `at_once`: as many steps are done together, where none of them but the last ends anything.

    Raises ConfigError for logits or an arm's penalty that have another shape than the labels ask for.
    """

    def __init__(self, stack: Stack, specs: list[TrainSpec], seeds: list[int], datasets: list[Dataset]) -> None:
        spec, data, n_runs = specs[0], datasets[0], len(seeds)
        self.stack, self.seeds, self.precision = stack, seeds, spec.training.precision
        self.arm = spec.arm_settings
        self.model, _ = self.arm.replaced(spec.model, spec.optimizer)
        self.device = next(stack.parameters()).device
        self.flops: dict[bool, float] = {}

        terms = [one.arm_settings.loss_term(spec.noise) for one in specs]
        self.term = terms[0]
        self.n_draws = spec.noise.n_draws if self.term and self.arm.draws_noise else 0
        if self.term:
            self.strength_R = torch.tensor([float(term.strength) for term in terms]).to(self.device)
        if self.n_draws:
            self.noisy_copy = stack_noise(datasets, [one.arm_settings.rho for one in specs], spec.noise, self.device)

        batch_size, length = spec.training.batch_size, data["train_tokens"].shape[1]
        # What the arm adds to the loss is of so many examples.
        self.rows = self.term.rows(batch_size) if self.term else 0
        self.at_once = steps_at_once(spec.training, self.term) if self.device.type == "cuda" else 1
        self.batches = Batches(seeds, datasets, batch_size, self.at_once, self.device)
        self.keys_R = run_keys(seeds, self.device)
        self.number = torch.zeros((), dtype=torch.int64, device=self.device)
        n_own = self.n_draws if spec.noise.dropout_masks == "independent" else 0
        sizes = [self.model.dropout_size(rows, length) for rows in (batch_size, *[self.rows] * n_own)]
        self.bits = [
            torch.zeros(n_runs, -(-size // BITS_PER_BLOCK) * BITS_PER_BLOCK, dtype=torch.int16, device=self.device)
            for size in sizes
        ]
        self.sums_3R = torch.zeros(3, n_runs, dtype=torch.float64, device=self.device)

        self._check_logits(data)
        self.optimizer = FlatOptimizer(stack, [one.arm_settings.replaced(one.model, one.optimizer)[1] for one in specs])
        self.weights = list(stack.parameters())
        self.filter = self.arm.gradient_filter(self.weights)
        self.eager = self.device.type != "cuda"
        self._graphs: dict[tuple[bool, ...], torch.cuda.CUDAGraph] = {}
        if not self.eager:
            self._pool = torch.cuda.graph_pool_handle()
            self._warm_up()

    def __call__(self, step: int, count: int = 1) -> None:
        """Do `count` steps, the first being number `step` (from 0); count: 1 or `at_once`."""
        self.batches.load(step, count)
        self.number.fill_(step)
        kinds = tuple(self._regularised(step + place) for place in range(count))
        if not self.eager and kinds not in self._graphs:
            self._capture(kinds)
        if self.eager:
            self._run(kinds)
        else:
            self._graphs[kinds].replay()

    @property
    def gradient_path(self) -> str:
        """How gradients are computed, as of `Stack.gradient_path`."""
        return "autograd" if self.precision == "bfloat16" else self.stack.gradient_path

    def silence(self, run: int) -> None:
        """Take a run that has diverged out of what follows: from now on its numbers are finite, and nobody's."""
        self.optimizer.silence(run)
        for slow in self.filter.state if self.filter else []:
            slow[run].zero_()

    @property
    def launches(self) -> str:
        """How the device is given its work, for a run's provenance: one by one, or as CUDA graphs of some steps."""
        return "eager" if self.eager else f"graphs of {self.at_once}"

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on but for its number, with the runs along the first axis of each tensor."""
        slow = self.filter.state if self.filter else []
        return {
            "weights": self.optimizer.weights_RP,
            **self.optimizer.state,
            "sums": self.sums_3R.T,
            **{f"filter.{index}": value for index, value in enumerate(slow)},
        }

    def flops_after(self, steps: int) -> float:
        """Matrix-product operations of the first `steps` steps of a run."""
        n_regularised = self.term.steps_due(steps) if self.term else 0
        counts = {True: n_regularised, False: steps - n_regularised}
        return float(sum(count * self.flops[kind] for kind, count in counts.items() if count))

    @torch.no_grad()
    def _check_logits(self, data: Dataset) -> None:
        tokens_RBT, labels_RB = self.batches(0)
        shape, wanted = tuple(self.stack(tokens_RBT).shape), (*labels_RB.shape, data.n_classes)
        if shape != wanted:
            raise ConfigError(
                f"model: the logits of kind '{self.model.kind}' have the shape {shape}; {wanted} is allowed, (run, "
                "example, class) or (run, example, position, class)"
            )

    def _regularised(self, step: int) -> bool:
        """Whether a step has what the arm adds to the loss."""
        return self.term is not None and self.term.is_due(step)

    def _run(self, kinds: tuple[bool, ...]) -> None:
        """Do the steps that are loaded; kinds: whether each has what the arm adds to the loss."""
        for place, regularised in enumerate(kinds):
            if regularised in self.flops:
                self._step(place, regularised)
            else:
                with OperationCounter() as counter:
                    self._step(place, regularised)
                self.flops[regularised] = counter.total / len(self.seeds)

    def _step(self, place: int, regularised: bool) -> None:
        with matrix_products(self.precision):
            loss_R, correct_R, penalty_R = self.losses(*self.batches(place), regularised)
            total = (loss_R + penalty_R).sum()
            gradients = torch.autograd.grad(total, self.weights, materialize_grads=True)
        torch._foreach_copy_([weight.grad for weight in self.weights], gradients)
        self.sums_3R += torch.stack([loss_R.detach().double(), correct_R, loss_R.detach().double()])
        if self.filter is not None:
            self.filter(self.number)
        self.optimizer.step(self.number)
        self.number += 1

    def losses(self, tokens_RBT: Tensor, labels_RB: Tensor, regularised: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, share right and what the arm adds for a batch, each (R), with the numbers of step `number`.

        With a target at each position all three are means over examples and positions.
        """
        fill_bits(self.bits[0], self.keys_R, self.number, Stream.DROPOUT)
        logits_RBC = self._logits(tokens_RBT, self._masks())
        loss_RX = F.cross_entropy(logits_RBC.flatten(0, -2), labels_RB.flatten(), reduction="none")
        loss_R = loss_RX.view(len(self.seeds), -1).mean(1)
        correct_R = (logits_RBC.detach().argmax(-1) == labels_RB).double().flatten(1).mean(1)
        if not regularised or self.term is None:
            return loss_R, correct_R, torch.zeros_like(loss_R)
        return loss_R, correct_R, self.strength_R * self._penalty(tokens_RBT, logits_RBC, labels_RB)

    def _penalty(self, tokens_RBT: Tensor, logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
        """The mean (R) of the arm's penalty."""
        term, rows = self.term, self.rows
        if rows < tokens_RBT.shape[1]:
            tokens_RBT, logits_RBC, labels_RB = (x[:, :rows] for x in (tokens_RBT, logits_RBC, labels_RB))
        if term.gradient == "noisy":
            logits_RBC = logits_RBC.detach()
        if not self.n_draws:
            return self._mean(term.penalty(logits_RBC, None, labels_RB), labels_RB)
        terms = []
        for draw in range(self.n_draws):
            with torch.set_grad_enabled(term.gradient != "clean"):
                noisy_RBC = self._logits(self.noisy_tokens(tokens_RBT, draw), self._noisy_masks(draw))
            terms.append(self._mean(term.penalty(logits_RBC, noisy_RBC, labels_RB), labels_RB) / self.n_draws)
        return sum(terms[1:], terms[0])

    def noisy_tokens(self, tokens_RBT: Tensor, draw: int) -> Tensor:
        """The noisy copy of the first examples of a batch."""
        n_words = self.noisy_copy.n_words(tokens_RBT.shape[1:])
        return self.noisy_copy(tokens_RBT, random_words(self.keys_R, n_words, self.number, Stream.NOISE, draw))

    def _masks(self, rows: int | None = None) -> DropoutMasks | None:
        """The masks of the clean pass, or those of its first `rows` examples."""
        if self.model.dropout_rate == 0:
            return None
        examples = (rows, self.batches.size) if rows else None
        return DropoutMasks(self.bits[0], self.model.dropout_rate, examples=examples)

    def _noisy_masks(self, draw: int) -> DropoutMasks | None:
        if len(self.bits) == 1:
            return self._masks(self.rows)
        if self.model.dropout_rate == 0:
            return None
        fill_bits(self.bits[1 + draw], self.keys_R, self.number, Stream.NOISY_DROPOUT, draw)
        return DropoutMasks(self.bits[1 + draw], self.model.dropout_rate)

    def _logits(self, tokens_RBT: Tensor, masks: DropoutMasks | None) -> Tensor:
        if self.precision != "bfloat16":
            return self.stack(tokens_RBT, masks)
        # Weights are cast anew in each pass, since a graph would keep copies of those of its capture.
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            return self.stack(tokens_RBT, masks).float()

    def _mean(self, penalty_RX: Tensor, labels_RB: Tensor) -> Tensor:
        """The mean (R) of what an arm's penalty gives for each example, (R, B) or (R, B, T)."""
        if penalty_RX.shape != labels_RB.shape:
            raise ConfigError(
                f"arm: the penalty of kind '{self.arm.kind}' has the shape {tuple(penalty_RX.shape)}; "
                f"{tuple(labels_RB.shape)}, that of the labels, is allowed"
            )
        return penalty_RX.flatten(1).mean(1)

    def _warm_up(self) -> None:
        """Do some steps of each kind on a side stream, as a capture needs it, and undo what they changed."""
        before_RP = self.optimizer.weights_RP.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for kind in {self._regularised(0), self._regularised(1)}:
                for _ in range(WARM_UP_STEPS):
                    self._run((kind,))
        torch.cuda.current_stream().wait_stream(side)
        self._reset(before_RP)

    def _capture(self, kinds: tuple[bool, ...]) -> None:
        """Make a graph of steps; where that fails, all steps are launched one by one from now on, which is told."""
        graph = torch.cuda.CUDAGraph()
        try:
            # The graphs share their memory: none has anything to keep, and no two run at once.
            # Of this thread's calls alone, since another writes files meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._run(kinds)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            logger.warning("the step could not be captured (%s): falling back to launching it eagerly", error)
            self.eager = True
        else:
            self._graphs[kinds] = graph

    @torch.no_grad()
    def _reset(self, before_RP: Tensor) -> None:
        """Set the weights, and all else to what it is before the first step, learning rates apart."""
        self.optimizer.weights_RP.copy_(before_RP)
        self.optimizer.gradients_RP.zero_()
        for name, value in self.state.items():
            if name not in ("weights", "learning_rate", "best"):
                value.zero_()


def steps_at_once(training: Training, term: LossTerm | None) -> int:
    """How many steps one graph has: a divisor of those between evaluations, so that graphs are of few kinds."""
    every = term.every if term else 1
    return next(
        count
        for count in range(MOST_AT_ONCE, 0, -1)
        if training.eval_every_steps % count == 0 and (count % every == 0 or every % count == 0)
    )


@contextlib.contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Inside, float32 matrix products on a GPU are TF32 where the precision says so, and else float32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
