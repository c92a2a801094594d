"""Which figures a grid can fill, and drawing them: tables in, PNG and PDF out."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsbench.config.base import Closed
from nsbench.config.canonical import canonical_json
from nsbench.config.cells import by_variant, model_kind
from nsbench.config.theory import ExperimentSpec
from nsbench.figures.annotations import Cells
from nsbench.figures.registry import FIGURES, TABLES, Drawing, caption, find, of_kind
from nsbench.storage.atomic import FileError, write_text

if TYPE_CHECKING:
    from nsbench.config.pretrained import PretrainedFigureSpec

logger = logging.getLogger(__name__)

NOT_DRAWN = "not_drawn.txt"


class Grid(NamedTuple):
    """What a figure of training is drawn for."""

    cells: Cells
    scale: str


class TheoryFigureSpec(Closed):
    """All that a figure of the theory reads from config."""

    scale: str
    experiment: ExperimentSpec


def shown(drawing: Drawing, cells: Cells, task: str = "") -> Cells:
    """The cells of a grid that a figure of training shows: those of its tasks, in variants that have what it needs.

    Variants with a baseline alone, as its tuning makes, are left to the tables where another has an arm, unless the
    figure is of baselines or compares models.
    """
    if not drawing.of_curves:
        cells = [cell for cell in cells if not cell.get("curve_only", False)]
    tasks = (task,) if task else drawing.tasks
    groups = [group for (of, _), group in by_variant(cells).items() if of in tasks or not tasks]
    if drawing.compares_models:
        kinds = {(group[0]["task"], model_kind(group[0])) for group in groups}
        several = [of for of in {of for of, _ in kinds} if sum(of == other for other, _ in kinds) > 1]
        groups = [group for group in groups if group[0]["task"] in several]
    elif not drawing.of_baselines:
        groups = [group for group in groups if len(group) > 1] or groups
    return [cell for group in groups if drawing.needs(group) for cell in group]


def figures_for(
    cells: Cells, theory: bool = False, pretrained: bool = False, measures: Collection[str] = ()
) -> list[str]:
    """The figures of training that a grid and its `evaluation.measures` can fill, those of the theory and those of
    pretrained models, in the order of the report."""
    names = []
    for drawing in FIGURES.values():
        if drawing.kind == "training" and set(drawing.measures) <= set(measures):
            tasks = dict.fromkeys(cell["task"] for cell in cells) if drawing.each_task else [""]
            tasks = [task for task in tasks if not (task and drawing.tasks) or task in drawing.tasks]
            names += [f"{drawing.name}_{task}".strip("_") for task in tasks if shown(drawing, cells, task)]
    return names + of_kind("theory") * theory + of_kind("pretrained") * pretrained


def render(
    name: str,
    results: Path | str,
    settings: Grid | TheoryFigureSpec | PretrainedFigureSpec,
    out_png: Path | str,
    out_pdf: Path | str,
) -> None:
    """Draw a figure from its tables in a folder of results, and save it in both formats.

    `draw` gets the tables, and of training `cells` and `scale`, of the theory `settings` and `scale`, of pretrained
    models `spec`. Raises ConfigError for an unknown name, RecordError for a table that is missing, or one of the theory
    that was made under other settings.
    """
    import nsbench.figures.footers as footers
    import nsbench.figures.style as style
    from nsbench.figures.frame import set_title
    from nsbench.storage import parquet

    drawing, task = find(name)
    paths = {table: Path(results) / file for table, file in drawing.files().items()}
    tables = {table: parquet.read_table(path, TABLES[drawing.kind][table][1]) for table, path in paths.items()}
    if isinstance(settings, TheoryFigureSpec):
        for path in paths.values():
            # Curves are made with those of all experiments: the settings of each stand in their spec.
            if canonical_json(settings.experiment) not in parquet.read_stamp(path).get("spec", ""):
                raise parquet.RecordError(f"{path}: was made under other settings; run its stage again")
        about = {"settings": settings.experiment.parsed(), "scale": settings.scale}
    elif isinstance(settings, Grid):
        about = {"cells": shown(drawing, settings.cells, task), "scale": settings.scale}
    else:
        about = {"spec": settings}
    if about.get("cells") == []:
        figure = style.empty(f"{name}: the grid has nothing that it shows", footers.sizes_text([], settings.scale))
    else:
        figure = drawing(**tables, **about, **drawing.options)
    with style.applied():
        set_title(figure, caption(name)[0])
    style.save(figure, out_png, out_pdf)


def render_all(results: Path | str, cells: Cells, scale: str, out: Path | str, measures: Collection[str] = ()) -> None:
    """Draw every figure of training that `figures_for` names into the folder `out`, as PNG and PDF.

    For partial work: one that cannot be drawn from these runs is logged, left out and named in the folder's NOT_DRAWN,
    a name a line. Raises FileError where a table cannot be read or a figure cannot be written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = []
    for name in figures_for(cells, measures=measures):
        made = folder / f"{name}.png", folder / f"{name}.pdf"
        try:
            render(name, results, Grid(cells, scale), *made)
        except FileError:
            raise
        except Exception:
            logger.exception("%s: left out, since these runs do not fill it", name)
            left_out.append(name)
            for file in made:
                file.unlink(missing_ok=True)
    write_text(folder / NOT_DRAWN, "".join(f"{name}\n" for name in left_out))
