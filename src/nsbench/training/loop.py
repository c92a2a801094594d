"""The training loop: runs that start at the same step, stacked, evaluated, recorded, resumable at any step."""

from __future__ import annotations

import logging
import math
import time

import torch
from torch import Tensor

from nsbench.config.canonical import canonical_json
from nsbench.data.datasets import EpochOrder, batch_indices
from nsbench.storage.run_folder import Progress
from nsbench.training.interruption import stop_request
from nsbench.training.run import Run, TrainSpec
from nsbench.training.step import TrainingStep
from nsbench.training.validation import Validation, checkpoint_steps, evaluation_steps

logger = logging.getLogger(__name__)


class StackTraining:
    """The training of runs that start at the same step, as one stack."""

    def __init__(self, spec: TrainSpec, runs: list[Run], device: torch.device, made_by: dict[str, str]) -> None:
        self.spec, self.runs, self.device, self.made_by = spec, runs, device, made_by
        first = runs[0].data
        seeds = [run.seed for run in runs]
        self.train_tokens = [run.data["train_tokens"] for run in runs]
        self.train_labels = [run.data["train_labels"] for run in runs]
        self.n_train = len(self.train_labels[0])
        self.batch_size = spec.training.batch_size
        self.epoch_steps = math.ceil(self.n_train / self.batch_size)
        self.orders = [EpochOrder(seed, self.n_train) for seed in seeds]
        self.stack = spec.model.build(first.vocabulary, first.n_classes, seeds).to(device)
        self.step = TrainingStep(
            self.stack,
            seeds,
            spec.arm_settings,
            spec.model,
            spec.optimizer,
            spec.noise,
            first,
            self.batch_size,
        )
        self.validation = Validation([run.data for run in runs], seeds, spec.noise, self.batch_size, device)
        self.optimizers = self.step.optimizers
        # Sums of loss and accuracy at the last evaluation and the last epoch, to take means since.
        self.done = runs[0].start
        self.marks = {"evaluation": self._sums(), "epoch": self._sums()}
        self.evaluated_at = set(evaluation_steps(spec.training))
        self.checkpoint_at = set(checkpoint_steps(spec.training, spec.checkpoint_count))
        for index, run in enumerate(runs):
            if run.resumed:
                self._resume(index, run)

    def train(self, progress_every_seconds: float) -> None:
        """Train to the budget, or until every run has diverged or been stopped at its target.

        Raises SystemExit after SIGTERM or SIGINT, once the progress is saved or the runs are finished.
        """
        budget = self.spec.training.steps
        saved = self.clock = time.perf_counter()
        with stop_request() as stop:
            if self.done == 0:
                self._evaluate()
                self.clock = time.perf_counter()
            while self.done < budget and not all(run.status for run in self.runs):
                tokens_RBT, labels_RB = self._batch(self.done)
                self.step(tokens_RBT, labels_RB, self.done)
                self.done += 1
                if self.spec.optimizer.scheduler_unit == "epoch" and self.done % self.epoch_steps == 0:
                    self._schedule()
                evaluated = self.done in self.evaluated_at
                due = bool(stop) or time.perf_counter() - saved > progress_every_seconds
                if not (evaluated or due):
                    continue
                self._count_seconds()
                if evaluated:
                    self._evaluate()
                if due and self.done < budget:
                    self._save_progress()
                    saved = time.perf_counter()
                    if stop:
                        logger.warning("asked to stop: the progress is saved at step %d", self.done)
                        raise SystemExit(stop.status)
                self.clock = time.perf_counter()
            for run in self.runs:
                if not run.status:
                    self._finish(run, "completed")
            if stop:
                logger.warning("asked to stop: the runs of this stack are finished")
                raise SystemExit(stop.status)

    def _count_seconds(self) -> None:
        """Add the time since the clock was set to each run that is still in training."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - self.clock
        for run in self.runs:
            run.seconds += 0.0 if run.status else elapsed / len(self.runs)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        tokens, labels = [], []
        for index, order in enumerate(self.orders):
            chosen = batch_indices(self.n_train, self.batch_size, step, order)
            tokens.append(self.train_tokens[index][chosen])
            labels.append(self.train_labels[index][chosen])
        return torch.stack(tokens), torch.stack(labels)

    def _sums(self) -> tuple[int, list[float], list[float]]:
        return self.done, self.step.loss_sum_R.tolist(), self.step.correct_sum_R.tolist()

    def _means_since(self, mark: str) -> tuple[list[float], list[float]]:
        """Mean training loss (nats) and accuracy of each run since a mark, which is moved here."""
        before, after = self.marks[mark], self._sums()
        self.marks[mark] = after
        steps = after[0] - before[0]
        return tuple(
            [(now - then) / steps if steps else math.nan for now, then in zip(after[i], before[i], strict=True)]
            for i in (1, 2)
        )

    def _evaluate(self) -> None:
        """Add a row to each run's history; end the runs that are no longer finite, or done with their target."""
        losses, accuracies = self._means_since("evaluation")
        scores = self.validation(self.stack)
        finite = self._finite()
        for index, run in enumerate(self.runs):
            if run.status:
                continue
            run.rows.append(
                {
                    "task": self.spec.task,
                    "variant": self.spec.variant,
                    "arm": self.spec.arm,
                    "seed": run.seed,
                    "step": self.done,
                    "epoch": self.done * self.batch_size / self.n_train,
                    "train_loss": losses[index],
                    "train_accuracy": accuracies[index],
                    **scores[index],
                    "learning_rate": self.optimizers.learning_rate(index),
                    "seconds": run.seconds,
                    "flops": self.step.flops_after(self.done),
                }
            )
            if run.diverged() or not finite[index]:
                logger.warning("%s: diverged by step %d", run.folder.name, self.done)
                self._finish(run, "diverged")
                continue
            stopped = run.past_target(self.spec) and self.done < self.spec.training.steps
            if stopped or self.done in self.checkpoint_at:
                self._save_checkpoint(index, run)
            if stopped:
                self._finish(run, "stopped")
                continue
            run.folder.report_status(run.order, self.done / self.spec.training.steps)
        if self.spec.optimizer.scheduler_unit == "evaluation" and self.done:
            of_training = self.spec.optimizer.scheduler_metric == "train_loss"
            self.optimizers.schedule(losses if of_training else [score["val_loss"] for score in scores])

    def _finite(self) -> list[bool]:
        """Whether each run's weights and last gradient are finite."""
        finite_R = torch.ones(len(self.runs), dtype=torch.bool, device=self.device)
        for weight in self.stack.parameters():
            finite_R &= weight.detach().flatten(1).isfinite().all(1) & weight.grad.flatten(1).isfinite().all(1)
        return finite_R.tolist()

    def _schedule(self) -> None:
        """End of an epoch: let each run's scheduler see its metric."""
        if self.spec.optimizer.scheduler == "none":
            return
        if self.spec.optimizer.scheduler_metric == "val_loss":
            losses = self.validation.losses(self.stack)
        else:
            losses = self._means_since("epoch")[0]
        self.optimizers.schedule(losses)

    def _save_checkpoint(self, index: int, run: Run) -> None:
        dtype = getattr(torch, self.spec.checkpoint_dtype)
        weights = {name: value.cpu().to(dtype) for name, value in self.stack.run_weights(index).items()}
        metadata = {
            "model": canonical_json(self.step.model),
            "vocabulary": str(run.data.vocabulary),
            "n_classes": str(run.data.n_classes),
        }
        run.folder.save_checkpoint(self.done, weights, metadata)

    def _save_progress(self) -> None:
        for index, run in enumerate(self.runs):
            if run.status:
                continue
            weights = {f"weights.{name}": value.cpu() for name, value in self.stack.run_weights(index).items()}
            state = {f"state.{name}": value for name, value in self.step.state(index).items()}
            notes = {
                "rows": run.rows,
                "seconds": run.seconds,
                "flops": list(self.step.flops.items()),
                "scheduler": self.optimizers.scheduler_state(index),
                "marks": {name: [at, loss[index], right[index]] for name, (at, loss, right) in self.marks.items()},
            }
            run.folder.save_progress(Progress(self.done, {**weights, **state}, notes))

    def _resume(self, index: int, run: Run) -> None:
        saved = run.resumed
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "state": {}}
        for name, value in saved.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.stack.load_run(index, parts["weights"])
        self.step.load_state(index, parts["state"])
        self.step.flops = dict(saved.notes["flops"])
        run.rows, run.seconds = saved.notes["rows"], saved.notes["seconds"]
        if (scheduler := self.optimizers.schedulers[index]) is not None:
            scheduler.load_state_dict(saved.notes["scheduler"])
        for name, (at, loss, right) in saved.notes["marks"].items():
            _, losses, rights = self.marks[name]
            losses[index], rights[index] = loss, right
            self.marks[name] = (at, losses, rights)

    def _finish(self, run: Run, status: str) -> None:
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        summary = {"n_parameters": self.stack.n_parameters(), "device": device}
        run.finish(status, self.checkpoint_at, summary, self.made_by)
