"""Take others' records into a folder of one's own, if they are whole and fit the grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nsbench.config.base import NAME_PATTERN, ConfigError
from nsbench.records.export import Outcome, merge
from nsbench.storage.records import KEYS, Record, checked_records, record_files
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import current, difference, settings_of

CELL_KEYS = KEYS[:-1]


def import_records(plan: Plan, sources: Iterable[Path | str], into: Path) -> Outcome:
    """Add the records in files and folders to a folder of records.

    Refused, by name and reason, are records that are damaged, that fit no cell of the grid, whose seed the grid does
    not have, or that the folder has with other numbers. Raises RecordError where a source is no file of records.
    """
    seeds = {}
    for cell in plan.cells.values():
        seeds.setdefault(settings_of(cell), set()).update(cell.seeds)
    outcome, fitting = Outcome(), []
    seen: dict[tuple[str, int], Record] = {}
    for path in record_files(sources):
        for record, damage in checked_records(path):
            reason = damage or _misfit(plan, seeds, record)
            if not reason:
                first = seen.setdefault((current(record.settings), record.seed), record)
                if first.numbers != record.numbers:
                    reason = f"{first.path} and {path} have records of this run with different numbers"
            if reason:
                outcome.refused[record.name] = reason
            elif first is record:
                fitting.append(record)
    return merge(fitting, into, outcome)


def _misfit(plan: Plan, seeds: dict[str, set[int]], record: Record) -> str:
    """Why a record is of no run of the grid, or not to be filed; empty where it is of one."""
    # Its file is named after it.
    if not all(NAME_PATTERN.fullmatch(record.row[name]) for name in CELL_KEYS):
        return f"{record.path}: its task, variant or arm is no name; letters, digits, '_', '-' and '.' are allowed"
    try:
        settings = current(record.settings)
    except ConfigError as error:
        return f"{record.path}: it is of code with other settings ({error})"
    if settings in seeds:
        return (
            "" if record.seed in seeds[settings] else f"{record.path}: the grid has no seed {record.seed} of its cell"
        )
    cell = plan.cells.get(tuple(record.row[name] for name in CELL_KEYS))
    if cell is None:
        return f"{record.path}: no cell of the grid has its settings, nor its name"
    return f"{record.path}: it is of another spec than the grid's: {difference(settings, settings_of(cell))}"
