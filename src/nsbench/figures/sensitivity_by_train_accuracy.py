"""Token sensitivity along training: against training accuracy, a panel for each law."""

from __future__ import annotations

import numpy as np

import nsbench.figures.architectures as models
import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.config.cells import of_baseline
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

LEVEL = 0.95


@figure(
    "sensitivity_by_train_accuracy",
    tables=["evaluation", "history", "matched"],
    measures=["token_sensitivity"],
    each_task=True,
    compares_models=True,
    title="{task}: token sensitivity while models learn, against training accuracy",
    caption="Each line is an architecture's median over seeds at its checkpoints, thin lines single runs: token "
    "sensitivity on training inputs against the accuracy on the batches before the checkpoint. Models that learn at "
    "different speeds are compared at equal training accuracy; at equal steps they would differ for that reason alone.",
)
def draw(evaluation: Table, history: Table, matched: Table, cells: Cells, scale: str) -> Figure:
    """A panel for each law: S on training inputs at the checkpoints by `train_accuracy` of the history there."""
    cells = of_baseline(cells)
    found = models.looks(cells)
    laws = list(dict.fromkeys(matched.loc[_is_own(matched, cells), "law"]))
    keys = ["task", "variant", "arm", "seed", "step"]
    learned = history[[*keys, "train_accuracy"]]
    rows = evaluation[evaluation["measure"] == "token_sensitivity"].merge(learned, on=keys)
    figure, columns = style.columns(len(laws), 1, 2.8, 2.4, below=1.2)
    for law, (axes,) in zip(laws, columns, strict=True):
        here = rows[(rows["reduction"] == f"{law}-train") & rows["train_accuracy"].notna()]
        for cell in cells:
            look = found[cell["task"], cell["variant"]]
            own = comparison.of_cell(here, cell)
            for _, run in own.groupby("seed"):
                axes.plot(run["train_accuracy"], run["value"], color=look["color"], lw=0.6, alpha=0.35, gid="seed")
            middle = own.groupby("step")[["train_accuracy", "value"]].median()
            line = {"color": look["color"], "ls": look["ls"], "marker": look["marker"], "ms": 3.2, "lw": 1.8}
            axes.plot(middle["train_accuracy"], middle["value"], gid="median", **line)
        axes.axvline(LEVEL, color=style.MUTED, lw=1, ls=(0, (4, 2)), zorder=1, gid="level")
        axes.set_ylim(0, None)
        axes.set_xlim(min(0.0, np.nanmin(here["train_accuracy"])) if len(here) else 0, 1.02)
        axes.set_xlabel("training accuracy")
        if style.is_first(axes):
            axes.set_ylabel("S on training inputs")
        style.header(axes, models.law_text(law), [], [], handlelength=0)
    key = [*models.key_of(found), style.sign(f"training accuracy {LEVEL:g}", lw=1, ls=(0, (4, 2)), gid="level")]
    style.footer(figure, models.remarks(matched, cells, scale), key)
    return figure


def _is_own(matched: Table, cells: Cells) -> Table:
    return (
        (matched["task"] == cells[0]["task"]) & (matched["quantity"] == "sensitivity") & (matched["split"] == "train")
    )
