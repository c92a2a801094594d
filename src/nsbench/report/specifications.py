"""The report's section on specification curves: in how many settings the regulariser helps, and in which."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from markupsafe import Markup

from nsbench.figures.specification_curve import choice_text, level_text
from nsbench.figures.style import LEAK
from nsbench.report.claims import CURVE
from nsbench.report.pictures import Pictures
from nsbench.report.tables import PAIRS, REACHED, Column, Record, Table, confidence, labels, row_of

CLASSES = {"helps": "fewer", "hurts": "more"}
"""Effect of a specification -> the class that colours its row."""


def section(tables: dict[str, pd.DataFrame], cells: list[dict[str, Any]], pictures: Pictures) -> dict[str, Any]:
    """Shares and single specifications by task, as texts, with each task's figure; empty without any.

    `tables`: `specification_share` and `specification` of the analysis, by name.
    """
    shares, single = tables["specification_share"], tables["specification"]
    # Those that count first, then by the ratio of steps, which the figure shows in the same order.
    order = ["arm", "counts", "steps_ratio"]
    ordered = single.sort_values(order, ascending=[True, False, True], kind="stable")
    found = [
        {
            "title": task.replace("_", " ").capitalize(),
            "shares": _table(SHARES, shares[shares["task"] == task]),
            "single": _table(SINGLE, ordered[ordered["task"] == task]),
            "figures": pictures.take(f"{CURVE}{task}"),
        }
        for task in dict.fromkeys(cell["task"] for cell in cells)
        if task in {*shares["task"], *single["task"]}
    ]
    return {"tasks": found, "confidence": confidence(shares), "labels": labels(single)} if found else {}


def _table(columns: list[Column], results: pd.DataFrame) -> Table:
    rows = []
    for row in results.to_dict("records"):
        css = CLASSES.get(row["effect"], "open") if "effect" in row else ""
        rows.append(row_of(columns, row, css, [LEAK + leak for leak in row["leaks"].split("; ") if leak]))
    return Table(columns, rows)


def _bar(row: Record) -> str:
    """How many of the counted specifications help, are open and hurt."""
    counts = {name: row[f"n_{name}"] for name in ("helps", "open", "hurts") if row[f"n_{name}"]}
    part = Markup('<span class="{}" style="flex-grow:{}"></span>')
    return Markup('<div class="shares" role="img" aria-label="{}">{}</div>').format(
        ", ".join(f"{count} {name}" for name, count in counts.items()),
        Markup().join(part.format(name, count) for name, count in counts.items()),
    )


def _specification(row: Record) -> tuple[str, ...]:
    choices = json.loads(row["choices"] or "{}").items()
    phrases = ", ".join(f"{choice_text(field)} {level_text(level)}" for field, level in choices)
    return row["variant"], "the curve's base" * row["base"], phrases


def _counted(head: str, form: Any, css: str = "n") -> Column:
    """A column of what is counted; a dash where nothing is."""
    return Column(head, form, css).where(lambda row: row["n_counted"])


SHARES = [
    Column("arm", "{arm}|curve of {curve}", "name", True),
    Column("counted|specifications", "{n_counted} of {n_specifications}"),
    _counted("helps, open, hurts", _bar, ""),
    _counted("helps|share, Wilson", "{n_helps} of {n_counted}|{share_helps_low:.0%} to {share_helps_high:.0%}"),
    _counted("hurts", "{n_hurts} of {n_counted}"),
    _counted("open", "{n_open} of {n_counted}"),
    Column("steps ratio|median, range", "{median_steps_ratio:.2f}|{min_steps_ratio:.2f} to {max_steps_ratio:.2f}"),
]
SINGLE = [
    Column("specification", _specification, "choices", True),
    Column("arm", "{arm}|against {baseline}", "name"),
    PAIRS,
    REACHED,
    Column("steps|arm / baseline", "{steps_ratio:.2f} ±", "n effect"),
    Column("FLOPs|arm / baseline", "{flops_ratio:.2f} ±"),
    Column("p", "{p_value:p}"),
    Column("effect", "{effect}", "name"),
]
