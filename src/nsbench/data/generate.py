"""The dataset stage: the data sets of a pack's seeds, made by their task, and their floors."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from nsbench.config.base import Closed, FilePart, Seeds, parse
from nsbench.config.variant import DATA_SETTINGS, OF_TEXT
from nsbench.schemas.training import FLOORS
from nsbench.storage.parquet import RecordError, write_table
from nsbench.storage.tensors import write_tensors


class DatasetSpec(Closed):
    """All that the dataset stage reads from config."""

    task: Literal["modular_addition", "sparse_parity", "next_token"]
    variant: FilePart
    data: dict[str, Any]
    seeds: Seeds


def make_datasets(
    spec: DatasetSpec, out: Path, floors_file: Path, stamp: dict[str, str], text_file: Path | None = None
) -> None:
    """The dataset stage: a data set for each seed, in one safetensors file, and its floors.

    text_file: the file of the text stage, for tasks that need one. Raises RecordError where it is
    missing, ConfigError where the text cannot give the data asked for.
    """
    module = importlib.import_module(f"nsbench.data.tasks.{spec.task}")
    data = parse(DATA_SETTINGS[spec.task], spec.data, "spec.data")
    text, tensors, floors = None, {}, []
    if spec.task in OF_TEXT:
        if text_file is None:
            raise RecordError(f"{spec.task}: its data are cut from a text, and no file of one was given")
        text = module.read_text_file(text_file)
    for seed in spec.seeds:
        made, vocabulary, n_classes = module.make(data, seed, text) if text else module.make(data, seed)
        tensors |= {f"seed-{seed}/{name}": value for name, value in made.items()}
        identity = {"task": spec.task, "variant": spec.variant, "seed": seed}
        floors += [{**identity, **row} for row in module.floor_rows(made, n_classes)]
    metadata = {**stamp, "task": spec.task, "vocabulary": str(vocabulary), "n_classes": str(n_classes)}
    metadata["text"] = text.label if text else ""
    write_tensors(out, tensors, metadata)
    write_table(floors_file, floors, FLOORS, stamp)
