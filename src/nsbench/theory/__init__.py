"""The papers' theory as tested functions: closed forms, Boolean and Hermite analysis, recurrences, intervals, kernels.

numpy and scipy only. Arguments may be arrays wherever a formula has a continuous argument; scalars in
give a numpy scalar out. What lies outside a formula's domain raises ValueError naming the argument.
`nsbench.theory.boolean` is for functions of +-1 variables. docs/errata.md says where the paper's
printed form differs from the one here.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "relu": ("relu_stability", "relu_stability_quadratic", "bonami_beckner_relu"),
    "attention": ("attention_pattern_stability",),
    "concentration": (
        "spectral_concentration_degree",
        "tail_mass_bound_from_stability",
        "tail_mass_bound_from_influence",
    ),
    "gaussian": ("hermite_coefficients", "gaussian_noise_stability"),
    "resampling": ("resampling_correlation", "unchanged_probability"),
    "effect_size": ("parity_gradients", "confidence_gradients"),
    "fourier": ("weights_by_degree", "degree_kernel"),
    "recurrences": ("ffn_recurrence", "ffn_fixed_point", "ffn_second_moment", "transformer_recurrence"),
    "propagation": ("network_intervals",),
    "kernels": (
        "conjugate_kernel",
        "tangent_kernel",
        "overlaps",
        "cube_spectrum",
        "random_sensitivity",
        "random_stability",
    ),
    "attention_kernels": ("linear_attention_kernel", "linear_attention_overlap", "kernel_matrix", "parity_quotients"),
    "robustness": ("product_law", "token_sensitivities", "flip_probability"),
}
_PUBLIC = {name: f"nsbench.theory.{module}" for module, names in _NAMES.items() for name in names} | {"boolean": ""}

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
