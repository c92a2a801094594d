"""Made-up tables of the theory in the shapes of the real ones: formulas, points near them, attention matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from nsbench.config.theory import ExperimentSpec, IntervalsExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.schemas.theory import CURVES, EXAMPLE, SIMULATION
from nsbench.simulation.curves import curves, formulas
from nsbench.theory.relu import relu_stability

GRID = np.linspace(0.0, 1.0, 21)
Formulas = dict[tuple[str, str], Callable[[np.ndarray], np.ndarray]]
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def interval_curves(settings: IntervalsExperiment, seed: int) -> pd.DataFrame:
    """The bounds on a small network, as they are: the columns of CURVES."""
    spec = ExperimentSpec(experiment="intervals", seed=seed, settings=settings.model_dump())
    return curves(list(formulas(spec))).assign(experiment="intervals")


def s(rho: np.ndarray) -> np.ndarray:
    return (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)


def orbit(step: Callable[[float], float], start: float) -> Callable[[np.ndarray], np.ndarray]:
    """The values start, step(start), ... at whole x."""

    def at(x: np.ndarray) -> np.ndarray:
        values = [start]
        while len(values) <= max(x, default=0):
            values.append(step(values[-1]))
        return np.array(values)[x.astype(int)]

    return at


class Made:
    """Rows of CURVES, SIMULATION and EXAMPLE as they come; points are the first formula's values times a factor."""

    def __init__(self, experiment: str) -> None:
        self.experiment, self.random = experiment, np.random.default_rng(0)
        self.curves: list[pd.DataFrame] = []
        self.points: list[pd.DataFrame] = []
        self.examples: list[pd.DataFrame] = []

    def add(
        self,
        reading: str,
        series: str,
        formulas: Formulas,
        grid: np.ndarray,
        at: Iterable[float],
        factor: float = 1.0,
        noise: float = 0.01,
    ) -> None:
        names = {"experiment": self.experiment, "reading": reading, "series": series}
        for (formula, status), value in formulas.items():
            rows = {"formula": formula, "status": status, "x": grid, "value": value(grid)}
            self.curves.append(pd.DataFrame(names | rows))
        x = np.array(list(at), dtype=float)
        truth = factor * next(iter(formulas.values()))(x)
        error = noise * np.abs(truth) + 1e-12
        value = truth + error * self.random.standard_normal(len(x))
        rows = {"x": x, "value": value, "standard_error": error, "n_draws": 10, "n_pairs": 20}
        self.points.append(pd.DataFrame(names | rows))

    def example(self, reading: str, series: str, n: int) -> None:
        for matrix in ("A_X", "A_Y"):
            weights = np.exp(8 * self.random.standard_normal((n, n)))
            weights /= weights.sum(1, keepdims=True)
            row, column = np.divmod(np.arange(n * n), n)
            names = {"experiment": self.experiment, "reading": reading, "series": series, "matrix": matrix}
            self.examples.append(pd.DataFrame(names | {"row": row, "column": column, "value": weights.ravel()}))

    def tables(self) -> Tables:
        found = zip((self.curves, self.points, self.examples), (CURVES, SIMULATION, EXAMPLE), strict=True)
        return tuple(  # type: ignore[return-value]
            pd.concat(made, ignore_index=True)[schema.names] if made else pd.DataFrame(columns=schema.names)
            for made, schema in found
        )


