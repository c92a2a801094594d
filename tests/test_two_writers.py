"""Two processes that train the same pack at once: a node that was lost and its job's second start.

With locks the later one waits (tests/test_training.py, tests/integration/test_slurm.py). Here the file system has
none, as some clusters' have not: both train, and what is left is as if one had.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

from nsbench.grid import load
from nsbench.plan import Plan
from nsbench.records import HISTORY, RUNS, read_table
from nsbench.runstore import RunFolder, read_checkpoint, read_summary
from tests.test_config import TINY, overlaid, place

WITHOUT_LOCKS = """
import errno, sys, filelock
from nsbench import cli
def no_locks(*_, **__):
    raise OSError(errno.ENOSYS, "no locks here")
filelock.FileLock.acquire = no_locks
sys.exit(cli.main(sys.argv[1:]))
"""
TASK, ARM, PACK = "sparse_parity", "noise_stability", "seeds-0-1"


def trained(root: Path, writers: int) -> list[tuple[int, str]]:
    """Train the pack in so many processes at once; their statuses and what they said."""
    steps, every = 160, 40
    values = place(overlaid(TINY), f"tasks.{TASK}.variants.tiny.training.steps", steps)
    plan = Plan(load(place(values, f"tasks.{TASK}.variants.tiny.training.eval_every_steps", every)))
    run = [sys.executable, "-c", WITHOUT_LOCKS]
    data = root / "data.safetensors"
    made = [*run, "dataset", "--spec", plan.dataset(TASK, "tiny", PACK), "--digest", "d", "--out", str(data)]
    subprocess.run([*made, "--floors", str(root / "floors.parquet")], check=True, capture_output=True)
    command = [*run, "train", "--spec", plan.train(TASK, "tiny", ARM, PACK), "--digest", "d", "--dataset", str(data)]
    command += ["--run-store", str(root / "runs"), "--history", str(root / "history.parquet")]
    command += ["--runs", str(root / "runs.parquet"), "--device", "cpu", "--progress-every", "0.02s"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(writers)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def test_two_writers_without_locks_leave_what_one_leaves(tmp_path: Path) -> None:
    [(status, said)] = trained(tmp_path / "one", 1)
    assert status == 0, said
    for status, said in trained(tmp_path / "two", 2):
        assert "this file system has no locks" in said
        assert status == 0, said
    one, two = tmp_path / "one", tmp_path / "two"
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
    assert left == {path.name for path in one.rglob("*") if path.is_file()}
