"""What a run leaves on disk, one folder each: its trail, its history, and what it needs to resume.

    results/runs/<task>/<variant>/<arm>/seed-<seed>/
        progress.safetensors   while it trains: weights, optimiser, scheduler, history so far
        status.json            how far it is, for the progress line
        trail/step-<step>.safetensors   checkpoints
        history.parquet, run.json       when it has finished

Snakemake tracks packs, not these folders: so a pack that is asked for again with one seed more, or
after an interruption, trains only what is not finished. Every file carries the run's key (settings,
seed, data and training code), and a file of another key counts as absent.

Torch and pandas are imported where they are used only: the workflow looks at run folders while it plans.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench.config.canonical import canonical_json
from nsbench.schemas.training import HISTORY
from nsbench.storage.atomic import refuse_passing, remove_abandoned, write_text
from nsbench.storage.locks import locked
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.storage.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

logger = logging.getLogger(__name__)

TRAIN_AGAIN = "delete the run's folder and its pack's runs.parquet, and give the same command again"
SUMMARY = ("run_key", "history_sha256", "data_sha256", "trail")
"""What every `run.json` has, as readers of it count on."""
LOCK = ".lock"
"""The file in a run's folder that the process which works on it has locked."""


def order_key(spec: dict[str, Any], seed: int, digest: str) -> str:
    """A digest of what is asked for: a run's settings, seed and code, its data not yet known."""
    settings = {name: value for name, value in spec.items() if name != "seeds"}
    return hashlib.sha256(canonical_json([settings, seed, digest]).encode()).hexdigest()


def run_key(spec: dict[str, Any], seed: int, data_sha256: str, digest: str) -> str:
    """The identity of a run: a digest of its settings, seed, data and training code.

    The other seeds of its pack, and with them the pack, are not part of it.
    """
    return hashlib.sha256(f"{order_key(spec, seed, digest)} {data_sha256}".encode()).hexdigest()


def history_digest(rows: pd.DataFrame) -> str:
    """A digest of a history's numbers, exact to the bit, without its seconds, in the columns that it has."""
    digest = hashlib.sha256()
    for name in HISTORY.names:
        if name in rows and name not in ("seconds", "task", "variant", "arm"):
            digest.update(rows[name].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


def evaluation_key(spec: dict[str, Any], run: str, digest: str) -> str:
    """The identity of a run's evaluation: a digest of its settings, the run that it is of (`run_key`), and its code."""
    settings = {name: value for name, value in spec.items() if name not in ("seeds", "keep_checkpoints")}
    key = canonical_json({"settings": settings, "run": run, "code": digest})
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Progress:
    """A run in the middle of training: `steps` done, tensors of weights and step state, the rest."""

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any]


