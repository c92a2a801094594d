"""The commands `nsbench records export | check | import | verify`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nsbench.analysis.statistics.times import run_name
from nsbench.storage.parquet import RecordError
from nsbench.workflow.grid import load_files
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import index


def _export(options: argparse.Namespace) -> None:
    from nsbench.records.exchange import export_records

    _tell(export_records(_plan(options), options.results, options.out).lines())


def _check(options: argparse.Namespace) -> None:
    plan = _plan(options)
    lacking = [(*pack[:3], seed) for pack in plan.packs for seed in plan.seeds[pack[-1]]]
    if lacking:
        raise RecordError(
            f"{len(lacking)} runs of the grid have no record, the first is {run_name(*lacking[0])}; train them, "
            "as make queue does"
        )
    _tell([f"all {sum(map(len, plan.recorded.values()))} runs of the grid have a record"])


def _import(options: argparse.Namespace) -> None:
    from nsbench.records.exchange import import_records

    outcome = import_records(_plan(options), options.sources, options.into)
    _tell(outcome.lines())
    if outcome.refused:
        raise RecordError(f"{len(outcome.refused)} records were refused, as listed above; the others are imported")


def _verify(options: argparse.Namespace) -> None:
    from nsbench.records.verify import AGREES, verify_records
    from nsbench.storage.device import use_device

    text, found = load_files(options.configfile).text, []
    with tempfile.TemporaryDirectory() as folder, use_device("cpu"):
        for made in verify_records(options.sources, text, Path(folder), options.sample, options.seed, options.steps):
            _tell([f"{made.verdict}: {made.name}: {made.words}"])
            found.append(made)
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


ACTIONS = {"export": _export, "check": _check, "import": _import, "verify": _verify}
