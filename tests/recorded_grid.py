"""A tiny grid that is really trained, stage by stage, and its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nsbench.cli import parser as cli
from nsbench.workflow.digests import digest
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import index
from tests.config.test_config import TINY, overlaid

CPU = ["--device", "cpu"]
GRID = [
    {"task": "modular_addition", "variants": ["tiny"], "arms": ["baseline", "noise_stability"]},
    {"task": "sparse_parity", "variants": ["tiny"], "arms": ["baseline", "noise_stability"]},
]


def values_of(**changes: Any) -> dict[str, Any]:
    """A configuration of two tasks, each with a baseline and an arm."""
    return overlaid(TINY) | {"theory": None, "pretrained": None, "grid": GRID} | changes


def plan_of(**changes: Any) -> Plan:
    config = load(values_of(**changes))
    return Plan(config, index(config))


def train(root: Path, plan: Plan) -> list[tuple[str, str, str, str]]:
    """Make the packs of a plan under `root`, as the workflow does; which these were."""
    for task, variant, pack in plan.datasets():
        data = root / "datasets" / task / variant / f"{pack}.safetensors"
        _run(
            "dataset",
            plan.dataset(task, variant, pack),
            digest("dataset", task),
            "--out",
            data,
            "--floors",
            _floors(data),
        )
    for key in plan.packs:
        task, variant, _, pack = key
        given = ["--dataset", root / "datasets" / task / variant / f"{pack}.safetensors", "--run-store", root / "runs"]
        history, runs, evaluation = (
            root.joinpath("packs", *key) / f"{name}.parquet" for name in ("history", "runs", "evaluation")
        )
        _run(
            "train", plan.train(*key), plan.code("train", *key[:3]), *given, "--history", history, "--runs", runs, *CPU
        )
        spec, code = plan.evaluate(*key), plan.code("evaluate", *key[:3])
        _run("evaluate", spec, code, *given, "--runs", runs, "--out", evaluation, *CPU)
    return plan.packs


def collect(root: Path, plan: Plan, out: Path) -> int:
    """The collect stage's exit status."""
    spec = plan.grid("runs_per_pack", "records", "text", "checkpoints", "evaluation")
    given = ["--packs", root / "packs", "--datasets", root / "datasets"]
    return _call("collect", spec, digest("collect"), *given, "--out", out)


def _floors(data: Path) -> Path:
    return data.with_name(f"{data.stem}.floors.parquet")


def _run(*arguments: Any) -> None:
    assert _call(*arguments) == 0, arguments


def _call(stage: str, spec: str, code: str, *arguments: Any) -> int:
    return cli.main(["stage", stage, "--spec", spec, "--digest", code, *map(str, arguments)])
