"""How long jobs take: guessed from the work that is to be done, to weigh them against each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from nsbench.storage.run_folder import RunFolder, order_key
from nsbench.workflow.pace import Job
from nsbench.workflow.plan import Plan
from nsbench.workflow.resources import evaluate_flops, train_flops

SECONDS = {
    "make_dataset": 5.0,
    "train_pack": 6.0,
    "evaluate_pack": 6.0,
    "simulate_theory": 5.0,
    "measure_model": 12.0,
    "compute_theory": 3.0,
    "join_pretrained": 2.0,
    "track_runs": 10.0,
}
"""What a job of a rule takes besides training, evaluating and measuring, its imports included: measured in the demo."""
OTHER_SECONDS = 4.0
GFLOPS = {"cpu": 16.0, "cuda": 800.0}
"""Operations of a job per second, in 1e9. A guess of the time left needs no more."""
TOKEN_SECONDS = 0.1
"""What a pretrained model takes for a token."""


class Asked(NamedTuple):
    """A job of a call, as Snakemake knows it."""

    id: int
    rule: str
    wildcards: Mapping[str, str]
    needs: tuple[int, ...]
    """The jobs of the call that it waits for."""
    on_gpu: bool


def guessed(plan: Plan, asked: Iterable[Asked], runs: Path) -> list[Job]:
    """The jobs of a call with the seconds that each will take: less for runs that were interrupted.

    runs: the folder of runs.
    """
    return [_job(plan, one, runs) for one in asked]


def _job(plan: Plan, asked: Asked, runs: Path) -> Job:
    seconds, share, of = SECONDS.get(asked.rule, OTHER_SECONDS), None, asked.wildcards
    if asked.rule in ("train_pack", "evaluate_pack"):
        cell, n_runs = plan.cells[of["task"], of["variant"], of["arm"]], len(plan.seeds[of["pack"]])
        if asked.rule == "train_pack":
            share = _Share(plan, of["task"], of["variant"], of["arm"], of["pack"], runs)
            flops, rate = train_flops(cell) * (1 - share.before), GFLOPS["cuda" if asked.on_gpu else "cpu"]
        else:
            # On a GPU too it is at the pace of a CPU, which looks at the outputs.
            flops = evaluate_flops(cell, plan.config.evaluation, plan.config.checkpoints.count)
            rate = GFLOPS["cpu"]
        seconds += n_runs * flops / rate / 1e9
    elif asked.rule == "measure_model" and plan.config.pretrained is not None:
        measured = plan.config.pretrained.measurement
        seconds += TOKEN_SECONDS * measured.n_tokens * measured.n_sequences
    return Job(asked.id, seconds, asked.needs, asked.on_gpu, share)


class _Share:
    """How much of what a call trains of a pack is done, 0 to 1."""

    def __init__(self, plan: Plan, task: str, variant: str, arm: str, pack: str, runs: Path) -> None:
        spec, code = json.loads(plan.train(task, variant, arm, pack)), plan.code("train", task, variant, arm)
        self.runs = [
            (RunFolder(runs, task, variant, arm, seed), order_key(spec, seed, code)) for seed in plan.seeds[pack]
        ]
        self.before = self._trained()

    def _trained(self) -> float:
        return sum(folder.status(order) for folder, order in self.runs) / len(self.runs)

    def __call__(self) -> float:
        return (self._trained() - self.before) / (1 - self.before) if self.before < 1 else 0.0
