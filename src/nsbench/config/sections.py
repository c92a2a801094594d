"""The sections of `config.yaml` besides tasks; `workflow.config` joins all into one model."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nsbench.config.base import KEEPS_ORDER, Closed, Level, Name, Real, Words, no_duplicates
from nsbench.config.tracking_uri import ELSEWHERE, brief, flaw, has_secret
from nsbench.perturbations import Law

MOST_SPECIFICATIONS = 4096
"""Specifications that a block may have."""
MOST_CHOICES, MOST_LEVELS = 32, 100
"""Choices of a specification curve, and levels of each."""
MOST_SEEDS = 10_000


class ArmSweep(Closed):
    """An arm with several values of rho and gamma: every combination becomes an arm of its own,
    named like `noise_stability-rho0.25-gamma0.75`."""

    arm: Name
    rho: Annotated[list[Real], Field(min_length=1, max_length=1000)]
    gamma: Annotated[list[Real], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _fits(self) -> ArmSweep:
        no_duplicates(self.rho, "rho")
        no_duplicates(self.gamma, "gamma")
        return self


class Specifications(Closed):
    """A specification curve: the block's variant, its base, with open choices made otherwise.

    A specification is one level of every choice; it becomes a variant named after the base and the
    settings in which it differs, like `calibrated-maskcausal-normpost`.
    """

    choices: Annotated[
        dict[
            Words,
            Annotated[list[Level], Field(min_length=2, max_length=MOST_LEVELS)]
            | Annotated[
                dict[Name, Annotated[dict[Words, Level], Field(min_length=1)]],
                Field(min_length=2, max_length=MOST_LEVELS),
            ],
        ],
        Field(min_length=1, max_length=MOST_CHOICES),
        *KEEPS_ORDER,
    ]
    """Either a field of the variant, as `model.norm`, with its values; or a name of your own with
    named levels, each of them the fields that it sets: `decay: {weak: {optimizer.weight_decay: 0.001},
    strong: {optimizer.weight_decay: 0.1}}`. The base is one level of every choice."""
    design: Literal["full", "one_at_a_time", "fraction"] = "full"
    """Every combination; or the base and each other level alone; or `n` combinations, balanced."""
    n: Annotated[int, Field(ge=2, le=MOST_SPECIFICATIONS)] | None = None
    """Specifications of a fraction, the base included."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Draws the fraction; more of the same seed hold the fewer."""

    @property
    def count(self) -> int:
        """Specifications that the design makes."""
        sizes = [len(levels) for levels in self.choices.values()]
        return self.n or (math.prod(sizes) if self.design == "full" else 1 + sum(sizes) - len(sizes))

    @model_validator(mode="after")
    def _fits(self) -> Specifications:
        for choice, levels in self.choices.items():
            no_duplicates(list(levels.values() if isinstance(levels, dict) else levels), choice)
        count = math.prod(len(levels) for levels in self.choices.values())
        if (self.design == "fraction") != (self.n is not None):
            raise ValueError(
                f"n = {'null' if self.n is None else self.n} with design = '{self.design}'; a fraction needs n, "
                "the other designs have none"
            )
        if self.n is not None and self.n > count:
            raise ValueError(f"n = {self.n} is more than the {count} combinations; at most {count} is allowed")
        if count >= 2**62:
            raise ValueError(f"the choices make {count:.3g} combinations; fewer than 2^62 are allowed to draw from")
        if self.count > MOST_SPECIFICATIONS:
            raise ValueError(
                f"the choices make {self.count:,} specifications; at most {MOST_SPECIFICATIONS:,} are allowed, "
                "so ask for a smaller fraction"
            )
        return self


