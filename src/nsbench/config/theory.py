"""Settings of the theory's experiments: sizes, correlations, and how much is simulated.

`n_draws` random weights (independent replicates: standard errors are over them) see `n_pairs` pairs
of correlated inputs each.
"""

# ruff: noqa: RUF012 (pydantic copies defaults)

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from nsbench.config.base import Closed, ConfigError, Real, no_duplicates, parse
from nsbench.schemas import theory_labels as labels

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Width = Annotated[int, Field(ge=2, le=100_000_000)]
Draws = Annotated[int, Field(ge=2, le=1_000_000)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Correlation = Annotated[Real, Field(ge=0.0, le=1.0)]
Some = Field(min_length=1, max_length=1000)
Correlations = Annotated[list[Correlation], Some]
TENTHS = [round(0.1 * step, 1) for step in range(11)]
MOST_NUMBERS = 10**13
"""That an experiment may make for one point, pair after pair: days on a CPU."""


class Held(NamedTuple):
    """Numbers that a simulation holds at once, at its fullest moment."""

    per_pair: int
    """In all arrays that grow with the pairs of a chunk, for one pair of inputs."""
    kept: int
    """In what serves all chunks: weights (of one layer, where each layer has its own), or sums by draw."""


class Experiment(Closed):
    """What the experiments' settings share. A list's values must differ in six digits: labels of series show those."""

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        for name, values in self:
            if isinstance(values, list):
                no_duplicates([value if isinstance(value, int) else float(f"{value:g}") for value in values], name)
        numbers = self.held().per_pair * self.n_draws * self.n_pairs
        if numbers > MOST_NUMBERS:
            raise ConfigError(
                f"n_draws = {self.n_draws} x n_pairs = {self.n_pairs} at these sizes make {numbers:.3g} numbers for "
                f"each point; at most {MOST_NUMBERS:.0e} are allowed"
            )
        return self

    def held(self) -> Held:
        """What a simulation holds: `max_values` bounds it."""
        raise NotImplementedError


def check_memory(experiment: Experiment, max_values: int, name: str) -> None:
    """Raise ConfigError where max_values is smaller than what one pair of inputs takes, or weights and sums do."""
    least = max(experiment.held())
    if max_values < least:
        raise ConfigError(f"max_values: {max_values} is too small for the sizes of {name}; allowed: at least {least}")


class AttentionExperiment(Experiment):
    """Figure 2: stability of one attention layer with W_V = I, by the kind of W = W_Q W_K^T."""

    n_tokens: Count = 16
    d_model: Count = 128
    rho: Correlations = TENTHS
    ranks: Annotated[list[Count], Some] = [1, 4, 16, 64]
    """k of W = U U^T with U of d x k entries N(0, 1/k)."""
    n_draws: Draws = 100
    n_pairs: Count = 100

    def held(self) -> Held:
        """X, Y, Z, a projection; of n_tokens^2: each clean pattern, and seven more; W and each U."""
        tokens, units = self.n_tokens, self.d_model
        n_clean = (len(self.ranks) + 3) * len(labels.ATTENTION_SCALINGS)
        per_pair = tokens * (3 * units + max(units, *self.ranks)) + tokens**2 * (n_clean + 7)
        return Held(per_pair, kept=units * (units + sum(self.ranks)))


class PatternsExperiment(Experiment):
    """Figure 3: which token each row of the attention matrix attends to, W with entries N(0, 1)."""

    n_tokens: Annotated[list[Annotated[int, Field(ge=2, le=100_000)]], Some] = [8, 16, 32]
    d_model: Count = 128
    shown_rho: Correlation = 0.01
    """Correlation of the pair whose attention matrices are shown."""
    rho: Correlations = TENTHS
    n_draws: Draws = 100
    n_pairs: Count = 100

    def held(self) -> Held:
        """X, Y, Z, a projection; logits and weights; which token each row attends to, four times; W."""
        tokens, units = max(self.n_tokens), self.d_model
        return Held(tokens * (4 * units + 2 * tokens + 4), kept=units**2)


class FeedForwardExperiment(Experiment):
    """Figure 4a: second moment E[h(X) h(Y)] after each layer of a deep ReLU network, by its weights."""

    width: Width = 512
    depth: Depth = 8
    rho: Correlations = [0.0, 0.5, 0.9]
    n_draws: Draws = 200
    n_pairs: Count = 50

    def held(self) -> Held:
        """A layer of each input by kind of weights, three more arrays of that size, three numbers; W."""
        n_layers = (1 + len(self.rho)) * len(labels.FEED_FORWARD_WEIGHTS)
        return Held(self.width * (n_layers + 3) + 3, kept=self.width**2)


class RecurrenceExperiment(Experiment):
    """Figure 4b: the recurrence of Equation 5 and its corrected forms."""

    depth: Depth = 20
    rho: Correlations = [0.0, 0.5, 1.0]
    """Where the recurrences start."""
    width: Width = 512
    n_draws: Draws = 200
    n_pairs: Count = 50

    def held(self) -> Held:
        """A layer of each input in both networks, and six more arrays of that size; W."""
        return Held(self.width * (2 * (1 + len(self.rho)) + 6), kept=self.width**2)


class ReluExperiment(Experiment):
    """Figure 9: stability of one ReLU, exact and quadratic."""

    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Some] = [
        round(-1 + 0.1 * step, 1) for step in range(21)
    ]
    means: Annotated[list[Annotated[Real, Field(ge=-1e6, le=1e6)]], Some] = [0.0, 0.5, -0.5]
    """Means of the Gaussian inputs; their standard deviation is 1."""
    n_draws: Draws = 100
    n_pairs: Count = 100_000

    def held(self) -> Held:
        """ReLU(m + X) of each mean m, and seven more numbers."""
        return Held(len(self.means) + 7, kept=0)


