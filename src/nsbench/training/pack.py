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
from pathlib import Path

import pandas as pd
import torch

from nsbench.config.canonical import canonical_json
from nsbench.data.datasets import read_dataset
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.device import DeviceError, out_of_memory
from nsbench.storage.parquet import write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, order_key, run_key
from nsbench.training.loop import StackTraining
from nsbench.training.run import Run, TrainSpec

logger = logging.getLogger(__name__)


def train_pack(
    spec: TrainSpec,
    digest: str,
    dataset: Path,
    runs_root: Path,
    history_file: Path,
    runs_file: Path,
    device: torch.device,
    progress_every_seconds: float,
) -> None:
    """Train what is not finished of a pack, then write the histories and the rows of all its runs.

    A run that another process trains at the moment is waited for. Raises DeviceError where a run
    alone does not fit into the memory; SystemExit where the process was asked to stop, with the
    progress saved.
    """
    made_by = stamp(canonical_json(spec), digest, str(device))
    pack = _asked(spec, digest, dataset, runs_root)
    with contextlib.ExitStack() as held:
        # In the order of seeds, so that two packs with the same runs cannot wait for each other.
        for run in sorted(pack, key=lambda run: run.seed):
            held.enter_context(run.folder.held())
        for run in pack:
            if run.folder.finished():
                logger.info("%s: finished before, kept", run.folder.name)
        _train(spec, pack, device, made_by, progress_every_seconds)
        history = pd.concat([run.folder.history() for run in pack], ignore_index=True)
        # The text's name is no part of a run's identity (its data are), so the current one is recorded.
        rows = [{**run.folder.finished(), "text": run.data.text} for run in pack]
        write_table(history_file, history, HISTORY, made_by)
        write_table(runs_file, rows, RUNS, made_by)


def stack_size(device: torch.device, n_runs: int) -> int:
    """How many of a pack's runs are trained as one stack on a device."""
    return 1 if device.type == "cpu" else n_runs


def _asked(spec: TrainSpec, digest: str, dataset: Path, runs_root: Path) -> list[Run]:
    settings, pack = json.loads(canonical_json(spec)), []
    for seed in spec.seeds:
        data = read_dataset(dataset, seed, spec.task)
        key = run_key(settings, seed, data.sha256, digest)
        folder = RunFolder(runs_root, spec.task, spec.variant, spec.arm, seed, key)
        pack.append(Run(seed, data, folder, order_key(settings, seed, digest)))
    return pack


def _train(spec: TrainSpec, pack: list[Run], device: torch.device, made_by: dict[str, str], every: float) -> None:
    """Train the runs that are not finished, in stacks; a stack that the memory does not hold is halved."""
    size = stack_size(device, len(pack))
    while waiting := [run for run in pack if not run.folder.finished()]:
        opened = sorted((run.opened(spec) for run in waiting), key=lambda run: run.start)
        for run in opened:
            if run.resumed:
                logger.info("%s: goes on from step %d", run.folder.name, run.start)
        # A stack moves in step, so runs that were interrupted at different steps train apart.
        groups = [list(group) for _, group in itertools.groupby(opened, key=lambda run: run.start)]
        stacks = [group[place : place + size] for group in groups for place in range(0, len(group), size)]
        for stack in stacks:
            if not _fits(spec, stack, device, made_by, every):
                # What did not fit alone was refused, so this ends.
                size = (len(stack) + 1) // 2
                logger.warning(
                    "%d runs at once do not fit into the memory of %s: going on with stacks of at most %d",
                    len(stack),
                    _name(device),
                    size,
                )
                gc.collect()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                break


def _fits(spec: TrainSpec, stack: list[Run], device: torch.device, made_by: dict[str, str], every: float) -> bool:
    """Train a stack, if the memory holds it; no object of the failed attempt is alive afterwards."""
    try:
        StackTraining(spec, stack, device, made_by).train(every)
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
