"""Made-up records in the shapes of the real ones: curves that stay low, then rise at a known step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from nsbench.records import EVALUATION, HISTORY, RUNS, write_table

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "baseline"},
    "gentle": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 1},
    "reversed": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 0},
}
FLOPS_PER_STEP = {"baseline": 1e9, "noise_stability": 2e9}
N_CLASSES = {"modular_addition": 23, "sparse_parity": 2}
DATA = {
    "modular_addition": {"modulus": 23, "layout": "a_b", "n_train": 300},
    "sparse_parity": {"n": 10, "k": 2, "label_noise": 0.1, "n_train": 500},
}
STAMP = {"spec": "{}", "source_digest": "0" * 16}


def make_cells(
    task: str = "modular_addition",
    variants: tuple[str, ...] = ("calibrated",),
    arms: tuple[str, ...] = ("baseline", "gentle"),
    seeds: tuple[int, ...] = (0, 1, 2),
    budget: int = 3000,
    metric: str = "val_accuracy",
    threshold: float = 0.9,
    hold: int = 3,
) -> list[dict[str, Any]]:
    """The grid of one task, every variant with every arm."""
    return [
        {
            "task": task,
            "variant": variant,
            "arm": arm,
            "arm_settings": ARMS[arm],
            "settings": {"data": DATA[task]},
            "seeds": list(seeds),
            "target": {"metric": metric, "threshold": threshold, "hold_evaluations": hold},
            "budget_steps": budget,
        }
        for variant in variants
        for arm in arms
    ]


def make_records(
    cells: list[dict[str, Any]],
    rises: dict[tuple[str, int], float] | None = None,
    diverged: tuple[tuple[str, int], ...] = (),
    every: int = 100,
    parity_k: int = 2,
) -> dict[str, pd.DataFrame]:
    """`history`, `runs` and `evaluation` of the grid, as DataFrames.

    `rises` gives the step at which a run of (arm, seed) is half way up (default: drawn), `diverged`
    the runs that end at half their budget.
    """
    generator = np.random.default_rng(7)
    history, runs, evaluation = [], [], []
    for cell in cells:
        chance = 1 / N_CLASSES[cell["task"]]
        kind, budget = cell["arm_settings"]["kind"], cell["budget_steps"]
        for seed in cell["seeds"]:
            name = {key: cell[key] for key in ("task", "variant", "arm")} | {"seed": seed}
            drawn = budget * generator.uniform(0.35, 0.8) * (0.75 if kind != "baseline" else 1.0)
            rise = (rises or {}).get((cell["arm"], seed), drawn)
            lost = (cell["arm"], seed) in diverged
            steps = np.arange(0, (budget // 2 if lost else budget) + 1, every)
            learned = expit((steps - rise) / (budget * 0.025))
            wobble = generator.normal(0, 0.01, len(steps)) * (1 - learned)
            accuracy = np.clip(chance + (1 - chance) * learned + wobble, 0, 1)
            loss = -np.log(chance) * (1 - learned) * (1 + 0.4 * steps / budget) + 2e-3 + np.abs(wobble)
            history.append(
                pd.DataFrame(
                    {
                        **name,
                        "step": steps,
                        "epoch": steps / 8,
                        "train_loss": np.where(steps == 0, np.nan, loss / 3),
                        "train_accuracy": np.where(steps == 0, np.nan, np.sqrt(accuracy)),
                        "val_loss": loss,
                        "val_accuracy": accuracy,
                        "stability": chance + (1 - chance) * learned,
                        "learning_rate": 1e-3,
                        "seconds": steps * 0.03 * (1 + (kind != "baseline")),
                        "flops": steps * FLOPS_PER_STEP[kind],
                    }
                )
            )
            last = history[-1].iloc[-1]
            runs.append(
                {
                    **name,
                    "status": "diverged" if lost else "completed",
                    "steps": int(steps[-1]),
                    "n_parameters": 400_000,
                    "seconds": last["seconds"],
                    "flops": last["flops"],
                    "device": "cpu",
                    "run_key": f"key-{cell['arm']}-{seed}",
                    "history_sha256": "0" * 64,
                    "data_sha256": "0" * 64,
                    "secret": [1, 4] if cell["task"] == "sparse_parity" else None,
                }
            )
            for at in range(0, len(steps), 5):
                for rho in (0.0, 0.5):
                    kappa = (1 + rho) / 2
                    forms = {"decision": kappa**parity_k, "probability_dot": (1 + kappa**parity_k) / 2}
                    starts = {"decision": 1.0, "probability_dot": 0.5}
                    for reduction, form in forms.items():
                        shape = learned[at] ** 0.3
                        value = starts[reduction] * (1 - shape) + form * shape + generator.normal(0, 0.008)
                        evaluation.append(
                            {
                                **name,
                                "step": int(steps[at]),
                                "measure": "noise_stability",
                                "reduction": reduction,
                                "rho": rho,
                                "correlation": kappa,
                                "value": value,
                                "standard_error": 0.008,
                                "target_value": form if cell["task"] == "sparse_parity" else None,
                                "n_inputs": 500,
                                "n_draws": 8,
                            }
                        )
    return {
        "history": pd.concat(history, ignore_index=True),
        "runs": pd.DataFrame(runs),
        "evaluation": pd.DataFrame(evaluation),
    }


def write_records(folder: Any, records: dict[str, pd.DataFrame]) -> None:
    """Write records as a pack folder has them (or as `collect` writes them)."""
    schemas = {"history": HISTORY, "runs": RUNS, "evaluation": EVALUATION}
    for name, table in records.items():
        write_table(folder / f"{name}.parquet", table.to_dict("records"), schemas[name], STAMP)
