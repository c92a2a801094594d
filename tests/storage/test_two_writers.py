"""Two processes that train the same pack at once: a node that was lost and its job's second start.

With locks the later one waits (tests/training/test_training.py, tests/integration/test_slurm.py). Here the file system
has none, as some clusters have not: both train, and what the next call leaves is as if one had.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from nsbench.cli import parser as cli
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.parquet import read_table
from nsbench.storage.run_folder import RunFolder, read_checkpoint, read_summary
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid, place

WITHOUT_LOCKS = """
import errno, sys, filelock
from nsbench.cli import parser as cli
def no_locks(*_, **__):
    raise OSError(errno.ENOSYS, "no locks here")
filelock.FileLock.acquire = no_locks
sys.exit(cli.main(sys.argv[1:]))
"""
TASK, ARM, PACK = "sparse_parity", "noise_stability", "seeds-0-1"


def command(root: Path) -> list[str]:
    """The training of the pack under `root`, whose data set is made here."""
    values = place(overlaid(TINY), f"tasks.{TASK}.variants.tiny.training.steps", 160)
    plan = Plan(load(place(values, f"tasks.{TASK}.variants.tiny.training.eval_every_steps", 40)))
    data = ["--out", str(root / "data.safetensors"), "--floors", str(root / "floors.parquet")]
    assert cli.main(["stage", "dataset", "--spec", plan.dataset(TASK, "tiny", PACK), "--digest", "d", *data]) == 0
    train = ["stage", "train", "--spec", plan.train(TASK, "tiny", ARM, PACK), "--digest", "d", "--dataset", data[1]]
    train += ["--run-store", str(root / "runs"), "--history", str(root / "history.parquet")]
    return [*train, "--runs", str(root / "runs.parquet"), "--device", "cpu", "--progress-every", "0.1s"]


def begun(command: list[str]) -> subprocess.Popen[str]:
    run = [sys.executable, "-c", WITHOUT_LOCKS, *command]
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a single writer leaves."""
    root = tmp_path_factory.mktemp("one")
    assert cli.main(command(root)) == 0
    return root


def test_two_writers_without_locks_leave_what_one_leaves(tmp_path: Path, one: Path) -> None:
    two = tmp_path
    train = command(two)
    writers = [begun(train)]
    while not list(two.rglob("progress.safetensors")):
        assert writers[0].poll() is None
        time.sleep(0.01)
    writers.append(begun(train))
    for writer in writers:
        said, _ = writer.communicate(timeout=300)
        assert "this file system has no locks" in said
        # One may take away what the other is about to write: that ends it, with a sentence.
        assert writer.returncode in (0, 2), said
        assert "Traceback" not in said
    assert cli.main(train) == 0
    for name, schema in (("history", HISTORY), ("runs", RUNS)):
        tables = [read_table(root / f"{name}.parquet", schema).drop(columns="seconds") for root in (one, two)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    for seed in (0, 1):
        rows = [read_summary(root / "runs" / TASK / "tiny" / ARM / f"seed-{seed}" / "run.json") for root in (one, two)]
        assert rows[0] is not None
        assert rows[1] is not None
        assert rows[0]["history_sha256"] == rows[1]["history_sha256"]
        folder = RunFolder(two / "runs", TASK, "tiny", ARM, seed, rows[1]["run_key"])
        assert folder.finished()
        trails = [read_checkpoint(path, folder.key)[0] for path in folder.trail()]
        alone = RunFolder(one / "runs", TASK, "tiny", ARM, seed).trail()
        assert [path.name for path in folder.trail()] == [path.name for path in alone]
        for weights, path in zip(trails, alone, strict=True):
            other = read_checkpoint(path, folder.key)[0]
            assert all(torch.equal(weights[name], other[name]) for name in other)
    left = {path.name for path in two.rglob("*") if path.is_file()}
    assert left <= {path.name for path in one.rglob("*") if path.is_file()}
