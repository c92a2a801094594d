"""How a function becomes a stage: a command with `--spec` and `--digest`, which writes by the planned code alone."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nsbench.cli.arguments import DEVICE, Argument, Command, count, given_path, made_file, made_folder, option
from nsbench.config.base import Closed, ConfigError, parse

if TYPE_CHECKING:
    from pathlib import Path

    import torch

SPEC = Argument("--spec", {"required": True, "help": "the stage's settings, as canonical JSON"})
DIGEST = Argument("--digest", {"help": "digest of the code that was planned; left out, of the code as it is"})
PROCESSES = option("processes-per-gpu", count, "processes that share a GPU", default=1)

STAGES: dict[str, Command] = {}


def stage(
    name: str,
    help_: str,
    *more: Argument,
    reads: str = "",
    lists: str = "",
    optional: str = "",
    makes: str = "",
    folders: str = "",
    device: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function the stage `name`, with `--spec`, `--digest` and an option for each of the names.

    reads, lists, optional: files or folders, one, several or perhaps none, that it reads. makes, folders: files and
    folders that it makes. device: whether the function takes one besides its options. Plug-ins are loaded before.
    """
    arguments = [SPEC, DIGEST, *more]
    for names, type_, text, how in (
        (reads, given_path, "what to read", {"required": True}),
        (lists, given_path, "what to read", {"required": True, "nargs": "+"}),
        (optional, given_path, "what to read, if any", {}),
        (makes, made_file, "file to make", {"required": True}),
        (folders, made_folder, "folder to fill", {"required": True}),
    ):
        arguments += [option(each, type_, text, **how) for each in names.split()]

    def add(function: Callable[..., None]) -> Callable[..., None]:
        def run(options: argparse.Namespace) -> None:
            with contextlib.ExitStack() as held:
                given = []
                if device:
                    from nsbench.storage.device import use_device

                    # What imports torch comes after: it may see that device alone.
                    given = [held.enter_context(use_device(options.device, options.processes_per_gpu))]
                _hold_to_code(name, options, held)
                function(options, *given)

        STAGES[name] = Command(run, help_, (*arguments, *((DEVICE, PROCESSES) if device else ())))
        return function

    return add


def _hold_to_code(stage: str, options: argparse.Namespace, held: contextlib.ExitStack) -> None:
    """Load the plug-ins of a stage, and let it write only as long as its code is what was planned.

    Raises CodeError, or ConfigError for what cannot be loaded.
    """
    from nsbench.storage.code_digest import held_to

    spec = given_json(options)
    of_grid = spec.get("plugins") if isinstance(spec, dict) else None
    if of_grid or hasattr(options, "plugins"):
        from nsbench.workflow import plugins

        plugins.load([*getattr(options, "plugins", []), *(path for path in of_grid or [] if isinstance(path, str))])

    def own() -> str:
        from nsbench.cli.code import stage_code

        model = _evaluated(options.runs) if stage == "evaluate" else ""
        return stage_code(stage, spec, getattr(options, "name", ""), model)

    if options.digest is None:
        # A spec that is none is told of by what reads it.
        with contextlib.suppress(KeyError, TypeError, AttributeError, ConfigError):
            options.digest = own()
    if options.digest is not None:
        held.enter_context(held_to(options.digest, own))


def _evaluated(runs: Path) -> str:
    """The kind of the model that a pack was trained with, empty where its file does not say."""
    from nsbench.storage.parquet import read_stamp

    return json.loads(read_stamp(runs).get("spec", "{}")).get("model", {}).get("kind", "")


def given_json(options: argparse.Namespace, name: str = "spec") -> Any:
    """An option's JSON. Raises ConfigError naming the option where it is none."""
    try:
        return json.loads(getattr(options, name))
    except (ValueError, RecursionError) as error:
        flag = name.replace("_", "-")
        raise ConfigError(f"--{flag}: not JSON ({error}); the stage's settings as a JSON object are allowed") from None


def given_spec(options: argparse.Namespace, model: type[Closed]) -> Any:
    """The stage's settings. Raises ConfigError for what the model does not allow."""
    return parse(model, given_json(options), "spec")


def stamp_of(options: argparse.Namespace, device: torch.device | str = "cpu") -> dict[str, str]:
    """The provenance of what the stage makes."""
    from nsbench.storage.provenance import stamp

    return stamp(options.spec, options.digest, str(device))
