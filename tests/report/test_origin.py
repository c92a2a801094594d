"""What the report says of where runs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.report.origin import own_runs
from tests.report.pages import flat, report, section
from tests.synthetic_records import make_cells, make_records, write_results

CELLS = make_cells(variants=("base", "base-clean"), seeds=(0, 1, 2))
OTHER = "its record was measured with other settings"
NONE = "its record has no measures"


def recorded(made: dict[str, pd.DataFrame], *changes: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The records with what the first runs say of their origin, and without the measures of those that lack them."""
    runs, rows = made["runs"].copy(), made["evaluation"]
    for place, change in enumerate(changes):
        for name, value in change.items():
            runs.loc[place, name] = value
    lacking = runs.loc[runs["no_evaluation"] != "", ["variant", "arm", "seed"]]
    gone = rows[["variant", "arm", "seed"]].apply(tuple, axis=1).isin(set(lacking.itertuples(index=False, name=None)))
    return made | {"runs": runs, "evaluation": rows[~gone]}


def facts(folder: Path, cells: list[dict[str, Any]]) -> dict[str, str]:
    """The page's table of provenance."""
    html = section(report(folder, folder / "report.html", cells=cells, figures=[]), "provenance")
    rows = html.partition('<table class="facts">')[2].partition("</table>")[0].split("</tr>")[:-1]
    return {flat(name): flat(value) for name, _, value in (row.partition("</th>") for row in rows)}


def test_a_page_of_runs_trained_here_tells_of_no_records(tmp_path: Path) -> None:
    write_results(tmp_path, CELLS, make_records(CELLS))
    said = facts(tmp_path, CELLS)
    told = {"runs from records", "they were trained at", "without measures", "runs under a further name"}
    assert not told & set(said)
    assert said["runs"] == "12 collected, 0 diverged"


def test_records_are_counted_by_commit_with_older_code_and_missing_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorded(
        make_records(CELLS),
        {"record": "a.parquet", "commit": "a" * 40, "older_code": "training", "no_evaluation": OTHER},
        {"record": "a.parquet", "commit": "a" * 40, "older_code": "training"},
        {"record": "b.parquet", "commit": "b" * 40, "no_evaluation": NONE},
        {"record": "b.parquet", "commit": "b" * 40, "no_evaluation": OTHER},
    )
    write_collected(tmp_path, made, monkeypatch)
    said = facts(tmp_path, CELLS)
    assert said["runs from records"] == "4 of 12, from 2 files"
    assert said["they were trained at"] == (
        f"{'a' * 40}: 2 runs (training by other code than that of this page); {'b' * 40}: 2 runs"
    )
    assert said["without measures"] == f"2 runs: {OTHER}; 1 runs: {NONE}"


def write_collected(folder: Path, made: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of these records as they are: `collect` would have read them from records."""
    from tests import synthetic_records

    def collect(cells: Any, sources: Any, out: Path, *given: Any) -> None:
        synthetic_records.write_records(out, made | {"floors": synthetic_records.make_floors(cells)})

    monkeypatch.setattr(synthetic_records, "collect", collect)
    write_results(folder, CELLS, made)


def test_work_of_runs_under_two_names_is_counted_once(tmp_path: Path) -> None:
    cells = [dict(cell) for cell in CELLS]
    cells[2]["shares"] = "base"
    made = make_records([cell for cell in cells if not cell.get("shares")])
    write_results(tmp_path, cells, made)
    said = facts(tmp_path, cells)
    assert said["runs"] == "9 collected, 0 diverged"
    assert said["runs under a further name"].startswith("3: baselines of a specification curve")
    assert said["work of training steps"] == f"{made['runs']['flops'].sum():.3g} FLOPs over all runs"
    page = flat(report(tmp_path, tmp_path / "report.html", cells=cells, figures=[]))
    assert f"{made['runs']['seconds'].sum() / 60:,.1f} min in training steps, over all runs" in page
    runs = pd.DataFrame({"task": ["t"], "variant": ["v"], "arm": ["a"]})
    assert own_runs([], runs).equals(runs)
