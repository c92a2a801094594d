"""The queue: overlays in order, what is finished exported, stopped and begun again elsewhere. Real Snakemake."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from nsbench.cli import queue
from nsbench.cli.queue import Queue
from nsbench.config.base import ConfigError
from nsbench.storage.records import Recorded, read_records, record_files
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from nsbench.workflow.resources import train_flops
from tests.config.test_config import overlaid, update_config
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

COMMON = """
seeds: [0, 1]
runs_per_pack: 2
checkpoints: {count: 3}
evaluation: {rho: [0.5], n_inputs: 20, n_draws: 1}
theory: null
pretrained: null
"""
OVERLAYS = {
    "01_parity": COMMON
    + """
grid:
  - {task: sparse_parity, variants: [tiny], arms: [baseline, noise_stability]}
tasks:
  sparse_parity:
    variants:
      tiny:
        data: {n: 5, k: 2, n_train: 40, n_val: 20, n_test: 20}
        model: {d_model: 8}
        training: {steps: 12, batch_size: 8, eval_every_steps: 4}
""",
    "02_addition": COMMON
    + """
grid:
  - task: modular_addition
    variants: [tiny]
    arms: [baseline, noise_stability]
    specifications: {design: full, choices: {noise.gradient: [both, clean]}}
tasks:
  modular_addition:
    variants:
      tiny:
        data: {modulus: 7, layout: a_b, n_train: 20, n_val: 10, n_test: 12}
        model: {d_model: 8}
        training: {steps: 12, batch_size: 8, eval_every_steps: 4, stop: after_target}
        target: {metric: val_loss, threshold: 1.0e-9}
""",
}
N_PARITY, N_ADDITION = 4, 2 * (2 + 1)
"""Runs: two specifications of an arm, and their one baseline, since noise that a baseline does not draw adds none."""


class Place:
    """A fresh clone with the overlays, and a queue in it."""

    def __init__(self, root: Path, warm: Warm) -> None:
        self.clone = Clone(root, warm)
        self.records = root / "records"
        (root / "overlays").mkdir()
        for name, text in OVERLAYS.items():
            (root / f"overlays/{name}.yaml").write_text(text)
        self.environment = self.clone.environment(self.clone.write_command())

    def queue(self) -> Queue:
        return Queue(
            self.clone.root / "overlays", self.records, self.clone.root / "results", self.clone.root / "config.yaml"
        )

    def start(self) -> subprocess.Popen[str]:
        options = "queue run --overlays overlays --records records --cores 2 --export-every 3s"
        command = [sys.executable, "-m", "nsbench.cli", *options.split()]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.clone.root, env=self.environment, text=True, **pipes)

    def recorded(self) -> dict[str, str]:
        """Name of each recorded run, and its numbers."""
        if not self.records.is_dir():
            return {}
        return {record.name: record.numbers for path in record_files([self.records]) for record in read_records(path)}

    def trained(self) -> int:
        """Runs that lie here, finished."""
        return len(list((self.clone.root / "results/runs").rglob("run.json")))


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    made = Warm(STAGES)
    yield made
    made.close()


def test_a_stopped_queue_goes_on_in_a_fresh_clone_from_its_records_alone(warm: Warm, tmp_path: Path) -> None:
    first = Place(tmp_path / "first", warm)
    process = first.start()
    while not (first.records.is_dir() and list(first.records.rglob("*.parquet"))):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=900)[0]
    assert process.returncode == 128 + signal.SIGTERM, said
    before = first.recorded()
    # A run that is trained and not measured yet has no record: elsewhere it trains again.
    assert 0 < len(before) <= first.trained() < N_PARITY + N_ADDITION
    assert "stopped; what was in training goes on" in said

    second = Place(tmp_path / "second", warm)
    shutil.copytree(first.records, second.records)
    process = second.start()
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    after = second.recorded()
    assert len(after) == N_PARITY + N_ADDITION
    assert second.trained() == len(after) - len(before)
    assert before.items() <= after.items()
    rows = queue.status(second.queue())
    assert [(row["overlay"], row["runs"], row["recorded"], row["left"]) for row in rows] == [
        ("01_parity", N_PARITY, N_PARITY, 0),
        ("02_addition", N_ADDITION, N_ADDITION, 0),
    ]
    assert all(row["hours left"] == 0 and row["hours spent"] > 0 for row in rows)

    process = second.start()
    said = process.communicate(timeout=900)[0]
    assert process.returncode == 0
    assert said.count("all runs are recorded") == 2


def test_status_reckons_with_the_pace_of_what_is_recorded(warm: Warm, tmp_path: Path) -> None:
    place = Place(tmp_path, warm)
    rows = queue.status(place.queue())
    assert [row["left"] for row in rows] == [N_PARITY, N_ADDITION]
    lines = queue.status_lines(rows)
    head = "overlay runs recorded finished here left wait for a CPU wait for a GPU hours spent hours left"
    assert " ".join(lines[0].split()) == head
    assert lines[-1].split()[:5] == ["all", str(N_PARITY + N_ADDITION), "0", "0", str(N_PARITY + N_ADDITION)]


def test_a_folder_without_overlays_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no overlay"):
        queue.status(Queue(tmp_path, tmp_path / "records"))


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_pair_is_trained_on_one_kind_of_device(monkeypatch: pytest.MonkeyPatch, on_gpu: bool) -> None:
    recorded = {
        ("sparse_parity", "baseline"): {0: "NVIDIA H200", 1: "cpu"},
        ("modular_addition", "baseline"): {0: "NVIDIA H200"},
        ("modular_addition", "noise_stability"): {1: "cpu"},
    }

    def of(cell: Any) -> dict[int, Recorded]:
        found = {} if cell.variant != "tiny" else recorded.get((cell.task, cell.arm), {})
        return {seed: Recorded(Path("a"), "", None, done(1.0, device=device)) for seed, device in found.items()}

    monkeypatch.setattr("nsbench.storage.device.visible_gpus", lambda: ["0"] * on_gpu)
    left = {}
    for overlay in OVERLAYS:
        values = overlaid()
        update_config(values, yaml.safe_load(OVERLAYS[overlay]) | {"runs_per_pack": 2})
        plan = Plan(load(values), SimpleNamespace(of=of))
        for is_here, runs in zip((True, False), queue._left(plan), strict=True):
            left |= {(cell.task, cell.variant, cell.arm, seed): is_here for cell, seed in runs}
    assert left == {
        ("sparse_parity", "tiny", "noise_stability", 0): on_gpu,
        ("sparse_parity", "tiny", "noise_stability", 1): not on_gpu,
        ("modular_addition", "tiny", "baseline", 1): not on_gpu,
        ("modular_addition", "tiny", "noise_stability", 0): on_gpu,
        # Its baseline is that of the other variant.
        ("modular_addition", "tiny-gradientclean", "noise_stability", 0): on_gpu,
        ("modular_addition", "tiny-gradientclean", "noise_stability", 1): not on_gpu,
    }


def test_status_goes_by_the_device_that_the_overlay_trains_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    recorded = {
        0: Recorded(Path("a"), "", None, done(1.0, 1e3, "NVIDIA H200")),
        1: Recorded(Path("a"), "", None, done(9.0, 1e3)),
    }
    values = overlaid()
    update_config(values, yaml.safe_load(OVERLAYS["01_parity"]) | {"device": "cpu"})
    plan = Plan(load(values), SimpleNamespace(of=lambda cell: recorded if cell.arm == "baseline" else {}))
    place = SimpleNamespace(files=lambda: [Path("parity.yaml")], plan=lambda overlay: plan, results=tmp_path)
    (row,) = queue.status(place)
    assert (row["left"], row["wait for a CPU"], row["wait for a GPU"]) == (1, 0, 1)
    assert row["hours left"] == pytest.approx(train_flops(plan.cells[PARITY_ARM]) * 9.0 / 1e3 / 3600)


# --- how long what is left takes ---------------------------------------------------------------------


def planned(overlay: str, recorded: dict[tuple[str, str, str], list[dict[str, Any]]]) -> Plan:
    """An overlay's plan in which cells have records with these summaries."""
    values = overlaid()
    update_config(values, yaml.safe_load(OVERLAYS[overlay]))
    plan = Plan(load(values))
    plan.recorded = {
        key: {seed: Recorded(Path("a"), seed, None, done) for seed, done in enumerate(recorded.get(key, []))}
        for key in plan.cells
    }
    return plan


