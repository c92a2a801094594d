"""Settings of the theory's experiments: what they refuse before any work."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from nsbench.closed import ConfigError, parse
from nsbench.theory_settings import EXPERIMENTS, Theory

FEW = {"n_draws": 2, "n_pairs": 2}
SIZES: dict[str, dict[str, Any]] = {
    "wide": {
        "attention": {"n_tokens": 3, "d_model": 40, "rho": [0.5], "ranks": [2]} | FEW,
        "patterns": {"n_tokens": [3], "d_model": 40, "rho": [0.5]} | FEW,
        "feed_forward": {"width": 40, "depth": 1, "rho": [0.5]} | FEW,
        "recurrence": {"width": 40, "depth": 1, "rho": [0.5]} | FEW,
        "transformer": {"n_tokens": 3, "d_model": 40, "depth": 1, "value_norms": [1.0]} | FEW,
    },
    "long": {
        "attention": {"n_tokens": 40, "d_model": 3, "rho": [0.5], "ranks": [2]} | FEW,
        "patterns": {"n_tokens": [40, 2], "d_model": 3, "rho": [0.5]} | FEW,
        "transformer": {"n_tokens": 40, "d_model": 3, "depth": 1, "value_norms": [1.0]} | FEW,
    },
    "high rank": {"attention": {"n_tokens": 3, "d_model": 10, "rho": [0.5], "ranks": [200]} | FEW},
}


@pytest.mark.parametrize(("sizes", "experiment"), [(s, e) for s, sections in SIZES.items() for e in sections])
def test_settings_refuse_just_what_a_simulation_could_not_hold(sizes: str, experiment: str) -> None:
    section = SIZES[sizes][experiment]
    least = max(
        value for name, value in parse(Theory, {experiment: section})._largest_arrays().items() if name == experiment
    )
    module = importlib.import_module(f"nsbench.simulation.{experiment}")
    settings = getattr(parse(Theory, {experiment: section}), experiment)
    assert module.simulate(settings, 0, least, torch.device("cpu")).points
    with pytest.raises(ConfigError, match=f"max_values = {least - 1} is too small"):
        module.simulate(settings, 0, least - 1, torch.device("cpu"))


def test_a_bound_on_memory_below_an_experiment_s_sizes_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"max_values: 2000 is too small for the sizes of attention; .* 16384"):
        parse(Theory, {"max_values": 2000})


def test_the_defaults_are_experiments_with_modules() -> None:
    for experiment in EXPERIMENTS:
        assert callable(importlib.import_module(f"nsbench.simulation.{experiment}").simulate)
        assert experiment in Theory.model_fields
