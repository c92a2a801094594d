"""Reports on the finished part of a grid: which runs count and why others do not, and that no number is about those."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from nsbench.cli import parser as cli
from nsbench.cli import stages
from nsbench.cli.grid import Grid
from nsbench.config.base import parse
from nsbench.data.datasets import read_dataset
from nsbench.data.generate import DatasetSpec, make_datasets
from nsbench.figures import drawing, style
from nsbench.records.exchange import export_records
from nsbench.report import page
from nsbench.report.partial import section
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import EVALUATION, FINISHED, RUN_STATE
from nsbench.storage.parquet import read_stamp, write_table
from nsbench.storage.records import NO_EVALUATION, Record, read_records, write_records
from nsbench.storage.run_folder import evaluation_key
from nsbench.workflow import progress
from nsbench.workflow.freshness import outdated
from nsbench.workflow.plan import Plan, digest, grid_cells
from nsbench.workflow.run_states import inputs_digest
from tests import recorded_grid
from tests.config.test_config import TINY, overlaid, place
from tests.partial_grid import DIVERGED, Pack, PartialGrid, tiny_plan
from tests.recorded_grid import plan_of
from tests.report.pages import flat

BASELINE, ARM = ("modular_addition", "tiny", "baseline"), ("modular_addition", "tiny", "noise_stability")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PartialGrid:
    """Every pack of the grid."""
    return PartialGrid(tmp_path_factory.mktemp("whole"), tiny_plan())


@pytest.fixture
def grid(whole: PartialGrid, tmp_path: Path) -> PartialGrid:
    """A copy to spoil."""
    copied = object.__new__(PartialGrid)
    vars(copied).update(vars(whole) | {"root": tmp_path / "grid"})
    shutil.copytree(whole.root, copied.root, ignore=shutil.ignore_patterns("partial"))
    return copied


def state(grid: PartialGrid, pack: Pack) -> tuple[str, str]:
    """State and reason of a pack's first run."""
    assert grid.finished() == 0
    rows = grid.states()
    of_cell = (rows["task"] == pack[0]) & (rows["variant"] == pack[1]) & (rows["arm"] == pack[2])
    row = rows[of_cell & (rows["pack"] == pack[3])].iloc[0]
    return row["state"], row["reason"]


# --- which runs are finished ---------------------------------------------------------------------------


def test_packs_that_are_whole_and_fresh_are_finished(whole: PartialGrid) -> None:
    assert whole.finished() == 0
    rows = whole.states()
    assert set(rows["state"]) == {FINISHED}
    assert list(rows[["task", "variant", "arm", "seed"]].itertuples(index=False, name=None)) == [
        (cell["task"], cell["variant"], cell["arm"], seed)
        for cell in grid_cells(whole.plan.config)
        for seed in cell["seeds"]
    ]
    missing = (whole.root / "partial/missing.csv").read_text()
    assert missing == "task,variant,arm,seed,pack,state,share_trained,reason\n"


def test_each_reason_for_being_out_has_its_words(grid: PartialGrid) -> None:
    packs = [pack for pack in grid.plan.packs if pack[0] in ("next_token", "sparse_parity") and pack[2] != "baseline"]
    begun, done, other, evaluated_otherwise, again, unmeasured, last = packs[:7]
    grid.take_away(begun, done, last)
    grid.begin(begun, 0.25)
    grid.begin(done, 1.0)
    grid.write(other, ("runs",), source_digest="0" * 16)
    grid.write(evaluated_otherwise, ("evaluation",), spec="{}")
    grid.write(again, ("history", "runs"), spec="{}")
    grid.begin(again, 0.5)
    grid.path(unmeasured, "evaluation").unlink()
    bad = grid.path((*ARM, "seeds-1-1"), "history")
    bad.write_bytes(bad.read_bytes()[:-40])
    assert grid.finished() == 0
    rows = pd.read_csv(grid.root / "partial/missing.csv", keep_default_na=False).set_index(["task", "arm", "pack"])
    found = {key: tuple(row) for key, row in rows[["state", "share_trained", "reason"]].iterrows()}
    *_, said = found.pop((ARM[0], ARM[2], "seeds-1-1"))

    def key(pack: Pack) -> tuple[str, str, str]:
        return pack[0], pack[2], pack[3]

    assert found == {
        key(begun): ("unfinished", 0.25, "25% trained"),
        key(done): ("unfinished", 1.0, "trained, not evaluated"),
        key(other): ("stale", 0.0, "trained with other settings or code"),
        key(evaluated_otherwise): ("stale", 0.0, "evaluated with other settings or code"),
        key(again): ("unfinished", 0.5, "50% trained"),
        key(unmeasured): ("unfinished", 0.0, "trained, not evaluated"),
        key(last): ("unfinished", 0.0, "not begun"),
    }
    assert said.startswith(f"{bad}: not a whole Parquet file")
    told = section(grid.states(), grid.tables["runs"])
    assert ["unfinished", said, "1"] in [[cell.text for cell in row.cells] for row in told["reasons"].rows]
    assert (ARM[2], "1 of 2") in [tuple(cell.text for cell in row.cells[:2]) for row in told["cells"].rows]


