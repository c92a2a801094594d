"""Which device a process gets: a slot is held by one process, and free when its holder is gone."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from nsbench.storage import device
from nsbench.storage.device import DeviceError, check_place, gpu_slot, gpus_per_job, use_device, visible_gpus, wants_gpu

HOLD = """
import os, sys, time
from pathlib import Path
from nsbench.storage import device

folder, gpus, per_gpu, rounds, seconds = sys.argv[1:]
device.POLL_SECONDS = 0.01
for turn in range(int(rounds)):
    with device.gpu_slot(gpus.split(","), int(per_gpu), Path(folder) / "locks") as gpu:
        mine = Path(folder) / f"{gpu}.{os.getpid()}.{turn}"
        mine.touch()
        print(gpu, len(list(Path(folder).glob(f"{gpu}.*"))), flush=True)
        time.sleep(float(seconds))
        mine.unlink()
"""


def holder(folder: Path, gpus: str, per_gpu: int, rounds: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), gpus, str(per_gpu), str(rounds), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_never_share_more_than_a_gpu_s_slots(tmp_path: Path) -> None:
    """Eight processes, four turns each, on four slots: each holder counts the holders."""
    processes = [holder(tmp_path, "a,b", 2, rounds=4, seconds=0.03) for _ in range(8)]
    seen = Counter()
    for process in processes:
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        for line in out.splitlines():
            gpu, holders = line.split()
            assert 1 <= int(holders) <= 2
            seen[gpu] += 1
    assert sum(seen.values()) == 8 * 4
    assert set(seen) == {"a", "b"}  # and both are used


def test_a_killed_holder_frees_its_slot(tmp_path: Path) -> None:
    process = holder(tmp_path, "0", 1, rounds=1, seconds=600)
    try:
        assert process.stdout.readline().split()[0] == "0"
        command = [sys.executable, "-c", HOLD, str(tmp_path), "0", "1", "1", "0"]
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=1, capture_output=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    begun = time.monotonic()
    with gpu_slot(["0"], 1, tmp_path / "locks") as gpu:
        assert gpu == "0"
    assert time.monotonic() - begun < device.POLL_SECONDS


def test_slots_fill_evenly(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(gpu_slot(["0", "1", "2"], 2, tmp_path)) for _ in range(6)]
    assert taken == ["0", "1", "2", "0", "1", "2"]


def test_a_slot_is_free_when_its_block_fails(tmp_path: Path) -> None:
    for _ in range(2):
        with contextlib.suppress(KeyError), gpu_slot(["0"], 1, tmp_path) as gpu:
            raise KeyError(gpu)


def test_waiting_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            first.__exit__(None, None, None)

    monkeypatch.setattr(device.time, "sleep", nap)
    caplog.set_level("INFO")
    first = gpu_slot(["0"], 1, tmp_path)
    first.__enter__()
    with gpu_slot(["0"], 1, tmp_path):
        pass
    assert naps == [device.POLL_SECONDS] * 3
    assert [record.message for record in caplog.records] == ["all 1 GPU slots are taken; waiting for one"]


# --- what is visible -----------------------------------------------------------------------------------


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


@pytest.mark.parametrize(
    ("setting", "gpus"),
    [
        ("0", ["0"]),
        ("", []),
        ("1,-1,0", ["1"]),  # CUDA stops at the first -1
        ("GPU-8a2,MIG-1/2/0", ["GPU-8a2", "MIG-1/2/0"]),
    ],
)
def test_a_setting_of_the_scheduler_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, gpus: list[str]
) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("script", "gpus"), [("echo 0; echo 1", ["0", "1"]), ("echo 'no driver'; exit 9", []), ("exit 0", [])]
)
def test_without_a_setting_nvidia_smi_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, gpus: list[str]
) -> None:
    nvidia_smi(tmp_path, monkeypatch, script)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("setting", "visible", "wanted"),
    [("auto", "", False), ("auto", "0", True), ("cpu", "0", False), ("cpu", "", False), ("cuda", "1", True)],
)
def test_who_wants_a_gpu(monkeypatch: pytest.MonkeyPatch, setting: str, visible: str, wanted: bool) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert wants_gpu(setting) is wanted


@pytest.mark.parametrize(
    "ask",
    [wants_gpu, lambda setting: check_place(setting, here=True), lambda setting: use_device(setting).__enter__()],
)
def test_cuda_without_a_gpu_is_an_error_that_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch, ask) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(DeviceError, match=r"^device: 'cuda' is asked for, but no GPU is visible.*allowed: auto, cpu$"):
        ask("cuda")


@pytest.mark.parametrize("visible", ["", "0"])
def test_where_jobs_run_elsewhere_the_device_is_named_and_this_machine_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_per_job("cuda") == 1
    assert gpus_per_job("cpu") == 0
    assert gpus_per_job("auto") == (visible == "0")
    check_place("cuda", here=False)
    check_place("cpu", here=False)
    with pytest.raises(DeviceError, match=r"^device: 'auto' looks at this machine.*allowed: cuda, cpu$"):
        check_place("auto", here=False)
    check_place("auto", here=True)


# --- the device itself ---------------------------------------------------------------------------------


@pytest.fixture
def one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that shows GPUs 3 and 4, its locks in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    return tmp_path


@pytest.mark.parametrize("setting", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_is_used_on_one_thread(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torch.set_num_threads(2)
    with use_device(setting) as found:
        assert found == torch.device("cpu")
        assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("one_gpu")
def test_the_process_sees_only_the_gpu_of_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with use_device("auto") as first:
        assert first == torch.device("cuda")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
        with use_device("cuda"):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


@pytest.mark.usefixtures("one_gpu")
def test_a_torch_that_cannot_use_the_gpu_goes_on_on_the_cpu_only_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with use_device("auto") as found:
        assert found == torch.device("cpu")
    assert "this torch" in caplog.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    with pytest.raises(DeviceError, match="cannot use GPU 3"), use_device("cuda"):
        pass


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; no Slurm job's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path


def test_slots_lie_in_a_folder_for_their_owner_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    with gpu_slot(["0"], 1):
        (folder,) = temporary.iterdir()
    assert (folder.name, stat.S_IMODE(folder.stat().st_mode)) == (f"nsbench-gpu-slots-{os.getuid()}", 0o700)


@pytest.mark.parametrize("squatted", ["another's", "open", "link", "file"])
def test_a_folder_that_somebody_else_made_for_slots_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, squatted: str
) -> None:
    """In a folder for all, as /tmp: who holds the locks in it keeps every job from its GPU."""
    folder = device.slots_folder()
    if squatted == "another's":
        me = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: me)
        folder = folder.rename(temporary / f"nsbench-gpu-slots-{me}")
    elif squatted == "open":
        folder.chmod(0o777)
    else:
        folder.rmdir()
        folder.symlink_to(temporary) if squatted == "link" else folder.touch(0o700)
    with (
        pytest.raises(DeviceError, match=rf"^{folder}: is not a folder that you own .*; remove it, or set TMPDIR to"),
        gpu_slot(["0"], 1),
    ):
        pass


def test_waiting_for_a_slot_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(device, "LONGEST_WAIT_SECONDS", 0.05)
    with (
        gpu_slot(["0"], 1, tmp_path),
        pytest.raises(DeviceError, match="all GPU slots were taken for a week; end what holds"),
        gpu_slot(["0"], 1, tmp_path),
    ):
        pass


def test_slurm_jobs_that_call_their_gpu_alike_do_not_wait_for_each_other(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [device.slots_folder()]
    for job in ("17", "18"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        folders.append(device.slots_folder())
    assert len(set(folders)) == 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    """A tensor of 64 MB, made again and again, costs new pages until there is room for it, and then no more.

    In processes of their own, three of them, since where small objects come to lie between two tensors is chance.
    """
    script = """if True:
        import resource, torch
        from nsbench.storage.device import keep_heap
        keep_heap()
        faults = []
        for _ in range(60):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(2**24)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(sum(count > 100 for count in faults))
    """
    rounds_with_new_pages = [
        int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(rounds_with_new_pages) < 30  # all 60, where memory is given back
