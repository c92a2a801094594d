"""Random damage to the shipped configuration files: each ends as a plan or as one sentence, never as anything else."""

from __future__ import annotations

import copy
import functools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from nsbench.config.base import ConfigError
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import show
from nsbench.config.loader import read
from nsbench.workflow.config import Config
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.faults import Outcome

PROJECT = Path(__file__).parents[2]
OVERLAYS = ("workflow/config/demo.yaml", "workflow/config/published.yaml", "tests/config/tiny.yaml")
LONGEST_SECONDS, LONGEST_MESSAGE = 4.0, 600
JARGON = ("Input should", "pydantic", "Traceback", "<class", "object at 0x", "validation error")
"""Words of the libraries that no user should have to read."""
VALUES = [
    *("[]", "{}", "~", "true", "0", "-1", "2.5", ".nan", ".inf", "1e-3", "1e999", "0x1F", "2020-01-01", "../x", "é"),
    *('""', '" "', '"\\0"', '"\\e[31m"', '"a\\nb"', "[[]]", "[{}]", "{x: 1}", "[~]", "*a", "&a", "!!python/name:os"),
]
BEFORE = (" ", "\t", "- ", "? ", "&a ", "*a ", "# ")
BETWEEN = "[]{}:,&*!|>'\"%@`#-?\t\0é\n x"


def damaged(text: str, dice: random.Random) -> bytes:
    """A file of settings with one to three of its lines, values or bytes changed."""
    lines = text.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(lines))
        line, other = lines[at], dice.choice(lines)
        place = dice.randrange(len(line) or 1)
        key, colon, _ = line.partition(": ")
        value = dice.choice([*VALUES, other.partition(": ")[2].strip()])
        ways = ("", other, line + other, line.lstrip(" "), line[:place] + line[place + 1 :])
        ways += (dice.choice(BEFORE) + line, line[:place] + dice.choice(BETWEEN) + line[place:])
        lines[at] = dice.choice([*ways, f"{key}: {value}\n" if colon else ""])
    content = "".join(lines).encode()
    if dice.random() < 0.1:
        place = dice.randrange(len(content) + 1)
        content = content[:place] + bytes(dice.choices(range(256), k=dice.randint(1, 4))) + content[place:]
    return content


def planned(values: dict[str, Any]) -> int:
    """Plan a configuration and its specs, as the Snakefile does; how many packs there are. Raises ConfigError."""
    plan = Plan(load(values))
    plan.grid("analysis", "tracking")
    for task, variant, arm, pack in plan.packs[:20]:
        plan.train(task, variant, arm, pack)
        plan.evaluate(task, variant, arm, pack)
    # What stages are given is a configuration again, and the same one.
    again = canonical_json(plan.config)
    assert canonical_json(load(plan.config.model_dump(mode="json"))) == again
    return len(plan.packs)


def tried(change: Callable[[], dict[str, Any]], file: str) -> bool:
    """Whether changed values can be planned. Raises AssertionError where they are refused otherwise than they should:
    by one short sentence that begins with a place, a key or the file, and soon."""
    keys, said = set(Config.model_fields), ""
    began = time.process_time()
    try:
        values = change()
        keys |= {word for key in values for word in (str(key), show(key)) if word}
        planned(values)
    except ConfigError as error:
        said = str(error)
        assert said.isprintable(), f"more than one line, or control characters: {said!r}"
        assert len(said) < LONGEST_MESSAGE, f"{len(said)} characters: {said!r}"
        assert not any(word in said for word in JARGON), f"jargon: {said!r}"
        assert said.startswith((file, "config: ", *keys)), f"names no place: {said!r}"
    seconds = time.process_time() - began
    assert seconds < LONGEST_SECONDS, f"took {seconds:.1f} s: {said!r}"
    return not said


@functools.cache
def shipped(name: str) -> dict[str, Any]:
    """A shipped file's values; not to be changed."""
    return yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))


def trial(dice: random.Random, folder: Path) -> bool:
    """One configuration damaged and tried: config.yaml or an overlay."""
    overlay = dice.choice(OVERLAYS)
    name, path = dice.choice(["config.yaml", overlay]), folder / "damaged.yaml"
    path.write_bytes(damaged((PROJECT / name).read_text(encoding="utf-8"), dice))

    def change() -> dict[str, Any]:
        values = read(path)
        base = values if name == "config.yaml" else copy.deepcopy(shipped("config.yaml"))
        update_config(base, copy.deepcopy(shipped(overlay)) if name == "config.yaml" else values)
        return base

    return tried(change, str(path))


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """Damage the configuration `trials` times."""
    n_planned = 0
    for number in range(trials):
        try:
            n_planned += trial(random.Random(f"{seed}-{number}"), folder)
        except Exception as error:
            raise AssertionError(f"seed {seed}, trial {number}: {type(error).__name__}: {str(error)[:2000]}") from error
    return Outcome(trials, trials, {"planned": n_planned, "refused in one sentence": trials - n_planned})
