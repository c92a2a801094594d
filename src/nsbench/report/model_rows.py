"""Rows of pretrained models: of a model and a readout, the control small below, or why they are missing."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from nsbench.report.tables import NONE, Cell, Column, Row, Table
from nsbench.schemas.pretrained import INPUTS, READOUTS

OF_OUTPUT = "output"
"""The readout of what is measured on the whole output."""
UNKNOWN = "not measured"

Cells = Callable[[str, str, str], list[str]]
"""(model, weights, readout) -> the texts of a row's cells."""


class Rows:
    """Makes rows for each model and readout, and says of those that were not measured why."""

    def __init__(self, models: pd.DataFrame, measured: pd.DataFrame) -> None:
        self.models = dict(iter(models.groupby("model", sort=False)))
        self.measured = measured
        self.inputs = [kind for kind in INPUTS if kind in set(measured["inputs"])]
        self.reasons = {
            (row["model"], row["weights"], row["inputs"], row["readout"]): (
                f"{row['status'].replace('_', ' ')}: {row['reason']}"
            )
            for row in measured[measured["status"] != "measured"].to_dict("records")
        }
        """Case -> why it was not measured."""

    def table(
        self,
        first: str,
        heads: list[str],
        inputs: str,
        cells: Cells,
        absent: str | dict[str, str] = UNKNOWN,
        more: Callable[[str], list[Cell]] = lambda model: [],
    ) -> Table:
        """A row for each model and readout; one row for a model that is unavailable, and for readouts missing alike.

        absent: why a readout (of these) that was measured has no cells here; more: the last cells of a model's rows.
        """
        rows, measured = [], self.measured
        for model in self.models:
            own = measured[(measured["model"] == model) & (measured["inputs"] == inputs)]
            readouts = own.loc[own["readout"] != OF_OUTPUT, "readout"].unique()
            if reason := self._unavailable(model) or ("" if len(readouts) else UNKNOWN):
                rows.append(_missing(model, reason, len(heads)))
                continue
            alike: dict[str, list[str]] = {}
            for readout in readouts:
                label = READOUTS[readout]
                why = absent if isinstance(absent, str) else absent.get(readout, UNKNOWN)
                row = self._row(model, inputs, readout, cells, label, why)
                if isinstance(row, str):
                    alike.setdefault(row, []).append(label)
                else:
                    rows.append(Row([*row.cells, *more(model)]))
            rows += [_missing(model, reason, len(heads), *labels) for reason, labels in alike.items()]
        return _listing(first, heads, rows)

    def of_output(self, first: str, heads: list[str], inputs: str, cells: dict[str, Cells]) -> Table:
        """Rows of what is measured on the whole output, by label; what is missing of a model is said once."""
        rows = []
        for model in self.models:
            made = [self._row(model, inputs, OF_OUTPUT, found, label, UNKNOWN) for label, found in cells.items()]
            there = [row for row in made if isinstance(row, Row)]
            rows += there or [_missing(model, self._unavailable(model) or str(made[0]), len(heads))]
        return _listing(first, heads, rows)

    def _unavailable(self, model: str) -> str:
        """Why none of a model's weights is to be had; empty where some are."""
        own = self.models[model]
        return "" if (own["status"] == "measured").any() else f"unavailable: {own['reason'].iloc[0]}"

    def _row(self, model: str, inputs: str, readout: str, cells: Cells, label: str, absent: str) -> Row | str:
        """A row of a model, its control small below; or why it has no cells. absent: why, where it was measured."""
        own = self.models[model]
        if readout == OF_OUTPUT and (own["kind"] == "encoder").any():
            absent = "not applicable: no language-model head, so no probabilities"
        texts = {kind: cells(model, kind, readout) for kind in own["weights"]}
        reasons = {
            kind: self.reasons.get((model, kind, inputs, readout), absent) for kind, found in texts.items() if not found
        }
        if len(reasons) == len(texts):
            return "; ".join(dict.fromkeys(reasons.values()))
        empty = [""] * max(map(len, texts.values()))
        main, control = (texts.get(kind) or empty for kind in ("pretrained", "random"))
        gaps = [f"{'control' if kind == 'random' else kind} {reason}" for kind, reason in reasons.items()]
        pairs = [
            Cell(text or NONE, (f"control {other}" if other else "",))
            for text, other in zip(main, control, strict=True)
        ]
        return Row([Cell(model, (label, *gaps)), *pairs])


def _listing(first: str, heads: list[str], rows: list[Row]) -> Table:
    """A table the first column of which names what its rows are of."""
    return Table([Column(first, "", "what", True), *(Column(head, "") for head in heads or [""])], rows)


def _missing(model: str, reason: str, n_columns: int, *under: str) -> Row:
    """A row of what is not there."""
    return Row([Cell(model, under), Cell(reason, css="missing", span=max(n_columns, 1))])
