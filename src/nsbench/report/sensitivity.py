"""The report's section on sensitivity: models and arms at matched points of training, and what ranks them alike."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nsbench.analysis.matched import TRAIN_ACCURACY
from nsbench.analysis.matched_effects import PRIMARY, first_law
from nsbench.config.wording import NONE
from nsbench.data.tasks import TASKS
from nsbench.figures.architectures import law_text
from nsbench.report.pictures import Pictures
from nsbench.report.tables import (
    DIRECTIONS,
    Cell,
    Column,
    Record,
    Table,
    confidence,
    labels,
    number,
    ratio,
    row_of,
    settled,
    table,
)
from nsbench.schemas.matched import MATCHINGS, RATIO

FIGURES = (
    "sensitivity_by_architecture",
    "sensitivity_by_train_accuracy",
    "sensitivity_laws",
    "sensitivity_robustness",
    "two_by_two",
    "rank_agreement",
)
COMPARED = ["variant", "arm", "reference_variant", "reference_arm"]
STATISTICS = {
    "tau": "Kendall's tau of variants",
    "rho": "Spearman's rho of runs",
    "partial": "partial rho, given clean accuracy",
}
RANKED = {
    "sensitivity": "sensitivity S",
    "corrupted_accuracy": "accuracy on corrupted images",
    "weight_flips": "flips under noise on weights",
}
WEIGHTS = "absolute"
"""Scale of the noise on weights that is shown."""


def section(tables: dict[str, pd.DataFrame], cells: list[dict[str, Any]], pictures: Pictures) -> dict[str, Any]:
    """Comparisons, their laws and the rankings of each task in which models or arms are compared by sensitivity, as
    texts, with the task's figures; empty without any. `tables`: `matched_effect` and `rank_agreement`, by name."""
    effects, ranks = tables["matched_effect"], tables["rank_agreement"]
    found = []
    for task in dict.fromkeys(cell["task"] for cell in cells):
        rows = effects[effects["task"] == task]
        law = first_law(rows, task)
        if not law or not (rows["role"] == PRIMARY).any():
            continue
        found.append(
            {
                "title": TASKS[task].title,
                "figures": pictures.take(*(f"{name}_{task}" for name in FIGURES)),
                "law": law_text(law),
                "compared": _compared(rows, law),
                "laws": _by_law(rows),
                "ranks": table(RANKS, _ranks(ranks[ranks["task"] == task], law)),
            }
        )
    shown = effects[effects["task"].isin({cell["task"] for cell in cells})]
    said = {"confidence": confidence(shown), "threshold": f"{100 * TRAIN_ACCURACY:g}%"}
    return {"tasks": found, **said} if found else {}


def _compared(rows: pd.DataFrame, law: str) -> Table:
    """A row for each comparison: sensitivity under the first law at each matching, robustness and sharpness."""
    made = []
    for names, own in rows.groupby(COMPARED, sort=False):
        record = dict(zip(COMPARED, names, strict=True)) | {"own": own, "law": law}
        note = "; ".join(own.loc[own["role"] == PRIMARY, "note"].unique())
        made.append(row_of(EFFECTS, record | {"note": note}))
    return Table(EFFECTS, made, labels=labels(rows))


def _by_law(rows: pd.DataFrame) -> Table:
    """A row for each comparison and law: sensitivity on training and on test inputs, at two matchings."""
    made = []
    for (*names, law), own in rows[rows["quantity"] == "sensitivity"].groupby([*COMPARED, "law"], sort=False):
        record = dict(zip(COMPARED, names, strict=True)) | {"own": own, "law": law}
        made.append(row_of(LAWS, record))
    return Table(LAWS, made)


def _ranks(rows: pd.DataFrame, law: str) -> list[Record]:
    """The correlations over baselines that claims are judged by: at the end, on training inputs, first law."""
    chosen = (rows["law"] == law) & (rows["split"] == "train") & (rows["matching"] == "end")
    rows = rows[chosen & (rows["group"] == "baselines")]
    is_shown = rows["against"].isin(list(RANKED)) & (
        (rows["against"] != "weight_flips") | (rows["against_law"] == WEIGHTS)
    )
    return rows[is_shown].to_dict("records")


def _effect(quantity: str, split: str, matching: str, law: str | None = None, good: int = -1) -> Any:
    """Makes a field of a comparison: its effect on a quantity; good: 1 where more is better, and is coloured so."""

    def field(row: Record) -> str | Cell:
        own, of_law = row["own"], row["law"] if law is None else law
        chosen = (own["quantity"] == quantity) & (own["split"] == split) & (own["matching"] == matching)
        rows = own[chosen & (own["law"] == of_law)].to_dict("records")
        if not rows:
            return NONE
        is_ratio = rows[0]["scale"] == RATIO
        first, *small = ratio(rows[0], "effect") if is_ratio else _points(rows[0])
        side = -good * settled(rows[0], "effect", 1.0 if is_ratio else 0.0)
        return Cell(first, tuple(line for line in small if NONE not in line), DIRECTIONS[side] if side else "")

    return field


def _points(row: Record) -> tuple[str, str]:
    """A difference of accuracies in percentage points, and its interval."""
    value, low, high = (number(100 * row[f"effect{end}"], "+.1f") for end in ("", "_low", "_high"))
    return value, f"{low} to {high}"


def _what(row: Record) -> str:
    if row["quantity"] == "sensitivity":
        return "sensitivity S"
    return f"flips, {100 * row['kept']:g}% of tokens kept"


MODEL = Column(
    "model / arm|against",
    lambda row: (f"{row['variant']} / {row['arm']}", f"{row['reference_variant']} / {row['reference_arm']}"),
    "name",
    True,
)
EFFECTS = [
    MODEL,
    Column("pairs", lambda row: str(row["own"]["n_pairs"].iloc[0])),
    *(Column(f"sensitivity|{text}", _effect("sensitivity", "train", name)) for name, text in MATCHINGS.items()),
    Column("corrupted accuracy|points more", _effect("corrupted_accuracy", "test", "end", "", good=1)),
    Column("weight noise|flips", _effect("weight_flips", "train", "end", WEIGHTS)),
]
LAWS = [
    MODEL,
    Column("law", lambda row: law_text(row["law"]), "what"),
    *(
        Column(f"{split} inputs|{MATCHINGS[name]}", _effect("sensitivity", split, name))
        for name in ("end", "train_accuracy")
        for split in ("train", "test")
    ),
]
RANKS = [
    Column(
        "measure|ranked beside", lambda row: (_what(row), RANKED.get(row["against"], "sensitivity S")), "name", True
    ),
    Column("statistic", lambda row: STATISTICS[row["statistic"]], "what"),
    Column("runs", "{n_runs}"),
    Column("correlation", "{rank:.2f} ±"),
    Column("of medians", "{rank_of_medians:.2f}"),
    Column("beyond that|of sensitivity", "{beyond:+.2f} ±"),
]
