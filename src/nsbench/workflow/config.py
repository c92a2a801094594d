"""The whole configuration: the tasks with their variants and arms, and all other sections."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, create_model, model_validator

from nsbench.arms import AnyArm
from nsbench.config import limits
from nsbench.config.base import Closed, Name, Real, Words
from nsbench.config.pretrained import Pretrained
from nsbench.config.registry import looked_up
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
from nsbench.config.variant import Noise, Optimizer, Target, Training
from nsbench.data.tasks import TASKS, Task
from nsbench.storage.device import visible_gpus
from nsbench.training.models import AnyModel, Transformer

MOST_RUNS = 1024
"""That one job trains."""


class Variant(Closed):
    """A named setting of a task's open choices."""

    data: Task
    model: AnyModel = Transformer()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    noise: Noise = Noise()
    target: Target = Target()

    @model_validator(mode="after")
    def _fits(self) -> Variant:
        data, model, batch, shape = self.data, self.model, self.training.batch_size, self.data.shape()
        model.check(shape, data.every_position)
        self.noise.check(shape)
        limits.check_activations(model.activations(batch, shape), batch, shape.length, model.sizes())
        limits.check_tokens(data.n_train + data.n_val + data.n_test, shape.length * max(1, shape.token_width))
        return self


@functools.cache
def variant_model(task: type[Task]) -> type[Variant]:
    """The model of a task's variants."""
    required = any(field.is_required() for field in task.model_fields.values())
    return create_model(f"{task.__name__}Variant", __base__=Variant, data=(task, ... if required else task()))


@functools.cache
def _tasks(tasks: tuple[tuple[str, type[Task]], ...]) -> TypeAdapter[Any]:
    sections = {}
    for name, task in tasks:
        fields = {"arms": (dict[Name, AnyArm], ...), "variants": (dict[Name, variant_model(task)], ...)}
        sections[name] = (create_model(f"{task.__name__}Section", __base__=Closed, **fields) | None, None)
    return TypeAdapter(create_model("Tasks", __base__=Closed, **sections))


class Config(Closed):
    """All of `config.yaml`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes_per_gpu: Annotated[int, Field(ge=1, le=64)] = 1
    runs_per_pack: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 5
    """`auto`: all runs of a cell where jobs have a GPU, which trains them as one stack; else the default."""
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
    """Python files of your own that register arms, tasks ... (`nsbench new` writes one)."""
    records: list[Words] = Field(default_factory=list, max_length=1000)
    """Files and folders of records (docs/CONTRIBUTING.md): the runs in them count as finished."""
    theory: Theory | None = Theory()
    """The theory beside simulation; null leaves it out."""
    pretrained: Pretrained | None = None
    """Pretrained models and what is measured on them; null leaves them out."""
    scale: Literal["paper", "demo"] = "paper"
    """Label that figures, tables and report carry, so that demo results are never mistaken."""
    grid: Annotated[list[GridEntry], Field(min_length=1, max_length=1000)]
    tasks: Annotated[Any, looked_up(lambda: _tasks(tuple(TASKS.items())))]
    """Of each registered task its arms and variants; None where the configuration has none of it."""

    @model_validator(mode="before")
    @classmethod
    def _pack(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("runs_per_pack") == "auto":
            device = values.get("device", "auto")
            on_gpu = device == "cuda" or (device == "auto" and bool(visible_gpus()))
            found = MOST_RUNS if on_gpu else cls.model_fields["runs_per_pack"].default
            return {**values, "runs_per_pack": found}
        return values
