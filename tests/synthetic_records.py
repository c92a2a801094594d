"""Made-up records in the shapes of the real ones: curves that stay low, then rise at a known step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from nsbench.analysis.collect import Sources, collect
from nsbench.analysis.tables import analyse
from nsbench.config.sections import Analysis
from nsbench.config.target import held_until
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage.parquet import read_table, write_table

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "baseline"},
    "gentle": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 1},
    "reversed": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 0},
}
OTHER_ARMS: dict[str, dict[str, Any]] = {
    "every_10th": {**ARMS["gentle"], "kind": "cheap_noise_stability", "every": 10, "share": 1.0, "branch": "both"},
    "entropy": {"kind": "entropy", "gamma": 0.75, "orientation": 1},
    "grokfast": {"kind": "grokfast", "alpha": 0.98, "lamb": 2.0},
}
"""Arms of kinds that are not the paper's."""
FLOPS_PER_STEP = {"baseline": 1e9, "noise_stability": 2e9, "cheap_noise_stability": 1.1e9}
N_CLASSES = {"modular_addition": 23, "sparse_parity": 2, "next_token": 500}
DATA = {
    "modular_addition": {"modulus": 23, "layout": "a_b", "n_train": 300},
    "sparse_parity": {"n": 10, "k": 2, "label_noise": 0.1, "n_train": 500},
    "next_token": {
        "n_symbols": 500,
        "length": 20,
        "examples": "windows",
        "split": "by_text",
        "targets": "last",
        "n_train": 1000,
    },
}
CEILINGS = {False: 0.32, True: 0.97}
"""Accuracy that is reached on text, without and with a leak."""
COUNTED = {"": 1.0, "_unpadded": 0.85, "_known": 0.7}
"""Share of the accuracy over all targets, by the ending of a column of HISTORY, for rows of text."""
FLOOR_VALUES = {"commonest": (0.12, 4.9), "bigram": (0.2, 4.2)}
"""Accuracy and loss of a predictor over all targets."""
MARGIN = 2
"""Evaluations that a stopped run makes after its target has been held."""
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
    leaks: dict[str, list[str]] | None = None,
    rows: tuple[str, ...] = (),
    every: int = 100,
) -> list[dict[str, Any]]:
    """The grid of one task, every variant with every arm.

    Arms are names of ARMS, OTHER_ARMS or of `swept`. `leaks` are those of variants, `rows` the variants whose
    examples are the lines of the text, which gives them padding.
    """
    return [
        {
            "task": task,
            "variant": variant,
            "arm": arm,
            "arm_settings": {**ARMS, **OTHER_ARMS}.get(arm) or _settings(arm),
            "settings": {
                "data": {**DATA[task], **({"examples": "rows"} if variant in rows else {})},
                "training": {"steps": budget, "batch_size": 50, "eval_every_steps": every},
                "named": variant,  # so that no two variants differ in their optimiser alone
            },
            "seeds": list(seeds),
            "target": {"metric": metric, "threshold": threshold, "hold_evaluations": hold, "hold_steps": 0},
            "budget_steps": budget,
            "leaks": (leaks or {}).get(variant, []),
        }
        for variant in variants
        for arm in arms
    ]


def swept(rhos: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75), gammas: tuple[float, ...] = (0.05, 0.25, 0.75)) -> Any:
    """Names of the arms of a sweep, as the grid makes them."""
    return tuple(f"noise_stability-rho{rho}-gamma{gamma}" for rho in rhos for gamma in gammas)


def _settings(arm: str) -> dict[str, Any]:
    """Settings of an arm of `swept`."""
    _, rho, gamma = arm.split("-")
    pair = {"rho": float(rho.removeprefix("rho")), "gamma": float(gamma.removeprefix("gamma"))}
    return {"kind": "noise_stability", **pair, "orientation": 1}


def _speed(cell: dict[str, Any]) -> float:
    """Steps that an arm needs, as a share of the baseline's."""
    arm = cell["arm_settings"]
    if arm["kind"] == "baseline":
        return 1.0
    return 0.75 if cell["arm"] in {**ARMS, **OTHER_ARMS} else 0.5 + 0.3 * arm["rho"] + 0.6 * (arm["gamma"] - 0.3) ** 2


