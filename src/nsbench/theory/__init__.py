"""The paper's theory as tested functions: closed forms, Boolean and Hermite analysis, recurrences, intervals.

numpy and scipy only. Arguments may be arrays wherever a formula has a continuous argument; scalars in
give a numpy scalar out. What lies outside a formula's domain raises ValueError naming the argument.
`nsbench.theory.boolean` is for functions of +-1 variables. docs/errata.md says where the paper's
printed form differs from the one here.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "relu_stability": "nsbench.theory.relu",
    "relu_stability_quadratic": "nsbench.theory.relu",
    "bonami_beckner_relu": "nsbench.theory.relu",
    "attention_pattern_stability": "nsbench.theory.attention",
    "spectral_concentration_degree": "nsbench.theory.concentration",
    "tail_mass_bound_from_stability": "nsbench.theory.concentration",
    "tail_mass_bound_from_influence": "nsbench.theory.concentration",
    "hermite_coefficients": "nsbench.theory.gaussian",
    "gaussian_noise_stability": "nsbench.theory.gaussian",
    "ou_operator": "nsbench.theory.gaussian",
    "resampling_correlation": "nsbench.theory.resampling",
    "ffn_recurrence": "nsbench.theory.recurrences",
    "ffn_fixed_point": "nsbench.theory.recurrences",
    "ffn_second_moment": "nsbench.theory.recurrences",
    "transformer_recurrence": "nsbench.theory.recurrences",
    "attention_interval": "nsbench.theory.lemma_12",
    "network_intervals": "nsbench.theory.propagation",
    "boolean": "",
}

__all__ = list(_PUBLIC)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nsbench.theory' has no attribute {name!r}")
    if not _PUBLIC[name]:
        return importlib.import_module(f"nsbench.theory.{name}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