def make(experiment: str, settings: Any) -> Tables:
    """All tables of one experiment."""
    made = Made(experiment)
    layers = np.arange(getattr(settings, "depth", 0) + 1.0)
    if experiment == "attention":
        for reading in labels.ATTENTION_SCALINGS:
            made.add(reading, labels.IDENTITY, {("ρ", "limit"): lambda rho: rho}, GRID, settings.rho)
            for k in settings.ranks:
                line: Formulas = {("ρ", "published"): lambda rho: rho}
                made.add(reading, labels.low_rank(k), line, GRID, settings.rho, k * k / (k * k + 20))
            switching: Formulas = {("ρ s(ρ)", "limit"): lambda rho: rho * (1 + 15 * rho**4) / 16}
            made.add(reading, labels.UNSTRUCTURED, switching, GRID, settings.rho)
            if "√" in reading:
                switching = {("ρ s(ρ)", "published"): switching["ρ s(ρ)", "limit"]}
            made.add(reading, labels.SMALL_UNSTRUCTURED, switching, GRID, settings.rho, 0.4 if "√" in reading else 1)
    elif experiment == "patterns":
        for n in settings.n_tokens:
            same: Formulas = {("s(ρ)", "limit"): lambda rho, n=n: (1 + (n - 1) * rho**4) / n}
            made.add(labels.PATTERNS_READING, labels.n_tokens(n), same, GRID, settings.rho)
            made.example(labels.PATTERNS_READING, labels.n_tokens(n), n)
    elif experiment == "feed_forward":
        for name, reading in labels.FEED_FORWARD_WEIGHTS.items():
            for rho in settings.rho:
                gain = {"lecun": 0.5, "he": 1.0}.get(name, 0.0)
                stays = lambda x, rho=rho: np.where(x == 0, rho, s(rho))  # noqa: E731
                wide = lambda x, rho=rho, gain=gain: gain**x * orbit(lambda c: 2 * s(c), rho)(x)  # noqa: E731
                right = ("s(ρ)", "exact") if name == "identity" else ("wide limit", "limit")
                formulas: Formulas = {right: wide if gain else stays, ("Equation 5", "published"): orbit(s, rho)}
                made.add(reading, labels.correlation(rho), formulas, layers, layers)
    elif experiment == "recurrence":
        steps = {
            "published": (s, "exact", "iterated"),
            "linear": (lambda c: 1 / (2 * np.pi) + c / 4, "approximation", "iterated"),
            "cosine": (lambda c: min(2 * s(c), 1.0), "limit", "2 s(ρ), wide limit"),
            "pearson": (
                lambda c: min((s(c) - 0.5 / np.pi) / (0.5 - 0.5 / np.pi), 1.0),
                "limit",
                "(s(ρ) − 1/2π) / (1/2 − 1/2π), wide limit",
            ),
        }
        for rho in settings.rho:
            for kind, (step, status, name) in steps.items():
                at = () if kind == "linear" else layers
                series = labels.RECURRENCE_KINDS[kind]
                noise = 0.0005 if kind == "published" else 0.005
                formulas = {(name, status): orbit(step, rho)}
                made.add(labels.correlation(rho), series, formulas, layers, at, noise=noise)
    elif experiment == "relu":
        for mean in settings.means:
            exact = "Theorem 5.1" if mean == 0 else "Theorem 5.1 with a mean"
            formulas = {(exact, "exact"): lambda rho, mean=mean: relu_stability(rho, mean)}
            if mean == 0:
                quadratic = lambda rho: 1 / (2 * np.pi) + rho / 4 + rho**2 / (4 * np.pi)  # noqa: E731
                formulas["Equation 4, quadratic", "approximation"] = quadratic
            grid = np.linspace(-1.0, 1.0, 201)
            made.add(labels.RELU_READING, labels.mean(mean), formulas, grid, settings.rho, noise=0.0004)
    else:
        for name, reading in labels.VALUE_WEIGHTS.items():
            for gamma in settings.value_norms:
                rho, g2 = settings.rho, gamma**2
                shrunk = lambda x, rho=rho, g2=g2: g2**x * np.where(x == 0, rho, s(rho))  # noqa: E731
                wide = lambda x, rho=rho, g2=g2: (g2 / 2) ** x * orbit(lambda c: 2 * s(c), rho)(x)  # noqa: E731
                formulas = {
                    ("γ²ˡ s(ρ)" if name == "identity" else "wide limit", "limit"): (
                        shrunk if name == "identity" else wide
                    ),
                    ("Equation 8", "published"): orbit(lambda c, g2=g2: s(g2 * c), rho),
                }
                made.add(reading, labels.value_norm(gamma), formulas, layers, layers, noise=0.005)
    return made.tables()
