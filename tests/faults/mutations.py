"""Random damage to the shipped configuration: each ends as a plan or as one sentence, never as anything else."""

from __future__ import annotations

import copy
import functools
import random
import signal
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
LONGEST_SECONDS = 2.0
LONGEST_MESSAGE = 600
JARGON = ("Input should", "pydantic", "Traceback", "<class", "object at 0x", "valid string", "validation error")
"""Words of the libraries that no user should have to read."""

Place = tuple[Any, Any]
"""A section or list, and the key or index of one of its values."""


# --- damage to values ----------------------------------------------------------------------------------


def places(values: Any) -> list[Place]:
    """Places of values that hold something, those far down left out: values may stand inside themselves."""
    found: list[Place] = []
    level = [values]
    for _ in range(10):
        here = [
            (value, key)
            for value in level
            for key in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ())
        ]
        found += here[:5000]
        level = [value[key] for value, key in here[:5000]]
    return found


def scalar(dice: random.Random) -> Any:
    """A random value as YAML may give it, most of them unfit."""
    plain: list[Callable[[], Any]] = [
        lambda: dice.choice([None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**70), 10**400, 16**5000]),
        lambda: dice.choice([0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")]),
        lambda: dice.randint(-(10 ** dice.randint(1, 30)), 10 ** dice.randint(1, 30)),
        lambda: dice.uniform(-2, 2) * 10.0 ** dice.randint(-30, 30),
        lambda: dice.choice(["", " ", "~", "yes", "null", "1e-3", "1e999", ".", "..", "../x", "/", "a/b", "-x", "x\n"]),
        lambda: dice.choice(
            ["\0", "\x1b[31m", "\ud800", "é", "日本", "𝛾", "\u202e", "a" * 256, "a" * 20_000, "9" * 5000]
        ),
        lambda: "".join(dice.choices(string.printable, k=dice.randint(1, 40))),
        lambda: yaml.safe_load(
            dice.choice(["2020-01-01", "2001-12-14t21:59:43.10-05:00", "0x1F", "0o7", "1_000", "12:30"])
        ),
        lambda: dice.choice([b"bytes", (1, 2), {1, 2}]),
        lambda: dice.choice([[], {}, [[]], [{}], [None], {"": 1}, {None: 1}, {1: 2}, {"x": {}}]),
        lambda: [scalar(dice) for _ in range(dice.randint(1, 5))],
        lambda: {dice.choice(["kind", "n", "x", 3, None, "rho"]): scalar(dice) for _ in range(2)},
        lambda: list(range(dice.choice([10, 1000, 30_000]))),
        lambda: deep(dice.choice([5, 60, 5000])),
    ]
    return dice.choice(plain)()


def deep(levels: int) -> list[Any]:
    """A list in a list in a list ..."""
    values: list[Any] = []
    for _ in range(levels):
        values = [values]
    return values


def damage(values: dict[str, Any], dice: random.Random) -> str:
    """Change one place of values; what was done."""
    here, key = dice.choice(places(values))
    there, other = dice.choice(places(values))
    done = dice.choice(["delete", "retype", "nudge", "swap", "splice", "rename", "double", "unknown", "itself", "text"])
    if done == "delete":
        del here[key]
    elif done == "retype":
        here[key] = scalar(dice)
    elif done == "nudge":
        here[key] = nudged(here[key], dice)
    elif done == "swap":
        here[key], there[other] = there[other], here[key]
    elif done == "splice":
        here[key] = there[other]  # one and the same, as a YAML alias makes it
    elif done == "rename":
        rename(here, key, dice)
    elif done == "double":
        double(here, key, dice)
    elif done == "unknown" and isinstance(here, dict):
        here[dice.choice(["x", 7, None, True, "", "a" * 300, "b\nc", 2.5, ("t",), "\ud800"])] = scalar(dice)
    elif done == "itself":
        here[key] = here
    elif done == "text":
        here[key] = as_text(here[key])
    return done


def as_text(value: Any) -> str:
    """A plain value in quotes."""
    return str(value)[:1000] if isinstance(value, str | bool | float | None) or fits(value) else "text"


def fits(value: Any) -> bool:
    """Whether a value is a whole number that Python writes out."""
    return isinstance(value, int) and value.bit_length() < 1000


def nudged(value: Any, dice: random.Random) -> Any:
    """A number somewhat or far from what it was; other values as they are."""
    if isinstance(value, bool) or not (isinstance(value, float) or fits(value)):
        return value
    factor = dice.choice([-1, 0, 0.5, 1, 2, 3, 10, 1000, 10**6, 10**9])
    changed = value * factor + dice.choice([0, 0, 1, -1])
    return int(changed) if isinstance(value, int) and abs(changed) < 1e300 else changed


def rename(here: Any, key: Any, dice: random.Random) -> None:
    """Misspell a key, or write it in the other case."""
    if not isinstance(here, dict) or not isinstance(key, str) or not key:
        return
    at = dice.randrange(len(key))
    ways = [
        key[:at] + key[at + 1 :],
        key[:at] + dice.choice(string.ascii_letters) + key[at:],
        key.swapcase(),
        key + " ",
    ]
    here[dice.choice(ways)] = here.pop(key)


def double(here: Any, key: Any, dice: random.Random) -> None:
    """The same value once more, in a list or under a name that is much like its own."""
    if isinstance(here, list):
        here.insert(key, here[key])
    else:
        here[dice.choice([f"{key}2", str(key).upper(), f"{key}-2"])] = here[key]


# --- damage to text ------------------------------------------------------------------------------------


def damaged_text(text: str, dice: random.Random) -> bytes:
    """A file of settings with one to three of its lines or bytes changed."""
    lines = text.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        way = dice.randrange(8)
        if way == 0:
            del lines[at]
        elif way == 1:
            lines.insert(at, lines[other])
        elif way == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif way == 3:
            lines[at] = dice.choice([" ", "  ", "\t", "- ", "? ", "&a ", "*a ", "!!python/name:os ", "# "]) + lines[at]
        elif way == 4:
            lines[at] = lines[at].lstrip(" ")
        elif way == 5:
            place = dice.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + dice.choice("[]{}:,&*!|>'\"%@`#-?\t\0é\n ") + lines[at][place:]
        elif way == 6:
            lines[at] = lines[at].replace(":", dice.choice(["", "=", ": :", ":\n"]), 1)
        else:
            lines = lines[: at + 1]
    content = "".join(lines).encode()
    if dice.random() < 0.1:
        place = dice.randrange(len(content) + 1)
        content = content[:place] + bytes(dice.choices(range(256), k=dice.randint(1, 4))) + content[place:]
    return content


# --- what becomes of it --------------------------------------------------------------------------------


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError where the block takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def planned(values: dict[str, Any]) -> int:
    """Plan a configuration and its specs, as the Snakefile does; how many packs there are. Raises ConfigError."""
    plan = Plan(load(values))
    plan.grid("analysis", "tracking")
    for task, variant, arm, pack in plan.packs[:20]:
        plan.train(task, variant, arm, pack)
        plan.evaluate(task, variant, arm, pack)
    for task, variant, pack in plan.datasets()[:5]:
        plan.dataset(task, variant, pack)
    if plan.config.pretrained is not None:
        for name in plan.config.pretrained.chosen:
            plan.pretrained(name)
            plan.model_files(name)
    # What stages are given is a configuration again, and the same one.
    again = canonical_json(plan.config)
    assert canonical_json(load(plan.config.model_dump(mode="json"))) == again
    return len(plan.packs)


def check_message(message: str, keys: set[str], file: str) -> None:
    """Whether a refusal is one short sentence that begins with a place: a key, or the file."""
    assert "\n" not in message, f"more than one line: {message!r}"
    assert message.isprintable(), f"control characters: {message!r}"
    assert len(message) < LONGEST_MESSAGE, f"{len(message)} characters: {message!r}"
    assert not any(word in message for word in JARGON), f"jargon: {message!r}"
    assert message.startswith((file, "config: ", *keys)), f"names no place: {message!r}"


def tried(change: Callable[[], dict[str, Any]], file: str = "no file") -> str:
    """What becomes of changed values: 'planned', or why they are refused. Raises AssertionError for all else."""
    keys = set(Config.model_fields)
    began = time.process_time()
    try:
        with limited(10 * LONGEST_SECONDS):
            values = change()
            keys |= {word for key in values for word in (str(key), show(key), show(int(key == 1))) if word}
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
    """One configuration damaged and tried: its values seven times of ten, else the text of a file."""
    overlay = dice.choice(OVERLAYS)
    base, layer = copy.deepcopy(shipped("config.yaml")), copy.deepcopy(shipped(overlay))
    if dice.random() < 0.3:
        text = (PROJECT / dice.choice(["config.yaml", overlay])).read_text(encoding="utf-8")
        path = folder / "damaged.yaml"
        path.write_bytes(damaged_text(text, dice))

        def change() -> dict[str, Any]:
            values = read(path)
            update_config(base, values)
            return base

        return tried(change, str(path))
    which = base if dice.random() < 0.5 else layer
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if places(which):
            damage(which, dice)

    def change_values() -> dict[str, Any]:
        if which is layer or dice.random() < 0.7:
            try:
                update_config(base, layer)
            except RecursionError:
                return layer  # Snakemake's own limit; the file's check refuses it before
        return base

    return tried(change_values)


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
