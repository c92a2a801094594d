"""The rows of the report's tables as texts: a table's row in, what stands in each field out.

A field is a text, or a pair of a text and what stands small below it.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from nsbench import readings
from nsbench.figures import comparison, style
from nsbench.figures.curves import is_loss

NONE = "–"
PROCEDURES = {"all_seeds": "all seeds", "leave_one_out": "leave one out"}


def effect(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the effects table as texts; `verdict` is open unless the interval settles it."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "note", "n_pairs")},
        "reached": f"{row['n_baseline_reached']} → {row['n_arm_reached']}",
        "sooner": f"{row['n_arm_sooner']} : {row['n_baseline_sooner']}",
        "fewer": _with_interval(row, "fewer_steps_percent", "{:+.1f}%"),
        "faster": _with_interval(row, "faster_by_percent", "{:+.1f}%"),
        "flops": _with_interval(row, "flops_ratio", "{:.2f}"),
        "seconds": _with_interval(row, "seconds_ratio", "{:.2f}"),
        "verdict": _verdict(row, "steps_ratio", neutral=1.0),
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
        "median": censored if math.isnan(median) else _number(median),
        "quartiles": "" if math.isnan(q25) else f"{_number(q25)} to {'late' if math.isnan(q75) else _number(q75)}",
        "range": " to ".join(_number(row[name]) for name in ("min_step", "max_step")) if row["n_reached"] else NONE,
        "restricted": _number(row["restricted_mean_steps"]),
        "flops": _number(row["median_flops"], "{:.2e}"),
        "seconds": _number(row["median_seconds"], "{:,.1f}"),
    }


def score(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of scores as texts: pairs of a number and what stands small below it."""
    low, high = row["final_val_accuracy_min"], row["final_val_accuracy_max"]
    step = row["best_val_loss_step"]
    return {
        **{name: row[name] for name in ("task", "variant", "arm")},
        "runs": (str(row["n_seeds"]), f"{row['n_diverged']} diverged" if row["n_diverged"] else ""),
        "accuracy": (_share(row["final_val_accuracy"]), "" if math.isnan(low) else f"{_share(low)} to {_share(high)}"),
        "loss": (_share(row["final_val_loss"]), ""),
        "best": (_share(row["best_val_loss"]), "" if math.isnan(step) else f"step {step:,.0f}"),
        "test": (_share(row["test_accuracy"]), f"loss {_share(row['test_loss'])}"),
        **{
            name: (_share(row[f"{name}_accuracy"]), f"loss {_share(row[f'{name}_loss'])}")
            for name in ("commonest", "bigram")
        },
        "targets": (_number(row["n_targets"]), ""),
    }


def choice(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of selections as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "baseline", "n_arms", "n_pairs", "note")},
        "selected": [part.replace(" x ", " × ") for part in row["selected"].split(", ")],
        "procedure": PROCEDURES[row["procedure"]],
        "on_validation": _number(row["val_steps_ratio"], "{:.2f}"),
        "steps": _with_interval(row, "test_steps_ratio", "{:.2f}"),
        "accuracy": _with_interval(row, "test_accuracy_difference", "{:+.4f}"),
        "loss": _with_interval(row, "test_loss_difference", "{:+.3f}"),
        "verdict": _verdict(row, "test_steps_ratio", neutral=1.0),
    }


def score_effect(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of differences in scores as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "n_pairs", "note")},
        "accuracy": _with_interval(row, "final_val_accuracy_difference", "{:+.4f}"),
        "loss": _with_interval(row, "best_val_loss_difference", "{:+.3f}"),
        "verdict": _verdict({**row, "n_pairs": row["n_compared"]}, "best_val_loss_difference"),
    }


def lead(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of leads as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "note")},
        "defined": f"{row['n_defined']} / {row['n_runs']}",
        "order": f"{row['n_stability_first']} : {row['n_together']} : {row['n_loss_first']}",
        "stability": _number(row["median_stability_onset_step"]),
        "loss": _number(row["median_loss_onset_step"]),
        "lead": _with_interval(row, "mean_lead_steps", "{:+,.0f}"),
        "resolution": f"{row['resolution_steps']:,}",
        "settled": _settled(row, "mean_lead_steps", pairs="n_defined") != 0,
    }


