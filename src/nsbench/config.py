"""The grid as closed, frozen models: what may stand in `config.yaml`, and what it means.

Every model forbids unknown keys, every error is one sentence that names the key, the value and
what is allowed, and every stage gets its settings as one canonical JSON string (`canonical_json`)
in which all defaults are spelled out. The models carry no behaviour beyond validation: a stage's
numbers depend on that string alone, so this module is left out of the source digests.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from nsbench.sentences import NAME_FORMAT, NAME_RULE, sentence

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and what is allowed."""


def _number(value: Any) -> Any:
    """Let YAML's `1e-3`, which its parser reads as text, count as the number it looks like."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return value


def _name(value: Any) -> Any:
    if isinstance(value, str) and not NAME_PATTERN.fullmatch(value):
        raise ValueError(NAME_RULE)
    return value


def no_duplicates(values: list[Any], where: str) -> None:
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise ConfigError(f"{where}: {value!r} is listed twice; each value is allowed once")
        seen.append(value)


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"format": NAME_FORMAT})]


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and silent type changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


# --- what a variant sets -------------------------------------------------------------------------


class ModularAdditionData(Closed):
    """Pairs (a, b) with label (a + b) mod `modulus` (section 6; Table 2)."""

    modulus: Annotated[int, Field(ge=2, le=4096)] = 113
    """K: the number of residues and of classes."""
    layout: Literal["a_plus_b_eq", "a_b"] = "a_plus_b_eq"
    """The tokens of an example: `a + b =` (four) or `a b` (two)."""
    n_train: Annotated[int, Field(ge=1)] = 2000
    n_val: Annotated[int, Field(ge=1)] = 200
    n_test: Annotated[int, Field(ge=1)] = 200

    @model_validator(mode="after")
    def _fits(self) -> ModularAdditionData:
        wanted, have = self.n_train + self.n_val + self.n_test, self.modulus**2
        if wanted > have:
            raise ValueError(
                f"n_train + n_val + n_test = {wanted} is more than the {have} pairs of modulus {self.modulus}; "
                f"at most {have} is allowed"
            )
        return self


class SparseParityData(Closed):
    """Random bit strings labelled by the parity of a secret set of positions (section 6)."""

    n: Annotated[int, Field(ge=1, le=4096)] = 20
    """Length of the bit string."""
    k: Annotated[int, Field(ge=1)] = 2
    """Size of the secret set, drawn from the seed."""
    label_noise: Annotated[Real, Field(ge=0.0, lt=0.5)] = 0.1
    """eta: probability that a training label is flipped; validation and test labels are clean."""
    layout: Literal["bits", "bits_cls"] = "bits"
    """The tokens of an example: the bits, or the bits and a closing CLS token."""
    n_train: Annotated[int, Field(ge=1)] = 5000
    n_val: Annotated[int, Field(ge=1)] = 1000
    n_test: Annotated[int, Field(ge=1)] = 1000

    @model_validator(mode="after")
    def _fits(self) -> SparseParityData:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} is more than n = {self.n}; k may be 1 ... n")
        return self


class Model(Closed):
    """The transformer of section J.1, with the choices that the paper leaves open."""

    d_model: Annotated[int, Field(ge=1, le=16384)] = 128
    n_layers: Annotated[int, Field(ge=1, le=256)] = 2
    n_heads: Annotated[int, Field(ge=1)] = 2
    ffn_width: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Hidden width of the feed-forward network; null means 4 x d_model."""
    norm: Literal["pre", "post"] = "pre"
    """Layer norm before each sublayer and once at the end, or after each residual sum."""
    mask: Literal["none", "causal"] = "none"
    pooling: Literal["mean", "last"] = "mean"
    embedding_scale: Literal["sqrt_d", "none"] = "sqrt_d"
    """Factor on token embeddings before positions are added."""
    qkv_init: Literal["normal", "xavier"] = "normal"
    """Query, key and value weights: N(0, 0.02^2) as every linear layer, or Xavier."""
    dropout: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.1
    """Rate on attention weights, attention output and feed-forward hidden layer."""
    max_length: Annotated[int, Field(ge=1, le=65536)] = 512
    """Longest sequence that the fixed sinusoidal positions serve."""

    @model_validator(mode="after")
    def _fits(self) -> Model:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model = {self.d_model} is not divisible by n_heads = {self.n_heads}; a multiple of it is allowed"
            )
        return self


