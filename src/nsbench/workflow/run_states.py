"""Which runs of a grid are finished, and why the others are not. Used by partial reports; rebuilds nothing.

A run is finished where the files of its pack are whole and made by the current settings and code, as Snakemake would
have them, stale where they were made by others, and unfinished otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nsbench.config.canonical import canonical_json
from nsbench.data.tasks import TASKS
from nsbench.schemas.training import EVALUATION, FINISHED, FLOORS, HISTORY, RUN_STATE, RUNS, STALE, STATES, UNFINISHED
from nsbench.storage.atomic import FileError
from nsbench.storage.parquet import RecordError, read_arrow, read_stamp, read_table, write_csv, write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, evaluation_key, order_key
from nsbench.workflow.digests import USES, digest
from nsbench.workflow.freshness import is_fresh, is_newer
from nsbench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

Pack = tuple[str, str, str, str]
"""(task, variant, arm, pack)."""
PACK_FILES = {"history": HISTORY, "runs": RUNS, "evaluation": EVALUATION}
CELL_KEYS = ["task", "variant", "arm"]


def write_states(
    plan: Plan, results: Path, text_spec: Any, out: Path | str, missing: Path | str, spec: str, digest: str
) -> None:
    """Write the state of every run (RUN_STATE) to `out`, and the runs that are not finished, as CSV, to `missing`.

    Both are written where no run is finished too; `read_states` refuses these then.
    """
    import pandas as pd

    rows = states(plan, results, text_spec)
    write_csv(missing, pd.DataFrame([row for row in rows if row["state"] != FINISHED], columns=RUN_STATE.names))
    write_table(out, rows, RUN_STATE, stamp(spec, digest))


def read_states(path: Path | str, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The state of every run of the grid `cells`: columns of RUN_STATE.

    Raises RecordError where the file is missing, broken, of another grid, or has no finished run.
    """
    found = read_table(path, RUN_STATE)
    keys = list(found[[*CELL_KEYS, "seed"]].itertuples(index=False, name=None))
    wanted = [(*(cell[key] for key in CELL_KEYS), seed) for cell in cells for seed in cell["seeds"]]
    if keys != wanted or not set(found["state"]) <= set(STATES):
        raise RecordError(f"{path}: is about other runs than this grid's; delete it and run its stage again")
    counts = found["state"].value_counts()
    if FINISHED not in counts:
        told = "; ".join(f"{counts[state]:,} {state}" for state in STATES if state in counts)
        raise RecordError(f"no run of the grid can be reported on yet ({told}); try again when more is finished")
    return found


