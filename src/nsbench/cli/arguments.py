"""Arguments of commands: their types, and the few kinds that tables of commands are made of."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from nsbench.config.base import ConfigError
from nsbench.config.errors import show


class Argument(NamedTuple):
    """An argument of a command: its name or flag, and how argparse reads it."""

    flag: str
    options: dict[str, Any]


class Command(NamedTuple):
    """A command: what runs it, its help in one line, and its arguments."""

    run: Callable[[argparse.Namespace], None]
    help: str
    arguments: tuple[Argument, ...]
    example: str = ""


class _Formatter(argparse.HelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        values = action.default if isinstance(action.default, list) else [action.default]
        if not values or values[0] in (None, argparse.SUPPRESS) or values[0] is False:
            return action.help
        return f"{action.help} (default: {' '.join(map(str, values))})"


def add_commands(actions: Any, commands: dict[str, Command]) -> None:
    """Add a parser for each command to the subparsers `actions`."""
    for name, command in commands.items():
        parser = actions.add_parser(
            name,
            help=command.help,
            description=command.help,
            epilog=command.example and f"example: {command.example}",
            allow_abbrev=False,
            formatter_class=_Formatter,
        )
        parser.set_defaults(run=command.run)
        for argument in command.arguments:
            parser.add_argument(argument.flag, **argument.options)


# --- types ----------------------------------------------------------------------------------------------


class MadePath(type(Path())):
    """The path of what a command makes."""


def seconds(text: str) -> float:
    """Seconds, with or without their unit."""
    return _above_zero("seconds above 0, as 60s", text.removesuffix("s"))


def gigabytes(text: str) -> float:
    return _above_zero("gigabytes above 0, as 4", text)


def _above_zero(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise _not_allowed(text, what)
    return value


def count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", text) or int(text) < 1:
        raise _not_allowed(text, "a whole number in 1 ... 999999999999")
    return int(text)


def words(text: str) -> str:
    if not text or not text.isprintable():
        raise _not_allowed(text, "a name or path")
    return text


def given_path(text: str) -> Path:
    return Path(words(text))


def made_file(text: str) -> MadePath:
    if os.path.isdir(words(text)):
        raise argparse.ArgumentTypeError(f"{show(text)} is a folder; allowed: a file, there or not")
    return MadePath(text)


def made_folder(text: str) -> MadePath:
    if os.path.isfile(words(text)):
        raise argparse.ArgumentTypeError(f"{show(text)} is a file; allowed: a folder, there or not")
    return MadePath(text)


def _not_allowed(text: str, allowed: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{show(text)} is not allowed; allowed: {allowed}")


# --- kinds ----------------------------------------------------------------------------------------------


def option(name: str, type_: Callable[[str], Any], help_: str, **more: Any) -> Argument:
    """An option with a value; `more` as of argparse."""
    return Argument(f"--{name}", {"type": type_, "help": help_, **more})


DEVICE = Argument("--device", {"choices": ["auto", "cpu", "cuda"], "default": "auto", "help": "where to compute"})
MEMORY = option("max-memory-gb", gigabytes, "memory for one batch, in GB", default=4.0)


# --- paths of a call ------------------------------------------------------------------------------------


def paths(options: argparse.Namespace) -> Iterable[tuple[str, Path]]:
    """(argument's name, path) of every path of a call."""
    for name, value in vars(options).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path):
                yield name, path


def refuse_twins(options: argparse.Namespace) -> None:
    """Refuse to make a file in the place of one that is read, or of another that is made. Raises ConfigError."""
    seen: dict[str, tuple[str, bool]] = {}
    for name, path in paths(options):
        made = isinstance(path, MadePath)
        first, first_made = seen.setdefault(os.path.realpath(path), (name, made))
        if first != name and (made or first_made):
            flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in (first, name))
            raise ConfigError(f"{flags} are both {show(str(path))}; each needs a path of its own")
