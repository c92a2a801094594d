"""The stage `theory`: every formula of an experiment as a curve, and beside each simulated point. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsbench import readings
from nsbench.records import RecordError, read_table, write_table, write_text
from nsbench.theory.attention import attention_pattern_stability
from nsbench.theory.propagation import interval_curves
from nsbench.theory.recurrences import ffn_recurrence, ffn_second_moment, transformer_recurrence
from nsbench.theory.relu import relu_stability, relu_stability_quadratic
from nsbench.theory_records import CURVES, SIMULATION, THEORY
from nsbench.theory_settings import (
    EXPERIMENTS,
    AttentionExperiment,
    FeedForwardExperiment,
    IntervalsExperiment,
    PatternsExperiment,
    RecurrenceExperiment,
    ReluExperiment,
    Theory,
    TransformerExperiment,
)

CORRELATIONS = np.linspace(0.0, 1.0, 101)
KEYS = ["experiment", "reading", "series"]


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
    settings: Theory, points_files: list[Path], curves_out: Path, table_out: Path, csv_out: Path, stamp: dict[str, str]
) -> None:
    """Write the curves of all experiments, and the table that puts each formula beside each simulated point.

    points_files: the simulated points of every experiment. Raises RecordError where one is missing,
    is that of no experiment, or has a point for which there is no formula.
    """
    points = pd.concat([read_table(path, SIMULATION) for path in points_files], ignore_index=True)
    found = {name: list(formulas(name, settings)) for name in EXPERIMENTS}
    missing = set(EXPERIMENTS) ^ set(points["experiment"])
    if missing:
        raise RecordError(f"simulated points: {', '.join(sorted(missing))}: not one file for each experiment")
    write_table(curves_out, curves(found), CURVES, stamp)
    table = compare(points, found)
    write_table(table_out, table, THEORY, stamp)
    write_text(csv_out, table.to_csv(index=False, lineterminator="\n"))


def curves(found: dict[str, list[Formula]]) -> pd.DataFrame:
    """Every formula on its grid, as CURVES; `found` is experiment -> formulas."""
    tables = [
        pd.DataFrame({"x": formula.x, "value": formula.value(formula.x)}).assign(
            experiment=experiment, **_names(formula)
        )
        for experiment, listed in found.items()
        for formula in listed
    ]
    return pd.concat(tables, ignore_index=True)[CURVES.names]


def compare(points: pd.DataFrame, found: dict[str, list[Formula]]) -> pd.DataFrame:
    """Every simulated point beside each formula for its series, as THEORY.

    Raises RecordError naming a series of points that has no formula.
    """
    tables = []
    for (experiment, reading, series), group in points.groupby(KEYS, sort=False):
        fitting = [f for f in found[experiment] if (f.reading, f.series) == (reading, series)]
        if not fitting:
            raise RecordError(f"simulated points of {experiment}: {reading!r}, {series!r} has no formula")
        for formula in fitting:
            theory, simulated = formula.value(group["x"].to_numpy()), group["value"].to_numpy()
            error = group["standard_error"].to_numpy()
            with np.errstate(divide="ignore", invalid="ignore"):
                z, ratio = (simulated - theory) / error, theory / simulated
            tables.append(
                group[["x", "standard_error", "n_draws", "n_pairs"]].assign(
                    experiment=experiment,
                    **_names(formula),
                    theory=theory,
                    simulated=simulated,
                    difference=simulated - theory,
                    z=np.where(error > 0, z, math.nan),
                    ratio=np.where(simulated != 0, ratio, math.nan),
                )
            )
    return pd.concat(tables, ignore_index=True)[THEORY.names]


def formulas(experiment: str, settings: Theory) -> Iterator[Formula]:
    """The formulas of an experiment, one of EXPERIMENTS."""
    if experiment == "intervals":
        return _intervals(settings.intervals, settings.seed)
    return _FORMULAS[experiment](getattr(settings, experiment))


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
            if gamma * gamma * settings.rho <= 1:
                published = transformer_recurrence(settings.rho, settings.depth, gamma, "published")
                yield _layers(reading, series, "Equation 8", "published", published)


def _intervals(settings: IntervalsExperiment, seed: int) -> Iterator[Formula]:
    rows = pd.DataFrame(interval_curves(**settings.model_dump(exclude={"n_draws", "n_pairs"}), seed=seed))
    for (reading, series, name, status), group in rows.groupby(["reading", "series", "formula", "status"], sort=False):
        values = group.set_index("x")["value"]
        layers = values.index.to_numpy(float)
        # A layer for which there is no bound stays NaN.
        yield Formula(
            reading, series, name, status, layers, lambda x, values=values: values.reindex(x).to_numpy() + 0.0
        )


_FORMULAS: dict[str, Callable[..., Iterator[Formula]]] = {
    "attention": _attention,
    "patterns": _patterns,
    "feed_forward": _feed_forward,
    "recurrence": _recurrence,
    "relu": _relu,
    "transformer": _transformer,
}
