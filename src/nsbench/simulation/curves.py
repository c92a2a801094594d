"""The stage `theory`: each experiment's formulas as curves, and beside each simulated point. No torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsbench.config.canonical import canonical_json
from nsbench.config.theory import ExperimentSpec
from nsbench.schemas import theory_labels as labels
from nsbench.schemas.theory import CURVES, SIMULATION, THEORY
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_csv, write_table
from nsbench.theory.attention import attention_pattern_stability
from nsbench.theory.attention_kernels import linear_attention_overlap
from nsbench.theory.kernels import (
    conjugate_kernel,
    cube_spectrum,
    overlaps,
    random_sensitivity,
    random_stability,
    tangent_kernel,
)
from nsbench.theory.propagation import network_intervals, random_network
from nsbench.theory.recurrences import ffn_recurrence, ffn_second_moment, transformer_recurrence
from nsbench.theory.relu import relu_stability, relu_stability_quadratic

Array = NDArray[np.float64]
CORRELATIONS = np.linspace(0.0, 1.0, 101)


class Formula(NamedTuple):
    """One formula for one series: what a figure draws as a line."""

    reading: str
    series: str
    name: str
    status: str
    """One of schemas.theory.STATUSES."""
    x: Array
    """Where the line is drawn: correlations, or layers."""
    value: Callable[[Array], Array]
    """The formula at any x of the experiment."""

    def labels(self) -> dict[str, str]:
        """The columns that name the formula."""
        return {"reading": self.reading, "series": self.series, "status": self.status, "formula": self.name}


def compute_theory(
    specs: list[ExperimentSpec], folder: Path, table_out: Path, csv_out: Path, stamp: dict[str, str]
) -> None:
    """Write the formulas of experiments as curves, and one table of them beside each simulated point.

    folder: has each experiment's points, and gets its curves. The table is written as Parquet and as CSV. Raises
    RecordError where points are missing, were simulated under other settings, or have a series without a formula.
    """
    tables = []
    for spec in specs:
        points_file = folder / f"{spec.experiment}.points.parquet"
        points, own = read_table(points_file, SIMULATION), canonical_json(spec)
        if read_stamp(points_file).get("spec") != own:
            raise RecordError(f"{points_file}: was simulated under other settings; run its stage again")
        found, name = list(formulas(spec)), {"experiment": spec.experiment}
        write_table(folder / f"{spec.experiment}.curves.parquet", curves(found).assign(**name), CURVES, stamp)
        tables.append(compare(points, found).assign(**name))
    joined = pd.concat(tables, ignore_index=True)[THEORY.names]
    write_table(table_out, joined, THEORY, stamp)
    write_csv(csv_out, joined)


def curves(found: list[Formula]) -> pd.DataFrame:
    """Every formula on its grid: the columns of CURVES less the experiment."""
    tables = [pd.DataFrame({"x": one.x, "value": one.value(one.x)}).assign(**one.labels()) for one in found]
    return pd.concat(tables, ignore_index=True)


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
                z = np.where(error > 0, (simulated - theory) / error, math.nan)
                ratio = np.where(simulated != 0, theory / simulated, math.nan)
            columns = {"theory": theory, "simulated": simulated, "difference": simulated - theory, "z": z}
            tables.append(
                group[["x", "standard_error", "n_draws", "n_pairs"]].assign(**formula.labels(), **columns, ratio=ratio)
            )
    return pd.concat(tables, ignore_index=True)


def formulas(spec: ExperimentSpec) -> Iterator[Formula]:
    """The formulas of an experiment."""
    return _FORMULAS[spec.experiment](spec.parsed(), spec.seed)


def _attention(settings: Any, _: int) -> Iterator[Formula]:
    def linear(rho: Array) -> Array:
        return rho

    def switching(rho: Array) -> Array:
        return rho * attention_pattern_stability(rho, settings.n_tokens)

    for reading, scaled in labels.ATTENTION_SCALINGS.items():
        yield Formula(reading, labels.IDENTITY, "ρ", "limit", CORRELATIONS, linear)
        for rank in settings.ranks:
            # The paper has this line for every rank far below d; it needs a rank far above log n.
            yield Formula(reading, labels.low_rank(rank), "ρ", "published", CORRELATIONS, linear)
        yield Formula(reading, labels.UNSTRUCTURED, "ρ s(ρ)", "limit", CORRELATIONS, switching)
        # Logits of variance 1 never settle on one token, however large d is.
        status = "published" if scaled else "limit"
        yield Formula(reading, labels.SMALL_UNSTRUCTURED, "ρ s(ρ)", status, CORRELATIONS, switching)


def _patterns(settings: Any, _: int) -> Iterator[Formula]:
    for n in settings.n_tokens:
        stability = functools.partial(attention_pattern_stability, n=n)
        yield Formula(labels.PATTERNS_READING, labels.n_tokens(n), "s(ρ)", "limit", CORRELATIONS, stability)


def _layers(reading: str, series: str, name: str, status: str, trajectory: Array) -> Formula:
    """A formula in the number of layers passed, 0, 1, ..., from its values there."""
    layers = np.arange(len(trajectory), dtype=np.float64)
    return Formula(reading, series, name, status, layers, lambda x: trajectory[x.astype(int)])


def _feed_forward(settings: Any, _: int) -> Iterator[Formula]:
    for weights, reading in labels.FEED_FORWARD_WEIGHTS.items():
        for rho in settings.rho:
            series = labels.correlation(rho)
            name, status = ("s(ρ)", "exact") if weights == "identity" else ("wide limit", "limit")
            yield _layers(reading, series, name, status, ffn_second_moment(rho, settings.depth, weights))
            published = ffn_recurrence(rho, settings.depth, "published")
            yield _layers(reading, series, "Equation 5", "published", published)


def _recurrence(settings: Any, _: int) -> Iterator[Formula]:
    statuses = {
        "published": ("iterated", "exact"),
        "linear": ("iterated", "approximation"),
        "cosine": ("2 s(ρ), wide limit", "limit"),
        "pearson": ("(s(ρ) − 1/2π) / (1/2 − 1/2π), wide limit", "limit"),
    }
    for rho in settings.rho:
        for kind, (name, status) in statuses.items():
            trajectory = ffn_recurrence(rho, settings.depth, kind)
            yield _layers(labels.correlation(rho), labels.RECURRENCE_KINDS[kind], name, status, trajectory)


def _relu(settings: Any, _: int) -> Iterator[Formula]:
    grid = np.linspace(-1.0, 1.0, 201)
    for mean in settings.means:
        of_mean = functools.partial(Formula, labels.RELU_READING, labels.mean(mean))
        if mean == 0:
            yield of_mean("Equation 4, quadratic", "approximation", grid, relu_stability_quadratic)
        exact = "Theorem 5.1" if mean == 0 else "Theorem 5.1 with a mean"
        yield of_mean(exact, "exact", grid, functools.partial(relu_stability, mean=mean))


def _transformer(settings: Any, _: int) -> Iterator[Formula]:
    for weights, reading in labels.VALUE_WEIGHTS.items():
        for gamma in settings.value_norms:
            series = labels.value_norm(gamma)
            kind, name = ("identity", "γ²ˡ s(ρ)") if weights == "identity" else ("random", "wide limit")
            right = transformer_recurrence(settings.rho, settings.depth, gamma, kind)
            yield _layers(reading, series, name, "limit", right)
            try:
                published = transformer_recurrence(settings.rho, settings.depth, gamma, "published")
            except ValueError:
                continue  # so large a gamma takes Equation 8's numbers out of those of a correlation
            yield _layers(reading, series, "Equation 8", "published", published)


def _intervals(settings: Any, seed: int) -> Iterator[Formula]:
    """Lower bounds beside the smallest simulated moment, upper ones beside the largest, both beside the mean."""
    bounds = {
        "lower": ("smallest", "lower"),
        "mean_lower": ("mean", "lower"),
        "mean_upper": ("mean", "upper"),
        "upper": ("largest", "upper"),
    }
    for scale in settings.logit_scales:
        network = random_network(settings.depth, settings.d_model, scale, seed)
        for method, name in labels.INTERVAL_METHODS.items():
            found = pd.DataFrame(network_intervals(network, settings.n_tokens, settings.rho, method))
            for part, rows in found.groupby("part", sort=False):
                for column, (quantity, status) in bounds.items():
                    # A layer for which there is no bound is NaN. + 0.0: no negative zero.
                    trajectory = np.array([math.nan, *(rows.sort_values("layer")[column] + 0.0)])
                    series = labels.entry_moments(part, quantity)
                    formula = _layers(labels.logit_scale(scale), series, name, status, trajectory)
                    yield formula._replace(x=formula.x[~np.isnan(trajectory)])


def _kernels(settings: Any, _: int) -> Iterator[Formula]:
    """Mass by degree at powers of two of layers; sensitivity and stability of signs after each number of layers."""
    d, depths = settings.n_variables, range(1, settings.depth + 1)
    of = {
        name: [conjugate_kernel(overlaps(d), depth, activation) for depth in depths]
        for activation, name in labels.NETWORKS.items()
    }
    of |= {
        name: [linear_attention_overlap(d, embedding, depth, activation) for depth in depths]
        for name, (embedding, activation) in labels.LINEAR_ATTENTION.items()
    }
    kernels = {"conjugate": conjugate_kernel, "tangent": tangent_kernel}
    spectra = {
        (labels.spectrum_of(network, kernel), depth): cube_spectrum(kernels[kernel](overlaps(d), depth, activation))
        for activation, network in labels.NETWORKS.items()
        for kernel in labels.KERNELS
        for depth in depths
        if depth.bit_count() == 1
    }
    spectra |= {
        (labels.spectrum_of(name), depth): cube_spectrum(of[name][depth - 1])
        for name in labels.LINEAR_ATTENTION
        for depth in depths
        if depth.bit_count() == 1
    }
    for (reading, depth), spectrum in spectra.items():
        yield _layers(reading, labels.n_layers(depth), "C(n, k) μ_k", "limit", spectrum.mass)
    for name, values in of.items():
        for quantity, reading in labels.SIGN_READINGS.items():
            found = [
                random_sensitivity(psi) if quantity == "sensitivity" else float(random_stability(psi, settings.kept))
                for psi in values
            ]
            formula = _layers(reading, name, "wide limit", "limit", np.array([math.nan, *found]))
            yield formula._replace(x=formula.x[1:])


_FORMULAS: dict[str, Callable[[Any, int], Iterator[Formula]]] = {
    "attention": _attention,
    "patterns": _patterns,
    "feed_forward": _feed_forward,
    "recurrence": _recurrence,
    "relu": _relu,
    "transformer": _transformer,
    "intervals": _intervals,
    "kernels": _kernels,
}
"""Experiment -> its formulas, from its settings and the seed."""
