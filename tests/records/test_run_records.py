"""Records of finished runs: what they hold, what a grid takes of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from nsbench.analysis.collect import OF_NOISE
from nsbench.cli import parser as cli
from nsbench.records import exchange, verify
from nsbench.records.exchange import export_records, import_records, merge
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage import records as record_format
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.storage.provenance import commit, cpu
from nsbench.storage.records import NO_EVALUATION, Record, read_records, record_files, write_records
from nsbench.storage.run_folder import evaluation_key, history_digest
from nsbench.workflow.digests import digest
from nsbench.workflow.recorded_runs import current
from tests.recorded_grid import collect, plan_of, train, values_of

N_RUNS = 8
TABLES = {"history": HISTORY, "evaluation": EVALUATION, "floors": FLOORS}
BASELINE = Path("modular_addition/tiny/baseline.parquet")
CELL = {"task": "modular_addition", "variants": ["tiny"], "arms": ["baseline"]}
ARMS = {**CELL, "arms": ["baseline", "noise_stability"]}
ZERO, ONE = (f"modular_addition / tiny / baseline / seed {seed}" for seed in (0, 1))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the tiny grid."""
    root = tmp_path_factory.mktemp("results")
    plan = plan_of()
    assert len(train(root, plan)) == N_RUNS / 2
    assert collect(root, plan, root / "collected") == 0
    return root


