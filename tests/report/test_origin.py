"""What the report says of where runs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.report.origin import own_runs
from nsbench.schemas.training import COLLECTED_RUNS
from nsbench.storage.parquet import read_table, write_table
from tests.report.pages import flat, report, section
from tests.synthetic_records import make_cells, make_records, write_results

CELLS = make_cells(variants=("base", "base-clean"), seeds=(0, 1, 2))
OTHER = "its record was measured with other settings"
NONE = "its record has no measures"


def facts(folder: Path, cells: list[dict[str, Any]]) -> dict[str, str]:
    """The page's table of provenance."""
    html = section(report(folder, folder / "report.html", cells=cells, figures=[]), "provenance")
    rows = html.partition('<table class="facts">')[2].partition("</table>")[0].split("</tr>")[:-1]
    return {flat(name): flat(value) for name, _, value in (row.partition("</th>") for row in rows)}


def test_records_are_counted_by_commit_with_older_code_and_missing_measures(tmp_path: Path) -> None:
    write_results(tmp_path, CELLS, make_records(CELLS))
    said = facts(tmp_path, CELLS)
    of_records = {"runs from records", "they were trained at", "without measures", "runs under a further name"}
    assert not of_records & set(said)
    assert said["runs"] == "12 collected, 0 diverged"
    path = tmp_path / "collected" / "runs.parquet"
    runs = read_table(path, COLLECTED_RUNS)
    names = ["record", "commit", "older_code", "no_evaluation"]
    runs.loc[:3, names] = [
        ["a.parquet", "a" * 40, "training", OTHER],
        ["a.parquet", "a" * 40, "training", ""],
        ["b.parquet", "b" * 40, "", NONE],
        ["b.parquet", "b" * 40, "", OTHER],
    ]
    write_table(path, runs, COLLECTED_RUNS, {})
    said = facts(tmp_path, CELLS)
    assert said["runs from records"] == "4 of 12, from 2 files"
    assert said["they were trained at"] == (
        f"{'a' * 40}: 2 runs (training by other code or settings than those of this page); {'b' * 40}: 2 runs"
    )
    assert said["without measures"] == f"2 runs: {OTHER}; 1 runs: {NONE}"


def test_work_of_runs_under_two_names_is_counted_once(tmp_path: Path) -> None:
    cells = [dict(cell) for cell in CELLS]
    cells[2]["shares"] = "base"
    made = make_records([cell for cell in cells if not cell.get("shares")])
    write_results(tmp_path, cells, made)
    said = facts(tmp_path, cells)
    assert said["runs"] == "9 collected, 0 diverged"
    assert said["runs under a further name"].startswith("3: baselines of a specification curve")
    assert said["work of training steps"] == f"{made['runs']['flops'].sum():.3g} FLOPs over all runs"
    page = flat((tmp_path / "report.html").read_text())
    assert f"{made['runs']['seconds'].sum() / 60:,.1f} min in training steps, over all runs" in page
    runs = pd.DataFrame({"task": ["t"], "variant": ["v"], "arm": ["a"]})
    assert own_runs([], runs).equals(runs)
