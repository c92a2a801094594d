"""The evaluate stage: measures on the checkpoint trails of a pack. A new measure costs no training."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nsbench.config.base import Closed, FilePart, Seeds, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.sections import Evaluation
from nsbench.config.variant import Model, Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.data.tasks import TASKS
from nsbench.measures.estimate import Estimate
from nsbench.measures.scores import scores
from nsbench.measures.sensitivity import average_sensitivity
from nsbench.measures.stability import noise_stability
from nsbench.schemas.training import EVALUATION, RUNS, TARGETS
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import TRAIN_AGAIN, RunFolder, read_checkpoint
from nsbench.storage.seeding import torch_stream
from nsbench.theory.resampling import resampling_correlation
from nsbench.training.model import TransformerStack

logger = logging.getLogger(__name__)

INPUTS_AT_ONCE = 200
SCORES = ("test_accuracy", "test_loss")


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
    settings = {k: v for k, v in spec.model_dump(mode="json").items() if k not in ("seeds", "keep_checkpoints")}
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
            identity = canonical_json({"settings": settings, "run": folder.key, "code": digest})
            key = hashlib.sha256(identity.encode()).hexdigest()
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
    tokens_NT = data["test_tokens"][: spec.evaluation.n_inputs]
    symbols, fixed = data.noise_symbols(spec.noise), data.fixed_ids(spec.noise)
    counted = {targets: data.counted(targets, "test") for targets in TARGETS}
    for path in trail:
        weights, metadata = read_checkpoint(path, folder.key)
        model = _Checkpoint(weights, metadata, device)
        # One stream for all checkpoints: differences along the trail are the model's, not the noise's.
        generator = torch_stream(seed, "evaluation_noise")
        estimates = [
            *noise_stability(
                model,
                tokens_NT,
                spec.evaluation.rho,
                symbols,
                generator,
                n_draws=spec.evaluation.n_draws,
                same_symbol=spec.noise.same_symbol,
                fixed_ids=fixed,
            ),
            *average_sensitivity(model, tokens_NT, data["symbols"], generator, fixed_ids=_specials(data)),
            *scores(model, data["test_tokens"], data["test_labels"], counted),
        ]
        for found in estimates:
            yield {
                "task": spec.task,
                "variant": spec.variant,
                "arm": spec.arm,
                "seed": seed,
                "step": int(metadata["step"]),
                "measure": found.measure,
                "reduction": found.reduction,
                "rho": found.rho,
                "value": found.value,
                "standard_error": found.standard_error,
                "n_inputs": len(data["test_tokens"] if found.measure in SCORES else tokens_NT),
                "n_draws": spec.evaluation.n_draws if found.measure == "noise_stability" else 1,
                **_target(spec, data, found),
            }


def _specials(data: Dataset) -> Tensor:
    """The ids that are no symbols of the task."""
    return data.fixed_ids(Noise(positions="task"))


def _target(spec: EvaluateSpec, data: Dataset, found: Estimate) -> dict[str, float]:
    """The noise's correlation, and the measure of the target function itself where it is known.

    Noise that puts something else than a task symbol on a task position, or touches a token that is
    none, leaves the target's domain: then there is no such value.
    """
    if found.measure in SCORES:
        return {"correlation": math.nan, "target_value": math.nan}
    if found.measure == "average_sensitivity":
        correlation = math.nan
    else:
        symbols = data.noise_symbols(spec.noise)
        stays = len(symbols) == len(data["symbols"])
        touches_only_symbols = spec.noise.positions == "task" or torch.isin(data["test_tokens"], data["symbols"]).all()
        if not (stays and touches_only_symbols):
            return {"correlation": math.nan, "target_value": math.nan}
        correlation = resampling_correlation(found.rho, len(symbols), spec.noise.same_symbol)
    task = parse(TASKS.find(spec.task, "spec.task"), spec.data, "spec.data")
    value = task.target_value(found.measure, found.reduction, correlation)
    return {"correlation": correlation, "target_value": value}


class _Checkpoint:
    """A checkpoint as a function: tokens (N, T) on the CPU to logits (N, C) or (N, T, C) on the CPU."""

    def __init__(self, weights: dict[str, Tensor], metadata: dict[str, str], device: torch.device) -> None:
        settings = Model.model_validate_json(metadata["model"])
        self.device = device
        self.stack = TransformerStack(settings, int(metadata["vocabulary"]), int(metadata["n_classes"]), seeds=[0])
        self.stack.load_run(0, weights)
        self.stack.to(device)

    @torch.no_grad()
    def __call__(self, tokens_NT: Tensor) -> Tensor:
        chunks = [self.stack(chunk[None].to(self.device))[0].cpu() for chunk in tokens_NT.split(INPUTS_AT_ONCE)]
        return torch.cat(chunks)
