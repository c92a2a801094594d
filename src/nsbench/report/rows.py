"""The rows of the report's tables as texts: a table's row in, what stands in each field out.

A field is a text, or a pair of a text and what stands small below it.
"""

from __future__ import annotations

import math
from typing import Any

from nsbench.arms import describe
from nsbench.config.settled import settles, settles_steps
from nsbench.config.target import hold_span
from nsbench.figures import style
from nsbench.figures.curves import is_loss

NONE = "–"
DIRECTIONS = {-1: "fewer", 0: "open", 1: "more"}
"""What an interval settles -> the class that colours it."""
PROCEDURES = {"all_seeds": "all seeds", "leave_one_out": "leave one out"}


def effect(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the effects table as texts; `verdict` is open unless the interval settles it."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "note", "n_pairs")},
        "reached": f"{row['n_baseline_reached']} → {row['n_arm_reached']}",
        "sooner": f"{row['n_arm_sooner']} : {row['n_baseline_sooner']}",
        "fewer": with_interval(row, "fewer_steps_percent", "{:+.1f}%"),
        "faster": with_interval(row, "faster_by_percent", "{:+.1f}%"),
        "p": (probability(row["p_value"]), f"log-rank {probability(row['p_logrank'])}"),
        "holm": (probability(row["p_holm"]), f"of {row['n_family']}" if row["n_family"] else ""),
        "verdict": DIRECTIONS[settles_steps(row)],
    }


