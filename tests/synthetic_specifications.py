"""Made-up specification curves: the cells of a grid and the paired effects of its arms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.specification_curves import specification_choices, specification_curves, specifications
from nsbench.config.canonical import canonical_json
from nsbench.config.settled import outcome

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
    row |= {"outcome": outcome(low, high, 0.1), "flops_outcome": outcome(2 * low, 2 * high, 0.1, "flops")}
    return {**row, "confidence": CONFIDENCE, "p_value": 2.0 ** (1 - n), **given}


def make_times(
    cells: list[dict[str, Any]], effect: Callable[[dict[str, Any], int], float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Times and runs of a curve's cells; an arm's log ratio is `effect` of its choices and seed (NaN: it never
    reaches the target), about a baseline of 4,000 steps (infinite: that never does)."""
    rows = []
    for cell in cells:
        for seed in cell["seeds"]:
            log = effect(cell["choices"], seed)
            step = (math.nan if log == math.inf else 4000.0) if cell["arm"] == "baseline" else 4000 * math.exp(log)
            row = {name: cell[name] for name in ("task", "variant", "arm", "budget_steps")} | cell["target"]
            row |= {"seed": seed, "arm_kind": cell["arm_settings"]["kind"], "rho": 0.25, "gamma": 0.75, "text": ""}
            row |= {"orientation": 1.0, "status": "completed", "reached": math.isfinite(step), "seconds": step}
            rows.append({**row, "step": step if math.isfinite(step) else math.nan, "flops": step})
    times = pd.DataFrame(rows)
    budgets = dict.fromkeys(("steps", "flops", "seconds"), 10_000)
    return times, times[["task", "variant", "arm", "seed"]].assign(**budgets)


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


def make_curves(cells: list[dict[str, Any]], effects: pd.DataFrame | None = None) -> tuple[pd.DataFrame, ...]:
    """Specifications of curves, and what is pooled of them, whole and by choice; times have about the ratios of
    `effects`, and are censored where there is none."""
    effects = make_effects(cells) if effects is None else effects
    ratios, generator = effects.set_index(["variant", "arm"])["steps_ratio"].to_dict(), np.random.default_rng(2)
    rows = []
    for cell in cells:
        middle = 4000 * ratios.get((cell["variant"], cell["arm"]), 1.0)
        names = {name: cell[name] for name in ("task", "variant", "arm", "budget_steps")}
        rows += [{**names, "seed": one, "step": middle * math.exp(generator.normal(0, 0.02))} for one in cell["seeds"]]
    table, times = specifications(effects, cells), pd.DataFrame(rows)
    pooled = (make(table, times, CONFIDENCE) for make in (specification_curves, specification_choices))
    return table, *pooled
