"""What tests share: tiny settings, one thread, and each device that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.config import Noise, parse
from nsbench.datasets import make_datasets
from nsbench.training import TrainSpec, train_pack


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that this machine has."""
    return torch.device(request.param)


BASELINE = {"kind": "baseline"}
DATA = {
    "modular_addition": {"modulus": 7, "layout": "a_b", "n_train": 25, "n_val": 12, "n_test": 12},
    "sparse_parity": {"n": 6, "k": 2, "n_train": 64, "n_val": 32, "n_test": 32},
}


def arm(rho: float = 0.25, gamma: float = 0.75, orientation: int = 1) -> dict[str, Any]:
    """Settings of a regularised arm."""
    return {"kind": "noise_stability", "rho": rho, "gamma": gamma, "orientation": orientation}


def train_spec(task: str = "modular_addition", arm_settings: Any = BASELINE, **sections: Any) -> TrainSpec:
    """A tiny pack's settings; `sections` replace fields of the sections that they name."""
    values = {
        "task": task,
        "variant": "tiny",
        "arm": "arm",
        "arm_settings": arm_settings,
        "model": {"d_model": 8, "n_heads": 2, "n_layers": 2, **sections.get("model", {})},
        "optimizer": {"learning_rate": 0.003, **sections.get("optimizer", {})},
        "training": {"steps": 24, "batch_size": 10, "eval_every_steps": 4, **sections.get("training", {})},
        "noise": {**Noise().model_dump(), **sections.get("noise", {})},
        "checkpoint_count": 3,
        "checkpoint_dtype": "float32",
        "seeds": sections.get("seeds", [3, 4]),
    }
    return parse(TrainSpec, values)


def make_dataset(root: Path, task: str = "modular_addition", seeds: tuple[int, ...] = (3, 4, 5)) -> Path:
    """The tiny data sets of a task."""
    path = root / f"{task}.safetensors"
    make_datasets(task, DATA[task], list(seeds), path, {})
    return path


def train(
    root: Path, spec: TrainSpec, device: torch.device | str = "cpu", progress_every_seconds: float = 3600.0
) -> tuple[Path, Path]:
    """Train a pack under `root`; its history and runs files."""
    dataset = make_dataset(root, spec.task)
    history, runs = root / "history.parquet", root / "runs.parquet"
    train_pack(spec, "digest", dataset, root / "runs", history, runs, torch.device(device), progress_every_seconds)
    return history, runs
