"""What the workflow plans before anything has run: whole grids, GPUs, and configurations that it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import PLANNING, Warm
from tests.workflow_clone import PROJECT, TINY, Clone

GRIDS = {"": (556, 184), "workflow/config/demo.yaml": (13, 8)}
"""Overlay -> packs and data sets. The paper's: 16 variants x 3 arms, 2 x 11 and 5 x 14, 10 seeds in packs of five;
and three specification curves, 69 variants of their own x 2 arms, 6 seeds in two packs. The demo's: a pack
a cell."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which nothing has run."""
    warm = Warm(PLANNING)
    yield Clone(tmp_path_factory.mktemp("clone"), warm)
    warm.close()


def test_planning_imports_no_torch() -> None:
    """Nor pandas, scipy, matplotlib: seconds of every call of snakemake, the shortest too."""
    rules = (PROJECT / "workflow/rules/common.smk").read_text()
    imported = re.findall(r"^(?:from|import) .*$", rules, flags=re.MULTILINE)
    assert "from nsbench.workflow.plan import" in "\n".join(imported)
    code = "\n".join([*imported, "import sys; print(*sys.modules)"])
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"nsbench.workflow.progress", "nsbench.figures.figure_14"} <= set(loaded)
    assert not {"torch", "transformers", "mlflow", "pandas", "scipy", "matplotlib", "filelock"} & set(loaded)


@pytest.mark.parametrize("overlay", GRIDS)
def test_the_papers_grid_and_the_demo_can_be_planned(fresh: Clone, overlay: str) -> None:
    planned = fresh.planned(overlay)
    assert (planned["train_pack"], planned["make_dataset"]) == GRIDS[overlay]


@pytest.mark.parametrize("place", ["Snakefile", "workflow/Snakefile"])
def test_a_grid_of_one_s_own_is_a_few_lines_and_planned_from_where_catalogs_look_too(fresh: Clone, place: str) -> None:
    overlay = "config/minimal.yaml"
    assert len((PROJECT / overlay).read_text().splitlines()) <= 15
    status, said = fresh.snakemake("--dry-run", "--snakefile", place, overlay=overlay)
    assert status == 0, said
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", said.rsplit("Job stats:", 1)[1], re.MULTILINE))
    assert (jobs["train_pack"], jobs["make_dataset"], jobs["write_report"], jobs["all"]) == ("4", "2", "1", "1")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scale: demo", "scale: demo\ndevice: cuda", ["cuda", "auto, cpu"]),
        ("source: embedded", "source: local, path: gone", ["text.path = 'gone' cannot be read"]),
        ("path: tiny_models/causal", "path: gone", ["pretrained.models.tiny_causal.path = 'gone' is no folder"]),
    ],
)
def test_a_wrong_config_stops_before_any_job(fresh: Clone, old: str, new: str, words: list[str]) -> None:
    text = (fresh.root / TINY).read_text()
    fresh.edit(TINY, (old, new))
    status, said = fresh.snakemake()
    (fresh.root / TINY).write_text(text)
    assert status != 0
    assert "Traceback" not in said
    assert "Select jobs to execute" not in said
    line = next(line for line in said.splitlines() if "configuration cannot be used" in line)
    for word in words:
        assert word in line


def test_with_a_gpu_jobs_ask_for_it(fresh: Clone, tmp_path: Path) -> None:
    """A machine with one GPU, by a stand-in for nvidia-smi; without one, jobs declare none."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 0\n")
    fake.chmod(0o755)
    shown = ("--dry-run", "--forcerun", "train_pack")
    assert re.search(r"resources:.*\bgpu=1\b", fresh.snakemake(*shown, path=tmp_path)[1])
    assert re.search(r"resources:.*\bgpu=0\b", fresh.snakemake(*shown)[1])


@pytest.mark.parametrize(
    ("target", "meant"),
    [("results/tables/scor.parquet", "results/tables/score.parquet"), ("partail", "partial")],
)
def test_a_mistyped_target_gets_the_nearest_one(fresh: Clone, target: str, meant: str) -> None:
    status, said = fresh.snakemake("--dry-run", target)
    assert status != 0
    assert f"{target}: nothing makes this, did you mean {meant!r}?" in said


def test_jobs_of_an_arm_from_a_file_are_told_the_file(fresh: Clone) -> None:
    """And no other job."""
    (fresh.root / "my arm.py").write_text("from nsbench import Arm, arm\n\n@arm('mine')\nclass Mine(Arm):\n    pass\n")
    (fresh.root / "own.yaml").write_text((fresh.root / TINY).read_text())
    fresh.edit(
        "own.yaml",
        ("scale: demo", "scale: demo\nplugins: [my arm.py]"),
        ("arms: [baseline, noise_stability, every_10th]", "arms: [baseline, noise_stability, mine]"),
        ("  sparse_parity:\n", "  sparse_parity:\n    arms: {mine: {kind: mine}}\n"),
    )
    _, said = fresh.snakemake("--dry-run", "--printshellcmds", overlay="own.yaml")
    commands = [line for line in said.splitlines() if "nsbench stage train" in line]
    assert len(commands) > 5
    assert [" --plugins 'my arm.py' " in line for line in commands] == ['"arm":"mine"' in line for line in commands]
    assert sum('"arm":"mine"' in line for line in commands) == 1
