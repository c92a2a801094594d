"""The evaluate stage: measures on the checkpoint trails of a pack. A new measure costs no training."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nsbench.config.base import Closed, ConfigError, FilePart, Seeds, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.sections import Evaluation
from nsbench.config.shape import Shape
from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.data.tasks import TASKS
from nsbench.measures import MEASURES, Estimate, MeasureSettings
from nsbench.measures.estimate import estimate
from nsbench.measures.outputs import passes
from nsbench.schemas.training import EVALUATION, RUNS
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import TRAIN_AGAIN, RunFolder, evaluation_key, read_checkpoint
from nsbench.storage.seeding import torch_stream
from nsbench.training.models import read_model

logger = logging.getLogger(__name__)

STREAMS = dict.fromkeys(("noise_stability", "average_sensitivity"), ("evaluation_noise",))
"""Measure -> the name of its random stream, where that is not the measure's own."""


class EvaluateSpec(Closed):
    """All that the evaluate stage reads from config."""

    task: str
    variant: FilePart
    arm: FilePart
    data: dict[str, Any]
    noise: Noise
    evaluation: Evaluation
    keep_checkpoints: bool
    seeds: Seeds


def evaluate_pack(
    spec: EvaluateSpec,
    digest: str,
    runs_file: Path,
    dataset: Path,
    runs_root: Path,
    out: Path,
    device: torch.device,
) -> None:
    """Evaluate the runs of a pack that are not evaluated yet, and write all rows to `out`.

    Raises RecordError where a run's trail, or a part of it, is gone.
    """
    keys = read_table(runs_file, RUNS).set_index("seed")["run_key"]
    settings = spec.model_dump(mode="json")
    made_by = stamp(canonical_json(spec), digest, str(device))
    for seed in spec.seeds:
        if seed not in keys.index:
            raise RecordError(f"{runs_file}: has no run of seed {seed}; run its pack's train job again")
    folders = {seed: RunFolder(runs_root, spec.task, spec.variant, spec.arm, seed, keys[seed]) for seed in spec.seeds}
    tables = []
    with contextlib.ExitStack() as held:
        # A job that outlived its workflow may still train or evaluate them, by older settings.
        for seed in sorted(spec.seeds):
            held.enter_context(folders[seed].held())
        for seed, folder in folders.items():
            key = evaluation_key(settings, folder.key, digest)
            path = folder.path / "evaluation.parquet"
            kept = _kept(path, key)
            if kept is not None:
                logger.info("%s: evaluated before, kept", folder.name)
            else:
                rows = list(_evaluate_run(spec, folder, read_dataset(dataset, seed, spec.task), device))
                write_table(path, rows, EVALUATION, {**made_by, "evaluation_key": key})
                logger.info("%s: %d measurements", folder.name, len(rows))
            tables.append(read_table(path, EVALUATION) if kept is None else kept)
            if not spec.keep_checkpoints:
                folder.drop_trail()
        write_table(out, pd.concat(tables, ignore_index=True), EVALUATION, made_by)


def _kept(path: Path, key: str) -> pd.DataFrame | None:
    """The evaluation that an earlier call wrote, if it is of this key; a warning where it is damaged."""
    if not path.exists():
        return None
    try:
        return read_table(path, EVALUATION) if read_stamp(path).get("evaluation_key") == key else None
    except RecordError as error:
        logger.warning("evaluated again, since it cannot be used: %s", error)
        return None


def _evaluate_run(
    spec: EvaluateSpec, folder: RunFolder, data: Dataset, device: torch.device
) -> Iterator[dict[str, Any]]:
    trail = folder.trail()
    if not trail:
        raise RecordError(
            f"{folder.path}/trail: no checkpoints of {folder.name}; they are kept where config says "
            f"checkpoints.keep: true; {TRAIN_AGAIN}"
        )
    if lost := folder.lost_checkpoints():
        raise RecordError(f"{folder.path}/trail: {lost[0]} is gone; {TRAIN_AGAIN}")
    seed = int(folder.path.name.removeprefix("seed-"))
    settings = parse(MeasureSettings, {**spec.evaluation.model_dump(), "noise": spec.noise.model_dump()})
    task = parse(TASKS.find(spec.task, "spec.task"), spec.data, "spec.data")
    for path in trail:
        weights, metadata = read_checkpoint(path, folder.key)
        for found in estimates(Checkpoint(weights, metadata, device, data["test_tokens"]), data, settings, seed):
            yield {
                "task": spec.task,
                "variant": spec.variant,
                "arm": spec.arm,
                "seed": seed,
                "step": int(metadata["step"]),
                **dataclasses.asdict(found),
                "target_value": task.target_value(found.measure, found.reduction, found.correlation),
            }


def estimates(model: Checkpoint, data: Dataset, settings: MeasureSettings, seed: int) -> Iterator[Estimate]:
    """What the measures that are asked for say of a checkpoint.

    Raises ConfigError for a measure that gives no number for each input, or two estimates of one name.
    """
    seen: set[tuple[str, str, str]] = set()
    for name in settings.measures:
        # One stream for all checkpoints: differences along the trail are the model's, not the noise's.
        generator = torch_stream(seed, *STREAMS.get(name, ("measure", name)))
        values = MEASURES.find(name, "evaluation.measures")(model, data, generator, settings)
        if isinstance(values, Tensor):
            if not values.ndim:
                raise ConfigError(f"the measure '{name}' gives a single number; allowed: one for each input")
            values = [estimate(name, "mean", math.nan, values.reshape(len(values), -1).double().mean(1))]
        given = list(values) if isinstance(values, Iterable) else [values]
        if not all(isinstance(one, Estimate) for one in given):
            raise ConfigError(
                f"the measure '{name}' returns {type(values).__name__}; a tensor with a number for each input, or "
                "Estimates, are allowed"
            )
        for found in given:
            key = (found.measure, found.reduction, str(found.rho))
            if key in seen:
                raise ConfigError(f"the measure '{name}' gives {', '.join(key)} again; each may be given once")
            seen.add(key)
            yield found


class Checkpoint:
    """A checkpoint as a function (`nsbench.measures.base.Model`); it computes the outputs of test inputs once."""

    def __init__(
        self, weights: dict[str, Tensor], metadata: dict[str, str], device: torch.device, test_NT: Tensor
    ) -> None:
        self.device = device
        settings = read_model(metadata["model"])
        self.causal = settings.causal
        self.stack = settings.build(Shape(**json.loads(metadata["shape"])), seeds=[0])
        self.stack.load_run(0, weights)
        self.stack.to(device)
        self.test_NT, self.test_logits = test_NT.to(device), None

    def __call__(self, tokens_NT: Tensor) -> Tensor:
        here_NT = tokens_NT.to(self.device)
        if here_NT.dtype != self.test_NT.dtype or not torch.equal(here_NT, self.test_NT[: len(here_NT)]):
            return self._logits(here_NT).to(tokens_NT.device)
        if self.test_logits is None:
            self.test_logits = self._logits(self.test_NT)
        # A copy: a measure may change what it gets.
        return self.test_logits[: len(here_NT)].to(tokens_NT.device, copy=True)

    @torch.no_grad()
    def _logits(self, tokens_NT: Tensor) -> Tensor:
        parts = [self.stack(tokens_NT[None, cut])[0] for cut in passes(len(tokens_NT), self.device)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
