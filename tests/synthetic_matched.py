"""Made-up records of a grid on images: architectures and arms with known sensitivity, robustness and sharpness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nsbench.schemas.training import HISTORY

TASK, SOURCE = "fashion_mnist", "Fashion-MNIST"
KINDS = {"vit": "transformer", "mlp": "mlp", "cnn": "cnn", "convmixer": "convmixer", "lstm": "lstm"}
FACTORS = {"vit": 1.0, "mlp": 0.6, "cnn": 1.9, "convmixer": 3.0, "lstm": 1.4}
"""Sensitivity at the end of training, as a multiple of the transformer's."""
SPEED = {"vit": 300.0, "mlp": 180.0, "cnn": 240.0, "convmixer": 120.0, "lstm": 350.0}
"""Steps in which the training error falls by a factor of e."""
FINAL = {"vit": 0.87, "mlp": 0.862, "cnn": 0.885, "convmixer": 0.89, "lstm": 0.872}
"""Test accuracy at the end."""
LAWS = {"patch_gaussian-1": 1.0, "scattered_gaussian-1": 3.0, "other_patch": 2.6}
MORE_LAWS = {**LAWS, "patch_gaussian-0.5": 0.4, "patch_gaussian-2": 2.2, "ornstein_uhlenbeck-1": 0.7}
"""Law -> how much more it does than the first."""
KEPT = (0.9, 0.5)
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "baseline"},
    "sensitivity": {"kind": "sensitivity", "rho": None, "gamma": 1.0, "divergence": "mse_logits"},
    "one_agreement": {"kind": "sensitivity", "rho": None, "gamma": 1.0, "divergence": "agreement"},
    "all_mse": {"kind": "sensitivity", "rho": 0.5, "gamma": 1.0, "divergence": "mse_logits"},
    "all_agreement": {"kind": "noise_stability", "rho": 0.5, "gamma": 1.0, "orientation": 1},
    "augmentation": {"kind": "augmentation", "rho": None, "gamma": 1.0},
}
LESS = {"sensitivity": 0.5, "one_agreement": 0.7, "all_mse": 0.4, "all_agreement": 0.5, "augmentation": 0.6}
"""Sensitivity of an arm, as a multiple of the baseline's."""
BUDGET, EVERY, CHECKPOINTS, N_TOKENS, N_INPUTS = 1600, 80, 11, 16, 200


