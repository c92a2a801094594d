"""A folder of records: finished runs of one's own are exported to it, and others' records imported."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nsbench.config.base import NAME_PATTERN, ConfigError, parse
from nsbench.config.canonical import canonical_json
from nsbench.data.datasets import read_dataset
from nsbench.evaluation.run import EvaluateSpec
from nsbench.schemas.training import EVALUATION, FLOORS, RUNS, TEXT_LABELS
from nsbench.storage.atomic import FileError
from nsbench.storage.locks import locked
from nsbench.storage.parquet import RecordError, read_arrow, read_stamp
from nsbench.storage.records import (
    KEYS,
    Record,
    checked_records,
    read_identities,
    read_records,
    record_files,
    write_records,
)
from nsbench.storage.run_folder import RunFolder, evaluation_key, history_digest, read_summary
from nsbench.training.run import TrainSpec
from nsbench.workflow.grid import Cell
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import current, difference, settings_of

RUNS_A_FILE = 100
"""Runs in a file of several cells: a file has 13 kB before its first run, a run of a curve takes about 6."""


@dataclass
class Outcome:
    """What became of runs that were looked at: names, and reasons beside those that were refused."""

    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Already there, with the same numbers."""
    refused: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One line of counts, and one for each run that was refused."""
        counts = f"{len(self.added)} records added, {len(self.kept)} already there, {len(self.refused)} refused"
        return [counts, *(f"refused: {name}: {reason}" for name, reason in self.refused.items())]


def export_records(plan: Plan, results: Path, out: Path) -> Outcome:
    """Add records of the finished runs of a grid that lie in a folder of results to a folder of records.

    A run is finished where it is trained and measured by the settings of the grid, whatever code did it: records say
    which. Runs that are not are passed over; what is trained by other settings, or damaged, is refused by its name.
    """
    found, outcome = [], Outcome()
    for cell in plan.cells.values():
        known = plan.recorded.get((cell.task, cell.variant, cell.arm), {})
        for seed in cell.seeds:
            if seed in known:
                continue
            folder = RunFolder(results / "runs", cell.task, cell.variant, cell.arm, seed)
            try:
                record = _record(cell, seed, folder, results / "datasets" / cell.task / cell.variant)
            except FileError as error:
                outcome.refused[folder.name] = str(error)
                continue
            except KeyError as error:
                outcome.refused[folder.name] = f"{folder.path}: its files say nothing of {error}; train it again"
                continue
            if record is not None:
                found.append(record)
    return merge(found, out, outcome)


def import_records(plan: Plan, sources: Iterable[Path | str], into: Path) -> Outcome:
    """Add the records in files and folders to a folder of records.

    Refused, by name and reason, are records that are damaged, that fit no cell of the grid, whose seed the grid does
    not have, or that the folder has with other numbers. Raises RecordError where a source is no file of records.
    """
    seeds = {}
    for cell in plan.cells.values():
        seeds.setdefault(settings_of(cell), set()).update(cell.seeds)
    outcome, fitting = Outcome(), []
    seen: dict[tuple[str, int], Record] = {}
    for path in record_files(sources):
        for record, damage in checked_records(path):
            reason = damage or _misfit(plan, seeds, record)
            if not reason:
                first = seen.setdefault((current(record.settings), record.seed), record)
                if first.numbers != record.numbers:
                    reason = f"{first.path} and {path} have records of this run with different numbers"
            if reason:
                outcome.refused[record.name] = reason
            elif first is record:
                fitting.append(record)
    return merge(fitting, into, outcome)


def _texts(row: dict[str, Any]) -> set[str]:
    """The label of the text that a run's data were cut from; none of images and of other data."""
    return {label for label in (row["summary"]["text"],) if label.startswith(TEXT_LABELS)}


def merge(records: Iterable[Record], folder: Path, outcome: Outcome | None = None) -> Outcome:
    """Add records to a folder of them: <task>/<variant>/<arm>.parquet, or for cells that a sweep or specifications make
    of a variant, which may be hundreds, <task>/<variant>/<number>.parquet with RUNS_A_FILE runs each.

    Only new records are placed so; where others lie does not matter. A run that the folder has with other numbers,
    under whatever name, is refused, and so is one on another text than its runs; one that it has without measures is
    replaced by one with them. A file whose records stay is not written again. Waits while another process adds to the
    folder.
    """
    outcome = outcome or Outcome()
    records = list(records)
    if not records:
        return outcome
    with locked(folder / ".lock", f"another process adds records to {folder}; waiting for that"):
        there, texts, held = {}, set(), Counter[Path]()
        for path in sorted(folder.rglob("*.parquet")):
            for row in read_identities(path):
                there[_identity(row)] = (path, row)
                texts |= _texts(row)
                held[path] += 1
        changed: dict[Path, list[Record]] = {}
        for record in records:
            path, old = there.get(_identity(record.row), (None, None))
            text = _texts(record.row)
            if old is not None and old["summary"]["history_sha256"] != record.numbers:
                outcome.refused[record.name] = f"{path} has a record of this run with other numbers"
            elif text and texts - text:
                outcome.refused[record.name] = (
                    f"its text is {text.pop()!r}, that of records in {folder} {texts.pop()!r}"
                )
            elif old is None or (old["evaluation_settings"] is None and record.row["evaluation_settings"]):
                own = path or _file_for(record.row, folder, held)
                held[own] += path is None
                changed.setdefault(own, []).append(record)
                there[_identity(record.row)] = (own, record.row)
                texts |= text
                outcome.added.append(record.name)
            else:
                outcome.kept.append(record.name)
        for path, new in changed.items():
            kept = {_identity(record.row): record for record in (read_records(path) if path.exists() else [])}
            write_records(path, (kept | {_identity(record.row): record for record in new}).values())
    return outcome