def rank(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of early ranks as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "group", "note")},
        "runs": (str(row["n_runs"]), f"{row['n_seeds']} seeds"),
        "step": f"{row['early_step']:,}",
        "stability": _with_interval(row, "rank_by_stability", "{:+.2f}"),
        "loss": _with_interval(row, "rank_by_val_loss", "{:+.2f}"),
    }


def grid_row(cell: dict[str, Any]) -> dict[str, str]:
    """A cell of the grid as it was asked for."""
    arm = cell["arm_settings"]
    names = {"rho": "ρ", "gamma": "γ", "orientation": "S"}
    data = cell.get("settings", {}).get("data", {})
    return {
        **{name: cell[name] for name in ("task", "variant", "arm")},
        "settings": ", ".join(f"{names[name]} = {arm[name]:g}" for name in names if arm.get(name) is not None) or NONE,
        "data": ", ".join(f"{name} {value}" for name, value in data.items()) or NONE,
        "target": target(cell["target"]),
        "budget": f"{cell['budget_steps']:,}",
        "seeds": ", ".join(str(seed) for seed in cell["seeds"]),
    }


def target(asked: dict[str, Any]) -> str:
    """A target as a phrase, like `validation accuracy ≥ 0.95`."""
    metric = style.metric_label(asked["metric"]).replace(" (nats)", "").replace("\n", " ")
    return f"{metric} {'≤' if is_loss(asked['metric']) else '≥'} {asked['threshold']:g}"


def _settled(row: dict[str, Any], name: str, neutral: float = 0.0, pairs: str = "n_pairs") -> int:
    """`comparison.settles` of an estimate of the row."""
    return comparison.settles(row[f"{name}_low"], row[f"{name}_high"], row[pairs], row["confidence"], neutral)


def _verdict(row: dict[str, Any], name: str, neutral: float = 0.0) -> str:
    """`fewer` or `more` where the interval of an estimate settles it, else `open`."""
    return {-1: "fewer", 0: "open", 1: "more"}[_settled(row, name, neutral)]


def _with_interval(row: dict[str, Any], name: str, form: str) -> tuple[str, str]:
    """An estimate and, where there is one, its interval."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    interval = f"{_number(low, form)} to {_number(high, form)}" if math.isfinite(low) else ""
    return _number(value, form), interval


def _share(value: float) -> str:
    return _number(value, "{:.3f}")


def _number(value: float, form: str = "{:,.0f}") -> str:
    """A number as text; a dash for NaN."""
    return NONE if math.isnan(value) else form.format(value).replace("-", "−")


def formula(points: pd.DataFrame) -> dict[str, str]:
    """How a formula fits its simulated points (rows of theory_records.THEORY), as texts."""
    worst = points.loc[points["difference"].abs().idxmax()]
    spread = points["z"].dropna().abs()
    return {
        "points": str(len(points)),
        "difference": f"{worst['difference']:+.2g}" if worst["difference"] else "0",
        "where": f"{worst['series']}, at {worst['x']:g}",
        "z": _errors(spread.median()) if len(spread) else NONE,
        "largest_z": _errors(spread.max()) if len(spread) else NONE,
    }


def _errors(z: float) -> str:
    """A difference in standard errors."""
    return f"{z:.1f}" if z < 1000 else "over 1,000"


def bounds(points: pd.DataFrame) -> dict[str, Any]:
    """How tight a method's bounds are on simulated points (rows of theory_records.THEORY), as texts.

    A bound counts as held where the simulated value is within it, or outside by at most four standard
    errors. Ratios are those of the mean moment after the first attention and after the last ReLU layer.
    """
    known = points[points["theory"].notna()]
    sign = known["status"].map({"lower": 1, "upper": -1})
    held = sign * known["difference"] >= -4 * known["standard_error"]
    last = points["x"].max()
    return {
        "held": f"{int(held.sum())} of {len(points)}",
        "first": [_tightness(points, "attention", 1.0, status) for status in ("lower", "upper")],
        "last": [_tightness(points, "MLP", last, status) for status in ("lower", "upper")],
    }


def _tightness(points: pd.DataFrame, part: str, layer: float, status: str) -> str:
    """A bound on the mean moment after a part of a layer, as a multiple of the simulated value."""
    series = readings.entry_moments(part, "mean")
    ratio = points.loc[
        (points["series"] == series) & (points["x"] == layer) & (points["status"] == status), "ratio"
    ].dropna()
    return f"{ratio.iloc[0]:.3g}".replace("inf", "∞") if len(ratio) else NONE
