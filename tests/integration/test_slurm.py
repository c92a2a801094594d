"""The workflow on a real Slurm of two nodes that are lost and come back, as does the controller.

Skips where Slurm (apt-get install slurmctld slurmd slurm-client munge) or Snakemake's plugin for it
(pip install snakemake-executor-plugin-slurm) are not installed. The GPUs are made up; training is on the CPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.kill import differences, progress, tables
from tests.integration.slurm_calls import OVERLAY, Call, Seen, Training, log_of, on_slurm, run_of, seed_of, trainings
from tests.integration.slurm_cluster import SAVES_S, Cluster, missing
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
PACKS = RUNS = 5
CALLS = 3
"""How often at most the same command is given: Snakemake may give up a job whose fate nobody told it."""
MIDDLE = 100
"""A run that has saved this step is in the middle; it has 1000 (that of texts 12)."""


@dataclass
class Story:
    """A workflow that went through all this, and what is there to check."""

    cluster: Cluster
    clone: Clone
    seen: Seen = field(default_factory=Seen)
    statuses: list[int] = field(default_factory=list)
    orphan: Path = Path()
    """The pack whose node was lost while its process lived on."""
    crashed: dict[Path, int] = field(default_factory=dict)
    """The packs in the middle on the node that crashed, and the step that each one's run had saved."""

    @property
    def results(self) -> Path:
        return self.clone.root / "results"


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    made = Warm(STAGES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def local(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the grid has run undisturbed on this machine."""
    clone = Clone(tmp_path_factory.mktemp("local"), warm)
    target = "results/tables/score.parquet"
    status, said = clone.snakemake(target, "--config", "device=cpu", path=clone.write_command(), overlay=OVERLAY)
    assert status == 0, said
    return clone


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def story(warm: Warm, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A clone in which the grid has run on the cluster, with all that can be lost lost once."""
    story = Story(cluster, Clone(tmp_path_factory.mktemp("slurm"), warm))
    call = Call(cluster, story.clone, story.seen)
    try:
        _lose_everything_once(story, call)
        story.statuses.append(call.end())
    finally:
        call.close()
    while story.statuses[-1] != 0 and len(story.statuses) < CALLS:
        call = Call(cluster, story.clone, story.seen)
        try:
            story.statuses.append(call.end())
        finally:
            call.close()
    assert story.statuses[-1] == 0, call.words()
    return story


def _lose_everything_once(story: Story, call: Call) -> None:
    """Lose a node whose processes live on, crash the other, kill the controller; and bring all of them back."""
    cluster, results = story.cluster, story.results
    stopped: dict[str, Training] = {}

    def one_in_the_middle_on_each_node() -> bool:
        begun = progress(results)
        for one in trainings(cluster):
            if one.node not in stopped and begun.get(run_of(results, one.pack), 0) >= MIDDLE:
                # So that what follows finds it in the middle, whatever the machine's speed.
                os.kill(one.process, signal.SIGSTOP)
                stopped[one.node] = one
        return set(stopped) == set(cluster.nodes)

    call.until(one_in_the_middle_on_each_node, "a run in the middle on each node")
    orphan, crashed = stopped.values()
    story.orphan = orphan.pack
    cluster.kill_node(orphan.node)
    lost = [one.pack for one in trainings(cluster) if one.node == crashed.node]
    cluster.crash_node(crashed.node)
    saved = progress(results)
    story.crashed = {pack: saved[run_of(results, pack)] for pack in lost if run_of(results, pack) in saved}
    call.until(lambda: cluster.states("down") == set(cluster.nodes), "both nodes to be lost")
    cluster.start_node(crashed.node)

    # The orphan goes no further until Slurm has started its job again: now there are two of it.
    call.until(lambda: "another process makes" in log_of(results, orphan.pack), "a second writer of the orphan's pack")
    time.sleep(SAVES_S)
    cluster.kill_controller()
    os.kill(orphan.process, signal.SIGCONT)
    call.until(lambda: (run_of(results, orphan.pack) / "run.json").exists(), "the orphan's end")
    cluster.start_controller()
    call.until(lambda: "finished before, kept" in log_of(results, orphan.pack), "what the second writer finds")
    cluster.start_node(orphan.node)


def again(story: Story, *arguments: str, device: str = "cpu") -> tuple[int, str]:
    """Exit status and words of one more call of Snakemake on the cluster, with further arguments."""
    environment = story.cluster.environment(story.clone.environment())
    command = [sys.executable, "-m", "snakemake", *arguments, *on_slurm(device)]
    done = subprocess.run(command, cwd=story.clone.root, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_the_tables_are_those_of_one_machine_to_the_bit(local: Clone, story: Story) -> None:
    calm, found = tables(local.root / "results"), tables(story.results)
    assert len(calm) > 10
    assert differences(calm, found) == []


def test_both_nodes_worked_and_no_gpu_had_two_jobs(story: Story) -> None:
    assert story.seen.nodes == set(story.cluster.nodes)
    assert story.seen.without_gpu == set()
    assert story.seen.gpus == {f"{node} {place}" for node in story.cluster.nodes for place in (0, 1)}
    assert story.seen.shared == set()


def test_what_was_lost_went_on_and_nothing_was_trained_twice(story: Story) -> None:
    assert story.crashed
    log = story.cluster.log("slurmctld")
    again = [number for number, restarts in story.seen.restarts.items() if restarts]
    assert len(again) >= 1 + len(story.crashed), log
    assert all(f"requeue job JobId={number} due to failure of node" in log for number in again), log
    for pack, step in story.crashed.items():
        went_on = f"{seed_of(pack)}: goes on from step {step}"
        assert [line for line in story.seen.told[pack] if line.endswith(went_on)], story.seen.told[pack]
    said = "\n".join(story.seen.told[story.orphan])
    assert "another process makes" in said
    assert f"{seed_of(story.orphan)}: finished before, kept" in said
    assert len(story.seen.identities) == RUNS
    assert [path for path, seen in story.seen.identities.items() if len(seen) > 1] == []


def test_nothing_is_left_behind_and_a_further_call_has_nothing_to_do(story: Story) -> None:
    left = [path for path in story.results.rglob(".*") if path.is_file() and not path.name.endswith((".lock", ".json"))]
    assert left == []
    assert list(story.results.rglob("progress.safetensors")) == []
    status, said = again(story, "--dry-run")
    assert status == 0, said
    assert "Nothing to be done" in said


def test_logs_lie_where_the_results_are_and_the_head_fetches_reports_and_tracks(story: Story) -> None:
    logs = story.results / "logs"
    assert story.seen.logs
    assert [path for path in story.seen.logs if not Path(path).is_relative_to(logs / "slurm")] == []
    for folder, count in (("train", PACKS), ("evaluate", PACKS)):
        assert len(list((logs / folder).rglob("*.log"))) == count
    assert "rule_pack_evaluate_pack_train_pack" in story.seen.rules
    own = ("text", "track", "report", "figure")
    assert [rule for rule in story.seen.rules if any(word in rule for word in own)] == []
    assert (story.results / "report.html").stat().st_size > 0
    assert json.loads((story.results / "tracked.json").read_text())["added"] == RUNS
    with contextlib.closing(sqlite3.connect(story.results / "mlflow.db")) as database:
        names = [row[0] for row in database.execute("SELECT value FROM tags WHERE key = 'nsbench.run'")]
    assert sorted(Counter(names).values()) == [1] * RUNS


def test_a_device_that_nobody_named_is_refused_before_any_job(story: Story) -> None:
    """The head's own devices say nothing of the nodes'."""
    before = set(story.cluster.jobs())
    status, said = again(story, "--forceall", device="auto")
    assert status != 0
    assert "device: 'auto' looks at this machine, but jobs run on others" in said
    assert set(story.cluster.jobs()) == before