def _file_for(row: dict[str, Any], folder: Path, held: Counter[Path]) -> Path:
    """Where a new record goes; held: how many records the files of the folder have."""
    variant, _, made = row["variant"].partition("-")
    files = folder / row["task"] / variant
    if not made:
        return files / f"{row['arm']}.parquet"
    numbered = (files / f"{number:02}.parquet" for number in itertools.count())
    return next(path for path in numbered if held[path] < RUNS_A_FILE)


def _identity(row: dict[str, Any]) -> tuple[str, int]:
    """What is the same in all records of a run: its settings, as this code would write them, and its seed."""
    try:
        return current(row["settings"]), row["seed"]
    except ConfigError:
        return row["settings"], row["seed"]


def _misfit(plan: Plan, seeds: dict[str, set[int]], record: Record) -> str:
    """Why a record is of no run of the grid, or not to be filed; empty where it is of one."""
    # Its file is named after it.
    if not all(NAME_PATTERN.fullmatch(record.row[name]) for name in KEYS[:-1]):
        return f"{record.path}: its task, variant or arm is no name; letters, digits, '_', '-' and '.' are allowed"
    try:
        settings = current(record.settings)
    except ConfigError as error:
        return f"{record.path}: it is of code with other settings ({error})"
    if record.seed in seeds.get(settings, ()):
        return ""
    if settings in seeds:
        return f"{record.path}: the grid has no seed {record.seed} of its cell"
    cell = plan.cells.get(tuple(record.row[name] for name in KEYS[:-1]))
    if cell is None:
        return f"{record.path}: no cell of the grid has its settings, nor its name"
    return f"{record.path}: it is of another spec than the grid's: {difference(settings, settings_of(cell))}"


def _record(cell: Cell, seed: int, folder: RunFolder, datasets: Path) -> Record | None:
    """The record of a run; None where it is not trained and measured yet."""
    summary = read_summary(folder.path / "run.json")
    measured = folder.path / "evaluation.parquet"
    if summary is None or not measured.exists():
        return None
    trained, evaluated = read_stamp(folder.path / "history.parquet"), read_stamp(measured)
    folder.key = summary["run_key"]
    history = folder.history()
    if trained.get("run_key") != folder.key or history_digest(history) != summary["history_sha256"]:
        raise RecordError(f"{folder.path}/history.parquet: is not the history that run.json tells of; train it again")
    try:
        training = parse(TrainSpec, json.loads(trained.pop("spec")), "spec")
        told = json.loads(evaluated.pop("spec"))
        measuring = parse(EvaluateSpec, told, "spec")
    except ConfigError as error:
        raise RecordError(f"{folder.path}: is of code with other settings ({error}); train it again") from None
    settings = canonical_json(
        {
            "task": cell.task,
            "data": measuring.data,
            **{name: getattr(training, name) for name in ("arm_settings", "model", "optimizer", "training", "noise")},
            "target": training.target,
        }
    )
    if settings != settings_of(cell):
        return None
    # An evaluation of an earlier training would lie there where a job outlived its workflow.
    # Its key is of the settings as its code wrote them, not of those with what has a default today.
    key = evaluation_key(told, folder.key, evaluated["source_digest"])
    if evaluated.pop("evaluation_key", None) != key:
        raise RecordError(f"{measured}: is not of the training that run.json tells of; give the same command again")
    checkpoints = {"count": training.checkpoint_count, "dtype": training.checkpoint_dtype}
    floors, trained["data_digest"] = _floors(datasets, cell.task, seed, summary["data_sha256"])
    row = {
        **{name: getattr(cell, name) for name in KEYS[:-1]},
        "seed": seed,
        "settings": settings,
        "evaluation_settings": canonical_json({"checkpoints": checkpoints, "evaluation": measuring.evaluation}),
        "provenance": canonical_json(trained),
        "evaluation_provenance": canonical_json(evaluated),
        "summary": {name: summary[name] for name in RUNS.names if name not in KEYS},
        "history": _rows(history.to_dict("records")),
        "evaluation": _rows(read_arrow(measured, EVALUATION).to_pylist()),
        "floors": _rows(floors),
    }
    return Record(row)


def _floors(datasets: Path, task: str, seed: int, data_sha256: str) -> tuple[list[dict[str, Any]], str]:
    """The floors of the data that a run was trained on, and the digest of the code that made these."""
    for path in sorted(datasets.glob("*.floors.parquet")):
        data = path.with_name(path.name.replace(".floors.parquet", ".safetensors"))
        try:
            if read_dataset(data, seed, task).sha256 == data_sha256:
                rows = [row for row in read_arrow(path, FLOORS).to_pylist() if row["seed"] == seed]
                return rows, read_stamp(path)["source_digest"]
        except RecordError:
            continue  # of other seeds, or of older code
    raise RecordError(f"{datasets}: has not the data of seed {seed} any more; give the command that trained it again")


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in KEYS} for row in rows]
