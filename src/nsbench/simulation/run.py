"""The stage `simulate`: one experiment of the theory by Monte Carlo, on any device."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import torch

from nsbench.config.theory import ExperimentSpec
from nsbench.schemas.theory import EXAMPLE, SIMULATION
from nsbench.simulation.montecarlo import MonteCarlo
from nsbench.storage.parquet import write_table

logger = logging.getLogger(__name__)


def simulate(
    spec: ExperimentSpec,
    points_out: Path,
    examples_out: Path,
    device: torch.device,
    stamp: dict[str, str],
) -> None:
    """Simulate an experiment and write its points and its examples.

    Raises ConfigError for settings that do not fit the experiment.
    """
    run = MonteCarlo(spec.experiment, spec.parsed(), spec.seed, device)
    module = importlib.import_module(f"nsbench.simulation.{spec.experiment}")
    examples, points = module.simulate(run) or [], run.points()
    named = {"experiment": spec.experiment}
    write_table(points_out, [named | row for row in points], SIMULATION, stamp)
    write_table(examples_out, [named | row for row in examples], EXAMPLE, stamp)
    logger.info("%s: %d points", spec.experiment, len(points))
