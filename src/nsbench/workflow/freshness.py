"""Whether files that are there were made by the settings and the code of now. Partial work asks: it remakes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsbench.config.theory import EXPERIMENTS
from nsbench.schemas.pretrained import PARTS, TABLES
from nsbench.storage.atomic import FileError
from nsbench.storage.parquet import read_stamp
from nsbench.workflow.plan import Plan, digest


def is_of(path: Path, spec: Any, code: str) -> bool:
    """Whether a file was made by these settings and this code. Raises as `read_stamp` does."""
    found = read_stamp(path)
    try:
        return json.loads(found.get("spec", "")) == spec and found.get("source_digest") == code
    except ValueError:
        return False


def is_newer(source: Path, made: Path) -> bool:
    """Whether `made` is older than what it was made from, as after a copy without times too."""
    return source.exists() and source.stat().st_mtime_ns > made.stat().st_mtime_ns


def outdated(plan: Plan, results: Path, text_spec: Any = None) -> list[str]:
    """Which of `theory` and `pretrained` have files in the folder `results` that are not of now.

    Files that are not there, or that are damaged, count as nothing here: what reads them names them.
    text_spec: the spec of the text stage; None: the text is not looked at.
    """
    return [name for name, made in _MADE.items() if not _all_of_now(list(made(plan, results, text_spec)), results)]


def _theory(plan: Plan, results: Path, text_spec: Any) -> Iterator[tuple[Path, str, str]]:
    if plan.config.theory is not None:
        for name in EXPERIMENTS:
            spec = plan.experiment(name)
            yield results / f"theory/{name}.points.parquet", spec, digest("simulate", name)
            yield results / f"theory/{name}.table.parquet", spec, digest("theory")
        yield results / "tables/theory.parquet", "{}", digest("theory")


def _pretrained(plan: Plan, results: Path, text_spec: Any) -> Iterator[tuple[Path, str, str]]:
    if plan.config.pretrained is not None:
        if text_spec is not None:
            yield results / "text.parquet", json.dumps(text_spec), digest("text")
        for name in plan.config.pretrained.chosen:
            for part in PARTS:
                yield results / f"pretrained/{name}/{part}.parquet", plan.pretrained(name), digest("pretrained")
        for name in TABLES:
            yield results / f"tables/{name}.parquet", plan.pretrained_tables(), digest("pretrained-tables")


_MADE = {"theory": _theory, "pretrained": _pretrained}
"""Part -> its files with their specs and source digests: the joined tables, and what these are made from."""


def _all_of_now(made: list[tuple[Path, str, str]], results: Path) -> bool:
    there = [entry for entry in made if entry[0].exists()]
    tables = [path for path, *_ in there if path.parent == results / "tables"]
    sources = [path for path, *_ in there if path not in tables]
    try:
        return all(is_of(path, json.loads(spec), code) for path, spec, code in there) and not any(
            is_newer(source, table) for source in sources for table in tables
        )
    except FileError:
        return True
