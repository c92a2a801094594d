"""A run in training: what it is asked for, what it has recorded so far, and how it ends."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import model_validator

from nsbench.arms import AnyArm, check
from nsbench.config.base import Closed, FilePart, Seeds, parse
from nsbench.config.target import held_until
from nsbench.config.variant import Noise, Optimizer, Target, Training
from nsbench.data.datasets import Dataset
from nsbench.storage.atomic import FileError
from nsbench.storage.run_folder import Progress, RunFolder, history_digest
from nsbench.training.models import AnyModel
from nsbench.training.validation import checkpoint_steps

logger = logging.getLogger(__name__)

MOST_TOGETHER = 512
"""Runs that a job takes besides its own: each is a locked file."""


class TrainSpec(Closed):
    """All that the train stage reads from config."""

    task: str
    variant: FilePart
    arm: FilePart
    arm_settings: AnyArm
    model: AnyModel
    optimizer: Optimizer
    training: Training
    noise: Noise
    target: Target | None
    """What a run with `stop: after_target` stops by; None for others, whose training knows no target."""
    checkpoint_count: int
    checkpoint_dtype: str
    seeds: Seeds

    def stacked(self) -> dict[str, Any]:
        """What runs have in common that are trained as one stack: all but names, seeds and `Arm.per_run`."""
        values = self.model_dump(mode="json", exclude={"arm", "arm_settings", "seeds"})
        return {**values, "arm_settings": self.arm_settings.stacked()}

    @model_validator(mode="after")
    def _fits(self) -> TrainSpec:
        check(self.arm_settings, self, "arm_settings")
        return self


def may_share(one: TrainSpec, other: TrainSpec) -> bool:
    """Whether runs of two cells may be trained as one stack: only seeds, rho and strengths differ (`Arm.per_run`)."""
    return one.stacked() == other.stacked()


def companions(spec: TrainSpec, stacks: Path | None) -> list[TrainSpec]:
    """The cells that a job trains in one stack with its own: of those that may share it, as many as each GPU gets.

    stacks: what `workflow.plan.Plan.stacks` gives, as JSON. Jobs that start one after the other take different cells.
    """
    if stacks is None or not stacks.exists():
        return []
    planned = json.loads(stacks.read_text())
    for task, variant, seeds, arms in planned["stacks"]:
        if (task, variant, seeds) == (spec.task, spec.variant, spec.seeds) and spec.arm in arms:
            place, gpu = divmod(list(arms).index(spec.arm), planned["n_gpus"])
            share = list(arms)[gpu :: planned["n_gpus"]]
            # From its own on: those before it are likely done.
            share = [*share[place:], *share[:place]][: 1 + MOST_TOGETHER // len(seeds)]
            values = spec.model_dump(mode="json")
            cells = [parse(TrainSpec, {**values, "arm": name, "arm_settings": arms[name]}) for name in share]
            return [cell for cell in cells if cell.arm != spec.arm and may_share(spec, cell)]
    return []


@dataclass
class Run:
    """One run in training: identity, data, and what it has recorded so far."""

    spec: TrainSpec
    seed: int
    data: Dataset
    folder: RunFolder
    order: str
    made_by: dict[str, str] = field(default_factory=dict)
    """The provenance that its files carry."""
    resumed: Progress | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    status: str = ""
    """How the run ended, as of `schemas.training.RUNS`; empty while it trains."""

    @property
    def start(self) -> int:
        return self.resumed.step if self.resumed else 0

    def opened(self) -> Run:
        """The run as far as its folder has it; what another key left there is cleared.

        If a checkpoint is missing, warn and start at step 0.
        """
        resumed = self.folder.progress()
        if resumed is not None:
            due = checkpoint_steps(self.spec.training, self.spec.checkpoint_count)
            if lost := self.folder.lost([step for step in due if step <= resumed.step]):
                logger.warning("%s: starts from the beginning, since %s is gone", self.folder.name, lost[0])
                resumed = None
        if resumed is None:
            self.folder.clear()
        return replace(self, resumed=resumed, rows=[])

    def diverged(self) -> bool:
        """Whether the last row's losses are no numbers; at step 0 there is no training loss."""
        last = self.rows[-1]
        return not all(math.isfinite(last[name]) for name in ("val_loss", "train_loss")[: 1 + (last["step"] > 0)])

    def past_target(self) -> bool:
        """Whether a run that may stop has held its target, and made the evaluations that follow."""
        target, training = self.spec.target, self.spec.training
        if target is None or self.rows[-1]["step"] == training.steps:
            return False
        values, steps = ([row[name] for row in self.rows] for name in (target.metric, "step"))
        held = held_until(values, steps, target.model_dump())
        return held is not None and len(values) > held[1] + training.margin_evaluations

    def finish(self, status: str, checkpoint_steps: set[int], summary: dict[str, Any]) -> None:
        """Write the history and the summary, completed by what the run knows.

        Raises FileError where a checkpoint is gone.
        """
        self.status = status
        rows, last = pd.DataFrame(self.rows), self.rows[-1]
        made = [step for step in sorted(checkpoint_steps) if step < last["step"]]
        # A run that diverged has no checkpoint of its last step; any other has.
        made += [last["step"]] * (status != "diverged")
        if lost := self.folder.lost(made):
            raise FileError(
                f"{lost[0]}: is gone before its run has ended, as where another process begins the same run; give the "
                "same command again"
            )
        row = {
            **{name: last[name] for name in ("task", "variant", "arm", "seed", "seconds", "flops")},
            "steps": last["step"],
            "status": status,
            "run_key": self.folder.key,
            "history_sha256": history_digest(rows),
            "data_sha256": self.data.sha256,
            "secret": self.data.secret,
            "text": self.data.text,
            **{name: self.made_by[name] for name in ("commit", "source_digest")},
            **summary,
        }
        self.folder.finish(rows, row, self.made_by)
        self.folder.report_status(self.order, 1.0)
        accuracy, name = last["val_accuracy"], self.folder.name
        logger.info(
            "%s: %s at step %d, validation accuracy %.3f, %.0f s", name, status, last["step"], accuracy, self.seconds
        )
