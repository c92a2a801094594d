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

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from nsbench.closed import canonical_json
from nsbench.records import HISTORY, RecordError, read_stamp, read_table, whole, write_table, write_text

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


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
    """A digest of a history's numbers, exact to the bit, without its seconds."""
    digest = hashlib.sha256()
    for name in HISTORY.names:
        if name not in ("seconds", "task", "variant", "arm"):
            digest.update(rows[name].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


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
        """The row that `finish` wrote, if the run is whole and of this key."""
        try:
            row = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            whole_run = row["run_key"] == self.key and read_stamp(self.path / "history.parquet")["run_key"] == self.key
        except (OSError, ValueError, KeyError):
            return None
        return row if whole_run else None

    def history(self) -> pd.DataFrame:
        """The finished run's history."""
        return read_table(self.path / "history.parquet", HISTORY)

    def finish(self, rows: pd.DataFrame, row: dict[str, Any], stamp: dict[str, str]) -> None:
        """Write the run's history and summary; the summary last, since it says that all is there."""
        write_table(self.path / "history.parquet", rows, HISTORY, {**stamp, "run_key": self.key})
        write_text(self.path / "run.json", json.dumps(row))
        (self.path / "progress.safetensors").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what a run of another key left."""
        shutil.rmtree(self.path, ignore_errors=True)

    def save_progress(self, progress: Progress) -> None:
        """Write what is needed to go on from here."""
        from safetensors.torch import save_file

        metadata = {"run_key": self.key, "step": str(progress.step), "notes": json.dumps(progress.notes)}
        with whole(self.path / "progress.safetensors") as temporary:
            save_file({name: value.contiguous() for name, value in progress.tensors.items()}, temporary, metadata)

    def progress(self) -> Progress | None:
        """What `save_progress` wrote, if it is whole and of this key."""
        try:
            with safe_open(self.path / "progress.safetensors", "pt") as file:
                metadata = file.metadata()
                if metadata["run_key"] != self.key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        return Progress(int(metadata["step"]), tensors, json.loads(metadata["notes"]))

    def report_status(self, order: str, share: float) -> None:
        """Say how much of the run is done, 0 to 1; `order` as of `order_key`."""
        write_text(self.path / "status.json", json.dumps({"order": order, "share": share}))

    def status(self, order: str) -> float:
        """The share that `report_status` last said, 0 where none of this order is."""
        try:
            found = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0
        return found["share"] if found.get("order") == order else 0.0

    def save_checkpoint(self, step: int, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Add a checkpoint to the trail."""
        from safetensors.torch import save_file

        with whole(self.path / "trail" / f"step-{step:08d}.safetensors") as temporary:
            tensors = {name: value.contiguous() for name, value in weights.items()}
            save_file(tensors, temporary, {**metadata, "run_key": self.key, "step": str(step)})

    def trail(self) -> list[Path]:
        """The checkpoints, in order of steps."""
        return sorted((self.path / "trail").glob("step-*.safetensors"))

    def drop_trail(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self.path / "trail", ignore_errors=True)


def read_checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights (float32) and metadata of a checkpoint.

    Raises RecordError naming the file where it is missing, broken or of another run key.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path}: not a whole checkpoint ({error}); run its pack's train job again") from None
    if metadata["run_key"] != key:
        raise RecordError(f"{path}: belongs to another training of this run; run its pack's train job again")
    return weights, metadata
