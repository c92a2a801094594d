"""The grid: a configuration read, cross-checked, and expanded to cells and packs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import yaml

from nsbench.closed import NAME_PATTERN, Closed, ConfigError, no_duplicates, parse
from nsbench.config import Arm, Config, GridEntry
from nsbench.sentences import nearest
from nsbench.settings import Variant


class Cell(Closed):
    """Task x variant x arm with its settings and seeds: the unit that the grid expands to."""

    task: str
    variant: str
    arm: str
    arm_settings: Arm
    settings: Variant
    seeds: list[int]


def load(values: dict[str, Any]) -> Config:
    """Validate a whole configuration, the cross-references of its grid included.

    Raises ConfigError.
    """
    config = parse(Config, values)
    expand(config)
    return config


def expand(config: Config) -> list[Cell]:
    """The cells of the grid, in the order of `config.grid`.

    Raises ConfigError for an unknown variant, arm or swept field, for duplicates, and for a block
    without a baseline (effects are paired against it).
    """
    cells: dict[tuple[str, str, str], Cell] = {}
    for index, entry in enumerate(config.grid):
        where = f"grid[{index}]"
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
                f"{where}.arms: {entry.arms} has no arm of kind baseline; effects are paired against it, so add one"
            )
        for variant, settings in _variants(entry, task, where):
            for arm, arm_settings in arms.items():
                key = (entry.task, variant, arm)
                if key in cells:
                    raise ConfigError(f"{where}: the cell {' / '.join(key)} is in the grid twice; once is allowed")
                cells[key] = Cell(
                    task=entry.task,
                    variant=variant,
                    arm=arm,
                    arm_settings=arm_settings,
                    settings=settings,
                    seeds=list(seeds),
                )
    return list(cells.values())


def arms_of(entry: GridEntry, task: Any, where: str = "grid") -> dict[str, Arm]:
    """The arms of an entry by name, those of its sweep included.

    Raises ConfigError for an unknown arm, one that has no rho and gamma to sweep, or one named twice.
    """
    no_duplicates(entry.arms, f"{where}.arms")
    for arm in entry.arms:
        _known(arm, task.arms, f"{where}.arms", "arm")
    arms = {arm: task.arms[arm] for arm in entry.arms}
    sweep = entry.arm_sweep
    if sweep is None:
        return arms
    _known(sweep.arm, task.arms, f"{where}.arm_sweep.arm", "arm")
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
        twin = next((known for known, other in arms.items() if other == arm), None)
        if twin is not None:
            raise ConfigError(
                f"{where}.arm_sweep: rho = {rho:g}, gamma = {gamma:g} is already the arm '{twin}' of this block; "
                "take one of them out"
            )
        if name in arms or not NAME_PATTERN.fullmatch(name):
            raise ConfigError(f"{where}.arm_sweep: the name '{name}' is taken or no file name; sweep plainer numbers")
        arms[name] = arm
    return arms


def _variants(entry: GridEntry, task: Any, where: str) -> list[tuple[str, Any]]:
    """Names and settings of an entry's variants, its sweep multiplied out."""
    no_duplicates(entry.variants, f"{where}.variants")
    for path, values in entry.sweep.items():
        no_duplicates(values, f"{where}.sweep.{path}")
    found = []
    for variant in entry.variants:
        _known(variant, task.variants, f"{where}.variants", "variant")
        for values in itertools.product(*entry.sweep.values()):
            settings = task.variants[variant].model_dump()
            name = variant
            for path, value in zip(entry.sweep, values, strict=True):
                *parents, field = path.split(".")
                place = settings
                for parent in parents:
                    _known(parent, place, f"{where}.sweep.{path}", "key")
                    place = place[parent]
                    if not isinstance(place, dict):
                        raise ConfigError(f"{where}.sweep.{path}: '{parent}' is no section of a variant")
                _known(field, place, f"{where}.sweep.{path}", "key")
                place[field] = value
                name += f"-{field}{value}"
            if not NAME_PATTERN.fullmatch(name):
                raise ConfigError(f"{where}.sweep: the name '{name}' is no file name; sweep numbers or words")
            settings = parse(type(task.variants[variant]), settings, f"{where}.sweep ({name})")
            found.append((name, settings))
    return found


def refuse_duplicate_keys(path: Path) -> None:
    """Check that no mapping of a YAML file has a key twice (YAML parsers keep the last, silently).

    Raises ConfigError naming the key and its line; also for a file that is no YAML.
    """

    seen = set()

    def check(node: yaml.Node) -> None:
        if id(node) in seen:  # an anchor's node stands at each of its aliases, in itself too
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            for index, (key, _) in enumerate(node.value):
                if key.value in keys[:index]:
                    line = key.start_mark.line + 1
                    raise ConfigError(f"{path}, line {line}: key {key.value!r} stands twice; once is allowed")
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        for child in children:
            for part in child if isinstance(child, tuple) else (child,):
                check(part)

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if root is not None:
        check(root)


def packs(seeds: list[int], runs_per_pack: int) -> list[list[int]]:
    """Seeds in packs of at most `runs_per_pack`, in order."""
    return [seeds[start : start + runs_per_pack] for start in range(0, len(seeds), runs_per_pack)]


def _known(name: str, known: Any, where: str, what: str) -> None:
    if name not in known:
        raise ConfigError(f"{where}: unknown {what} {name!r}{nearest(name, known)}; allowed: {', '.join(known)}")
