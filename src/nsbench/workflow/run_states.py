"""The stage `finished`: which runs of a grid are trained and evaluated, and why the others are not.

It looks and makes nothing: whatever it finds missing or outdated stays as it is. A run counts as finished where the
files of its pack are whole and carry the settings and the code of now, as Snakemake would have them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from nsbench.config.canonical import canonical_json
from nsbench.data.tasks import TASKS
from nsbench.schemas.run_states import (
    BAD_FILE,
    FINISHED,
    IN_TRAINING,
    NO_BASELINE,
    NOT_BEGUN,
    NOT_EVALUATED,
    NOT_JOINED,
    OUTDATED,
    RUN_STATE,
)
from nsbench.schemas.training import EVALUATION, FLOORS, HISTORY, RUNS
from nsbench.storage.atomic import FileError, write_text
from nsbench.storage.parquet import read_arrow, read_stamp, write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, order_key, read_summary
from nsbench.workflow.freshness import is_newer, is_of
from nsbench.workflow.plan import USES, Plan, digest

Pack = tuple[str, str, str, str]
"""(task, variant, arm, pack)."""
PACK_FILES = {"history": HISTORY, "runs": RUNS, "evaluation": EVALUATION}


class Places(NamedTuple):
    """Where results lie."""

    packs: Path
    datasets: Path
    run_store: Path
    text: Path
    """The file of the text stage."""

    def pack(self, pack: Pack, name: str) -> Path:
        """A file of a pack."""
        return self.packs.joinpath(*pack) / f"{name}.parquet"

    def floors(self, pack: Pack) -> Path:
        """The floors of a pack's data set: they carry by what it was made."""
        task, variant, _, name = pack
        return self.datasets / task / variant / f"{name}.floors.parquet"

    def dataset(self, pack: Pack) -> Path:
        return self.floors(pack).with_name(f"{pack[-1]}.safetensors")

    def run(self, pack: Pack, seed: int) -> RunFolder:
        return RunFolder(self.run_store, *pack[:3], seed)


def write_finished(
    plan: Plan, places: Places, text_spec: Any, out: Path | str, missing: Path | str, spec: str, digest: str
) -> None:
    """Write the state of every run (RUN_STATE) to `out`, and the runs that are not finished, as CSV, to `missing`.

    Both are written where no run is finished too; `nsbench.workflow.partial.read_states` refuses these then.
    """
    rows = look(plan, places, text_spec)
    left = pd.DataFrame([row for row in rows if row["state"] != FINISHED], columns=RUN_STATE.names)
    write_text(missing, left.to_csv(index=False, lineterminator="\n"))
    write_table(out, rows, RUN_STATE, stamp(spec, digest))


def look(plan: Plan, places: Places, text_spec: Any) -> list[dict[str, Any]]:
    """A row of RUN_STATE for every run of the grid, in grid order.

    text_spec: the spec of the text stage, None where no task needs one.
    """
    stale_text = _stale_text(places, text_spec)
    found_of: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pack in plan.packs:
        found = _of_pack(plan, places, pack)
        if found.share == 1 and TASKS[pack[0]].from_text and stale_text:
            found = _Found(OUTDATED, stale_text, 0)
        spec = json.loads(plan.train(*pack))
        evaluated = json.loads(plan.evaluate(*pack)), plan.code("evaluate", *pack[:3])
        code = plan.code("train", *pack[:3])
        for seed in plan.seeds[pack[-1]]:
            order = order_key(spec, seed, code)
            found_of[*pack[:3], seed] = {"pack": pack[-1], **_of_run(places.run(pack, seed), order, found, evaluated)}
    rows = []
    for key, cell in plan.cells.items():
        task, variant, arm = key
        for seed in cell.seeds:
            if seed in plan.recorded[key]:
                found_of[*key, seed] = {"pack": "", "state": FINISHED, "share_trained": 1.0, "reason": ""}
            state = found_of[task, cell.shares or variant, arm, seed]
            rows.append({"task": task, "variant": variant, "arm": arm, "seed": seed, **state})
    _set_apart(plan, rows)
    # A run that is not in partial results is not there under a further name either.
    states = {(row["task"], row["variant"], row["arm"], row["seed"]): row["state"] for row in rows}
    for row in rows:
        cell = plan.cells[row["task"], row["variant"], row["arm"]]
        if cell.shares and states[row["task"], cell.shares, row["arm"], row["seed"]] != FINISHED:
            row["state"] = states[row["task"], cell.shares, row["arm"], row["seed"]]
    return rows


