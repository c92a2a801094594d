"""Collecting packs and writing the tables: what is missing, doubled or foreign must not pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from nsbench.analysis.collect import OF_NOISE, Sources, collect
from nsbench.analysis.tables import analyse
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from tests.synthetic_records import make_cells, make_records, write_records

Records = dict[str, pd.DataFrame]
SCHEMAS = {"history": HISTORY, "runs": COLLECTED_RUNS, "evaluation": EVALUATION}
ROWS = {
    "time_to_target": 6,
    "cells": 2,
    "kaplan_meier": 8,  # of each arm step 0, two times and the budget
    "power": 12,  # 3 effects x 4 looks
    "score": 6,
    "measure": 20,  # 2 arms x (2 rho x 2 reductions of stability, 2 scores x 3 kinds of targets)
    "selection": 0,
    "matched_measure": 0,
    "matched_effect": 0,
    "rank_agreement": 0,
    "onset": 36,
    "lead_lag": 12,
    "early_rank": 2,
    "specification": 0,
    "specification_curve": 0,
    "specification_choice": 0,
}
"""Rows of each table for two arms of three seeds, one run censored and one diverged; one of all others."""
EMPTY = {name for name, count in ROWS.items() if count == 0}
"""Tables that a grid without a sweep and a specification curve leaves without rows."""
LEAKS = ["windows overlap", "no mask"]
CELLS = make_cells("sparse_parity", seeds=(3, 1, 2), budget=1500)


def without(made: Records, arm: str, seed: int, *tables: str) -> Records:
    """The records less one run, in the named tables or in all."""
    return {
        name: table[~((table["arm"] == arm) & (table["seed"] == seed))] if name in tables or not tables else table
        for name, table in made.items()
    }


def packs(folder: Path, made: Records) -> list[Path]:
    """One pack per seed, so that the files' order is not the grid's."""
    folders = []
    for seed in (1, 2, 3):
        folders.append(folder / f"pack-{seed}")
        write_records(folders[-1], {name: table[table["seed"] == seed] for name, table in made.items()})
    return folders


def collected(folder: Path, made: Records, cells: list[dict[str, Any]] = CELLS) -> Path:
    write_table(folder / "floors.parquet", [], FLOORS, {})
    sources = Sources(packs(folder, made), [folder / "floors.parquet"])
    collect(cells, sources, folder / "collected", '{"grid":1}', "digest")
    return folder / "collected"


def test_collect_joins_packs_in_grid_order_and_changes_no_value(tmp_path: Path) -> None:
    made = make_records(CELLS)
    folder = collected(tmp_path, made)
    for name, schema in SCHEMAS.items():
        found = read_table(folder / f"{name}.parquet", schema)
        order = list(dict.fromkeys(zip(found["arm"], found["seed"], strict=True)))
        assert order == [(arm, seed) for arm in ("baseline", "gentle") for seed in (3, 1, 2)]
        expected = made[name][schema.names].astype({"secret": object} if name == "runs" else {})
        for column in set(schema.names) - {"secret"}:
            assert found[column].isna().tolist() == expected[column].isna().tolist()
            assert found[column].dropna().tolist() == expected[column].dropna().tolist()
    assert read_stamp(folder / "runs.parquet")["spec"] == '{"grid":1}'
    assert read_stamp(folder / "history.parquet")["source_digest"] == "digest"
    assert list(read_table(folder / "runs.parquet", COLLECTED_RUNS)["secret"][0]) == [1, 4]


def test_a_file_found_damaged_while_it_is_collected_leaves_what_was_there(tmp_path: Path) -> None:
    made = make_records(CELLS)
    folder = collected(tmp_path, made)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    damaged = tmp_path / "pack-3/evaluation.parquet"
    column = pq.read_metadata(damaged).row_group(0).column(EVALUATION.names.index("value"))
    content = bytearray(damaged.read_bytes())
    content[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    damaged.write_bytes(content)
    floors = [tmp_path / "floors.parquet"]
    with pytest.raises(RecordError, match=r"pack-3/evaluation\.parquet: not a whole Parquet file"):
        collect(CELLS, Sources([tmp_path / f"pack-{seed}" for seed in (1, 2, 3)], floors), folder, "{}", "another")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("table", ["history", "runs"])
def test_a_file_that_does_not_say_whose_its_rows_are_is_named(tmp_path: Path, table: str) -> None:
    folders = packs(tmp_path, make_records(CELLS))
    path = folders[1] / f"{table}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["seed"]), path)
    with pytest.raises(RecordError, match=rf"pack-2/{table}\.parquet: lacks the columns seed"):
        collect(CELLS, Sources(folders, []), tmp_path / "collected", "{}", "digest")
    path.unlink()
    with pytest.raises(RecordError, match=rf"pack-2/{table}\.parquet: no such file"):
        collect(CELLS, Sources(folders, []), tmp_path / "collected", "{}", "digest")
    assert not list((tmp_path / "collected").glob("*"))


@pytest.mark.parametrize("table", ["history", "runs", "evaluation"])
def test_a_run_missing_in_any_file_stops_with_its_name(tmp_path: Path, table: str) -> None:
    made = without(make_records(CELLS), "gentle", 2, table)
    with pytest.raises(ValueError, match=rf"sparse_parity / calibrated / gentle / seed 2: .*missing in {table}"):
        collected(tmp_path, made)
    assert not list((tmp_path / "collected").glob("*"))


def test_a_diverged_run_alone_needs_no_evaluation(tmp_path: Path) -> None:
    made = without(make_records(CELLS, diverged=(("gentle", 2),)), "gentle", 2, "evaluation")
    assert len(read_table(collected(tmp_path, made) / "runs.parquet", COLLECTED_RUNS)) == 6


def test_a_run_in_two_packs_or_of_no_cell_stops_with_its_name(tmp_path: Path) -> None:
    folders = packs(tmp_path, make_records(CELLS))
    with pytest.raises(RecordError, match=r"/ baseline / seed 2: this run is in two packs"):
        collect(CELLS, Sources([*folders, folders[1]], []), tmp_path / "collected", "{}", "digest")
    recorded: Any = {("sparse_parity", "calibrated", "gentle", 3): None}
    with pytest.raises(RecordError, match=r"/ gentle / seed 3: this run is in two packs"):
        collect(CELLS, Sources(folders, [], recorded), tmp_path / "collected", "{}", "digest")
    with pytest.raises(RecordError, match=r"/ gentle / seed 1: this run is not in the grid"):
        collect(CELLS[:1], Sources(folders, []), tmp_path / "collected", "{}", "digest")


def test_a_run_of_another_budget_stops_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/ seed 1: completed at step 1,500, but its budget is 3,000 steps"):
        collected(tmp_path, make_records(CELLS), [{**cell, "budget_steps": 3000} for cell in CELLS])


def test_analyse_writes_each_table_twice_and_the_same_each_time(tmp_path: Path) -> None:
    folder = collected(tmp_path, make_records(CELLS, {("baseline", 1): 1e9}, diverged=(("gentle", 2),)))
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        analyse(folder, CELLS, Analysis(confidence=0.9), out, "{}", "digest")
    for name, schema in TABLES.items():
        table = read_table(outs[0] / f"{name}.parquet", schema)
        text = (outs[0] / f"{name}.csv").read_text()
        assert text == (outs[1] / f"{name}.csv").read_text()
        assert text.splitlines()[0].split(",") == schema.names
        assert len(pd.read_csv(outs[0] / f"{name}.csv")) == len(table) == ROWS.get(name, 1)
        assert all(field.metadata[b"unit"] and field.metadata[b"meaning"] for field in schema)
    cells = read_table(outs[0] / "cells.parquet", TABLES["cells"])
    assert cells["n_reached"].tolist() == [2, 2]
    assert cells["n_diverged"].tolist() == [0, 1]
    assert cells["confidence"].tolist() == [0.9, 0.9]


def test_every_table_says_which_text_it_used_and_how_answers_leak(tmp_path: Path) -> None:
    cells = make_cells("next_token", variants=("shared",), seeds=(1, 2, 3), budget=1500, leaks={"shared": LEAKS})
    found = collected(tmp_path, make_records(cells, text="a book, not WikiText-2"), cells)
    analyse(found, cells, Analysis(), tmp_path / "tables", "{}", "digest")
    for name in TABLES:
        table = pd.read_csv(tmp_path / f"tables/{name}.csv")
        if name not in EMPTY:
            assert set(table["text"]) == {"a book, not WikiText-2"}
            assert set(table["leaks"]) == {"; ".join(LEAKS)}
        assert {"text", "leaks"} <= set(table)


def test_a_curve_has_its_specifications_pooled_and_by_choice(tmp_path: Path) -> None:
    cells = make_cells(variants=("base", "base-normpost", "base-maskcausal"), seeds=(1, 2, 3))
    choices = {"base": ("pre", "none"), "base-normpost": ("post", "none"), "base-maskcausal": ("pre", "causal")}
    for cell in cells:
        chosen = dict(zip(("model.norm", "model.mask"), choices[cell["variant"]], strict=True))
        cell.update(curve="base", choices=chosen, curve_only=cell["variant"] != "base")
    analyse(collected(tmp_path, make_records(cells), cells), cells, Analysis(), tmp_path / "out", "", "")
    effects, specified, curves, levels, power = (
        read_table(tmp_path / f"out/{name}.parquet", TABLES[name])
        for name in ("paired_effect", "specification", "specification_curve", "specification_choice", "power")
    )
    assert effects["role"].tolist() == ["secondary", "curve", "curve"]
    assert specified["steps_ratio"].tolist() == effects["steps_ratio"].tolist()
    assert curves[["n_specifications", "n_counted", "n_seeds"]].to_numpy().tolist() == [[3, 3, 3]]
    assert list(zip(levels["choice"], levels["level"], levels["n_specifications"], strict=True)) == [
        ("model.mask", '"none"', 2),
        ("model.mask", '"causal"', 1),
        ("model.norm", '"pre"', 2),
        ("model.norm", '"post"', 1),
    ]
    assert set(power["variant"]) == {"base"}


# --- runs that variants share ----------------------------------------------------------------------

SHARED = make_cells("sparse_parity", ("base", "base-clean"), seeds=(3, 1, 2), budget=1500)
SHARED[2] |= {"shares": "base", "seeds": [2, 1]}
"""Two variants with a baseline and an arm each; the second's baseline is the first's."""


def trained(cells: list[dict[str, Any]] = SHARED) -> Records:
    """The records of the cells that train."""
    return make_records([cell for cell in cells if not cell.get("shares")])


def test_shared_runs_are_collected_under_both_names_without_what_is_of_the_noise(tmp_path: Path) -> None:
    folder = collected(tmp_path, trained(), SHARED)
    tables = {name: read_table(folder / f"{name}.parquet", schema) for name, schema in SCHEMAS.items()}
    for name, table in tables.items():
        baselines = table[(table["arm"] == "baseline") & (table["seed"] != 3)]
        one, other = (baselines[baselines["variant"] == variant] for variant in ("base", "base-clean"))
        assert list(dict.fromkeys(other["seed"])) == [2, 1]
        one, other = (rows.drop(columns="variant").sort_values("seed", kind="stable") for rows in (one, other))
        if name == "history":
            assert other[list(OF_NOISE)].isna().all(axis=None)
            assert one[list(OF_NOISE)].notna().all(axis=None)
            one, other = (rows.drop(columns=list(OF_NOISE)) for rows in (one, other))
        if name == "evaluation":
            assert "noise_stability" in set(one["measure"])
            one = one[one["measure"] != "noise_stability"]
        assert len(other)
        one, other = (rows.reset_index(drop=True) for rows in (one, other))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_the_tables_of_shared_runs_leave_their_stability_out(tmp_path: Path) -> None:
    folder = collected(tmp_path, trained(), SHARED)
    analyse(folder, SHARED, Analysis(), tmp_path / "tables", "{}", "digest")
    made = {name: read_table(tmp_path / f"tables/{name}.parquet", schema) for name, schema in TABLES.items()}
    names = ["variant", "arm"]
    for name in ("cells", "score"):
        row = made[name].set_index(names).loc[("base-clean", "baseline")]
        assert (row if name == "cells" else row.iloc[0])["n_seeds"] == 2
    lead = made["lead_lag"].set_index([*names, "series"]).loc[("base-clean", "baseline", "stability")]
    assert lead["note"].startswith("2 of 2 runs undefined (2 none in its history)")
    assert made["paired_effect"]["n_pairs"].tolist() == [3, 2]
    assert made["score"]["n_unmeasured"].eq(0).all()
    assert made["score"]["test_loss"].notna().any()


@pytest.mark.parametrize("gone", ["its run", "its cell"])
def test_a_missing_twin_is_named(gone: str, tmp_path: Path) -> None:
    made, cells = trained(), SHARED
    for name, table in made.items():
        there = (table["variant"] == "base") & (table["arm"] == "baseline") & (table["seed"] == 1)
        made[name] = table[~there]
    if gone == "its cell":
        cells = SHARED[2:]
        made = {name: table[table["variant"] == "base-clean"] for name, table in made.items()}
    with pytest.raises(RecordError, match=r"/ base / baseline / seed [12]: this run of the grid is missing"):
        collected(tmp_path, made, cells)
    assert not list((tmp_path / "collected").glob("*"))


# --- one text, one data set ------------------------------------------------------------------------


def test_texts_of_two_kinds_are_refused_by_both_runs(tmp_path: Path) -> None:
    cells = make_cells("next_token", ("rows", "windows"), seeds=(1, 2, 3), budget=1500)
    made = make_records(cells, text="WikiText-2")
    assert collected(tmp_path / "same", made, cells)
    other = made["runs"]["variant"].eq("windows")
    made["runs"].loc[other, "text"] = "local text (a book), not WikiText-2"
    with pytest.raises(
        RecordError,
        match=r"windows / baseline / seed 1: its text is 'local .*', that of next_token / rows / \w+ / seed \d another",
    ):
        collected(tmp_path, made, cells)
    assert not list((tmp_path / "collected").glob("*"))
    # Images are no text.
    made["runs"].loc[other, "text"] = "Fashion-MNIST"
    assert collected(tmp_path / "images", made, cells)
