"""Train a sample of recorded runs again, and compare."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from nsbench.config.base import parse
from nsbench.config.sections import TextSource
from nsbench.data.datasets import read_dataset
from nsbench.data.generate import DatasetSpec, make_datasets
from nsbench.data.tasks import TASKS
from nsbench.data.text_sources import TextSpec, make_text, resolve
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.parquet import read_stamp, read_table
from nsbench.storage.records import Record, read_records, record_files
from nsbench.storage.seeding import one_thread
from nsbench.training.pack import train_pack
from nsbench.training.run import TrainSpec
from nsbench.training.step import ENGINE
from nsbench.workflow.digests import digest
from nsbench.workflow.recorded_runs import current

TOLERANCES = (1e-4, 0.05)
"""Elsewhere, relative differences of the validation loss that rounding explains: at step 0, where data and initial
weights are compared, and at the next evaluation. Later on training takes rounding anywhere."""
AGREES, DIFFERS = "agrees", "differs"
MAKERS = ("cpu", "device", "engine", "gradients", "version_torch", "version_numba")
"""Of a run's provenance: what its rounding, noise and dropout depend on."""


class Comparison(NamedTuple):
    """What came of training one recorded run again."""

    name: str
    verdict: str
    """AGREES or DIFFERS."""
    words: str


def verify_records(
    sources: Iterable[Path | str],
    text: TextSource,
    folder: Path,
    sample: int,
    seed: int = 0,
    steps: int | None = None,
) -> Iterator[Comparison]:
    """Train `sample` recorded runs, drawn by `seed`, again on this CPU, and compare their histories.

    On a CPU of the kind that trained the run, with the same torch and engine, every number but seconds must be the same
    to the bit; elsewhere the first two evaluations must be within TOLERANCES, of another engine's run the first.
    Measures on checkpoints are not made again. Each comparison comes as soon as it is made. steps: train no longer than
    that, and compare what there is. folder: for what is made on the way.

    Raises RecordError for a damaged file, ConfigError for settings that this code does not have, TextError where a run
    needs a text that is not there.
    """
    records = [record for path in record_files(sources) for record in read_records(path)]
    drawn = np.random.default_rng(seed).choice(len(records), size=min(sample, len(records)), replace=False)
    for place in sorted(drawn.tolist()):
        yield _verify(records[place], text, folder / f"run-{place}", steps)


def _verify(record: Record, text: TextSource, folder: Path, steps: int | None) -> Comparison:
    settings = json.loads(current(record.settings))
    task, data = settings["task"], settings.pop("data")
    names = {"task": task, "variant": record.row["variant"], "arm": record.row["arm"]}
    folder.mkdir(parents=True)
    text_file = None
    if TASKS[task].from_text:
        text_file = folder / "text.parquet"
        make_text(parse(TextSpec, resolve(text, os.environ), "text"), text_file, {})
    dataset = folder / "data.safetensors"
    spec = parse(DatasetSpec, {"task": task, "variant": names["variant"], "data": data, "seeds": [record.seed]})
    make_datasets(spec, dataset, folder / "floors.parquet", {}, text_file)
    if read_dataset(dataset, record.seed, task).sha256 != record.row["summary"]["data_sha256"]:
        return Comparison(record.name, DIFFERS, "its data set comes out with other data")
    training = settings["training"]
    if steps is not None:
        every = training["eval_every_steps"]
        training["steps"] = min(training["steps"], max(1, -(-steps // every)) * every)
    one_thread()
    kept = {"checkpoint_count": 2, "checkpoint_dtype": "float32", "seeds": [record.seed]}
    train_pack(
        parse(TrainSpec, {**settings, **names, **kept}),
        "verify",
        dataset,
        folder / "runs",
        folder / "history.parquet",
        folder / "pack.parquet",
        torch.device("cpu"),
        3600.0,
    )
    again = read_table(folder / "history.parquet", HISTORY)
    (run,) = read_table(folder / "pack.parquet", RUNS).to_dict("records")
    (made,) = (folder / "runs").glob("**/history.parquet")
    here = read_stamp(made)
    made_by = {"engine": "1", "gradients": "autograd", **record.provenance}
    others = [f"{name} {made_by[name]}" for name in MAKERS if name in made_by and made_by[name] != here[name]]
    ended = tuple(record.row["summary"][name] for name in ("status", "steps"))
    if steps is None and not others and (run["status"], run["steps"]) != ended:
        return Comparison(record.name, DIFFERS, f"it {run['status']} at step {run['steps']:,} when made again")
    return Comparison(record.name, *_compared(record, again, made_by, others))


def _compared(record: Record, again: pd.DataFrame, made_by: dict[str, str], others: list[str]) -> tuple[str, str]:
    """Verdict and words on a recorded history beside the beginning of it, or all of it, made again.

    others: what made the record that is not what made it again. A run may then stop at another step.
    """
    recorded = record.table("history", HISTORY).to_pandas()
    if others:
        shorter = min(len(recorded), len(again))
        recorded, again = recorded[:shorter], again[:shorter]
    recorded = recorded[recorded["step"] <= again["step"].iloc[-1]].reset_index(drop=True)
    if recorded["step"].tolist() != again["step"].tolist():
        return DIFFERS, f"evaluated at {len(recorded)} steps, and {len(again)} when made again"
    columns = [entry for entry in HISTORY.names if entry not in ("task", "variant", "arm", "seconds")]
    apart = [name for name in columns if not np.array_equal(recorded[name], again[name], equal_nan=True)]
    if not apart:
        return AGREES, f"to the bit at {len(again)} evaluations, to step {int(again['step'].iloc[-1]):,}"
    if not others:
        first = min(int(np.flatnonzero(~_same(recorded[name], again[name]))[0]) for name in apart)
        where = f"from step {int(recorded['step'][first]):,} on, in {', '.join(apart)}, on a CPU of the same kind"
        settings = json.loads(current(record.settings))
        used = (settings[name]["kind"] for name in ("arm_settings", "model"))
        older = made_by["source_digest"] != digest("train", *used)
        return DIFFERS, where + f"; it was trained by other code, of commit {made_by['commit']}" * older
    # Another engine draws other noise and dropout, so that only what is made before the first step is the same.
    compared = range(min(2 if made_by["engine"] == ENGINE else 1, len(recorded)))
    gaps = [abs(again["val_loss"][place] / recorded["val_loss"][place] - 1) for place in compared]
    within = all(gap <= most for gap, most in zip(gaps, TOLERANCES, strict=False))
    measure = "up to the rounding" if within else "more than by the rounding"
    shown = " and ".join(f"{gap:.1e}" for gap in gaps)
    return (
        AGREES if within else DIFFERS,
        f"{measure} of another machine or engine ({', '.join(others)}): validation loss {shown} apart at the first "
        "evaluations",
    )


def _same(first: pd.Series, second: pd.Series) -> np.ndarray:
    one, two = first.to_numpy(float), second.to_numpy(float)
    return (one == two) | (np.isnan(one) & np.isnan(two))
