"""What stages of a whole grid look at: its cells, or the finished part of them, and the files that these have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from nsbench.analysis.collect import Sources
    from nsbench.workflow.config import Config


class Grid(NamedTuple):
    """The grid of a stage's spec, or the finished part of it."""

    config: Config
    cells: list[dict[str, Any]]
    scale: str
    states: pd.DataFrame | None
    """The state of every run of the grid (nsbench.schemas.training.RUN_STATE); None for a whole one."""

    @property
    def partial(self) -> str:
        """How much of the grid the cells are, as `812 of 2,228 runs`; empty: all of it."""
        return self.cells[0].get("partial", "") if self.cells else ""


def read_grid(spec: Any, finished: Path | None = None, files: list[Path] | None = None) -> Grid:
    """The grid of a spec; of its runs only those that `finished`, a file of the stage finished, has as such.

    files: what the stage reads from outside of the workflow, the records of the configuration if None. Raises FileError
    where they do not hold what the spec says.
    """
    from nsbench.storage.atomic import FileError
    from nsbench.storage.provenance import content_digest
    from nsbench.storage.records import record_files
    from nsbench.workflow.grid import parsed
    from nsbench.workflow.plan import grid_cells
    from nsbench.workflow.run_states import finished_cells, read_states

    # Not `load`: the size of the grid was looked at when it was planned, by settings that a spec may lack.
    content = spec.pop("content", None) if isinstance(spec, dict) else None
    config = parsed(spec)
    if content is not None:
        files = list(record_files(config.records)) if files is None else files
        if content != content_digest(files):
            names = ", ".join(map(str, files[:3]))
            raise FileError(f"{names}: edited since the workflow began; give the same command again, nothing is lost")
    cells = grid_cells(config)
    if finished is None:
        return Grid(config, cells, config.scale, None)
    states = read_states(finished, cells)
    return Grid(config, finished_cells(cells, states), config.scale, states)


def sources_of(grid: Grid, packs: Path, datasets: Path) -> Sources:
    """The files of packs and the records in which the runs of a grid are."""
    from nsbench.analysis.collect import Sources
    from nsbench.workflow.plan import Plan
    from nsbench.workflow.recorded_runs import evaluation_settings_of, index

    plan = Plan(grid.config, index(grid.config))
    wanted = {(cell["task"], cell["variant"], cell["arm"], seed) for cell in grid.cells for seed in cell["seeds"]}
    chosen = [pack for pack in plan.packs if any((*pack[:3], seed) in wanted for seed in plan.seeds[pack[-1]])]
    of_packs = {(task, variant, pack) for task, variant, _, pack in chosen}
    floors = [
        datasets / task / variant / f"{pack}.floors.parquet"
        for task, variant, pack in plan.datasets()
        if (task, variant, pack) in of_packs
    ]
    records = {(*key, seed): record for key, found in plan.recorded.items() for seed, record in found.items()}
    records = {key: record for key, record in records.items() if key in wanted}
    folders = [packs.joinpath(*pack) for pack in chosen]
    return Sources(folders, floors, records, evaluation_settings_of(grid.config), plan.codes())


def pictures(given: list[Path], grid: Grid, theory: bool, pretrained: bool) -> tuple[list[Path], list[str]]:
    """The pictures of a report, and the names of those that could not be drawn.

    given: PNG files, which are all shown, and folders, of which those are that the grid fills, and with `theory` and
    `pretrained` those of these.
    """
    from nsbench.figures.drawing import NOT_DRAWN, figures_for

    names = figures_for(grid.cells, theory, pretrained, grid.config.evaluation.measures)
    found, failed = [], []
    for path in given:
        if path.is_dir():
            found += [picture for name in names if (picture := path / f"{name}.png").exists()]
            if (path / NOT_DRAWN).exists():
                failed += (path / NOT_DRAWN).read_text(encoding="utf-8").split()
        else:
            found.append(path)
    return found, failed
