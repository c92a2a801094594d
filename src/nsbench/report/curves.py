"""The report's section of curves that one can explore: validation accuracy, losses and stability of every run."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import math
import pkgutil
from typing import Any

import numpy as np
import pandas as pd

from nsbench.config.cells import by_variant
from nsbench.figures import comparison, style
from nsbench.figures.curves import arm_entries, is_loss, median_of
from nsbench.storage.parquet import RecordError

CELL = ["task", "variant", "arm"]
METRICS = ("val_accuracy", "val_loss", "train_accuracy", "train_loss", "stability")
"""Columns of HISTORY that can be shown, besides those of the targets."""
MOST_EVALUATIONS = 100_000
"""Evaluations that the page holds in all: of more, each run's are thinned alike."""
DIGITS = 4
DARK_PAGE, CONTRAST = "#15191D", 5.0
"""The page's dark background (page.css.j2), and how much colours on it stand out: WCAG's contrast ratio."""
DASHES = dict(zip(map(str, style.DASHES), ("solid", "dash", "dot", "dashdot"), strict=True))
"""Line style of matplotlib, as text, -> the same of plotly."""


def section(
    cells: list[dict[str, Any]], history: pd.DataFrame, times: pd.DataFrame, selections: pd.DataFrame
) -> dict[str, Any]:
    """The curves of a grid's runs and plotly.js, which draws them, as compressed texts; empty without runs.

    history: `schemas.training.HISTORY`; times: TIME_TO_TARGET; selections: of a sweep the arm that is shown at first.
    """
    if history.empty:
        return {}
    metrics = list(dict.fromkeys([*METRICS, *(cell["target"]["metric"] for cell in cells)]))
    runs_of, times_of = (dict(iter(table.groupby(CELL, sort=False))) for table in (history, times))
    every = max(1, math.ceil(len(history) / MOST_EVALUATIONS))
    groups, variants = by_variant([cell for cell in cells if comparison.key(cell) in runs_of]), []
    for (task, variant), group in groups.items():
        here = pd.concat([times_of[comparison.key(cell)] for cell in group])
        shown, entries = {cell["arm"] for cell in comparison.shown(group, selections)}, arm_entries(group, here)
        arms = []
        for cell, dashes, entry in zip(group, style.arm_dashes(group), entries, strict=True):
            colour, name = style.arm_colour(cell["arm_settings"]), cell["arm"]
            reached = " ".join(entry.get_label().removeprefix(f"{name}:").split())
            about = {"name": name, "label": style.arm_text(cell), "reached": reached, "shown": name in shown}
            look = {"colour": colour, "dark": on_dark(colour), "dash": DASHES[str(dashes)]}
            key = comparison.key(cell)
            arms.append(about | look | _runs(runs_of[key], times_of[key], metrics, cell["seeds"], every))
        leaks = [style.LEAK + leak for leak in group[0].get("leaks", [])]
        about = {"leaks": leaks, "budget": group[0]["budget_steps"], **group[0]["target"]}
        variants.append({"task": task, "variant": variant, **about, "arms": arms})
    data = {"metrics": {name: _about(name) for name in metrics}, "variants": variants}
    return {
        "names": [(variant["task"], variant["variant"]) for variant in variants],
        "data": packed(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()),
        "plotly": plotly(),
        "thinned": every,
    }


@functools.cache
def plotly() -> str:
    """plotly.js (MIT licence), of the package's file alone: to import what draws in Python takes a second.

    Raises RecordError where the package is not installed.
    """
    try:
        source = pkgutil.get_data("plotly", "package_data/plotly.min.js")
    except ModuleNotFoundError:
        source = None
    if source is None:
        raise RecordError("plotly is not installed; install nsbench with its extra `workflow`")
    return packed(source)


def on_dark(colour: str) -> str:
    """A colour `#RRGGBB` for the dark page: mixed with white until it stands out from DARK_PAGE."""
    least = CONTRAST * (_luminance(_rgb(DARK_PAGE)) + 0.05) - 0.05
    mixed = ((1 - share) * _rgb(colour) + share for share in np.linspace(0, 1, 21))
    found = next(rgb for rgb in mixed if _luminance(rgb) >= least)
    return "#" + "".join(f"{round(255 * part):02X}" for part in found)


def _rgb(colour: str) -> np.ndarray:
    """Red, green and blue, from 0 to 1."""
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def _luminance(rgb: np.ndarray) -> float:
    """Relative luminance, by WCAG 2."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def packed(data: bytes) -> str:
    """Bytes as the page holds them, the same text each time; `unpacked` of page.js.j2 reads it."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _about(metric: str) -> dict[str, Any]:
    named = {"stability": "noise stability at ρ = ½ (Definition 6.1)"}
    label = named.get(metric) or style.metric_label(metric).replace("\n", " ")
    return {"label": label[:1].upper() + label[1:], "loss": is_loss(metric)}


def _runs(rows: pd.DataFrame, times: pd.DataFrame, metrics: list[str], seeds: list[int], every: int) -> dict[str, Any]:
    """A cell's steps, seeds, times to target, and of each metric its curves and their median, as in the figures."""
    table = rows.pivot(index="step", columns="seed", values=metrics)
    # The last evaluation stays whatever is left out.
    kept = sorted({*range(0, len(table), every), len(table) - 1})
    found: dict[str, Any] = {"steps": table.index[kept].tolist(), "seeds": seeds, "curves": {}, "median": {}}
    for metric in metrics:
        curves = table[metric].reindex(columns=seeds)
        if curves.notna().to_numpy().any():
            # Where runs were stopped it ends with the first of them.
            median = median_of(curves, times, metric).reindex(curves.index)
            found["curves"][metric] = _rounded(curves.to_numpy(float)[kept].T)
            found["median"][metric] = _rounded(median.to_numpy(float)[kept])
    reached = times.set_index("seed")["step"].reindex(seeds).to_numpy(float)
    return found | {"times": _rounded(reached, digits=9)}


def _rounded(values: np.ndarray, digits: int = DIGITS) -> list[Any]:
    """Numbers with few digits, None for what is none."""
    sizes = np.abs(np.where(np.isfinite(values) & (values != 0), values, 1.0))
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(sizes)))
    return np.where(np.isfinite(values), np.round(values * scale) / scale, None).tolist()