def done(seconds: float, flops: float = 0.0, device: str = "cpu") -> dict[str, Any]:
    return {"seconds": seconds, "flops": flops, "device": device}


PARITY = ("sparse_parity", "tiny", "baseline")
PARITY_ARM = (*PARITY[:2], "noise_stability")


@pytest.mark.parametrize(
    ("recorded", "on_gpu", "key", "seconds"),
    [
        # As the runs of its cell, or by operations as the runs of its task.
        ({PARITY: [done(10.0, 1e3), done(20.0, 1e3)], PARITY_ARM: [done(100.0, 1e3)]}, False, PARITY, 15),
        ({PARITY: [done(10.0, 2e3), done(20.0, 1e3)]}, False, PARITY_ARM, 30 / 3e3),
        # Runs of another kind of device tell nothing.
        ({PARITY: [done(10.0, 1e3), done(0.1, 1e3, device="NVIDIA H200")]}, False, PARITY, 10),
        ({PARITY: [done(10.0, 1e3), done(0.1, 1e3, device="NVIDIA H200")]}, True, PARITY, 0.1),
        # Without any, at the rate of a cluster's jobs.
        ({}, False, PARITY, "cpu"),
        ({}, True, PARITY, "cuda"),
    ],
)
def test_a_run_takes_as_long_as_recorded_ones_did(recorded: Any, on_gpu: bool, key: Any, seconds: Any) -> None:
    plan = planned("01_parity", recorded)
    cell = plan.cells[key]
    if isinstance(seconds, str):
        seconds = train_flops(cell) / (1e9 * getattr(plan.config.cluster.gflops, seconds))
    elif key not in recorded:
        seconds *= train_flops(cell)
    assert queue._Pace([plan], on_gpu).seconds(plan, cell) == pytest.approx(seconds)
