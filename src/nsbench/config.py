"""The whole configuration: what may stand in `config.yaml`, and what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nsbench.closed import Closed, Name, Real, no_duplicates
from nsbench.pretrained_settings import Pretrained
from nsbench.settings import ModularAdditionVariant, NextTokenVariant, SparseParityVariant
from nsbench.theory_settings import Theory


class BaselineArm(Closed):
    """No regularisation."""

    kind: Literal["baseline"]


class NoiseStabilityArm(Closed):
    """Definition 6.1: gamma x (-1)^orientation x <M(X), M(Y)> is added to the loss."""

    kind: Literal["noise_stability"]
    rho: Annotated[Real, Field(ge=-1.0, le=1.0)]
    gamma: Annotated[Real, Field(ge=0.0)]
    orientation: Annotated[int, Field(ge=0, le=1)] = 1
    """S: 1 rewards stability, 0 punishes it."""


Arm = Annotated[BaselineArm | NoiseStabilityArm, Field(discriminator="kind")]


class ModularAdditionTask(Closed):
    arms: dict[Name, Arm]
    variants: dict[Name, ModularAdditionVariant]


class SparseParityTask(Closed):
    arms: dict[Name, Arm]
    variants: dict[Name, SparseParityVariant]


class NextTokenTask(Closed):
    arms: dict[Name, Arm]
    variants: dict[Name, NextTokenVariant]


class Tasks(Closed):
    modular_addition: ModularAdditionTask | None = None
    sparse_parity: SparseParityTask | None = None
    next_token: NextTokenTask | None = None


class ArmSweep(Closed):
    """An arm with several values of rho and gamma: every combination becomes an arm of its own,
    named like `noise_stability-rho0.25-gamma0.75`."""

    arm: Name
    rho: Annotated[list[Real], Field(min_length=1)]
    gamma: Annotated[list[Real], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> ArmSweep:
        no_duplicates(self.rho, "rho")
        no_duplicates(self.gamma, "gamma")
        return self


class GridEntry(Closed):
    """One block of the grid: every listed variant x arm x seed of a task is run."""

    task: Literal["modular_addition", "sparse_parity", "next_token"]
    variants: Annotated[list[Name], Field(min_length=1)]
    arms: Annotated[list[Name], Field(min_length=1)]
    arm_sweep: ArmSweep | None = None
    """More arms: one for each (rho, gamma)."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    """Replaces the seeds of the whole grid for this block."""
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Fields of the variant, as `data.n`, each with the values to run: every combination
    becomes a variant of its own, named like `calibrated-n20-k2`."""


class Checkpoints(Closed):
    """The trail that the evaluate stage works on."""

    count: Annotated[int, Field(ge=2)] = 21
    """Checkpoints per run, evenly spaced over the evaluations, first and last included."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    keep: bool = True
    """Whether a run's checkpoints stay on disk once they are evaluated."""


class Evaluation(Closed):
    """Settings of the measures on checkpoints."""

    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 0.9]
    )
    n_inputs: Annotated[int, Field(ge=2)] = 500
    """Test inputs used, at most as many as there are."""
    n_draws: Annotated[int, Field(ge=1)] = 8
    """Noisy copies per input."""

    @model_validator(mode="after")
    def _fits(self) -> Evaluation:
        no_duplicates(self.rho, "rho")
        return self


class Analysis(Closed):
    confidence: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.95
    n_resamples: Annotated[int, Field(ge=99)] = 9999
    """Bootstrap resamples of the seeds."""
    onset_share: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """A curve has begun to move once it has made this share of its total change."""
    early_share: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """The share of the budget after which stability is asked how the run will end."""


class TextSource(Closed):
    """The text of next-token prediction: one for the whole grid, never mixed."""

    source: Literal["auto", "hub", "local", "embedded"] = "auto"
    """`hub`: WikiText-2 from the Hugging Face hub; `local`: `path`; `embedded`: the Wikipedia
    excerpt inside gensim; `auto`: the first of these, in this order, that is there."""
    path: str | None = None
    """A text file, or a folder of train, valid and test; null: $NSBENCH_WIKITEXT2."""


class Tracking(Closed):
    uri: str | None = None
    """MLflow store; null means SQLite under `results/`."""


class Config(Closed):
    """All of `config.yaml`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes_per_gpu: Annotated[int, Field(ge=1, le=64)] = 1
    runs_per_pack: Annotated[int, Field(ge=1, le=1024)] = 5
    progress_every_seconds: Annotated[Real, Field(gt=0.0)] = 60.0
    """How often a run in training writes what it needs to resume."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    checkpoints: Checkpoints = Checkpoints()
    evaluation: Evaluation = Evaluation()
    analysis: Analysis = Analysis()
    tracking: Tracking = Tracking()
    text: TextSource = TextSource()
    theory: Theory | None = Theory()
    """The theory beside simulation; null leaves it out."""
    pretrained: Pretrained | None = None
    """Pretrained models and what is measured on them; null leaves them out."""
    scale: Literal["paper", "demo"] = "paper"
    """Label that figures, tables and report carry, so that demo results are never mistaken."""
    grid: Annotated[list[GridEntry], Field(min_length=1)]
    tasks: Tasks
