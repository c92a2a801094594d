"""Numbers on the theory of low-sensitivity functions, computed from formulas and by enumeration (docs/claims.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

import nsbench.theory.boolean as boolean
from nsbench.claims.computed import computed
from nsbench.claims.evidence import Evidence, Finding
from nsbench.theory.attention_kernels import (
    EMBEDDINGS,
    OF_OVERLAP,
    kernel_matrix,
    linear_attention_overlap,
    parity_quotients,
)
from nsbench.theory.kernels import cube_spectrum
from nsbench.theory.robustness import flip_probability, product_law, token_sensitivities, two_constant_inputs

EMBEDDED = {
    "position_symbol": "a vector for each position and symbol",
    "signed_position": "x_i e_i",
    "additive": "vocabulary and position, added",
    "scalar": "x_i, without positions",
}
"""Embedding -> how a setting is called."""
HIGH = 3
"""Degrees from here on are called high in notes."""


@computed("parity_residual", "n_broken")
def _parity_residual(_: Evidence, n_tokens: int, depths: Sequence[int]) -> list[Finding]:
    """How far a parity is, at most, from an eigenfunction of infinite-head linear attention; a finding by embedding.

    Over all depths, with and without ReLU layers; as a share of K(1, 1). n_broken: at how many degrees k the weak order
    mu_k >= mu_(k + 2) fails, with the mean <chi_S, K chi_S> of the degree for mu_k.
    """
    sizes = np.bitwise_count(np.arange(1 << n_tokens))
    found = []
    for embedding in EMBEDDINGS:
        worst, broken = 0.0, 0
        for depth, activation in itertools.product(depths, (None, "relu")):
            matrix = kernel_matrix(n_tokens, embedding, depth, activation)
            quotients, residuals = parity_quotients(matrix)
            worst = max(worst, float(residuals.max()))
            means = np.bincount(sizes, weights=quotients) / np.bincount(sizes)
            broken += int((means[2:] - means[:-2] > 1e-12).sum())
        note = ""
        if embedding in OF_OVERLAP:
            d, depth = 16, 3
            mass = cube_spectrum(linear_attention_overlap(d, embedding, depth)).mass[HIGH:].sum()
            note = (
                f"{abs(mass):.2f} of the mass is at degrees {HIGH} and above, {depth} layers of attention, {d} tokens"
            )
        extras = {"n_broken": float(broken)}
        setting, n = EMBEDDED[embedding], 2 * len(depths)
        found.append(Finding(setting, worst, n=n, n_unit="kernels", extras=extras, note=note))
    return found


@computed("robustness_excess")
def _robustness(_: Evidence, n_cases: int, n_voters: int, seed: int = 0) -> list[Finding]:
    """By how much the probability of a flip under joint noise is above epsilon T S, at most.

    Of random classifiers under product laws of random shape, and of a majority under the law of two constant inputs.
    """
    random, worst = np.random.default_rng(seed), -np.inf
    epsilon = np.array([0.05, 0.25, 0.5, 1.0])
    for _case in range(n_cases):
        shape = tuple(random.integers(2, 5, size=random.integers(2, 5)).tolist())
        labels, laws = random.integers(3, size=shape), [random.dirichlet(np.ones(size)) for size in shape]
        inputs = product_law(laws)
        flips = flip_probability(labels, inputs, laws, epsilon)
        worst = max(worst, float((flips - epsilon * token_sensitivities(labels, inputs, laws).sum()).max()))
    majority = boolean.majority(n_voters).astype(int).reshape((2,) * n_voters)
    constant, half = two_constant_inputs(n_voters), [np.array([0.5, 0.5])] * n_voters
    sums = token_sensitivities(majority, constant, half).sum()
    off = float(flip_probability(majority, constant, half, 1.0) - sums)
    note = f"S = {sums / n_voters:g}, and all tokens redrawn change the label with probability {off + sums:g}"
    return [
        Finding("inputs of a product law", worst, n=n_cases, n_unit="random classifiers"),
        Finding(f"inputs all +1 or all -1, majority of {n_voters}", off, n=1, n_unit="classifier", note=note),
    ]


@computed("stability_gap")
def _stability_gap(_: Evidence, n_parity: int, n_voters: int, kept: Sequence[float]) -> list[Finding]:
    """Noise stability of the less sensitive of a parity and a majority, less that of the other; a finding by noise.

    kept: probabilities that a token is not redrawn.
    """
    tables = {f"parity of {n_parity}": boolean.parity(n_parity), f"majority of {n_voters}": boolean.majority(n_voters)}
    influence = {name: float(boolean.total_influence(table)) for name, table in tables.items()}
    less, more = sorted(tables, key=influence.__getitem__)
    found = []
    for share in kept:
        stability = {name: float(boolean.noise_stability(table, share)) for name, table in tables.items()}
        note = "; ".join(f"{name}: I = {influence[name]:.3g}, stability {stability[name]:.3g}" for name in (less, more))
        setting = f"{100 * share:g}% of the tokens kept"
        found.append(Finding(setting, stability[less] - stability[more], n=2, n_unit="functions", note=note))
    return found
