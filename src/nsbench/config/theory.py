"""Settings of the theory's experiments: sizes, correlations, and how much is simulated.

`n_draws` random weights (independent replicates: standard errors are over them) see `n_pairs` pairs
of correlated inputs each.
"""

# ruff: noqa: RUF012 (pydantic copies defaults)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nsbench.config.base import Closed, ConfigError, Real, no_duplicates, parse

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=2, le=100_000_000)]
Draws = Annotated[int, Field(ge=2, le=1_000_000)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Correlation = Annotated[Real, Field(ge=0.0, le=1.0)]
Some = Field(min_length=1, max_length=1000)
Correlations = Annotated[list[Correlation], Some]
TENTHS = [round(0.1 * step, 1) for step in range(11)]
MOST_HELD, MOST_MADE = 10**9, 10**13
"""Numbers in one array of a draw, 4 to 8 GB; and in this array of all draws, days on a CPU."""


class Experiment(Closed):
    """What the experiments' settings share. A list's values must differ in six digits: labels of series show those."""

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        for name, values in self:
            if isinstance(values, list):
                no_duplicates([value if isinstance(value, int) else float(f"{value:g}") for value in values], name)
        held = self._held()
        if held > MOST_HELD or held * self.n_draws > MOST_MADE:
            raise ConfigError(
                f"n_pairs = {self.n_pairs} and n_draws = {self.n_draws} at these sizes make an array of {held:.3g} "
                f"numbers in each draw; at most {MOST_HELD:.0e}, and {MOST_MADE:.0e} in all draws, are allowed"
            )
        return self

    def _held(self) -> int:
        """Numbers in the largest array of a draw: the inputs of all pairs, patterns of attention, or a matrix."""

        def largest(*names: str) -> int:
            found = [getattr(self, name, 1) for name in names]
            return max(max(value) if isinstance(value, list) else value for value in found)

        tokens = largest("n_tokens")
        units = largest("d_model", "width", "n_variables", "ranks", "n_readouts")
        return max(self.n_pairs * tokens * max(tokens, units), units**2)


class AttentionExperiment(Experiment):
    """Figure 2: stability of one attention layer with W_V = I, by the kind of W = W_Q W_K^T."""

    n_tokens: Count = 16
    d_model: Count = 128
    rho: Correlations = TENTHS
    ranks: Annotated[list[Count], Some] = [1, 4, 16, 64]
    """k of W = U U^T with U of d x k entries N(0, 1/k)."""
    n_draws: Draws = 100
    n_pairs: Count = 100


class PatternsExperiment(Experiment):
    """Figure 3: which token each row of the attention matrix attends to, W with entries N(0, 1)."""

    n_tokens: Annotated[list[Annotated[int, Field(ge=2, le=100_000)]], Some] = [8, 16, 32]
    d_model: Count = 128
    shown_rho: Correlation = 0.01
    """Correlation of the pair whose attention matrices are shown."""
    rho: Correlations = TENTHS
    n_draws: Draws = 100
    n_pairs: Count = 100


class FeedForwardExperiment(Experiment):
    """Figure 4a: second moment E[h(X) h(Y)] after each layer of a deep ReLU network, by its weights."""

    width: Width = 512
    depth: Depth = 8
    rho: Correlations = [0.0, 0.5, 0.9]
    n_draws: Draws = 200
    n_pairs: Count = 50


class RecurrenceExperiment(Experiment):
    """Figure 4b: the recurrence of Equation 5 and its corrected forms."""

    depth: Depth = 20
    rho: Correlations = [0.0, 0.5, 1.0]
    """Where the recurrences start."""
    width: Width = 512
    n_draws: Draws = 200
    n_pairs: Count = 50


class ReluExperiment(Experiment):
    """Figure 9: stability of one ReLU, exact and quadratic."""

    rho: Annotated[list[Annotated[Real, Field(ge=-1.0, le=1.0)]], Some] = [
        round(-1 + 0.1 * step, 1) for step in range(21)
    ]
    means: Annotated[list[Annotated[Real, Field(ge=-1e6, le=1e6)]], Some] = [0.0, 0.5, -0.5]
    """Means of the Gaussian inputs; their standard deviation is 1."""
    n_draws: Draws = 100
    n_pairs: Count = 100_000


class TransformerExperiment(Experiment):
    """Figure 10: second moment after each attention and ReLU layer, W_Q W_K^T = I, W_V of norm gamma."""

    n_tokens: Count = 16
    d_model: Count = 128
    depth: Depth = 8
    rho: Correlation = 0.5
    value_norms: Annotated[list[Annotated[Real, Field(ge=0.0, le=1e6)]], Some] = [0.5, 0.8, 0.9, 1.0]
    n_draws: Draws = 200
    n_pairs: Count = 16


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


class KernelsExperiment(Experiment):
    """Kernels of wide networks on {-1, 1}^n: spectra, and how sensitive and how stable random networks are."""

    n_variables: Annotated[int, Field(ge=2, le=48)] = 20
    """With more, rounding makes masses that the figure of spectra would show."""
    depth: Annotated[int, Field(ge=1, le=64)] = 8
    """Hidden layers at most; spectra are shown at powers of two."""
    kept: Correlation = 0.5
    """Probability that a variable is not redrawn, for the stability."""
    width: Width = 256
    n_readouts: Count = 16
    """Outputs of each network, whose signs are compared."""
    n_draws: Draws = 100
    n_pairs: Count = 100


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
    attention: AttentionExperiment = AttentionExperiment()
    patterns: PatternsExperiment = PatternsExperiment()
    feed_forward: FeedForwardExperiment = FeedForwardExperiment()
    recurrence: RecurrenceExperiment = RecurrenceExperiment()
    relu: ReluExperiment = ReluExperiment()
    transformer: TransformerExperiment = TransformerExperiment()
    intervals: IntervalsExperiment = IntervalsExperiment()
    kernels: KernelsExperiment = KernelsExperiment()