def finished_cells(cells: list[dict[str, Any]], states: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of a grid with their finished seeds alone, those without any left out.

    `partial` of each says how much of the whole grid is finished; empty: all of it.
    """
    finished = states[states["state"] == FINISHED]
    runs = set(finished[[*CELL_KEYS, "seed"]].itertuples(index=False, name=None))
    part = "" if len(finished) == len(states) else f"{len(finished):,} of {len(states):,} runs"
    found = []
    for cell in cells:
        finished_seeds = [(*(cell[key] for key in CELL_KEYS), seed) in runs for seed in cell["seeds"]]
        if cell["settings"]["training"]["stop"] != "never":
            # Faster runs finish first: which are there must not be by their outcome.
            finished_seeds = np.minimum.accumulate(finished_seeds).tolist()
        seeds = [seed for seed, there in zip(cell["seeds"], finished_seeds, strict=True) if there]
        found += [{**cell, "seeds": seeds, "partial": part}] if seeds else []
    return found


def states(plan: Plan, results: Path, text_spec: Any) -> list[dict[str, Any]]:
    """A row of RUN_STATE for every run of the grid, in grid order; results: the folder of results.

    text_spec: the spec of the text stage, None where no task needs one.
    """
    stale_text = _is_stale_text(results / "text.parquet", text_spec)
    of_runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pack in plan.packs:
        state, reason = _pack_state(plan, results, pack)
        if state == FINISHED and TASKS[pack[0]].from_text and stale_text:
            state, reason = STALE, "its text is not the one that the settings name"
        spec, code = json.loads(plan.train(*pack)), plan.code("train", *pack[:3])
        for seed in plan.seeds[pack[-1]]:
            share = RunFolder(results / "runs", *pack[:3], seed).status(order_key(spec, seed, code))
            of_runs[*pack[:3], seed] = {"pack": pack[-1], **_run_state(state, reason, share)}
    recorded = {"pack": "", "state": FINISHED, "share_trained": 1.0, "reason": ""}
    rows, owners = [], []
    for (task, variant, arm), cell in plan.cells.items():
        for seed in cell.seeds:
            # A cell of a specification curve may share the runs of another variant.
            owner = variant if seed in plan.recorded[task, variant, arm] else cell.shares or variant
            found = recorded if seed in plan.recorded[task, owner, arm] else of_runs[task, owner, arm, seed]
            rows.append({"task": task, "variant": variant, "arm": arm, "seed": seed, **found})
            owners.append((task, owner))
    # Effects compare an arm with its baseline, in each variant that has the run.
    baselines = {key for key, cell in plan.cells.items() if cell.arm_settings.kind == "baseline"}
    compared = {
        (row["task"], row["variant"])
        for row in rows
        if row["state"] == FINISHED and tuple(row[key] for key in CELL_KEYS) in baselines
    }
    for row, owner in zip(rows, owners, strict=True):
        if row["state"] == FINISHED and not {(row["task"], row["variant"]), owner} <= compared:
            row |= {"state": UNFINISHED, "reason": "finished itself, but no baseline run of its variant is"}
    return rows


def inputs_digest(plan: Plan, results: Path, others: Iterable[str] = ()) -> str:
    """A digest of the files that `states` reads (times and sizes) and of the code of runs: it changes with each.

    others: further files that a partial report takes as they are.
    """
    found: list[Any] = sorted({plan.code(stage, *pack[:3]) for pack in plan.packs for stage in USES})
    for path in (*_inputs(plan, results), *map(Path, others)):
        about = path.stat() if path.exists() else None
        found.append(about and [about.st_mtime_ns, about.st_size])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def _inputs(plan: Plan, results: Path) -> Iterator[Path]:
    yield results / "text.parquet"
    yield from plan.records.files if plan.records else []
    for pack in plan.packs:
        yield _data_file(results, pack, "floors.parquet")
        yield from (_pack_file(results, pack, name) for name in PACK_FILES)
        yield from (RunFolder(results / "runs", *pack[:3], seed).path / "status.json" for seed in plan.seeds[pack[-1]])


def _pack_file(results: Path, pack: Pack, name: str) -> Path:
    return results.joinpath("packs", *pack) / f"{name}.parquet"


def _data_file(results: Path, pack: Pack, suffix: str) -> Path:
    task, variant, _, name = pack
    return results / "datasets" / task / variant / f"{name}.{suffix}"


def _run_state(state: str, reason: str, share: float) -> dict[str, Any]:
    """A run's state by that of its pack, and by how much of its training, as it is ordered now, is done."""
    if state == FINISHED:
        share = 1.0
    elif state == STALE and share > 0:
        state, reason = UNFINISHED, ""
    if not reason and state == UNFINISHED:
        reason = "trained, not evaluated" if share == 1 else f"{share:.0%} trained" if share else "not begun"
    return {"state": state, "share_trained": share, "reason": reason}


def _pack_state(plan: Plan, results: Path, pack: Pack) -> tuple[str, str]:
    """What the files of a pack say of its runs: state, and reason (empty: the runs' folders say)."""
    paths = {name: _pack_file(results, pack, name) for name in PACK_FILES}
    floors, dataset = _data_file(results, pack, "floors.parquet"), _data_file(results, pack, "safetensors")
    if not (paths["history"].exists() and paths["runs"].exists()):
        return UNFINISHED, ""
    trained = plan.train(*pack), plan.code("train", *pack[:3])
    evaluated = plan.evaluate(*pack), plan.code("evaluate", *pack[:3])
    data = plan.dataset(pack[0], pack[1], pack[3]), plan.code("dataset", *pack[:3])
    try:
        if not (is_fresh(paths["history"], *trained) and is_fresh(paths["runs"], *trained)):
            return STALE, "trained with other settings or code"
        if not is_fresh(floors, *data):
            return STALE, "its data set is made with other settings or code"
        tables = {name: read_arrow(path, PACK_FILES[name]) for name, path in paths.items() if path.exists()}
        read_arrow(floors, FLOORS)
        runs = tables["runs"].to_pandas()
        wanted = {(*pack[:3], seed) for seed in plan.seeds[pack[-1]]}
        if _runs_in(tables["history"]) != wanted or _runs_in(tables["runs"]) != wanted:
            return STALE, "trained for other runs"
        if is_newer(dataset, paths["runs"]) and not same_data(dataset, pack[0], runs):
            return STALE, "its data set was made again since, with other data"
        if "evaluation" not in tables:
            return UNFINISHED, "trained, not evaluated"
        if not is_fresh(paths["evaluation"], *evaluated):
            return STALE, "evaluated with other settings or code"
        diverged = {(*pack[:3], seed) for seed in runs.loc[runs["status"] == "diverged", "seed"]}
        found = _runs_in(tables["evaluation"])
        if not (found <= wanted and wanted - found <= diverged):
            return UNFINISHED, "its evaluation lacks a run"
        if is_newer(paths["runs"], paths["evaluation"]) and not _of_training(results, pack, runs, evaluated):
            return UNFINISHED, "its evaluation is of an earlier training"
    except FileError as error:
        return UNFINISHED, str(error)
    return FINISHED, ""


def _runs_in(table: pa.Table) -> set[tuple[Any, ...]]:
    """The runs that a table has rows of."""
    return set(zip(*(table[key].to_pylist() for key in (*CELL_KEYS, "seed")), strict=True))


def same_data(dataset: Path, task: str, runs: pd.DataFrame) -> bool:
    """Whether a pack was trained on the data that its data set has now. Raises as `read_dataset` does."""
    from nsbench.data.datasets import read_dataset

    return all(
        read_dataset(dataset, seed, task).sha256 == trained
        for seed, trained in zip(runs["seed"].tolist(), runs["data_sha256"], strict=True)
    )


def _of_training(results: Path, pack: Pack, runs: pd.DataFrame, evaluated: tuple[str, str]) -> bool:
    """Whether the runs' folders have evaluations of the training that the pack has. Raises as `read_stamp` does."""
    spec, code = json.loads(evaluated[0]), evaluated[1]
    return all(
        read_stamp(RunFolder(results / "runs", *pack[:3], seed).path / "evaluation.parquet").get("evaluation_key")
        == evaluation_key(spec, run, code)
        for seed, run in zip(runs["seed"].tolist(), runs["run_key"], strict=True)
    )


def _is_stale_text(path: Path, text_spec: Any) -> bool:
    """Whether the text is of other settings or code; False where it is not there, or damaged."""
    try:
        return text_spec is not None and path.exists() and not is_fresh(path, canonical_json(text_spec), digest("text"))
    except FileError:
        return False
