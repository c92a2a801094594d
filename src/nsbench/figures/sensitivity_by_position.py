"""Token sensitivity by position: does a model listen to some places more than to others?"""

from __future__ import annotations

import nsbench.figures.architectures as models
import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.config.cells import of_baseline
from nsbench.data.tasks import TASKS
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure


@figure(
    "sensitivity_by_position",
    tables=["evaluation", "matched"],
    measures=["token_sensitivity"],
    compares_models=True,
    title="Token sensitivity by position at the end of training, by architecture",
    caption="How often the answer changes where the token of one position is changed, over the mean of all positions, "
    "on training inputs under the first law. Bold: the median over seeds; thin: single runs. Positions of images are "
    "patches, row by row; of text, which ends at the last position, it is the longer half of the inputs, at positions "
    "where each of them has a word.",
)
def draw(evaluation: Table, matched: Table, cells: Cells, scale: str) -> Figure:
    """A panel for each task with sensitivity by position: S of a position over the run's mean, at the last step."""
    cells = of_baseline(cells)
    rows = evaluation[evaluation["measure"] == "token_sensitivity"]
    rows = rows[rows["reduction"].str.contains(r"-train-position\d+$")]
    rows = rows.assign(position=rows["reduction"].str.extract(r"(\d+)$")[0].astype(int))
    tasks = [task for task in dict.fromkeys(cell["task"] for cell in cells) if (rows["task"] == task).any()]
    cells = [cell for cell in cells if cell["task"] in tasks]
    found = models.looks(cells)
    figure, columns = style.columns(len(tasks) or 1, 1, 5.6 if len(tasks) < 2 else 4.0, 2.6, below=1.2, max_columns=2)
    for task, (axes,) in zip(tasks, columns, strict=False):
        for cell in [cell for cell in cells if cell["task"] == task]:
            own = comparison.of_cell(rows, cell)
            wide = own[own["step"] == cell["budget_steps"]].pivot_table(
                index="position", columns="seed", values="value"
            )
            wide = wide.dropna()  # positions that every seed has
            wide = wide / wide.mean()
            look = found[task, cell["variant"]]
            for seed in wide:
                axes.plot(wide.index, wide[seed], color=look["color"], lw=0.6, alpha=0.2, gid="seed")
            line = {"color": look["color"], "ls": look["ls"], "marker": look["marker"], "ms": 3.4, "lw": 1.8}
            axes.plot(wide.index, wide.median(axis=1), gid="median", **line)
        axes.axhline(1, color=style.MUTED, lw=1, zorder=1)
        axes.set_ylim(0, None)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("position")
        if style.is_first(axes):
            axes.set_ylabel("S of the position / mean S")
        style.header(axes, TASKS[task].title or task if task in TASKS else task, [], [], handlelength=0)
    style.footer(figure, models.remarks(matched, cells, scale), models.key_of(found))
    return figure
