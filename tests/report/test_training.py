"""The report's sections on training: scores beside floors, sweeps, what moves first; what stands open."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from nsbench.report.training import SCORES, left_out
from nsbench.schemas.analysis import SCORE
from nsbench.storage.parquet import read_table
from tests.report.pages import flat, open_part, page_of, report, section
from tests.synthetic_records import make_cells, make_records, swept, write_results

ARMS = swept((0.05, 0.5), (0.05, 0.75))
TEXT_CELLS = [
    *make_cells(
        "next_token",
        ("plain", "rows", "leaky"),
        ("baseline", *ARMS, "reversed"),
        tuple(range(6)),
        2000,
        threshold=0.25,
        leaks={"leaky": ["training and validation windows overlap"]},
        rows=("rows",),
    ),
    *make_cells(arms=("baseline", "gentle"), seeds=(0, 1)),
]
LABEL = "Data: Some <excerpt> (rows of next_token)."


@pytest.fixture(scope="module")
def on_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on_text")
    rises = {(ARMS[0], seed): 300.0 for seed in range(6)} | {(ARMS[3], seed): 1e9 for seed in range(6)}
    write_results(folder, TEXT_CELLS, make_records(TEXT_CELLS, rises, ((ARMS[3], 0),), text="Some <excerpt>"))
    return folder


@pytest.fixture(scope="module")
def text_page(on_text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(on_text, tmp_path_factory.mktemp("page") / "report.html", cells=TEXT_CELLS)


def test_sections_without_rows_are_left_out(plain: str, text_page: str) -> None:
    for name in ("scores", "sweep", "theory", "pretrained", "specifications"):
        assert not section(plain, name)
        assert f'href="#{name}"' not in plain
    for name in ("scores", "sweep"):
        assert section(text_page, name)
        assert f'href="#{name}"' in text_page
    assert section(plain, "onsets")


def test_scores_stand_beside_their_floors(on_text: Path, text_page: str) -> None:
    found = flat(section(text_page, "scores"))
    # Floors are 0.12 and 0.2, of rows 0.7 of that without padding and unknown words; 0.0025 is the seeds'.
    assert "baseline next_token / plain 6 0.320 0.320 to 0.320" in found
    assert "0.122 loss 4.900 0.203 loss 4.200 500" in found
    assert re.search(r"0\.08[67] loss 7\.000 0\.14[23] loss 6\.000 350", found)
    assert found.count("Targets that are no padding") == 1
    assert "modular_addition" not in found
    table = read_table(on_text / "tables" / "score.parquet", SCORE).set_index(["variant", "arm", "targets"])
    row = table.loc[("plain", ARMS[0], "all")]
    best = f"{row['best_val_loss']:.3f} step {row['best_val_loss_step']:,.0f} {row['test_accuracy']:.3f}"
    assert f"{best} loss {row['test_loss']:.3f}" in found


def test_scores_and_the_sweep_say_which_runs_are_left_out(tmp_path: Path) -> None:
    cells = make_cells("next_token", arms=("baseline", *ARMS[:2]), seeds=(0, 1, 2), threshold=0.25)
    stopped = (("baseline", 0), *((ARMS[0], seed) for seed in range(3)))
    html = page_of(tmp_path, cells, stopped=stopped)
    found = flat(section(html, "scores"))
    assert "baseline next_token / calibrated 3 1 stopped at the target: left out 0.320" in found
    assert f"{ARMS[0]} next_token / calibrated 3 3 stopped at the target: left out – – – –" in found
    assert f"{ARMS[1]} next_token / calibrated 3 0.320" in found
    sweep = flat(section(html, "sweep"))
    assert "3 of 3 pairs left out: a run stopped at its target (baseline 1, arm 3); no pairs to compare" in sweep
    assert "1 of 3 pairs left out: a run stopped at its target (baseline 1, arm 0)" in sweep


def test_runs_without_measures_are_told_beside_the_scores(on_text: Path) -> None:
    row = read_table(on_text / "tables" / "score.parquet", SCORE).iloc[0].to_dict()
    assert row["n_unmeasured"] == 0
    assert left_out(row) == ""
    changed = row | {"n_stopped": 1, "n_unmeasured": 2, "test_accuracy": math.nan}
    assert left_out(changed) == "1 stopped at the target: left out, 2 without measures: left out of test scores"
    (test,) = (column for column in SCORES if column.head.startswith("test"))
    assert test.cell(changed).text == "–"


def test_kinds_that_count_the_same_targets_are_left_out(tmp_path: Path) -> None:
    cells = make_cells("next_token", arms=("baseline", "gentle"), seeds=(0, 1))
    html = page_of(tmp_path, cells)
    assert "All targets" in section(html, "scores")
    assert "Targets that are" not in section(html, "scores")
    assert "Text:" not in html
    assert "LEAK:" not in html


@pytest.mark.parametrize("name", ["effects", "scores", "sweep", "onsets", "times", "grid"])
def test_every_table_names_its_text_and_its_leaks(text_page: str, name: str) -> None:
    assert "Some &lt;excerpt&gt;: 108 runs" in section(text_page, "provenance")
    part = section(text_page, name)
    assert LABEL in flat(part).replace("&lt;", "<").replace("&gt;", ">")
    rows = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*</tr>", part, flags=re.DOTALL)
    leaky = [flat(row) for row in rows if re.search(r"\bleaky\b", flat(row))]
    assert leaky
    assert all("LEAK: training and validation windows overlap" in row for row in leaky)
    assert not any("LEAK" in flat(row) for row in rows if flat(row) not in leaky)


@pytest.mark.parametrize("name", ["effects", "scores", "onsets", "times", "grid"])
def test_arms_of_a_sweep_that_nothing_selected_are_folded_away(text_page: str, name: str) -> None:
    shown = open_part(section(text_page, name))
    assert ARMS[0] in shown
    assert "reversed" in shown
    assert not any(arm in shown for arm in ARMS[1:])
    assert all(arm in section(text_page, name) for arm in ARMS)


def test_the_sweep_is_compared_by_both_procedures(text_page: str) -> None:
    part = section(text_page, "sweep")
    found = flat(part)
    assert f"plain next_token, against baseline all seeds 6 pairs {ARMS[0]} of 4 arms" in found
    assert f"leave one out 6 pairs {ARMS[0]} × 6 of 4 arms" in found
    assert "fewest mean steps to the target on validation data" in found
    assert 'class="fewer' in part
    # The last arm lost a run: five pairs settle nothing.
    rows = {row.split("<b>")[1].split("</b>")[0]: row for row in part.split("<tr class=")[1:]}
    assert rows[ARMS[3]].startswith('"open')
    assert rows[ARMS[1]].startswith('"fewer')


def test_leads_and_early_ranks_are_told(text_page: str) -> None:
    found = flat(section(text_page, "onsets"))
    assert "it has made 10% of its whole change" in found
    assert "evaluated every … steps" in found
    assert f"{ARMS[3]} next_token / plain 5 / 6" in found
    assert "plain next_token baseline 6 6 seeds 200" in found
    assert "plain next_token all arms 36 6 seeds 200" in found
