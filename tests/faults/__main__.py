"""Fault scripts, one after the other, and what they found."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = {"kill": 50, "full_disk": 8, "tracking": 20, "mutations": 5000}
"""Trials of each, as many as the promise of docs/reliability.md rests on."""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"{', '.join(SCRIPTS)}; left out, all")
parser.add_argument("--trials", type=int, help="left out, the usual number")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

lines = []
for name in options.scripts or SCRIPTS:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nsbench-faults-") as folder:
        try:
            run = importlib.import_module(f"tests.faults.{name}").run
            line = str(run(options.trials or SCRIPTS[name], options.seed, Path(folder)))
        except AssertionError as error:
            line = f"FAILED: {error}"
    lines.append(f"{name:<12} {line}; {(time.monotonic() - began) / 60:.1f} min")
    print(lines[-1], file=sys.stderr, flush=True)
print("\n".join(lines))
sys.exit(any("FAILED" in line for line in lines))