def make_image_cells(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
    kinds: Mapping[str, str] = KINDS,
    arms: tuple[str, ...] = tuple(ARMS),
    task: str = TASK,
    labels: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Every variant's baseline, and the transformer's arms; labels: of variants whose labels are not the given ones."""
    return [
        {
            "task": task,
            "variant": variant,
            "arm": arm,
            "arm_settings": ARMS[arm],
            "settings": {
                "data": {"patch": 7, "n_train": 10_000, "labels": (labels or {}).get(variant, "given")},
                "model": {"kind": kind},
                "training": {"steps": BUDGET, "batch_size": 128, "eval_every_steps": EVERY},
            },
            "seeds": list(seeds),
            "target": {"metric": "val_accuracy", "threshold": 0.85, "hold_evaluations": 3, "hold_steps": 0},
            "budget_steps": BUDGET,
            "n_tokens": N_TOKENS,
            "leaks": [],
        }
        for variant, kind in kinds.items()
        for arm in (arms if kind == "transformer" else arms[:1])
    ]


def make_image_records(
    cells: list[dict[str, Any]],
    factors: Mapping[str, float] = FACTORS,
    robust: float = -0.03,
    arm_gain: Mapping[str, float] | None = None,
    reaches: float = 1.0,
    spread: float = 0.12,
    laws: Mapping[str, float] = LAWS,
) -> dict[str, pd.DataFrame]:
    """`history`, `runs` and `evaluation` of these cells.

    factors: sensitivity of variants, as FACTORS; robust: what a factor of e in sensitivity does to corrupted accuracy;
    arm_gain: what arms do to it besides; reaches: training accuracy that is approached; spread: sd of log sensitivity
    between runs.
    """
    random = np.random.default_rng(11)
    history, runs, evaluation = [], [], []
    for cell in cells:
        variant, arm = cell["variant"], cell["arm"]
        passes = 1 if arm == "baseline" else 2
        for seed in cell["seeds"]:
            name = {"task": cell["task"], "variant": variant, "arm": arm, "seed": seed}
            own = math.log(0.03 * factors.get(variant, 1.0) * LESS.get(arm, 1.0)) + spread * random.standard_normal()
            steps = np.arange(0, BUDGET + 1, EVERY)
            tau = SPEED.get(variant, 300.0)
            right = reaches - (reaches - 0.1) * np.exp(-steps / tau)
            final = FINAL.get(variant, 0.87) + 0.004 * random.standard_normal()
            tested = final * (1 - 0.9 * np.exp(-2 * steps / tau))
            columns = dict.fromkeys(HISTORY.names, 0.5) | name
            columns |= {"step": steps, "epoch": steps / 78, "train_accuracy": np.where(steps == 0, np.nan, right)}
            columns |= {"train_loss": np.where(steps == 0, np.nan, 2.3 * (1.01 - right))}
            columns |= {"val_loss": 2.3 * (1.05 - tested), "val_accuracy": tested, "weight_norm": 10 + steps / 400}
            columns |= {f"val_accuracy_{kind}": tested for kind in ("unpadded", "known")}
            columns |= {"seconds": 0.01 * steps, "flops": 1e9 * passes * steps}
            history.append(pd.DataFrame(columns)[HISTORY.names])
            runs.append(
                {
                    **name,
                    **dict.fromkeys(("run_key", "history_sha256", "data_sha256", "commit", "source_digest"), "0" * 16),
                    **{"status": "completed", "steps": BUDGET, "n_parameters": 140_000, "device": "cpu"},
                    **{"seconds": 0.01 * BUDGET, "flops": 1e9 * passes * BUDGET, "secret": None, "text": SOURCE},
                    **{"record": "", "older_code": "", "no_evaluation": ""},
                }
            )
            sharp = 0.5 * own + 0.2 * random.standard_normal()
            gain = (arm_gain or {}).get(arm, 0.0)
            for step in np.linspace(0, BUDGET, CHECKPOINTS).astype(int):
                at, share = {**name, "step": int(step)}, 1 - math.exp(-step / 300)
                s, accuracy = math.exp(own) * share, float(np.interp(step, steps, tested))
                rows = list(_flip_rows(random, laws, variant, s, accuracy, step == BUDGET))
                corrupted = accuracy - 0.12 + (robust * (own + 3.5) + gain) * share
                rows += [("corruptions", "clean", accuracy, 2000, 1), ("corruptions", "mean", corrupted, 2000, 1)]
                for scale, kind in itertools.product(("absolute", "relative", "filter"), ("logits", "flips", "loss")):
                    value = {"logits": 1.0, "flips": 0.08, "loss": 0.02}[kind] * math.exp(sharp + 2) * share
                    rows.append(("weight_noise", f"{scale}-{kind}", value, N_INPUTS, 2))
                for kind, what in itertools.product(("all", "unpadded", "known"), ("accuracy", "loss")):
                    value = accuracy if what == "accuracy" else 2.3 * (1.05 - accuracy)
                    rows.append((f"test_{what}", kind, value, 10_000, 1))
                evaluation += [_row(at, *row) for row in rows]
    table = pd.DataFrame(evaluation)
    return {"history": pd.concat(history, ignore_index=True), "runs": pd.DataFrame(runs), "evaluation": table}


def _flip_rows(
    random: np.random.Generator,
    laws: Mapping[str, float],
    variant: str,
    s: float,
    accuracy: float,
    by_position: bool,
) -> Any:
    """Counted flips: where the law is another patch, the order of architectures is turned round."""
    differ = 0.9 * min(1.0, accuracy + 0.05)
    for split, (law, size) in itertools.product(("train", "test"), laws.items()):
        turned = FACTORS.get(variant, 1.0) ** -1.5 if law == "other_patch" else 1.0
        chance = min(0.9, s * size * turned * (1.1 if split == "test" else 1.0))
        tokens, draws = (1, 5) if law.startswith("scattered") else (N_TOKENS, 1)
        value = random.binomial(N_INPUTS * draws * tokens, chance) / (N_INPUTS * draws * tokens)
        yield ("token_sensitivity", f"{law}-{split}", value, N_INPUTS, draws)
        yield ("token_sensitivity", f"{law}-{split}-normalised", value / differ if differ else np.nan, N_INPUTS, draws)
        if by_position and law == next(iter(laws)):
            slope = 1.5 if variant == "lstm" else 0.0
            for position in range(N_TOKENS):
                tilted = chance * (1 + slope * (position / (N_TOKENS - 1) - 0.5))
                count = random.binomial(N_INPUTS, min(tilted, 1.0))
                yield ("token_sensitivity", f"{law}-{split}-position{position}", count / N_INPUTS, N_INPUTS, draws)
        for kept in KEPT if draws == 1 else ():
            flips = 1 - (1 - chance) ** (N_TOKENS * (1 - kept))
            value = random.binomial(N_INPUTS, flips) / N_INPUTS
            yield ("token_sensitivity", f"{law}-{split}-kept{kept:g}", value, N_INPUTS, 1)


def _row(at: dict[str, Any], measure: str, reduction: str, value: float, n_inputs: int, n_draws: int) -> dict[str, Any]:
    nothing = {"rho": np.nan, "correlation": np.nan, "standard_error": 0.01, "target_value": np.nan}
    found = {"measure": measure, "reduction": reduction, "value": value, "n_inputs": n_inputs, "n_draws": n_draws}
    return {**at, **nothing, **found}


def moving(cells: list[dict[str, Any]], at: dict[str, int]) -> dict[str, pd.DataFrame]:
    """Records in which sensitivity, flips, test loss and weight norm move at once at these steps."""
    records = make_image_records(cells)
    table, history = records["evaluation"], records["history"]
    later = {name: table["step"] >= step for name, step in at.items()}
    is_law = table["reduction"].str.startswith("patch_gaussian-1-train")
    joint = table["reduction"].str.contains("kept")
    table.loc[is_law & ~joint, "value"] = np.where(later["sensitivity"], 0.01, 0.2)[is_law & ~joint]
    table.loc[is_law & joint, "value"] = np.where(later["stability"], 0.1, 0.5)[is_law & joint]
    loss = table["measure"] == "test_loss"
    table.loc[loss, "value"] = np.where(later["test_loss"], 0.1, 4.0)[loss]
    history["weight_norm"] = np.where(history["step"] >= at["weight_norm"], 9.0, 12.0)
    return records
