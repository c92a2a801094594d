"""The variants of a block of the grid: as named, or multiplied out by a sweep or by specifications."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from nsbench.config.base import LONGEST_NAME, NAME_PATTERN, ConfigError, known, no_duplicates, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import show
from nsbench.config.sections import GridEntry, Specifications
from nsbench.workflow import designs


def variants_of(entry: GridEntry, task: Any, where: str) -> list[tuple[str, Any, dict[str, Any]]]:
    """Names, settings and choices of an entry's variants, its sweep or its specifications multiplied out."""
    no_duplicates(entry.variants, f"{where}.variants")
    for variant in entry.variants:
        known(variant, task.variants, f"{where}.variants", "variant")
    if entry.specifications is not None:
        (base,) = entry.variants
        return _specifications(base, task.variants[base], entry.specifications, f"{where}.specifications")
    for path, values in entry.sweep.items():
        no_duplicates(values, f"{where}.sweep.{path}")
    found = []
    for variant in entry.variants:
        for values in itertools.product(*entry.sweep.values()):
            settings = task.variants[variant].model_dump()
            name = variant
            for path, value in zip(entry.sweep, values, strict=True):
                _set(settings, path, value, f"{where}.sweep.{path}")
                name += f"-{path.rsplit('.', 1)[-1]}{value}"
            if not NAME_PATTERN.fullmatch(name):
                raise ConfigError(f"{where}.sweep: the name {show(name)} is no file name; sweep numbers or short words")
            settings = parse(type(task.variants[variant]), settings, f"{where}.sweep ({name})")
            found.append((name, settings, {}))
    return found


def _set(settings: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a field of a variant, as `data.n`; raises ConfigError where it has none of this name."""
    *parents, field = path.split(".")
    place = settings
    for parent in parents:
        known(parent, place, where, "key")
        place = place[parent]
        if not isinstance(place, dict):
            raise ConfigError(f"{where}: '{parent}' is no section of a variant")
    known(field, place, where, "key")
    place[field] = value


def _specifications(
    base: str, variant: Any, asked: Specifications, where: str
) -> list[tuple[str, Any, dict[str, Any]]]:
    """Names, settings and choices of a curve's specifications, the base first."""
    levels = _levels(variant, asked.choices, where)
    sizes = [len(found) for found in levels.values()]
    if asked.design == "fraction":
        rows = designs.fraction(sizes, asked.n, asked.seed)
    else:
        rows = designs.full(sizes) if asked.design == "full" else designs.one_at_a_time(sizes)
    found: dict[str, tuple[str, Any, dict[str, Any]]] = {}
    for row in rows:
        picked = {choice: levels[choice][level] for choice, level in zip(levels, row, strict=True)}
        choices = {choice: label for choice, (label, _) in picked.items()}
        told = ", ".join(
            f"{choice} = {show(choices[choice])}" for choice, level in zip(levels, row, strict=True) if level
        )
        values = variant.model_dump()
        for _, fields in picked.values():
            for path, value in fields.items():
                _set(values, path, value, where)
        settings = parse(type(variant), values, f"{where} ({told})" if told else where)
        name = _specification_name(base, variant, settings)
        if name in found:
            raise ConfigError(f"{where} ({told}): the name '{name}' is another's too; leave one of the choices out")
        found[name] = name, settings, choices
    return list(found.values())


def _levels(
    variant: Any, choices: dict[str, list[Any] | dict[str, dict[str, Any]]], where: str
) -> dict[str, list[tuple[Any, dict[str, Any]]]]:
    """Of each choice the levels, each with its label and the fields that it sets; the base's own first.

    Raises ConfigError for an unknown field, one in two choices, and where the base has none of the levels.
    """
    base = _flat(variant.model_dump())
    found: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    set_by: dict[str, str] = {}
    for choice, listed in choices.items():
        place = f"{where}.choices.{choice}"
        named = listed.items() if isinstance(listed, dict) else [(value, {choice: value}) for value in listed]
        levels: list[tuple[Any, dict[str, Any]]] = []
        seen = []
        for label, fields in named:
            values = variant.model_dump()
            for path, value in fields.items():
                _set(values, path, value, place)
                if path not in base:
                    raise ConfigError(f"{place}: '{path}' is a section of a variant; a field in it is allowed")
                if set_by.setdefault(path, choice) != choice:
                    raise ConfigError(f"{place}: sets {path}, which the choice {set_by[path]} sets too; one may")
            settings = _flat(parse(type(variant), values, f"{place} ({show(label)})").model_dump())
            if settings in seen:
                raise ConfigError(f"{place}: {show(label)} sets what another level does; each is allowed once")
            seen.append(settings)
            level = {path: settings[path] for path in fields}
            levels.append((label if isinstance(listed, dict) else level[choice], level))
        if base not in seen:
            own = ", ".join(f"{path} = {show(base[path])}" for path in dict.fromkeys(p for _, f in levels for p in f))
            raise ConfigError(f"{place}: the base's own {own} is not among its levels; add it")
        levels.insert(0, levels.pop(seen.index(base)))
        found[choice] = levels
    return found


def _specification_name(base: str, variant: Any, settings: Any) -> str:
    """The base's name and the fields that differ from it, in the order of their paths.

    Instead of a name that is too long, or none for a file, a digest of the fields.
    """
    before = _flat(variant.model_dump())
    other = {path: value for path, value in sorted(_flat(settings.model_dump()).items()) if value != before[path]}
    name = "-".join([base, *(f"{path.rsplit('.', 1)[-1]}{value}" for path, value in other.items())])
    if len(name) <= LONGEST_NAME and NAME_PATTERN.fullmatch(name):
        return name
    return f"{base}-{hashlib.sha256(canonical_json(other).encode()).hexdigest()[:12]}"


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The fields of a variant by their paths."""
    return {f"{section}.{field}": value for section, fields in settings.items() for field, value in fields.items()}
