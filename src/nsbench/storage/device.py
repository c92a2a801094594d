"""Which device a process uses; on GPUs, at most so many processes each, by file locks.

Snakemake counts GPUs but names none, so each process takes a free slot of a device itself. A slot is a locked file: it
is free again when its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nsbench.storage.atomic import explained
from nsbench.storage.locks import HeldError, locked

CHANGES_NO_RESULT = True

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 7 * 24 * 3600.0
"""For a slot: no job of ours holds one for longer."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
HEAP_BYTES = 2**30
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch says, in different places, where a device's memory is full."""


class DeviceError(RuntimeError):
    """A device that config asks for and this machine has not, or does not give."""


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, without initialising CUDA.

    Those of CUDA_VISIBLE_DEVICES where it is set (a scheduler's choice wins), else all that nvidia-smi lists.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = list(itertools.takewhile(lambda name: name != "-1", (part.strip() for part in chosen.split(","))))
        return [name for name in names if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True
    )
    return listed.stdout.split() if listed.returncode == 0 else []


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's says that memory is full."""
    return any(words in str(error) for words in OUT_OF_MEMORY)


def wants_gpu(device: str) -> bool:
    """Whether a job with this device setting needs a GPU here. Raises DeviceError for `cuda` where there is none."""
    if device == "cuda" and not visible_gpus():
        raise DeviceError("device: 'cuda' is asked for, but no GPU is visible here; allowed: auto, cpu")
    return device != "cpu" and bool(visible_gpus())


def gpus_per_job(device: str) -> int:
    """GPUs that a job with this device setting asks for; only for `auto` is this machine looked at."""
    return int(device == "cuda" or wants_gpu(device))


def check_place(device: str, here: bool) -> None:
    """Refuse a device setting that does not fit where jobs run; here: on this machine.

    Raises DeviceError for `cuda` where this machine has none, and for `auto` where jobs run on others.
    """
    if here:
        wants_gpu(device)
    elif device == "auto":
        raise DeviceError(
            "device: 'auto' looks at this machine, but jobs run on others, so name what they have; allowed: cuda, cpu"
        )


def slots_folder() -> Path:
    """Where the lock files lie: one folder per user and, as Slurm jobs may each call their own GPU "0", per job.

    It is made, for its owner alone. Raises DeviceError where what is there is another's, or open to others.
    """
    owner = "-".join(filter(None, (str(os.getuid()), os.environ.get("SLURM_JOB_ID"))))
    folder = Path(tempfile.gettempdir()) / f"nsbench-gpu-slots-{owner}"
    with explained(folder), contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DeviceError(
            f"{folder}: is not a folder that you own and nobody else may enter, as the locks of GPUs need it; remove "
            "it, or set TMPDIR to a folder of your own"
        )
    return folder


@contextlib.contextmanager
def gpu_slot(gpus: list[str], processes_per_gpu: int, folder: Path | None = None) -> Iterator[str]:
    """Hold a slot of one of `gpus` and give its name; waits while all are taken.

    Slots fill evenly: a GPU's second process comes after every GPU has a first. folder: where the lock files lie, by
    default `slots_folder()`. Raises DeviceError after LONGEST_WAIT_SECONDS.
    """
    folder, start = folder or slots_folder(), time.monotonic()
    with contextlib.ExitStack() as held:
        for attempt in itertools.count():
            for slot, gpu in itertools.product(range(processes_per_gpu), gpus):
                try:
                    held.enter_context(locked(folder / f"{gpu.replace('/', '_')}.{slot}.lock", meanwhile=None))
                except HeldError:
                    continue
                yield gpu
                return
            if attempt == 0:
                logger.info("all %d GPU slots are taken; waiting for one", processes_per_gpu * len(gpus))
            if time.monotonic() - start > LONGEST_WAIT_SECONDS:
                raise DeviceError(f"{folder}: all GPU slots were taken for a week; end what holds their files")
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def use_device(device: str, processes_per_gpu: int = 1) -> Iterator[object]:
    """The torch.device for this process: a slot of a GPU, or the CPU on one thread.

    One thread per process keeps a run's numbers independent of the number of cores, and two such processes do more
    than one with two threads. Call this before torch touches CUDA.
    """
    with contextlib.ExitStack() as held:
        gpu = held.enter_context(gpu_slot(visible_gpus(), processes_per_gpu)) if wants_gpu(device) else None
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        import torch

        from nsbench.storage.seeding import one_thread

        one_thread()
        if gpu is not None and not torch.cuda.is_available():
            if device != "auto":
                raise DeviceError(f"device: 'cuda' is asked for, but torch {torch.__version__} cannot use GPU {gpu}")
            logger.warning(
                "GPU %s is there, but this torch (%s) cannot use it: going on on the CPU", gpu, torch.__version__
            )
            gpu = None
        yield torch.device("cpu" if gpu is None else "cuda")


def keep_heap() -> None:
    """Let the C library keep freed memory for the next tensor, up to a gigabyte, instead of giving it to the system.

    Each new page costs a fault, which passes of small models feel. Where the C library is not glibc, nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        c = ctypes.CDLL(None)
        for setting in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            c.mallopt(setting, HEAP_BYTES)