@pytest.fixture(scope="module")
def records(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their records."""
    out = tmp_path_factory.mktemp("records")
    outcome = export_records(plan_of(), results, out)
    assert (len(outcome.added), outcome.kept, outcome.refused) == (N_RUNS, [], {})
    return out


def changed(record: Record, **changes: Any) -> Record:
    """A record with other values, whole in itself."""
    made = Record({**record.row, **changes})
    if "history" in changes or "seed" in changes:
        columns = ["seed", *(name for name in made.row["history"][0] if name in HISTORY.names)]
        sha256 = history_digest(made.table("history", HISTORY).to_pandas()[columns])
        made = Record({**made.row, "summary": {**made.row["summary"], "history_sha256": sha256}})
    return made


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: read_table(folder / f"{name}.parquet", schema) for name, schema in TABLES.items()}


def with_other_numbers(record: Record) -> Record:
    """The same run, trained to another end."""
    return changed(record, history=[{**row, "val_loss": row["val_loss"] * 1.001} for row in record.row["history"]])


# --- records and results -------------------------------------------------------------------------


def test_tables_from_records_alone_equal_those_of_the_results_to_the_bit(
    results: Path, records: Path, tmp_path: Path
) -> None:
    plan = plan_of(records=[str(records)])
    assert plan.packs == []
    assert not plan.needs_text()
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    made, before = tables(tmp_path / "collected"), tables(results / "collected")
    for name, table in made.items():
        pd.testing.assert_frame_equal(table, before[name], check_exact=True)
    runs = read_table(tmp_path / "collected/runs.parquet", COLLECTED_RUNS)
    old = read_table(results / "collected/runs.parquet", COLLECTED_RUNS)
    assert set(old["record"]) == {""}
    assert all(Path(path).is_relative_to(records) for path in runs["record"])
    pd.testing.assert_frame_equal(runs.drop(columns="record"), old.drop(columns="record"))
    assert set(runs["older_code"]) == {""}


def test_a_record_says_what_made_it_and_holds_no_weights(records: Path) -> None:
    found = [record for path in record_files([records]) for record in read_records(path)]
    assert len(found) == N_RUNS
    for record in found:
        told, settings = record.provenance, json.loads(record.settings)
        assert told["source_digest"] == digest("train", settings["arm_settings"]["kind"], "transformer")
        assert (told["commit"], told["cpu"], told["device"]) == (commit(), cpu(), "cpu")
        assert current(record.settings) == record.settings
    assert sum(path.stat().st_size for path in record_files([records])) < 25_000 * N_RUNS


def test_exporting_again_writes_nothing(results: Path, records: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in record_files([records])}
    outcome = export_records(plan_of(), results, records)
    assert (outcome.added, len(outcome.kept), outcome.refused) == ([], N_RUNS, {})
    assert {path: path.stat().st_mtime_ns for path in record_files([records])} == before
    # Runs that have a record are not looked at.
    outcome = export_records(plan_of(records=[str(records)]), results, tmp_path)
    assert (outcome.added, outcome.kept, outcome.refused) == ([], [], {})


def test_a_run_of_other_settings_is_not_exported_under_the_grid_s_name(results: Path, tmp_path: Path) -> None:
    other = plan_of()
    values = {"training": {"steps": 8, "batch_size": 8, "eval_every_steps": 4}}
    tasks = other.config.model_dump(mode="json")["tasks"]
    tasks["modular_addition"]["variants"]["tiny"].update(values)
    outcome = export_records(plan_of(tasks=tasks), results, tmp_path)
    assert {name.partition(" ")[0] for name in outcome.added} == {"sparse_parity"}


@pytest.mark.parametrize("file", ["history.parquet", "evaluation.parquet"])
def test_a_file_of_another_training_is_refused_by_its_run(file: str, results: Path, tmp_path: Path) -> None:
    arm = results / "runs/modular_addition/tiny/baseline"
    path, kept = arm / "seed-0" / file, (arm / "seed-0" / file).read_bytes()
    path.write_bytes((arm / "seed-1" / file).read_bytes())
    try:
        outcome = export_records(plan_of(), results, tmp_path)
    finally:
        path.write_bytes(kept)
    assert list(outcome.refused) == [ZERO]
    assert len(outcome.added) == N_RUNS - 1


def test_a_run_evaluated_before_measures_could_be_chosen_is_exported(results: Path, tmp_path: Path) -> None:
    run = results / "runs/modular_addition/tiny/baseline/seed-0"
    path, kept = run / "evaluation.parquet", (run / "evaluation.parquet").read_bytes()
    rows, made_by = read_table(path, EVALUATION), read_stamp(path)
    spec = json.loads(made_by["spec"])
    del spec["evaluation"]["measures"]
    key = evaluation_key(spec, json.loads((run / "run.json").read_text())["run_key"], made_by["source_digest"])
    try:
        write_table(path, rows, EVALUATION, {**made_by, "spec": json.dumps(spec), "evaluation_key": key})
        outcome = export_records(plan_of(), results, tmp_path)
    finally:
        path.write_bytes(kept)
    assert (len(outcome.added), outcome.refused) == (N_RUNS, {})


# --- what a grid takes ---------------------------------------------------------------------------


def test_seeds_of_one_s_own_train_alone(results: Path, records: Path, tmp_path: Path) -> None:
    plan = plan_of(records=[str(records)], seeds=[0, 1, 7])
    assert {pack[-1] for pack in plan.packs} == {"seeds-7-7"}
    train(tmp_path, plan)
    assert {path.name for path in tmp_path.glob("runs/*/*/*/*")} == {"seed-7"}
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    made, before = tables(tmp_path / "collected"), tables(results / "collected")
    kept = made["history"][made["history"]["seed"] < 7].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before["history"], check_exact=True)
    assert made["history"]["seed"].nunique() == 3
    runs = read_table(tmp_path / "collected/runs.parquet", COLLECTED_RUNS)
    assert ((runs["record"] == "") == (runs["seed"] == 7)).all()


def test_records_count_by_their_settings_whatever_the_grid_calls_them(records: Path, tmp_path: Path) -> None:
    tasks = plan_of().config.model_dump(mode="json")["tasks"]
    variants = tasks["modular_addition"]["variants"]
    variants["renamed"] = variants.pop("tiny")
    plan = plan_of(records=[str(records)], tasks=tasks, grid=[{**CELL, "variants": ["renamed"]}])
    assert plan.packs == []
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    assert all(set(table["variant"]) == {"renamed"} for table in tables(tmp_path / "collected").values())


def test_a_record_of_another_spec_is_not_taken(records: Path) -> None:
    grid = [{**CELL, "sweep": {"noise.same_symbol": [False]}}]
    assert len(plan_of(records=[str(records)], grid=grid).packs) == 1


def test_measures_with_other_settings_are_taken_and_marked(records: Path, tmp_path: Path) -> None:
    plan = plan_of(records=[str(records)], evaluation={"rho": [0.5], "n_inputs": 19, "n_draws": 1})
    assert plan.packs == []
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    found = tables(tmp_path / "collected")["evaluation"]
    stability = found[found["measure"] == "noise_stability"]
    assert len(stability) > 0
    assert 19 not in set(stability["n_inputs"])
    runs = read_table(tmp_path / "collected/runs.parquet", COLLECTED_RUNS)
    assert (set(runs["older_code"]), set(runs["no_evaluation"])) == ({"measures"}, {""})


def test_a_record_without_measures_says_so_and_gives_way_to_one_with_them(records: Path, tmp_path: Path) -> None:
    (first, *others) = read_records(records / BASELINE)
    without = changed(first, evaluation=None, evaluation_settings=None, evaluation_provenance=None)
    merge([without, *others], tmp_path / "records")
    plan = plan_of(records=[str(tmp_path / "records")], grid=[CELL])
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    runs = read_table(tmp_path / "collected/runs.parquet", COLLECTED_RUNS).set_index("seed")
    assert runs["no_evaluation"].to_dict() == {0: NO_EVALUATION, 1: ""}
    both = plan_of(records=[str(tmp_path / "records"), str(records)], grid=[CELL])
    assert all(not found.no_evaluation for found in _all(both))
    outcome = merge(read_records(records / BASELINE), tmp_path / "records")
    assert (len(outcome.added), len(outcome.kept)) == (1, 1)


def _all(plan: Any) -> list[Any]:
    return [record for found in plan.recorded.values() for record in found.values()]


def test_records_of_older_code_are_marked(records: Path, tmp_path: Path) -> None:
    older = []
    for record in read_records(records / BASELINE):
        summary = {**record.row["summary"], "source_digest": "0123456789abcdef", "commit": "f" * 40}
        # A column that came later, and a setting that had no name yet.
        rows = [{name: value for name, value in row.items() if name != "weight_norm"} for row in record.row["history"]]
        settings = json.loads(record.settings)
        del settings["training"]["stop"]
        made_by = {
            name: json.dumps(json.loads(record.row[name]) | dict.fromkeys(("source_digest", "data_digest"), "0" * 16))
            for name in ("provenance", "evaluation_provenance")
        }
        older.append(changed(record, summary=summary, history=rows, settings=json.dumps(settings), **made_by))
    merge(older, tmp_path / "records")
    sources = [str(tmp_path / "records"), str(records / "modular_addition/tiny/noise_stability.parquet")]
    plan = plan_of(records=sources, grid=[ARMS])
    assert plan.packs == []
    assert collect(tmp_path, plan, tmp_path / "collected") == 0
    runs = read_table(tmp_path / "collected/runs.parquet", COLLECTED_RUNS)
    assert runs.groupby("arm")["older_code"].unique().map(list).to_dict() == {
        "baseline": ["data, training, measures"],
        "noise_stability": [""],
    }
    assert set(runs.loc[runs["older_code"] != "", "commit"]) == {"f" * 40}
    history = read_table(tmp_path / "collected/history.parquet", HISTORY)
    assert (history["weight_norm"].isna() == (history["arm"] == "baseline")).all()


def test_arms_on_other_data_are_not_compared(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for arm in ("baseline", "noise_stability"):
        (first, second) = read_records(records / f"modular_addition/tiny/{arm}.parquet")
        if arm == "baseline":
            first = changed(first, summary={**first.row["summary"], "data_sha256": "1" * 64})
        merge([first, second], tmp_path / "records")
    plan = plan_of(records=[str(tmp_path / "records")], grid=[ARMS])
    assert collect(tmp_path, plan, tmp_path / "collected") == 2
    assert "was trained on other data than modular_addition / tiny / baseline / seed 0" in capsys.readouterr().err
    assert not list((tmp_path / "collected").glob("*.parquet"))


def test_a_recorded_run_stands_for_the_cells_that_share_it(records: Path, results: Path, tmp_path: Path) -> None:
    """Trained here or from a record, to the bit the same rows under each name but for what is of the noise."""
    curve = {**CELL, "specifications": {"choices": {"noise.gradient": ["both", "clean"]}}}
    plan = plan_of(records=[str(records)], grid=[curve])
    assert plan.packs == []
    assert collect(tmp_path, plan, tmp_path / "recorded") == 0
    assert collect(results, plan_of(grid=[curve]), tmp_path / "trained") == 0
    made, before = tables(tmp_path / "recorded"), tables(tmp_path / "trained")
    for name, table in made.items():
        pd.testing.assert_frame_equal(table, before[name], check_exact=True)
    names = ["tiny", "tiny-gradientclean"]
    assert list(dict.fromkeys(made["history"]["variant"])) == names
    one, other = (
        made["history"][made["history"]["variant"] == name].drop(columns="variant").reset_index(drop=True)
        for name in names
    )
    assert other[list(OF_NOISE)].isna().all(axis=None)
    own = [name for name in one if name not in OF_NOISE]
    pd.testing.assert_frame_equal(one[own], other[own], check_exact=True)


def test_cells_that_a_sweep_makes_share_files(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs a file, here: a file is filled before the next begins, and a run stays where it is."""
    monkeypatch.setattr(exchange, "RUNS_A_FILE", 3)
    (zero, _) = read_records(records / BASELINE)
    settings = json.loads(zero.settings)

    def made(rate: float) -> Record:
        optimizer = {**settings["optimizer"], "learning_rate": rate}
        return changed(zero, variant=f"tiny-rate{rate:g}", settings=json.dumps({**settings, "optimizer": optimizer}))

    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    merge([zero, *map(made, rates[:2])], tmp_path / "mine")
    outcome = merge(map(made, rates), tmp_path / "mine")
    assert (len(outcome.added), len(outcome.kept)) == (3, 2)
    where = {path.relative_to(tmp_path / "mine"): read_records(path) for path in (tmp_path / "mine").rglob("*.parquet")}
    shared = BASELINE.parent
    assert {path: [record.row["variant"] for record in found] for path, found in where.items()} == {
        BASELINE: ["tiny"],
        shared / "00.parquet": [made(rate).row["variant"] for rate in rates[:3]],
        shared / "01.parquet": [made(rate).row["variant"] for rate in rates[3:]],
    }


def test_rows_that_move_while_a_grid_is_collected_are_found_again_or_told(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Beside a queue that exports, a file may get new records between the look at it and its reading."""
    from nsbench.analysis.collect import Sources
    from nsbench.analysis.collect import collect as collect_runs
    from nsbench.workflow.plan import grid_cells
    from nsbench.workflow.recorded_runs import evaluation_settings_of

    (zero, one) = read_records(records / BASELINE)
    merge([one], tmp_path / "records")
    plan = plan_of(records=[str(tmp_path / "records")], grid=[{**CELL, "seeds": [1]}])
    key = ("modular_addition", "tiny", "baseline", 1)
    sources = Sources([], [], {key: plan.recorded[key[:3]][1]}, evaluation_settings_of(plan.config))
    merge([zero], tmp_path / "records")
    collect_runs(grid_cells(plan.config), sources, tmp_path / "collected", "{}", "d")
    history = read_table(tmp_path / "collected/history.parquet", HISTORY)
    assert history_digest(history) == one.numbers
    write_records(tmp_path / "records" / BASELINE, [zero, with_other_numbers(one)])
    with pytest.raises(RecordError, match=f"its record of {ONE} changed meanwhile"):
        collect_runs(grid_cells(plan.config), sources, tmp_path / "again", "{}", "d")


# --- what is refused -----------------------------------------------------------------------------


def test_two_records_of_a_run_with_other_numbers_stop_a_grid(records: Path, tmp_path: Path) -> None:
    (first, *_) = read_records(records / BASELINE)
    write_records(tmp_path / "other.parquet", [with_other_numbers(first)])
    with pytest.raises(RecordError, match="baseline / seed 0 has other numbers than that in"):
        plan_of(records=[str(records), str(tmp_path / "other.parquet")])
    plan_of(records=[str(records), str(records / BASELINE)])  # the same twice is no harm


def test_import_takes_what_fits_and_refuses_the_rest_by_name_and_reason(records: Path, tmp_path: Path) -> None:
    source = tmp_path / "sent"
    (zero, one) = read_records(records / BASELINE)
    (arm_zero, arm_one) = read_records(records / "modular_addition/tiny/noise_stability.parquet")
    settings = json.loads(arm_zero.settings)
    settings["training"]["batch_size"] = 9
    strange = json.dumps({**json.loads(arm_one.settings), "sauce": "hollandaise"})
    write_records(
        source / "a.parquet",
        [
            zero,
            with_other_numbers(one),
            changed(arm_zero, settings=json.dumps(settings)),
            changed(arm_one, settings=strange),
            changed(one, seed=99),
            changed(zero, variant="unknown", settings=json.dumps(settings)),
        ],
    )
    into = tmp_path / "mine"
    merge([one], into)
    outcome = import_records(plan_of(), [source], into)
    assert outcome.added == [ZERO]
    names = {
        ONE: "has a record of this run with other numbers",
        "modular_addition / tiny / noise_stability / seed 0": "than the grid's: training.batch_size = 9 instead of 8",
        "modular_addition / tiny / noise_stability / seed 1": "settings.sauce: unknown key",
        "modular_addition / tiny / baseline / seed 99": "the grid has no seed 99 of its cell",
        "modular_addition / unknown / baseline / seed 0": "no cell of the grid has its settings, nor its name",
    }
    assert outcome.refused.keys() == names.keys()
    for name, reason in names.items():
        assert reason in outcome.refused[name], name
    assert {record.seed: record.numbers for record in read_records(into / BASELINE)} == {
        0: zero.numbers,
        1: one.numbers,
    }


def test_a_folder_has_runs_on_one_text(records: Path, tmp_path: Path) -> None:
    (zero, one) = read_records(records / BASELINE)
    first, second = (
        changed(record, summary={**record.row["summary"], "text": text})
        for record, text in ((zero, "WikiText-2"), (one, "local text (mine), not WikiText-2"))
    )
    merge([first], tmp_path)
    outcome = merge([second], tmp_path)
    assert outcome.refused[second.name].startswith(
        "its text is 'local text (mine), not WikiText-2', that of records in"
    )
    images = changed(one, summary={**one.row["summary"], "text": "Fashion-MNIST"})
    assert merge([images], tmp_path).added == [ONE]
    assert merge([changed(images, variant="other")], tmp_path).refused == {}


@pytest.mark.parametrize(
    ("source", "text", "taken"),
    [("auto", "WikiText-2", True), ("embedded", "WikiText-2", False), ("embedded", "Fashion-MNIST", True)],
)
def test_runs_on_another_text_than_the_grid_asks_for_do_not_count(
    source: str, text: str, taken: bool, records: Path, tmp_path: Path
) -> None:
    (zero, _) = read_records(records / BASELINE)
    merge([changed(zero, summary={**zero.row["summary"], "text": text})], tmp_path)
    plan = plan_of(records=[str(tmp_path)], text={"source": source})
    assert bool(_all(plan)) == taken


@pytest.mark.parametrize("summary", [{"status": "stopped"}, {"flops": 1.0}])
def test_a_summary_that_its_history_does_not_bear_out_is_damage(
    summary: dict[str, Any], records: Path, tmp_path: Path
) -> None:
    (zero, _) = read_records(records / BASELINE)
    write_records(tmp_path / "sent.parquet", [changed(zero, summary={**zero.row["summary"], **summary})])
    assert "is damaged" in import_records(plan_of(), [tmp_path / "sent.parquet"], tmp_path / "mine").refused[zero.name]


@pytest.mark.parametrize("name", ["settings", "provenance", "evaluation_provenance", "evaluation_settings"])
@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "no JSON"], ids=["nested", "list", "text"])
def test_a_signed_record_whose_texts_say_nothing_is_damage(name: str, text: str, records: Path, tmp_path: Path) -> None:
    (zero, _) = read_records(records / BASELINE)
    sent = tmp_path / "sent.parquet"
    write_records(sent, [changed(zero, **{name: text})])
    assert "is damaged" in import_records(plan_of(), [sent], tmp_path / "mine").refused[zero.name]
    plan_of(records=[str(sent)])


def test_a_file_of_more_values_than_runs_have_is_not_read(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kilobytes can hold billions of equal numbers."""
    sent = records / BASELINE
    monkeypatch.setattr(record_format, "MOST_VALUES", 300)
    for read in (read_records, lambda path: plan_of(records=[str(path)])):
        with pytest.raises(RecordError, match=r"baseline\.parquet: says [\d,]+ values, at most 300 are allowed; split"):
            read(sent)


def rewritten(records: Path, path: Path, change: Any, nullable: bool = False) -> Path:
    """The baselines' file with its first row changed, whatever its checksum says."""
    table = pq.read_table(records / BASELINE)
    rows = table.to_pylist()
    change(rows[0])
    schema = pa.schema([field.with_nullable(nullable or field.nullable) for field in table.schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_a_record_with_a_gap_is_no_whole_one(records: Path, tmp_path: Path) -> None:
    sent = rewritten(records, tmp_path / "sent.parquet", lambda row: row.update(settings=None), nullable=True)
    for read in (read_records, lambda path: plan_of(records=[str(path)])):
        with pytest.raises(RecordError, match="has a record without settings"):
            read(sent)


def test_a_record_is_filed_under_no_name_that_leads_elsewhere(records: Path, tmp_path: Path) -> None:
    (zero, _) = read_records(records / BASELINE)
    write_records(tmp_path / "sent.parquet", [changed(zero, variant="../../outside")])
    outcome = import_records(plan_of(), [tmp_path / "sent.parquet"], tmp_path / "mine")
    assert [reason.partition("is no name")[1] for reason in outcome.refused.values()] == ["is no name"]
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: row["history"][1].update(val_loss=row["history"][1]["val_loss"] + 1e-12),
        lambda row: row.update(seed=5),
        lambda row: row.update(floors=[]),
    ],
    ids=["history", "seed", "floors"],
)
def test_a_damaged_record_is_named_and_the_others_are_taken(damage: Any, records: Path, tmp_path: Path) -> None:
    sent = rewritten(records, tmp_path / "sent.parquet", damage)
    with pytest.raises(RecordError, match=r"the record of modular_addition / tiny / baseline / seed \d is damaged"):
        read_records(sent)
    outcome = import_records(plan_of(), [sent], tmp_path / "mine")
    assert outcome.added == [ONE]
    (reason,) = outcome.refused.values()
    assert reason.endswith("get the file again from where it came from")


def test_other_files_cut_ones_and_absent_ones_are_named(records: Path, results: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file or folder of records"):
        plan_of(records=[str(tmp_path / "absent")])
    with pytest.raises(RecordError, match="has no file of records"):
        plan_of(records=[str(tmp_path)])
    with pytest.raises(RecordError, match="is no file of records, it lacks settings"):
        plan_of(records=[str(results / "collected/runs.parquet")])
    (tmp_path / "cut.parquet").write_bytes((records / BASELINE).read_bytes()[:1000])
    with pytest.raises(RecordError, match=r"cut.parquet: not a whole Parquet file .*get the file again"):
        read_records(tmp_path / "cut.parquet")


@pytest.mark.parametrize(("column", "value"), [("task", 1), ("summary", "a"), ("settings", ["a"]), ("summary", ["a"])])
def test_a_file_whose_columns_hold_something_else_is_named(
    column: str, value: Any, records: Path, tmp_path: Path
) -> None:
    table, path = pq.read_table(records / BASELINE), tmp_path / "sent.parquet"
    pq.write_table(table.set_column(table.column_names.index(column), column, [[value] * len(table)]), path)
    with pytest.raises(RecordError, match=f"sent.parquet: is no file of records, its {column} holds "):
        plan_of(records=[str(path)])
    with pytest.raises(RecordError, match=f"sent.parquet: is no file of records, its {column} holds "):
        import_records(plan_of(), [path], tmp_path / "mine")


def test_a_record_of_newer_code_is_not_rewritten_with_less(records: Path, tmp_path: Path) -> None:
    (zero, _) = read_records(records / BASELINE)
    rows = [{**row, "sharpness": 1.0} for row in zero.row["history"]]
    with pytest.raises(RecordError, match="is of newer code; update nsbench"):
        write_records(tmp_path / "new.parquet", [changed(zero, history=rows)])


# --- training again ------------------------------------------------------------------------------


def verified(source: Path, folder: Path, **options: Any) -> list[verify.Comparison]:
    return list(verify.verify_records([source], plan_of().config.text, folder, **{"sample": 2, **options}))


def test_runs_trained_again_agree_to_the_bit(records: Path, tmp_path: Path) -> None:
    for found in verified(records, tmp_path, sample=3):
        assert (found.verdict, found.words) == (verify.AGREES, "to the bit at 4 evaluations, to step 12")


def forged(records: Path, path: Path, factor: float, place: int, **provenance: str) -> Path:
    """Records whose validation loss at one evaluation is another."""
    made = []
    for record in read_records(records / BASELINE):
        rows = [dict(row) for row in record.row["history"]]
        rows[place]["val_loss"] *= factor
        made.append(changed(record, history=rows, provenance=json.dumps({**record.provenance, **provenance})))
    write_records(path, made)
    return path


def test_a_forged_number_differs_on_a_cpu_of_the_same_kind(records: Path, tmp_path: Path) -> None:
    source = forged(records, tmp_path / "forged.parquet", 1 + 1e-9, 2)
    for found in verified(source, tmp_path / "work"):
        assert found.verdict == verify.DIFFERS
        assert found.words == "from step 8 on, in val_loss, on a CPU of the same kind"


@pytest.mark.parametrize(
    ("factor", "place", "other", "verdict"),
    [
        (1 + 1e-6, 0, "cpu", verify.AGREES),
        (1.001, 0, "cpu", verify.DIFFERS),
        (1.2, 1, "cpu", verify.DIFFERS),
        (1.2, 3, "cpu", verify.AGREES),  # by then rounding may have led anywhere
        (1.001, 0, "engine", verify.DIFFERS),
        (1.2, 1, "engine", verify.AGREES),  # of other noise and dropout
    ],
)
def test_another_machine_s_floats_may_differ_a_little(
    factor: float, place: int, other: str, verdict: str, records: Path, tmp_path: Path
) -> None:
    source = forged(records, tmp_path / "other.parquet", factor, place, **{other: "Pentium, mmx"})
    for found in verified(source, tmp_path / "work", sample=1):
        assert found.verdict == verdict
        assert f"another machine or engine ({other} Pentium, mmx)" in found.words


def test_a_run_of_another_engine_may_stop_at_another_step(records: Path) -> None:
    (zero, _) = read_records(records / BASELINE)
    shorter = zero.table("history", HISTORY).to_pandas()[:2]
    for one, other in ((zero, shorter), (changed(zero, history=zero.row["history"][:2]), shorter)):
        assert verify._compared(one, other, {"engine": "1"}, ["engine 1"])[0] == verify.AGREES


def test_records_on_other_data_differ(records: Path, tmp_path: Path) -> None:
    (zero, _) = read_records(records / BASELINE)
    write_records(tmp_path / "a.parquet", [changed(zero, summary={**zero.row["summary"], "data_sha256": "1" * 64})])
    (found,) = verified(tmp_path / "a.parquet", tmp_path / "work")
    assert (found.verdict, found.words) == (verify.DIFFERS, "its data set comes out with other data")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_exports_imports_and_verifies(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def call(action: str, *arguments: Any, **settings: Any) -> tuple[int, str, str]:
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(values_of(**settings), sort_keys=False))
        status = cli.main(["records", action, *map(str, arguments), "--configfile", str(config)])
        return status, *capsys.readouterr()

    sent, mine, forgery = tmp_path / "sent", tmp_path / "mine", tmp_path / "forged.parquet"
    added = (0, f"{N_RUNS} records added, 0 already there, 0 refused\n", "")
    assert call("export", "--results", results, "--out", sent) == added
    assert call("import", sent, "--into", mine) == added
    status, said, _ = call("verify", mine, "--sample", 1, "--steps", 4)
    assert (status, said.splitlines()[-1]) == (0, "all 1 runs agree with their records")
    status, _, err = call("check")
    assert status == 2
    assert f"8 runs of the grid have no record, the first is {ZERO}" in err
    assert call("check", records=[str(mine)])[:2] == (0, "all 8 runs of the grid have a record\n")
    forged(sent, forgery, 1.5, 0)
    status, said, err = call("import", forgery, "--into", mine)
    assert status == 2
    assert f"refused: {ZERO}: " in said
    assert err.endswith("2 records were refused, as listed above; the others are imported\n")
    status, _, err = call("verify", forgery, "--sample", 1)
    assert status == 2
    assert "1 of 1 runs differ from their records" in err
