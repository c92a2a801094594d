"""How many cores a process takes: fewer in a container with a quota, and those that OMP_NUM_THREADS says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from nsbench.cli import measure
from nsbench.storage import cores


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/outside/b\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("2:cpu,cpuacct:/\n1:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("2:cpu,cpuacct:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (None, {}, 8),
    ],
)
def test_a_container_s_quota_counts(
    groups: str | None, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
    for name, text in {**files, **({} if groups is None else {"own": groups})}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("name", "threads"), [("OMP_NUM_THREADS", 1), ("MKL_NUM_THREADS", 1), ("OTHER", 3)])
def test_measuring_takes_all_cores_unless_the_environment_says_how_many(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(measure, "usable_cores", lambda: 3)
    try:
        measure._use_cores()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
