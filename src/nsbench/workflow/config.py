"""The whole configuration: the tasks with their variants and arms, and all other sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nsbench.arms import AnyArm
from nsbench.config.base import Closed, Name, Real, Words
from nsbench.config.pretrained import Pretrained
from nsbench.config.sections import (
    MOST_SEEDS,
    Analysis,
    Checkpoints,
    Cluster,
    Evaluation,
    GridEntry,
    TextSource,
    Tracking,
)
from nsbench.config.theory import Theory
from nsbench.config.variant import ModularAdditionVariant, NextTokenVariant, SparseParityVariant


class ModularAdditionTask(Closed):
    arms: dict[Name, AnyArm]
    variants: dict[Name, ModularAdditionVariant]


class SparseParityTask(Closed):
    arms: dict[Name, AnyArm]
    variants: dict[Name, SparseParityVariant]


class NextTokenTask(Closed):
    arms: dict[Name, AnyArm]
    variants: dict[Name, NextTokenVariant]


class Tasks(Closed):
    modular_addition: ModularAdditionTask | None = None
    sparse_parity: SparseParityTask | None = None
    next_token: NextTokenTask | None = None


class Config(Closed):
    """All of `config.yaml`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes_per_gpu: Annotated[int, Field(ge=1, le=64)] = 1
    runs_per_pack: Annotated[int, Field(ge=1, le=1024)] = 5
    progress_every_seconds: Annotated[Real, Field(gt=0.0, le=1e6)] = 60.0
    """How often a run in training writes what it needs to resume."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MOST_SEEDS)]
    checkpoints: Checkpoints = Checkpoints()
    evaluation: Evaluation = Evaluation()
    analysis: Analysis = Analysis()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()
    text: TextSource = TextSource()
    plugins: list[Words] = Field(default_factory=list, max_length=1000)
    """Python files of your own that register arms (`nsbench new arm` writes one)."""
    records: list[Words] = Field(default_factory=list, max_length=1000)
    """Files and folders of records (docs/contributing-runs.md): the runs in them count as finished."""
    theory: Theory | None = Theory()
    """The theory beside simulation; null leaves it out."""
    pretrained: Pretrained | None = None
    """Pretrained models and what is measured on them; null leaves them out."""
    scale: Literal["paper", "demo"] = "paper"
    """Label that figures, tables and report carry, so that demo results are never mistaken."""
    grid: Annotated[list[GridEntry], Field(min_length=1, max_length=1000)]
    tasks: Tasks
