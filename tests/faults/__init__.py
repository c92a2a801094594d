"""Long tests that provoke faults: `make test-faults` runs all, `python -m tests.faults kill --trials 500` one of them.

A script is a module with `run(trials, seed, an empty folder) -> Outcome`; where something is lost it raises
AssertionError with the seed and the trial.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Faults that a script provoked, and what was found."""

    trials: int
    faults: int
    """Faults that really struck: a kill after the end is none."""
    found: dict[str, int | float | str]
    """Further figures, by name."""
    skipped: str = ""
    """Why nothing was tried, where that is so."""

    def __str__(self) -> str:
        figures = ", ".join(f"{key} {value}" for key, value in self.found.items())
        told = f"{self.trials} trials, {self.faults} faults, nothing lost; {figures}"
        return f"skipped: {self.skipped}" if self.skipped else told
