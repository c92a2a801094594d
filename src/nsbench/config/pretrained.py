"""Settings of the measurements on pretrained models: which models, and what is measured on them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from nsbench.config.base import Closed, Name, Real, Words, known, no_duplicates

Readout = Literal["top_logit_last", "mean_top_logit", "cross_entropy", "pooled_norm"]
Inputs = Literal["text", "uniform", "gaussian"]
READOUTS: tuple[Readout, ...] = get_args(Readout)
INPUTS: tuple[Inputs, ...] = get_args(Inputs)
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Required = Annotated[Words, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=100_000)]
Head = Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=2, max_length=2)]


class _Model(Closed):
    heads: Annotated[list[Head], Field(min_length=2, max_length=2)] | None = None
    """The two attention heads of Figure 8, each as [layer, head] from 0; null: head 0 of the first and of the
    middle layer."""
    remark: Words = ""
    """Shown beside the model's name."""
    paper: Literal["gpt2", "bert", "roberta", "gemma"] | None = None
    """The model of the paper that these weights are; others are labelled as not the paper's."""


class HubModel(_Model):
    """A repository of the Hugging Face hub with safetensors, at one revision. A gated one needs $HF_TOKEN."""

    source: Literal["hub"]
    repository: Required
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class PackageModel(_Model):
    """Weights that an installed Python package ships: `file`, safetensors or GGUF, with its configuration beside it."""

    source: Literal["package"]
    package: Required
    """The distribution's name, as pip knows it."""
    version: Required
    file: Annotated[Words, Field(pattern=r"^[^/].*\.(safetensors|gguf)$")]
    """The weights, from the folder in which packages are installed; with `parts`, the name that they make together."""
    parts: Annotated[list[Words], Field(min_length=1, max_length=1000)] | None = None
    """GGUF weights in several files, in order, from the same folder."""
    sha256: Sha256
    """Of the file, or of the parts one after the other."""
    initializer_range: Annotated[Real, Field(gt=0.0, le=1000.0)] | None = None
    """Standard deviation of the control's weights, where the file does not carry the original configuration's."""

    @model_validator(mode="after")
    def _fits(self) -> PackageModel:
        if self.parts is not None and not self.file.endswith(".gguf"):
            raise ValueError(f"file = {self.file!r} has parts; only a .gguf file is allowed to have any")
        return self


class FolderModel(_Model):
    """A folder with a model's configuration, its tokenizer and safetensors."""

    source: Literal["folder"]
    path: Required


Model = Annotated[HubModel | PackageModel | FolderModel, Field(discriminator="source")]


class Measurement(Closed):
    """What is measured on each model: the same for all."""

    n_tokens: Annotated[int, Field(ge=4, le=100_000)] = 256
    """Length of a sequence, the tokenizer's special tokens included."""
    n_sequences: Annotated[int, Field(ge=2, le=100_000)] = 64
    special_tokens: bool = True
    """Whether the tokenizer puts its own special tokens round each sequence."""
    inputs: Annotated[list[Inputs], Field(min_length=1)] = Field(default_factory=lambda: list(INPUTS))
    """`text`; `uniform`: token ids drawn uniformly, special ones left out; `gaussian`: embeddings drawn from the
    normal law with the text's mean and scale, for which alone the spectral bounds are proved."""
    readouts: Annotated[list[Readout], Field(min_length=1)] = Field(default_factory=lambda: list(READOUTS))
    rho: Annotated[list[Annotated[Real, Field(ge=0.0, le=0.999999)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [0.25, 0.5, 0.75, 0.9, 0.99]
    )
    n_draws: Count = 1
    """Noisy copies per sequence, of each kind of noise."""
    n_replaced: Count = 16
    """Positions of each sequence, drawn anew, at which one token is replaced for average sensitivity."""
    degree: Count = 15
    """Of Table 1: the bounds are on the mass in degrees at least this."""
    control_seed: Seed | None = 0
    """Of the randomly initialised copy; null leaves it out."""
    seed: Seed = 0
    """Of inputs and noise."""

    @model_validator(mode="after")
    def _fits(self) -> Measurement:
        for name in ("inputs", "readouts", "rho"):
            no_duplicates(getattr(self, name), name)
        return self


class Shown(Closed):
    """What figures 1, 7 and 8 show; the tables have all."""

    readout: Readout = "mean_top_logit"
    fallback: Readout = "pooled_norm"
    """The readout of models that have no language-model head."""
    norm: Literal["l1", "l2", "squared_l2"] = "l1"
    inputs: Inputs = "text"


class Pretrained(Closed):
    """The section `pretrained`."""

    models: Annotated[dict[Name, Model], Field(min_length=1, max_length=1000)]
    """By name, in the order in which figures and tables show them."""
    only: Annotated[list[Name], Field(min_length=1)] | None = None
    """The models that are measured; null: all of them."""
    unreachable: Literal["stop", "skip"] = "stop"
    """If a model is not available: `stop` ends the workflow with its name and what to do; `skip` gives it rows with
    status `unavailable`."""
    max_memory_gb: Annotated[Real, Field(gt=0.0, le=1e6)] = 4.0
    """Memory of a batch, by a rough estimate: bounds the batch size; changes numbers by rounding alone."""
    measurement: Measurement = Measurement()
    figures: Shown = Shown()

    @property
    def chosen(self) -> dict[str, Model]:
        """The models that are measured, by name."""
        return {name: model for name, model in self.models.items() if self.only is None or name in self.only}

    @model_validator(mode="after")
    def _fits(self) -> Pretrained:
        no_duplicates(self.only or [], "only")
        for name in self.only or []:
            known(name, self.models, "only", "model")
        for name in ("readout", "fallback"):
            known(getattr(self.figures, name), self.measurement.readouts, f"figures.{name}", "readout of measurement")
        known(self.figures.inputs, self.measurement.inputs, "figures.inputs", "inputs of measurement")
        return self


class MeasureSpec(Closed):
    """All that the measurement of one model reads from config."""

    name: Name
    model: Model
    measurement: Measurement
    files: dict[str, str] = Field(default_factory=dict)
    """What is in each file of a folder (`nsbench.workflow.plan.files_of`)."""


class TablesSpec(Closed):
    """All that the tables of pretrained models read from config."""

    models: list[Name]
    degree: Count
    scale: str


class PretrainedFigureSpec(Closed):
    """All that a figure of pretrained models reads from config."""

    models: list[Name]
    figures: Shown
    scale: str
