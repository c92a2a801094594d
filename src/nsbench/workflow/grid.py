"""The grid: a configuration read, cross-checked, and expanded to cells and packs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny

from nsbench.arms import AnyArm, Arm, check
from nsbench.config import loader as config_files
from nsbench.config.base import NAME_PATTERN, Closed, ConfigError, known, no_duplicates, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import show
from nsbench.config.sections import GridEntry
from nsbench.data.tasks import TASKS
from nsbench.measures import MEASURES
from nsbench.workflow import plugins
from nsbench.workflow.config import Config, Variant
from nsbench.workflow.variants import variants_of

MOST_CELLS, MOST_PACKS = 20_000, 50_000
"""Of a grid: Snakemake plans a job of each of three stages for every pack."""
LONGEST_SPEC = 100_000
"""Characters of a configuration: a stage gets its settings as one argument, and Linux allows 128 KiB."""


class Cell(Closed):
    """Task x variant x arm with its settings and seeds: the unit that the grid expands to."""

    task: str
    variant: str
    arm: str
    arm_settings: AnyArm
    settings: SerializeAsAny[Variant]
    seeds: list[int]
    curve: str | None = None
    """The specification curve that the cell belongs to: the name of its base variant."""
    choices: dict[str, Any] = Field(default_factory=dict)
    """Each choice of the curve and the level that the variant has of it; empty outside curves."""
    curve_only: bool = False
    """Whether the variant is in the grid for its curve alone."""
    shares: str | None = None
    """The variant whose runs are also this cell's: of a curve, where the arm draws no noise and nothing but the
    variants' `noise` differs. What a history says of outputs under noise is not shared."""

    def trained_by(self) -> dict[str, Any]:
        """The settings that training reads, data apart; a target is one where a run may stop by it."""
        settings = self.settings
        return {
            "arm_settings": self.arm_settings,
            **{name: getattr(settings, name) for name in ("model", "optimizer", "training", "noise")},
            "target": None if settings.training.stop == "never" else settings.target,
        }


def load(values: dict[str, Any]) -> Config:
    """Validate a whole configuration, the cross-references and the size of its grid included.

    Raises ConfigError.
    """
    config = parsed(values)
    _refuse_too_many(config)
    _check_primary(config)
    expand(config)
    size = len(canonical_json(config))
    if size > LONGEST_SPEC:
        raise ConfigError(
            f"config: is {size:,} characters with all defaults; at most {LONGEST_SPEC:,} are allowed, since a command "
            "line has it, so take out what the grid does not use"
        )
    return config


def parsed(values: Any) -> Config:
    """Validate the values of a configuration alone, once the plug-ins that it names are loaded. Raises ConfigError."""
    named = values.get("plugins") if isinstance(values, dict) else None
    plugins.load([path for path in named if isinstance(path, str)] if isinstance(named, list) else [])
    config = parse(Config, values)
    for name in config.evaluation.measures:
        MEASURES.find(name, "evaluation.measures")
    return config


def load_files(paths: Iterable[Path | str]) -> Config:
    """`load` of configuration files: the first, and over it the others, laid over each other before.

    So Snakemake does it: sections merge, all else is replaced. Raises ConfigError.
    """
    first, *others = (config_files.read(Path(path)) for path in paths)
    over: dict[str, Any] = {}
    for values in others:
        _lay_over(over, values)
    _lay_over(first, over)
    return load(first)


