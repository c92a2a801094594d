"""A run that is stopped, doubled or too large: nothing is lost, and its numbers stay the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.schemas.training import RUNS
from nsbench.storage.atomic import FileError, atomic_write
from nsbench.storage.device import DeviceError
from nsbench.storage.parquet import read_table
from nsbench.storage.run_folder import RunFolder
from nsbench.storage.tensors import read_tensors
from nsbench.training import loop, pack
from nsbench.training.run import TrainSpec
from nsbench.training.writer import host_copy
from tests.conftest import arm, train, train_spec
from tests.training.test_training import Killed, numbers, same

STEP = loop.TrainingStep.__call__


def every_step(monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    """Have `look(training step, step number)` called before each step."""

    def watched(self: Any, step: int, count: int) -> None:
        look(self, step)
        STEP(self, step, count)

    monkeypatch.setattr(loop.TrainingStep, "__call__", watched)


def spec_of(*seeds: int) -> TrainSpec:
    return train_spec(arm_settings=arm(), seeds=list(seeds))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history of seeds 3 and 4, each trained alone and never disturbed."""
    torch.set_num_threads(1)  # a fixture of a module comes before that of each test
    return train(tmp_path_factory.mktemp("calm"), spec_of(3, 4))[0]


# --- asked to stop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_progress_at_that_step_and_ends_the_process(
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
) -> None:
    spec, before = spec_of(3, 4), signal.getsignal(number)
    seen = []

    def stop(step: Any, at: int) -> None:
        if step.seeds == [4] and at == 6:
            os.kill(os.getpid(), number)

    every_step(monkeypatch, stop)
    with pytest.raises(SystemExit) as caught:
        train(tmp_path / "stopped", spec)
    assert caught.value.code == 128 + number
    assert "asked to stop: the progress is saved at step 7" in caplog.text
    every_step(monkeypatch, lambda step, at: seen.append((step.seeds, at)))
    again, _ = train(tmp_path / "stopped", spec)
    assert seen[0] == ([4], 7)
    assert same(numbers(calm), numbers(again))
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("at", [23, 24])
def test_a_signal_at_the_very_end_of_a_run_is_heard_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In its last step or its last evaluation: that run is finished, and the next is not begun."""
    trained = []

    def stop(step: Any, now: int) -> None:
        trained.append(step.seeds)
        if now == at:
            os.kill(os.getpid(), signal.SIGTERM)

    every_step(monkeypatch, stop)
    evaluate = loop.StackTraining._evaluate

    def evaluated(stack: Any) -> None:
        evaluate(stack)
        if stack.done == at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.StackTraining, "_evaluate", evaluated)
    with pytest.raises(SystemExit) as caught:
        train(tmp_path, spec_of(3, 4))
    assert caught.value.code == 143
    assert trained == [[3]] * 24
    assert (tmp_path / "runs/modular_addition/tiny/arm/seed-3/run.json").exists()


def test_a_run_whose_checkpoints_are_lost_starts_from_the_beginning_and_says_so(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its evaluation would lack a step."""

    def dies(_: Any, at: int) -> None:
        if at == 20:
            raise Killed

    every_step(monkeypatch, dies)
    with pytest.raises(Killed):
        train(tmp_path / "stormy", spec_of(3), progress_every_seconds=0.0)
    trail = tmp_path / "stormy/runs/modular_addition/tiny/arm/seed-3/trail"
    (trail / "step-00000012.safetensors").unlink()
    every_step(monkeypatch, lambda *_: None)
    stormy, _ = train(tmp_path / "stormy", spec_of(3))
    assert "seed 3: starts from the beginning, since " in caplog.text
    assert "step-00000012.safetensors is gone" in caplog.text
    assert same(numbers(calm, 3), numbers(stormy))
    assert len(list(trail.iterdir())) == 3


def test_a_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import os, signal; from nsbench.training.interruption import stop_request\n"
        "with stop_request() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop and stop.status == 143\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


# --- two processes on one run ----------------------------------------------------------------------------


