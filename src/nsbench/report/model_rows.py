"""Rows of pretrained models: of a model and a readout, the control small below, or why they are missing."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from nsbench.report.tables import NONE, Cell, Column, Row, Table

READOUTS = {
    "top_logit_last": "top logit, last position",
    "mean_top_logit": "top logit, mean over positions",
    "cross_entropy": "cross entropy",
    "pooled_norm": "norm of the pooled hidden state",
}
INPUTS = {"text": "text", "uniform": "uniform tokens", "gaussian": "Gaussian embeddings"}
OF_OUTPUT = "output"
"""The readout of what is measured on the whole output."""
UNKNOWN = "not measured"

Cells = Callable[[str, str, str], list[str]]
"""(model, weights, readout) -> the texts of a row's cells."""


class Rows:
    """Makes rows for each model and readout, and says of those that were not measured why."""

    def __init__(self, models: pd.DataFrame, measured: pd.DataFrame) -> None:
        self.models, self.measured = models, measured
        self.names = list(models["model"].unique())
        self.inputs = [kind for kind in INPUTS if kind in set(measured["inputs"])]
        self.reasons = {
            (row["model"], row["weights"], row["inputs"], row["readout"]): (
                f"{row['status'].replace('_', ' ')}: {row['reason']}"
            )
            for row in measured[measured["status"] != "measured"].to_dict("records")
        }
        """Case -> why it was not measured."""

    def unavailable(self, model: str) -> str:
        """Why none of a model's weights is to be had; empty where some are."""
        own = self.models[self.models["model"] == model]
        return "" if (own["status"] == "measured").any() else f"unavailable: {own['reason'].iloc[0]}"

    def table(
        self,
        first: str,
        heads: list[str],
        inputs: str,
        cells: Cells,
        absent: Callable[[str], str] = lambda readout: UNKNOWN,
        more: Callable[[str], list[Cell]] = lambda model: [],
    ) -> Table:
        """A row for each model and readout; one row for a model that is unavailable, and for readouts missing alike.

        absent: why a readout that was measured has no cells here; more: the last cells of a model's rows.
        """
        rows = []
        for model in self.names:
            own = self.measured[(self.measured["model"] == model) & (self.measured["inputs"] == inputs)]
            readouts = own.loc[own["readout"] != OF_OUTPUT, "readout"].unique()
            if reason := self.unavailable(model) or ("" if len(readouts) else UNKNOWN):
                rows.append(missing(model, reason, len(heads)))
                continue
            alike: dict[str, list[str]] = {}
            for readout in readouts:
                label = READOUTS.get(readout, readout)
                row = self.one(model, inputs, readout, cells, label, absent(readout))
                if isinstance(row, str):
                    alike.setdefault(row, []).append(label)
                else:
                    rows.append(Row([*row.cells, *more(model)]))
            rows += [missing(model, reason, len(heads), *labels) for reason, labels in alike.items()]
        return listing(first, heads, rows)

    def of_output(self, first: str, heads: list[str], inputs: str, cells: dict[str, Cells]) -> Table:
        """Rows of what is measured on the whole output, by label; what is missing of a model is said once."""
        rows = []
        for model in self.names:
            made = [self.one(model, inputs, OF_OUTPUT, found, label) for label, found in cells.items()]
            there = [row for row in made if isinstance(row, Row)]
            rows += there or [missing(model, self.unavailable(model) or str(made[0]), len(heads))]
        return listing(first, heads, rows)

    def one(self, model: str, inputs: str, readout: str, cells: Cells, label: str, absent: str = UNKNOWN) -> Row | str:
        """A row of a model, its control small below; or why it has no cells. absent: why, where it was measured."""
        weights = self.models.loc[self.models["model"] == model, "weights"]
        texts = {kind: cells(model, kind, readout) for kind in weights}
        reasons = {
            kind: self._reason(model, kind, inputs, readout, absent) for kind, found in texts.items() if not found
        }
        if len(reasons) == len(texts):
            return "; ".join(dict.fromkeys(reasons.values()))
        n_cells = max(map(len, texts.values()))
        main, control = (texts.get(kind) or [""] * n_cells for kind in ("pretrained", "random"))
        gaps = [f"{'control' if kind == 'random' else kind} {reason}" for kind, reason in reasons.items()]
        pairs = [beside(text, other) for text, other in zip(main, control, strict=True)]
        return Row([named(model, label, *gaps), *pairs])

    def _reason(self, model: str, weights: str, inputs: str, readout: str, absent: str) -> str:
        kinds = self.models.loc[self.models["model"] == model, "kind"]
        if readout == OF_OUTPUT and (kinds == "encoder").any():
            absent = "not applicable: no language-model head, so no probabilities"
        return self.reasons.get((model, weights, inputs, readout), absent)


def listing(first: str, heads: list[str], rows: list[Row]) -> Table:
    """A table the first column of which names what its rows are of."""
    return Table([Column(first, "", "what", True), *(Column(head, "") for head in heads or [""])], rows)


def named(name: str, *under: str) -> Cell:
    """The first cell of a row."""
    return Cell(name, tuple(line for line in under if line))


def beside(text: str, control: str) -> Cell:
    """A text with that of the control small below."""
    return Cell(text or NONE, (f"control {control}",) if control else ())


def missing(model: str, reason: str, n_columns: int, *under: str) -> Row:
    """A row of what is not there."""
    return Row([named(model, *under), Cell(reason, css="missing", span=max(n_columns, 1))])


def title(inputs: str) -> str:
    """The title of a table of one kind of inputs."""
    return INPUTS[inputs].capitalize()


def at_each(rhos: list[float]) -> list[str]:
    """The heads of columns for each rho."""
    return [f"ρ = {rho:g}" for rho in rhos]
