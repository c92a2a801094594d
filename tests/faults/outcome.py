"""What a fault script reports, and its command line."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """Of one script: faults provoked, and what was found; what is lost ends a script with an error instead."""

    trials: int
    faults: int
    """Faults that really struck: a kill after the end is none."""
    found: dict[str, int | float | str]
    """Further figures, by name."""
    skipped: str = ""
    """Why nothing was tried, where that is so."""


Script = Callable[[int, int, Path], Outcome]
"""(trials, seed, an empty folder) -> Outcome."""


def show(name: str, outcome: Outcome, seconds: float) -> str:
    """One line of the table."""
    if outcome.skipped:
        return f"{name:<12} skipped: {outcome.skipped}"
    figures = ", ".join(f"{key} {value}" for key, value in outcome.found.items())
    return (
        f"{name:<12} {outcome.trials} trials, {outcome.faults} faults, nothing lost; {figures}; {seconds / 60:.1f} min"
    )


def timed(name: str, script: Script, trials: int, seed: int) -> str:
    """Run a script in a folder of its own; its line of the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nsbench-faults-") as folder:
        outcome = script(trials, seed, Path(folder))
    return show(name, outcome, time.monotonic() - began)


def main(script: Script, trials: int) -> None:
    """The command line of one script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name = script.__module__.rpartition(".")[2]
    if name == "__main__":
        import __main__

        name = Path(__main__.__file__).stem
    print(timed(name, script, options.trials, options.seed), flush=True)
