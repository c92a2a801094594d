"""The registry of figures: each with its title and caption, the tables that it reads and the grid that it is for.

    @figure("mine", tables=["history", "times"], title="My curves", caption="Bold: the median.")
    def draw(history, times, cells, scale): ...

Planning imports this module and those of all figures, so matplotlib and pandas are imported by what draws, not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsbench.config.base import ConfigError
from nsbench.config.errors import nearest, show, side_by_side
from nsbench.config.registry import Registry
from nsbench.config.theory import EXPERIMENTS
from nsbench.data.tasks import TASKS
from nsbench.figures.annotations import Cells
from nsbench.schemas import analysis, pretrained, statistics, theory, training

CHANGES_NO_RESULT = True

TABLES: dict[str, dict[str, tuple[str, Any]]] = {
    "training": {
        "history": ("collected/history", training.HISTORY),
        "runs": ("collected/runs", training.COLLECTED_RUNS),
        "evaluation": ("collected/evaluation", training.EVALUATION),
        "floors": ("collected/floors", training.FLOORS),
        "times": ("tables/time_to_target", training.TIME_TO_TARGET),
        "effects": ("tables/paired_effect", statistics.PAIRED_EFFECT),
        "scores": ("tables/score", analysis.SCORE),
        "score_effects": ("tables/score_effect", analysis.SCORE_EFFECT),
        "selections": ("tables/selection", analysis.SELECTION),
        "kaplan_meier": ("tables/kaplan_meier", statistics.KAPLAN_MEIER),
        "onsets": ("tables/onset", analysis.ONSET),
        "specifications": ("tables/specification", analysis.SPECIFICATION),
        "pooled": ("tables/specification_curve", analysis.SPECIFICATION_CURVE),
        "choices": ("tables/specification_choice", analysis.SPECIFICATION_CHOICE),
        "matched": ("tables/matched_measure", analysis.TABLES["matched_measure"]),
        "matched_effects": ("tables/matched_effect", analysis.TABLES["matched_effect"]),
        "rank_agreement": ("tables/rank_agreement", analysis.TABLES["rank_agreement"]),
    },
    "theory": {
        "curves": ("theory/{experiment}.curves", theory.CURVES),
        "points": ("theory/{experiment}.points", theory.SIMULATION),
        "examples": ("theory/{experiment}.examples", theory.EXAMPLE),
    },
    "pretrained": {
        "models": ("tables/pretrained_models", pretrained.TABLES["pretrained_models"]),
        "measured": ("tables/pretrained_measured", pretrained.TABLES["pretrained_measured"]),
        "influence": ("tables/pretrained_influence", pretrained.TABLES["pretrained_influence"]),
        "concentration": ("tables/concentration", pretrained.TABLES["concentration"]),
    },
}
"""What a figure is of -> name of a table -> its Parquet file in the folder of results, and its schema."""


@dataclass(eq=False, kw_only=True)
class Drawing:
    """A figure of the registry; calling it calls `draw` with the type and colours of all figures."""

    name: str
    draw: Callable[..., Any]
    """(a DataFrame for each of `tables`, and what its `kind` is drawn with: `drawing.render`) -> matplotlib Figure."""
    tables: Sequence[str]
    title: str
    """With {task} where `each_task`."""
    caption: str = ""
    tasks: Collection[str] = ()
    """The tasks that it is for; empty: all."""
    measures: Collection[str] = ()
    """What `evaluation.measures` must have for it; empty: whatever it has."""
    each_task: bool = False
    """Whether there is one for each task of the grid, called `<name>_<task>`."""
    needs: Callable[[Cells], bool] = bool
    """Whether the cells of one variant are shown."""
    compares_models: bool = False
    """Whether it is of tasks with several kinds of model, and shows variants with a baseline alone too."""
    of_baselines: bool = False
    """Whether variants with a baseline alone are shown beside those with arms."""
    of_curves: bool = False
    """Whether variants are shown that are in the grid for a specification curve alone."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Task -> what the caption says besides."""
    experiment: str = ""
    """Of the theory."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `draw`."""

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.draw, updated=())

    def __call__(self, *tables: Any, **settings: Any) -> Any:
        from nsbench.figures.style import applied

        with applied():
            return self.draw(*tables, **settings)

    @property
    def kind(self) -> str:
        """What it is of: a key of TABLES."""
        return next(kind for kind, tables in TABLES.items() if set(self.tables) <= set(tables))

    @property
    def root(self) -> str:
        """What the digest of its code begins with (`storage.code_digest`)."""
        return f"{self.__module__}:{self.__name__}"

    def files(self) -> dict[str, str]:
        """Name of each table -> its file in the folder of results."""
        known = TABLES[self.kind]
        return {name: f"{known[name][0]}.parquet".format(experiment=self.experiment) for name in self.tables}


FIGURES: Registry[Drawing] = Registry("figure")
"""All figures that are known in this process, by name, in the report's order."""


def figure(name: str, *, tables: Sequence[str], **about: Any) -> Callable[[Callable[..., Any]], Drawing]:
    """Register a function that draws a figure; about: the other fields of `Drawing`, `title` among them.

    Raises ConfigError for a name that is taken or no name, for tables that are unknown or not all of one kind, and for
    tasks or an experiment that do not go with them.
    """
    if not any(tables and set(tables) <= set(known) for known in TABLES.values()):
        allowed = "; or ".join(side_by_side(known) for known in TABLES.values())
        raise ConfigError(f"the figure '{name}' reads the tables {', '.join(tables) or 'none'}; allowed: {allowed}")

    def register(draw: Callable[..., Any]) -> Drawing:
        made = Drawing(name=name, draw=draw, tables=tables, **about)
        if made.each_task and made.kind != "training":
            raise ConfigError(f"the figure '{name}' is of no task; tables of training are allowed with each_task")
        if (made.kind == "theory") != (made.experiment in EXPERIMENTS):
            allowed = f"one of {', '.join(EXPERIMENTS)}" if made.kind == "theory" else "none"
            raise ConfigError(f"the figure '{name}' has the experiment {show(made.experiment)}; allowed: {allowed}")
        FIGURES.add(name, made)
        return made

    return register


def find(name: str) -> tuple[Drawing, str]:
    """The entry of a figure by its file's name, and its task where there is one for each. Raises ConfigError."""
    if name in FIGURES and not FIGURES[name].each_task:
        return FIGURES[name], ""
    # The longest first: `curves` and `curves_mine` may both have one for each task.
    for drawing in sorted(FIGURES.values(), key=lambda drawing: -len(drawing.name)):
        task = name.removeprefix(f"{drawing.name}_")
        if drawing.each_task and task not in ("", name):
            return drawing, task
    known = [f"{one.name}_<task>" if one.each_task else one.name for one in FIGURES.values()]
    raise ConfigError(f"no figure is called {show(name)}{nearest(name, known)}; allowed: {', '.join(known)}")


def of_kind(kind: str) -> list[str]:
    """The names of the figures of the theory, or of pretrained models."""
    return sorted(drawing.name for drawing in FIGURES.values() if drawing.kind == kind)


def caption(name: str) -> tuple[str, str]:
    """Title and caption of a figure; a figure that is not known gets its name and no caption."""
    try:
        drawing, task = find(name)
    except ConfigError:
        return name.replace("_", " ").capitalize(), ""
    title = drawing.title.replace("{task}", TASKS[task].title if task in TASKS else task)
    return title[:1].upper() + title[1:], drawing.caption + drawing.notes.get(task, "")