def make_records(
    cells: list[dict[str, Any]],
    rises: dict[tuple[str, int], float] | None = None,
    diverged: tuple[tuple[str, int], ...] = (),
    every: int = 100,
    parity_k: int = 2,
    text: str = "",
    stopped: tuple[tuple[str, int], ...] = (),
) -> dict[str, pd.DataFrame]:
    """`history`, `runs` and `evaluation` of the grid, as DataFrames.

    `rises` gives the step at which a run of (arm, seed) is half way up (default: drawn), `diverged`
    the runs that end at half their budget, `text` what the text of next-token prediction was, `stopped` the runs
    that end MARGIN evaluations after their target was held, with a checkpoint there. All others are as without them.
    """
    generator = np.random.default_rng(7)
    history, runs, evaluation = [], [], []
    for cell in cells:
        chance = 1 / N_CLASSES[cell["task"]]
        kind, budget = cell["arm_settings"]["kind"], cell["budget_steps"]
        for seed in cell["seeds"]:
            name = {key: cell[key] for key in ("task", "variant", "arm")} | {"seed": seed}
            drawn = budget * generator.uniform(0.35, 0.8) * _speed(cell)
            rise = (rises or {}).get((cell["arm"], seed), drawn)
            lost = (cell["arm"], seed) in diverged
            steps = np.arange(0, (budget // 2 if lost else budget) + 1, every)
            learned = expit((steps - rise) / (budget * 0.025))
            wobble = generator.normal(0, 0.01, len(steps)) * (1 - learned)
            accuracy = np.clip(chance + (1 - chance) * learned + wobble, 0, 1)
            loss = -np.log(chance) * (1 - learned) * (1 + 0.4 * steps / budget) + 2e-3 + np.abs(wobble)
            stability = chance + (1 - chance) * learned
            shares = dict.fromkeys(COUNTED, 1.0)
            if cell["task"] == "next_token":
                ceiling, weak = CEILINGS[bool(cell["leaks"])], float(kind == "baseline")
                accuracy = np.clip(chance + (ceiling - chance) * learned + wobble, 0, 1)
                loss = -np.log(chance) * (1 - 0.4 * learned) + weak * steps / budget + np.abs(wobble)
                stability = 0.6 - (0.1 + 0.35 * weak) * learned + wobble
                if cell["settings"]["data"]["examples"] == "rows":
                    shares = COUNTED
            history.append(
                pd.DataFrame(
                    {
                        **name,
                        "step": steps,
                        "epoch": steps / 8,
                        "train_loss": np.where(steps == 0, np.nan, loss / 3),
                        "train_accuracy": np.where(steps == 0, np.nan, np.sqrt(accuracy)),
                        **{f"val_loss{ending}": loss / share for ending, share in shares.items()},
                        **{f"val_accuracy{ending}": accuracy * share for ending, share in shares.items()},
                        "stability": stability,
                        "stability_cosine": stability,
                        "decision_agreement": stability,
                        "decision_agreement_corrected": stability,
                        "output_entropy": loss,
                        "weight_norm": 10.0 + steps / budget,
                        "learning_rate": 1e-3,
                        "seconds": steps * 0.03 * (1 + (kind != "baseline")),
                        "flops": steps * FLOPS_PER_STEP.get(kind, 1e9),
                    }
                )
            )
            early = (cell["arm"], seed) in stopped
            if early:
                values = history[-1][cell["target"]["metric"]].to_numpy()
                history[-1] = history[-1].iloc[: held_until(values, steps, cell["target"])[1] + MARGIN + 1]
            last = history[-1].iloc[-1]
            runs.append(
                {
                    **name,
                    "status": "diverged" if lost else "stopped" if early else "completed",
                    "steps": int(last["step"]),
                    "n_parameters": 400_000,
                    "seconds": last["seconds"],
                    "flops": last["flops"],
                    "device": "cpu",
                    "run_key": f"key-{cell['arm']}-{seed}",
                    "history_sha256": "0" * 64,
                    "data_sha256": "0" * 64,
                    "commit": "0" * 40,
                    "source_digest": "0" * 16,
                    "secret": [1, 4] if cell["task"] == "sparse_parity" else None,
                    "text": text if cell["task"] == "next_token" else "",
                    **{"record": "", "older_code": "", "no_evaluation": ""},
                }
            )
            regular, made = range(0, len(steps), 5), len(evaluation)
            for at in sorted({*regular, len(history[-1]) - 1} if early else regular):
                evaluation += _test_scores({**name, "step": int(steps[at])}, accuracy[at], loss[at], shares)
                for rho in (0.0, 0.5):
                    kappa = (1 + rho) / 2
                    forms = {"decision": kappa**parity_k, "probability_dot": (1 + kappa**parity_k) / 2}
                    starts = {"decision": 1.0, "probability_dot": 0.5}
                    for reduction, form in forms.items():
                        shape = learned[at] ** 0.3
                        noise = generator.normal(0, 0.008) if at in regular else 0.0
                        value = starts[reduction] * (1 - shape) + form * shape + noise
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
            evaluation[made:] = [row for row in evaluation[made:] if row["step"] <= last["step"]]
    return {
        "history": pd.concat(history, ignore_index=True),
        "runs": pd.DataFrame(runs),
        "evaluation": pd.DataFrame(evaluation),
    }


def _test_scores(name: dict[str, Any], accuracy: float, loss: float, shares: dict[str, float]) -> list[dict[str, Any]]:
    """A checkpoint's rows of test scores: accuracy a little below, loss a little above validation's."""
    unused = {"rho": None, "correlation": None, "standard_error": 0.01, "target_value": None, "n_draws": 1}
    return [
        {**name, "measure": measure, "reduction": ending.strip("_") or "all", "value": value, "n_inputs": 500, **unused}
        for ending, share in shares.items()
        for measure, value in (("test_accuracy", accuracy * share * 0.98), ("test_loss", loss / share + 0.05))
    ]


def make_floors(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """`floors` of the variants of next-token prediction: a seed's are a little higher than the last one's."""
    rows = []
    for cell in {(cell["task"], cell["variant"]): cell for cell in cells if cell["task"] == "next_token"}.values():
        padded = cell["settings"]["data"]["examples"] == "rows"
        for seed in cell["seeds"]:
            for predictor, (accuracy, loss) in FLOOR_VALUES.items():
                for ending, share in COUNTED.items():
                    used = share if padded else 1.0
                    row = {"task": cell["task"], "variant": cell["variant"], "seed": seed, "predictor": predictor}
                    row |= {"targets": ending.strip("_") or "all", "n_targets": round(500 * used)}
                    row |= {"accuracy": accuracy * used + 0.001 * seed, "loss": loss / used}
                    rows += [{**row, "split": split} for split in ("val", "test")]
    return pd.DataFrame(rows, columns=FLOORS.names)


def write_records(folder: Any, records: dict[str, pd.DataFrame]) -> None:
    """Write records as a pack folder has them (or as `collect` writes them)."""
    schemas = {"history": HISTORY, "runs": COLLECTED_RUNS, "evaluation": EVALUATION, "floors": FLOORS}
    for name, table in records.items():
        write_table(folder / f"{name}.parquet", table.to_dict("records"), schemas[name], STAMP)


def write_results(
    folder: Path, cells: list[dict[str, Any]], records: dict[str, pd.DataFrame], **settings: Any
) -> dict[str, pd.DataFrame]:
    """Collect and analyse records into `folder`/collected and /tables; the tables by name, with `floors`.

    settings: of the analysis.
    """
    write_records(folder / "pack", records)
    floors = folder / "pack" / "floors.parquet"
    write_table(floors, make_floors(cells).to_dict("records"), FLOORS, STAMP)
    collect(cells, Sources([folder / "pack"], [floors]), folder / "collected", "{}", "0123456789abcdef")
    analyse(folder / "collected", cells, Analysis(**settings), folder / "tables", "{}", "0123456789abcdef")
    tables = {name: read_table(folder / "tables" / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    return {**tables, "floors": read_table(folder / "collected" / "floors.parquet", FLOORS)}
