"""The same numbers to the bit, whatever the cores, threads, packs, order of seeds, hash seed and interruptions.

Each trial runs the small grid with some of these changed, by processes of its own as a user's, and
compares every history, run and evaluation.

    python -m tests.faults.same_numbers --trials 20 --seed 3
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.faults.kill import OVERLAY, differences, tables, wipe
from tests.faults.outcome import Outcome, main
from tests.warm import Warm
from tests.workflow_clone import Clone

COLLECTED = "results/collected/history.parquet"
KEYS = ["task", "variant", "arm", "seed", "step", "measure", "reduction", "rho"]
CHANGES: dict[str, tuple[dict[str, Any], list[str], dict[str, str]]] = {
    "one core": ({}, ["--cores", "1"], {}),
    "two threads asked for": ({}, [], {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    "packs of one": ({"runs_per_pack": 1}, [], {}),
    "seeds in the other order": ({"seeds": [1, 0]}, [], {}),
    "progress after each step": ({"progress_every_seconds": 1e-6}, [], {}),
    "another hash seed": ({}, [], {"PYTHONHASHSEED": "12345"}),
}
"""What is changed: settings, options of Snakemake, environment."""


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """An undisturbed workflow, then `trials` of them with changes; AssertionError where a number is another."""
    clone = Clone(folder / "clone", Warm([]))
    clone.warm.close()
    calm = _numbers(clone, [])
    changed: Counter[str] = Counter()
    for trial in range(trials):
        dice = random.Random(f"{seed} {trial}")
        # Each change alone at first, then several at once.
        names = list(CHANGES)
        chosen = [names[trial]] if trial < len(names) else dice.sample(names, dice.randint(2, 4))
        changed.update(chosen)
        found = _numbers(clone, chosen)
        assert differences(calm, found) == [], f"seed {seed}, trial {trial}: other numbers with {', '.join(chosen)}"
        print(f"same_numbers {trial + 1} of {trials}: {', '.join(chosen)}", file=sys.stderr, flush=True)
    return Outcome(trials, sum(changed.values()), dict(changed))


def _numbers(clone: Clone, changes: list[str]) -> dict[str, pd.DataFrame]:
    """Histories, runs and evaluations of the grid, in an order of their own; the results are gone afterwards."""
    settings: dict[str, Any] = {}
    options, environment = [], clone.environment()
    for name in changes:
        some, more, variables = CHANGES[name]
        settings |= some
        options += more
        environment |= variables
    overlay = clone.root / "changed.yaml"
    overlay.write_text(yaml.safe_dump(settings) if settings else "scale: demo")
    call = [sys.executable, "-m", "snakemake", COLLECTED, *clone.options(OVERLAY), overlay.name, *options]
    done = subprocess.run(call, cwd=clone.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = {}
    for name, table in tables(clone.root / "results").items():
        keys = [key for key in KEYS if key in table]
        found[name] = table.sort_values(keys, kind="stable").reset_index(drop=True)
    wipe(clone)
    return found


if __name__ == "__main__":
    os.environ.pop("PYTHONHASHSEED", None)
    main(run, len(CHANGES) + 2)
