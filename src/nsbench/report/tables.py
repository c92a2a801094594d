"""The page's tables: columns as data, numbers as texts, and which rows stand open."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, NamedTuple

import pandas as pd

from nsbench.config.cells import by_variant
from nsbench.config.settled import settles
from nsbench.config.wording import NONE, SIGNS
from nsbench.figures import comparison, style
from nsbench.figures.style import LEAK

DIRECTIONS = {-1: "fewer", 0: "open", 1: "more"}
"""What an interval settles -> the class that colours it."""
Record = Mapping[str, Any]
"""A row of a table of results."""


# --- texts ----------------------------------------------------------------------------------------------


def number(value: float | None, form: str = ",.0f") -> str:
    """A number as text; a dash for NaN and None. form: of `format`."""
    if value is None or math.isnan(value):
        return NONE
    return format(value, form).replace("-", "−").replace("inf", "∞")


def probability(value: float | None) -> str:
    """A p-value as text."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, ".3f")


def ratio(row: Record, name: str) -> tuple[str, str]:
    """A ratio and its interval; where it has no value the bound that is known."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    at, side = style.bound(value, low, high)
    if side or math.isnan(low):
        return SIGNS[side] + _hundredths(at), ""
    if math.isinf(high):
        return _hundredths(value), f"{_hundredths(low)} or more" if low else "no bound"
    return _hundredths(value), f"{_hundredths(low)} to {_hundredths(high)}" if low else f"up to {_hundredths(high)}"


def _hundredths(value: float) -> str:
    """A ratio with two digits, and a third where it would else read as 1."""
    return number(value, ".3f" if f"{value:.2f}" == "1.00" else ".2f")


class _Texts(Formatter):
    """Formats numbers as `number` does, and with `p` as `probability` does."""

    def format_field(self, value: Any, form: str) -> str:
        if isinstance(value, str):
            return value
        return probability(value) if form == "p" else number(value, form or ",.0f")


def text(form: str, row: Record) -> str:
    """A text with the values of a row, like `{n_reached} of {n_seeds}`."""
    return _Texts().vformat(form, (), row)


def settled(row: Record, name: str, neutral: float = 0.0) -> int:
    """`config.settled.settles` of an estimate of the row."""
    ends = row[f"{name}_low"], row[f"{name}_high"]
    return settles(*ends, neutral, row.get("n_stopped", 0))


# --- tables ---------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """What stands in a field: a text, lines small below it where not empty, its class besides the column's."""

    text: str
    small: tuple[str, ...] = ()
    css: str = ""
    span: int = 1
    """Columns that it takes."""
    link: str = ""
    """The figure that it leads to."""


class Column(NamedTuple):
    """A column: its head, and how a row's field is made."""

    head: str
    """After `|` what stands small below it; so in `form`."""
    form: str | Callable[[Any], str | tuple[str, ...] | Cell]
    """For `text`, ending with ` ±` for an estimate with its interval; or a function of the row. A small line is left
    out where a number in it is missing."""
    css: str = "n"
    """Class of its fields: n for numbers, name for what is not broken."""
    bold: bool = False

    def cell(self, row: Any) -> Cell:
        """The field of a row."""
        if isinstance(self.form, str):
            first, *small = (text(part, row) for part in WITH_INTERVAL.sub(INTERVAL, self.form).split("|"))
            return Cell(first, tuple(line for line in small if NONE not in line))
        found = self.form(row)
        if isinstance(found, Cell):
            return found
        first, *small = (found,) if isinstance(found, str) else found
        return Cell(first, tuple(small))

    def where(self, holds: Callable[[Any], bool]) -> Column:
        """This column, with a dash in rows of which a condition does not hold."""
        return self._replace(form=lambda row: self.cell(row) if holds(row) else NONE)


def _where(row: Record) -> str:
    """The variant of a comparison, and its baseline where that has a name of its own."""
    return f"{row['task']} / {row['variant']}" + f", against {row['baseline']}" * (row["baseline"] != "baseline")


WITH_INTERVAL = re.compile(r"\{(\w+)(:[^}]*)?\}(%?) ±$")
INTERVAL = r"{\1\2}\3|{\1_low\2}\3 to {\1_high\2}\3"
ARM = Column("arm", "{arm}|{task} / {variant}", "name", True)
AGAINST = Column("arm|against the baseline", lambda row: (row["arm"], _where(row)), "name", True)
PAIRS = Column("pairs", "{n_pairs}")
REACHED = Column("reached|baseline → arm", "{n_baseline_reached} → {n_arm_reached}")


class Row(NamedTuple):
    """A row as its fields, with a note below it."""

    cells: list[Cell]
    css: str = ""
    note: str = ""
    leaks: Iterable[str] = ()
    """Stand in the first field."""


class Table(NamedTuple):
    """A table as texts."""

    columns: list[Column]
    rows: list[Row]
    folded: list[Row] = []  # noqa: RUF012
    """Rows that are folded away below the others."""
    of: str = ""
    """What is folded."""
    labels: list[str] = []  # noqa: RUF012
    """Lines below the table: texts that are not the paper's."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.folded)


def row_of(columns: list[Column], row: Record, css: str = "", leaks: Iterable[str] = ()) -> Row:
    """A row of results as one of the page."""
    return Row([column.cell(row) for column in columns], css, row.get("note", ""), leaks)


def table(columns: list[Column], rows: Iterable[Record]) -> Table:
    """A table all rows of which stand open."""
    return Table(columns, [row_of(columns, row) for row in rows])


class Split:
    """Makes tables, and folds rows away that would bury the others.

    Folded are the arms of a sweep that nothing selected, and variants that are in the grid only for their
    specification curve.
    """

    def __init__(self, cells: list[dict[str, Any]], selections: pd.DataFrame) -> None:
        groups = by_variant(cells)
        self.leaks = {name: [LEAK + leak for leak in group[0]["leaks"]] for name, group in groups.items()}
        self.of_curve = {name for name, group in groups.items() if group[0].get("curve_only", False)}
        self.shown = {
            (*name, cell["arm"])
            for name, group in groups.items()
            if name not in self.of_curve
            for cell in comparison.shown(group, selections)
        }

    def reason(self, row: Record) -> str:
        """Why a row is folded away; empty where it stands open."""
        name = (row["task"], row["variant"])
        if name in self.of_curve:
            return "variants of the specification curves"
        return "further arms" if "arm" in row and (*name, row["arm"]) not in self.shown else ""

    def __call__(
        self, results: pd.DataFrame, columns: list[Column], css: Callable[[Record], str] = lambda row: ""
    ) -> Table:
        """A table of results that have task, variant and text, and may have arm; css: the class of a row."""
        rows, folded, reasons = [], [], []
        for row in results.to_dict("records"):
            reason = self.reason(row)
            made = row_of(columns, row, css(row), self.leaks.get((row["task"], row["variant"]), ()))
            (folded if reason else rows).append(made)
            reasons += [reason] if reason else []
        return Table(columns, rows, folded, ", and ".join(dict.fromkeys(reasons)), labels(results))


def labels(results: pd.DataFrame) -> list[str]:
    """A line on each text, or other data, that the paper did not have, and the tasks of its rows."""
    if results.empty:
        return []
    strange = results[~results["text"].isin(style.KNOWN_TEXTS)]
    tasks = strange.groupby("text", sort=False)["task"].unique()
    return [f"Data: {text} (rows of {', '.join(names)})." for text, names in tasks.items()]


def confidence(results: pd.DataFrame) -> str:
    """The confidence of a table's intervals."""
    return " or ".join(f"{100 * level:g}%" for level in sorted(set(results["confidence"].dropna())))