def test_a_run_that_another_process_trains_is_waited_for_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    steps: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def slowly(_: Any, at: int) -> None:
        steps.append(at)
        started.set()
        assert go_on.wait(60)

    every_step(monkeypatch, slowly)
    spec = spec_of(3)
    first = threading.Thread(target=train, args=(tmp_path, spec))
    first.start()
    assert started.wait(60)
    second = threading.Thread(target=train, args=(tmp_path, spec))
    second.start()
    deadline = time.monotonic() + 600
    while "another process works on it; waiting" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    first.join()
    second.join()
    assert "another process works on it; waiting" in caplog.text
    assert steps == list(range(spec.training.steps))
    assert "finished before, kept" in caplog.text


def test_a_clearing_leaves_the_lock_and_what_is_being_written(tmp_path: Path) -> None:
    """Or a process that waits for the lock would hold a file that is gone, and a writer's file would never appear."""
    folder = RunFolder(tmp_path, "t", "v", "a", 3, "key")
    with folder.held():
        (folder.path / "trail").mkdir()
        (folder.path / "run.json").write_text("{}")
        with atomic_write(folder.path / "status.json") as temporary:
            temporary.write_text("{}")
            folder.clear()
            assert {path.name for path in folder.path.iterdir()} == {".lock", temporary.name}
        assert {path.name for path in folder.path.iterdir()} == {".lock", "status.json"}


def test_a_run_whose_checkpoints_another_process_removed_is_not_finished(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shorter trail would be evaluated as if it were all of it."""
    spec = spec_of(3)

    def begins_anew(_: Any, at: int) -> None:
        if at == 20:
            shutil.rmtree(tmp_path / "two/runs/modular_addition/tiny/arm/seed-3/trail")

    every_step(monkeypatch, begins_anew)
    with pytest.raises(FileError, match=r"step-00000000\.safetensors: is gone before its run has ended"):
        train(tmp_path / "two", spec)
    assert not (tmp_path / "two/runs/modular_addition/tiny/arm/seed-3/run.json").exists()
    every_step(monkeypatch, lambda *_: None)
    again, _ = train(tmp_path / "two", spec)
    assert same(numbers(calm, 3), numbers(again))


# --- writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["save_checkpoint", "save_progress", "report_status"])
def test_a_file_that_cannot_be_written_ends_the_run_loudly(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Files are written beside the training, by a thread: its error is the run's."""
    written, trained = [], []

    def fails(*arguments: Any) -> None:
        written.append(arguments)
        if len(written) == 2:
            raise FileError("no space left")

    every_step(monkeypatch, lambda _, at: trained.append(at))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, name, fails)
        with pytest.raises(FileError, match="no space left"):
            train(tmp_path / "full", spec_of(3), progress_every_seconds=0.0)
    assert not (tmp_path / "full/runs/modular_addition/tiny/arm/seed-3/run.json").exists()
    assert len(trained) < 24
    again, _ = train(tmp_path / "full", spec_of(3))
    assert same(numbers(calm, 3), numbers(again))


def test_what_is_written_is_the_state_of_its_step_however_slow_the_writer_is(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save_checkpoint

    def slowly(*arguments: Any) -> None:
        time.sleep(0.2)
        save(*arguments)

    monkeypatch.setattr(RunFolder, "save_checkpoint", slowly)
    train(tmp_path / "slow", spec_of(3))
    for step in (0, 12, 24):
        pattern = f"runs/**/seed-3/trail/step-{step:08d}*"
        files = [next(root.glob(pattern)) for root in (calm.parent, tmp_path / "slow")]
        (one, _), (other, _) = (read_tensors(path, "checkpoint", "") for path in files)
        assert list(one) == list(other)
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_copy_for_the_writer_is_of_the_moment_when_it_was_asked_for(device: torch.device) -> None:
    value = torch.arange(1000.0, device=device)
    copy = host_copy(value)
    value.zero_()
    assert torch.equal(copy(), torch.arange(1000.0))


# --- memory ------------------------------------------------------------------------------------------------


def small_memory(monkeypatch: pytest.MonkeyPatch, most: int, at: int) -> None:
    """A device that stacks runs and holds `most` at once: a larger stack fails at step `at`."""

    def full(step: Any, now: int) -> None:
        if len(step.seeds) > most and now == at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pack, "stack_size", lambda runs, device: len(runs))
    every_step(monkeypatch, full)


