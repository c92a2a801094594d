"""The stage `theory`: an experiment's formulas as curves, and beside each simulated point. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsbench.config.theory import (
    AttentionExperiment,
    ExperimentSpec,
    FeedForwardExperiment,
    IntervalsExperiment,
    PatternsExperiment,
    RecurrenceExperiment,
    ReluExperiment,
    TransformerExperiment,
)
from nsbench.schemas import theory_labels as readings
from nsbench.schemas.theory import CURVES, SIMULATION, THEORY
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.theory.attention import attention_pattern_stability
from nsbench.theory.propagation import network_intervals, random_network
from nsbench.theory.recurrences import ffn_recurrence, ffn_second_moment, transformer_recurrence
from nsbench.theory.relu import relu_stability, relu_stability_quadratic

CORRELATIONS = np.linspace(0.0, 1.0, 101)


class Formula(NamedTuple):
    """One formula for one series: what a figure draws as a line."""

    reading: str
    series: str
    name: str
    status: str
    """One of theory_records.STATUSES."""
    x: NDArray[np.float64]
    """Where the line is drawn: correlations, or layers."""
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """The formula at any x of the experiment."""


def compute_theory(
    spec: ExperimentSpec, points_file: Path, curves_out: Path, table_out: Path, stamp: dict[str, str]
) -> None:
    """Write an experiment's formulas as curves, and as a table beside each of its simulated points.

    Raises RecordError where the points are missing, were simulated under other settings, or have a series
    without a formula.
    """
    points = read_table(points_file, SIMULATION)
    if read_stamp(points_file).get("spec") != stamp["spec"]:
        raise RecordError(f"{points_file}: was simulated under other settings; run its stage again")
    found = list(formulas(spec))
    write_table(curves_out, curves(found).assign(experiment=spec.experiment), CURVES, stamp)
    write_table(table_out, compare(points, found).assign(experiment=spec.experiment), THEORY, stamp)


def join_tables(tables: list[Path], out: Path, csv_out: Path, stamp: dict[str, str]) -> None:
    """Write the tables of all experiments as one, as Parquet and as CSV. Raises RecordError for a missing one."""
    joined = pd.concat([read_table(path, THEORY) for path in tables], ignore_index=True)
    write_table(out, joined, THEORY, stamp)
    write_text(csv_out, joined.to_csv(index=False, lineterminator="\n"))


def curves(found: list[Formula]) -> pd.DataFrame:
    """Every formula on its grid: the columns of CURVES less the experiment."""
    return pd.concat(
        [
            pd.DataFrame({"x": formula.x, "value": formula.value(formula.x)}).assign(**_names(formula))
            for formula in found
        ],
        ignore_index=True,
    )


def compare(points: pd.DataFrame, found: list[Formula]) -> pd.DataFrame:
    """Every simulated point beside each formula for its series: the columns of THEORY less the experiment.

    Raises RecordError naming a series of points that has no formula.
    """
    tables = []
    for (reading, series), group in points.groupby(["reading", "series"], sort=False):
        fitting = [formula for formula in found if (formula.reading, formula.series) == (reading, series)]
        if not fitting:
            raise RecordError(f"simulated points of {reading!r}, {series!r}: there is no formula for them")
        for formula in fitting:
            theory, simulated = formula.value(group["x"].to_numpy()), group["value"].to_numpy()
            error = group["standard_error"].to_numpy()
            with np.errstate(divide="ignore", invalid="ignore"):
                z, ratio = (simulated - theory) / error, theory / simulated
            tables.append(
                group[["x", "standard_error", "n_draws", "n_pairs"]].assign(
                    **_names(formula),
                    theory=theory,
                    simulated=simulated,
                    difference=simulated - theory,
                    z=np.where(error > 0, z, math.nan),
                    ratio=np.where(simulated != 0, ratio, math.nan),
                )
            )
    return pd.concat(tables, ignore_index=True)


def formulas(spec: ExperimentSpec) -> Iterator[Formula]:
    """The formulas of an experiment."""
    settings = spec.parsed()
    if isinstance(settings, IntervalsExperiment):
        return _intervals(settings, spec.seed)
    return _FORMULAS[spec.experiment](settings)


def _names(formula: Formula) -> dict[str, str]:
    return {name: getattr(formula, name) for name in ("reading", "series", "status")} | {"formula": formula.name}


def _attention(settings: AttentionExperiment) -> Iterator[Formula]:
    def linear(rho: NDArray[np.float64]) -> NDArray[np.float64]:
        return rho

    def switching(rho: NDArray[np.float64]) -> NDArray[np.float64]:
        return rho * attention_pattern_stability(rho, settings.n_tokens)

    for reading, scaled in readings.ATTENTION_SCALINGS.items():
        yield Formula(reading, readings.IDENTITY, "ρ", "limit", CORRELATIONS, linear)
        for rank in settings.ranks:
            # The paper has this line for every rank far below d; it needs a rank far above log n.
            yield Formula(reading, readings.low_rank(rank), "ρ", "published", CORRELATIONS, linear)
        yield Formula(reading, readings.UNSTRUCTURED, "ρ s(ρ)", "limit", CORRELATIONS, switching)
        # Logits of variance 1 never settle on one token, however large d is.
        status = "published" if scaled else "limit"
        yield Formula(reading, readings.SMALL_UNSTRUCTURED, "ρ s(ρ)", status, CORRELATIONS, switching)


def _patterns(settings: PatternsExperiment) -> Iterator[Formula]:
    for n in settings.n_tokens:
        yield Formula(
            readings.PATTERNS_READING,
            readings.n_tokens(n),
            "s(ρ)",
            "limit",
            CORRELATIONS,
            lambda rho, n=n: attention_pattern_stability(rho, n),
        )


def _layers(reading: str, series: str, name: str, status: str, trajectory: NDArray[np.float64]) -> Formula:
    """A formula in the number of layers passed, 0, 1, ..., from its values there."""
    layers = np.arange(len(trajectory), dtype=np.float64)
    return Formula(reading, series, name, status, layers, lambda x: trajectory[x.astype(int)])


def _feed_forward(settings: FeedForwardExperiment) -> Iterator[Formula]:
    for weights, reading in readings.FEED_FORWARD_WEIGHTS.items():
        for rho in settings.rho:
            series = readings.correlation(rho)
            right = ffn_second_moment(rho, settings.depth, weights)
            name, status = ("s(ρ)", "exact") if weights == "identity" else ("wide limit", "limit")
            yield _layers(reading, series, name, status, right)
            published = ffn_recurrence(rho, settings.depth, "published")
            yield _layers(reading, series, "Equation 5", "published", published)


def _recurrence(settings: RecurrenceExperiment) -> Iterator[Formula]:
    statuses = {
        "published": ("iterated", "exact"),
        "linear": ("iterated", "approximation"),
        "cosine": ("2 s(ρ), wide limit", "limit"),
        "pearson": ("(s(ρ) − 1/2π) / (1/2 − 1/2π), wide limit", "limit"),
    }
    for rho in settings.rho:
        for kind, (name, status) in statuses.items():
            trajectory = ffn_recurrence(rho, settings.depth, kind)
            yield _layers(readings.correlation(rho), readings.RECURRENCE_KINDS[kind], name, status, trajectory)


def _relu(settings: ReluExperiment) -> Iterator[Formula]:
    grid = np.linspace(-1.0, 1.0, 201)
    for mean in settings.means:
        series = readings.mean(mean)
        if mean == 0:
            exact = "Theorem 5.1"
            yield Formula(
                readings.RELU_READING, series, "Equation 4, quadratic", "approximation", grid, relu_stability_quadratic
            )
        else:
            exact = "Theorem 5.1 with a mean"
        yield Formula(
            readings.RELU_READING, series, exact, "exact", grid, lambda rho, mean=mean: relu_stability(rho, mean)
        )


def _transformer(settings: TransformerExperiment) -> Iterator[Formula]:
    for weights, reading in readings.VALUE_WEIGHTS.items():
        for gamma in settings.value_norms:
            series = readings.value_norm(gamma)
            kind, name = ("identity", "γ²ˡ s(ρ)") if weights == "identity" else ("random", "wide limit")
            right = transformer_recurrence(settings.rho, settings.depth, gamma, kind)
            yield _layers(reading, series, name, "limit", right)
            try:
                published = transformer_recurrence(settings.rho, settings.depth, gamma, "published")
            except ValueError:
                continue  # so large a gamma takes Equation 8's numbers out of those of a correlation
            yield _layers(reading, series, "Equation 8", "published", published)


def _intervals(settings: IntervalsExperiment, seed: int) -> Iterator[Formula]:
    """Lower bounds beside the smallest simulated moment, upper ones beside the largest, both beside the mean."""
    for scale in settings.logit_scales:
        network = random_network(settings.depth, settings.d_model, scale, seed)
        for method, name in readings.INTERVAL_METHODS.items():
            found = pd.DataFrame(network_intervals(network, settings.n_tokens, settings.rho, method))
            for part, rows in found.groupby("part", sort=False):
                for quantity, status, column in (
                    ("smallest", "lower", "lower"),
                    ("mean", "lower", "mean_lower"),
                    ("mean", "upper", "mean_upper"),
                    ("largest", "upper", "upper"),
                ):
                    # A layer for which there is no bound is NaN. + 0.0: no negative zero.
                    trajectory = np.array([math.nan, *(rows.sort_values("layer")[column] + 0.0)])
                    series = readings.entry_moments(part, quantity)
                    formula = _layers(readings.logit_scale(scale), series, name, status, trajectory)
                    yield formula._replace(x=formula.x[~np.isnan(trajectory)])


_FORMULAS: dict[str, Callable[..., Iterator[Formula]]] = {
    "attention": _attention,
    "patterns": _patterns,
    "feed_forward": _feed_forward,
    "recurrence": _recurrence,
    "relu": _relu,
    "transformer": _transformer,
}