class GridEntry(Closed):
    """One block of the grid: every listed variant x arm x seed of a task is run."""

    task: str
    variants: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    arms: Annotated[list[Name], Field(min_length=1, max_length=1000)]
    arm_sweep: ArmSweep | None = None
    """More arms: one for each (rho, gamma)."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MOST_SEEDS)] | None = None
    """Replaces the seeds of the whole grid for this block."""
    sweep: Annotated[
        dict[Words, Annotated[list[Level], Field(min_length=1, max_length=1000)]],
        Field(max_length=MOST_CHOICES),
        *KEEPS_ORDER,
    ] = Field(default_factory=dict)
    """Fields of the variant, as `data.n`, each with the values to run: every combination
    becomes a variant of its own, named like `calibrated-n20-k2`."""
    specifications: Specifications | None = None
    """Makes the block a specification curve, with its one variant as the base."""

    @model_validator(mode="after")
    def _fits(self) -> GridEntry:
        if self.specifications is None:
            return self
        if len(self.variants) != 1:
            raise ValueError(
                f"variants = {self.variants} with specifications; one variant, their base, is allowed with them"
            )
        if self.sweep:
            raise ValueError(
                f"sweep of {', '.join(self.sweep)} with specifications; one of them is allowed, so make it a choice"
            )
        return self


class Checkpoints(Closed):
    """The trail that the evaluate stage works on."""

    count: Annotated[int, Field(ge=2, le=10_000)] = 21
    """Checkpoints per run, evenly spaced over the evaluations, first and last included."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    keep: bool = True
    """Whether a run's checkpoints stay on disk once they are evaluated."""


class Perturbation(Closed):
    """A law by which one token is changed, or several."""

    law: Law | Literal["scattered_gaussian", "embedding_gaussian"]
    """As `noise.law`; `scattered_gaussian` adds noise to as many pixels as a patch has, anywhere in the image, as the
    code of arXiv 2403.06925 does; `embedding_gaussian` to the vector that stands for an id, sigma in units of the root
    mean square of the inputs' vectors."""
    sigma: Annotated[Real, Field(gt=0.0, le=1e6)] = 1.0

    def __str__(self) -> str:
        return self.law if self.law in ("resample", "other_patch") else f"{self.law}-{self.sigma:g}"


class Sensitivity(Closed):
    """Settings of the measure `token_sensitivity`."""

    perturbations: Annotated[list[Perturbation], Field(min_length=1, max_length=100)] = Field(
        default_factory=lambda: [
            Perturbation(law="patch_gaussian"),
            Perturbation(law="patch_gaussian", sigma=0.5),
            Perturbation(law="patch_gaussian", sigma=2.0),
            Perturbation(law="scattered_gaussian"),
            Perturbation(law="ornstein_uhlenbeck"),
            Perturbation(law="other_patch"),
            Perturbation(law="resample"),
            Perturbation(law="embedding_gaussian"),
            Perturbation(law="embedding_gaussian", sigma=4.0),
        ]
    )
    """Of a task's tokens, ids or patches, those count that are for them. The first is the one whose positions are told
    apart."""
    kept: Annotated[list[Annotated[Real, Field(ge=0.0, lt=1.0)]], Field(max_length=100)] = Field(
        default_factory=lambda: [0.9, 0.75, 0.5, 0.25]
    )
    """kappa: chances at which each token is kept where all may change, the same law's noise stability."""
    n_inputs: Annotated[int, Field(ge=2, le=10_000_000)] = 200
    n_draws: Annotated[int, Field(ge=1, le=100_000)] = 2

    @model_validator(mode="after")
    def _fits(self) -> Sensitivity:
        no_duplicates([str(one) for one in self.perturbations], "perturbations")
        no_duplicates(self.kept, "kept")
        return self


MOST_COPIES = 20_000_000
"""Noisy copies of a checkpoint's evaluation."""