def test_other_settings_make_runs_stale(grid: PartialGrid) -> None:
    """Of training, and of data: each by its own words."""
    values = grid.plan.config.model_dump(mode="json")
    for path, value, task, reason in (
        ("training", {"eval_every_steps": 3}, "sparse_parity", "trained with other settings or code"),
        ("data", {"n_val": 11}, "modular_addition", "its data set is made with other settings or code"),
    ):
        values["tasks"][task]["variants"]["tiny"][path] |= value
        grid.plan = Plan(type(grid.plan.config).model_validate(values, strict=False))
        assert grid.finished() == 0
        rows = grid.states()
        assert set(rows.loc[rows["task"] == task, "reason"]) == {reason}
        assert set(rows.loc[rows["task"] == task, "state"]) == {"stale"}
        assert set(rows.loc[rows["task"] == "next_token", "state"]) == {FINISHED}


def test_another_text_makes_the_runs_on_texts_stale(grid: PartialGrid) -> None:
    from nsbench.data.text import Text, write_text_file

    write_text_file(grid.root / "text.parquet", Text("old", (), (), ()), {"spec": '{"source":"old"}'})
    assert grid.finished("--text-spec", '{"source":"new"}') == 0
    rows = grid.states()
    assert set(rows.loc[rows["task"].isin(["next_token"]), "reason"]) == {
        "its text is not the one that the settings name"
    }
    assert set(rows.loc[~rows["task"].isin(["next_token"]), "state"]) == {FINISHED}


def test_an_evaluation_older_than_its_training_counts_only_where_it_is_of_that_training(grid: PartialGrid) -> None:
    pack = (*ARM, "seeds-0-0")
    os.utime(grid.path(pack, "evaluation"), (1, 1))
    # Its run's folder is not there to tell.
    assert state(grid, pack)[0] == "unfinished"
    run = pd.read_parquet(grid.path(pack, "runs"))["run_key"].item()
    for of, told in (
        ("another training", ("unfinished", "its evaluation is of an earlier training")),
        (run, (FINISHED, "")),
    ):
        key = evaluation_key(json.loads(grid.plan.evaluate(*pack)), of, grid.plan.code("evaluate", *pack[:3]))
        path = grid.root.joinpath("runs", *ARM, "seed-0", "evaluation.parquet")
        write_table(path, grid.tables["evaluation"], EVALUATION, {"evaluation_key": key})
        assert state(grid, pack) == told


def test_data_that_were_made_again_count_where_they_are_the_same(grid: PartialGrid) -> None:
    pack = (*ARM, "seeds-0-0")
    path = grid.root.joinpath("datasets", *ARM[:2], "seeds-0-0.safetensors")
    spec = grid.plan.dataset(*ARM[:2], "seeds-0-0")
    made_by = {"spec": spec, "source_digest": grid.plan.code("dataset", *ARM)}
    make_datasets(parse(DatasetSpec, json.loads(spec)), path, grid.root / "floors.parquet", made_by)
    assert state(grid, pack) == ("stale", "its data set was made again since, with other data")
    grid.tables = grid.tables | {"runs": grid.tables["runs"].assign(data_sha256=read_dataset(path, 0).sha256)}
    grid.write(pack)
    os.utime(path, (2**32, 2**32))
    assert state(grid, pack) == (FINISHED, "")


