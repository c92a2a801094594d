"""Token sensitivity by architecture: a panel for each law, as it is and as a share of what two inputs differ."""

from __future__ import annotations

import nsbench.figures.architectures as models
import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.config.cells import of_baseline
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

QUANTITIES = {"sensitivity": "S", "sensitivity_normalised": "S / Pr[two answers differ]"}


@figure(
    "sensitivity_by_architecture",
    tables=["matched"],
    measures=["token_sensitivity"],
    each_task=True,
    compares_models=True,
    title="{task}: how often changing one token changes a trained model's answer, by architecture and by law",
    caption="Token sensitivity S: the chance that the answer changes where one token of a training input is changed by "
    "a law, over inputs and tokens; each mark is a run, the line their median. Below it is divided by the chance that "
    "two inputs get different answers, which a model that always says the same has at 0. If the order of "
    "architectures moves from panel to panel it is the law's, not theirs.",
)
def draw(matched: Table, cells: Cells, scale: str) -> Figure:
    """A column for each law, on training inputs; S above, normalised below; a row in a panel for each variant."""
    cells = of_baseline(cells)
    matching = models.matching_of(matched, cells)
    found, names = models.looks(cells), [cell["variant"] for cell in cells]
    rows = matched[(matched["matching"] == matching) & (matched["split"] == "train")]
    rows = rows[(rows["task"] == cells[0]["task"]) & rows["quantity"].isin(QUANTITIES)]
    laws = list(dict.fromkeys(rows["law"]))
    figure, columns = style.columns(
        len(laws), 2, 2.7, 0.24 * len(names) + 0.75, below=1.2, max_columns=4, sharey=True, sharex=False
    )
    for law, panels in zip(laws, columns, strict=True):
        for axes, (quantity, label) in zip(panels, QUANTITIES.items(), strict=True):
            here = rows[(rows["law"] == law) & (rows["quantity"] == quantity)]
            low, high = models.log_limits(here["value"].to_numpy(float))
            models.log_axis(axes, low, high)
            for place, cell in enumerate(cells):
                values = comparison.of_cell(here, cell)["value"].to_numpy(float)
                models.points(axes, place, values, found[cell["task"], cell["variant"]], low)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.set_xlabel(label, fontsize=7.5)
        style.header(panels[0], models.law_text(law), [], [], handlelength=0)
    key = [
        style.sign("one run", marker="o", ms=4, gid="run"),
        style.sign("median", marker="|", ms=9, mew=2, gid="median"),
    ]
    key.append(style.sign("a run without any flip", marker="o", mfc="white", ms=4, gid="no flip"))
    style.footer(figure, models.remarks(matched, cells, scale, models.compared_at(matching)), key)
    return figure