class Evaluation(Closed):
    """Settings of the measures on checkpoints."""

    measures: Annotated[list[Name], Field(min_length=1, max_length=100)] = Field(
        default_factory=lambda: ["noise_stability", "average_sensitivity", "test_scores"]
    )
    """Registered measures; the tables need `test_scores`."""
    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 0.9]
    )
    n_inputs: Annotated[int, Field(ge=2, le=10_000_000)] = 500
    """Test inputs used, at most as many as there are."""
    n_draws: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Noisy copies per input."""
    sensitivity: Sensitivity = Sensitivity()

    @model_validator(mode="after")
    def _fits(self) -> Evaluation:
        no_duplicates(self.rho, "rho")
        no_duplicates(self.measures, "measures")
        if "test_scores" not in self.measures:
            raise ValueError(f"measures = {self.measures} lacks test_scores; the tables of scores need it")
        copies = len(self.rho) * self.n_inputs * self.n_draws
        if copies > MOST_COPIES:
            raise ValueError(
                f"{len(self.rho)} rho x n_inputs = {self.n_inputs} x n_draws = {self.n_draws} are {copies:.3g} noisy "
                f"copies, held at once; at most {MOST_COPIES:,} are allowed"
            )
        return self


class Looks(Closed):
    """When effects are judged: seeds may be added from look to look until a comparison is settled."""

    pairs: list[Annotated[int, Field(ge=2, le=1000)]] = Field(default_factory=lambda: [8, 12, 16, 20], min_length=1)
    """Pairs at which one looks, ascending: the first so many seeds of the grid, whatever has been run beyond."""
    alpha: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.018
    """Two-sided level of each look. The default's four looks together have 0.05 at most
    (`benchmarks/verdicts.py`); of one look it is the level."""

    @model_validator(mode="after")
    def _fits(self) -> Looks:
        if self.pairs != sorted(set(self.pairs)):
            raise ValueError(f"pairs {self.pairs}: ascending numbers are allowed, each once")
        if 2.0 ** (1 - self.pairs[0]) > self.alpha:
            raise ValueError(
                f"pairs {self.pairs}: the first look can have no p-value below {2.0 ** (1 - self.pairs[0]):.3g}, "
                f"and alpha is {self.alpha:g}; more pairs or a larger alpha are allowed"
            )
        return self


class Primary(Closed):
    """The one comparison that decides about a task."""

    variant: Name
    """Its variant, or what a sweep makes of one."""
    arm: Name
    """The arm that is compared with the variant's baseline."""


class Analysis(Closed):
    confidence: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.95
    looks: Looks = Looks()
    margin: Annotated[Real, Field(gt=0.0, le=1.0)] = 0.1
    """Largest effect that counts as none: a ratio between 1 / (1 + margin) and 1 + margin."""
    primary: dict[Name, Primary] = Field(default_factory=dict)
    """Task -> its primary comparison. The other comparisons of a task are secondary: their p-values are
    corrected for false discoveries."""
    onset_share: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """A curve has begun to move once it has made this share of its total change."""
    early_share: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """The share of the budget after which stability is asked when the run will reach its target."""


class TextSource(Closed):
    """The text of next-token prediction: one for the whole grid, never mixed."""

    source: Literal["auto", "hub", "local", "embedded"] = "auto"
    """`hub`: WikiText-2 from the Hugging Face hub; `local`: `path`; `embedded`: the Wikipedia
    excerpt inside gensim; `auto`: the first of these, in this order, that is there."""
    path: Words | None = None
    """A text file, or a folder of train, valid and test; null: $NSBENCH_WIKITEXT2."""


class Tracking(Closed):
    uri: str | None = None
    """MLflow store, without passwords; null means SQLite under `results/`. The environment may name another one."""

    @model_validator(mode="after")
    def _fits(self) -> Tracking:
        if self.uri is not None and has_secret(self.uri):
            raise ValueError(f"uri {brief(self.uri)} has a password or token in it, shown as ***; {ELSEWHERE}")
        if self.uri is not None and (reason := flaw(self.uri)):
            raise ValueError(f"uri {reason}")
        return self


class Gflops(Closed):
    """Operations that one job does in a second, in 1e9: the slowest to reckon with."""

    cpu: Annotated[Real, Field(gt=0.0, le=1e9)] = 5.0
    cuda: Annotated[Real, Field(gt=0.0, le=1e9)] = 200.0


class Cluster(Closed):
    """What jobs ask of a cluster's scheduler. It changes no number, and a single machine does not look at it."""

    gflops: Gflops = Gflops()
    max_minutes: Annotated[int, Field(ge=20, le=1_000_000)] = 1440
    """No job asks for more. A training that needs more is stopped there, and goes on in its next attempt."""