def test_out_of_memory_halves_the_pack_and_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seeds = (3, 4, 5)
    with monkeypatch.context() as patch:
        # What stacks of two and one give: rounding may depend on a stack's size, a run on nothing else.
        patch.setattr(pack, "stack_size", lambda runs, device: 2)
        halves, _ = train(tmp_path / "halves", spec_of(*seeds))
    alone, _ = train(tmp_path / "alone", spec_of(*seeds))
    small_memory(monkeypatch, most=2, at=9)
    told = "3 runs at once do not fit into the memory of this machine: going on with stacks of at most 2"
    for progress in (3600.0, 0.0):
        caplog.clear()
        full, runs = train(tmp_path / f"full {progress}", spec_of(*seeds), progress_every_seconds=progress)
        assert told in caplog.text
        assert list(read_table(runs, RUNS)["status"]) == ["completed"] * 3
        if progress:
            assert same(numbers(full), numbers(halves))
        assert numbers(full) == pytest.approx(numbers(alone), rel=1e-4, nan_ok=True)


def test_a_run_that_does_not_fit_alone_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory")

    every_step(monkeypatch, full)
    with pytest.raises(DeviceError, match=r"seed 3: one run does not fit into the memory of this machine; lower") as e:
        train(tmp_path, spec_of(3))
    assert "\n" not in str(e.value)


def test_a_stack_is_made_for_the_share_of_the_memory_that_a_line_through_two_sizes_says() -> None:
    fixed, of_one = 500, 40
    peaks = [fixed + size * of_one for size in pack.PROBED]
    for free in (1000, 10_000, 123_456):
        size = pack.runs_that_fit(peaks, free)
        assert fixed + size * of_one <= pack.FILLED * free < fixed + (size + 1) * of_one
    assert pack.runs_that_fit(peaks, 100) == 1


def test_another_error_of_torch_is_no_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(pack, "stack_size", lambda runs, device: len(runs))
    every_step(monkeypatch, broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(tmp_path, spec_of(3, 4))


# --- divergence --------------------------------------------------------------------------------------------


def test_a_run_that_has_diverged_is_finished_before_its_neighbours_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So a kill afterwards costs it nothing, and it stays a row."""
    caplog.set_level("INFO")
    monkeypatch.setattr(pack, "stack_size", lambda runs, device: len(runs))
    calm, _ = train(tmp_path / "calm", spec_of(3, 4))

    def poison(step: Any, at: int) -> None:
        if at == 5 and step.seeds == [3, 4]:
            step.stack.run_weights(0)["embedding"].fill_(float("nan"))
        if at == 22:
            raise Killed

    every_step(monkeypatch, poison)
    with pytest.raises(Killed):
        train(tmp_path / "both", spec_of(3, 4), progress_every_seconds=0.0)
    caplog.clear()
    every_step(monkeypatch, lambda *_: None)
    both, runs = train(tmp_path / "both", spec_of(3, 4))
    rows = read_table(runs, RUNS).set_index("seed")
    assert rows["status"].to_dict() == {3: "diverged", 4: "completed"}
    assert rows["steps"].to_dict() == {3: 8, 4: 24}
    assert caplog.text.count("seed 3: finished before, kept") == 1
    assert "seed 4: goes on from step 22" in caplog.text
    # To the bit up to the kill, of stacks of two; afterwards it is alone, where kernels may round differently.
    assert same(numbers(both, 4)[:6], numbers(calm, 4)[:6])
    assert numbers(both, 4) == pytest.approx(numbers(calm, 4), rel=1e-4, nan_ok=True)
