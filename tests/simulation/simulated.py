"""Simulations of the theory as tests look at them: lines of points, and how near they are to exact values."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from nsbench.config.theory import EXPERIMENTS, Theory
from nsbench.simulation.montecarlo import MonteCarlo, gaussians
from nsbench.storage.seeding import torch_stream

CPU = torch.device("cpu")
Lines = dict[tuple[str, str], dict[str, NDArray]]
"""Reading and series -> x, value and standard_error of its points."""


def simulated(
    settings: Any, seed: int = 0, device: torch.device = CPU
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Points and examples of an experiment, by the model of its settings."""
    name = next(name for name in EXPERIMENTS if isinstance(settings, Theory.model_fields[name].annotation))
    run = MonteCarlo(name, settings, seed, device)
    examples = importlib.import_module(f"nsbench.simulation.{name}").simulate(run)
    return run.points(), examples or []


def simulate(settings: Any, device: torch.device = CPU, seed: int = 0) -> Lines:
    """Points by reading and series."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in simulated(settings, seed, device=device)[0]:
        line = found.setdefault((row["reading"], row["series"]), {"x": [], "value": [], "standard_error": []})
        for key, values in line.items():
            values.append(row[key])
    return {key: {name: np.array(values) for name, values in line.items()} for key, line in found.items()}


def inputs(*name: str | int, shape: tuple[int, ...]) -> torch.Tensor:
    """The Gaussian numbers of seed 0's named stream."""
    return gaussians(torch_stream(0, "theory", *name, device=CPU), *shape)


def weights(*name: str | int, shape: tuple[int, ...]) -> torch.Tensor:
    """The standard Gaussian matrix of seed 0's named stream."""
    return torch.randn(shape, generator=torch_stream(0, "theory", *name, device=CPU))


def assert_near(line: dict[str, NDArray], exact: ArrayLike, standard_errors: float = 4.5, bias: float = 0.0) -> None:
    """A line's values within so many standard errors, and `bias` times the exact value, of the exact ones."""
    allowed = standard_errors * line["standard_error"] + bias * np.abs(exact) + 1e-9
    assert (np.abs(line["value"] - exact) <= allowed).all(), (line["value"], exact, line["standard_error"])


def relu_product(rho: ArrayLike) -> NDArray[np.float64]:
    """E[ReLU(X) ReLU(Y)], Theorem 5.1."""
    rho = np.asarray(rho, dtype=float)
    return (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
