"""The report: one self-contained HTML page with figures, tables, rules and provenance.

No script, nothing loaded from elsewhere, no date: the same results give the same page.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nsbench import provenance
from nsbench.figures.captions import caption
from nsbench.records import HISTORY, RUNS, read_stamp, read_table, write_text
from nsbench.statistics import CELL_SUMMARY, PAIRED_EFFECT, coverage_of_range

TEMPLATE = Path(__file__).with_name("report.html.j2")
NONE = "–"
SIGNS = {"val_accuracy": ("validation accuracy", "≥"), "val_loss": ("validation loss", "≤")}


def write_report(
    out: Path | str,
    figures: list[Path],
    tables_folder: Path | str,
    collected_folder: Path | str,
    cells: list[dict[str, Any]],
    scale: str,
    spec: str,
    digest: str,
) -> None:
    """Write the page to `out`, whole or not at all, with the PNG `figures` in the order given.

    Reads `cells` and `paired_effect` of the tables, `history` and `runs` of the collected records.
    Raises records.RecordError for a missing table, FileNotFoundError for a missing figure.
    """
    tables, collected = Path(tables_folder), Path(collected_folder)
    summary = read_table(tables / "cells.parquet", CELL_SUMMARY)
    effects = read_table(tables / "paired_effect.parquet", PAIRED_EFFECT)
    runs = read_table(collected / "runs.parquet", RUNS)
    history = read_table(collected / "history.parquet", HISTORY)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        scale=scale,
        overview=_overview(cells, runs, history),
        effects=[_effect(row) for row in effects.to_dict("records")],
        effects_confidence=_percent(effects["confidence"].iloc[0]) if len(effects) else "",
        summary=[_summary(row) for row in summary.to_dict("records")],
        grid=[_grid_row(cell) for cell in cells],
        targets=_targets(cells),
        figures=[_figure(Path(path)) for path in figures],
        provenance=_provenance(provenance.stamp(spec, digest), read_stamp(collected / "runs.parquet"), runs),
        spec=spec,
    )
    write_text(out, page)


def _overview(cells: list[dict[str, Any]], runs: pd.DataFrame, history: pd.DataFrame) -> list[tuple[str, str]]:
    """The page's key numbers: (number, what it counts)."""
    diverged = int((runs["status"] == "diverged").sum())
    hours = runs["seconds"].sum() / 3600
    return [
        (f"{len({(cell['task'], cell['variant']) for cell in cells})}", "variants of tasks"),
        (f"{len(cells)}", "cells (task × variant × arm)"),
        (f"{sum(len(cell['seeds']) for cell in cells)}", "runs in the grid"),
        (f"{diverged}", "of them diverged"),
        (f"{len(history):,}", "evaluations"),
        (f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min", "in training steps, over all runs"),
    ]


def _effect(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the effects table as texts; `verdict` is open unless the interval settles it."""
    low, high = row["steps_ratio_low"], row["steps_ratio_high"]
    known = math.isfinite(low) and math.isfinite(high) and coverage_of_range(row["n_pairs"]) >= row["confidence"]
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline", "note", "n_pairs")},
        "reached": f"{row['n_baseline_reached']} → {row['n_arm_reached']}",
        "sooner": f"{row['n_arm_sooner']} : {row['n_baseline_sooner']}",
        "fewer": _with_interval(row, "fewer_steps_percent", "{:+.1f}%"),
        "faster": _with_interval(row, "faster_by_percent", "{:+.1f}%"),
        "flops": _with_interval(row, "flops_ratio", "{:.2f}"),
        "seconds": _with_interval(row, "seconds_ratio", "{:.2f}"),
        "verdict": "fewer" if known and high < 1 else "more" if known and low > 1 else "open",
    }


def _with_interval(row: dict[str, Any], name: str, form: str) -> tuple[str, str]:
    """An estimate and, where there is one, its interval."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    interval = f"{_number(low, form)} to {_number(high, form)}" if math.isfinite(low) else ""
    return _number(value, form), interval


def _number(value: float, form: str = "{:,.0f}") -> str:
    """A number as text; a dash for NaN."""
    return NONE if math.isnan(value) else form.format(value).replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _summary(row: dict[str, Any]) -> dict[str, str]:
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


def _grid_row(cell: dict[str, Any]) -> dict[str, str]:
    """A cell of the grid as it was asked for."""
    arm = cell["arm_settings"]
    names = {"rho": "ρ", "gamma": "γ", "orientation": "S"}
    metric, sign = SIGNS[cell["target"]["metric"]]
    data = cell.get("settings", {}).get("data", {})
    return {
        **{name: cell[name] for name in ("task", "variant", "arm")},
        "settings": ", ".join(f"{names[name]} = {arm[name]:g}" for name in names if arm.get(name) is not None) or NONE,
        "data": ", ".join(f"{name} {value}" for name, value in data.items()) or NONE,
        "target": f"{metric} {sign} {cell['target']['threshold']:g}",
        "budget": f"{cell['budget_steps']:,}",
        "seeds": ", ".join(str(seed) for seed in cell["seeds"]),
    }


def _targets(cells: list[dict[str, Any]]) -> list[str]:
    """Each distinct target of the grid as a phrase, in grid order."""
    phrases = []
    for cell in cells:
        target = cell["target"]
        metric, sign = SIGNS[target["metric"]]
        hold = target["hold_evaluations"]
        held = f"held for {hold} evaluations in a row" if hold > 1 else "at one evaluation"
        phrases.append(f"{cell['task']} / {cell['variant']}: {metric} {sign} {target['threshold']:g}, {held}")
    return list(dict.fromkeys(phrases))


def _figure(path: Path) -> dict[str, str]:
    """A figure with its caption, its image as base64 text."""
    title, text = caption(path.stem)
    return {"name": path.stem, "title": title, "caption": text, "data": base64.b64encode(path.read_bytes()).decode()}


def _provenance(made: dict[str, str], collected: dict[str, str], runs: pd.DataFrame) -> list[tuple[str, str]]:
    """(what, value) of everything that identifies code, software and machines."""
    devices = runs["device"].value_counts(sort=False)
    rows = [
        ("commit of this page", made["commit"]),
        ("commit of the collected records", collected.get("commit", "unknown")),
        ("source digest of this page", made["source_digest"]),
        ("source digest of the collected records", collected.get("source_digest", "unknown")),
        ("devices of training", "; ".join(f"{name}: {n} runs" for name, n in devices.items())),
        ("runs", f"{len(runs)} collected, {int((runs['status'] == 'diverged').sum())} diverged"),
        ("python", made["python"]),
    ]
    versions = [(key.removeprefix("version_"), value) for key, value in made.items() if key.startswith("version_")]
    return rows + versions
