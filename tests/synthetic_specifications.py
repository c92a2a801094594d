"""Made-up specification curves: the cells of a grid and the paired effects of its arms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nsbench.config.canonical import canonical_json

CHOICES: dict[str, list[Any]] = {
    "tokens": ["a_b", "a_plus_b_eq", "a_plus_b_eq_kept"],
    "data.n_train": [2000, 3830, 6385],
    "model.norm": ["pre", "post"],
    "model.mask": ["none", "causal"],
    "model.ffn_width": [None, 128],
    "optimizer.weight_decay_convention": ["per_step", "times_lr", "l2"],
    "noise.same_symbol": [True, False],
    "noise.output": ["probabilities", "logits"],
}
ARM = {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 1}
CONFIDENCE = 0.95


def make_curve_cells(
    n: int,
    task: str = "modular_addition",
    curve: str = "calibrated",
    arms: tuple[str, ...] = ("noise_stability",),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
    choices: dict[str, list[Any]] | None = None,
    leaks: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Cells of a curve of `n` specifications, the base first, with a baseline and these arms each."""
    choices = CHOICES if choices is None else choices
    generator = np.random.default_rng(3)
    base = {choice: levels[0] for choice, levels in choices.items()}
    rows, seen = [base], {canonical_json(base)}
    while len(rows) < n:
        row = {choice: levels[generator.integers(len(levels))] for choice, levels in choices.items()}
        if canonical_json(row) not in seen:
            seen.add(canonical_json(row))
            rows.append(row)
    return [
        {
            "task": task,
            "variant": curve if place == 0 else f"{curve}-{place:03d}",
            "arm": arm,
            "arm_settings": {"kind": "baseline"} if arm == "baseline" else dict(ARM),
            "settings": {"data": {"modulus": 113, "n_train": 2000}, "training": {"eval_every_steps": 100}},
            "seeds": list(seeds),
            "target": {"metric": "val_accuracy", "threshold": 0.95, "hold_evaluations": 3, "hold_steps": 0},
            "budget_steps": 10_000,
            "leaks": list(leaks),
            "curve": curve,
            "choices": row,
            "curve_only": place > 0,
        }
        for place, row in enumerate(rows)
        for arm in ("baseline", *arms)
    ]


def effect_row(
    cell: dict[str, Any], ratio: float, low: float = math.nan, high: float = math.nan, **given: Any
) -> dict[str, Any]:
    """What specifications read of a row of `schemas.statistics.PAIRED_EFFECT`: both arms always reach, unless `given`
    says otherwise; FLOPs are twice the steps."""
    n = len(cell["seeds"])
    row = {name: cell[name] for name in ("task", "variant", "arm", "budget_steps")} | cell["target"]
    row |= {"baseline": "baseline", "text": "", "n_pairs": n, "n_baseline_reached": n, "n_arm_reached": n, "note": ""}
    for name, factor in (("steps_ratio", 1.0), ("flops_ratio", 2.0)):
        row |= {name: factor * ratio, f"{name}_low": factor * low, f"{name}_high": factor * high}
    # All pairs go one way, so that the permutation test agrees.
    sooner = {"n_arm_sooner": n * (ratio < 1), "n_baseline_sooner": n * (ratio > 1)}
    return {**row, **sooner, "confidence": CONFIDENCE, "p_value": 2.0 ** (1 - n), **given}


def make_effects(cells: list[dict[str, Any]], seed: int = 1) -> pd.DataFrame:
    """Drawn effects of the arms: most near 1, some settled, of about a third the baseline does not reach."""
    generator = np.random.default_rng(seed)
    rows = []
    for cell in cells:
        if cell["arm_settings"]["kind"] == "baseline":
            continue
        ratio, width = math.exp(generator.normal(-0.03, 0.2)), generator.uniform(0.03, 0.25)
        given: dict[str, Any] = {}
        if cell["curve_only"] and generator.random() < 0.35:
            reached = int(generator.integers(0, 6))
            given = {"n_baseline_reached": 0, "n_arm_reached": reached, "note": "12 of 12 runs censored"}
            ratio = 1 - 0.08 * reached if reached else math.nan
        rows.append(effect_row(cell, ratio, ratio * math.exp(-width), ratio * math.exp(width), **given))
    return pd.DataFrame(rows)
