"""The dataset stage: the data sets of a pack's seeds, made by their task, and their floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsbench.config.base import Closed, ConfigError, FilePart, Seeds, parse
from nsbench.data.tasks import TASKS
from nsbench.data.text import read_text_file
from nsbench.schemas.training import FLOORS
from nsbench.storage.parquet import RecordError, write_table
from nsbench.storage.tensors import write_tensors


class DatasetSpec(Closed):
    """All that the dataset stage reads from config."""

    task: str
    variant: FilePart
    data: dict[str, Any]
    seeds: Seeds


def make_datasets(
    spec: DatasetSpec, out: Path, floors_file: Path, stamp: dict[str, str], text_file: Path | None = None
) -> None:
    """The dataset stage: a data set for each seed, in one safetensors file, and its floors.

    text_file: the file of the text stage, for tasks that need one. Raises RecordError where it is
    missing, ConfigError where the text cannot give the data asked for, or a task makes tokens that no model takes.
    """
    task = parse(TASKS.find(spec.task, "spec.task"), spec.data, "spec.data")
    if task.from_text and text_file is None:
        raise RecordError(f"{spec.task}: its data are cut from a text, and no file of one was given")
    text, tensors, floors = [read_text_file(text_file)] if task.from_text else [], {}, []
    for seed in spec.seeds:
        made, vocabulary, n_classes = task.make(seed, *text)
        width = task.token_width()
        patches = (task.sequence_length(), width) if width else None
        _check(spec.task, made, vocabulary, n_classes, patches)
        for name, value in made.items():
            kind = np.uint8 if patches and _is_tokens(name) else np.int64
            # A copy: of an array that is empty or a view, torch would take strides that no file can have.
            plain = torch.from_numpy(np.asarray(value, dtype=kind)).clone(memory_format=torch.contiguous_format)
            tensors[f"seed-{seed}/{name}"] = plain
        identity = {"task": spec.task, "variant": spec.variant, "seed": seed}
        floors += [{**identity, **row} for row in task.floor_rows(made, n_classes)]
    metadata = {**stamp, "task": spec.task, "vocabulary": str(vocabulary), "n_classes": str(n_classes)}
    metadata["text"] = text[0].label if text else task.source()
    write_tensors(out, tensors, metadata)
    write_table(floors_file, floors, FLOORS, stamp)


def _is_tokens(name: str) -> bool:
    return name.rpartition("_")[2] == "tokens"


def _check(
    task: str, made: dict[str, Any], vocabulary: int, n_classes: int, patches: tuple[int, int] | None = None
) -> None:
    """Refuse tokens, labels and symbols that no model takes: nothing that computes with them looks again.

    patches: how many an example has, and the numbers of each; None where tokens are ids.
    """
    for name, value in made.items():
        if patches and _is_tokens(name):
            _check_patches(f"{task}: {name}", np.asarray(value), patches)
            continue
        most = {"tokens": vocabulary, "symbols": vocabulary, "labels": n_classes}.get(name.rpartition("_")[2])
        if most is None or not np.size(value):
            continue
        if np.asarray(value).dtype.kind not in "iub":
            raise ConfigError(f"{task}: {name} has values of {np.asarray(value).dtype}; whole numbers are allowed")
        if not 0 <= np.min(value) <= np.max(value) < most:
            raise ConfigError(
                f"{task}: {name} has ids from {np.min(value)} to {np.max(value)}; 0 to {most - 1} are allowed"
            )


def _check_patches(name: str, tokens: np.ndarray, patches: tuple[int, int]) -> None:
    if tokens.dtype != np.uint8:
        raise ConfigError(f"{name} has patches of {tokens.dtype}; uint8 is allowed")
    if tokens.ndim != 3 or tokens.shape[1:] != patches:
        wanted = "examples x {} patches x {} numbers".format(*patches)
        raise ConfigError(f"{name} has the shape {' x '.join(map(str, tokens.shape))}; {wanted} is allowed")
