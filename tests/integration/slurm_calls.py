"""Calls of Snakemake on a cluster of `slurm_cluster`, and what is seen of jobs and runs meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.kill import identity
from tests.integration.slurm_cluster import Cluster, wait
from tests.workflow_clone import Clone

OVERLAY = "tests/config/slurm.yaml"
PROFILE = "workflow/profiles/slurm"
LIMIT_S = 600.0
"""The longest that a call may take."""


@dataclass
class Seen:
    """What was seen of jobs and runs while a workflow ran, by looking all the time."""

    nodes: set[str] = field(default_factory=set)
    gpus: set[str] = field(default_factory=set)
    """What jobs of packs held at any moment, as `node1 0`."""
    without_gpu: set[str] = field(default_factory=set)
    """Jobs of packs that ran and had none."""
    shared: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of jobs that had the same GPU at the same time."""
    rules: set[str] = field(default_factory=set)
    """What the jobs were for, as Snakemake's plugin notes it."""
    logs: set[str] = field(default_factory=set)
    """Where Slurm writes what jobs say."""
    restarts: dict[int, int] = field(default_factory=dict)
    """How often each job was started again."""
    told: dict[Path, set[str]] = field(default_factory=dict)
    """What the log of each pack's training said, in all its starts: each writes it anew."""
    identities: dict[Path, set[tuple[int, int]]] = field(default_factory=dict)
    """Each finished run's summary: more than one identity, and it was trained again."""

    def look(self, jobs: dict[int, dict[str, str]], results: Path) -> None:
        held: dict[str, str] = {}
        for number, job in jobs.items():
            self.rules.add(job["Comment"])
            self.logs.add(job["StdOut"])
            self.restarts[number] = max(self.restarts.get(number, 0), int(job["Restarts"]))
            if job["JobState"] != "RUNNING":
                continue
            self.nodes.add(job["NodeList"])
            if not job["GPUs"]:
                if "train_pack" in job["Comment"]:
                    self.without_gpu.add(job["Comment"])
                continue
            place = f"{job['NodeList']} {job['GPUs']}"
            self.gpus.add(place)
            if place in held:
                self.shared.add((held[place], str(number)))
            held[place] = str(number)
        for path in (results / "logs/train").rglob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                lines = path.read_text(errors="replace").splitlines()
                self.told.setdefault(path.relative_to(results / "logs/train").with_suffix(""), set()).update(lines)
        for path in results.rglob("run.json"):
            with contextlib.suppress(FileNotFoundError):
                self.identities.setdefault(path, set()).add(identity(path))


class Call:
    """A call of Snakemake on the cluster, in the background; `close` ends it, however it stands."""

    def __init__(self, cluster: Cluster, clone: Clone, seen: Seen) -> None:
        self.cluster, self.clone, self.seen = cluster, clone, seen
        self.results = clone.root / "results"
        self._out = (clone.root / "said.txt").open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *on_slurm()],
            cwd=clone.root,
            env=cluster.environment(clone.environment()),
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._end = time.monotonic() + LIMIT_S

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait for something while the call is under way; AssertionError, with the logs, where it does not happen."""

        def looked() -> object:
            found = happened()
            assert found or self._process.poll() is None, f"Snakemake ended before {what}\n{self.words()}"
            return found

        wait(looked, self._end - time.monotonic(), f"waited for {what}", self.words)

    def end(self) -> int:
        """The exit status, once it has ended; AssertionError with the logs where it does not."""
        wait(lambda: self._process.poll() is not None, self._end - time.monotonic(), "Snakemake hangs", self.words)
        return self._process.wait()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._over.set()
        self._watcher.join()
        self._out.close()

    def said(self) -> str:
        """What all calls so far said."""
        return (self.clone.root / "said.txt").read_text(errors="replace")

    def words(self) -> str:
        logs = sorted((self.results / "logs").rglob("*.log"))
        tails = "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)
        return f"{tails}\n{self.cluster.words()}\n--- snakemake\n{self.said()[-4000:]}\n{self.cluster.jobs()}"

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.seen.look(self.cluster.jobs(), self.results)


@dataclass(frozen=True)
class Training:
    """A process that trains a pack on a node."""

    process: int
    node: str
    command: list[str]

    @property
    def pack(self) -> Path:
        """TASK/VARIANT/ARM/seeds-N-N: here a pack is one run."""
        history = self.command[self.command.index("--history") + 1]
        return Path(history).parent.relative_to("results/packs")


def seed_of(pack: Path) -> str:
    return f"seed {pack.name.rpartition('-')[2]}"


def run_of(results: Path, pack: Path) -> Path:
    """The folder of a pack's only run."""
    return results / "runs" / pack.parent / seed_of(pack).replace(" ", "-")


def log_of(results: Path, pack: Path) -> str:
    """What a pack's training has logged."""
    path = results / f"logs/train/{pack}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def on_slurm(device: str = "cpu") -> list[str]:
    """The options of a call on this cluster, which has no accounts, no database and no GPU that CUDA knows."""
    return [
        *("--workflow-profile", PROFILE, "--configfile", OVERLAY, "--config", f"device={device}"),
        *("--set-resources", "train_pack:gpu=1", "evaluate_pack:gpu=1"),
        *("--default-resources", "slurm_partition=main", "mem_mb=2000", "runtime=30"),
        *("--slurm-status-command", "squeue", "--slurm-status-attempts", "60", "--slurm-no-account"),
        *("--slurm-init-seconds-before-status-checks", "3"),
    ]


def trainings(cluster: Cluster) -> list[Training]:
    """The processes that train on a node now."""
    found = []
    for node in cluster.nodes:
        for process, command in cluster.processes(node).items():
            if command[2:4] == ["stage", "train"] and Path(command[1]).name == "nsbench":
                found.append(Training(process, node, command))
    return found