def _lay_over(values: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _lay_over(values[key], value)
        else:
            values[key] = value


def expand(config: Config) -> list[Cell]:
    """The cells of the grid, in the order of `config.grid`.

    A specification curve shares cells of equal settings with other blocks: they keep their place and
    their seeds. Raises ConfigError for an unknown variant, arm or field, for duplicates, for a block
    without a baseline (effects are paired against it), and for specifications that settings refuse.
    """
    _refuse_too_many(config, packs_too=False)
    cells: dict[tuple[str, str, str], Cell] = {}
    spelt: dict[tuple[str, ...], tuple[str, ...]] = {}
    curves: set[tuple[str, str]] = set()
    listed: set[tuple[str, str]] = set()
    for index, entry in enumerate(config.grid):
        where = f"grid[{index}]"
        TASKS.find(entry.task, f"{where}.task")
        task = getattr(config.tasks, entry.task)
        if task is None:
            raise ConfigError(f"{where}.task: '{entry.task}' has no entry under tasks; define tasks.{entry.task}")
        seeds = config.seeds if entry.seeds is None else entry.seeds
        no_duplicates(seeds, "seeds" if entry.seeds is None else f"{where}.seeds")
        if not seeds:
            raise ConfigError(f"{where}.seeds: [] is empty; at least one seed is needed")
        arms = arms_of(entry, task, where)
        if not any(arm.kind == "baseline" for arm in arms.values()):
            raise ConfigError(
                f"{where}.arms: {show(entry.arms)} has no arm of kind baseline; effects are paired against it, so add "
                "one"
            )
        base = entry.variants[0] if entry.specifications else None
        if (entry.task, base) in curves:
            raise ConfigError(
                f"{where}.specifications: '{base}' of {entry.task} is the base of two curves; one is allowed, so give "
                "the other a base of its own or add its choices to the first"
            )
        if base is not None:
            curves.add((entry.task, base))
        for variant, settings, choices in variants_of(entry, task, where):
            if base is None:
                listed.add((entry.task, variant))
            for arm, arm_settings in arms.items():
                check(arm_settings, settings, f"{where}: the arm '{arm}' with the variant '{variant}'")
                cell = Cell(
                    task=entry.task,
                    variant=variant,
                    arm=arm,
                    arm_settings=arm_settings,
                    settings=settings,
                    seeds=list(seeds),
                    curve=base,
                    choices=choices,
                )
                key = (entry.task, variant, arm)
                _refuse_case(spelt.setdefault(tuple(map(str.lower, key)), key), key, where)
                cells[key] = _shared(cells[key], cell, where) if key in cells else cell
    return _with_shared(cells, listed)


def _with_shared(cells: dict[tuple[str, str, str], Cell], listed: set[tuple[str, str]]) -> list[Cell]:
    """The cells, with what is a curve's alone and what shares its runs marked."""
    found, first = [], {}
    for (task, variant, arm), cell in cells.items():
        changes: dict[str, Any] = {"curve_only": (task, variant) not in listed}
        if not cell.arm_settings.draws_noise:
            settings = cell.settings.model_dump(mode="json", exclude={"noise"})
            same = (task, arm, canonical_json([cell.arm_settings, settings]))
            twin = first.setdefault(same, cell)
            if twin is not cell and changes["curve_only"] and set(cell.seeds) <= set(twin.seeds):
                changes["shares"] = twin.variant
        found.append(cell.model_copy(update=changes))
    return found


def _check_primary(config: Config) -> None:
    """Refuse a primary comparison of names that the configuration has nowhere; the grid may well leave it out."""
    for task, primary in config.analysis.primary.items():
        TASKS.find(task, "analysis.primary")
        settings = getattr(config.tasks, task)
        for what in ("variant", "arm") if settings is not None else ():
            name, names = getattr(primary, what), getattr(settings, f"{what}s")
            if not any(name.startswith(f"{one}-") for one in names):  # what a sweep makes of one
                known(name, names, f"analysis.primary.{task}.{what}", what)
        if settings is not None and primary.arm in settings.arms and settings.arms[primary.arm].kind == "baseline":
            raise ConfigError(f"analysis.primary.{task}.arm: '{primary.arm}' is a baseline; another arm is allowed")


def _shared(first: Cell, second: Cell, where: str) -> Cell:
    """The one cell of two blocks that name it, of which one is a specification curve.

    Raises ConfigError where it cannot be one.
    """
    name = " / ".join((first.task, first.variant, first.arm))
    if (first.curve is None) == (second.curve is None):
        raise ConfigError(f"{where}: the cell {name} is in the grid twice; once is allowed, and once more in a curve")
    if (first.settings, first.arm_settings) != (second.settings, second.arm_settings):
        raise ConfigError(
            f"{where}: the cell {name} is in another block with other settings; a curve shares cells of equal "
            "settings, so rename that variant"
        )
    if not set(second.seeds) <= set(first.seeds):
        raise ConfigError(
            f"{where}.seeds: the cell {name} is in an earlier block with the seeds {show(first.seeds)}; some of them "
            f"are allowed here, not {show(second.seeds)}"
        )
    curve = second if first.curve is None else first
    return first.model_copy(update={"curve": curve.curve, "choices": curve.choices})


def _refuse_too_many(config: Config, packs_too: bool = True) -> None:
    """Refuse a grid of too many cells or packs by what its blocks multiply out to, before any of it is made.

    packs_too: stages that look at the whole grid are not given what packs and the analysis are made by.
    """
    n_cells = n_packs = 0
    for index, entry in enumerate(config.grid):
        n_variants = math.prod([len(entry.variants), *map(len, entry.sweep.values())])
        if entry.specifications is not None:
            n_variants = entry.specifications.count
        sweep = entry.arm_sweep
        n_arms = len(entry.arms) + (0 if sweep is None else len(sweep.rho) * len(sweep.gamma))
        n_seeds = len(config.seeds if entry.seeds is None else entry.seeds)
        n_cells += n_variants * n_arms
        n_packs += n_variants * n_arms * -(-n_seeds // config.runs_per_pack)
        for number, most, what in ((n_cells, MOST_CELLS, "cells"), (n_packs, MOST_PACKS, "packs")):
            if number > most and (packs_too or what == "cells"):
                raise ConfigError(
                    f"grid[{index}]: the grid up to here has {_number(number)} {what} (variants x arms"
                    f"{' x seeds / runs_per_pack' * (what == 'packs')}); at most {most:,} are allowed"
                )


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"


def _refuse_case(first: tuple[str, ...], second: tuple[str, ...], where: str) -> None:
    if first != second:
        raise ConfigError(
            f"{where}: the cells {' / '.join(first)} and {' / '.join(second)} differ in upper and lower case alone; "
            "some file systems take both for one, so rename one"
        )


def arms_of(entry: GridEntry, task: Any, where: str = "grid") -> dict[str, Arm]:
    """The arms of an entry by name, those of its sweep included.

    Raises ConfigError for an unknown arm, one that has no rho and gamma to sweep, or one named twice.
    """
    no_duplicates(entry.arms, f"{where}.arms")
    for arm in entry.arms:
        known(arm, task.arms, f"{where}.arms", "arm")
    arms = {arm: task.arms[arm] for arm in entry.arms}
    named: dict[Arm, str] = {settings: name for name, settings in arms.items()}
    sweep = entry.arm_sweep
    if sweep is None:
        return arms
    known(sweep.arm, task.arms, f"{where}.arm_sweep.arm", "arm")
    settings = task.arms[sweep.arm]
    if settings.kind != "noise_stability":
        raise ConfigError(
            f"{where}.arm_sweep.arm: '{sweep.arm}' is of kind {settings.kind}, which has no rho and gamma; "
            "an arm of kind noise_stability is allowed"
        )
    for rho, gamma in itertools.product(sweep.rho, sweep.gamma):
        values = {**settings.model_dump(), "rho": float(rho), "gamma": float(gamma)}
        name = f"{sweep.arm}-rho{rho:g}-gamma{gamma:g}"
        arm = parse(type(settings), values, f"{where}.arm_sweep")
        twin = named.setdefault(arm, name)
        if twin != name:
            raise ConfigError(
                f"{where}.arm_sweep: rho = {rho:g}, gamma = {gamma:g} is already the arm '{twin}' of this block; "
                "take one of them out"
            )
        if name in arms or not NAME_PATTERN.fullmatch(name):
            raise ConfigError(
                f"{where}.arm_sweep: the name {show(name)} is taken or no file name; sweep plainer numbers"
            )
        arms[name] = arm
    return arms


def packs(seeds: list[int], runs_per_pack: int) -> list[list[int]]:
    """Seeds in packs of at most `runs_per_pack`, in order."""
    return [seeds[start : start + runs_per_pack] for start in range(0, len(seeds), runs_per_pack)]