class Optimizer(Closed):
    """AdamW and its scheduler (Table 2)."""

    learning_rate: Annotated[Real, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[Real, Field(ge=0.0)] = 1e-3
    """lambda, read by `weight_decay_convention`."""
    weight_decay_convention: Literal["times_lr", "per_step", "l2"] = "times_lr"
    """A step multiplies weights by 1 - lr x lambda (torch's AdamW), by 1 - lambda, or adds
    lambda x weight to the gradient."""
    scheduler: Literal["none", "plateau"] = "none"
    """`plateau` multiplies the learning rate by `scheduler_factor` after `scheduler_patience`
    units without a better `scheduler_metric`."""
    scheduler_metric: Literal["val_loss", "train_loss"] = "val_loss"
    scheduler_unit: Literal["epoch", "evaluation"] = "epoch"
    scheduler_patience: Annotated[int, Field(ge=0)] = 10
    scheduler_factor: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.8

    @model_validator(mode="after")
    def _fits(self) -> Optimizer:
        if self.weight_decay_convention == "per_step" and self.weight_decay >= 1.0:
            raise ValueError(
                f"weight_decay = {self.weight_decay:g} per step would erase the weights; below 1 is allowed"
            )
        return self


class Noise(Closed):
    """What Definition 6.1 leaves open; shared by all arms and by the measures."""

    symbols: Literal["task", "vocabulary"] = "task"
    """[U]: redraw from the task's symbols, or from the whole vocabulary."""
    positions: Literal["all", "task"] = "all"
    """Redraw at every position, or only where a task symbol stands."""
    same_symbol: bool = True
    """Whether a redraw may return the symbol that was there."""
    gradient: Literal["both", "clean", "noisy"] = "both"
    """Branch that the regulariser's gradient flows through: M(X) and M(Y), or one of them."""
    output: Literal["probabilities", "logits"] = "probabilities"
    """M in Equation 6."""
    n_draws: Annotated[int, Field(ge=1, le=1024)] = 1
    """Draws of Y per step; each costs a forward pass."""
    dropout_masks: Literal["independent", "shared"] = "independent"
    """Whether M(Y) uses dropout masks of its own or those of M(X)."""


class Training(Closed):
    """Budget and rhythm of a run, in optimiser steps."""

    steps: Annotated[int, Field(ge=1)] = 10_000
    batch_size: Annotated[int, Field(ge=1)] = 256
    eval_every_steps: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.eval_every_steps > self.steps:
            raise ValueError(
                f"eval_every_steps = {self.eval_every_steps} is more than steps = {self.steps}; at most that is allowed"
            )
        return self


class Target(Closed):
    """What counts as solved; fixed before anything runs."""

    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    threshold: Real = 0.95
    hold_evaluations: Annotated[int, Field(ge=1)] = 3
    """Evaluations in a row, the first included, that must reach the threshold."""


class _Variant(Closed):
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    noise: Noise = Noise()
    target: Target = Target()


class ModularAdditionVariant(_Variant):
    """A named setting of modular addition's open choices; defaults are Table 2."""

    data: ModularAdditionData = ModularAdditionData()

    @model_validator(mode="after")
    def _fits(self) -> ModularAdditionVariant:
        _check_length(self)
        return self


class SparseParityVariant(_Variant):
    """A named setting of sparse parity's open choices."""

    data: SparseParityData = SparseParityData()

    @model_validator(mode="after")
    def _fits(self) -> SparseParityVariant:
        _check_length(self)
        return self


def sequence_length(variant: ModularAdditionVariant | SparseParityVariant) -> int:
    """Tokens per example."""
    data = variant.data
    if isinstance(data, ModularAdditionData):
        return {"a_b": 2, "a_plus_b_eq": 4}[data.layout]
    return data.n + (data.layout == "bits_cls")


def _check_length(variant: ModularAdditionVariant | SparseParityVariant) -> None:
    length, longest = sequence_length(variant), variant.model.max_length
    if length > longest:
        raise ValueError(
            f"the task's sequences have {length} tokens, more than model.max_length = {longest}; "
            f"at least {length} is allowed for it"
        )


# --- arms, tasks, grid -----------------------------------------------------------------------------


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


class Tasks(Closed):
    modular_addition: ModularAdditionTask | None = None
    sparse_parity: SparseParityTask | None = None


class GridEntry(Closed):
    """One block of the grid: every listed variant x arm x seed of a task is run."""

    task: Literal["modular_addition", "sparse_parity"]
    variants: Annotated[list[Name], Field(min_length=1)]
    arms: Annotated[list[Name], Field(min_length=1)]
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    """Replaces the seeds of the whole grid for this block."""
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
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

    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Field(min_length=1)] = [
        0.0,
        0.25,
        0.5,
        0.75,
        0.9,
    ]
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
    scale: Literal["paper", "demo"] = "paper"
    """Label that figures, tables and report carry, so that demo results are never mistaken."""
    grid: Annotated[list[GridEntry], Field(min_length=1)]
    tasks: Tasks


# --- reading and writing -----------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """One string for one value: sorted keys, no spaces, models with all defaults spelled out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_dump)


def _dump(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def parse(model: type[BaseModel], values: Any, where: str = "") -> Any:
    """Validate `values` as `model`.

    Raises ConfigError: one sentence with key, value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, model, values, where)) from None
