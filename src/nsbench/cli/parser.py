"""The command line: `nsbench <command> ...` for people, and `nsbench stage <name> ...` for the workflow's rules."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nsbench import __version__
from nsbench.cli.arguments import (
    DEVICE,
    MEMORY,
    Argument,
    Command,
    MadePath,
    add_commands,
    count,
    given_path,
    made_file,
    made_folder,
    option,
    paths,
    refuse_twins,
    seconds,
    words,
)
from nsbench.cli.stages import STAGES
from nsbench.config.base import ConfigError
from nsbench.config.pretrained import INPUTS, READOUTS
from nsbench.storage.cores import usable_cores
from nsbench.storage.locks import locked


def main(arguments: list[str] | None = None) -> int:
    """Run a command; problems that a user can mend end with one sentence and exit status 2."""
    # Imports fill memory with what stays; searching that again and again takes a tenth of a short stage's time.
    gc.set_threshold(50_000, 20, 100)
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # It logs each step of putting a font into a PDF.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    name = f"stage {options.stage}" if options.command == "stage" else options.command
    try:
        refuse_twins(options)
        with _alone(options):
            options.run(options)
    except Exception as error:
        if not _for_users(error):
            raise
        print(f"nsbench {name}: {error}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _alone(options: argparse.Namespace) -> Iterator[None]:
    """Let one process at a time make a stage's files, of those that would make the same.

    A job may outlive its workflow; the next one's job must be the last to write, for its settings may be newer.
    An import into MLflow has a lock of its own, and runs have theirs.
    """
    stage = getattr(options, "stage", options.command)
    of_this_job = [path for name, path in paths(options) if name != "run_store" and isinstance(path, MadePath)]
    # The files that a job makes are its alone, so the first of them stands for all.
    made = min(of_this_job, default=None)
    if stage in ("track", "records", "queue", "new") or made is None or not os.path.isdir(made.parent):
        yield
        return
    lock = made / ".locks" / f"{stage}.lock" if os.path.isdir(made) else made.parent / ".locks" / f"{made.name}.lock"
    with locked(lock, f"another process makes {made}; waiting for that"):
        yield


def _for_users(error: Exception) -> bool:
    from nsbench.data.text_sources import TextError
    from nsbench.pretrained.sources import ModelError
    from nsbench.pretrained.texts import InputError
    from nsbench.storage.atomic import FileError
    from nsbench.storage.code_digest import CodeError
    from nsbench.storage.device import DeviceError
    from nsbench.tracking import TrackingError

    kinds = ConfigError | CodeError | FileError | DeviceError | TextError | TrackingError | ModelError | InputError
    return isinstance(error, kinds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nsbench", description="Reproduce, measure and extend: noise stability.")
    parser.add_argument("--version", action="version", version=f"nsbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(commands, COMMANDS)
    text = "records of finished runs: files of some kilobytes a run, to publish, to send and to build on"
    records = commands.add_parser("records", help=text, description=text)
    add_commands(records.add_subparsers(dest="action", required=True, metavar="ACTION"), RECORDS)
    text = "a step of the workflow; snakemake calls it"
    stage = commands.add_parser("stage", help=text, description=text)
    add_commands(stage.add_subparsers(dest="stage", required=True, metavar="STAGE"), STAGES)
    return parser


# --- what people type -----------------------------------------------------------------------------------


def _measure(options: argparse.Namespace) -> None:
    from nsbench.cli.measure import measure_one

    measure_one(options)


def _new(options: argparse.Namespace) -> None:
    from nsbench.cli.new import new

    print(new(options.what, options.name, options.out))


def _queue(options: argparse.Namespace) -> None:
    from nsbench.cli.queue import Queue, run, status, status_lines

    queue = Queue(options.overlays, Path(options.records))
    if options.action == "status":
        print("\n".join(status_lines(status(queue))))
    else:
        run(queue, options.cores or usable_cores(), options.gpus, options.export_every)


def _records(options: argparse.Namespace) -> None:
    from nsbench.cli import records

    records.ACTIONS[options.action](options)


def _several(name: str, help_: str, allowed: Sequence[str], **more: Any) -> Argument:
    """An option with one or more of a few values."""
    text = f"{help_}: {', '.join(allowed)}"
    return option(name, str, text, nargs="+", choices=allowed, metavar="NAME", **more)


CONFIG = Path("config.yaml")
MODEL_HELP = "a model's folder, a run's folder, a name of the configuration's, or of the Hugging Face hub"
COMMANDS = {
    "measure": Command(
        _measure,
        "how stable a language model is, and which positions of its input it depends on",
        (
            Argument("model", {"type": words, "help": MODEL_HELP}),
            option("text", given_path, "a UTF-8 text; of a run its data set's file", required=True),
            option("out", made_folder, "folder for tables, figure and page; left out, nothing is written"),
            Argument("--full", {"action": "store_true", "help": "print all tables too"}),
            option("rho", float, "correlations of noise stability", nargs="+", default=[0.5, 0.9]),
            option("n-tokens", count, "tokens of a sequence", default=256),
            option("n-sequences", count, "sequences", default=16),
            _several("readouts", "what is read off the model, all that it has if left out", READOUTS),
            _several("inputs", "kinds of inputs", INPUTS, default=["text"]),
            Argument("--no-control", {"action": "store_true", "help": "leave the randomly initialised copy out"}),
            option("seed", int, "of inputs and noise", default=0),
            option("config", given_path, "where names of models are looked up", default=CONFIG),
            DEVICE,
            option("batch-size", count, "sequences at a time; left out, as many as memory allows"),
            MEMORY,
        ),
        "nsbench measure gpt2 --text my.txt --out measured",
    ),
    "new": Command(
        _new,
        "write a file for something of your own, complete and ready to edit",
        (
            Argument("what", {"choices": ["arm", "task", "model", "measure", "figure"], "help": "what it is"}),
            Argument("name", {"help": "its name: a-z, 0-9 and '_', a letter first"}),
            option("out", made_file, "the file; left out, NAME.py in this folder"),
        ),
    ),
    "queue": Command(
        _queue,
        "run a folder of overlays one after the other in the background, and export what is finished",
        (
            Argument("action", {"choices": ["run", "status"], "help": "run: work; status: what is left, in hours"}),
            option("overlays", given_path, "folder of overlays, or one file", default=Path("workflow/config/queue")),
            option("records", made_folder, "folder of records", default="results/published/records"),
            option("cores", count, "processes at a time; left out, all cores"),
            option("gpus", count, "GPUs, if there are any", default=1),
            option("export-every", seconds, "seconds between exports, as 600s", default=600.0),
        ),
    ),
}

_CONFIGURATION = option("configfile", given_path, "config.yaml and what is laid over it", nargs="+", default=[CONFIG])
_SOURCES = Argument("sources", {"type": given_path, "nargs": "+", "metavar": "FOLDER|FILE", "help": "records"})
RECORDS = {
    "export": Command(
        _records,
        "add records of the finished runs of a grid to a folder of records",
        (
            _CONFIGURATION,
            option("results", given_path, "folder of results", default=Path("results")),
            option("out", made_folder, "folder of records", required=True),
        ),
    ),
    "check": Command(
        _records, "whether every run of a grid has a record among those that its configuration names", (_CONFIGURATION,)
    ),
    "import": Command(
        _records,
        "check others' records, and add those that fit the grid to a folder of records",
        (_CONFIGURATION, _SOURCES, option("into", made_folder, "folder of records", required=True)),
    ),
    "verify": Command(
        _records,
        "train a sample of recorded runs again, and compare",
        (
            _CONFIGURATION,
            _SOURCES,
            option("sample", count, "runs to train again", default=3),
            option("seed", int, "draws the sample", default=0),
            option("steps", count, "train no longer than this, and compare the beginning"),
        ),
    ),
}
