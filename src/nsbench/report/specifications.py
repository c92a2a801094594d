"""The report's section on specification curves: what the regulariser does on average over settings, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
from markupsafe import Markup

from nsbench.figures.specification_panels import choice_text, level_text, mattering, matters
from nsbench.figures.style import LEAK
from nsbench.report.claims import CURVE
from nsbench.report.pictures import Pictures
from nsbench.report.tables import (
    DIRECTIONS,
    PAIRS,
    REACHED,
    Column,
    Record,
    Table,
    confidence,
    labels,
    ratio,
    row_of,
    settled,
)

CLASSES = {"helps": "fewer", "hurts": "more"}
"""Effect of a specification -> the class that colours its row."""


def section(tables: dict[str, pd.DataFrame], cells: list[dict[str, Any]], pictures: Pictures) -> dict[str, Any]:
    """Pooled ratios, choices and single specifications by task, as texts, with each task's figure; empty without any.

    `tables`: `specification_curve`, `specification_choice` and `specification` of the analysis, by name.
    """
    curves, choices, single = (tables[f"specification{name}"] for name in ("_curve", "_choice", ""))
    answers = {key: rows.to_dict("records") for key, rows in choices.groupby(["task", "curve", "arm"])}
    keys = zip(curves["task"], curves["curve"], curves["arm"], strict=True)
    curves = curves.assign(mattering=[mattering(answers.get(key, [])) for key in keys])
    # Those that count first, then by the ratio of steps, which the figure shows in the same order.
    order = ["arm", "counts", "steps_ratio"]
    ordered = single.sort_values(order, ascending=[True, False, True], kind="stable")
    found = [
        {
            "title": task.replace("_", " ").capitalize(),
            "pooled": _table(POOLED, curves[curves["task"] == task], _side),
            "choices": _table(CHOICES, choices[choices["task"] == task], _side_that_matters),
            "single": _table(SINGLE, ordered[ordered["task"] == task], lambda row: CLASSES.get(row["effect"], "open")),
            "figures": pictures.take(f"{CURVE}{task}"),
        }
        for task in dict.fromkeys(cell["task"] for cell in cells)
        if task in {*curves["task"], *single["task"]}
    ]
    shared = {
        "confidence": confidence(curves),
        "false": f"{1 - curves['confidence'].max():.2g}",
        "labels": labels(single),
    }
    return {"tasks": found, **shared} if found else {}


def _table(columns: list[Column], results: pd.DataFrame, css: Callable[[Record], str]) -> Table:
    rows = []
    for row in results.to_dict("records"):
        rows.append(row_of(columns, row, css(row), [LEAK + leak for leak in row["leaks"].split("; ") if leak]))
    return Table(columns, rows)


def _side(row: Record) -> str:
    """The class of a row by its pooled interval."""
    return DIRECTIONS[settled(row, "steps_ratio", 1.0)]


def _side_that_matters(row: Record) -> str:
    """The class of an answer's row: only of choices that matter is a side told."""
    return _side(row) if matters(row) else "open"


def _bar(row: Record) -> str:
    """How many of the counted specifications need fewer steps, are open and need more."""
    counts = {name: row[f"n_{name}"] for name in ("helps", "open", "hurts")}
    part = Markup('<span class="{}" style="flex-grow:{}"></span>')
    return Markup('{}<div class="shares" aria-hidden="true">{}</div>').format(
        ", ".join(map(str, counts.values())),
        Markup().join(part.format(name, count) for name, count in counts.items() if count),
    )


def _specification(row: Record) -> tuple[str, ...]:
    choices = json.loads(row["choices"] or "{}").items()
    phrases = ", ".join(f"{choice_text(field)} {level_text(level)}" for field, level in choices)
    return row["variant"], "the curve's base" * row["base"], phrases


def _counted(head: str, form: Any, css: str = "n") -> Column:
    """A column of what is counted; a dash where nothing is."""
    return Column(head, form, css).where(lambda row: row["n_counted"])


def _steps(row: Record) -> tuple[str, str]:
    return ratio(row, "steps_ratio")


POOLED = [
    Column("arm", "{arm}|curve of {curve}", "name", True),
    Column("counted|specifications", "{n_counted} of {n_specifications}"),
    Column("pooled ratio|of steps", _steps, "n effect"),
    _counted("a new setting|interval", "{new_steps_ratio_low:.2f} to {new_steps_ratio_high:.2f}"),
    _counted("spread|settings, seeds", "{sd_settings:.2f}, {sd_seeds:.2f}"),
    _counted("settings|least, largest", "{min_steps_ratio:.2f} to {max_steps_ratio:.2f}"),
    _counted("by their own pairs|fewer, open, more steps", _bar, ""),
    _counted("choices that matter", lambda row: row["mattering"] or "none is settled", "what"),
]
CHOICES = [
    Column("choice", lambda row: (choice_text(row["choice"]), row["arm"]), "name", True),
    Column("answer", lambda row: level_text(json.loads(row["level"])), "name"),
    Column("counted|specifications", "{n_specifications}"),
    Column("pooled ratio|of steps", _steps, "n effect"),
    Column("q|no difference", "{q_value:p}|p {p_value:p}"),
    Column("matters", lambda row: "yes" if matters(row) else "open", "name"),
]
SINGLE = [
    Column("specification", _specification, "choices", True),
    Column("arm", "{arm}|against {baseline}", "name"),
    PAIRS,
    REACHED,
    Column("steps|arm / baseline", _steps, "n effect"),
    Column("FLOPs|arm / baseline", lambda row: ratio(row, "flops_ratio")),
    Column("p", "{p_value:p}"),
    Column("effect", "{effect}", "name"),
]