def test_where_nothing_can_be_reported_one_sentence_says_so(
    grid: PartialGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    """One arm is finished, and no baseline."""
    kept = (*ARM, "seeds-0-0")
    grid.take_away(*[pack for pack in grid.plan.packs if pack != kept])
    assert state(grid, kept) == ("unfinished", "finished itself, but no baseline run of its variant is")
    assert len(pd.read_csv(grid.root / "partial/missing.csv")) == len(grid.plan.packs)
    with pytest.raises(AssertionError, match="collect"):
        grid.report()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("nsbench stage collect: no run of the grid can be reported on yet (")
    assert f"{len(grid.plan.packs)} unfinished" in said


def test_without_a_report_what_lies_there_is_named_as_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    progress.PARTIAL.mkdir(parents=True)
    for name in ("report.html", "missing.csv"):
        (progress.PARTIAL / name).write_text("")
    progress.fail_partial(print)
    said = capsys.readouterr().out
    assert "what is missing: results/partial/missing.csv" in said
    assert "of an earlier report, not of now: results/partial/report.html\n" in said


def test_states_are_read_again_after_any_change(grid: PartialGrid) -> None:
    found = [inputs_digest(grid.plan, grid.root)]
    assert inputs_digest(grid.plan, grid.root) == found[0]
    grid.begin((*ARM, "seeds-0-0"), 0.5)
    found.append(inputs_digest(grid.plan, grid.root))
    grid.take_away((*ARM, "seeds-1-1"))
    found.append(inputs_digest(grid.plan, grid.root))
    grid.write((*ARM, "seeds-1-1"))
    found.append(inputs_digest(grid.plan, grid.root))
    assert len(set(found)) == len(found)


def test_numbers_that_show_no_run_are_fresh_or_outdated(tmp_path: Path) -> None:
    values = overlaid(TINY)
    model = {"only": ["tiny_causal"]}
    plan = tiny_plan(theory=values["theory"], pretrained=values["pretrained"] | model)
    assert outdated(plan, tmp_path) == []

    def write(place: str, spec: str, code: str) -> None:
        write_table(tmp_path / f"{place}.parquet", [], RUN_STATE, {"spec": spec, "source_digest": code})

    spec = plan.experiment("relu")
    write("theory/relu.points", spec, digest("simulate", "relu"))
    write("tables/theory", plan.theory(), digest("theory"))
    write("pretrained/tiny_causal/measured", plan.pretrained("tiny_causal"), digest("pretrained"))
    write("tables/table_1", plan.pretrained_tables(), digest("pretrained-tables"))
    assert outdated(plan, tmp_path) == []
    # Settings, code, and what was made again since.
    seed = tiny_plan(theory=values["theory"] | {"seed": 7}, pretrained=values["pretrained"] | model)
    assert outdated(seed, tmp_path) == ["theory"]
    rho = place(values["pretrained"] | model, "measurement.rho", [0.25])
    assert outdated(tiny_plan(theory=values["theory"], pretrained=rho), tmp_path) == ["pretrained"]
    assert outdated(tiny_plan(), tmp_path) == []
    os.utime(tmp_path / "tables/table_1.parquet", (1, 1))
    write("theory/relu.points", spec, "0" * 16)
    assert outdated(plan, tmp_path) == ["theory", "pretrained"]
    # A damaged file is told by what reads it.
    (tmp_path / "theory/relu.points.parquet").write_bytes(b"")
    assert outdated(plan, tmp_path) == ["pretrained"]
    write("text", '{"source":"old"}', digest("text"))
    os.utime(tmp_path / "tables/table_1.parquet")
    assert outdated(plan, tmp_path, '{"source":"old"}') == []
    assert outdated(plan, tmp_path, '{"source":"new"}') == ["pretrained"]


# --- what is made of them ------------------------------------------------------------------------------


def check(grid: PartialGrid, drawn: list[str]) -> None:
    """Run every stage on what is finished; no row of any table may be about a run, or a cell, that is out."""
    folder = grid.root / "partial"
    shutil.rmtree(folder, ignore_errors=True)
    assert grid.finished() == 0
    grid.report()
    rows = grid.states()
    finished = rows[rows["state"] == FINISHED]
    runs = set(finished[["task", "variant", "arm", "seed"]].itertuples(index=False, name=None))
    cells = finished.groupby(["task", "variant", "arm"])["seed"].agg(set).to_dict()
    collected = pd.read_parquet(folder / "collected/runs.parquet")
    assert set(collected[["task", "variant", "arm", "seed"]].itertuples(index=False, name=None)) == runs
    for name in TABLES:
        table = pd.read_parquet(folder / f"tables/{name}.parquet")
        for row in table.to_dict("records"):
            # What is pooled is of a whole curve, which its base variant names.
            place = (row["task"], row["variant" if "variant" in row else "curve"])
            arms = [row[key] for key in ("arm", "baseline") if row.get(key)]
            assert all((*place, arm) in cells for arm in arms), (name, row)
            assert any(place == cell[:2] for cell in cells), (name, row)
            if "seed" in row:
                assert (*place, row["arm"], row["seed"]) in runs, (name, row)
            if name == "cells":
                assert row["n_seeds"] == len(cells[(*place, row["arm"])]), (name, row)
            if name == "paired_effect":
                assert row["n_pairs"] == len(cells[(*place, row["arm"])] & cells[(*place, row["baseline"])])
    n, of = len(finished), len(rows)
    # A file that is copied away tells too.
    files = [*folder.glob("collected/*.parquet"), *folder.glob("tables/*.parquet"), *folder.glob("claim*.parquet")]
    assert {read_stamp(path).get("partial") for path in files} == {f"{n} of {of} runs"}
    said, claims = (folder / "report.html").read_text(), pd.read_parquet(folder / "claims.parquet")
    label = f"PARTIAL: {n} of {of} runs"
    assert f"<title>nsbench report (demo scale) ({label})</title>" in said
    assert f'class="banner" role="note">{label}.' in said
    assert label in (folder / "claims.md").read_text()
    of_runs = claims[claims["group"] == "training"]
    assert set(of_runs["scale"]) <= {"demo", "none"}
    assert set(of_runs.loc[of_runs["scale"] == "demo", "partial"]) == {f"{n} of {of} runs"}
    assert not of_runs["reason"].str.contains(r"(?<!part of )the grid").any()
    reasons = claims.set_index("id")["reason"]
    assert reasons["theorem_5_1"].startswith("theory.parquet was not made; to make it:")
    assert "was made with other settings or code; to make it:" in reasons["junta_like"]
    assert "Left out: numbers and figures of pretrained models, which were made with other settings" in said
    # Each figure that these runs fill was drawn, with that name on it; nothing failed.
    assert len(drawn) == len(list((folder / "figures").glob("*.png")))
    assert drawn
    assert all(label in text for text in drawn)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The words of each figure; saved are blank ones, and a figure that fails fails the test."""
    words: list[str] = []
    style.save(style.empty("blank", "demo"), tmp_path / "blank.png", tmp_path / "blank.pdf")

    def keep(figure: style.Figure, png: Path, pdf: Path) -> None:
        words.append(" ".join(" ".join(text.get_text() for text in figure.texts).split()))
        shutil.copy(tmp_path / "blank.png", png)

    def fail(*said: object) -> None:
        raise AssertionError(said)

    monkeypatch.setattr(style, "save", keep)
    monkeypatch.setattr(drawing.logger, "exception", fail)
    return words


def test_a_figure_that_fails_is_named_on_the_page(grid: PartialGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    grid.take_away((*ARM, "seeds-1-1"))
    assert grid.finished() == 0

    def render(name: str, *given: object) -> None:
        Path(str(given[-2])).write_bytes(b"")
        if name == "arms":
            raise ValueError("too few runs")

    monkeypatch.setattr(drawing, "render", render)
    drawing.render_all("", grid_cells(grid.plan.config), "demo", grid.root / "figures")
    whole = Grid(grid.plan.config, grid_cells(grid.plan.config), "demo", None)
    pictures, failed = stages.pictures([grid.root / "figures", Path("other.png")], whole, False, False)
    assert failed == ["arms"]
    assert "arms" not in {path.stem for path in pictures}
    assert {"time_to_target", "other"} <= {path.stem for path in pictures}
    said = section(grid.states(), grid.tables["runs"], not_drawn=failed)
    template = page.environment().get_template("partial.html.j2")
    shown = template.render(partial=said, part="1 of 2 runs", scale="demo")
    assert "<p>Not drawn: arms. These runs do not fill them" in shown


# --- runs from records, and runs that cells share --------------------------------------------------------


NOISE_CURVE = {
    "task": "modular_addition",
    "variants": ["tiny"],
    "arms": ["baseline", "noise_stability"],
    "specifications": {"choices": {"noise.gradient": ["both", "clean", "noisy"]}},
}


def test_a_cell_that_shares_runs_has_the_state_of_its_twin(tmp_path: Path) -> None:
    grid = PartialGrid(tmp_path, tiny_plan(grid=[NOISE_CURVE]))
    assert {pack[1] for pack in grid.plan.packs if pack[2] == "baseline"} == {"tiny"}
    grid.take_away((*BASELINE, "seeds-1-1"))
    grid.begin((*BASELINE, "seeds-1-1"), 0.5)
    assert grid.finished() == 0
    rows = grid.states()
    baselines = rows[rows["arm"] == "baseline"]
    assert baselines["variant"].nunique() == 3
    found = baselines.groupby("seed")[["pack", "state", "share_trained"]].agg(set)
    assert found.loc[0].tolist() == [{"seeds-0-0"}, {FINISHED}, {1.0}]
    assert found.loc[1].tolist() == [{"seeds-1-1"}, {"unfinished"}, {0.5}]
    assert set(rows.loc[rows["arm"] != "baseline", "state"]) == {FINISHED}
    grid.report(tables_alone=True)
    effects = pd.read_parquet(tmp_path / "partial/tables/paired_effect.parquet")
    assert effects["n_pairs"].tolist() == [1, 1, 1]


def test_a_cell_that_shares_runs_has_the_floors_of_its_twin(tmp_path: Path) -> None:
    """Its variant's other arms, whose packs have floors of the same data, may not be there."""
    grid = PartialGrid(tmp_path, tiny_plan(grid=[NOISE_CURVE | {"task": "next_token"}]))
    last = next(pack for pack in reversed(grid.plan.packs) if pack[3] == "seeds-1-1")
    grid.take_away(last)
    assert last[1] != "tiny"
    assert grid.finished() == 0
    grid.report(tables_alone=True)
    floors = pd.read_parquet(tmp_path / "partial/collected/floors.parquet")
    of_both = [floors[floors["variant"] == name].drop(columns="variant") for name in ("tiny", last[1])]
    pd.testing.assert_frame_equal(*(rows.sort_values(list(rows)).reset_index(drop=True) for rows in of_both))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a grid that was really trained."""
    root, plan = tmp_path_factory.mktemp("recorded"), plan_of()
    recorded_grid.train(root, plan)
    export_records(plan, root, root / "records")
    return root / "records"


def test_a_grid_whose_runs_are_all_recorded_makes_a_report(recorded: Path, tmp_path: Path, drawn: list[str]) -> None:
    grid = PartialGrid(tmp_path / "grid", plan_of(records=[str(recorded)]))
    assert grid.plan.packs == []
    assert grid.finished() == 0
    rows = grid.states()
    assert set(rows["state"]) == {FINISHED}
    assert (set(rows["pack"]), set(rows["share_trained"]), set(rows["reason"])) == ({""}, {1.0}, {""})
    grid.report()
    assert f"runs from records {len(rows)} of {len(rows)}, from 4 files" in flat(
        (grid.root / "partial/report.html").read_text()
    )
    assert drawn
    # With seeds of one's own that are not begun it is part of the grid.
    grid.plan = plan_of(records=[str(recorded)], seeds=[0, 1, 5])
    assert grid.finished() == 0
    states = grid.states().set_index("seed")["state"]
    assert (set(states[[0, 1]]), set(states[[5]])) == ({FINISHED}, {"unfinished"})
    grid.report(tables_alone=True)
    runs = pd.read_parquet(grid.root / "partial/collected/runs.parquet")
    assert (len(runs), set(runs["record"].map(bool))) == (len(rows), {True})


def test_records_without_measures_make_all_but_what_needs_them(
    recorded: Path, tmp_path: Path, drawn: list[str]
) -> None:
    none = {"evaluation": None, "evaluation_settings": None, "evaluation_provenance": None}
    for path in recorded.rglob("*.parquet"):
        write_records(
            tmp_path / path.relative_to(recorded.parent), [Record({**one.row, **none}) for one in read_records(path)]
        )
    grid = PartialGrid(tmp_path / "grid", plan_of(records=[str(tmp_path / recorded.name)]))
    assert grid.finished() == 0
    grid.report()
    score = pd.read_parquet(grid.root / "partial/tables/score.parquet")
    assert score["n_unmeasured"].eq(2).all()
    assert score[["test_accuracy", "test_loss"]].isna().all(axis=None)
    whole = score[score["targets"] == "all"]
    assert whole[["final_val_accuracy", "best_val_loss"]].notna().all(axis=None)
    page_text = flat((grid.root / "partial/report.html").read_text())
    assert f"without measures 8 runs: {NO_EVALUATION}" in page_text


SUBSETS = {
    "no pair of a seed": lambda pack: (
        pack[0] == "modular_addition" and (pack[2] == "baseline") == (pack[3] == "seeds-0-0")
    ),
    "a diverged run and one baseline": lambda pack: (
        pack in {(*DIVERGED[:1], "tiny", "baseline", "seeds-0-0"), (*DIVERGED[:1], "tiny", DIVERGED[1], "seeds-1-1")}
    ),
}


@pytest.mark.parametrize("subset", SUBSETS)
def test_any_part_gives_tables_figures_claims_and_a_page(grid: PartialGrid, drawn: list[str], subset: str) -> None:
    grid.take_away(*[pack for pack in grid.plan.packs if not SUBSETS[subset](pack)])
    check(grid, drawn)


def test_a_whole_grid_s_tables_are_those_of_the_strict_way(grid: PartialGrid) -> None:
    assert grid.finished() == 0
    grid.report(tables_alone=True)
    grid.report(tables_alone=True, partial=False, out="strict")
    for name in TABLES:
        ours, strict = (grid.root / f"{way}/tables/{name}.csv" for way in ("partial", "strict"))
        assert ours.read_bytes() == strict.read_bytes(), name


def test_without_the_option_a_missing_run_still_stops_the_collection(
    grid: PartialGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.take_away((*ARM, "seeds-1-1"))
    places = [f"--{name}={grid.root / name}" for name in ("packs", "datasets")] + [f"--out={grid.root / 'strict'}"]
    assert cli.main(["stage", "collect", "--spec", grid.plan.grid("runs_per_pack"), *places]) == 2
    assert "noise_stability/seeds-1-1/runs.parquet: no such file" in capsys.readouterr().err
    assert not (grid.root / "strict/runs.parquet").exists()


def test_a_state_file_of_another_grid_is_refused(grid: PartialGrid, capsys: pytest.CaptureFixture[str]) -> None:
    assert grid.finished() == 0
    spec = json.loads(grid.plan.grid("runs_per_pack", "analysis"))
    files = ["--finished", str(grid.root / "partial/finished.parquet"), "--collected", "a"]
    spec["seeds"] = [0, 1, 2]
    assert cli.main(["stage", "analyse", "--spec", json.dumps(spec), *files, "--out", "t"]) == 2
    assert re.search(r"finished.parquet: is about other runs than this grid's; delete it", capsys.readouterr().err)
