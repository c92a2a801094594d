"""Do existing files match the current settings and code? For partial reports, and where Snakemake has no record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from nsbench.config.theory import EXPERIMENTS
from nsbench.schemas.pretrained import PARTS, TABLES
from nsbench.storage.atomic import FileError
from nsbench.storage.parquet import read_stamp
from nsbench.storage.tensors import read_tensors
from nsbench.workflow.digests import digest
from nsbench.workflow.plan import Plan

STAMPED = (".parquet", ".safetensors")


def is_fresh(path: Path, spec: str, code: str) -> bool:
    """Whether a file was made by these settings and this code. Raises as `read_stamp` and `read_tensors` do."""
    if path.suffix == ".safetensors":
        found = read_tensors(path, "data set", "run its stage again", wanted=lambda name: False)[1]
    else:
        found = read_stamp(path)
    return (found.get("spec"), found.get("source_digest")) == (spec, code)


def are_fresh(paths: Iterable[Path], spec: str, code: str) -> bool:
    """Whether `is_fresh` holds of all files that say of what they are, of one at least, and none is damaged."""
    stamped = [path for path in paths if path.suffix in STAMPED and path.exists()]
    try:
        return bool(stamped) and all(is_fresh(path, spec, code) for path in stamped)
    except FileError:
        return False


def is_newer(source: Path, made: Path) -> bool:
    """Whether `source`, from which `made` was made, is newer than `made`; no if it is not there."""
    return source.exists() and source.stat().st_mtime_ns > made.stat().st_mtime_ns


def outdated(plan: Plan, results: Path, text_spec: str = "") -> list[str]:
    """Which of `theory` and `pretrained` have files in the folder `results` of other settings or code.

    A joined table that is older than what it is made from counts as such. Files that are not there, or damaged, do
    not: what reads them names them. text_spec: the spec of the text stage; empty: the text is not looked at.
    """
    made = {"theory": _theory(plan), "pretrained": _pretrained(plan, text_spec)}
    return [part for part, files in made.items() if _is_outdated(results, list(files))]


def _theory(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """The joined table of the theory and what it is made from: place in the results, spec and code."""
    if plan.config.theory is not None:
        for name in EXPERIMENTS:
            spec = plan.experiment(name)
            yield f"theory/{name}.points", spec, digest("simulate", name)
        yield "tables/theory", plan.theory(), digest("theory")


def _pretrained(plan: Plan, text_spec: str) -> Iterator[tuple[str, str, str]]:
    """The same for pretrained models."""
    if plan.config.pretrained is not None:
        if text_spec:
            yield "text", text_spec, digest("text")
        for name in plan.config.pretrained.chosen:
            for part in PARTS:
                yield f"pretrained/{name}/{part}", plan.pretrained(name), digest("pretrained")
        for name in TABLES:
            yield f"tables/{name}", plan.pretrained_tables(), digest("pretrained-tables")


def _is_outdated(results: Path, files: list[tuple[str, str, str]]) -> bool:
    there = [(results / f"{place}.parquet", spec, code) for place, spec, code in files]
    there = [entry for entry in there if entry[0].exists()]
    tables = [path for path, *_ in there if path.parent.name == "tables"]
    try:
        return any(not is_fresh(*entry) for entry in there) or any(
            is_newer(path, table) for path, *_ in there if path not in tables for table in tables
        )
    except FileError:
        return False