class RunFolder:
    """The folder of one run; `key` as of `run_key`."""

    def __init__(self, root: Path, task: str, variant: str, arm: str, seed: int, key: str = "") -> None:
        self.path = root / task / variant / arm / f"seed-{seed}"
        self.name = f"{task} / {variant} / {arm} / seed {seed}"
        self.key = key

    def finished(self) -> dict[str, Any] | None:
        """The row that `finish` wrote, if the run is whole and of this key; a warning where it is damaged.

        Raises FileError where it could not be read at the moment: a run that is not finished is trained again.
        """
        path = self.path / "run.json"
        try:
            row = read_summary(path)
            if row is None or row["run_key"] != self.key:
                return None
            path = self.path / "history.parquet"
            if read_stamp(path).get("run_key") != self.key or history_digest(self.history()) != row["history_sha256"]:
                raise RecordError(f"{path}: is damaged, it is not the history that {self.path}/run.json tells of")
        except RecordError as error:
            logger.warning("%s: is trained again, since a file of it is bad: %s", self.name, error)
            return None
        return row

    def history(self) -> pd.DataFrame:
        """The finished run's history."""
        return read_table(self.path / "history.parquet", HISTORY)

    def finish(self, rows: pd.DataFrame, row: dict[str, Any], stamp: dict[str, str]) -> None:
        """Write the run's history and summary; the summary last, since it says that all is there."""
        write_table(self.path / "history.parquet", rows, HISTORY, {**stamp, "run_key": self.key})
        row = {**row, "trail": [path.name for path in self.trail()]}
        write_text(self.path / "run.json", json.dumps({**row, "sha256": _row_digest(row)}))
        (self.path / "progress.safetensors").unlink(missing_ok=True)
        # What was left by a writer that was killed: nothing writes that file again.
        remove_abandoned(self.path / "progress.safetensors")

    @contextlib.contextmanager
    def held(self, wait: bool = True) -> Iterator[None]:
        """Be the only process that trains or evaluates this run; waits, and says so, while another does.

        Raises HeldError where another does and it is not to be waited for.

        The system frees the lock when its holder ends, however it ends. A run goes on without its
        workflow where that alone was killed, and a cluster may start a job again that is not dead.
        """
        meanwhile = f"{self.name}: another process works on it; waiting for that"
        with locked(self.path / LOCK, meanwhile if wait else None):
            yield

    def clear(self) -> None:
        """Remove what a run of another key left; not the lock, nor what another process may just be writing."""
        for path in self.path.glob("[!.]*") if self.path.is_dir() else []:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def save_progress(self, progress: Progress) -> None:
        """Write what is needed to go on from here."""
        metadata = {"run_key": self.key, "step": str(progress.step), "notes": json.dumps(progress.notes)}
        write_tensors(self.path / "progress.safetensors", progress.tensors, metadata)

    def progress(self) -> Progress | None:
        """What `save_progress` wrote, if it is whole and of this key; a warning where it is damaged.

        Raises FileError where it could not be read at the moment: a run without progress starts again.
        """
        path = self.path / "progress.safetensors"
        try:
            path.stat()
            tensors, metadata = read_tensors(path, "progress file", "the run starts from the beginning")
        except RecordError as error:
            logger.warning("%s: %s", self.name, error)
            return None
        except OSError as error:
            refuse_passing(path, error)
            return None
        if metadata.get("run_key") != self.key:
            return None
        return Progress(int(metadata["step"]), tensors, json.loads(metadata["notes"]))

    def report_status(self, order: str, share: float) -> None:
        """Say how much of the run is done, 0 to 1; `order` as of `order_key`."""
        # Only the progress line reads it, and each evaluation writes it: not worth waiting for the disk.
        write_text(self.path / "status.json", json.dumps({"order": order, "share": share}), durable=False)

    def status(self, order: str) -> float:
        """The share that `report_status` last said, 0 where none of this order is."""
        try:
            found = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
            return float(found["share"]) if found["order"] == order else 0.0
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def lost(self, steps: list[int]) -> list[Path]:
        """The checkpoints of these steps that are not there."""
        names = {path.name for path in self.trail()}
        return [path for path in map(self._checkpoint, steps) if path.name not in names]

    def save_checkpoint(self, step: int, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Add a checkpoint to the trail."""
        path = self._checkpoint(step)
        write_tensors(path, weights, {**metadata, "run_key": self.key, "step": str(step)})

    def _checkpoint(self, step: int) -> Path:
        return self.path / "trail" / f"step-{step:08d}.safetensors"

    def trail(self) -> list[Path]:
        """The checkpoints, in order of steps."""
        return sorted((self.path / "trail").glob("step-*.safetensors"))

    def lost_checkpoints(self) -> list[str]:
        """Names of checkpoints that the finished run wrote and that are gone."""
        row = read_summary(self.path / "run.json")
        return [] if row is None else sorted({*row["trail"]} - {path.name for path in self.trail()})

    def drop_trail(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self.path / "trail", ignore_errors=True)


def read_checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights (float32) and metadata of a checkpoint.

    Raises RecordError naming the file where it is missing, broken or of another run key.
    """
    weights, metadata = read_tensors(path, "checkpoint", TRAIN_AGAIN)
    if metadata.get("run_key") != key:
        raise RecordError(f"{path}: belongs to another training of this run; {TRAIN_AGAIN}")
    return {name: value.float() for name, value in weights.items()}, metadata


def read_summary(path: Path) -> dict[str, Any] | None:
    """The row in a `run.json`; None where there is no such file.

    Raises RecordError where it is not as written, FileError where it could not be read at the moment.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("sha256") != _row_digest(row):
            raise ValueError("wrong checksum")
        if lacking := [name for name in SUMMARY if name not in row]:
            raise ValueError(f"without {', '.join(lacking)}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        refuse_passing(path, error)
        reason = str(error) if isinstance(error, OSError | ValueError) else "another kind of file"
        raise RecordError(f"{path}: not a whole summary of a run ({reason}); {TRAIN_AGAIN}") from None
    return row


def _row_digest(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
