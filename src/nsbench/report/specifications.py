"""The report's section on specification curves: in how many settings the regulariser helps, and in which."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from markupsafe import Markup

from nsbench.figures.curves import LEAK
from nsbench.figures.specification_curve import choice_text, level_text
from nsbench.report.claims import CURVE
from nsbench.report.pictures import Pictures
from nsbench.report.tables import NONE, PAIRS, REACHED, Column, Record, Table, confidence, labels, row_of

CLASSES = {"helps": "fewer", "hurts": "more"}
"""Effect of a specification -> the class that colours its row."""


def section(
    shares: pd.DataFrame, specifications: pd.DataFrame, cells: list[dict[str, Any]], pictures: Pictures
) -> dict[str, Any]:
    """Shares and single specifications by task, as texts, with each task's figure; empty without any.

    `shares` and `specifications` are those of specifications.SPECIFICATION_SHARE and SPECIFICATION.
    """
    # Those that count first, then by the ratio of steps, which the figure shows in the same order.
    order = ["arm", "counts", "steps_ratio"]
    single = specifications.sort_values(order, ascending=[True, False, True], kind="stable")
    found = [
        {
            "title": task.replace("_", " ").capitalize(),
            "shares": _table(SHARES, shares[shares["task"] == task]),
            "single": _table(SINGLE, single[single["task"] == task]),
            "figures": pictures.take(f"{CURVE}{task}"),
        }
        for task in dict.fromkeys(cell["task"] for cell in cells)
        if task in {*shares["task"], *specifications["task"]}
    ]
    return {"tasks": found, "confidence": confidence(shares), "labels": labels(specifications)} if found else {}


def _table(columns: list[Column], results: pd.DataFrame) -> Table:
    rows = [
        row_of(
            columns,
            row,
            CLASSES.get(row["effect"], "open") if "effect" in row else "",
            [LEAK + leak for leak in row["leaks"].split("; ") if leak],
        )
        for row in results.to_dict("records")
    ]
    return Table(columns, rows)


def _bar(row: Record) -> str:
    """How many of the counted specifications help, are open and hurt."""
    counts = {name: row[f"n_{name}"] for name in ("helps", "open", "hurts") if row[f"n_{name}"]}
    if not row["n_counted"]:
        return NONE
    part = Markup('<span class="{}" style="flex-grow:{}"></span>')
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Markup('<div class="shares" role="img" aria-label="{}">{}</div>').format(
        told, Markup().join(part.format(name, count) for name, count in counts.items())
    )


def _of_counted(head: str, form: str) -> Column:
    """A column of what is counted; a dash where nothing is."""
    column = Column(head, form)
    return column._replace(form=lambda row: column.cell(row) if row["n_counted"] else NONE)


def _specification(row: Record) -> tuple[str, ...]:
    return row["variant"], "the curve's base" * row["base"], ", ".join(choices(row["choices"]))


def choices(text: str) -> list[str]:
    """Canonical JSON of a specification's choices as phrases: `norm pre`."""
    return [f"{choice_text(field)} {level_text(level)}" for field, level in json.loads(text or "{}").items()]


SHARES = [
    Column("arm", "{arm}|curve of {curve}", "name", True),
    Column("counted|specifications", "{n_counted} of {n_specifications}"),
    Column("helps, open, hurts", _bar, ""),
    _of_counted("helps|share, Wilson", "{n_helps} of {n_counted}|{share_helps_low:.0%} to {share_helps_high:.0%}"),
    _of_counted("hurts", "{n_hurts} of {n_counted}"),
    _of_counted("open", "{n_open} of {n_counted}"),
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
