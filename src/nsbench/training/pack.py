"""The train stage: the runs of a pack that are not finished yet are trained, and all are handed on.

A run's numbers depend on its task, variant, arm and seed alone. On a GPU all runs of a pack are
trained as one stack. On a CPU a stack gains no speed (docs/performance.md), and kernels may round
differently for stacks of different sizes, so there the pack's runs are trained one after the other,
each as a stack of one by the same code: that makes a run equal to the bit whatever its pack.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from nsbench.config.canonical import canonical_json
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.device import DeviceError, out_of_memory
from nsbench.storage.locks import HeldError
from nsbench.storage.parquet import write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, order_key, run_key
from nsbench.training.loop import StackTraining
from nsbench.training.run import Run, TrainSpec, companions
from nsbench.training.step import ENGINE

logger = logging.getLogger(__name__)

PROBED = (1, 3)
"""The sizes of the stacks whose memory is measured to find how many runs a GPU holds."""
FILLED = 0.85
"""The share of a GPU's free memory that a stack is made for."""


def train_pack(
    spec: TrainSpec,
    digest: str,
    dataset: Path,
    runs_root: Path,
    history_file: Path,
    runs_file: Path,
    device: torch.device,
    progress_every_seconds: float,
    stacks: Path | None = None,
) -> None:
    """Train what is not finished of a pack, then write the histories and the rows of all its runs.

    A run that another process trains at the moment is waited for. Runs of the pack's `companions` are trained in the
    same stack, as far as no other process has them; the jobs of their packs find them finished. Raises DeviceError
    where a run alone does not fit into the memory; SystemExit where the process was asked to stop, with the progress
    saved.
    """
    data = {seed: read_dataset(dataset, seed, spec.task) for seed in spec.seeds}
    pack = _asked(spec, digest, data, runs_root, device)
    others = [run for cell in companions(spec, stacks) for run in _asked(cell, digest, data, runs_root, device)]
    with _trained(pack, others, device, progress_every_seconds):
        made_by = pack[0].made_by
        history = pd.concat([run.folder.history() for run in pack], ignore_index=True)
        # The text's name is no part of a run's identity (its data are), so the current one is recorded.
        rows = [{**run.folder.finished(), "text": run.data.text} for run in pack]
        write_table(history_file, history, HISTORY, made_by)
        write_table(runs_file, rows, RUNS, made_by)


@contextlib.contextmanager
def _trained(pack: list[Run], others: list[Run], device: torch.device, progress_every: float) -> Iterator[None]:
    """Inside, the runs of the pack are finished, and nobody else works on them."""
    with contextlib.ExitStack() as held:
        # In the order of seeds, so that two packs with the same runs cannot wait for each other.
        for run in sorted(pack, key=lambda run: run.seed):
            held.enter_context(run.folder.held())
        for run in pack:
            if run.folder.finished():
                logger.info("%s: finished before, kept", run.folder.name)
        runs = list(pack)
        if not all(run.folder.finished() for run in pack):
            for run in others:
                with contextlib.suppress(HeldError):
                    held.enter_context(run.folder.held(wait=False))
                    runs.append(run)
        _train(runs, device, progress_every)
        yield


def _asked(
    spec: TrainSpec, digest: str, datasets: dict[int, Dataset], runs_root: Path, device: torch.device
) -> list[Run]:
    made_by = {**stamp(canonical_json(spec), digest, str(device)), "engine": ENGINE}
    settings, pack = json.loads(canonical_json(spec)), []
    for seed, data in datasets.items():
        key = run_key(settings, seed, data.sha256, digest)
        folder = RunFolder(runs_root, spec.task, spec.variant, spec.arm, seed, key)
        pack.append(Run(spec, seed, data, folder, order_key(settings, seed, digest), made_by))
    return pack


def stack_size(runs: list[Run], device: torch.device) -> int:
    """How many of the runs, which may share a stack, are trained as one."""
    if device.type == "cpu":
        return 1
    if len(runs) <= PROBED[-1]:
        return len(runs)
    try:
        peaks = [_peak_bytes(runs[:size], device) for size in PROBED]
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return PROBED[0]
    finally:
        _free(device)
    return min(len(runs), runs_that_fit(peaks, torch.cuda.mem_get_info(device)[0]))


def runs_that_fit(peaks: list[int], free: int) -> int:
    """The largest stack that takes FILLED of the free bytes, by a line through the peaks of stacks of PROBED runs."""
    of_one = (peaks[1] - peaks[0]) / (PROBED[1] - PROBED[0])
    return max(1, int((FILLED * free - (peaks[0] - PROBED[0] * of_one)) / max(of_one, 1.0)))


def _peak_bytes(runs: list[Run], device: torch.device) -> int:
    """The most memory that a stack's first steps hold, which it does on its way to a graph."""
    _free(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    StackTraining(runs, device)
    return torch.cuda.max_memory_allocated(device) - before


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _train(pack: list[Run], device: torch.device, every: float) -> None:
    """Train the runs that are not finished, in stacks; a stack that the memory does not hold is halved."""
    size = None
    while waiting := [run for run in pack if not run.folder.finished()]:
        opened = sorted((run.opened() for run in waiting), key=lambda run: run.start)
        for run in opened:
            if run.resumed:
                logger.info("%s: goes on from step %d", run.folder.name, run.start)
        size = size or stack_size(opened, device)
        # A stack moves in step, so runs that were interrupted at different steps train apart.
        groups = [list(group) for _, group in itertools.groupby(opened, key=lambda run: run.start)]
        stacks = [group[place : place + size] for group in groups for place in range(0, len(group), size)]
        for stack in stacks:
            if not _fits(stack, device, every):
                # What did not fit alone was refused, so this ends.
                size = (len(stack) + 1) // 2
                logger.warning(
                    "%d runs at once do not fit into the memory of %s: going on with stacks of at most %d",
                    len(stack),
                    _name(device),
                    size,
                )
                _free(device)
                break


def _fits(stack: list[Run], device: torch.device, every: float) -> bool:
    """Train a stack, if the memory holds it; no object of the failed attempt is alive afterwards."""
    try:
        StackTraining(stack, device).train(every)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if len(stack) == 1:
            raise DeviceError(
                f"{stack[0].folder.name}: one run does not fit into the memory of {_name(device)}; lower its "
                "training.batch_size or model's sizes, or processes_per_gpu, or free the device"
            ) from None
        return False
    return True


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine"