def seen(plan: Plan, places: Places, others: Iterable[str] = ()) -> str:
    """A digest of what `look` looks at: it changes when a file comes, goes or changes, and with the code of runs.

    others: further files that a partial report takes as they are.
    """
    found: list[Any] = sorted({plan.code(stage, *pack[:3]) for pack in plan.packs for stage in USES})
    found += [_looks(path) for path in (*_paths(plan, places), *map(Path, others))]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def _paths(plan: Plan, places: Places) -> Iterator[Path]:
    yield places.text
    yield from plan.records.files if plan.records else []
    for pack in plan.packs:
        yield places.floors(pack)
        yield from (places.pack(pack, name) for name in PACK_FILES)
        for seed in plan.seeds[pack[-1]]:
            yield from (places.run(pack, seed).path / name for name in ("status.json", "evaluation.parquet"))


def _looks(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size]


class _Found(NamedTuple):
    """What the files of a pack say of its runs."""

    state: str
    reason: str = ""
    share: float | None = None
    """How much of the training is done. None: the run's folder says; it knows the order, and nothing of data."""


def _of_pack(plan: Plan, places: Places, pack: Pack) -> _Found:
    """NOT_BEGUN where its files say nothing."""
    there = [name for name in PACK_FILES if places.pack(pack, name).exists()]
    if not {"history", "runs"} <= set(there):
        return _Found(NOT_BEGUN)
    trained = json.loads(plan.train(*pack)), plan.code("train", *pack[:3])
    evaluated = json.loads(plan.evaluate(*pack)), plan.code("evaluate", *pack[:3])
    data = json.loads(plan.dataset(pack[0], pack[1], pack[3])), plan.code("dataset", *pack[:3])
    try:
        if not all(is_of(places.pack(pack, name), *trained) for name in ("history", "runs")):
            return _Found(OUTDATED, "trained with other settings or code")
        if not is_of(places.floors(pack), *data):
            return _Found(OUTDATED, "its data set is made with other settings or code", 0)
        tables = {name: read_arrow(places.pack(pack, name), PACK_FILES[name]) for name in there}
        read_arrow(places.floors(pack), FLOORS)
        if _lacks(plan, pack, tables, "history") or _lacks(plan, pack, tables, "runs"):
            return _Found(OUTDATED, "trained for other runs")
        if is_newer(places.dataset(pack), places.pack(pack, "runs")) and not _same_data(places, pack, tables["runs"]):
            return _Found(OUTDATED, "its data set was made again since, with other data", 0)
        if "evaluation" not in there:
            return _Found(NOT_EVALUATED, share=1)
        if not is_of(places.pack(pack, "evaluation"), *evaluated):
            return _Found(OUTDATED, "evaluated with other settings or code", share=1)
        if is_newer(places.pack(pack, "runs"), places.pack(pack, "evaluation")):
            if not _same_evaluation(places, pack, tables, *evaluated):
                return _Found(NOT_EVALUATED, "its evaluation is of an earlier training", share=1)
        elif _lacks(plan, pack, tables, "evaluation"):
            return _Found(NOT_EVALUATED, "its evaluation lacks a run", share=1)
    except FileError as error:
        return _Found(BAD_FILE, str(error))
    return _Found(FINISHED, share=1)


def _lacks(plan: Plan, pack: Pack, tables: dict[str, pa.Table], name: str) -> bool:
    """Whether a table of a pack has other runs than the pack; a diverged run needs no evaluation."""
    wanted = {(*pack[:3], seed) for seed in plan.seeds[pack[-1]]}
    columns = (tables[name][key].to_pylist() for key in ("task", "variant", "arm", "seed"))
    found = set(zip(*columns, strict=True))
    if name == "evaluation":
        runs = tables["runs"]
        status = dict(zip(runs["seed"].to_pylist(), runs["status"].to_pylist(), strict=True))
        return not found <= wanted or any(status[key[-1]] != "diverged" for key in wanted - found)
    return found != wanted


