"""The commands `nsbench records export | import | verify`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nsbench.grid import load_files
from nsbench.plan import Plan
from nsbench.records import RecordError
from nsbench.run_records.matching import index


def export_(options: argparse.Namespace) -> None:
    from nsbench.exchange.export import export_records

    _tell(export_records(_plan(options), options.results, options.out).lines())


def import_(options: argparse.Namespace) -> None:
    from nsbench.exchange.importing import import_records

    outcome = import_records(_plan(options), options.sources, options.into)
    _tell(outcome.lines())
    if outcome.refused:
        raise RecordError(f"{len(outcome.refused)} records were refused, as listed above; the others are imported")


def verify(options: argparse.Namespace) -> None:
    from nsbench.device import use_device
    from nsbench.exchange.verify import AGREES, verify_records

    text = load_files(options.configfile).text
    with tempfile.TemporaryDirectory() as folder, use_device("cpu", 1):
        found = verify_records(
            options.sources,
            text,
            Path(folder),
            options.sample,
            options.seed,
            options.steps,
            lambda made: _tell([f"{made.verdict}: {made.name}: {made.words}"]),
        )
    wrong = [made.name for made in found if made.verdict != AGREES]
    if wrong:
        raise RecordError(f"{len(wrong)} of {len(found)} runs differ from their records: {', '.join(wrong)}")
    _tell([f"all {len(found)} runs agree with their records"])


def _plan(options: argparse.Namespace) -> Plan:
    config = load_files(options.configfile)
    return Plan(config, index(config))


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, flush=True)
