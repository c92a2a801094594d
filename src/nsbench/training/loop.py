"""The training loop: runs that start at the same step, stacked, evaluated, recorded, resumable at any step."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nsbench.config.canonical import canonical_json
from nsbench.storage.run_folder import Progress
from nsbench.training.interruption import stop_request
from nsbench.training.run import Run
from nsbench.training.step import TrainingStep
from nsbench.training.validation import Validation, checkpoint_steps
from nsbench.training.writer import Writer, host_copy

logger = logging.getLogger(__name__)


class StackTraining:
    """The training of runs that start at the same step, as one stack; their specs `may_share` one."""

    def __init__(self, runs: list[Run], device: torch.device) -> None:
        self.runs, self.device, self.spec = runs, device, runs[0].spec
        seeds, datasets = [run.seed for run in runs], [run.data for run in runs]
        self.n_train = len(datasets[0]["train_labels"])
        self.batch_size = self.spec.training.batch_size
        self.stack = self.spec.model.build(datasets[0].shape, seeds).to(device)
        self.step = TrainingStep(self.stack, [run.spec for run in runs], seeds, datasets)
        self.validation = Validation(datasets, seeds, self.spec.noise, self.batch_size, device)
        self.writer = Writer()
        self.done = runs[0].start
        self.checkpoint_at = set(checkpoint_steps(self.spec.training, self.spec.checkpoint_count))
        optimizer = self.spec.optimizer
        by_epoch = optimizer.scheduler != "none" and optimizer.scheduler_unit == "epoch"
        # Without a schedule by epochs none ends within the budget.
        self.epoch_steps = math.ceil(self.n_train / self.batch_size) if by_epoch else self.spec.training.steps + 1
        for index, run in enumerate(runs):
            if run.resumed:
                for name, value in self.step.state.items():
                    value[index] = run.resumed.tensors[name]
                self.step.flops = dict(run.resumed.notes["flops"])
                run.rows, run.seconds = run.resumed.notes["rows"], run.resumed.notes["seconds"]

    def train(self, progress_every_seconds: float) -> None:
        """Train to the budget, or until every run has diverged or been stopped at its target.

        Raises SystemExit after SIGTERM or SIGINT, once the progress is saved or the runs are finished; FileError where
        a file cannot be written.
        """
        budget = self.spec.training.steps
        saved = self.clock = time.perf_counter()
        with stop_request() as stop, self.writer:
            if self.done == 0:
                self._evaluate()
                self.clock = time.perf_counter()
            while self.done < budget and not all(run.status for run in self.runs):
                count = self._steps_at_once()
                self.step(self.done, count)
                self.done += count
                if self.done % self.epoch_steps == 0:
                    self._end_epoch()
                evaluated = self.done % self.spec.training.eval_every_steps == 0 or self.done == budget
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
                        self.writer.finish()
                        logger.warning("asked to stop: the progress is saved at step %d", self.done)
                        raise SystemExit(stop.status)
                self.clock = time.perf_counter()
            for run in self.runs:
                if not run.status:
                    self._finish(run, "completed")
            if stop:
                logger.warning("asked to stop: the runs of this stack are finished")
                raise SystemExit(stop.status)

    def _steps_at_once(self) -> int:
        """As many as one graph has, where none but the last ends an epoch, or is evaluated; else one."""
        count = self.step.at_once
        last = min(self.spec.training.steps, (self.done // self.epoch_steps + 1) * self.epoch_steps)
        return count if self.done % count == 0 and self.done + count <= last else 1

    def _count_seconds(self) -> None:
        """Add the time since the clock was set to each run that is still in training."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - self.clock
        for run in self.runs:
            run.seconds += 0.0 if run.status else elapsed / len(self.runs)

    def _take_means(self, row: int, since: int) -> Tensor:
        """The mean (R) of a row of `sums_3R` since a step; the sum begins again here."""
        steps = self.done - since
        mean_R = self.step.sums_3R[row] / (steps or math.nan)
        self.step.sums_3R[row] = 0.0
        return mean_R

    def _evaluate(self) -> None:
        """Add a row to each run's history; end the runs that are no longer finite, or done with their target."""
        every = self.spec.training.eval_every_steps
        last = max(self.done - 1, 0) // every * every
        optimizer = self.step.optimizer
        columns = {
            "train_loss": self._take_means(0, last),
            "train_accuracy": self._take_means(1, last),
            **self.validation(self.stack),
            "learning_rate": optimizer.learning_rate_R,
            "finite": optimizer.weights_RP.isfinite().all(1) & optimizer.gradients_RP.isfinite().all(1),
        }
        # All that leaves the device.
        values = torch.stack([column_R.double() for column_R in columns.values()]).tolist()
        table = dict(zip(columns, values, strict=True))
        finite, ends, kept = table.pop("finite"), {}, []
        for index, run in enumerate(self.runs):
            if run.status:
                continue
            run.rows.append(self._row(run, {name: of_run[index] for name, of_run in table.items()}))
            if run.diverged() or not finite[index]:
                logger.warning("%s: diverged by step %d", run.folder.name, self.done)
                ends[index] = "diverged"
                continue
            if run.past_target():
                ends[index] = "stopped"
            if index in ends or self.done in self.checkpoint_at:
                kept.append(index)
        if kept:
            self._save_checkpoints(kept)
        for index, status in ends.items():
            self._finish(self.runs[index], status)
            if status == "diverged":
                self.step.silence(index)
        going, share = [run for run in self.runs if not run.status], self.done / self.spec.training.steps
        self.writer(lambda: [run.folder.report_status(run.order, share) for run in going])
        if self.spec.optimizer.scheduler_unit == "evaluation" and self.done:
            optimizer.schedule(columns[self.spec.optimizer.scheduler_metric])

    def _row(self, run: Run, scores: dict[str, float]) -> dict[str, Any]:
        """A row of a run's history."""
        return {
            **{name: getattr(run.spec, name) for name in ("task", "variant", "arm")},
            "seed": run.seed,
            "step": self.done,
            "epoch": self.done * self.batch_size / self.n_train,
            **scores,
            "seconds": run.seconds,
            "flops": self.step.flops_after(self.done),
        }

    def _end_epoch(self) -> None:
        """Let each run's scheduler see its metric."""
        loss_R = self._take_means(2, self.done - self.epoch_steps)
        of_validation = self.spec.optimizer.scheduler_metric == "val_loss"
        self.step.optimizer.schedule(self.validation.losses(self.stack) if of_validation else loss_R)

    def _save_checkpoints(self, indices: list[int]) -> None:
        """Have the weights of some runs written as they are now."""
        weights, step = host_copy(self.step.optimizer.weights_RP), self.done
        dtype = getattr(torch, self.spec.checkpoint_dtype)

        def save() -> None:
            for index in indices:
                run = self.runs[index]
                metadata = {
                    "model": canonical_json(self.step.model),
                    "shape": canonical_json(asdict(run.data.shape)),
                }
                named = self.stack.unflattened(weights()[index]).items()
                run.folder.save_checkpoint(step, {name: value.to(dtype) for name, value in named}, metadata)

        self.writer(save)

    def _save_progress(self) -> None:
        """Have all that the next step depends on written, for each run that is still in training."""
        state, step = {name: host_copy(value) for name, value in self.step.state.items()}, self.done
        notes = {
            index: {"rows": list(run.rows), "seconds": run.seconds, "flops": list(self.step.flops.items())}
            for index, run in enumerate(self.runs)
            if not run.status
        }

        def save() -> None:
            for index, noted in notes.items():
                tensors = {name: value()[index] for name, value in state.items()}
                self.runs[index].folder.save_progress(Progress(step, tensors, noted))

        self.writer(save)

    def _finish(self, run: Run, status: str) -> None:
        self.writer.finish()
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        run.made_by = {**run.made_by, "gradients": self.step.gradient_path, "launches": self.step.launches}
        run.finish(status, self.checkpoint_at, {"n_parameters": self.stack.n_parameters(), "device": device})