def _same_data(places: Places, pack: Pack, runs: pa.Table) -> bool:
    """Whether a pack was trained on the data that its data set has now. Raises as `read_dataset` does."""
    from nsbench.data.datasets import read_dataset

    path = places.dataset(pack)
    digests = zip(runs["seed"].to_pylist(), runs["data_sha256"].to_pylist(), strict=True)
    return all(read_dataset(path, seed, pack[0]).sha256 == trained for seed, trained in digests)


def _same_evaluation(places: Places, pack: Pack, tables: dict[str, pa.Table], spec: Any, code: str) -> bool:
    """Whether a pack's evaluation is that of its runs as they are now, by what their folders have."""
    rows = tables["evaluation"].to_pandas()
    runs = tables["runs"]
    for seed, run in zip(runs["seed"].to_pylist(), runs["run_key"].to_pylist(), strict=True):
        folder = places.run(pack, seed)
        if not _is_evaluated(folder, run, spec, code):
            return False
        own = read_arrow(folder.path / "evaluation.parquet", EVALUATION).to_pandas()
        if not rows[rows["seed"] == seed].reset_index(drop=True).equals(own):
            return False
    return True


def _is_evaluated(folder: RunFolder, run: str, spec: Any, code: str) -> bool:
    """Whether a run's folder has the evaluation of the training `run` (a run_key). Raises as `read_stamp` does."""
    settings = {name: value for name, value in spec.items() if name not in ("seeds", "keep_checkpoints")}
    key = canonical_json({"settings": settings, "run": run, "code": code})
    found = read_stamp(folder.path / "evaluation.parquet").get("evaluation_key")
    return found == hashlib.sha256(key.encode()).hexdigest()


def _trained_state(folder: RunFolder, evaluated: tuple[Any, str]) -> str:
    """The state of a run whose training is done and whose pack is not there."""
    try:
        row = read_summary(folder.path / "run.json")
        if row is not None and _is_evaluated(folder, row["run_key"], *evaluated):
            return NOT_JOINED
    except FileError:
        pass
    return NOT_EVALUATED


def _of_run(folder: RunFolder, order: str, found: _Found, evaluated: tuple[Any, str]) -> dict[str, Any]:
    """A run's state: its pack's, and where that is not of its training as it is ordered, what its own folder says.

    evaluated: spec and source digest of its evaluation.
    """
    state, reason = found.state, found.reason
    share = folder.status(order) if found.share is None else found.share
    if found.share is None and state != BAD_FILE:
        if share > 0:
            state, reason = (_trained_state(folder, evaluated) if share == 1 else IN_TRAINING), ""
        elif state == NOT_BEGUN and (folder.path / "status.json").exists():
            # No share is told before the first evaluation.
            other = _is_of_another_order(folder, order)
            state, reason = (OUTDATED, "begun with other settings or code") if other else (IN_TRAINING, "")
    return {"state": state, "share_trained": float(share), "reason": reason}


def _is_of_another_order(folder: RunFolder, order: str) -> bool:
    try:
        return json.loads((folder.path / "status.json").read_text(encoding="utf-8"))["order"] != order
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stale_text(places: Places, text_spec: Any) -> str:
    """Why data from the text of now would be others; empty: they would not, or nobody can tell."""
    if text_spec is None or not places.text.exists():
        return ""
    try:
        same = is_of(places.text, text_spec, digest("text"))
    except FileError:
        return ""
    return "" if same else "its text is another than the settings name"


def _set_apart(plan: Plan, rows: list[dict[str, Any]]) -> None:
    """Give finished runs of variants without a finished baseline a state of their own."""
    baselines = {key for key, cell in plan.cells.items() if cell.arm_settings.kind == "baseline"}
    compared = {
        (row["task"], row["variant"])
        for row in rows
        if row["state"] == FINISHED and (row["task"], row["variant"], row["arm"]) in baselines
    }
    for row in rows:
        if row["state"] == FINISHED and (row["task"], row["variant"]) not in compared:
            row["state"] = NO_BASELINE
