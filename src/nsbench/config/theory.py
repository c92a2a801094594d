"""Settings of the theory's experiments: sizes, correlations, and how much is simulated.

`n_draws` random weights (independent replicates: standard errors are over them) see `n_pairs` pairs
of correlated inputs each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nsbench.config.base import Closed, ConfigError, Real, no_duplicates, parse
from nsbench.schemas import theory_labels as readings

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Draws = Annotated[int, Field(ge=2, le=1_000_000)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
Correlation = Annotated[Real, Field(ge=0.0, le=1.0)]
Correlations = Annotated[list[Correlation], Field(min_length=1, max_length=1000)]
TENTHS = [round(0.1 * step, 1) for step in range(11)]


def _apart(values: list[float], where: str) -> None:
    """Refuse values that one label would stand for: series are told apart by six digits."""
    no_duplicates([f"{value:g}" for value in values], where)


MOST_NUMBERS = 10**13
"""That an experiment may make for one point, pair after pair: days on a CPU."""


@dataclass(frozen=True)
class Held:
    """Numbers that a simulation holds at once: an experiment's `held` counts what is there at its fullest moment."""

    per_pair: int
    """In all arrays that grow with the pairs of a chunk, for one pair of inputs."""
    kept: int
    """In what serves all chunks: weights (of one layer, where each layer has its own), or sums by draw."""

    @property
    def least(self) -> int:
        """The least max_values that will do."""
        return max(self.per_pair, self.kept)

    def check(self, max_values: int) -> None:
        """Raises ConfigError naming max_values where it is smaller than `least`."""
        if max_values < self.least:
            raise ConfigError(
                f"max_values = {max_values} is too small; allowed: at least {self.least}, one pair of inputs taking"
                f" {self.per_pair} values, and weights and sums {self.kept}"
            )


class AttentionExperiment(Closed):
    """Figure 2: stability of one attention layer with W_V = I, by the kind of W = W_Q W_K^T."""

    n_tokens: Count = 16
    d_model: Count = 128
    rho: Correlations = Field(default_factory=lambda: list(TENTHS))
    ranks: Annotated[list[Count], Field(min_length=1, max_length=1000)] = Field(default_factory=lambda: [1, 4, 16, 64])
    """k of W = U U^T with U of d x k entries N(0, 1/k)."""
    n_draws: Draws = 100
    n_pairs: Count = 100

    @model_validator(mode="after")
    def _fits(self) -> AttentionExperiment:
        no_duplicates(self.rho, "rho")
        no_duplicates(self.ranks, "ranks")
        return self

    def held(self) -> Held:
        """X, Y, Z, a projection; of n_tokens^2: each clean pattern, and seven more; W and each U."""
        tokens, units = self.n_tokens, self.d_model
        n_clean = (len(self.ranks) + 3) * len(readings.ATTENTION_SCALINGS)
        per_pair = tokens * (3 * units + max(units, *self.ranks)) + tokens**2 * (n_clean + 7)
        return Held(per_pair, kept=units * (units + sum(self.ranks)))