class TransformerExperiment(Experiment):
    """Figure 10: second moment after each attention and ReLU layer, W_Q W_K^T = I, W_V of norm gamma."""

    n_tokens: Count = 16
    d_model: Count = 128
    depth: Depth = 8
    rho: Correlation = 0.5
    value_norms: Annotated[list[Annotated[Real, Field(ge=0.0, le=1e6)]], Some] = [0.5, 0.8, 0.9, 1.0]
    n_draws: Draws = 200
    n_pairs: Count = 16

    def held(self) -> Held:
        """A layer of X and of Y by kind of W_V and gamma, three more arrays of that size, two patterns; W_V."""
        n_layers = 2 * len(labels.VALUE_WEIGHTS) * len(self.value_norms)
        return Held(self.n_tokens * (self.d_model * (n_layers + 3) + 2 * self.n_tokens), kept=self.d_model**2)


class IntervalsExperiment(Experiment):
    """Bounds on the second moment after each layer of a small network, beside its simulated value."""

    n_tokens: Annotated[int, Field(ge=1, le=16)] = 4
    d_model: Annotated[int, Field(ge=1, le=16)] = 4
    depth: Depth = 4
    rho: Correlation = 0.5
    logit_scales: Annotated[list[Annotated[Real, Field(gt=0.0, le=1e6)]], Some] = [0.01, 0.03, 0.1, 0.3, 1.0]
    """Standard deviation of the entries of W_Q and W_K."""
    n_draws: Draws = 50
    """Batches of inputs; the network is one and the same."""
    n_pairs: Count = 4_000

    def held(self) -> Held:
        """Eight arrays of the inputs' size and two patterns; each moment's sum, by draw."""
        n_places = self.depth * len(labels.INTERVAL_PARTS)
        n_moments = len(self.logit_scales) * n_places * min(self.n_tokens, 2) * self.d_model**2
        return Held(self.n_tokens * (8 * self.d_model + 2 * self.n_tokens), kept=self.n_draws * n_moments)


class KernelsExperiment(Experiment):
    """Kernels of wide networks on {-1, 1}^n: spectra, and how sensitive and how stable random networks are."""

    n_variables: Annotated[int, Field(ge=2, le=64)] = 20
    depth: Annotated[int, Field(ge=1, le=64)] = 8
    """Hidden layers at most; spectra are shown at powers of two."""
    kept: Correlation = 0.5
    """Probability that a variable is not redrawn, for the stability."""
    width: Width = 256
    n_readouts: Count = 16
    """Outputs of each network, whose signs are compared."""
    n_draws: Draws = 100
    n_pairs: Count = 100

    def held(self) -> Held:
        """Three inputs, their hidden layer and outputs, and up to five more such arrays; W of a layer, readouts."""
        per_pair = 3 * self.n_variables + 5 * max(self.width, self.n_variables) + 5 * self.n_readouts
        return Held(per_pair, kept=self.width * (max(self.width, self.n_variables) + self.n_readouts))


EXPERIMENTS = ("attention", "patterns", "feed_forward", "recurrence", "relu", "transformer", "intervals", "kernels")
"""Sections of Theory that are experiments; each is a module of `nsbench.simulation`."""


class ExperimentSpec(Closed):
    """All that the stages `simulate` and `theory` read of one experiment."""

    experiment: Literal[EXPERIMENTS]  # type: ignore[valid-type]
    seed: Seed
    settings: dict[str, Any]
    """The experiment's section of Theory."""

    def parsed(self) -> Any:
        """The settings as the experiment's model. Raises ConfigError where they do not fit it."""
        return parse(Theory.model_fields[self.experiment].annotation, self.settings, "spec.settings")


class TheorySpec(Closed):
    """All that the stage `theory` reads from config."""

    experiments: list[ExperimentSpec]


class Theory(Closed):
    """The theory beside simulation; each experiment has a figure, or two."""

    seed: Seed = 0
    max_values: Annotated[int, Field(ge=1_000, le=10_000_000_000)] = 4_000_000
    """Numbers that a simulation holds at once in all arrays of its pairs together. Weights, or sums by draw, are at
    most as many, up to three times over while they are made or used. Results change with it by rounding alone."""
    attention: AttentionExperiment = AttentionExperiment()
    patterns: PatternsExperiment = PatternsExperiment()
    feed_forward: FeedForwardExperiment = FeedForwardExperiment()
    recurrence: RecurrenceExperiment = RecurrenceExperiment()
    relu: ReluExperiment = ReluExperiment()
    transformer: TransformerExperiment = TransformerExperiment()
    intervals: IntervalsExperiment = IntervalsExperiment()
    kernels: KernelsExperiment = KernelsExperiment()

    @model_validator(mode="after")
    def _fits(self) -> Theory:
        for name in EXPERIMENTS:
            check_memory(getattr(self, name), self.max_values, name)
        return self
