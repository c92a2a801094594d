"""All fault scripts, one after the other, and what they found: `make test-faults`."""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.faults.outcome import timed

SCRIPTS = {"kill": 50, "same_numbers": 8, "full_disk": 8, "tracking": 20, "mutations": 5000}
"""Trials of each, as many as the promise of docs/reliability.md rests on."""


def run_all(share: float, seed: int) -> int:
    """Run each script with `share` of its trials; 1 where one of them lost something."""
    lines, failed = [], False
    for name, trials in SCRIPTS.items():
        try:
            line = timed(name, importlib.import_module(f"tests.faults.{name}").run, max(1, round(trials * share)), seed)
        except AssertionError as error:
            failed, line = True, f"{name:<12} FAILED: {error}"
        print(line, file=sys.stderr, flush=True)
        lines.append(line)
    print("\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers of trials")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(run_all(options.share, options.seed))
