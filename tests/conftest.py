"""What tests share: tiny settings, one thread, and each device that is there."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsbench.config.base import parse
from nsbench.config.variant import Noise
from nsbench.data.generate import DatasetSpec, make_datasets
from nsbench.data.tasks import TASKS, Task
from nsbench.data.text import Text, write_text_file
from nsbench.storage.locks import locked
from nsbench.training.pack import train_pack
from nsbench.training.run import TrainSpec


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first: the other workers do the rest meanwhile."""
    names = ("slurm", "workflow", "dry_runs", "queue", "faults_of_workflow", "partial")
    first = [f"test_{name}.py" for name in names]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that this machine has."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny pretrained model of each kind, and a text."""
    from tests import tiny_models

    folder = tmp_path_factory.mktemp("models")
    for kind in tiny_models.KINDS:
        tiny_models.make(folder, kind)
    (folder / "text.txt").write_text(tiny_models.TEXT)
    return folder


BASELINE = {"kind": "baseline"}
DATA = {
    "modular_addition": {"modulus": 7, "layout": "a_b", "n_train": 25, "n_val": 12, "n_test": 12},
    "sparse_parity": {"n": 6, "k": 2, "n_train": 64, "n_val": 32, "n_test": 32},
    "next_token": {
        "n_symbols": 8,
        "length": 6,
        "examples": "rows",
        "targets": "every",
        "n_train": 40,
        "n_val": 30,
        "n_test": 32,
    },
}
"""Tiny data of each task."""
MODEL = {"next_token": {"mask": "causal", "pooling": "none"}}
"""What a task's model must have."""


def small_text() -> Text:
    """Lines of nought to nine words out of twelve, the first words the commonest."""
    random = np.random.default_rng(0)
    lines = [" ".join(f"w{word}" for word in random.geometric(0.25, random.integers(0, 10)) % 12) for _ in range(150)]
    return Text("made-up text, not WikiText-2", tuple(lines[:60]), tuple(lines[60:100]), tuple(lines[100:]))


def arm(rho: float = 0.25, gamma: float = 0.75, orientation: int = 1) -> dict[str, Any]:
    """Settings of a regularised arm."""
    return {"kind": "noise_stability", "rho": rho, "gamma": gamma, "orientation": orientation}


def train_spec(task: str = "modular_addition", arm_settings: Any = BASELINE, **sections: Any) -> TrainSpec:
    """A tiny pack's settings; `sections` replace fields of the sections that they name; with a kind, all of a model."""
    model = {"d_model": 8, "n_heads": 2, "n_layers": 2, **MODEL.get(task, {}), **sections.get("model", {})}
    values = {
        "task": task,
        "variant": "tiny",
        "arm": "arm",
        "arm_settings": arm_settings,
        "model": sections["model"] if "kind" in model else model,
        "optimizer": {"learning_rate": 0.003, **sections.get("optimizer", {})},
        "training": {"steps": 24, "batch_size": 10, "eval_every_steps": 4, **sections.get("training", {})},
        "noise": {**Noise().model_dump(), **sections.get("noise", {})},
        "target": sections.get("target"),
        "checkpoint_count": 3,
        "checkpoint_dtype": "float32",
        "seeds": sections.get("seeds", [3, 4]),
    }
    return parse(TrainSpec, values)


def made_by(task: Task, seed: int, *text: Any) -> tuple[dict[str, torch.Tensor], int, int]:
    """What a task makes, as the tensors that its file has."""
    made, vocabulary, n_classes = task.make(seed, *text)
    return {name: torch.tensor(value) for name, value in made.items()}, vocabulary, n_classes


def write_datasets(
    task: str, data: dict[str, Any], seeds: list[int], path: Path, stamp: dict[str, str] | None = None, text: Any = None
) -> None:
    """Run the dataset stage: data sets at `path`, floors beside it."""
    spec = parse(DatasetSpec, {"task": task, "variant": "tiny", "data": data, "seeds": seeds})
    make_datasets(spec, path, path.with_name(path.name + ".floors.parquet"), stamp or {}, text)


def make_dataset(root: Path, task: str = "modular_addition", seeds: tuple[int, ...] = (3, 4, 5)) -> Path:
    """The tiny data sets of a task."""
    path, text = root / f"{task}.safetensors", None
    if TASKS[task].from_text:
        text = root / "text.parquet"
        write_text_file(text, small_text(), {})
    write_datasets(task, DATA[task], list(seeds), path, text=text)
    return path


def train(
    root: Path,
    spec: TrainSpec,
    device: torch.device | str = "cpu",
    progress_every_seconds: float = 3600.0,
    stacks: Path | None = None,
) -> tuple[Path, Path]:
    """Train a pack under `root`; its history and runs files."""
    dataset = make_dataset(root, spec.task)
    files = dataset, root / "runs", root / "history.parquet", root / "runs.parquet"
    train_pack(spec, "digest", *files, torch.device(device), progress_every_seconds, stacks)
    history, runs = files[2:]
    return history, runs


@functools.cache
def compile_kernels() -> None:
    """Let numba keep the compiled kernels of training beside their source, where a copy of it finds them.

    They are 13 s of processor time in each clone, and twice that where two of its jobs begin at once.
    """
    with tempfile.TemporaryDirectory() as folder, locked(Path(tempfile.gettempdir(), "nsbench-kernels.lock"), ""):
        train(Path(folder), train_spec("sparse_parity"))
