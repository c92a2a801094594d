"""Settings of the theory's experiments: what they refuse before any work."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from nsbench.config.base import ConfigError, parse
from nsbench.config.theory import EXPERIMENTS, Theory

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
    "high rank": {"attention": {"n_tokens": 3, "d_model": 10, "rho": [0.5], "ranks": [200, 100]} | FEW},
    "many": {
        "attention": {"n_tokens": 3, "d_model": 4, "rho": [0.5], "ranks": [1, 2, 3]} | FEW,
        "feed_forward": {"width": 4, "depth": 1, "rho": [0.1, 0.2, 0.3]} | FEW,
        "recurrence": {"width": 4, "depth": 1, "rho": [0.1, 0.2, 0.3]} | FEW,
        "relu": {"rho": [0.5], "means": [0.1, 0.2, 0.3]} | FEW,
        "transformer": {"n_tokens": 3, "d_model": 4, "depth": 1, "value_norms": [0.1, 0.2]} | FEW,
        "intervals": {"n_tokens": 3, "d_model": 2, "depth": 2, "logit_scales": [0.1, 1.0], "n_draws": 40, "n_pairs": 2},
    },
    "few": {"intervals": {"n_tokens": 4, "d_model": 2, "depth": 1, "logit_scales": [0.1]} | FEW},
}
LEAST = {
    "wide": {
        "attention": 40 * (40 + 2),
        "patterns": 40 * 40,
        "feed_forward": 40 * 40,
        "recurrence": 40 * 40,
        "transformer": 40 * 40,
    },
    "long": {
        "attention": 40 * 4 * 3 + 40 * 40 * (2 * 4 + 7),
        "patterns": 40 * (4 * 3 + 2 * 40 + 4),
        "transformer": 40 * (3 * (2 * 3 + 3) + 2 * 40),
    },
    "high rank": {"attention": 10 * (10 + 200 + 100)},
    "many": {
        "attention": 3 * 4 * 4 + 3 * 3 * (2 * 6 + 7),
        "feed_forward": 4 * (4 * 4 + 3) + 3,
        "recurrence": 4 * (2 * 4 + 6),
        "relu": 3 + 7,
        "transformer": 3 * (4 * (2 * 3 * 2 + 3) + 2 * 3),
        "intervals": 40 * 2 * 4 * 2 * 2 * 2,
    },
    "few": {"intervals": 4 * (8 * 2 + 2 * 4)},
}
"""The least max_values: weights or sums by draw where they are more than one pair's arrays, else these."""


@pytest.mark.parametrize(("sizes", "experiment"), [(s, e) for s, sections in SIZES.items() for e in sections])
def test_settings_refuse_just_what_a_simulation_could_not_hold(sizes: str, experiment: str) -> None:
    theory = parse(Theory, {experiment: SIZES[sizes][experiment], "max_values": 10**9})
    least = theory._least_max_values()[experiment]
    assert least == LEAST[sizes][experiment]
    module = importlib.import_module(f"nsbench.simulation.{experiment}")
    settings = getattr(theory, experiment)
    assert module.simulate(settings, 0, least, torch.device("cpu")).points
    with pytest.raises(ConfigError, match=f"max_values = {least - 1} is too small"):
        module.simulate(settings, 0, least - 1, torch.device("cpu"))


def test_a_bound_on_memory_below_an_experiment_s_sizes_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"max_values: 2000 is too small for the sizes of attention; .* 27264"):
        parse(Theory, {"max_values": 2000})


def test_the_defaults_are_experiments_with_modules() -> None:
    for experiment in EXPERIMENTS:
        assert callable(importlib.import_module(f"nsbench.simulation.{experiment}").simulate)
        assert experiment in Theory.model_fields
