"""Random damage to the shipped configuration files: each ends as a plan or as one sentence, never as anything else."""

from __future__ import annotations

import copy
import functools
import random
import time
from collections import Counter
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
from tests.faults.outcome import Outcome, main

PROJECT = Path(__file__).parents[2]
OVERLAYS = ("workflow/config/demo.yaml", "workflow/config/published.yaml", "tests/config/tiny.yaml")
LONGEST_SECONDS, LONGEST_MESSAGE = 4.0, 600
JARGON = ("Input should", "pydantic", "Traceback", "<class", "object at 0x", "validation error")
"""Words of the libraries that no user should have to read."""
VALUES = [
    *("[]", "{}", "~", "true", "0", "-1", "2.5", ".nan", ".inf", "1e-3", "1e999", "0x1F", "2020-01-01", "../x", "é"),
    *('""', '" "', '"\\0"', '"\\e[31m"', '"a\\nb"', "[[]]", "[{}]", "{x: 1}", "[~]", "*a", "&a", "!!python/name:os"),
]


def damaged(text: str, dice: random.Random) -> bytes:
    """A file of settings with one to three of its lines, values or bytes changed."""
    lines = text.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        place = dice.randrange(len(lines[at]))
        key, colon, _ = lines[at].partition(": ")
        way = dice.randrange(9)
        if way == 0:
            del lines[at]
        elif way == 1:
            lines.insert(at, lines[other])
        elif way == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif way == 3:
            lines[at] = dice.choice([" ", "\t", "- ", "? ", "&a ", "*a ", "# "]) + lines[at]
        elif way == 4:
            lines[at] = lines[at].lstrip(" ")
        elif way == 5:
            lines[at] = lines[at][:place] + dice.choice("[]{}:,&*!|>'\"%@`#-?\t\0é\n x") + lines[at][place:]
        elif way == 6:
            lines[at] = lines[at][:place] + lines[at][place + 1 :]
        elif colon:
            lines[at] = f"{key}: {dice.choice([*VALUES, lines[other].partition(': ')[2].strip()])}\n"
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


def check_message(message: str, keys: set[str], file: str) -> None:
    """Whether a refusal is one short sentence that begins with a place: a key, or the file."""
    assert message.isprintable(), f"more than one line, or control characters: {message!r}"
    assert len(message) < LONGEST_MESSAGE, f"{len(message)} characters: {message!r}"
    assert not any(word in message for word in JARGON), f"jargon: {message!r}"
    assert message.startswith((file, "config: ", *keys)), f"names no place: {message!r}"


def tried(change: Callable[[], dict[str, Any]], file: str = "no file") -> str:
    """What becomes of changed values: 'planned', or why they are refused. Raises AssertionError for all else."""
    keys = set(Config.model_fields)
    began = time.process_time()
    try:
        values = change()
        keys |= {word for key in values for word in (str(key), show(key)) if word}
        planned(values)
        said = "planned"
    except ConfigError as error:
        said = str(error)
        check_message(said, keys, file)
    seconds = time.process_time() - began
    assert seconds < LONGEST_SECONDS, f"took {seconds:.1f} s: {said!r}"
    return said


@functools.cache
def shipped(name: str) -> dict[str, Any]:
    """A shipped file's values; not to be changed."""
    return yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))


def trial(dice: random.Random, folder: Path) -> str:
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
    found: Counter[str] = Counter()
    for number in range(trials):
        try:
            said = trial(random.Random(f"{seed}-{number}"), folder)
        except Exception as error:
            raise AssertionError(f"seed {seed}, trial {number}: {type(error).__name__}: {str(error)[:2000]}") from error
        found["planned" if said == "planned" else "refused in one sentence"] += 1
    return Outcome(trials, trials, dict(found))


if __name__ == "__main__":
    main(run, 5000)