class PatternsExperiment(Closed):
    """Figure 3: which token each row of the attention matrix attends to, W with entries N(0, 1)."""

    n_tokens: Annotated[list[Annotated[int, Field(ge=2, le=100_000)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [8, 16, 32]
    )
    d_model: Count = 128
    shown_rho: Correlation = 0.01
    """Correlation of the pair whose attention matrices are shown."""
    rho: Correlations = Field(default_factory=lambda: list(TENTHS))
    n_draws: Draws = 100
    n_pairs: Count = 100

    @model_validator(mode="after")
    def _fits(self) -> PatternsExperiment:
        no_duplicates(self.n_tokens, "n_tokens")
        no_duplicates(self.rho, "rho")
        return self

    def held(self) -> Held:
        """X, Y, Z, a projection; logits and weights; which token each row attends to, four times; W."""
        tokens, units = max(self.n_tokens), self.d_model
        return Held(tokens * (4 * units + 2 * tokens + 4), kept=units**2)


class FeedForwardExperiment(Closed):
    """Figure 4a: second moment E[h(X) h(Y)] after each layer of a deep ReLU network, by its weights."""

    width: Annotated[int, Field(ge=2, le=100_000_000)] = 512
    depth: Depth = 8
    rho: Correlations = Field(default_factory=lambda: [0.0, 0.5, 0.9])
    n_draws: Draws = 200
    n_pairs: Count = 50

    @model_validator(mode="after")
    def _fits(self) -> FeedForwardExperiment:
        _apart(self.rho, "rho")
        return self

    def held(self) -> Held:
        """A layer of each input by kind of weights, three more arrays of that size, three numbers; W."""
        n_layers = (1 + len(self.rho)) * len(readings.FEED_FORWARD_WEIGHTS)
        return Held(self.width * (n_layers + 3) + 3, kept=self.width**2)


class RecurrenceExperiment(Closed):
    """Figure 4b: the recurrence of Equation 5 and its corrected forms."""

    depth: Depth = 20
    rho: Correlations = Field(default_factory=lambda: [0.0, 0.5, 1.0])
    """Where the recurrences start."""
    width: Annotated[int, Field(ge=2, le=100_000_000)] = 512
    n_draws: Draws = 200
    n_pairs: Count = 50

    @model_validator(mode="after")
    def _fits(self) -> RecurrenceExperiment:
        _apart(self.rho, "rho")
        return self

    def held(self) -> Held:
        """A layer of each input in both networks, and six more arrays of that size; W."""
        return Held(self.width * (2 * (1 + len(self.rho)) + 6), kept=self.width**2)


class ReluExperiment(Closed):
    """Figure 9: stability of one ReLU, exact and quadratic."""

    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [round(-1 + 0.1 * step, 1) for step in range(21)]
    )
    means: Annotated[list[Annotated[Real, Field(ge=-1e6, le=1e6)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [0.0, 0.5, -0.5]
    )
    """Means of the Gaussian inputs; their standard deviation is 1."""
    n_draws: Draws = 100
    n_pairs: Count = 100_000

    @model_validator(mode="after")
    def _fits(self) -> ReluExperiment:
        no_duplicates(self.rho, "rho")
        _apart(self.means, "means")
        return self

    def held(self) -> Held:
        """ReLU(m + X) of each mean m, and seven more numbers."""
        return Held(len(self.means) + 7, kept=0)


class TransformerExperiment(Closed):
    """Figure 10: second moment after each attention and ReLU layer, W_Q W_K^T = I, W_V of norm gamma."""

    n_tokens: Count = 16
    d_model: Count = 128
    depth: Depth = 8
    rho: Correlation = 0.5
    value_norms: Annotated[list[Annotated[Real, Field(ge=0.0, le=1e6)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [0.5, 0.8, 0.9, 1.0]
    )
    n_draws: Draws = 200
    n_pairs: Count = 16

    @model_validator(mode="after")
    def _fits(self) -> TransformerExperiment:
        _apart(self.value_norms, "value_norms")
        return self

    def held(self) -> Held:
        """A layer of X and of Y by kind of W_V and gamma, three more arrays of that size, two patterns; W_V."""
        n_layers = 2 * len(readings.VALUE_WEIGHTS) * len(self.value_norms)
        return Held(self.n_tokens * (self.d_model * (n_layers + 3) + 2 * self.n_tokens), kept=self.d_model**2)


class IntervalsExperiment(Closed):
    """Bounds on the second moment after each layer of a small network, beside its simulated value."""

    n_tokens: Annotated[int, Field(ge=1, le=16)] = 4
    d_model: Annotated[int, Field(ge=1, le=16)] = 4
    depth: Depth = 4
    rho: Correlation = 0.5
    logit_scales: Annotated[list[Annotated[Real, Field(gt=0.0, le=1e6)]], Field(min_length=1, max_length=1000)] = Field(
        default_factory=lambda: [0.01, 0.03, 0.1, 0.3, 1.0]
    )
    """Standard deviation of the entries of W_Q and W_K."""
    n_draws: Draws = 50
    """Batches of inputs; the network is one and the same."""
    n_pairs: Count = 4_000

    @model_validator(mode="after")
    def _fits(self) -> IntervalsExperiment:
        no_duplicates(self.logit_scales, "logit_scales")
        return self

    def held(self) -> Held:
        """Eight arrays of the inputs' size and two patterns; each moment's sum, by draw."""
        n_places = self.depth * len(readings.INTERVAL_PARTS)
        n_moments = len(self.logit_scales) * n_places * min(self.n_tokens, 2) * self.d_model**2
        return Held(self.n_tokens * (8 * self.d_model + 2 * self.n_tokens), kept=self.n_draws * n_moments)


EXPERIMENTS = ("attention", "patterns", "feed_forward", "recurrence", "relu", "transformer", "intervals")
"""Sections of Theory that are experiments; each is a module of `nsbench.simulation`."""


def _check_work(experiment: Any, where: str) -> None:
    """Raises ConfigError, its message starting with `where`, for an experiment of which no one would see the end."""
    n_numbers = experiment.held().per_pair * experiment.n_draws * experiment.n_pairs
    if n_numbers > MOST_NUMBERS:
        raise ConfigError(
            f"{where}: n_draws = {experiment.n_draws} x n_pairs = {experiment.n_pairs} at these sizes make "
            f"{n_numbers:.3g} numbers for each point; at most {MOST_NUMBERS:.0e} are allowed"
        )


class ExperimentSpec(Closed):
    """All that the stages `simulate` and `theory` read from config for one experiment."""

    experiment: Literal[EXPERIMENTS]  # type: ignore[valid-type]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    settings: dict[str, Any]
    """The experiment's section of Theory."""

    def parsed(self) -> Closed:
        """The settings as the experiment's model. Raises ConfigError where they do not fit it."""
        settings = parse(Theory.model_fields[self.experiment].annotation, self.settings, "spec.settings")
        _check_work(settings, "spec.settings")
        return settings


class Theory(Closed):
    """The theory beside simulation; each experiment has a figure."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_values: Annotated[int, Field(ge=1_000, le=10_000_000_000)] = 4_000_000
    """Numbers that a simulation holds at once in all arrays of its pairs together. Weights, or sums by draw, are at
    most as many, up to three times over while they are made or used: in all, four times max_values at most, beside
    each point's means by draw. Results change with it by rounding alone."""
    attention: AttentionExperiment = AttentionExperiment()
    patterns: PatternsExperiment = PatternsExperiment()
    feed_forward: FeedForwardExperiment = FeedForwardExperiment()
    recurrence: RecurrenceExperiment = RecurrenceExperiment()
    relu: ReluExperiment = ReluExperiment()
    transformer: TransformerExperiment = TransformerExperiment()
    intervals: IntervalsExperiment = IntervalsExperiment()

    @model_validator(mode="after")
    def _fits(self) -> Theory:
        for name in EXPERIMENTS:
            _check_work(getattr(self, name), name)
        for name, needed in self._least_max_values().items():
            if self.max_values < needed:
                raise ConfigError(
                    f"max_values: {self.max_values} is too small for the sizes of {name}; allowed: at least {needed}"
                )
        return self

    def _least_max_values(self) -> dict[str, int]:
        """The least max_values of each experiment."""
        return {name: getattr(self, name).held().least for name in EXPERIMENTS}
