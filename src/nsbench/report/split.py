"""Which rows of a table stand open, and which are folded away below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from nsbench.analysis.scores import by_variant
from nsbench.figures import comparison, style
from nsbench.figures.curves import LEAK


class Split:
    """Makes a table's rows texts, and sets apart those that would bury the others.

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

    def __call__(self, table: pd.DataFrame, texts: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """`shown` and `folded` rows, in order, what is folded (`of`), and the `labels` of texts not the paper's.

        `table` has task, variant and text, and may have arm.
        """
        found: dict[str, Any] = {"shown": [], "folded": []}
        reasons = []
        for row in table.to_dict("records"):
            name = (row["task"], row["variant"])
            of_curve = name in self.of_curve
            folded = of_curve or ("arm" in row and (*name, row["arm"]) not in self.shown)
            if folded:
                reasons.append("variants of the specification curves" if of_curve else "further arms")
            found["folded" if folded else "shown"].append({"note": "", "leaks": self.leaks.get(name, []), **texts(row)})
        found["of"] = ", and ".join(dict.fromkeys(reasons))
        found["labels"] = labels(table)
        return found


def labels(table: pd.DataFrame) -> list[str]:
    """A line on each text that is not the paper's, and the tasks of its rows."""
    strange = table[~table["text"].isin(style.KNOWN_TEXTS)]
    tasks = strange.groupby("text", sort=False)["task"].unique()
    return [f"Text: {text} (rows of {', '.join(names)})." for text, names in tasks.items()]


def confidence(table: pd.DataFrame) -> str:
    """The confidence of a table's intervals."""
    return f"{100 * table['confidence'].iloc[0]:g}%" if len(table) else ""