def cost(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the effects table as what it costs: is fewer steps less work?"""
    steps = settles_steps(row)
    flops, seconds = (settled(row, f"{name}_ratio", neutral=1.0) for name in ("flops", "seconds"))
    answer = {
        (-1, -1): "fewer steps, less work",
        (-1, 0): "fewer steps, work open",
        (-1, 1): "fewer steps, more work",
        (0, -1): "steps open, less work",
        (0, 0): "open",
        (0, 1): "steps open, more work",
        (1, -1): "more steps, less work",
        (1, 0): "more steps, work open",
        (1, 1): "more steps, more work",
    }[steps, flops]
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "n_pairs")},
        "steps": (*with_interval(row, "steps_ratio", "{:.2f}"), DIRECTIONS[steps]),
        "flops": (*with_interval(row, "flops_ratio", "{:.2f}"), DIRECTIONS[flops]),
        "seconds": (*with_interval(row, "seconds_ratio", "{:.2f}"), DIRECTIONS[seconds]),
        "answer": "no run reached the target" if math.isnan(row["steps_ratio"]) else answer,
        "signs": (steps, flops),
    }


def summary(row: dict[str, Any]) -> dict[str, str]:
    """A row of the table of cells as texts."""
    censored = "not reached" if row["n_reached"] else "none reached"
    median, q25, q75 = row["median_step"], row["q25_step"], row["q75_step"]
    return {
        **{name: row[name] for name in ("task", "variant", "arm")},
        "reached": f"{row['n_reached']} / {row['n_seeds']}",
        "share": f"{100 * row['reached_share_low']:.0f} to {100 * row['reached_share_high']:.0f}%",
        "diverged": str(row["n_diverged"]),
        "median": censored if math.isnan(median) else number(median),
        "quartiles": "" if math.isnan(q25) else f"{number(q25)} to {'late' if math.isnan(q75) else number(q75)}",
        "range": " to ".join(number(row[name]) for name in ("min_step", "max_step")) if row["n_reached"] else NONE,
        "restricted": number(row["restricted_mean_steps"]),
        "flops": number(row["median_flops"], "{:.2e}"),
        "seconds": number(row["median_seconds"], "{:,.1f}"),
    }


def score(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of scores as texts: pairs of a number and what stands small below it."""
    low, high = row["final_val_accuracy_min"], row["final_val_accuracy_max"]
    step = row["best_val_loss_step"]
    ended = [f"{row['n_diverged']} diverged"] if row["n_diverged"] else []
    ended += [f"{row['n_stopped']} stopped at the target: left out"] if row["n_stopped"] else []
    ended += [f"{row['n_unmeasured']} without measures: left out of test scores"] if row["n_unmeasured"] else []
    return {
        **{name: row[name] for name in ("task", "variant", "arm")},
        "runs": (str(row["n_seeds"]), ", ".join(ended)),
        "accuracy": (_share(row["final_val_accuracy"]), "" if math.isnan(low) else f"{_share(low)} to {_share(high)}"),
        "loss": (_share(row["final_val_loss"]), ""),
        "best": (_share(row["best_val_loss"]), "" if math.isnan(step) else f"step {step:,.0f}"),
        "test": (_share(row["test_accuracy"]), f"loss {_share(row['test_loss'])}"),
        **{
            name: (_share(row[f"{name}_accuracy"]), f"loss {_share(row[f'{name}_loss'])}")
            for name in ("commonest", "bigram")
        },
        "targets": (number(row["n_targets"]), ""),
    }


def measure(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of measures as texts."""
    low, high = row["value_min"], row["value_max"]
    rho = "" if math.isnan(row["rho"]) else f", ρ = {row['rho']:g}"
    return {
        **{name: row[name] for name in ("task", "variant", "arm")},
        "measure": (row["measure"].replace("_", " "), f"{row['reduction'].replace('_', ' ')}{rho}"),
        "runs": f"{row['n_measured']} / {row['n_seeds']}",
        "value": (number(row["value"], "{:.4g}"), "" if math.isnan(low) else f"{low:.4g} to {high:.4g}"),
        "target": number(row["target_value"], "{:.4g}"),
    }


def choice(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of selections as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "baseline", "n_arms", "n_pairs", "note")},
        "selected": [part.replace(" x ", " × ") for part in row["selected"].split(", ")],
        "procedure": PROCEDURES[row["procedure"]],
        "on_validation": number(row["val_steps_ratio"], "{:.2f}"),
        "steps": with_interval(row, "test_steps_ratio", "{:.2f}"),
        "accuracy": with_interval(row, "test_accuracy_difference", "{:+.4f}"),
        "loss": with_interval(row, "test_loss_difference", "{:+.3f}"),
        "verdict": direction({**row, "n_pairs": row["n_compared"]}, "test_steps_ratio", neutral=1.0),
    }


def score_effect(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of differences in scores as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "n_pairs", "note")},
        "accuracy": with_interval(row, "final_val_accuracy_difference", "{:+.4f}"),
        "loss": with_interval(row, "best_val_loss_difference", "{:+.3f}"),
        "verdict": direction({**row, "n_pairs": row["n_compared"]}, "best_val_loss_difference"),
    }


def lead(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of leads as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "note")},
        "defined": f"{row['n_defined']} / {row['n_runs']}",
        "order": f"{row['n_stability_first']} : {row['n_together']} : {row['n_loss_first']}",
        "stability": number(row["median_stability_onset_step"]),
        "loss": number(row["median_loss_onset_step"]),
        "lead": with_interval(row, "mean_lead_steps", "{:+,.0f}"),
        "resolution": f"{row['resolution_steps']:,}",
        "settled": settled(row, "mean_lead_steps", pairs="n_defined") != 0,
    }


def rank(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of early ranks as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "group", "note")},
        "runs": (str(row["n_ranked"]), f"{row['n_seeds']} seeds"),
        "step": f"{row['early_step']:,}",
        "stability": with_interval(row, "rank_by_stability", "{:+.2f}"),
        "loss": with_interval(row, "rank_by_val_loss", "{:+.2f}"),
    }


def grid_row(cell: dict[str, Any]) -> dict[str, str]:
    """A cell of the grid as it was asked for."""
    data = cell.get("settings", {}).get("data", {})
    return {
        **{name: cell[name] for name in ("task", "variant", "arm")},
        "settings": describe(cell["arm_settings"]) or NONE,
        "data": ", ".join(f"{name} {value}" for name, value in data.items()) or NONE,
        "target": target(cell["target"]),
        "budget": f"{cell['budget_steps']:,}",
        "seeds": ", ".join(str(seed) for seed in cell["seeds"]),
    }


def target(asked: dict[str, Any]) -> str:
    """A target as a phrase, like `validation accuracy ≥ 0.95`."""
    metric = style.metric_label(asked["metric"]).replace(" (nats)", "").replace("\n", " ")
    return f"{metric} {'≤' if is_loss(asked['metric']) else '≥'} {asked['threshold']:g}"


def hold(asked: dict[str, Any], eval_every_steps: int) -> str:
    """How long a target must be held, like `held for 3 evaluations in a row (200 steps)`."""
    span = hold_span(asked, eval_every_steps)
    if not span:
        return "at one evaluation"
    return f"held for {span // eval_every_steps + 1:,} evaluations in a row ({span:,} steps)"


def settled(row: dict[str, Any], name: str, neutral: float = 0.0, pairs: str = "n_pairs") -> int:
    """`intervals.settles` of an estimate of the row."""
    ends = row[f"{name}_low"], row[f"{name}_high"]
    return settles(*ends, row[pairs], row["confidence"], neutral, row.get("n_stopped", 0))


def direction(row: dict[str, Any], name: str, neutral: float = 0.0) -> str:
    """`fewer` or `more` where the interval of an estimate settles it, else `open`."""
    return DIRECTIONS[settled(row, name, neutral)]


def with_interval(row: dict[str, Any], name: str, form: str) -> tuple[str, str]:
    """An estimate and, where there is one, its interval."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    interval = f"{number(low, form)} to {number(high, form)}" if math.isfinite(low) else ""
    return number(value, form), interval


def _share(value: float) -> str:
    return number(value, "{:.3f}")


def number(value: float | None, form: str = "{:,.0f}") -> str:
    """A number as text; a dash for NaN and None."""
    return NONE if value is None or math.isnan(value) else form.format(value).replace("-", "−")


def probability(value: float | None) -> str:
    """A p-value as text."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, "{:.3f}")
