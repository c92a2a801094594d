"""A workflow that is killed, and a second one beside it. The long version: tests/faults/kill.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsbench.workflow.results_lock import HOLDER, OccupiedError, occupied
from tests.faults.kill import OVERLAY, Workflow, identity, progress
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

TARGET = "results/collected/history.parquet"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    warm = Warm(STAGES)
    clone = Clone(tmp_path_factory.mktemp("clone"), warm)
    clone.write_command()
    yield clone
    warm.close()


def test_a_killed_workflow_is_finished_by_the_next_call_and_a_second_beside_it_is_refused(clone: Clone) -> None:
    results = clone.root / "results"
    call = Workflow(clone, (TARGET,))
    deadline = time.monotonic() + 900
    # Some runs are finished, another is in the middle.
    while not (list(results.rglob("run.json")) and progress(results)):
        assert time.monotonic() < deadline
        assert not call.ended(), call.said
        time.sleep(0.01)
    status, said = clone.snakemake(TARGET, path=clone.root / "bin", overlay=OVERLAY)
    assert status != 0
    assert "another snakemake (process " in said
    assert "is at work in this folder; wait until it ends, or stop it" in said
    assert "Traceback" not in said
    assert call.kill("all", signal.SIGKILL) == "all"
    call.end()
    call.wait()
    finished = {path: identity(path) for path in results.rglob("run.json")}
    interrupted = progress(results)
    assert 0 < len(finished) < 8
    status, said = clone.snakemake(TARGET, path=clone.root / "bin", overlay=OVERLAY)
    assert status == 0, said[-2000:]
    again = {path: identity(path) for path in results.rglob("run.json")}
    assert len(again) == 8
    assert finished.items() <= again.items()
    logs = "".join(path.read_text() for path in (results / "logs/train").rglob("*.log"))
    for path in again.keys() - finished.keys():
        log = results / "logs/train" / path.parent.parent.relative_to(results / "runs") / "seeds-0-1.log"
        assert f"seed {path.parent.name.removeprefix('seed-')}: completed at step" in log.read_text()
    for path, step in interrupted.items():
        assert f"seed {path.name.removeprefix('seed-')}: goes on from step {step}" in logs
    status, said = clone.snakemake("--dry-run", TARGET, overlay=OVERLAY)
    assert status == 0
    assert "Nothing to be done" in said


def test_a_folder_has_one_workflow_until_that_ends_however(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from nsbench.workflow.results_lock import occupied\n"
        "with occupied(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(OccupiedError, match=rf"^{tmp_path}: another snakemake \(process {holder.pid} on ") as caught,
            occupied(tmp_path),
        ):
            pass
        assert "\n" not in str(caught.value)
        (tmp_path / HOLDER).write_text("{")
        refused = rf"^{tmp_path}: another snakemake is at work in this folder"
        with pytest.raises(OccupiedError, match=refused), occupied(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with occupied(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text()).keys() == {"process", "host", "since"}
